//! Cron expressions on civil time, where no clock ever changes: which days, hours, minutes and seconds they name. Pure.
//!
//! Five fields – minute, hour, day of the month, month, weekday – or six, of which the first is the second. A field is `*`
//! (or `?`), numbers, names of months and weekdays, ranges, steps, and lists of these. Where both day fields say something,
//! either may match, as in every cron; a field that begins with `*` says nothing. Extensions that differ from cron to cron
//! (`L`, `W`, `#`, years) are not known.
//!
//! Crates that do this were looked at: what they bring with them outweighs these bit sets by far, in memory (five kilobytes
//! an expression, instead of fifty bytes) and in what has to be built.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time};
use runner_store::schedule::WORDS_BYTES_MAX;

/// An expression that names any day names one within so many: from one leap day to the next there may be eight years.
const DAYS_MAX: u32 = 9 * 366;
/// Where an expression is looked at to see whether it ever fires.
const ANY_DAY: Date = Date::constant(2000, 1, 1);

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

/// A cron expression: sets of numbers, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// From Sunday, 0, to Saturday, 6.
    weekdays: u64,
    /// Whether a day is named by either of its fields, not by both.
    either: bool,
}

/// What a field may say.
struct Field {
    what: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 6] = [
    Field { what: "second", first: 0, last: 59, names: &[] },
    Field { what: "minute", first: 0, last: 59, names: &[] },
    Field { what: "hour", first: 0, last: 23, names: &[] },
    Field { what: "day of the month", first: 1, last: 31, names: &[] },
    Field { what: "month", first: 1, last: 12, names: &MONTHS },
    // Sunday is 0, and 7 as well.
    Field { what: "weekday", first: 0, last: 7, names: &DAYS },
];

