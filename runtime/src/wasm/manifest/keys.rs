//! The keys of a manifest, and what each means.

use runner_store::command::{Rate, WEIGHT_MAX};
use runner_store::job::retry::{Backoff, RetryPolicy};
use runner_store::job::time::Millis;
use runner_store::job::{KeyPath, name_problem};

use super::{Batch, KINDS_MAX, KindSettings, Manifest, ManifestError, QueueLimits, allow, on, schedules};
use crate::table::{self, Table, Value};
use crate::wasm::limits::MIB;
use crate::wasm::units;

/// Wall clock: a day is longer than any job should hold a slot, and fits `u32` milliseconds.
const TIMEOUT_MAX: Millis = Millis::secs(86_400);
/// Memory: what a 32-bit guest can address.
const MEMORY_BYTES_MAX: u64 = 4096 * MIB;
/// Output: what one record of the store holds without hurting its neighbours.
const OUTPUT_BYTES_MAX: u64 = 16 * MIB;
/// Staged effects: more in one transaction would stall the writer.
const STAGED_BYTES_MAX: u64 = 16 * MIB;
/// Grace of a cancelled run: whoever cancels waits that long.
const CANCEL_GRACE_MAX: Millis = Millis::secs(30);
/// Attempts: beyond this, a job is not retried but polled.
const ATTEMPTS_MAX: i64 = 10_000;
/// Delays in a list.
const DELAYS_MAX: usize = 100;
/// Factor of an exponential backoff.
const FACTOR_MAX: f64 = 100.0;

/// A body of HTTP, either way: it is held in memory, whole.
const HTTP_BODY_BYTES_MAX: u64 = 64 * MIB;
/// Runs of one instance: far beyond where making a fresh one costs anything.
const REUSED_RUNS_MAX: i64 = 1_000_000;
/// Jobs of one call: what one claim takes.
const BATCH_JOBS_MAX: i64 = runner_store::command::limits::CLAIM_RUNS_MAX as i64;
/// How long a job may wait for others to come with it.
const LINGER_MAX: Millis = Millis::secs(3_600);

pub(super) fn manifest(text: &str) -> Result<Manifest, ManifestError> {
    let parsed = table::parse(text)?;
    let mut root = Table::new(text, "", parsed.get_ref());
    let mut manifest = Manifest::default();
    if let Some(value) = root.take("kinds") {
        manifest.kinds = kinds(&value)?;
    }
    if let Some(value) = root.take("sha256") {
        manifest.sha256 = Some(sha256(&value)?);
    }
    if let Some(value) = root.take("limits") {
        let mut table = value.table()?;
        limits(&mut table, &mut manifest.every)?;
        table.done()?;
    }
    if let Some(value) = root.take("retry") {
        let mut table = value.table()?;
        retry(&mut table, &mut manifest.every)?;
        table.done()?;
    }
    if let Some(value) = root.take("allow") {
        manifest.allow = allow::allow(value.table()?)?;
    }
    if let Some(value) = root.take("kind") {
        for value in value.list()? {
            let (name, settings) = kind(&value, &manifest.kinds)?;
            manifest.each.push((name, settings));
        }
    }
    if let Some(value) = root.take("instance") {
        let mut table = value.table()?;
        manifest.reuse = table.take("reuse").map(|value| reuse(&value)).transpose()?.flatten();
        table.done()?;
    }
    if let Some(value) = root.take("queue") {
        manifest.queues = queues(&value)?;
    }
    if let Some(value) = root.take("schedule") {
        manifest.schedules = schedules::schedules(&value, &manifest.kinds)?;
    }
    if let Some(value) = root.take("on") {
        manifest.on = on::on(&value, &manifest.kinds)?;
    }
    root.done()?;
    Ok(manifest)
}

fn kinds(value: &Value<'_>) -> Result<Vec<String>, ManifestError> {
    let list = value.list()?;
    if list.is_empty() || list.len() > KINDS_MAX {
        return Err(value.error(&format!("must have 1 to {KINDS_MAX} kinds; without it the kind is the file's name")));
    }
    let mut kinds: Vec<String> = Vec::with_capacity(list.len());
    for value in list {
        let name = name(&value)?;
        if kinds.contains(&name) {
            return Err(value.error(&format!("has `{name}` twice")));
        }
        kinds.push(name);
    }
    Ok(kinds)
}

pub(super) fn name(value: &Value<'_>) -> Result<String, ManifestError> {
    let name = value.str()?;
    match name_problem(name) {
        None => Ok(name.to_owned()),
        Some(problem) => Err(value.error(&format!("is no right name: {problem}"))),
    }
}

fn sha256(value: &Value<'_>) -> Result<String, ManifestError> {
    let digest = value.str()?.to_ascii_lowercase();
    let right = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    if right { Ok(digest) } else { Err(value.error("must be a SHA-256 digest of 64 hexadecimal digits")) }
}

