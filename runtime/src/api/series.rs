//! `GET /v1/stats/series?window=1h`: what happened to jobs, step by step, up to now.
//!
//! The store's writer counts events by tenant anyway; a task looks at its sums every [`STEP`] and keeps the differences, in
//! memory, for [`WINDOW_MAX`]. So it costs a job nothing, begins anew with each start, and says since when it is there.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use runner_store::figures::Happened;
use runner_store::job::{EventName, Millis, TenantId, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::App;
use super::access::Caller;
use super::error::Problem;
use super::openapi::words::{DurationWord, TimeWord};
use super::params::Params;
use super::tenant::{RUNNER_TENANT, Whose};
use super::time::{parse_duration, rfc3339};
use crate::wasm::units::duration_text;

/// What is counted together.
const STEP: Duration = Duration::from_secs(10);
/// How far back is remembered: 2,160 steps.
const WINDOW_MAX: Duration = Duration::from_secs(6 * 3_600);
/// The shortest that is shown: fewer steps are no series.
const WINDOW_MIN: Duration = Duration::from_secs(60);
/// Where nobody says otherwise.
const WINDOW_DEFAULT: Duration = Duration::from_secs(3_600);
/// Points of an answer: what a screen has room for. A longer window has longer steps.
const POINTS_MAX: u64 = 360;
/// Steps of tenants that are remembered in all, at 150 bytes each: 15 MB. Where there are more, the oldest go, and what is
/// remembered begins later.
const REMEMBERED_MAX: usize = 100_000;

/// How a run may have ended, or what became of its job then.
const FINISHED: [EventName; 7] = [
    EventName::Completed,
    EventName::Retrying,
    EventName::Snoozed,
    EventName::Interrupted,
    EventName::Crashed,
    EventName::Discarded,
    EventName::Cancelled,
];

/// What happened, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Series")]
pub struct SeriesShown {
    /// Whose jobs; none: those of all tenants.
    pub tenant: Option<String>,
    /// From when on it was counted: earlier points are missing; none: nothing counts here.
    #[schemars(with = "Option<TimeWord>")]
    pub since: Option<String>,
    /// From one point to the next.
    #[schemars(with = "DurationWord")]
    pub step: String,
    /// The oldest first; the last one is not over.
    pub points: Vec<PointShown>,
}

/// What happened in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SeriesPoint")]
pub struct PointShown {
    /// When the step began.
    #[schemars(with = "TimeWord")]
    pub at: String,
    /// Jobs that were enqueued.
    pub enqueued: u64,
    /// Runs that were given to the node, or to a worker.
    pub started: u64,
    /// What became of jobs: `completed`, `retrying` (failed, and tried again), `snoozed`, `interrupted`, `crashed`, `discarded`,
    /// `cancelled`; without zeros.
    pub finished: BTreeMap<String, u64>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Series {
    kept: Mutex<Kept>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Kept {
    /// When the first step began; none: nothing counts.
    begun: Option<Instant>,
    /// The sums when they were last looked at.
    before: HashMap<TenantId, Happened>,
    /// Steps in which something happened, by their number since the first.
    steps: VecDeque<(u64, HashMap<TenantId, Happened>)>,
    /// Tenants of all steps.
    remembered: usize,
    /// The first step that is still remembered.
    from: u64,
}

impl App {
    /// Counts from now on, until [`App::stop`].
    pub fn keep_series(self: &Arc<Self>) {
        let mut kept = lock(&self.series.kept);
        if kept.begun.is_some() {
            return;
        }
        let begun = Instant::now();
        // What was before is nobody's step.
        (kept.begun, kept.before) = (Some(begun), self.store.figures().happened);
        drop(kept);
        // The task ends with the server, and must not keep it.
        let app = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval_at(begun + STEP, STEP);
            loop {
                ticks.tick().await;
                let Some(app) = app.upgrade() else { return };
                app.look_at_series();
            }
        });
        *lock(&self.series.task) = Some(task);
    }

    pub(super) async fn stop_series(&self) {
        let task = lock(&self.series.task).take();
        if let Some(task) = task {
            task.abort();
            // Aborted, which is no news.
            _ = task.await;
        }
    }

    /// Adds what happened since the last look to the step that goes on. The task looks as a step ends, so that each has
    /// its own.
    fn look_at_series(&self) {
        let now = self.store.figures().happened;
        let mut kept = lock(&self.series.kept);
        if let Some(begun) = kept.begun {
            kept.add(step_of(begun.elapsed()), now);
        }
    }
}

/// The step at a time since the first one began. A tick that comes as a step ends counts what was in that one.
fn step_of(elapsed: Duration) -> u64 {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    millis.saturating_sub(1) / STEP_MS
}

const STEP_MS: u64 = STEP.as_secs() * 1_000;

impl Kept {
    fn add(&mut self, step: u64, now: HashMap<TenantId, Happened>) {
        let mut new: HashMap<TenantId, Happened> = HashMap::new();
        for (tenant, sums) in &now {
            let before = self.before.get(tenant).copied().unwrap_or_default();
            let differences: Happened = std::array::from_fn(|i| sums[i].saturating_sub(before[i]));
            if differences != Happened::default() {
                new.insert(*tenant, differences);
            }
        }
        self.before = now;
        match self.steps.back_mut() {
            _ if new.is_empty() => {}
            Some((last, of)) if *last == step => {
                let known = of.len();
                new.iter().for_each(|(tenant, more)| add(of.entry(*tenant).or_default(), more));
                self.remembered += of.len() - known;
            }
            _ => {
                self.remembered += new.len();
                self.steps.push_back((step, new));
            }
        }
        let steps_max = WINDOW_MAX.as_secs() / STEP.as_secs();
        self.from = self.from.max(step.saturating_sub(steps_max - 1));
        while let Some((oldest, of)) = self
            .steps
            .front()
            .filter(|(oldest, _)| *oldest < self.from || (self.remembered > REMEMBERED_MAX && *oldest < step))
        {
            self.remembered -= of.len();
            self.from = self.from.max(oldest + 1);
            self.steps.pop_front();
        }
    }

    /// Sums of so many steps each, the last of which goes on, of one tenant or of all. With each the number of the step
    /// with which it begins.
    fn points(&self, now: u64, (points, steps): (u64, u64), tenant: Option<TenantId>) -> Vec<(u64, Happened)> {
        // They begin at multiples, so that the same steps are together in the next answer.
        let last = now / steps;
        let first = (last + 1).saturating_sub(points).max(self.from.div_ceil(steps));
        let mut sums: Vec<(u64, Happened)> = (first..=last).map(|point| (point * steps, Happened::default())).collect();
        for (step, of) in &self.steps {
            let Some(place) = (step / steps).checked_sub(first).and_then(|at| sums.get_mut(at as usize)) else {
                continue;
            };
            let of = of.iter().filter(|(of, _)| tenant.is_none_or(|tenant| tenant == **of));
            of.for_each(|(_, more)| add(&mut place.1, more));
        }
        sums
    }
}

fn add(sum: &mut Happened, more: &Happened) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Whose jobs are asked for: those of all tenants, for whoever may and names none; else one tenant's.
pub struct OfWhom(Option<TenantId>);

impl FromRequestParts<Arc<App>> for OfWhom {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Whose(tenant) = Whose::from_request_parts(parts, app).await?;
        let named = parts.headers.contains_key(RUNNER_TENANT);
        let of_one = named || parts.extensions.get::<Caller>().is_some_and(|caller| caller.tenant.is_some());
        Ok(Self(of_one.then_some(tenant)))
    }
}

