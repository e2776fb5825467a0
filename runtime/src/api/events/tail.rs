//! The newest events, read and written as text once for all who follow: a thousand followers that each read them for
//! themselves left the store no time to commit anything.
//!
//! Whoever finds that something is missing reads it for all; the others take their part of it. Behind its beginning, events are
//! read from the log itself. It holds nothing while few follow.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runner_store::command::Events;
use runner_store::error::StoreError;
use runner_store::job::{JobId, Seq, StateName, TenantId};

use super::super::App;
use super::{End, PAGE_EVENTS, Page, Wanted, events, line, shown};

/// From so many followers on they share what is read. Fewer read the log themselves: what somebody does not want to hear of,
/// nobody writes then.
const FOLLOWERS_MIN: usize = 8;
/// Text that is kept: of the order of a second of what a writer at its best has to tell.
const TEXT_BYTES_MAX: usize = 8 << 20;
/// Whoever is more events behind than fit reads the log until it has come nearer: so that nobody who begins with the oldest
/// event decides what is kept.
const BEHIND_MAX: u64 = 64 * PAGE_EVENTS as u64;
/// What one follower gets at once.
const TOLD_BYTES_MAX: usize = 128 << 10;
/// From so many on, bytes are handed on as they are; fewer are put together, as one follower gets them all at once.
const SHARED_BYTES_MIN: usize = 32 << 10;
/// How long a follower rests behind each turn, for each that follows: waking one and looking costs a few microseconds, so all
/// of them together take a few hundredths of a core. One follower never waits; a thousand hear of a thing within 0.1 s.
const REST_FOR_EACH: Duration = Duration::from_micros(100);
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
    bytes: usize,
    /// The number of the first event that is not there yet.
    after: Seq,
}

/// Events that were read at once.
#[derive(Debug)]
struct Part {
    first: Seq,
    after: Seq,
    text: Bytes,
    told: Vec<Told>,
    /// Whose they are, if they are all one's.
    tenant: Option<TenantId>,
    /// What there is among them at all, so that most followers need not look at each.
    kinds: BTreeSet<String>,
    queues: BTreeSet<String>,
    jobs: [JobId; 2],
}

/// What of an event followers choose by, and where its text is.
#[derive(Debug)]
struct Told {
    seq: Seq,
    tenant: TenantId,
    job: JobId,
    state: Option<StateName>,
    kind: Option<String>,
    queue: Option<String>,
    text: Range<usize>,
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
        let others = u32::try_from(self.0.tail.followers.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let sending = Duration::from_micros(bytes as u64 * 1_000_000 / TOLD_BYTES_PER_SECOND);
        let rest = (REST_FOR_EACH + sending).saturating_mul(others);
        (rest >= REST_MIN).then_some(rest)
    }

