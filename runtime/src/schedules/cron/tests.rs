//! What civil times mean where clocks change, and years of expressions against another implementation.

use std::fmt::Write as _;

use runner_store::job::Time;

use super::*;

fn cron(cron: &str, zone: &str) -> Result<Slots, Invalid> {
    Slots::of(&When::Cron { cron: cron.to_owned(), zone: zone.to_owned() })
}

fn at(text: &str) -> Time {
    time(text.parse().unwrap()).unwrap()
}

#[track_caller]
fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
    let slots = cron(expression, zone).unwrap();
    let mut last = at(after);
    for slot in expected {
        let next = slots.next(last).unwrap();
        assert_eq!(Timestamp::from_millisecond(next.0 as i64).unwrap().to_string(), *slot, "{expression} in {zone}");
        for until in [next.0, next.0 + 500] {
            assert_eq!(slots.last(Time(until)), Some(next), "{expression} in {zone}: and back again");
        }
        let before = slots.last(Time(next.0 - 1));
        assert!(before.is_none_or(|before| before <= last), "{expression} in {zone}: nothing was passed over");
        last = next;
    }
}

#[test]
fn a_time_that_is_left_out_comes_once_at_the_end_of_the_gap() {
    // 02:00 to 03:00 are left out in the night of 30 March.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2025-03-29T00:00:00Z",
        &["2025-03-29T01:30:00Z", "2025-03-30T01:00:00Z", "2025-03-31T00:30:00Z"],
    );
    // Four of its times are left out, and three is there anyway: one slot.
    check(
        "*/15 * * * *",
        "Europe/Berlin",
        "2025-03-30T00:30:00Z",
        &["2025-03-30T00:45:00Z", "2025-03-30T01:00:00Z", "2025-03-30T01:15:00Z"],
    );
    // A whole day is left out.
    check(
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-29T12:00:00Z",
        &["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"],
    );
}

#[test]
fn a_time_that_is_repeated_comes_once_the_first_time() {
    // 02:00 to 03:00 come twice in the night of 26 October, first at an offset of two hours.
    check("30 2 * * *", "Europe/Berlin", "2025-10-25T12:00:00Z", &["2025-10-26T00:30:00Z", "2025-10-27T01:30:00Z"]);
    check(
        "0 * * * *",
        "Europe/Berlin",
        "2025-10-25T22:30:00Z",
        &["2025-10-25T23:00:00Z", "2025-10-26T00:00:00Z", "2025-10-26T02:00:00Z"],
    );
    // Whoever asks in the middle of the second time, is told what comes behind it.
    check("*/10 * * * *", "Europe/Berlin", "2025-10-26T01:15:00Z", &["2025-10-26T02:00:00Z"]);
}

