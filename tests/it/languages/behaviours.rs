//! The behaviours: how they are read, and what a run must have been.

use std::collections::BTreeSet;
use std::path::Path;

use runner_runtime::wasm::RunReport;
use runner_store::job::Millis;
use runner_store::job::outcome::Outcome;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    behaviour: Vec<Behaviour>,
}

/// One of them; the file says what its fields are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Behaviour {
    pub(super) name: String,
    pub(super) is: String,
    pub(super) needs: Option<String>,
    pub(super) args: String,
    pub(super) args_bytes: Option<usize>,
    pub(super) deep: Option<usize>,
    pub(super) given: Option<String>,
    outcome: Vec<String>,
    #[serde(default)]
    says: Vec<String>,
    output: Option<String>,
    #[serde(default)]
    logs: Vec<String>,
    enqueues: Option<Enqueued>,
    #[serde(default)]
    kv: Vec<String>,
    checkpoint: Option<String>,
    progress: Option<Progress>,
    retry_after_ms: Option<u64>,
    snooze_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Enqueued {
    kind: String,
    args: String,
    queue: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    percent: u8,
    message: String,
}

/// All of them.
pub(super) fn read(path: &Path) -> Vec<Behaviour> {
    let text = std::fs::read_to_string(path).unwrap();
    let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.behaviour
}

/// What is wrong with a run.
pub(super) fn check(wanted: &Behaviour, report: &RunReport) -> Result<(), String> {
    let outcome = report.outcome.name().as_str();
    if !wanted.outcome.iter().any(|name| name == outcome) {
        return Err(format!("it {outcome}, not {}", wanted.outcome.join(" or ")));
    }
    says(wanted, report)?;
    match (&report.outcome, &wanted.output) {
        (Outcome::Completed { output }, Some(text)) => same_json(text, output)?,
        (Outcome::Completed { output }, None) if wanted.args_bytes.is_some() => same_as_args(wanted, output)?,
        _ => {}
    }
    times(wanted, &report.outcome)?;
    left(wanted, report)
}

fn says(wanted: &Behaviour, report: &RunReport) -> Result<(), String> {
    let reason = match &report.outcome {
        Outcome::Snoozed { reason, .. } => reason.clone(),
        Outcome::Discarded { reason } => Some(reason.clone()),
        other => other.error(),
    };
    // A snooze and a discard say why themselves; what a trap means may stand in the log alone.
    let all = format!("{}\n{}", reason.unwrap_or_default(), report.log.shown());
    match wanted.says.iter().find(|text| !all.contains(text.as_str())) {
        Some(text) => Err(format!("neither its error nor its log says {text:?}")),
        None => Ok(()),
    }
}

fn times(wanted: &Behaviour, outcome: &Outcome) -> Result<(), String> {
    let found = match outcome {
        Outcome::Failed { retry_after, .. } => (*retry_after, None),
        Outcome::Snoozed { delay, .. } => (None, Some(*delay)),
        _ => (None, None),
    };
    if found == (wanted.retry_after_ms.map(Millis), wanted.snooze_ms.map(Millis)) {
        return Ok(());
    }
    Err(format!("its times (retry after, snooze) are {found:?}"))
}

fn left(wanted: &Behaviour, report: &RunReport) -> Result<(), String> {
    let lines: Vec<String> =
        report.log.lines().map(|line| format!("{} | {}", line.source.as_str(), line.shown())).collect();
    if let Some(line) = wanted.logs.iter().find(|line| !lines.contains(line)) {
        return Err(format!("its log lacks the line {line:?}"));
    }
    match (&wanted.enqueues, report.enqueues.as_slice()) {
        (None, []) => {}
        (Some(wanted), [job]) if job.spec.kind == wanted.kind && job.spec.queue == wanted.queue => {
            same_json(&wanted.args, &job.spec.args)?;
        }
        (_, found) => return Err(format!("it enqueued {found:?}")),
    }
    let keys: BTreeSet<&str> = report.kv.iter().map(|write| write.key.as_str()).collect();
    if keys != wanted.kv.iter().map(String::as_str).collect() {
        return Err(format!("it wrote the keys {keys:?}"));
    }
    if report.checkpoint.as_deref() != wanted.checkpoint.as_deref().map(str::as_bytes) {
        return Err(format!("it left the checkpoint {:?}", report.checkpoint));
    }
    let progress = report.progress.as_ref().map(|(percent, message)| (*percent, message.as_str()));
    if progress != wanted.progress.as_ref().map(|progress| (progress.percent, progress.message.as_str())) {
        return Err(format!("it told the progress {progress:?}"));
    }
    Ok(())
}

fn same_as_args(wanted: &Behaviour, output: &[u8]) -> Result<(), String> {
    let args: Value = serde_json::from_slice(&super::run::args(wanted, "")).expect("such args are JSON");
    let answer: Value = serde_json::from_slice(output).map_err(|error| format!("its output is no JSON: {error}"))?;
    if answer == args["value"] { Ok(()) } else { Err("its output is not what it was given".to_owned()) }
}

fn same_json(wanted: &str, found: &[u8]) -> Result<(), String> {
    let wanted: Value = serde_json::from_str(wanted).expect("the file has JSON there");
    let shown = String::from_utf8_lossy(found);
    let value: Value = serde_json::from_slice(found).map_err(|error| format!("{shown:?} is no JSON: {error}"))?;
    if same(&wanted, &value) { Ok(()) } else { Err(format!("it says {shown}, not {wanted}")) }
}

/// Numbers by value: one language writes 1, another 1.0, a third 1e0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}