    /// What follows `next`, as far as it is wanted, where the newest event is `newest`; none: that is to be read from the log.
    pub(super) async fn read(&self, next: Seq, newest: Seq, wanted: &Wanted) -> Result<Option<Page>, StoreError> {
        let tail = &self.0.tail;
        let is_shared = tail.followers.load(Ordering::Relaxed) >= FOLLOWERS_MIN;
        if !is_shared || newest.0.saturating_sub(next.0) > BEHIND_MAX {
            return Ok(None);
        }
        let there = tail.recent().from(next, newest);
        if let Some(parts) = there {
            return Ok(Some(page(&parts, next, wanted)));
        }
        let _turn = tail.turn.lock().await;
        loop {
            let there = tail.recent().from(next, newest);
            if let Some(parts) = there {
                return Ok(Some(page(&parts, next, wanted)));
            }
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

    /// What there is from this event on, if all up to the newest one is there.
    fn from(&self, next: Seq, newest: Seq) -> Option<Vec<Arc<Part>>> {
        if next < self.begins() || newest >= self.after {
            return None;
        }
        let behind = self.parts.partition_point(|part| part.after <= next);
        Some(self.parts.iter().skip(behind).cloned().collect())
    }

    /// From where on it is to be read for whoever wants `next`; none: that is older than what is kept. What is far older than
    /// that is given up.
    fn go_on(&mut self, next: Seq) -> Option<Seq> {
        if self.begins() > next {
            return None;
        }
        if self.after.0 + BEHIND_MAX < next.0 || (self.parts.is_empty() && self.after < next) {
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
        self.bytes += part.text.len();
        self.parts.push_back(Arc::new(part));
        while self.bytes > TEXT_BYTES_MAX
            && let Some(oldest) = self.parts.pop_front()
        {
            self.bytes -= oldest.text.len();
        }
    }
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
    let (mut text, mut told, mut names) = (String::new(), Vec::with_capacity(entries.len()), HashMap::new());
    let (mut kinds, mut queues) = (BTreeSet::new(), BTreeSet::new());
    let mut jobs = [JobId(u64::MAX), JobId(0)];
    for entry in &entries {
        let wanted = Wanted { tenant: entry.job.tenant, ..Wanted::EVERYTHING };
        let Some(event) = shown(app, view.as_ref(), entry, &wanted, &mut names)? else { continue };
        let from = text.len();
        line(&mut text, &event);
        let (tenant, job) = (entry.job.tenant, entry.job.job);
        jobs = [jobs[0].min(job), jobs[1].max(job)];
        for (names, name) in [(&mut kinds, &event.kind), (&mut queues, &event.queue)] {
            if let Some(name) = name
                && !names.contains(name)
            {
                names.insert(name.clone());
            }
        }
        let (seq, state, kind, queue) = (entry.seq, entry.state, event.kind, event.queue);
        told.push(Told { seq, tenant, job, state, kind, queue, text: from..text.len() });
    }
    Ok(Some(Part { first: since, after, text: text.into(), told, tenant, kinds, queues, jobs }))
}

impl Part {
    /// Whether nothing of it is wanted, as far as that is seen at once.
    fn is_beside(&self, wanted: &Wanted) -> bool {
        let absent =
            |names: &BTreeSet<String>, name: &Option<String>| name.as_ref().is_some_and(|n| !names.contains(n));
        self.tenant.is_some_and(|tenant| tenant != wanted.tenant)
            || wanted.job.is_some_and(|job| job < self.jobs[0] || job > self.jobs[1])
            || absent(&self.kinds, &wanted.kind)
            || absent(&self.queues, &wanted.queue)
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

impl Told {
    fn is_wanted(&self, next: Seq, wanted: &Wanted) -> bool {
        let fits = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        self.seq >= next
            && self.tenant == wanted.tenant
            && wanted.job.is_none_or(|job| job == self.job)
            && wanted.state.is_none_or(|state| Some(state) == self.state)
            && fits(&wanted.kind, &self.kind)
            && fits(&wanted.queue, &self.queue)
    }
}

/// What of these parts is wanted, up to a bound.
fn page(parts: &[Arc<Part>], next: Seq, wanted: &Wanted) -> Page {
    let (mut text, mut after) = (BytesMut::new(), next);
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        if part.is_beside(wanted) {
            after = part.after;
            continue;
        }
        if part.text.len() >= SHARED_BYTES_MIN && part.is_whole(next, wanted) {
            if !text.is_empty() {
                return Page { text: text.freeze(), after, end: End::More };
            }
            // Its bytes are everybody's: nothing is copied.
            let end = if last { End::Newest } else { End::More };
            return Page { text: part.text.clone(), after: part.after, end };
        }
        for told in part.told.iter().filter(|told| told.is_wanted(next, wanted)) {
            text.extend_from_slice(&part.text[told.text.clone()]);
        }
        after = part.after;
        if text.len() >= TOLD_BYTES_MAX && !last {
            return Page { text: text.freeze(), after, end: End::More };
        }
    }
    Page { text: text.freeze(), after, end: End::Newest }
}
