//! The figures of `runner bench`, each with how many it is of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use runner_store::Handle;
use runner_store::clock;
use runner_store::command::{Answer, Command, Enqueue, Part, Query, Reply};
use runner_store::dir::StoreDir;
use runner_store::job::{JobId, JobRef, JobSpec, StateName, TenantId};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::super::exit::{Code, Failure};
use super::super::output::ProgressLine;
use super::{Bench, CLOCK, NOOP};
use crate::node::{Node, NodeSettings};

/// Jobs that an idle node runs one after the other.
const SINGLES_MAX: u64 = 500;
/// Callers at once that enqueue one job each: each waits for its commit, and the writer commits what has come meanwhile.
const CALLERS: usize = 256;
/// One job of so many is enqueued by itself, the others in lists.
const ONE_OF: u64 = 10;
/// Jobs a list, and callers that send lists: while one waits for its commit, the other makes the next.
const LIST: u64 = 1_000;
const LIST_CALLERS: usize = 2;
/// Args of each job, as small objects have them.
const ARGS_BYTES: usize = 200;
/// How often it is looked how far it is, and how often that is drawn.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Something that was measured.
pub(super) struct Figure {
    /// For programs, and for people.
    name: &'static str,
    what: &'static str,
    n: u64,
    /// None: one at a time, so that it says nothing.
    took: Option<Duration>,
    /// Median and p99; none: only all together were measured.
    spread: Option<[Duration; 2]>,
}

/// Until when something is measured, and how many jobs are left to it. A copy shares them.
#[derive(Clone)]
struct Bound {
    left: Arc<AtomicU64>,
    /// None: later than any clock can say.
    until: Option<Instant>,
    stop: Arc<AtomicBool>,
}

/// One job at a time on an idle node.
pub(super) async fn idle(
    bench: &Bench,
    store: &Handle,
    dir: Option<&StoreDir>,
    figures: &mut Vec<Figure>,
) -> Result<(), Failure> {
    let node = node(bench, store, dir).await?;
    let bound = Bound::new(bench, bench.jobs.min(SINGLES_MAX));
    let progress = ProgressLine::on_stderr();
    let (mut commits, mut starts) = (Vec::new(), Vec::new());
    while bound.take(1) > 0 {
        let before = clock::wall();
        let begun = Instant::now();
        let id = enqueue(store, vec![JobSpec::new(CLOCK, "null")]).await?;
        commits.push(begun.elapsed());
        let at = JobRef { tenant: TenantId::DEFAULT, job: id };
        starts.push(began(store, at).await?.saturating_sub(before));
        progress.put(&format!("one job at a time: {}", starts.len()));
    }
    progress.clear();
    node.drain();
    node.stopped().await;
    figures.extend(Figure::of_each("commit", "durable enqueue of one job, idle: a commit", commits));
    figures.extend(Figure::of_each("start", "from an enqueue to the handler's start, idle", starts));
    Ok(())
}

/// Enqueues as fast as it goes, then runs what was enqueued.
pub(super) async fn busy(
    bench: &Bench,
    store: &Handle,
    dir: Option<&StoreDir>,
    figures: &mut Vec<Figure>,
) -> Result<(), Failure> {
    let before = completed(store)?;
    let singles = bench.jobs.div_ceil(ONE_OF);
    let mut stored = 0;
    for (name, what, jobs, callers, list) in [
        ("enqueue_one", "durable enqueues, one job a call, 256 callers", singles, CALLERS, 1),
        ("enqueue_list", "durable enqueues, lists of 1,000 (times: a list)", bench.jobs - singles, LIST_CALLERS, LIST),
    ] {
        let begun = Instant::now();
        let (n, times) = enqueues(store, what, &Bound::new(bench, jobs), callers, list).await?;
        stored += n;
        let each = Figure::of_each(name, what, times);
        figures.extend(each.map(|figure| Figure { n, took: Some(begun.elapsed()), ..figure }));
    }
    if stored == 0 || bench.is_stopped() {
        return Ok(());
    }
    let begun = Instant::now();
    let bound = Bound::new(bench, stored);
    let node = node(bench, store, dir).await?;
    let progress = ProgressLine::on_stderr();
    let (mut done, mut drawn) = (0, begun);
    while done < stored && !bound.is_over() && store.failure().is_none() {
        tokio::time::sleep(LOOK_EVERY).await;
        done = completed(store)? - before;
        if drawn.elapsed() >= DRAW_EVERY {
            drawn = Instant::now();
            progress.put(&format!("jobs from end to end: {done} of {stored}"));
        }
    }
    let took = begun.elapsed();
    progress.clear();
    node.drain();
    node.stopped().await;
    let what = "jobs from end to end, a fresh sandbox each";
    figures.push(Figure { name: "end_to_end", what, n: done, took: Some(took), spread: None });
    Ok(())
}

async fn node(bench: &Bench, store: &Handle, dir: Option<&StoreDir>) -> Result<Node, Failure> {
    let settings = NodeSettings { slots: bench.slots, ..NodeSettings::default() };
    let (host, plugins) = (Arc::clone(&bench.host), Arc::clone(&bench.plugins));
    Ok(Node::start(store.clone(), dir, host, plugins, settings).await?)
}

