//! Which error it is, whatever numbers, ids and names stand in it: what jobs that failed alike have in common.
//!
//! [`Fingerprint::of`] takes from an error what differs from job to job and hashes the rest. It is a rule of its own and part
//! of the contract: whoever has written one down finds the same jobs with it tomorrow.

use std::fmt;
use std::str::FromStr;

use super::{Job, LastRun, OutcomeName, StateName};

/// See the module. Shown as twelve hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

/// Bits of the hash that are kept: among a thousand errors, two are alike with a chance of one in five hundred million.
const BITS: u32 = 48;
/// Characters of a plain error that count. A row keeps 256 bytes of it; where ids have been cut short, so has what follows
/// them, and the end of a long text is another one each time.
const CHARS_MAX: usize = 120;
/// From how many letters on a word of a to f is a number in hexadecimal.
const HEX_LETTERS_MIN: usize = 8;
/// What stands for whatever was taken out.
const PLACE: char = '#';

impl Fingerprint {
    /// That of an error: of how the run ended, and of the text without what differs from job to job.
    #[must_use]
    pub fn of(outcome: OutcomeName, error: &str) -> Self {
        let text = format!("{} {}", outcome.as_str(), plain(error));
        Self(xxhash_rust::xxh3::xxh3_64(text.as_bytes()) >> (u64::BITS - BITS))
    }

    /// That of a job's last error; none: it is neither discarded nor waits for its next attempt, or no run has failed.
    #[must_use]
    pub fn of_job(job: &Job) -> Option<Self> {
        let last = job.last.as_ref().filter(|_| may_have(job.state.name()))?;
        is_failure(last).then(|| Self::of(last.outcome, last.error.as_deref().unwrap_or_default()))
    }
}

/// Whether jobs in this state may have one.
#[must_use]
pub fn may_have(state: StateName) -> bool {
    matches!(state, StateName::Retryable | StateName::Discarded)
}

fn is_failure(last: &LastRun) -> bool {
    match last.outcome {
        OutcomeName::Completed | OutcomeName::Snoozed | OutcomeName::Cancelled | OutcomeName::Interrupted => false,
        OutcomeName::Failed
        | OutcomeName::Discarded
        | OutcomeName::Trapped
        | OutcomeName::OutOfFuel
        | OutcomeName::TimedOut
        | OutcomeName::OutOfMemory
        | OutcomeName::OutputTooLarge
        | OutcomeName::Crashed
        | OutcomeName::PluginBroken => true,
    }
}

/// The error without what differs: quoted words, and words with a digit in them or of hexadecimal digits alone, each become
/// one mark; space is space; capitals do not count.
fn plain(error: &str) -> String {
    let mut plain = String::new();
    let (mut rest, mut before) = (error, ' ');
    while let Some(first) = rest.chars().next() {
        let (taken, shown) = if is_quote(first) && !before.is_alphanumeric() {
            (quoted(rest, first), None)
        } else if is_of_word(first) {
            let word = &rest[..rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())];
            (word, (!is_id(word)).then_some(word))
        } else {
            (&rest[..first.len_utf8()], Some(&rest[..first.len_utf8()]))
        };
        match shown {
            Some(word) if word.trim().is_empty() => {
                if !plain.ends_with(' ') {
                    plain.push(' ');
                }
            }
            Some(word) => plain.extend(word.chars().map(|c| c.to_ascii_lowercase())),
            None if plain.ends_with(PLACE) => {}
            None => plain.push(PLACE),
        }
        before = taken.chars().next_back().unwrap_or(' ');
        rest = &rest[taken.len()..];
    }
    plain.trim().chars().take(CHARS_MAX).collect()
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

/// What is quoted, with its quotes; one that was cut off ends with its line.
fn quoted(text: &str, quote: char) -> &str {
    let line = text.find('\n').unwrap_or(text.len());
    let end = text[1..line].find(quote).map_or(line, |at| 1 + at + 1);
    &text[..end]
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

fn is_id(word: &str) -> bool {
    let is_hex = word.len() >= HEX_LETTERS_MIN && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex || word.chars().any(char::is_numeric)
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_one = text.len() == 12 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_one);
        number.map(Self).ok_or_else(|| {
            format!(
                "{text:?} is no fingerprint of an error: 12 digits of 0-9 and a-f, as jobs are counted by error with"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: &str, expected: &str) {
        assert_eq!(plain(error), expected, "{error}");
    }

    #[test]
    fn what_differs_from_job_to_job_is_taken_out() {
        check("", "");
        check("No space left", "no space left");
        check("status 503 after 1.5s", "status # after #.#");
        check("row 42 of 17", "row # of #");
        check("at 0x7fff9a, deadbeefcafe, cafe", "at #, #, cafe");
        check("job 550e8400-e29b-41d4-a716-446655440000 is gone", "job # is gone");
        check("user_17/photo-3.jpg", "#/#.jpg");
        check("no such file \"a b.txt\"", "no such file #");
        check("can't open 'x y', isn't there", "can't open #, isn't there");
        check("unknown kind `image.resize", "unknown kind #");
        check("expected \"a\nthen b", "expected # then b");
        check("a\n\t b  c ", "a b c");
        check("10.0.0.1:8080 refused", "#.#.#.#:# refused");
        check("größe 3\u{b2} zu groß", "größe # zu groß");
        check("''", "#");
        check(&"word ".repeat(100), &"word ".repeat(24));
    }

    #[test]
    fn the_same_error_has_the_same_fingerprint_for_ever() {
        let of = |text| Fingerprint::of(OutcomeName::Failed, text).to_string();
        assert_eq!(of("status 503"), "c64811ec9208");
        assert_eq!(of("status 503"), of("Status 404"));
        assert_ne!(of("status 503"), of("states 503"));
        assert_ne!(of("status 503"), Fingerprint::of(OutcomeName::Trapped, "status 503").to_string());
        let one = Fingerprint::of(OutcomeName::Crashed, "");
        assert_eq!(one.to_string().parse(), Ok(one));
        for wrong in ["", "0123456789a", "0123456789abc", "0123456789AB", "+123456789ab", "status 503"] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
