//! Whether the wall clock can be trusted with what cannot be undone.
//!
//! Wall time decides expiry, retention and when keys are forgotten, and may step either way. When it has stepped against
//! the time that never does, everything that destroys waits, until the two have agreed for an hour or an operator says
//! that the clock is right.

use crate::job::{Millis, Time};

/// How far the two clocks may drift apart between two looks.
pub const STEP_MIN: Millis = Millis::secs(5 * 60);
/// How long they must have agreed.
pub const TRUST_AFTER: Millis = Millis::secs(3_600);

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    last: Option<(Time, Millis)>,
    stepped: Option<Stepped>,
}

/// The clock has stepped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stepped {
    /// By how many milliseconds, forward or back.
    pub by: i64,
    /// When, on the clock that never does.
    pub at: Millis,
}

impl Steps {
    /// Looks at both clocks. Answers a step that it has just seen.
    pub fn look(&mut self, wall: Time, uptime: Millis) -> Option<Stepped> {
        let (wall_before, uptime_before) = self.last.replace((wall, uptime))?;
        let by_wall = wall.0.cast_signed().wrapping_sub(wall_before.0.cast_signed());
        let went_by = uptime.0.saturating_sub(uptime_before.0).cast_signed();
        let by = by_wall.saturating_sub(went_by);
        if by.unsigned_abs() > STEP_MIN.0 {
            let stepped = Stepped { by, at: uptime };
            self.stepped = Some(stepped);
            return Some(stepped);
        }
        if self.stepped.is_some_and(|step| uptime.0.saturating_sub(step.at.0) >= TRUST_AFTER.0) {
            self.stepped = None;
        }
        None
    }

    /// The step because of which what destroys waits.
    #[must_use]
    pub fn stepped(&self) -> Option<Stepped> {
        self.stepped
    }

    /// An operator says that the clock is right.
    pub fn accept(&mut self) {
        self.stepped = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_step_either_way_is_seen_and_trusted_after_an_hour_of_agreement() {
        for by in [10 * 365 * 24 * HOUR as i64, -(HOUR as i64)] {
            let mut steps = Steps::default();
            let start: u64 = 1_700_000_000_000;
            assert_eq!(steps.look(Time(start), Millis(0)), None, "the first look has nothing to compare");
            assert_eq!(steps.look(Time(start + 1_000), Millis(1_000)), None);
            let stepped = start.wrapping_add_signed(by);
            assert_eq!(steps.look(Time(stepped + 2_000), Millis(2_000)), Some(Stepped { by, at: Millis(2_000) }));
            assert_eq!(steps.look(Time(stepped + HOUR), Millis(HOUR)), None);
            assert!(steps.stepped().is_some(), "not an hour yet");
            assert_eq!(steps.look(Time(stepped + HOUR + 2_000), Millis(HOUR + 2_000)), None);
            assert_eq!(steps.stepped(), None);
        }
    }

    #[test]
    fn small_corrections_and_long_silence_are_no_steps() {
        let mut steps = Steps::default();
        assert_eq!(steps.look(Time(HOUR), Millis(0)), None);
        assert_eq!(steps.look(Time(HOUR + 299_000), Millis(0)), None);
        assert_eq!(steps.look(Time(50 * HOUR), Millis(49 * HOUR)), None);
    }

    #[test]
    fn an_operator_can_accept_the_clock() {
        let mut steps = Steps::default();
        _ = steps.look(Time(HOUR), Millis(0));
        assert!(steps.look(Time(90 * HOUR), Millis(1)).is_some());
        steps.accept();
        assert_eq!(steps.stepped(), None);
    }
}