#[test]
fn fields_and_names_are_those_of_cron() {
    check("30 4 * * *", "UTC", "2025-01-01T05:00:00.250Z", &["2025-01-02T04:30:00Z"]);
    check("*/30 * * * * *", "UTC", "2025-01-01T00:00:29.999Z", &["2025-01-01T00:00:30Z", "2025-01-01T00:01:00Z"]);
    check("0 9 * Jan-Mar Mon-Fri", "UTC", "2025-03-31T09:00:00Z", &["2026-01-01T09:00:00Z"]);
    check(
        "0 0 * * Fri-Sun",
        "UTC",
        "2025-01-01T00:00:00Z",
        &["2025-01-03T00:00:00Z", "2025-01-04T00:00:00Z", "2025-01-05T00:00:00Z", "2025-01-10T00:00:00Z"],
    );
    check("0 0 * * 5-7", "UTC", "2025-01-04T00:00:00Z", &["2025-01-05T00:00:00Z", "2025-01-10T00:00:00Z"]);
    // A field that begins with a star says nothing: both hold.
    check("0 0 */2 * fri", "UTC", "2025-01-01T00:00:00Z", &["2025-01-03T00:00:00Z", "2025-01-17T00:00:00Z"]);
    check("0 0 * * 7", "UTC", "2025-01-01T00:00:00Z", &["2025-01-05T00:00:00Z"]);
    // Both day fields: either.
    check(
        "0 0 13 * fri",
        "UTC",
        "2025-01-01T00:00:00Z",
        &["2025-01-03T00:00:00Z", "2025-01-10T00:00:00Z", "2025-01-13T00:00:00Z"],
    );
    check("@Hourly", "UTC", "2025-01-01T00:00:00Z", &["2025-01-01T01:00:00Z"]);
    check("@midnight", "Asia/Tokyo", "2025-01-01T00:00:00Z", &["2025-01-01T15:00:00Z"]);
    check("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]);
}

#[test]
fn what_is_no_expression_is_refused_with_what_would_be_right() {
    let refused = |expression: &str, words: &str| {
        let why = cron(expression, "UTC").expect_err(expression);
        assert!(why.field == "cron" && why.why.contains(words), "{expression}: {why}");
    };
    refused("0 0 30 2 *", "never fires");
    refused("0 0 31 4,6,9,11 *", "never fires");
    refused("", "has 0 fields and must have 5, or 6");
    refused("* * * *", "has 4 fields");
    refused("* * * * * * *", "has 7 fields");
    refused("60 * * * *", "minute: \"60\" must be a number from 0 to 59");
    refused("* 24 * * *", "hour: ");
    refused("* * 0 * *", "day of the month: \"0\" must be a number from 1 to 31");
    refused("*/0 * * * *", "the step in \"*/0\" must be 1 to 59");
    refused("5/15 * * * *", "write for example \"5-59/15\"");
    refused("+5 * * * *", "must be a number");
    refused("1,,2 * * * *", "must be a number");
    refused("99999999999 * * * *", "must be a number");
    refused("5-1 * * * *", "ends before it begins");
    refused("mon * * * *", "minute: \"mon\" must be a number");
    refused("* * * * monday", "weekday: \"monday\" must be a number from 0 to 7, or one of sun mon");
    refused("* * * foo *", "or one of jan feb");
    refused("0 0 L * *", "must be a number");
    refused("* * * * \u{202e}1", "must be a number");
    refused("@every 5m", "`every`");
    refused("@reboot", "no time");
    refused("@fortnightly", "none of @yearly, ");
    refused(&"*".repeat(300), "300 bytes long");
}

#[test]
fn what_is_no_zone_is_refused_with_the_nearest_one() {
    let refused = |zone: &str, words: &str| {
        let why = cron("* * * * *", zone).expect_err(zone);
        assert!(why.field == "timezone" && why.why.contains(words), "{zone}: {why}");
    };
    refused("Europe/Berlim", "did you mean `Europe/Berlin`?");
    refused("Etc/Unknown", "there is no time zone");
    refused("../../etc/passwd", "there is no time zone");
    refused("", "write an IANA name");
    refused(&"x".repeat(10_000), "there is no time zone");
    assert!(cron("* * * * *", "europe/berlin").is_ok(), "names of zones are known in any case");
}

#[test]
fn intervals_are_anchored_at_their_start() {
    let slots = Slots::Every { interval: Millis(3_600_000), start: Time(1_000) };
    let next = |after| slots.next(Time(after)).map(|slot| slot.0);
    assert_eq!([next(0), next(999), next(1_000)], [Some(1_000), Some(1_000), Some(3_601_000)]);
    assert_eq!(next(3_600_000 * 5), Some(3_600_000 * 5 + 1_000));
    assert_eq!(next(Time::MAX.0), None);
    let last = |until| slots.last(Time(until)).map(|slot| slot.0);
    assert_eq!([last(999), last(1_000), last(3_600_999)], [None, Some(1_000), Some(1_000)]);
    let count = |after, until| slots.count(Time(after), Time(until), 3);
    assert_eq!([count(0, 999), count(0, 1_000), count(1_000, 1_000), count(1_000, 3_601_000)], [0, 1, 0, 1]);
    assert_eq!(count(0, 3_600_000 * 1_000), 1_000, "they are not counted one by one");
}

/// A year of each of many expressions in many zones, against what `golden.py` made of it: every minute on the wall clock,
/// one after another, with the zone rules of another language's library.
#[test]
fn a_year_of_cron_in_many_zones_is_what_another_implementation_says() {
    let mut slots_in_all = 0;
    let mut lines = 0;
    for line in include_str!("golden.txt").lines() {
        let [expression, zone, year, count, digest] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let slots = cron(expression, zone).unwrap();
        let (year, next_year) = (year.parse::<i16>().unwrap(), year.parse::<i16>().unwrap() + 1);
        let begin = |year| jiff::civil::date(year, 1, 1).in_tz(zone).unwrap().timestamp();
        let (mut last, end) = (Time(time(begin(year)).unwrap().0 - 1), time(begin(next_year)).unwrap());
        let (mut text, mut n) = (String::new(), 0);
        while let Some(slot) = slots.next(last).filter(|slot| *slot < end) {
            assert!(slot > last && slot.0 % 1_000 == 0, "{line}");
            write!(text, "{}{}", if n > 0 { "\n" } else { "" }, slot.0 / 1_000).unwrap();
            (n, last) = (n + 1, slot);
        }
        assert_eq!(n.to_string(), count, "{line}");
        let is: String = runner_store::sha256(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        assert_eq!(is, digest, "{line}");
        (slots_in_all, lines) = (slots_in_all + n, lines + 1);
    }
    println!("{slots_in_all} slots of {lines} years are those of the other implementation");
    assert!(lines > 300 && slots_in_all > 3_000_000, "{lines} lines, {slots_in_all} slots");
}
