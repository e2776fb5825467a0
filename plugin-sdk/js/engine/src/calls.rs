//! The calls of the runner as functions of the script language. What is refused is thrown as `{code, message}`.

use std::cell::Cell;

use boa_engine::object::builtins::{JsArray, JsUint8Array};
use boa_engine::object::{JsObject, ObjectInitializer};
use boa_engine::property::Attribute;
use boa_engine::{Context, JsArgs, JsError, JsResult, JsString, JsValue, NativeFunction, js_string};

use super::millis;
use crate::runner::plugin::types::{CallError, Job};
use crate::runner::plugin::{blobs, config, host as asked, http, kv};

thread_local! {
    static DEPENDS: Cell<bool> = const { Cell::new(false) };
}

/// Says that what is done depends on the run: on its time or on chance, or that it is to be seen in it.
pub(crate) fn depends() {
    DEPENDS.set(true);
}

/// Whether something did since this was last asked.
pub(crate) fn has_depended() -> bool {
    DEPENDS.replace(false)
}

type Call = fn(&JsValue, &[JsValue], &mut Context) -> JsResult<JsValue>;

const CALLS: [(&str, Call); 27] = [
    ("depends", |_, _, _| {
        depends();
        Ok(JsValue::undefined())
    }),
    ("log", log),
    ("print", print),
    ("printError", print_error),
    ("text", decoded),
    ("bytes", encoded),
    ("progress", progress),
    ("cancelled", cancelled),
    ("enqueue", enqueue),
    ("checkpoint", |_, args, cx| refused(asked::checkpoint(&octets(args, 0, cx)?), cx).map(nothing)),
    ("outputOf", |_, args, cx| maybe_bytes(asked::output_of(&text(args, 0, cx)?), cx)),
    ("pauseSchedule", |_, _, cx| refused(asked::pause_schedule(), cx).map(nothing)),
    ("kvGet", |_, args, cx| maybe_bytes(kv::get(&text(args, 0, cx)?), cx)),
    ("kvSet", |_, args, cx| refused(kv::set(&text(args, 0, cx)?, &octets(args, 1, cx)?), cx).map(nothing)),
    ("kvRemove", |_, args, cx| refused(kv::remove(&text(args, 0, cx)?), cx).map(nothing)),
    ("kvCompareAndSet", kv_compare_and_set),
    ("kvKeys", kv_keys),
    ("blobSize", blob_size),
    ("blobRead", blob_read),
    ("blobBegin", |_, args, cx| Ok(refused(blobs::begin(&text(args, 0, cx)?, &text(args, 1, cx)?), cx)?.into())),
    ("blobWrite", blob_write),
    ("blobFinish", |_, args, cx| refused(blobs::finish(number(args, 0, cx)?), cx).map(nothing)),
    ("blobRemove", |_, args, cx| refused(blobs::remove(&text(args, 0, cx)?, &text(args, 1, cx)?), cx).map(nothing)),
    ("blobNames", blob_names),
    ("config", |_, args, cx| {
        Ok(refused(config::get(&text(args, 0, cx)?), cx)?.map_or(JsValue::null(), |value| JsString::from(value).into()))
    }),
    ("secret", |_, args, cx| Ok(JsString::from(refused(config::secret(&text(args, 0, cx)?), cx)?).into())),
    ("send", send),
];

/// The object that the prelude is given.
pub(crate) fn host(context: &mut Context) -> JsObject {
    let mut object = ObjectInitializer::new(context);
    for (name, call) in CALLS {
        object.function(NativeFunction::from_fn_ptr(call), JsString::from(name), 0);
    }
    object.build()
}

