//! What a handler's author relies on: args, outputs, failures, the host in memory.

use runner_plugin::{
    Base64, CallError, Context, Failure, Level, NewJob, Raw, WithFile, blobs, config, debug, error, handler, http,
    info, kinds, kv, test, trace, warn,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    size: Size,
}

#[derive(Deserialize)]
struct Size {
    width: u32,
}

#[derive(Serialize)]
struct Output {
    width: u32,
}

/// The attribute keeps the function and its documentation.
#[handler("image.resize")]
fn resize(args: Args, _cx: &Context) -> Result<Output, Failure> {
    Ok(Output { width: args.size.width })
}

fn double(number: u32) -> Result<u32, std::num::TryFromIntError> {
    Ok(u16::try_from(number)?.into())
}

fn nothing(_args: Raw) -> Result<(), Failure> {
    Ok(())
}

fn no_json(_args: Raw) -> Result<BTreeMap<(u8, u8), u8>, Failure> {
    Ok(BTreeMap::from([((1, 2), 3)]))
}

kinds! {
    "a.double" => double,
    "a.nothing" => nothing,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Options {
    quality: Option<u8>,
}

type Seen = (Option<Base64>, Option<String>, Option<u8>);

fn file(args: WithFile<Options>) -> Result<Seen, Failure> {
    Ok((args.file.map(Base64), args.name, args.options.quality))
}

/// `expected`: the output, or `retry: …`, `discard: …`.
#[track_caller]
fn check<Shape>(handler: impl runner_plugin::Handler<Shape>, args: &str, expected: &str) {
    let answer = match test::run(handler, args.as_bytes(), &test::job("a.b").context()) {
        Ok(output) => String::from_utf8_lossy(&output).into_owned(),
        Err(failure @ Failure::Retry { .. }) => format!("retry: {}", failure.message()),
        Err(failure) => format!("discard: {}", failure.message()),
    };
    assert_eq!(answer, expected, "for {args}");
}

#[test]
fn args_and_outputs() {
    check(resize, r#"{"size": {"width": 3}}"#, r#"{"width":3}"#);
    check(double, "3", "3");
    check(nothing, "whatever", "");
    check(no_json, "", "discard: the output cannot be written as JSON: key must be a string");
    let wrong = r#"discard: args do not fit: `size.width`: invalid type: string "x", expected u32 at line 1 column 22"#;
    check(resize, r#"{"size": {"width": "x"}}"#, wrong);
    let unknown = "discard: args do not fit: `sise`: unknown field `sise`, expected `size` at line 1 column 7";
    check(resize, r#"{"sise": 1}"#, unknown);
    check(resize, "{}", "discard: args do not fit: missing field `size` at line 1 column 2");
    check(resize, "", "discard: args are not JSON: EOF while parsing a value at line 1 column 0");
    check(resize, "{\"size\": ", "discard: args are not JSON: EOF while parsing a value at line 1 column 9");
    check(double, "3 4", "discard: args are not JSON: trailing characters at line 1 column 3");
    check(double, "70000", "retry: out of range integral type conversion attempted");
}

#[test]
fn files_with_and_without_options() {
    check(file, "abc", r#"["YWJj",null,null]"#);
    check(file, "{no json", r#"["e25vIGpzb24=",null,null]"#);
    check(file, "[1]", r#"["WzFd",null,null]"#);
    check(file, r#"{"quality": 3}"#, "[null,null,3]");
    check(file, r#"{"file_base64": "YWJj", "file_name": "a.txt", "quality": 3}"#, r#"["YWJj","a.txt",3]"#);
    let not_base64 = "discard: args do not fit: `file_base64`: not Base64: Invalid symbol 33, offset 1.";
    check(file, r#"{"file_base64": "Y!"}"#, not_base64);
    let wrong = "discard: args do not fit: `quality`: invalid type: string \"x\", expected u8";
    check(file, r#"{"quality": "x"}"#, wrong);
}

#[test]
fn failures_say_when_and_why() {
    let failure = Failure::retry("busy").after(Duration::from_secs(3));
    assert_eq!(failure, Failure::Retry { message: "busy".into(), after: Some(Duration::from_secs(3)) });
    let snooze = Failure::snooze(Duration::from_secs(1)).because("too early");
    assert_eq!(snooze, Failure::Snooze { after: Duration::from_secs(1), reason: Some("too early".into()) });
    assert_eq!(Failure::discard("no").after(Duration::ZERO), Failure::discard("no"));
    let nested = std::io::Error::other(CallError::new("denied", "kv is not granted"));
    assert_eq!(Failure::from(nested).message(), "kv is not granted (denied)");
}

#[test]
fn the_host_records() -> Result<(), CallError> {
    let cx = test::job("a.b").attempt(2).tag("for", "x").checkpoint(b"half").dependency("7", Some(b"out")).context();
    assert_eq!((cx.attempt, cx.tag("for"), cx.checkpoint.as_deref()), (2, Some("x"), Some(&b"half"[..])));
    trace!(cx, "1");
    debug!(cx, "2");
    info!(cx, "{}", 3);
    warn!(cx, "4");
    error!(cx, "5");
    cx.progress(200, "done");
    cx.checkpoint(b"more")?;
    assert_eq!(cx.output_of("7")?, Some(b"out".to_vec()));
    assert_eq!(cx.output_of("8").unwrap_err().code, "not_found");
    assert_eq!(cx.checkpoint(&[0; 300_000]).unwrap_err().code, "limit");
    assert_eq!(cx.pause_schedule().unwrap_err().code, "not_found");
    let job = NewJob::new("c.d").args(&[1, 2]).priority(-5).delay(Duration::from_secs(2)).tag("t", "u").depends_on("1");
    assert_eq!(cx.enqueue(job)?, "1001");
    let recorded = cx.recorded();
    assert_eq!(recorded.logs.iter().map(|(level, _)| *level).max(), Some(Level::Error));
    assert_eq!(recorded.logs[2], (Level::Info, "3".to_owned()));
    assert_eq!(recorded.progress, [(100, "done".to_owned())]);
    let options = r#"{"delay":"2000ms","depends_on":["1"],"priority":-5,"tags":{"t":"u"}}"#;
    assert_eq!((recorded.enqueued[0].args.as_slice(), recorded.enqueued[0].options.as_str()), (&b"[1,2]"[..], options));
    Ok(())
}

#[test]
fn stores_settings_and_requests() -> Result<(), CallError> {
    let cx = test::job("a.b").kv("k1", b"1").blob("photos", "a", b"picture").config("SIZE", "3").secret("KEY", "s");
    let cx =
        cx.http(|request| Ok(http::Response { status: 200, headers: vec![], body: request.body.clone() })).context();
    kv::set(&cx, "k2", b"2")?;
    kv::compare_and_set(&cx, "k1", Some(b"1"), None)?;
    assert_eq!((kv::get(&cx, "k1")?, kv::keys(&cx, "k", None, 10)?), (None, vec!["k2".to_owned()]));
    assert_eq!(kv::set(&cx, "k", &[0; 70_000]).unwrap_err().code, "limit");
    let large = vec![7; 2_500_000];
    blobs::write(&cx, "photos", "b", &large)?;
    assert_eq!(blobs::read_all(&cx, "photos", "b", 3_000_000)?, Some(large));
    assert_eq!(blobs::read_all(&cx, "photos", "b", 1_000).unwrap_err().code, "limit");
    assert_eq!(blobs::names(&cx, "photos", "", Some("a"), 10)?, ["b"]);
    assert_eq!((config::get(&cx, "SIZE")?, config::secret(&cx, "KEY")?), (Some("3".into()), "s".into()));
    assert_eq!(http::send(&cx, http::Request::post("https://a.test/", "hi").header("a", "b"))?.body, b"hi");
    Ok(())
}

#[test]
fn blobs_are_read_and_written_bit_by_bit() -> Result<(), Box<dyn std::error::Error>> {
    let cx = test::job("a.b").blob("photos", "a/b", &[7; 2_500_000]).context();
    let mut reader = blobs::open(&cx, "photos", "a/b")?.ok_or("it is there")?;
    reader.seek(SeekFrom::End(-2))?;
    let mut end = vec![];
    reader.read_to_end(&mut end)?;
    assert_eq!((reader.size(), end.as_slice()), (2_500_000, &[7, 7][..]));
    assert_eq!(reader.seek(SeekFrom::Start(9_999_999_999))?, 9_999_999_999);
    assert_eq!(reader.read(&mut [0; 9])?, 0, "behind the end there is nothing");
    assert!(reader.seek(SeekFrom::Current(-10_000_000_000)).is_err());
    assert!(blobs::open(&cx, "photos", "none")?.is_none());
    let mut writer = blobs::begin(&cx, "photos", "new")?;
    write!(writer, "{} of {}", 1, 2)?;
    writer.flush()?;
    writer.write(b", ")?;
    writer.write(&[b'x'; 100_000])?;
    writer.write(b".")?;
    assert_eq!(blobs::size(&cx, "photos", "new")?, None, "nothing appears before it is finished");
    writer.finish()?;
    let written = [b"1 of 2, ".as_slice(), &[b'x'; 100_000], b"."].concat();
    assert_eq!(cx.recorded().blobs[&("photos".to_owned(), "new".to_owned())], written);
    Ok(())
}

#[test]
fn the_host_in_memory_refuses_what_the_runner_refuses() {
    let cx = test::job("a.b").blob("photos", "a", b"x").context();
    for name in ["", "/a", "a/", "a//b", "../a", "a/./b", "a\0b", &"x".repeat(256)] {
        assert_eq!(blobs::size(&cx, "photos", name).unwrap_err().code, "invalid", "{name:?}");
    }
    assert_eq!(blobs::read(&cx, "photos", "a", 0, (1 << 20) + 1).unwrap_err().code, "limit");
    let open: Vec<_> = (0..16).map(|n| blobs::begin(&cx, "photos", &n.to_string()).unwrap()).collect();
    assert_eq!(blobs::begin(&cx, "photos", "17").unwrap_err().code, "limit");
    assert_eq!(open.len(), 16);
    assert_eq!(kv::get(&cx, &"x".repeat(257)).unwrap_err().code, "limit");
    assert_eq!(kv::get(&cx, "").unwrap_err().code, "invalid");
}

#[test]
fn values_and_bodies_are_json_where_that_is_wanted() -> Result<(), CallError> {
    let cx = test::job("a.b").kv("bad", b"{").config("SIZE", "x").http(|request| {
        let status = if request.url.ends_with("busy") { 503 } else { 404 };
        Ok(http::Response { headers: vec![("X-A".into(), "b".into())], ..http::Response::new(status, "[1]") })
    });
    let cx = cx.context();
    kv::set_json(&cx, "list", &[1, 2])?;
    assert_eq!(kv::get_json::<Vec<u8>>(&cx, "list")?, Some(vec![1, 2]));
    assert_eq!(kv::get_json::<Vec<u8>>(&cx, "none")?, None);
    assert_eq!(kv::get_json::<Vec<u8>>(&cx, "bad").unwrap_err().code, "invalid");
    assert_eq!(config::parse::<u32>(&cx, "SIZE").unwrap_err().code, "invalid");
    let request = http::Request::post("https://a.test/gone", "").json(&["x"])?.timeout(Duration::from_secs(1));
    let response = http::send(&cx, request)?;
    assert_eq!((response.header("x-a"), response.json::<Vec<u8>>()?), (Some("b"), vec![1]));
    assert!(!response.error_for_status().unwrap_err().is_temporary());
    let busy = http::send(&cx, http::Request::get("https://a.test/busy"))?.error_for_status().unwrap_err();
    assert!(busy.is_temporary() && busy.message.contains("503: [1]"));
    let sent = &cx.recorded().requests[0];
    assert_eq!((sent.body.as_slice(), sent.timeout), (&b"[\"x\"]"[..], Some(Duration::from_secs(1))));
    Ok(())
}

#[test]
fn a_refused_call_becomes_the_failure_that_fits() {
    let retry = CallError::new("unavailable", "the disk is full").failure();
    assert_eq!(retry, Failure::retry("the disk is full (unavailable)"));
    assert!(matches!(CallError::new("brand_new", "?").failure(), Failure::Retry { .. }));
    assert!(matches!(CallError::new("denied", "no").failure(), Failure::Discard { .. }));
}

#[test]
fn nothing_is_granted_to_the_denied() {
    let cx = test::job("a.b").kv("k", b"1").denied().cancelled().context();
    let codes = [
        cx.enqueue(NewJob::new("c.d")).unwrap_err(),
        kv::get(&cx, "k").unwrap_err(),
        blobs::size(&cx, "photos", "a").unwrap_err(),
        http::send(&cx, http::Request::get("https://a.test/")).unwrap_err(),
        config::get(&cx, "SIZE").unwrap_err(),
        config::secret(&cx, "KEY").unwrap_err(),
    ]
    .map(|error| error.code);
    assert_eq!(codes, ["denied"; 6]);
    assert!(cx.cancelled());
}