/// So many callers enqueue lists until the bound is reached; answers how many jobs, and how long each call took.
async fn enqueues(
    store: &Handle,
    what: &str,
    bound: &Bound,
    callers: usize,
    list: u64,
) -> Result<(u64, Vec<Duration>), Failure> {
    let args = format!(r#"{{"text":"{}"}}"#, "x".repeat(ARGS_BYTES - r#"{"text":""}"#.len()));
    let jobs = bound.left.load(Ordering::Relaxed);
    let mut working = JoinSet::new();
    for _ in 0..callers {
        let (store, bound, args) = (store.clone(), bound.clone(), args.clone());
        working.spawn(async move {
            let (mut n, mut times) = (0, Vec::new());
            loop {
                let some = bound.take(list);
                if some == 0 {
                    return Ok::<_, Failure>((n, times));
                }
                let specs = (0..some).map(|_| JobSpec::new(NOOP, args.clone())).collect();
                let begun = Instant::now();
                enqueue(&store, specs).await?;
                times.push(begun.elapsed());
                n += some;
            }
        });
    }
    let progress = ProgressLine::on_stderr();
    let mut draw = tokio::time::interval(DRAW_EVERY);
    let (mut n, mut all) = (0, Vec::new());
    loop {
        tokio::select! {
            ended = working.join_next() => match ended {
                None => break,
                Some(Ok(ended)) => {
                    let (some, times) = ended?;
                    n += some;
                    all.extend(times);
                }
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            },
            _ = draw.tick() => {
                let left = bound.left.load(Ordering::Relaxed);
                progress.put(&format!("{what}: {} of {jobs}", jobs - left));
            }
        }
    }
    progress.clear();
    Ok((n, all))
}

/// Answers the first id.
async fn enqueue(store: &Handle, jobs: Vec<JobSpec>) -> Result<JobId, Failure> {
    match store.call(Command::Enqueue(Enqueue::new(TenantId::DEFAULT, jobs))).await? {
        Reply::Enqueued(jobs) => Ok(jobs[0].id),
        Reply::Rejected(rejection) => {
            Err(Failure::new(Code::Failed, format!("the store took no more jobs, so nothing is shown: {rejection}")))
        }
        other => unreachable!("the answer to an enqueue is not {other:?}"),
    }
}

/// Waits for the end of a job whose handler is the clock, and answers when that began, since 1970.
async fn began(store: &Handle, at: JobRef) -> Result<Duration, Failure> {
    // Registered first, then looked.
    let ended = store.board().wait_for(at);
    let is_final = match store.snapshot()?.read(&Query::Job(at))? {
        Answer::Job(row) => row.is_some_and(|job| job.state.name().is_final()),
        other => unreachable!("the answer to a question for a job is not {other:?}"),
    };
    if !is_final {
        // Where the store is gone with it, what is read next says so.
        _ = ended.await;
    }
    let Answer::Payload(output) = store.snapshot()?.read(&Query::Payload(at, Part::Output))? else {
        unreachable!("the answer to a question for an output is one")
    };
    let hex = output.as_deref().and_then(|output| std::str::from_utf8(output).ok());
    let nanos = hex.and_then(|text| u64::from_str_radix(text.trim_matches('"'), 16).ok());
    let failed = || Failure::new(Code::Failed, "the handler that says when it began did not; run `runner doctor`");
    nanos.map(Duration::from_nanos).ok_or_else(failed)
}

fn completed(store: &Handle) -> Result<u64, Failure> {
    match store.snapshot()?.read(&Query::Counts)? {
        Answer::Counts(counts) => {
            Ok(counts.iter().filter(|(key, _)| key.state == StateName::Completed).map(|(_, n)| n).sum())
        }
        other => unreachable!("the answer to a question for counts is not {other:?}"),
    }
}

impl Bound {
    fn new(bench: &Bench, jobs: u64) -> Self {
        let until = Instant::now().checked_add(bench.duration);
        Self { left: Arc::new(AtomicU64::new(jobs)), until, stop: Arc::clone(&bench.stop) }
    }

    /// Whether the time is over, or somebody ended it.
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Takes up to so many of the jobs; 0: it is over.
    fn take(&self, jobs: u64) -> u64 {
        if self.is_over() {
            return 0;
        }
        let take = |left: u64| Some(left.saturating_sub(jobs));
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        left.map_or(0, |left| left.min(jobs))
    }
}

impl Figure {
    /// What took each so long; none: there was none.
    fn of_each(name: &'static str, what: &'static str, mut times: Vec<Duration>) -> Option<Self> {
        if times.is_empty() {
            return None;
        }
        times.sort_unstable();
        let at = |permille: usize| times[(times.len() - 1) * permille / 1_000];
        let n = times.len() as u64;
        Some(Self { name, what, n, took: None, spread: Some([at(500), at(990)]) })
    }

    fn per_second(&self) -> Option<u64> {
        let took = self.took?.as_nanos().max(1);
        u64::try_from(u128::from(self.n) * 1_000_000_000 / took).ok()
    }

    /// A row of the table.
    pub(super) fn cells(&self) -> [String; 5] {
        let time = |n: usize| self.spread.map_or_else(String::new, |spread| milliseconds(spread[n]));
        let per_second = self.per_second().map_or_else(String::new, |n| n.to_string());
        [self.n.to_string(), per_second, time(0), time(1), self.what.to_owned()]
    }

    pub(super) fn json(&self) -> Value {
        let seconds = |time: Duration| time.as_secs_f64();
        json!({
            "name": self.name, "what": self.what, "n": self.n, "per_second": self.per_second(),
            "seconds": self.took.map(seconds), "median_seconds": self.spread.map(|spread| seconds(spread[0])),
            "p99_seconds": self.spread.map(|spread| seconds(spread[1])),
        })
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}
