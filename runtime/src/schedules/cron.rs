//! The slots of a schedule: which instants its words mean. Pure: time is a parameter, and so is the zone.
//!
//! The calendar side of a cron expression (which days, which hours) is [`calendar`](super::calendar)'s, on civil time.
//! What a civil time means in a zone is ours, one rule for every expression: *a time that a change of clocks leaves out comes
//! once at the end of the gap, one that it repeats comes once, the first time.* So the map from civil times to instants never
//! decreases, and the next slot is the first one that it leads to. Work that is to go on at a steady pace through a repeated
//! hour wants an interval, or the zone UTC.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use runner_store::job::{Invalid, Millis, Time};
use runner_store::schedule::{WORDS_BYTES_MAX, When};

use super::calendar::Calendar;
use crate::api::read::nearest;

/// Of what is no zone, so much is said: more than any name has.
const ZONE_CHARS_SHOWN: usize = 64;
/// Civil times that one step may look at: a repeated day, second by second, is the most that lies behind an instant.
const STEPS_MAX: u32 = 90_000;

/// Slots, ready to be asked for.
#[derive(Debug, Clone)]
pub enum Slots {
    /// By the calendar.
    Cron(Zoned),
    /// Slot n is start + n × interval.
    Every {
        /// At least a millisecond.
        interval: Millis,
        /// Slot 0.
        start: Time,
    },
}

/// A cron expression in a zone.
#[derive(Debug, Clone)]
pub struct Zoned {
    calendar: Calendar,
    zone: TimeZone,
}

impl Slots {
    /// The slots that these words mean.
    ///
    /// # Errors
    /// The words mean none: the field, and what would be right.
    pub fn of(when: &When) -> Result<Self, Invalid> {
        Ok(match when {
            When::Every { interval, start } => Self::Every { interval: Millis(interval.0.max(1)), start: *start },
            When::Cron { cron, zone } => {
                let zone = time_zone(zone).map_err(|why| invalid("timezone", why))?;
                let calendar = Calendar::parse(cron).map_err(|why| invalid("cron", why))?;
                Self::Cron(Zoned { calendar, zone })
            }
        })
    }

    /// The first slot after `after`; none: there is none before the year 9999.
    #[must_use]
    pub fn next(&self, after: Time) -> Option<Time> {
        match self {
            Self::Every { start, .. } if after < *start => Some(*start),
            Self::Every { interval, start } => {
                let n = after.since(*start).0 / interval.0 + 1;
                let slot = n.checked_mul(interval.0).and_then(|ms| ms.checked_add(start.0))?;
                (slot <= Time::MAX.0).then_some(Time(slot))
            }
            Self::Cron(zoned) => zoned.next(after),
        }
    }

    /// The last slot up to and with `until`.
    #[must_use]
    pub fn last(&self, until: Time) -> Option<Time> {
        match self {
            Self::Every { start, .. } if until < *start => None,
            Self::Every { interval, start } => Some(Time(until.0 - until.since(*start).0 % interval.0)),
            Self::Cron(zoned) => zoned.last(until),
        }
    }

    /// How many slots there are behind `after` and up to `until`, of which at most `max` are counted one by one.
    #[must_use]
    pub fn count(&self, after: Time, until: Time, max: u64) -> u64 {
        if let Self::Every { interval, start } = self {
            let upto = |time: Time| if time < *start { 0 } else { time.since(*start).0 / interval.0 + 1 };
            return upto(until).saturating_sub(upto(after));
        }
        let (mut n, mut at) = (0, after);
        while n < max {
            match self.next(at) {
                Some(slot) if slot <= until => (n, at) = (n + 1, slot),
                _ => break,
            }
        }
        n
    }
}

impl Zoned {
    fn next(&self, after: Time) -> Option<Time> {
        let after = Timestamp::from_millisecond(i64::try_from(after.0).ok()?).ok()?;
        let mut civil = self.zone.to_datetime(after);
        // Nothing at or before this civil time leads behind `after`; of what follows, a repeated hour may not either.
        for _ in 0..STEPS_MAX {
            civil = self.calendar.next(civil)?;
            let slot = self.instant(civil)?;
            if slot > after {
                return time(slot);
            }
        }
        None
    }

    fn last(&self, until: Time) -> Option<Time> {
        let until = i64::try_from(until.0).ok()?;
        let behind = Timestamp::from_millisecond(until.checked_add(1)?).ok()?;
        let until = Timestamp::from_millisecond(until).ok()?;
        let mut civil = self.zone.to_datetime(until);
        // In a repeated hour, its whole first time lies behind: what leads up to `until` may be later on the clock.
        if let Some(change) = self.zone.preceding(behind).next() {
            let before = Timestamp::from_millisecond(change.timestamp().as_millisecond() - 1).ok()?;
            let before = self.zone.to_offset(before);
            civil = civil.max(before.to_datetime(change.timestamp()));
        }
        for _ in 0..STEPS_MAX {
            let named = self.calendar.last(civil)?;
            let slot = self.instant(named)?;
            if slot <= until {
                return time(slot);
            }
            civil = named.checked_sub(1.second()).ok()?;
        }
        None
    }

    /// The instant that a civil time means: see the module.
    fn instant(&self, civil: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // With the offset that holds behind the gap, the time that is left out lies before its end.
                let inside = after.to_timestamp(civil).ok()?;
                self.zone.following(inside).find(|change| change.offset() == after).map(|change| change.timestamp())
            }
        }
    }
}

fn time(at: Timestamp) -> Option<Time> {
    u64::try_from(at.as_millisecond()).ok().map(Time)
}

fn invalid(field: &str, why: String) -> Invalid {
    Invalid { field: field.to_owned(), why }
}

/// The zone of that name, by the system's database or the one that is built in.
///
/// # Errors
/// There is none; the nearest name.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    let database = jiff::tz::db();
    // A zone of no rules at all, which jiff knows and nobody means.
    let unknown = name.len() > WORDS_BYTES_MAX || name.eq_ignore_ascii_case("Etc/Unknown");
    if let Ok(zone) = database.get(name)
        && !unknown
    {
        return Ok(zone);
    }
    let names: Vec<String> = database.available().map(|name| name.to_string()).collect();
    let hint = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write an IANA name, for example Europe/Berlin or UTC".to_owned(),
    };
    let shown: String = name.chars().take(ZONE_CHARS_SHOWN).collect();
    Err(format!("there is no time zone {shown:?}; {hint}"))
}

#[cfg(test)]
mod tests;
