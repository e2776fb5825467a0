//! Amounts with units, as people write them: `60s`, `64MiB`, `1_800G`.
//!
//! A unit is mandatory, and a wrong one is answered with the right ones; nothing is ever guessed. Used by manifests,
//! by what a WASI command answers, and by the configuration.

use runner_store::command::{Fuel, Rate};
use runner_store::job::time::Millis;

/// Why an amount was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// There is no number at the front.
    #[error("`{text}` does not begin with a number; write for example `{example}`")]
    NoNumber {
        /// What was given.
        text: String,
        /// A right one.
        example: &'static str,
    },
    /// There is a number and nothing behind it.
    #[error("`{text}` has no unit; write for example `{example}` (units: {units})")]
    NoUnit {
        /// What was given.
        text: String,
        /// A right one.
        example: &'static str,
        /// All that are known.
        units: &'static str,
    },
    /// The unit is of another kind of amount, or unknown.
    #[error("`{unit}` is not a unit of {what} (units: {units}); write for example `{example}`")]
    WrongUnit {
        /// What stands behind the number.
        unit: String,
        /// What was to be given.
        what: &'static str,
        /// A right one.
        example: &'static str,
        /// All that are known.
        units: &'static str,
    },
    /// More than can be counted, or a fraction of the smallest unit.
    #[error("`{text}` is out of range")]
    OutOfRange {
        /// What was given.
        text: String,
    },
}

struct Scale {
    what: &'static str,
    example: &'static str,
    names: &'static str,
    factors: &'static [(&'static str, u64)],
}

const DURATION: Scale = Scale {
    what: "time",
    example: "60s",
    names: "ms, s, m, h, d",
    factors: &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
};

const SIZE: Scale = Scale {
    what: "size",
    example: "64MiB",
    names: "B, KiB, MiB, GiB",
    factors: &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)],
};