/// See the module.
pub async fn get(
    State(app): State<Arc<App>>,
    OfWhom(tenant): OfWhom,
    mut params: Params,
) -> Result<Json<SeriesShown>, Problem> {
    let parse = |text: &str| {
        let window = Duration::from(parse_duration(text)?);
        let fits = (WINDOW_MIN..=WINDOW_MAX).contains(&window);
        fits.then_some(window)
            .ok_or_else(|| format!("must be from {}s to {}h", WINDOW_MIN.as_secs(), WINDOW_MAX.as_secs() / 3_600))
    };
    let window = params.take_as("window", parse)?.unwrap_or(WINDOW_DEFAULT);
    params.finish()?;
    app.look_at_series();
    Ok(Json(shown(&app, window, tenant)))
}

fn shown(app: &App, window: Duration, tenant: Option<TenantId>) -> SeriesShown {
    let kept = lock(&app.series.kept);
    let elapsed = kept.begun.map(|begun| Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)));
    let steps = window.as_secs().div_ceil(STEP.as_secs());
    let each = steps.div_ceil(POINTS_MAX);
    let now = app.clock.now();
    let at = |step: u64| {
        let passed = elapsed.unwrap_or_default().0.saturating_sub(step * STEP_MS);
        rfc3339(Time(now.0.saturating_sub(passed)))
    };
    let points = match elapsed {
        Some(elapsed) => kept.points(elapsed.0.saturating_sub(1) / STEP_MS, (steps.div_ceil(each), each), tenant),
        None => Vec::new(),
    };
    let point = |(step, happened): (u64, Happened)| PointShown {
        at: at(step),
        enqueued: happened[EventName::Enqueued as usize],
        started: happened[EventName::Started as usize],
        finished: FINISHED
            .into_iter()
            .map(|event| (event.as_str().to_owned(), happened[event as usize]))
            .filter(|(_, n)| *n > 0)
            .collect(),
    };
    SeriesShown {
        tenant: tenant.map(|tenant| app.store.tenant_name(tenant).to_string()),
        since: elapsed.map(|_| at(kept.from)),
        step: duration_text(Millis(each * STEP_MS)),
        points: points.into_iter().map(point).collect(),
    }
}