impl Calendar {
    /// The expression that this text is.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > WORDS_BYTES_MAX {
            return Err(format!("is {} bytes long; the limit is {WORDS_BYTES_MAX}", text.len()));
        }
        let lower = text.trim().to_ascii_lowercase();
        let plain = if lower.starts_with('@') { nickname(&lower)? } else { &lower };
        let mut fields: Vec<&str> = plain.split_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let Ok(fields) = <[&str; 6]>::try_from(fields) else {
            let n = plain.split_whitespace().count();
            let must = "must have 5, or 6 where the first is the second";
            return Err(format!("{text:?} has {n} fields and {must}; {EXAMPLE}"));
        };
        let mut sets = [0; 6];
        for ((set, field), text) in sets.iter_mut().zip(&FIELDS).zip(fields) {
            *set = field.set(text).map_err(|why| format!("{}: {why}; {EXAMPLE}", field.what))?;
        }
        let [seconds, minutes, hours, days, months, weekdays] = sets;
        let weekdays = (weekdays | weekdays >> 7) & 0x7f;
        let says = |field: &str| !field.starts_with(['*', '?']);
        let either = says(fields[3]) && says(fields[5]);
        let calendar = Self { seconds, minutes, hours, days, months, weekdays, either };
        match calendar.day_from(ANY_DAY) {
            Some(_) => Ok(calendar),
            None => Err(format!("{text:?} never fires: no such day ever comes; {EXAMPLE}")),
        }
    }

    /// The first time that it names after the second of `after`.
    #[must_use]
    pub fn next(&self, after: DateTime) -> Option<DateTime> {
        let from = after.checked_add(1.second()).ok()?;
        if self.names(from.date())
            && let Some(time) = self.time_from(from.time())
        {
            return Some(from.date().to_datetime(time));
        }
        let day = self.day_from(from.date().tomorrow().ok()?)?;
        let first = |set| at_or_above(set, 0);
        Some(day.to_datetime(time(first(self.hours)?, first(self.minutes)?, first(self.seconds)?)))
    }

    /// The last time that it names, up to and with the second of `until`.
    #[must_use]
    pub fn last(&self, until: DateTime) -> Option<DateTime> {
        if self.names(until.date())
            && let Some(time) = self.time_until(until.time())
        {
            return Some(until.date().to_datetime(time));
        }
        let mut day = until.date();
        for _ in 0..DAYS_MAX {
            day = day.yesterday().ok()?;
            if self.names(day) {
                let last = |set| at_or_below(set, 63);
                return Some(day.to_datetime(time(last(self.hours)?, last(self.minutes)?, last(self.seconds)?)));
            }
        }
        None
    }

    /// The first day that it names, from this one on.
    fn day_from(&self, mut day: Date) -> Option<Date> {
        for _ in 0..DAYS_MAX {
            if self.names(day) {
                return Some(day);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    fn names(&self, day: Date) -> bool {
        let has = |set: u64, n: i8| set >> n & 1 == 1;
        let by_day = has(self.days, day.day());
        let by_weekday = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        has(self.months, day.month()) && if self.either { by_day || by_weekday } else { by_day && by_weekday }
    }

    /// The first time of a day that it names, from this one on.
    fn time_from(&self, from: Time) -> Option<Time> {
        let (h, m, s) = parts(from);
        let (minute, second) = (at_or_above(self.minutes, 0)?, at_or_above(self.seconds, 0)?);
        if self.hours >> h & 1 == 1 {
            if self.minutes >> m & 1 == 1
                && let Some(s) = at_or_above(self.seconds, s)
            {
                return Some(time(h, m, s));
            }
            if let Some(m) = at_or_above(self.minutes, m + 1) {
                return Some(time(h, m, second));
            }
        }
        at_or_above(self.hours, h + 1).map(|h| time(h, minute, second))
    }

    /// The last time of a day that it names, up to and with this one.
    fn time_until(&self, until: Time) -> Option<Time> {
        let (h, m, s) = parts(until);
        let (minute, second) = (at_or_below(self.minutes, 63)?, at_or_below(self.seconds, 63)?);
        if self.hours >> h & 1 == 1 {
            if self.minutes >> m & 1 == 1
                && let Some(s) = at_or_below(self.seconds, s)
            {
                return Some(time(h, m, s));
            }
            if let Some(m) = m.checked_sub(1).and_then(|m| at_or_below(self.minutes, m)) {
                return Some(time(h, m, second));
            }
        }
        h.checked_sub(1).and_then(|h| at_or_below(self.hours, h)).map(|h| time(h, minute, second))
    }
}

impl Field {
    /// The numbers that `text` names, as bits.
    fn set(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => {
                let step = step.parse().ok().filter(|step| (1..=self.last).contains(step));
                (range, Some(step.ok_or_else(|| format!("the step in {part:?} must be 1 to {}", self.last))?))
            }
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (self.first, self.last.min(if self.names.len() == DAYS.len() { 6 } else { self.last })),
            (_, Some((first, last))) => {
                let (first, last) = (self.number(first)?, self.number(last)?);
                // A week may end with its Sunday.
                (first, if last == 0 && first > 0 && self.names.len() == DAYS.len() { 7 } else { last })
            }
            (_, None) if step.is_some() => {
                let all = format!("{range}-{}/{}", self.last, step.unwrap_or(1));
                return Err(format!("{part:?} has a step and no range; write for example {all:?}"));
            }
            (_, None) => (self.number(range)?, self.number(range)?),
        };
        if first > last {
            return Err(format!("the range in {part:?} ends before it begins"));
        }
        Ok((first..=last).step_by(step.unwrap_or(1) as usize).fold(0, |set, n| set | 1 << n))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let named = self.names.iter().zip(self.first..).find(|(name, _)| **name == text).map(|(_, n)| n);
        // A sign would be taken by `parse`.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        named.or(digits).filter(|n| (self.first..=self.last).contains(n)).ok_or_else(|| {
            let names = match self.names {
                [] => String::new(),
                names => format!(", or one of {}", names.join(" ")),
            };
            format!("{text:?} must be a number from {} to {}{names}", self.first, self.last)
        })
    }
}

fn nickname(text: &str) -> Result<&'static str, String> {
    if let Some((_, plain)) = NICKNAMES.iter().find(|(name, _)| *name == text) {
        return Ok(plain);
    }
    Err(match text.split_whitespace().next() {
        Some("@every") => {
            "@every is no cron expression; give an interval instead: `every`, for example \"5m\"".to_owned()
        }
        Some("@reboot") => "@reboot is no time; what is to run once is enqueued".to_owned(),
        _ => format!("{text:?} is none of {}", NICKNAMES.map(|(name, _)| name).join(", ")),
    })
}

fn parts(time: Time) -> (u32, u32, u32) {
    let part = |n: i8| u32::from(n.unsigned_abs());
    (part(time.hour()), part(time.minute()), part(time.second()))
}

/// Of numbers that are those of a time, or the sets would not have them.
fn time(hour: u32, minute: u32, second: u32) -> Time {
    let part = |n: u32| i8::try_from(n).unwrap_or_default();
    Time::constant(part(hour), part(minute), part(second), 0)
}

/// The least number of a set that is at least `n`.
fn at_or_above(set: u64, n: u32) -> Option<u32> {
    let set = set & u64::MAX.checked_shl(n)?;
    (set != 0).then(|| set.trailing_zeros())
}

/// The greatest number of a set that is at most `n`.
fn at_or_below(set: u64, n: u32) -> Option<u32> {
    let set = set & u64::MAX >> (63 - n.min(63));
    (set != 0).then(|| 63 - set.leading_zeros())
}