const FUEL: Scale = Scale {
    what: "fuel",
    example: "1_800G",
    names: "k, M, G, T",
    factors: &[("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000)],
};

/// A duration: `250ms`, `1.5s`, `2h`.
///
/// # Errors
/// Says what is wrong and what a right one looks like.
pub fn duration(text: &str) -> Result<Millis, UnitError> {
    DURATION.parse(text).map(Millis)
}

/// A number of bytes: `64MiB`.
///
/// # Errors
/// Says what is wrong and what a right one looks like.
pub fn size(text: &str) -> Result<u64, UnitError> {
    SIZE.parse(text)
}

/// An amount of fuel: `1_800G`.
///
/// # Errors
/// Says what is wrong and what a right one looks like.
pub fn fuel(text: &str) -> Result<u64, UnitError> {
    FUEL.parse(text)
}

/// Fuel for a period: `2_000G/1h`.
///
/// # Errors
/// Says what is wrong and what a right one looks like.
pub fn fuel_per(text: &str) -> Result<Fuel, String> {
    const EXAMPLE: &str = "write for example `2_000G/1h`";
    let (amount, per) = text.split_once('/').ok_or_else(|| format!("`{text}` names no period; {EXAMPLE}"))?;
    let fuel = fuel(amount).map_err(|error| error.to_string())?;
    Ok(Fuel { fuel, per: duration(per).map_err(|error| error.to_string())? })
}

/// The same, the other way.
#[must_use]
pub fn fuel_per_text(Fuel { fuel, per }: Fuel) -> String {
    let amount = whole(&FUEL, fuel).unwrap_or_else(|| format!("{}.{:03}k", fuel / 1_000, fuel % 1_000));
    let per = whole(&DURATION, per.0).unwrap_or_else(|| per.to_string());
    format!("{amount}/{per}")
}

/// A rate: `100/1m`, or `100/1m burst 10`; without a burst as many as in a period may come at once.
///
/// # Errors
/// Says what is wrong and what a right one looks like.
pub fn rate(text: &str) -> Result<Rate, String> {
    const EXAMPLE: &str = "write for example `100/1m`, or `100/1m burst 10`";
    let (amount, burst) = match text.split_once("burst") {
        Some((amount, burst)) => (amount.trim(), Some(burst.trim())),
        None => (text.trim(), None),
    };
    let (jobs, per) = amount.split_once('/').ok_or_else(|| format!("`{text}` is no rate; {EXAMPLE}"))?;
    let number = |word: &str| {
        let digits = word.trim().replace('_', "");
        digits.parse::<u32>().map_err(|_| format!("`{word}` is no number of jobs up to {}; {EXAMPLE}", u32::MAX))
    };
    let jobs = number(jobs)?;
    let per = duration(per).map_err(|error| error.to_string())?;
    let rate = Rate { jobs, per, burst: burst.map_or(Ok(jobs), number)? };
    rate.problem().map_or(Ok(rate), |why| Err(format!("`{text}` {why}")))
}

/// The same, the other way.
#[must_use]
pub fn rate_text(Rate { jobs, per, burst }: Rate) -> String {
    let burst = if burst == jobs { String::new() } else { format!(" burst {burst}") };
    format!("{jobs}/{}{burst}", duration_text(per))
}

/// A duration as it is written: `10m`.
#[must_use]
pub fn duration_text(time: Millis) -> String {
    whole(&DURATION, time.0).unwrap_or_else(|| time.to_string().replace(' ', ""))
}

/// In the largest unit of which it is a whole number; none: there is no such unit.
fn whole(scale: &Scale, n: u64) -> Option<String> {
    let fits = scale.factors.iter().rfind(|(_, size)| n >= *size && n.is_multiple_of(*size));
    fits.map(|(unit, size)| format!("{}{unit}", n / size))
}

impl Scale {
    fn parse(&self, text: &str) -> Result<u64, UnitError> {
        let text = text.trim();
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '_' || c == '.')).unwrap_or(text.len());
        let (number, unit) = (text[..split].replace('_', ""), text[split..].trim());
        if number.is_empty() {
            return Err(UnitError::NoNumber { text: text.to_owned(), example: self.example });
        }
        let zero = number.bytes().all(|b| b == b'0');
        let factor = match self.factors.iter().find(|(name, _)| *name == unit) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() && zero => 1,
            None if unit.is_empty() => {
                return Err(UnitError::NoUnit { text: text.to_owned(), example: self.example, units: self.names });
            }
            None => {
                let unit = unit.to_owned();
                return Err(UnitError::WrongUnit { unit, what: self.what, example: self.example, units: self.names });
            }
        };
        times(&number, factor).ok_or_else(|| UnitError::OutOfRange { text: text.to_owned() })
    }
}

/// `number` × `factor`, exactly; a decimal fraction is allowed as long as the product is whole.
fn times(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(factor)?;
    if part % scale != 0 {
        return None;
    }
    whole.checked_mul(factor)?.checked_add(part / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_mean_what_they_say() {
        assert_eq!(duration("60s"), Ok(Millis(60_000)));
        assert_eq!(duration("1.5s"), Ok(Millis(1_500)));
        assert_eq!(duration("0"), Ok(Millis(0)));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(fuel("1_800G"), Ok(1_800_000_000_000));
    }

    #[test]
    fn fuel_for_a_period_comes_back_as_it_was_written() {
        for text in ["2T/1h", "2001G/1h", "5M/1s", "7k/30m", "1.500k/1d", "0.001k/1s"] {
            assert_eq!(fuel_per(text).map(fuel_per_text).as_deref(), Ok(text));
        }
        assert!(fuel_per("2000G").is_err() && fuel_per("5s/1h").is_err() && fuel_per("5G/1").is_err());
    }

    #[track_caller]
    fn check_refused(result: Result<impl std::fmt::Debug, UnitError>, expected: &str) {
        let message = result.expect_err("is refused").to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_wrong_unit_is_answered_with_the_right_ones() {
        check_refused(duration("60"), "has no unit; write for example `60s`");
        check_refused(duration("60sec"), "`sec` is not a unit of time (units: ms, s, m, h, d)");
        check_refused(size("64MB"), "`MB` is not a unit of size (units: B, KiB, MiB, GiB)");
        check_refused(fuel("5s"), "`s` is not a unit of fuel");
        check_refused(size("many"), "does not begin with a number");
        check_refused(size("99999999999GiB"), "out of range");
        check_refused(duration("0.5ms"), "out of range");
    }
}
