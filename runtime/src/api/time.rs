//! Times and durations as the API and the command line spell them: RFC 3339 with milliseconds, and `1h 30m`.

use runner_store::job::{Millis, Time};

use crate::wasm::units;

/// RFC 3339, UTC, with milliseconds.
#[must_use]
pub fn rfc3339(time: Time) -> String {
    const PRINTER: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
    let millis = i64::try_from(time.0.min(Time::MAX.0)).unwrap_or(i64::MAX);
    PRINTER.timestamp_to_string(&jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX))
}

/// As the head of an answer has it.
#[must_use]
pub fn http_date(time: Time) -> String {
    const PRINTER: jiff::fmt::rfc2822::DateTimePrinter = jiff::fmt::rfc2822::DateTimePrinter::new();
    let millis = i64::try_from(time.0.min(Time::MAX.0)).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    PRINTER.timestamp_to_rfc9110_string(&time).expect("years have four digits, up to the last one")
}

/// Reads an RFC 3339 time; any offset, fractions below a millisecond are cut.
///
/// # Errors
/// One sentence on what is wrong and what would be right.
pub fn parse_time(text: &str) -> Result<Time, String> {
    let example = "write for example \"2027-01-31T08:00:00Z\"";
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is not an RFC 3339 time up to {}; {example}", rfc3339(Time(u64::MAX))))?;
    u64::try_from(time.as_millisecond()).map(Time).map_err(|_| format!("{text:?} is before 1970; {example}"))
}

/// A long duration: in days where it is whole ones.
#[must_use]
pub fn long_duration(span: Millis) -> String {
    const DAY: u64 = 24 * 3_600 * 1_000;
    match (span.0 / DAY, span.0 % DAY) {
        (1.., 0) => format!("{}d", span.0 / DAY),
        _ => span.to_string(),
    }
}

/// Reads a duration of one or more amounts, each with its unit: `250ms`, `1h 30m`, `1h30m`.
///
/// # Errors
/// One sentence on what is wrong and what would be right.
pub fn parse_duration(text: &str) -> Result<Millis, String> {
    let mut sum = Millis(0);
    let mut rest = text.trim();
    loop {
        let (amount, behind) = first_amount(rest);
        let amount = units::duration(amount).map_err(|error| error.to_string())?;
        sum = Millis(sum.0.checked_add(amount.0).ok_or_else(|| format!("`{text}` is out of range"))?);
        rest = behind.trim_start();
        if rest.is_empty() {
            return Ok(sum);
        }
    }
}

/// The first number with its unit, and what follows them.
fn first_amount(text: &str) -> (&str, &str) {
    let is_number = |c: char| c.is_ascii_digit() || c == '.' || c == '_';
    let unit_at = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let unit_begins = unit_at + (text[unit_at..].len() - text[unit_at..].trim_start().len());
    let end = text[unit_begins..].find(|c: char| is_number(c) || c.is_whitespace());
    text.split_at(end.map_or(text.len(), |end| unit_begins + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_and_need_their_units() {
        let check = |text: &str, expected: Result<u64, &str>| match (parse_duration(text), expected) {
            (Ok(is), Ok(expected)) => assert_eq!(is.0, expected, "{text}"),
            (Err(is), Err(expected)) => assert!(is.contains(expected), "{text}: {is}"),
            (is, _) => panic!("{text}: {is:?}"),
        };
        check("250ms", Ok(250));
        check("1h 30m", Ok(5_400_000));
        check("1h30m", Ok(5_400_000));
        check(" 1.5 s ", Ok(1_500));
        check("90", Err("has no unit; write for example `60s`"));
        check("1h 30", Err("`30` has no unit"));
        check("5 minutes", Err("`minutes` is not a unit of time (units: ms, s, m, h, d)"));
        check("-5m", Err("does not begin with a number"));
        check("", Err("does not begin with a number"));
        check("999999999999d", Err("out of range"));
    }

    #[test]
    fn times_are_shown_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(Time(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(parse_time("2027-01-31T09:00:00.5+01:00").map(rfc3339), Ok("2027-01-31T08:00:00.500Z".to_owned()));
        assert!(parse_time("tomorrow").is_err_and(|why| why.contains("2027-01-31T08:00:00Z")));
        assert!(parse_time("1969-12-31T00:00:00Z").is_err_and(|why| why.contains("before 1970")));
        assert!(parse_time("9999-12-31T23:59:59Z").is_err_and(|why| why.contains("up to 9999-12-30T")));
    }
}
