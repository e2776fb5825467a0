//! The test handler of the Rust SDK: does what `do` in its args says. What must come of it stands in `../behaviours.toml`,
//! for all languages alike; nothing here is of use to anybody else.

use std::time::Duration;

use runner_plugin::{CallError, Context, Failure, Level, NewJob, blobs, config, handler, http, kv};
use serde::Deserialize;
use serde_json::{Value, json};

/// What may be asked. No enum of serde's: one that is tagged inside forgets the path of what does not fit.
#[derive(Debug, Deserialize)]
pub struct Ask {
    r#do: String,
    #[serde(default)]
    value: Value,
    after_ms: Option<u64>,
    user: Option<User>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    url: String,
}

/// Somebody.
#[derive(Debug, Deserialize)]
pub struct User {
    id: u32,
    name: Option<String>,
}

/// Does what is asked.
#[handler]
pub fn conformance(ask: Ask, cx: &Context) -> Result<Option<Value>, Failure> {
    let after = Duration::from_millis(ask.after_ms.unwrap_or(0));
    Ok(Some(match ask.r#do.as_str() {
        "nothing" => return Ok(None),
        "echo" => ask.value,
        "retry" if ask.after_ms.is_none() => return Err(Failure::retry("not now")),
        "retry" => return Err(Failure::retry("not now").after(after)),
        "discard" => return Err(Failure::discard("never")),
        "snooze" => return Err(Failure::snooze(after).because("too early")),
        "error" => return Err(std::io::Error::other("an ordinary error").into()),
        "panic" => panic!("on purpose"),
        "typed" => ask.user.map_or(Value::Null, |user| json!({ "id": user.id, "name": user.name })),
        "job" => job(cx),
        "print" => {
            println!("printed ✓");
            Value::Null
        }
        "spin" => loop {
            std::hint::black_box(());
        },
        "hog" => hog(),
        _ => asked_of_the_host(&ask, cx)?,
    }))
}

fn asked_of_the_host(ask: &Ask, cx: &Context) -> Result<Value, Failure> {
    Ok(match ask.r#do.as_str() {
        "log" => {
            cx.log(Level::Trace, "a trace");
            cx.log(Level::Debug, "a debug");
            cx.log(Level::Info, "an info ✓");
            cx.log(Level::Warn, "a warn");
            cx.log(Level::Error, "an error");
            Value::Null
        }
        "enqueue" => match cx.enqueue(NewJob::new(&ask.kind).args(&json!({ "n": 1 })).queue("children")) {
            Ok(id) => json!({ "id": id }),
            Err(error) => refused(&error),
        },
        "progress" => {
            cx.progress(40, "half ½");
            Value::Null
        }
        "checkpoint" => {
            cx.checkpoint(b"page 7")?;
            Value::Null
        }
        "resume" => json!(cx.checkpoint.as_deref().map(String::from_utf8_lossy)),
        "cancelled" => json!(cx.cancelled()),
        "kv" => durable(cx)?,
        "blobs" => stored(cx)?,
        "blobs_denied" => blobs::size(cx, "other", "x").map_or_else(|error| refused(&error), |size| json!(size)),
        "config" => {
            let (greeting, unset) = (config::get(cx, "GREETING")?, config::get(cx, "UNSET")?);
            json!({ "greeting": greeting, "unset": unset, "secret": config::secret(cx, "PASSWORD")? })
        }
        "http" => match http::send(cx, http::Request::post(&ask.url, "ping")) {
            Ok(answer) => json!({ "status": answer.status, "body": String::from_utf8_lossy(&answer.body) }),
            Err(error) => refused(&error),
        },
        other => return Err(Failure::discard(format_args!("args do not fit: `do`: {other} is unknown"))),
    })
}

fn job(cx: &Context) -> Value {
    let tags: serde_json::Map<_, _> = cx.tags.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({ "id": cx.id, "kind": cx.kind, "tenant": cx.tenant, "queue": cx.queue, "run": cx.run, "attempt": cx.attempt,
        "max_attempts": cx.max_attempts, "tags": tags })
}

fn durable(cx: &Context) -> Result<Value, Failure> {
    kv::set(cx, "k/a", b"1")?;
    kv::compare_and_set(cx, "k/b", None, Some(b"2"))?;
    kv::set(cx, "k/c", b"3")?;
    kv::remove(cx, "k/c")?;
    let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (got, absent) = (text(kv::get(cx, "k/a")?), text(kv::get(cx, "k/c")?));
    Ok(json!({ "got": got, "absent": absent, "keys": kv::keys(cx, "k/", None, 10)? }))
}

fn stored(cx: &Context) -> Result<Value, Failure> {
    let mut writer = blobs::begin(cx, "box", "d/one")?;
    writer.write(b"hello")?;
    writer.write(b"world")?;
    writer.finish()?;
    blobs::write(cx, "box", "d/two", b"2")?;
    blobs::remove(cx, "box", "d/two")?;
    let (size, read) = (blobs::size(cx, "box", "d/one")?, blobs::read(cx, "box", "d/one", 0, 5)?);
    let (names, gone) = (blobs::names(cx, "box", "d/", None, 10)?, blobs::size(cx, "box", "d/two")?);
    Ok(json!({ "size": size, "read": String::from_utf8_lossy(&read), "names": names, "gone": gone }))
}

fn refused(error: &CallError) -> Value {
    json!({ "refused": error.code })
}

fn hog() -> Value {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}