/// Tells the handler's second argument of the job: what it said of another one is written over.
pub(crate) fn tell(cx: &JsObject, job: &Job, context: &mut Context) -> JsResult<()> {
    let text = |text: &String| JsValue::from(JsString::from(text.as_str()));
    let (tags, meta) = (table(&job.tags, context)?, table(&[], context)?);
    let dependencies = strings(job.dependencies.clone(), context);
    let checkpoint = match &job.checkpoint {
        Some(bytes) => octets_of(bytes.clone(), context)?,
        None => JsValue::null(),
    };
    for (key, value) in [
        (js_string!("id"), text(&job.id)),
        (js_string!("kind"), text(&job.kind)),
        (js_string!("tenant"), text(&job.tenant)),
        (js_string!("queue"), text(&job.queue)),
        (js_string!("enqueuedAt"), text(&job.enqueued_at)),
        (js_string!("runAt"), text(&job.run_at)),
        (js_string!("run"), job.run.into()),
        (js_string!("attempt"), job.attempt.into()),
        (js_string!("maxAttempts"), job.max_attempts.into()),
        (js_string!("timeoutMs"), job.timeout_ms.into()),
        (js_string!("priority"), i32::from(job.priority).into()),
        (js_string!("tags"), tags.into()),
        (js_string!("meta"), meta.into()),
        (js_string!("checkpoint"), checkpoint),
        (js_string!("dependencies"), dependencies.into()),
    ] {
        cx.create_data_property_or_throw(key, value, context)?;
    }
    Ok(())
}

/// What an argument is told of that nobody has seen yet.
pub(crate) fn no_job() -> Job {
    Job {
        id: String::new(),
        kind: String::new(),
        tenant: String::new(),
        queue: String::new(),
        args: Vec::new(),
        run: 0,
        attempt: 0,
        max_attempts: 0,
        priority: 0,
        enqueued_at: String::new(),
        run_at: String::new(),
        timeout_ms: 0,
        tags: Vec::new(),
        checkpoint: None,
        dependencies: Vec::new(),
        meta: Vec::new(),
    }
}

fn table(pairs: &[(String, String)], context: &mut Context) -> JsResult<JsObject> {
    let object = JsObject::with_object_proto(context.intrinsics());
    for (key, value) in pairs {
        object.create_data_property_or_throw(JsString::from(key.as_str()), JsString::from(value.as_str()), context)?;
    }
    Ok(object)
}

fn log(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let level = match number(args, 0, context)? {
        0 => asked::Level::Trace,
        1 => asked::Level::Debug,
        3 => asked::Level::Warn,
        4 => asked::Level::Error,
        _ => asked::Level::Info,
    };
    asked::log(level, &text(args, 1, context)?);
    Ok(JsValue::undefined())
}

fn print(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    depends();
    println!("{}", text(args, 0, context)?);
    Ok(JsValue::undefined())
}

fn print_error(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    depends();
    eprintln!("{}", text(args, 0, context)?);
    Ok(JsValue::undefined())
}

fn decoded(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    Ok(JsString::from(String::from_utf8_lossy(&octets(args, 0, context)?).as_ref()).into())
}

fn encoded(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    octets_of(octets(args, 0, context)?, context)
}

fn progress(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let percent = u8::try_from(number(args, 0, context)?.min(100)).unwrap_or(100);
    asked::progress(percent, &text(args, 1, context)?);
    Ok(JsValue::undefined())
}

fn cancelled(_: &JsValue, _: &[JsValue], _: &mut Context) -> JsResult<JsValue> {
    Ok(asked::cancelled().into())
}

fn enqueue(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let (kind, data, options) = (text(args, 0, context)?, octets(args, 1, context)?, text(args, 2, context)?);
    let id = refused(asked::enqueue(&asked::NewJob { kind, args: data, options }), context)?;
    Ok(JsString::from(id).into())
}

fn kv_compare_and_set(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let key = text(args, 0, context)?;
    let (expected, value) = (maybe_octets(args, 1, context)?, maybe_octets(args, 2, context)?);
    refused(kv::compare_and_set(&key, expected.as_deref(), value.as_deref()), context).map(nothing)
}

fn kv_keys(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let (prefix, after, limit) = (text(args, 0, context)?, maybe_text(args, 1, context)?, number(args, 2, context)?);
    let keys = refused(kv::keys(&prefix, after.as_deref(), limit), context)?;
    Ok(strings(keys, context).into())
}

fn blob_size(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let size = refused(blobs::size(&text(args, 0, context)?, &text(args, 1, context)?), context)?;
    Ok(size.map_or(JsValue::null(), JsValue::from))
}

fn blob_read(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let (container, name) = (text(args, 0, context)?, text(args, 1, context)?);
    let (offset, length) = (number(args, 2, context)?, number(args, 3, context)?);
    let bytes = refused(blobs::read(&container, &name, offset, length), context)?;
    octets_of(bytes, context)
}