pub(crate) fn limits(table: &mut Table<'_>, to: &mut KindSettings) -> Result<(), ManifestError> {
    if let Some(value) = table.take("timeout") {
        to.timeout = Some(within(&value, value.duration()?, Millis(1), TIMEOUT_MAX, "1ms", "24h")?);
    }
    if let Some(value) = table.take("fuel") {
        to.fuel = Some(within(&value, value.fuel()?, 1, u64::MAX, "1k", "any")?);
    }
    if let Some(value) = table.take("memory") {
        to.memory_bytes = Some(within(&value, value.size()?, 64 << 10, MEMORY_BYTES_MAX, "64KiB", "4GiB")?);
    }
    if let Some(value) = table.take("output") {
        to.output_bytes = Some(within(&value, value.size()?, 0, OUTPUT_BYTES_MAX, "0B", "16MiB")?);
    }
    if let Some(value) = table.take("staged") {
        to.staged_bytes = Some(within(&value, value.size()?, 0, STAGED_BYTES_MAX, "0B", "16MiB")?);
    }
    if let Some(value) = table.take("host_calls") {
        to.host_calls = Some(value.integer(1, i64::MAX)?.unsigned_abs());
    }
    if let Some(value) = table.take("enqueues") {
        to.enqueues = Some(u32::try_from(value.integer(0, 10_000)?).unwrap_or(0));
    }
    if let Some(value) = table.take("cancel_grace") {
        to.cancel_grace = Some(within(&value, value.duration()?, Millis(0), CANCEL_GRACE_MAX, "0s", "30s")?);
    }
    if let Some(value) = table.take("http_body") {
        to.http_body_bytes = Some(within(&value, value.size()?, 0, HTTP_BODY_BYTES_MAX, "0B", "64MiB")?);
    }
    Ok(())
}

fn within<T: PartialOrd>(
    value: &Value<'_>,
    given: T,
    min: T,
    max: T,
    least: &str,
    most: &str,
) -> Result<T, ManifestError> {
    let fits = given >= min && given <= max;
    if fits { Ok(given) } else { Err(value.error(&format!("must be between {least} and {most}"))) }
}

fn retry(table: &mut Table<'_>, to: &mut KindSettings) -> Result<(), ManifestError> {
    if let Some(value) = table.take("max_attempts") {
        to.max_attempts = Some(u32::try_from(value.integer(1, ATTEMPTS_MAX)?).unwrap_or(1));
    }
    let policy = RetryPolicy::default();
    let word = table.take("backoff").map(|value| value.str().map(|word| (word, value))).transpose()?;
    let base = table.take("base").map(|value| value.duration()).transpose()?;
    let factor = table.take("factor").map(|value| value.permille(FACTOR_MAX)).transpose()?;
    let max = table.take("max").map(|value| value.duration()).transpose()?;
    let jitter = table.take("jitter").map(|value| value.permille(1.0)).transpose()?;
    let delays = table.take("delays");
    if word.is_none() && base.is_none() && factor.is_none() && max.is_none() && jitter.is_none() && delays.is_none() {
        return Ok(());
    }
    if let (Some(_), Some(delays)) = (&word, &delays) {
        return Err(delays.error("and `backoff` exclude each other: keep one"));
    }
    let (own_base, own_factor) = (base.unwrap_or(Millis::secs(1)), factor.unwrap_or(1_600));
    let backoff = match (word, delays) {
        (_, Some(delays)) => Backoff::List(list_of_delays(&delays)?),
        (None, None) => Backoff::Exponential { base: own_base, factor_permille: own_factor },
        (Some((word, value)), None) => match word {
            "exponential" => Backoff::Exponential { base: own_base, factor_permille: own_factor },
            "linear" => Backoff::Linear { base: own_base },
            "constant" => Backoff::Constant { base: own_base },
            "never" => Backoff::Never,
            _ => return Err(value.error("must be exponential, linear, constant or never; or give `delays = [...]`")),
        },
    };
    to.backoff = Some(RetryPolicy {
        backoff,
        jitter_permille: jitter.and_then(|j| u16::try_from(j).ok()).unwrap_or(policy.jitter_permille),
        max: max.unwrap_or(policy.max),
    });
    Ok(())
}

fn list_of_delays(value: &Value<'_>) -> Result<Vec<Millis>, ManifestError> {
    let list = value.list()?;
    if list.is_empty() || list.len() > DELAYS_MAX {
        return Err(value.error(&format!("must have 1 to {DELAYS_MAX} delays")));
    }
    list.iter().map(Value::duration).collect()
}

/// Runs of one instance; none: every run has its own.
fn reuse(value: &Value<'_>) -> Result<Option<u32>, ManifestError> {
    if !value.is_table() {
        return match value.str() {
            Ok("never") => Ok(None),
            _ => Err(value.error("must be \"never\" or { max_runs = n }")),
        };
    }
    let mut table = value.table()?;
    let Some(runs) = table.take("max_runs") else {
        return Err(value.error("must be \"never\" or { max_runs = n }"));
    };
    let runs = runs.integer(1, REUSED_RUNS_MAX)?;
    table.done()?;
    Ok(u32::try_from(runs).ok())
}