/// Nothing that is done under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TenantId = TenantId(1);
    const B: TenantId = TenantId(2);

    fn sums(of: &[(TenantId, u64)]) -> HashMap<TenantId, Happened> {
        of.iter().map(|(tenant, n)| (*tenant, [*n; EventName::ALL.len()])).collect()
    }

    #[track_caller]
    fn check(kept: &Kept, now: u64, shape: (u64, u64), tenant: Option<TenantId>, expected: &[(u64, u64)]) {
        let points: Vec<_> = kept.points(now, shape, tenant).into_iter().map(|(step, sums)| (step, sums[0])).collect();
        assert_eq!(points, expected);
    }

    #[test]
    fn what_happened_is_in_the_step_in_which_it_did() {
        let mut kept = Kept::default();
        kept.add(0, sums(&[(A, 3)]));
        kept.add(2, sums(&[(A, 4), (B, 10)]));
        kept.add(2, sums(&[(A, 5), (B, 10)]));
        check(&kept, 3, (6, 1), None, &[(0, 3), (1, 0), (2, 12), (3, 0)]);
        check(&kept, 3, (6, 1), Some(A), &[(0, 3), (1, 0), (2, 2), (3, 0)]);
        check(&kept, 3, (2, 1), Some(B), &[(2, 10), (3, 0)]);
        check(&kept, 3, (6, 2), None, &[(0, 3), (2, 12)]);
        check(&kept, 4, (2, 2), None, &[(2, 12), (4, 0)]);
        assert_eq!((step_of(Duration::ZERO), step_of(STEP), step_of(STEP + Duration::from_millis(1))), (0, 0, 1));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut kept = Kept::default();
        kept.add(0, sums(&[(A, 1)]));
        kept.add(2_159, sums(&[(A, 2)]));
        assert_eq!((kept.from, kept.steps.len()), (0, 2));
        kept.add(2_160, sums(&[(A, 2)]));
        assert_eq!((kept.from, kept.steps.len(), kept.remembered), (1, 1, 1));
        check(&kept, 2_160, (2, 6), None, &[(2_154, 1), (2_160, 0)]);
        let many = |n| (0..60_000).map(|tenant| (TenantId(tenant), n)).collect::<Vec<_>>();
        kept.add(2_161, sums(&many(10)));
        kept.add(2_162, sums(&many(20)));
        assert_eq!((kept.from, kept.steps.len(), kept.remembered), (2_162, 1, 60_000), "the oldest went");
    }
}
