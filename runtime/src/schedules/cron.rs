//! The slots of a schedule: which instants its words mean. Pure: time is a parameter, and so is the zone.
//!
//! The calendar side of a cron expression (which days, which hours) is croner's, on civil time, where no clock ever changes.
//! What a civil time means in a zone is ours, one rule for every expression: *a time that a change of clocks leaves out comes
//! once at the end of the gap, one that it repeats comes once, the first time.* So the map from civil times to instants never
//! decreases, and the next slot is the first one that it leads to. Work that is to go on at a steady pace through a repeated
//! hour wants an interval, or the zone UTC.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use runner_store::job::{Invalid, Millis, Time};
use runner_store::schedule::{WORDS_BYTES_MAX, When};

use crate::api::read::nearest;

/// Of what is no zone, so much is said: more than any name has.
const ZONE_CHARS_SHOWN: usize = 64;
/// Where an expression is looked at to see whether it ever fires: the first second of 1970.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
/// Civil times that one step may look at: a repeated day, second by second, is the most that lies behind an instant.
const STEPS_MAX: u32 = 90_000;

/// Slots, ready to be asked for.
#[derive(Debug, Clone)]
pub enum Slots {
    /// By the calendar.
    Cron(Box<Calendar>),
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
pub struct Calendar {
    cron: Cron,
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
                let cron = expression(cron).map_err(|why| invalid("cron", why))?;
                Self::Cron(Box::new(Calendar { cron, zone }))
            }
        })
    }

    /// The first slot after `after`; none: there is none before the year 5000.
    #[must_use]
    pub fn next(&self, after: Time) -> Option<Time> {
        match self {
            Self::Every { start, .. } if after < *start => Some(*start),
            Self::Every { interval, start } => {
                let n = after.since(*start).0 / interval.0 + 1;
                let slot = n.checked_mul(interval.0).and_then(|ms| ms.checked_add(start.0))?;
                (slot <= Time::MAX.0).then_some(Time(slot))
            }
            Self::Cron(calendar) => calendar.next(after),
        }
    }

    /// The last slot up to and with `until`.
    #[must_use]
    pub fn last(&self, until: Time) -> Option<Time> {
        match self {
            Self::Every { start, .. } if until < *start => None,
            Self::Every { interval, start } => Some(Time(until.0 - until.since(*start).0 % interval.0)),
            Self::Cron(calendar) => calendar.last(until),
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

impl Calendar {
    fn next(&self, after: Time) -> Option<Time> {
        let after = Timestamp::from_millisecond(i64::try_from(after.0).ok()?).ok()?;
        let mut civil = self.zone.to_datetime(after);
        // Nothing at or before this civil time leads behind `after`; of what follows, a repeated hour may not either.
        for _ in 0..STEPS_MAX {
            civil = self.cron.find_next_occurrence(&civil, false).ok()?;
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
        let mut inclusive = true;
        for _ in 0..STEPS_MAX {
            civil = self.cron.find_previous_occurrence(&civil, inclusive).ok()?;
            inclusive = false;
            let slot = self.instant(civil)?;
            if slot <= until {
                return time(slot);
            }
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

/// The expression that this text is.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn expression(text: &str) -> Result<Cron, String> {
    let fields = fields(text)?;
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    let cron = parser.parse(&fields).map_err(|error| format!("{text:?} is no cron expression: {error}; {EXAMPLE}"))?;
    if cron.find_next_occurrence(&EPOCH, true).is_err() {
        return Err(format!("{text:?} never fires: no such day ever comes; {EXAMPLE}"));
    }
    Ok(cron)
}

const EXAMPLE: &str = "write minute, hour, day, month, weekday, for example \"30 2 * * mon-fri\", or @hourly";
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// The five or six fields of an expression, with numbers instead of names: croner takes names anywhere, also where they
/// mean something else than was meant.
fn fields(text: &str) -> Result<String, String> {
    if text.len() > WORDS_BYTES_MAX {
        return Err(format!("is {} bytes long; the limit is {WORDS_BYTES_MAX}", text.len()));
    }
    let text = text.trim().to_ascii_lowercase();
    if let Some(name) = text.split_whitespace().next().filter(|name| name.starts_with('@')) {
        let known = NICKNAMES.iter().find(|(nickname, _)| *nickname == text);
        return known.map(|(_, fields)| (*fields).to_owned()).ok_or_else(|| match name {
            "@every" => {
                "@every is no cron expression; give an interval instead: `every`, for example \"5m\"".to_owned()
            }
            "@reboot" => "@reboot is no time; what is to run once is enqueued".to_owned(),
            _ => {
                let names = NICKNAMES.map(|(nickname, _)| nickname).join(", ");
                format!("{text:?} is none of {names}")
            }
        });
    }
    let mut fields: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let n = fields.len();
    if !(5..=6).contains(&n) {
        return Err(format!("{text:?} has {n} fields and must have 5, or 6 where the first is the second; {EXAMPLE}"));
    }
    let named: [(usize, &[&str], usize); 2] = [(n - 2, &MONTHS, 1), (n - 1, &DAYS, 0)];
    for (field, names, first) in named {
        let text = &mut fields[field];
        // A week that ends with a Sunday: 1-7, not 1-0.
        *text = text.replace("-sun", "-7");
        for (i, name) in names.iter().enumerate() {
            *text = text.replace(name, &(i + first).to_string());
        }
    }
    for (field, text) in fields.iter().enumerate() {
        let also = match n - field {
            // Day of the month: the last one, the nearest weekday. Weekday: the last one, the nth, and both day fields.
            3 => "lw",
            1 => "l#+",
            _ => "",
        };
        let bad = text.chars().find(|c| !c.is_ascii_digit() && !"*/,-?".contains(*c) && !also.contains(*c));
        if let Some(bad) = bad {
            return Err(format!("{text:?} has {bad:?} in it, which means nothing in that field; {EXAMPLE}"));
        }
    }
    Ok(fields.join(" "))
}

#[cfg(test)]
mod tests;
