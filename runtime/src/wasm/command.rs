//! WASI commands: the JSON that goes into stdin and the answer that comes out of stdout. Pure.
//!
//! The answer is the last line of stdout, if it begins with `{`. An exit code other than 0 outranks `ok`, but not the
//! other answers: a program may say `{"discard": …}` and exit with 1.

use base64::Engine as _;
use runner_store::job::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::answer::Answer;
use super::host::NewJobArgs;
use super::log::RunLog;
use super::run::{JobView, rfc3339};
use super::streams::LastLine;
use super::units;

/// EX_TEMPFAIL of sysexits.h: try again.
pub(super) const EXIT_RETRY: i32 = 75;
/// How much of stderr becomes the message of a failure.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;
/// On top of output and staged effects: names, keys and quotes of an answer.
pub(super) const ANSWER_SLACK_BYTES: u64 = 64 << 10;

/// Jobs that one answer may bring: as many as a manifest may allow.
const ENQUEUED_MAX: usize = 10_000;

/// How a command ended, before its effects are staged.
pub(super) enum Ended {
    /// An answer, and the jobs that were asked for with it.
    Answer(Answer, Vec<NewJobArgs>),
    /// Something that no command may answer; one sentence.
    BadAnswer(String),
    /// A line longer than any answer.
    TooLarge,
}

#[derive(Serialize)]
struct Input<'a> {
    id: String,
    kind: &'a str,
    tenant: &'a str,
    queue: &'a str,
    args: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args_base64: Option<String>,
    run: u32,
    attempt: u32,
    max_attempts: u32,
    priority: i16,
    enqueued_at: String,
    run_at: String,
    timeout_ms: u64,
    tags: std::collections::BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_base64: Option<String>,
    dependencies: Vec<String>,
    meta: std::collections::BTreeMap<&'a str, &'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    // `{"ok": null}` is an answer: presence and value differ.
    #[serde(default)]
    ok: Option<Box<RawValue>>,
    retry: Option<String>,
    discard: Option<String>,
    snooze: Option<String>,
    after: Option<String>,
    why: Option<String>,
    // Each is read when it is its turn: a line may have hundreds of thousands.
    #[serde(default, borrow)]
    enqueue: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct EnqueueLine {
    kind: String,
    #[serde(default)]
    args: Option<Box<RawValue>>,
    #[serde(flatten)]
    options: serde_json::Map<String, serde_json::Value>,
}

/// The one JSON object that a command finds on stdin, with a newline behind it.
pub(super) fn input(job: &JobView, timeout: Millis) -> Vec<u8> {
    let text = std::str::from_utf8(&job.args).ok();
    let args = text.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
    let pairs = |pairs: &'_ [(String, String)]| -> std::collections::BTreeMap<String, String> {
        pairs.iter().cloned().collect()
    };
    let (tags, meta) = (pairs(&job.tags), pairs(&job.meta));
    let input = Input {
        id: job.id.to_string(),
        kind: &job.kind,
        tenant: &job.tenant,
        queue: &job.queue,
        args,
        args_base64: (args.is_none() && !job.args.is_empty()).then(|| base64(&job.args)),
        run: job.run,
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        priority: job.priority,
        enqueued_at: rfc3339(job.enqueued_at),
        run_at: rfc3339(job.run_at),
        timeout_ms: timeout.0,
        tags: tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        checkpoint_base64: job.checkpoint.as_deref().map(base64),
        dependencies: job.dependencies.iter().map(u64::to_string).collect(),
        meta: meta.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
    };
    let mut bytes = serde_json::to_vec(&input).expect("text, numbers and maps of text always serialise");
    bytes.push(b'\n');
    bytes
}

/// What the exit code and the last line mean together.
pub(super) fn ended(exit: i32, last: LastLine, log: &RunLog) -> Ended {
    let spoken = match last {
        LastLine::TooLong => return Ended::TooLarge,
        LastLine::None => None,
        LastLine::Candidate(line) => match answer(&line) {
            Ok(spoken) => Some(spoken),
            // What went wrong is said on stderr then, not by half an answer.
            Err(_) if exit != 0 => None,
            Err(why) => return Ended::BadAnswer(why),
        },
    };
    match (exit, spoken) {
        (0, None) => Ended::Answer(Answer::Ok(Vec::new()), Vec::new()),
        (0, Some((answer, jobs))) => Ended::Answer(answer, jobs),
        (_, Some((answer, jobs))) if !matches!(answer, Answer::Ok(_)) => Ended::Answer(answer, jobs),
        (code, _) => {
            let complaint = log.complaint(COMPLAINT_BYTES_MAX);
            let message = match (complaint, code) {
                (Some(complaint), _) => complaint,
                (None, EXIT_RETRY) => "asked to be tried again (exit code 75)".to_owned(),
                (None, code) => format!("ended with exit code {code}"),
            };
            Ended::Answer(Answer::Retry { message, after: None }, Vec::new())
        }
    }
}

