//! How many jobs in a row have enqueued each other: what ends a plugin that enqueues itself without end.
//!
//! The same function answers the handler when it enqueues, and decides when what it staged is recorded. A job counts that
//! follows by itself, at once: one that is held until somebody releases it begins a new row, as does one that waits for
//! a minute, since a row of those is a schedule.

use super::{JobSpec, Millis, Time, limits};

/// A job that waits at least so long begins a new row.
pub const NEW_ROW_AFTER: Millis = Millis::secs(60);

/// More jobs in a row than may enqueue each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{depth} jobs in a row would have enqueued each other; {} may: enqueue it with a delay of a minute or more, or on hold",
    limits::DEPTH_MAX
)]
pub struct TooDeep {
    /// Which of the row it would have been.
    pub depth: u32,
}

/// The depth of a job that a run of a job with the depth `parent` enqueues at `now`: of several parents, which a call of
/// many jobs has, the deepest is meant. The same for whatever follows from a job by itself, such as what listens to it.
///
/// # Errors
/// It would be deeper than [`limits::DEPTH_MAX`].
pub fn staged_depth(parent: u32, spec: &JobSpec, now: Time) -> Result<u32, TooDeep> {
    if spec.hold { Ok(0) } else { depth_after(parent, spec.runs_at(now).since(now)) }
}

/// The same of a job that is there, and that the run lets run after so long a `wait`.
///
/// # Errors
/// As [`staged_depth`].
pub fn depth_after(parent: u32, wait: Millis) -> Result<u32, TooDeep> {
    if wait >= NEW_ROW_AFTER {
        return Ok(0);
    }
    let depth = parent.saturating_add(u32::from(!cfg!(planted = "depth_not_counted")));
    if depth > limits::DEPTH_MAX { Err(TooDeep { depth }) } else { Ok(depth) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{OnConflict, States, Unique};

    const NOW: Time = Time(1_000_000);

    #[track_caller]
    fn check(parent: u32, change: impl FnOnce(&mut JobSpec), depth: Option<u32>) {
        let mut spec = JobSpec::new("a", "");
        change(&mut spec);
        assert_eq!(staged_depth(parent, &spec, NOW).ok(), depth);
    }

    #[test]
    fn what_follows_within_a_minute_is_one_deeper() {
        check(0, |_| (), Some(1));
        check(19, |_| (), Some(20));
        check(20, |_| (), None);
        check(u32::MAX, |_| (), None);
        check(3, |s| s.delay = Some(Millis(59_999)), Some(4));
        check(3, |s| s.delay = Some(Millis(60_000)), Some(0));
        check(3, |s| s.run_at = Some(Time(NOW.0 - 1)), Some(4));
        check(20, |s| s.run_at = Some(Time(NOW.0 + 59_999)), None);
        check(20, |s| s.run_at = Some(Time(NOW.0 + 60_000)), Some(0));
        check(20, |s| s.delay = Some(Millis(u64::MAX)), Some(0));
        check(20, |s| s.hold = true, Some(0));
    }

    #[test]
    fn a_debounce_is_a_delay() {
        let debounce = |ms, max| {
            move |s: &mut JobSpec| {
                let on_conflict = OnConflict::Debounce { delay: Millis(ms), max };
                s.unique = Some(Unique { key: "k".into(), states: States::default(), period: None, on_conflict });
            }
        };
        check(3, debounce(60_000, None), Some(0));
        check(3, debounce(59_999, None), Some(4));
        check(3, debounce(60_000, Some(Millis(5))), Some(4));
    }
}