fn blob_write(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    const PART_BYTES_MAX: usize = 1 << 20;
    let (writer, data) = (number(args, 0, context)?, octets(args, 1, context)?);
    for part in data.chunks(PART_BYTES_MAX) {
        refused(blobs::write_part(writer, part), context)?;
    }
    Ok(JsValue::undefined())
}

fn blob_names(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let (container, prefix) = (text(args, 0, context)?, text(args, 1, context)?);
    let (after, limit) = (maybe_text(args, 2, context)?, number(args, 3, context)?);
    let names = refused(blobs::names(&container, &prefix, after.as_deref(), limit), context)?;
    Ok(strings(names, context).into())
}

fn send(_: &JsValue, args: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let (method, url) = (text(args, 0, context)?, text(args, 1, context)?);
    let mut flat = Vec::new();
    if let Some(list) = args.get_or_undefined(2).as_object().and_then(|o| JsArray::from_object(o.clone()).ok()) {
        for at in 0..list.length(context)? {
            let at = i64::try_from(at).unwrap_or(i64::MAX);
            flat.push(list.at(at, context)?.to_string(context)?.to_std_string_lossy());
        }
    }
    let headers = flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    let (body, timeout_ms) = (octets(args, 3, context)?, millis(args.get_or_undefined(4)));
    let answer = refused(http::send(&http::Request { method, url, headers, body, timeout_ms }), context)?;
    let mut pairs = Vec::new();
    for (key, value) in answer.headers {
        pairs.push(JsValue::from(strings(vec![key, value], context)));
    }
    let (pairs, body) = (JsArray::from_iter(pairs, context), octets_of(answer.body, context)?);
    Ok(JsArray::from_iter([JsValue::from(u32::from(answer.status)), pairs.into(), body], context).into())
}

fn nothing((): ()) -> JsValue {
    JsValue::undefined()
}

/// An answer of the runner, or what the prelude makes a `CallError` of.
fn refused<T>(answer: Result<T, CallError>, context: &mut Context) -> JsResult<T> {
    answer.map_err(|CallError { code, message }| {
        let mut object = ObjectInitializer::new(context);
        object.property(js_string!("code"), JsString::from(code), Attribute::all());
        object.property(js_string!("message"), JsString::from(message), Attribute::all());
        JsError::from_opaque(object.build().into())
    })
}

fn maybe_bytes(answer: Result<Option<Vec<u8>>, CallError>, context: &mut Context) -> JsResult<JsValue> {
    match refused(answer, context)? {
        Some(bytes) => octets_of(bytes, context),
        None => Ok(JsValue::null()),
    }
}

fn text(args: &[JsValue], at: usize, context: &mut Context) -> JsResult<String> {
    Ok(args.get_or_undefined(at).to_string(context)?.to_std_string_lossy())
}

fn maybe_text(args: &[JsValue], at: usize, context: &mut Context) -> JsResult<Option<String>> {
    if args.get_or_undefined(at).is_null_or_undefined() { Ok(None) } else { text(args, at, context).map(Some) }
}

fn number(args: &[JsValue], at: usize, context: &mut Context) -> JsResult<u32> {
    // As `as` does it: within bounds, and 0 for what is no number.
    Ok(args.get_or_undefined(at).to_number(context)? as u32)
}

/// Bytes of a Uint8Array; anything else is text.
fn octets(args: &[JsValue], at: usize, context: &mut Context) -> JsResult<Vec<u8>> {
    let value = args.get_or_undefined(at);
    match value.as_object().and_then(|object| JsUint8Array::from_object(object.clone()).ok()) {
        Some(bytes) => bytes.to_vec(context),
        None => text(args, at, context).map(String::into_bytes),
    }
}

fn maybe_octets(args: &[JsValue], at: usize, context: &mut Context) -> JsResult<Option<Vec<u8>>> {
    if args.get_or_undefined(at).is_null_or_undefined() { Ok(None) } else { octets(args, at, context).map(Some) }
}

fn octets_of(bytes: Vec<u8>, context: &mut Context) -> JsResult<JsValue> {
    Ok(JsUint8Array::from_iter(bytes, context)?.into())
}

fn strings(all: Vec<String>, context: &mut Context) -> JsArray {
    JsArray::from_iter(all.into_iter().map(|text| JsValue::from(JsString::from(text))), context)
}