fn answer(line: &[u8]) -> Result<(Answer, Vec<NewJobArgs>), String> {
    let text = std::str::from_utf8(line).map_err(|_| "the last line of stdout is not UTF-8".to_owned())?;
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| format!("the last line of stdout: {error}"))?;
    let has_ok = line.ok.is_some() || has_null_ok(text);
    let keys = [has_ok, line.retry.is_some(), line.discard.is_some(), line.snooze.is_some()];
    if keys.iter().filter(|given| **given).count() != 1 {
        return Err("the last line of stdout must have exactly one of `ok`, `retry`, `discard`, `snooze`".to_owned());
    }
    if line.after.is_some() && line.retry.is_none() {
        return Err("`after` belongs to `retry`".to_owned());
    }
    let duration = |text: &str, key| units::duration(text).map_err(|error| format!("`{key}`: {error}"));
    let answer = if let Some(message) = line.retry {
        Answer::Retry { message, after: line.after.map(|after| duration(&after, "after")).transpose()? }
    } else if let Some(reason) = line.discard {
        Answer::Discard(reason)
    } else if let Some(after) = line.snooze {
        Answer::Snooze { after: duration(&after, "snooze")?, reason: line.why }
    } else {
        Answer::Ok(line.ok.map_or_else(|| b"null".to_vec(), |value| value.get().as_bytes().to_vec()))
    };
    if line.enqueue.len() > ENQUEUED_MAX {
        return Err(format!("`enqueue` has {} jobs, at most {ENQUEUED_MAX} are read", line.enqueue.len()));
    }
    let read = |raw: &&RawValue| serde_json::from_str(raw.get()).map(EnqueueLine::job);
    let jobs: Result<_, _> = line.enqueue.iter().map(read).collect();
    Ok((answer, jobs.map_err(|error| format!("`enqueue`: {error}"))?))
}

/// Whether `ok` is there as `null`, which an `Option` cannot tell from its absence.
fn has_null_ok(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Has {
        #[serde(default, deserialize_with = "is_there")]
        ok: bool,
    }
    fn is_there<'de, D: serde::Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
        serde::de::IgnoredAny::deserialize(value).map(|_| true)
    }
    serde_json::from_str::<Has>(text).is_ok_and(|has| has.ok)
}

impl EnqueueLine {
    fn job(self) -> NewJobArgs {
        let args = self.args.map_or_else(|| b"null".to_vec(), |args| args.get().as_bytes().to_vec());
        let options =
            if self.options.is_empty() { String::new() } else { serde_json::Value::Object(self.options).to_string() };
        NewJobArgs { kind: self.kind, args, options }
    }
}

/// For bytes that are no JSON.
fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Result<Answer, &str>) {
        match (answer(line.as_bytes()), expected) {
            (Ok((answer, _)), Ok(expected)) => assert_eq!(answer, expected),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            (Ok((answer, _)), Err(expected)) => panic!("{answer:?}, not {expected}"),
            (Err(why), Ok(expected)) => panic!("{why}, not {expected:?}"),
        }
    }

    #[test]
    fn the_last_line_is_one_of_four_answers() {
        check(r#"{"ok": {"n": 1}}"#, Ok(Answer::Ok(br#"{"n": 1}"#.to_vec())));
        check(r#"{"ok": null}"#, Ok(Answer::Ok(b"null".to_vec())));
        let after = Some(Millis(30_000));
        check(r#"{"retry": "why", "after": "30s"}"#, Ok(Answer::Retry { message: "why".into(), after }));
        check(r#"{"discard": "why"}"#, Ok(Answer::Discard("why".into())));
        let reason = Some("busy".into());
        check(r#"{"snooze": "5m", "why": "busy"}"#, Ok(Answer::Snooze { after: Millis(300_000), reason }));
        check(r#"{"ok": 1, "retry": "x"}"#, Err("exactly one of"));
        check(r#"{"enqueu": []}"#, Err("unknown field"));
        check(r#"{"snooze": "5"}"#, Err("has no unit"));
        check(r#"{"ok": 1"#, Err("EOF"));
    }
}
