//! The newest events, read and written as text once for all who follow: a thousand followers that each read them for
//! themselves left the store no time to commit anything.
//!
//! Whoever finds that something is missing reads it for all; the others take their part of it. Behind its beginning, events are
//! read from the log itself. It holds nothing while few follow.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use runner_store::command::Events;
use runner_store::error::StoreError;
use runner_store::job::{JobId, Seq, TenantId};

use super::super::App;
use super::{End, Happened, Names, PAGE_EVENTS, Page, Wanted, events, line};

/// From so many followers on they share what is read. Fewer read the log themselves: what somebody does not want to hear of,
/// nobody writes then.
const FOLLOWERS_MIN: usize = 8;
/// Events that are kept: of the order of a second of what a writer at its best has to tell. Whoever is farther behind reads the
/// log until it has come nearer, so that nobody who begins with the oldest event decides what is kept.
const EVENTS_MAX: usize = 64 * PAGE_EVENTS as usize;
/// What one follower gets at once.
const TOLD_BYTES_MAX: usize = 128 << 10;
/// From so many events on, their text is handed on as it is; that of fewer is put together, as one follower gets it all at once.
const SHARED_EVENTS_MIN: usize = 150;
/// How long a follower rests behind each turn, for each that follows: waking one and looking costs some microseconds, so all of
/// them together take a few hundredths of a core. Few never wait; a thousand hear of a thing within half a second.
const REST_FOR_EACH: Duration = Duration::from_micros(500);
/// How long it is before the log is read again, for each that follows: what many look at is to be read in few pieces.
const READ_FOR_EACH: Duration = Duration::from_micros(25);
/// What all followers are told in a second, at most. More would take the machine from who writes: it goes through the kernel
/// twice where the reader is on this machine.
const TOLD_BYTES_PER_SECOND: u64 = 64 << 20;
/// Rests that are shorter are left out: no timer is as fine.
const REST_MIN: Duration = Duration::from_millis(2);

/// See the module.
#[derive(Debug, Default)]
pub(in crate::api) struct Tail {
    /// Held while events are read for all.
    turn: tokio::sync::Mutex<()>,
    recent: Mutex<Recent>,
    followers: AtomicUsize,
}

#[derive(Debug, Default)]
struct Recent {
    /// Without gaps, the oldest first.
    parts: VecDeque<Arc<Part>>,
    events: usize,
    /// The number of the first event that is not there yet.
    after: Seq,
    /// When it was last read on.
    read: Option<Instant>,
}

/// Events that were read at once.
#[derive(Debug)]
struct Part {
    first: Seq,
    after: Seq,
    told: Vec<Happened>,
    /// As it is told, and where in it each ends; made when somebody wants any of it.
    text: OnceLock<(Bytes, Vec<usize>)>,
    /// Whose they are, if they are all one's.
    tenant: Option<TenantId>,
    /// What there is among them at all, so that most followers need not look at each.
    kinds: HashSet<Arc<str>>,
    queues: HashSet<Arc<str>>,
    jobs: [JobId; 2],
}

/// Counts who follows, for as long as it is there.
pub(super) struct Follower(Arc<App>);