/// How many jobs go into one call.
fn batch(value: &Value<'_>) -> Result<Batch, ManifestError> {
    let mut table = value.table()?;
    let Some(max) = table.take("max") else { return Err(value.error("needs a `max`: how many jobs go into one call")) };
    let max = u32::try_from(max.integer(1, BATCH_JOBS_MAX)?).unwrap_or(1);
    let linger = match table.take("linger") {
        None => Millis(0),
        Some(value) => within(&value, value.duration()?, Millis(0), LINGER_MAX, "0s", "1h")?,
    };
    table.done()?;
    Ok(Batch { max, linger })
}

/// What holds for queues, by name.
fn queues(value: &Value<'_>) -> Result<Vec<(String, QueueLimits)>, ManifestError> {
    let queues = value.table()?.entries();
    if queues.len() > KINDS_MAX {
        return Err(value.error(&format!("has more than {KINDS_MAX} queues")));
    }
    let queue = |(queue, value): (&str, Value<'_>)| {
        if let Some(problem) = name_problem(queue) {
            return Err(value.error(&format!("is no right name of a queue: {problem}")));
        }
        let mut table = value.table()?;
        let limits = QueueLimits {
            concurrency: table.take("concurrency").map(|value| at_once(&value)).transpose()?,
            rate: table.take("rate").map(|value| rate(&value)).transpose()?,
            weight: table
                .take("weight")
                .map(|value| value.integer(1, WEIGHT_MAX.into()))
                .transpose()?
                .map(|weight| weight as u32),
        };
        for key in ["capacity", "order"] {
            if let Some(value) = table.take(key) {
                return Err(value.error("is the operator's to set: `runner queue set`"));
            }
        }
        table.done()?;
        Ok((queue.to_owned(), limits))
    };
    queues.into_iter().map(queue).collect()
}

/// Calls at once.
fn at_once(value: &Value<'_>) -> Result<u32, ManifestError> {
    Ok(u32::try_from(value.integer(1, u32::MAX.into())?).unwrap_or(u32::MAX))
}

fn rate(value: &Value<'_>) -> Result<Rate, ManifestError> {
    units::rate(value.str()?).map_err(|why| value.error(&why))
}

fn kind(value: &Value<'_>, offered: &[String]) -> Result<(String, KindSettings), ManifestError> {
    let mut table = value.table()?;
    let Some(name_value) = table.take("name") else {
        return Err(value.error("needs a `name`: the kind that it is about"));
    };
    let kind = name(&name_value)?;
    if !offered.is_empty() && !offered.contains(&kind) {
        return Err(name_value.error(&format!("is `{kind}`, which is not among `kinds`: {}", offered.join(", "))));
    }
    let settings = settings(&mut table)?;
    table.done()?;
    Ok((kind, settings))
}

/// What may differ for one kind.
pub(crate) fn settings(table: &mut Table<'_>) -> Result<KindSettings, ManifestError> {
    let mut settings = KindSettings::default();
    limits(table, &mut settings)?;
    retry(table, &mut settings)?;
    if let Some(value) = table.take("queue") {
        settings.queue = Some(name(&value)?);
    }
    if let Some(value) = table.take("priority") {
        let priority = value.integer(i16::MIN.into(), i16::MAX.into())?;
        settings.priority = Some(i16::try_from(priority).unwrap_or(0));
    }
    settings.batch = table.take("batch").map(|value| batch(&value)).transpose()?;
    settings.concurrency = table.take("concurrency").map(|value| at_once(&value)).transpose()?;
    settings.rate = table.take("rate").map(|value| rate(&value)).transpose()?;
    by_key(table, &mut settings)?;
    Ok(settings)
}

/// What is limited and ordered by the key of a job.
fn by_key(table: &mut Table<'_>, to: &mut KindSettings) -> Result<(), ManifestError> {
    let path = |value: Value<'_>| KeyPath::parse(value.str()?).map_err(|why| value.error(&why));
    to.key = table.take("key").map(path).transpose()?;
    let (concurrency, rate_of_key) = (table.take("key_concurrency"), table.take("key_rate"));
    let order = table.take("strict_order");
    to.key_concurrency = concurrency.as_ref().map(at_once).transpose()?;
    to.key_rate = rate_of_key.as_ref().map(rate).transpose()?;
    to.strict_order = order.as_ref().map(Value::bool).transpose()?;
    let needs_key = [concurrency.as_ref(), rate_of_key.as_ref(), order.as_ref()].into_iter().flatten().next();
    if let (None, Some(value)) = (&to.key, needs_key) {
        let why =
            "needs a `key`: the field of the args by which jobs belong together, for example key = \"args.customer\"";
        return Err(value.error(why));
    }
    if to.strict_order != Some(true) {
        return Ok(());
    }
    if let Some(value) = concurrency.filter(|_| to.key_concurrency.is_some_and(|most| most > 1)) {
        return Err(value.error("must be 1 or absent beside `strict_order`, which runs one job of a key at a time"));
    }
    if let Some(value) = order.filter(|_| to.batch.is_some()) {
        return Err(value.error("and `batch` exclude each other: the jobs of a call are of one key and run at once"));
    }
    Ok(())
}
