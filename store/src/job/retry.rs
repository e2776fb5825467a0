//! When a failed attempt is tried again: backoff, then jitter, then the cap.

use serde::{Deserialize, Serialize};

use super::{JobId, Millis, RunNumber};

/// When a failed attempt is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// How the delay grows.
    pub backoff: Backoff,
    /// How far a delay is spread around its value, in thousandths: 200 is ±20 %, at most 1,000.
    pub jitter_permille: u16,
    /// No delay is longer, jitter included.
    pub max: Millis,
}

/// How the delay grows with the number of failed attempts n, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backoff {
    /// base × factor^(n−1).
    Exponential {
        /// The first delay.
        base: Millis,
        /// In thousandths: 1,600 is 1.6.
        factor_permille: u32,
    },
    /// base × n.
    Linear {
        /// The first delay.
        base: Millis,
    },
    /// Always the same.
    Constant {
        /// The delay.
        base: Millis,
    },
    /// One by one, the last for ever.
    List(Vec<Millis>),
    /// The first failure is the last.
    Never,
}

impl Default for RetryPolicy {
    /// Exponential from 1 s by 1.6, ±20 %, at most 1 h.
    fn default() -> Self {
        Self {
            backoff: Backoff::Exponential { base: Millis::secs(1), factor_permille: 1_600 },
            jitter_permille: 200,
            max: Millis::secs(3_600),
        }
    }
}

impl RetryPolicy {
    /// The delay after `failures` failed attempts (at least 1), or none if there is no next attempt. The jitter is a
    /// hash of job and run, so that every engine and every replay agrees.
    #[must_use]
    pub fn delay(&self, failures: u32, job: JobId, run: RunNumber) -> Option<Millis> {
        let n = failures.max(1);
        let plain = match &self.backoff {
            Backoff::Exponential { base, factor_permille } => exponential(base.0, *factor_permille, n),
            Backoff::Linear { base } => base.0.saturating_mul(u64::from(n)),
            Backoff::Constant { base } => base.0,
            Backoff::List(delays) => {
                let last = delays.len().checked_sub(1)?;
                delays[last.min(n as usize - 1)].0
            }
            Backoff::Never => return None,
        };
        Some(Millis(jitter(plain, self.jitter_permille, job, run).min(self.max.0)))
    }
}

/// base × factor^(n−1) in whole milliseconds, rounded down at the end only; saturates.
fn exponential(base_ms: u64, factor_permille: u32, n: u32) -> u64 {
    // Micros of a millisecond keep a base of 1.5 and a factor of 1.01 from being eaten by rounding.
    const SCALE: u128 = 1_000_000;
    let mut delay = u128::from(base_ms) * SCALE;
    for _ in 1..n {
        let next = delay.saturating_mul(u128::from(factor_permille)) / 1_000;
        if next == delay || next > u128::from(u64::MAX) * SCALE {
            delay = next;
            break;
        }
        delay = next;
    }
    u64::try_from(delay / SCALE).unwrap_or(u64::MAX)
}

/// `plain` moved by up to ± `permille` thousandths of itself.
fn jitter(plain: u64, permille: u16, job: JobId, run: RunNumber) -> u64 {
    let span = u128::from(plain) * u128::from(permille.min(1_000)) / 1_000;
    if span == 0 {
        return plain;
    }
    let mut seed = [0; 12];
    seed[..8].copy_from_slice(&job.0.to_be_bytes());
    seed[8..].copy_from_slice(&run.0.to_be_bytes());
    let hash = u128::from(xxhash_rust::xxh3::xxh3_64(&seed));
    let moved = u128::from(plain) - span + hash % (2 * span + 1);
    u64::try_from(moved).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(backoff: Backoff, max_s: u64, expected_ms: &[u64]) {
        let policy = RetryPolicy { backoff, jitter_permille: 0, max: Millis::secs(max_s) };
        let delays: Vec<u64> = (1..=expected_ms.len() as u32)
            .map(|n| policy.delay(n, JobId(7), RunNumber(n)).expect("has a next attempt").0)
            .collect();
        assert_eq!(delays, expected_ms);
    }

    #[test]
    fn delays_follow_their_definition() {
        let exp = |base, factor_permille| Backoff::Exponential { base: Millis(base), factor_permille };
        check(exp(1_000, 2_000), 8, &[1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
        check(exp(1_000, 1_600), 3_600, &[1_000, 1_600, 2_560, 4_096, 6_553]);
        check(exp(1_500, 1_000), 60, &[1_500, 1_500, 1_500]);
        check(exp(1, 1_500), 60, &[1, 1, 2, 3, 5]);
        check(exp(1_000, 0), 60, &[1_000, 0, 0]);
        check(Backoff::Linear { base: Millis(1_000) }, 4, &[1_000, 2_000, 3_000, 4_000, 4_000]);
        check(Backoff::Constant { base: Millis(100) }, 4, &[100, 100, 100]);
        check(Backoff::List(vec![Millis(5), Millis(50)]), 4, &[5, 50, 50]);
    }

    #[test]
    fn never_and_an_empty_list_have_no_next_attempt() {
        for backoff in [Backoff::Never, Backoff::List(vec![])] {
            let policy = RetryPolicy { backoff, ..RetryPolicy::default() };
            assert_eq!(policy.delay(1, JobId(1), RunNumber(1)), None);
        }
    }

    #[test]
    fn the_ends_of_the_numbers_saturate() {
        let policy = RetryPolicy {
            backoff: Backoff::Exponential { base: Millis(u64::MAX), factor_permille: u32::MAX },
            jitter_permille: u16::MAX,
            max: Millis(u64::MAX),
        };
        for n in [1, 2, 25, u32::MAX] {
            assert!(policy.delay(n, JobId(u64::MAX), RunNumber(u32::MAX)).is_some());
        }
    }

    #[test]
    fn jitter_spreads_within_its_bound_and_the_cap_holds_after_it() {
        let policy = RetryPolicy { max: Millis(1_050), ..RetryPolicy::default() };
        let delays: Vec<u64> = (0..1_000).map(|j| policy.delay(1, JobId(j), RunNumber(1)).unwrap().0).collect();
        assert!(delays.iter().all(|d| (800..=1_050).contains(d)));
        assert!(delays.iter().any(|d| *d < 850) && delays.contains(&1_050));
        assert_eq!(delays[5], policy.delay(1, JobId(5), RunNumber(1)).unwrap().0, "the same job and run agree");
    }
}