impl Follower {
    pub(super) fn new(app: &Arc<App>) -> Self {
        app.tail.followers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(app))
    }

    /// How long it rests now that it was told so many bytes; none: not at all.
    pub(super) fn rest(&self, bytes: usize) -> Option<Duration> {
        let sending = Duration::from_micros(bytes as u64 * 1_000_000 / TOLD_BYTES_PER_SECOND);
        let rest = (REST_FOR_EACH + sending).saturating_mul(self.all());
        (rest >= REST_MIN).then_some(rest)
    }

    /// All who follow.
    fn all(&self) -> u32 {
        u32::try_from(self.0.tail.followers.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    /// What follows `next`, as far as it is wanted, where the newest event is `newest`; none: that is to be read from the log.
    pub(super) async fn read(&self, next: Seq, newest: Seq, wanted: &Wanted) -> Result<Option<Page>, StoreError> {
        let tail = &self.0.tail;
        let all = self.all();
        if (all as usize) < FOLLOWERS_MIN || newest.0.saturating_sub(next.0) > EVENTS_MAX as u64 {
            return Ok(None);
        }
        let mut soon = READ_FOR_EACH.saturating_mul(all);
        let there = tail.recent().from(next, newest, soon);
        if let Some(there) = there {
            return Ok(Some(there.page(next, wanted)));
        }
        let _turn = tail.turn.lock().await;
        loop {
            let there = tail.recent().from(next, newest, soon);
            if let Some(there) = there {
                return Ok(Some(there.page(next, wanted)));
            }
            // Whoever reads, reads all there is.
            soon = Duration::ZERO;
            let Some(since) = tail.recent().go_on(next) else { return Ok(None) };
            let app = Arc::clone(&self.0);
            let read = tokio::task::spawn_blocking(move || part(&app, since)).await;
            let Some(part) = read.unwrap_or(Ok(None))? else { return Ok(None) };
            tail.recent().add(part);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.0.tail.followers.fetch_sub(1, Ordering::Relaxed) == FOLLOWERS_MIN {
            *self.0.tail.recent() = Recent::default();
        }
    }
}

impl Tail {
    /// Held to look, and to add what was read.
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn begins(&self) -> Seq {
        self.parts.front().map_or(self.after, |part| part.first)
    }

    /// What there is from this event on, if all up to the newest one is there, or it was read so short a time ago.
    fn from(&self, next: Seq, newest: Seq, soon: Duration) -> Option<There> {
        let all = newest < self.after;
        let is_recent = || next <= self.after && self.read.is_some_and(|read| read.elapsed() < soon);
        if next < self.begins() || !(all || is_recent()) {
            return None;
        }
        let behind = self.parts.partition_point(|part| part.after <= next);
        Some(There { parts: self.parts.iter().skip(behind).cloned().collect(), all })
    }

    /// From where on it is to be read for whoever wants `next`; none: that is older than what is kept. What is far older than
    /// that is given up.
    fn go_on(&mut self, next: Seq) -> Option<Seq> {
        if self.begins() > next {
            return None;
        }
        if self.after.0 + (EVENTS_MAX as u64) < next.0 || (self.parts.is_empty() && self.after < next) {
            *self = Self { after: next, ..Self::default() };
        }
        Some(self.after)
    }

    fn add(&mut self, part: Part) {
        if part.first != self.after {
            // Too many followers went meanwhile, and with them what was kept.
            *self = Self { after: part.first, ..Self::default() };
        }
        self.after = part.after;
        self.read = Some(Instant::now());
        self.events += part.told.len();
        self.parts.push_back(Arc::new(part));
        while self.events > EVENTS_MAX
            && let Some(oldest) = self.parts.pop_front()
        {
            self.events -= oldest.told.len();
        }
    }
}

/// What there is from some event on.
struct There {
    parts: Vec<Arc<Part>>,
    /// Whether that goes up to the newest.
    all: bool,
}

/// Reads some events; none: they are not in the log, neither yet nor any more.
fn part(app: &App, since: Seq) -> Result<Option<Part>, StoreError> {
    let view = app.store.snapshot()?;
    let Events { entries, oldest, .. } = events(view.as_ref(), since, PAGE_EVENTS)?;
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(None) };
    if since < oldest {
        return Ok(None);
    }
    let tenant = first.job.tenant;
    let tenant = entries.iter().all(|entry| entry.job.tenant == tenant).then_some(tenant);
    let after = Seq(last.seq.0 + 1);
    let mut names = Names::new(app, view.as_ref());
    let told = entries.into_iter().map(|entry| names.of(entry)).collect::<Result<Vec<_>, _>>()?;
    let jobs = || told.iter().map(|event| event.entry.job.job);
    let jobs = [jobs().min().unwrap_or(JobId(0)), jobs().max().unwrap_or(JobId(0))];
    let (queues, kinds) = names.seen();
    Ok(Some(Part { first: since, after, told, text: OnceLock::new(), tenant, kinds, queues, jobs }))
}

impl Part {
    /// Whether nothing of it is wanted, as far as that is seen at once.
    fn is_beside(&self, wanted: &Wanted) -> bool {
        let absent = |names: &HashSet<Arc<str>>, name: &Option<String>| {
            name.as_ref().is_some_and(|name| !names.contains(name.as_str()))
        };
        self.tenant.is_some_and(|tenant| tenant != wanted.tenant)
            || wanted.job.is_some_and(|job| job < self.jobs[0] || job > self.jobs[1])
            || absent(&self.kinds, &wanted.kind)
            || absent(&self.queues, &wanted.queue)
    }

    fn text(&self) -> &(Bytes, Vec<usize>) {
        self.text.get_or_init(|| {
            let mut text = String::new();
            let mut ends = Vec::with_capacity(self.told.len());
            for told in &self.told {
                line(&mut text, told);
                ends.push(text.len());
            }
            (text.into(), ends)
        })
    }

    /// Whether all of it is wanted.
    fn is_whole(&self, next: Seq, wanted: &Wanted) -> bool {
        let Wanted { tenant, job, state, kind, queue, follow: _ } = wanted;
        next <= self.first
            && self.tenant == Some(*tenant)
            && job.is_none()
            && state.is_none()
            && kind.is_none()
            && queue.is_none()
    }
}

impl There {
    /// What of it is wanted, up to a bound.
    fn page(&self, next: Seq, wanted: &Wanted) -> Page {
        let (mut text, mut after) = (BytesMut::new(), next);
        for (i, part) in self.parts.iter().enumerate() {
            let last = i + 1 == self.parts.len();
            if part.is_beside(wanted) {
                after = part.after;
                continue;
            }
            if part.told.len() >= SHARED_EVENTS_MIN && part.is_whole(next, wanted) {
                if !text.is_empty() {
                    return Page { text: text.freeze(), after, end: End::More };
                }
                // Its bytes are everybody's: nothing is copied.
                return Page { text: part.text().0.clone(), after: part.after, end: self.end(last) };
            }
            for (n, _) in part.told.iter().enumerate().filter(|(_, told)| told.entry.seq >= next && wanted.is(told)) {
                let (all, ends) = part.text();
                let from = n.checked_sub(1).map_or(0, |before| ends[before]);
                text.extend_from_slice(&all[from..ends[n]]);
            }
            after = part.after;
            if text.len() >= TOLD_BYTES_MAX && !last {
                return Page { text: text.freeze(), after, end: End::More };
            }
        }
        Page { text: text.freeze(), after, end: self.end(true) }
    }

    fn end(&self, last: bool) -> End {
        if last && self.all { End::Newest } else { End::More }
    }
}
