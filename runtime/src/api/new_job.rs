//! A job as one asks for it: the body of `POST /v1/jobs` and a line of a list. Apart from [`JobSpec`], as what people
//! write and what is stored change for different reasons.

mod edges;
mod retry;
mod unique;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runner_store::job::{
    DependsOn, Invalid, JobKey, JobSpec, KeyPath, Millis, On, Priority, RetryPolicy, StateName, Time,
};

pub(super) use self::retry::retry;
pub use self::unique::NewUnique;
use super::read::{Bad, Object, Value, nearest};
use crate::traces::{TRACEPARENT, traceparent_problem};
use crate::wasm::{Catalog, Manifest, ReadJob};

/// What a handler gets where nobody gave args.
const ARGS_DEFAULT: &[u8] = b"{}";
/// The queue where nobody names one.
pub(crate) const QUEUE_DEFAULT: &str = "default";

/// A job as it was asked for; what is none follows from its kind's manifest or is the default.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `JobSpec`, where each is documented")]
pub struct NewJob {
    pub kind: String,
    pub args: Vec<u8>,
    pub queue: Option<String>,
    pub priority: Option<Priority>,
    pub run_at: Option<Time>,
    pub delay: Option<Millis>,
    pub expires_at: Option<Time>,
    pub max_attempts: Option<u32>,
    pub timeout: Option<Millis>,
    pub retry: Option<RetryPolicy>,
    pub tags: Vec<(String, String)>,
    pub hold: bool,
    pub depends_on: Vec<DependsOn>,
    pub unique: Option<NewUnique>,
}

/// What a line of a list says beside the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extras {
    /// The state in which the job is meant to end.
    pub expect: StateName,
    /// A file whose bytes are the args, or go into them, and where the list names it.
    pub args_file: Option<(String, usize)>,
    /// Whether the line has args of its own.
    pub has_args: bool,
    /// Where the kind stands.
    pub kind_at: usize,
    /// Where `hold` stands, if it is asked for.
    pub hold_at: Option<usize>,
    /// Where `depends_on` stands, if there is one.
    pub depends_on_at: Option<usize>,
}

/// Where a job goes and in which order, if it says nothing: as its kind's manifest has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindDefaults {
    /// The queue.
    pub queue: Option<String>,
    /// The priority.
    pub priority: Option<i16>,
    /// Whether its plugin can merge the args of two jobs.
    pub merges: bool,
    /// Where in their args its jobs' key stands.
    pub key: Option<KeyPath>,
}

/// Reads the jobs that handlers enqueue, with what the manifests of these plugins say of their kinds.
#[must_use]
pub fn reader(plugins: &Arc<Catalog>) -> ReadJob {
    let plugins = Arc::clone(plugins);
    Arc::new(move |tenant, kind, args, options| {
        let spec = NewJob::read_options(kind, args, options)?;
        let defaults = KindDefaults::of(&plugins, tenant, &spec.kind);
        let spec = spec.into_spec(&defaults).map_err(|invalid| invalid.to_string())?;
        spec.check().map_err(|invalid| invalid.to_string())?;
        Ok(spec)
    })
}

impl KindDefaults {
    /// What the manifest of the plugin that serves this kind says, or the configuration where it is an external one.
    #[must_use]
    pub fn of(plugins: &Catalog, tenant: &str, kind: &str) -> Self {
        if let Some(plugin) = plugins.get(tenant, kind) {
            return Self { merges: plugin.merges(), ..Self::said(plugin.manifest(), kind) };
        }
        plugins.external(kind).map_or_else(Self::default, |manifest| Self::said(&manifest, kind))
    }

    fn said(manifest: &Manifest, kind: &str) -> Self {
        Self {
            queue: manifest.setting(kind, |settings| settings.queue.clone()),
            priority: manifest.setting(kind, |settings| settings.priority),
            merges: false,
            key: manifest.key(kind),
        }
    }
}

impl KindDefaults {
    /// The key of a job of this kind that has these args.
    ///
    /// # Errors
    /// Something else stands where it should be.
    pub fn key_in(&self, args: &[u8]) -> Result<Option<JobKey>, Invalid> {
        self.key.as_ref().map_or(Ok(None), |path| path.read(args))
    }
}

impl NewJob {
    /// Reads a job that a handler enqueues: `options` has the fields beside kind and args, or is empty.
    fn read_options(kind: String, args: Vec<u8>, options: &str) -> Result<Self, String> {
        let text = if options.is_empty() { "{}" } else { options };
        let raw = serde_json::from_str(text).map_err(|error| format!("options are not JSON: {error}"))?;
        let say = |bad: Bad| match bad.field.as_str() {
            "" => format!("options: {}", bad.why),
            field => format!("options: {field}: {}", bad.why),
        };
        let mut object = Object::read(text, raw).map_err(say)?;
        let job = Self::options(&mut object, kind, args).map_err(say)?;
        object.finish().map_err(say)?;
        if job.depends_on.iter().any(|edge| matches!(edge.on, On::Position(_))) {
            return Err("options: depends_on: a handler names jobs by their ids, which `enqueue` answered".to_owned());
        }
        Ok(job)
    }

    /// Reads a job of the API.
    ///
    /// # Errors
    /// The first field that is wrong or unknown.
    pub fn read(mut object: Object<'_>) -> Result<Self, Bad> {
        let job = Self::fields(&mut object)?;
        object.finish()?;
        Ok(job)
    }

    /// Reads a line of a list, which may also say what is expected and where args are.
    ///
    /// # Errors
    /// The first field that is wrong or unknown.
    pub fn read_line(mut object: Object<'_>) -> Result<(Self, Extras), Bad> {
        let expect = object.take("expect").map(|value| expected(&value)).transpose()?;
        let args_file = object.take("args_file").map(|v| v.str().map(|name| (name, v.at()))).transpose()?;
        let kind_at = object.peek("kind").map_or(0, |value| value.at());
        let args = object.peek("args");
        let has_args = args.is_some() || object.peek("args_base64").is_some();
        if let (Some(value), true) = (&args, args_file.is_some())
            && !value.is_object()
        {
            return Err(value.bad("must be an object beside `args_file`, whose content is put into it"));
        }
        if let (Some(value), true) = (object.peek("args_base64"), args_file.is_some()) {
            return Err(value.bad("and `args_file` exclude each other: keep one"));
        }
        let (hold, depends_on) = (object.peek("hold"), object.peek("depends_on"));
        let job = Self::fields(&mut object)?;
        object.finish()?;
        let hold_at = hold.filter(|_| job.hold).map(|value| value.at());
        let expect = expect.unwrap_or(StateName::Completed);
        let depends_on_at = depends_on.map(|value| value.at());
        Ok((job, Extras { expect, args_file, has_args, kind_at, hold_at, depends_on_at }))
    }

    /// The job to be stored.
    ///
    /// # Errors
    /// Its unique key cannot be made of its args, its kind cannot merge args, or something stands where its key should be.
    pub fn into_spec(self, defaults: &KindDefaults) -> Result<JobSpec, Invalid> {
        let key = defaults.key_in(&self.args)?;
        let unique = self.unique.map(|unique| unique.into_unique(&self.kind, &self.args, defaults)).transpose()?;
        let queue = self.queue.or_else(|| defaults.queue.clone());
        Ok(JobSpec {
            kind: self.kind,
            queue: queue.unwrap_or_else(|| QUEUE_DEFAULT.to_owned()),
            args: self.args,
            priority: self.priority.or(defaults.priority.map(Priority)).unwrap_or_default(),
            run_at: self.run_at,
            delay: self.delay,
            expires_at: self.expires_at,
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            retry: self.retry,
            tags: self.tags,
            hold: self.hold,
            depends_on: self.depends_on,
            unique,
            depth: 0,
            schedule: None,
            key,
        })
    }

    fn fields(object: &mut Object<'_>) -> Result<Self, Bad> {
        let start = object.start();
        let kind = object.take("kind").map(|value| value.str()).transpose()?.ok_or_else(|| Bad {
            field: "kind".to_owned(),
            why: "is missing: the name of what is to be done, for example \"image.resize\"".to_owned(),
            at: start,
        })?;
        let args = args(object)?;
        Self::options(object, kind, args)
    }

    fn options(object: &mut Object<'_>, kind: String, args: Vec<u8>) -> Result<Self, Bad> {
        Ok(Self {
            kind,
            args,
            queue: object.take("queue").map(|value| value.str()).transpose()?,
            priority: object.take("priority").map(|value| priority(&value)).transpose()?,
            run_at: object.take("run_at").map(|value| value.time()).transpose()?,
            delay: object.take("delay").map(|value| value.duration()).transpose()?,
            expires_at: object.take("expires_at").map(|value| value.time()).transpose()?,
            max_attempts: object.take("max_attempts").map(|value| value.u32()).transpose()?,
            timeout: object.take("timeout").map(|value| value.duration()).transpose()?,
            retry: object.take("retry").map(|value| retry(&value)).transpose()?,
            tags: all_tags(object)?,
            hold: object.take("hold").map(|value| value.bool()).transpose()?.unwrap_or_default(),
            depends_on: object
                .take("depends_on")
                .map(|value| edges::depends_on(&value))
                .transpose()?
                .unwrap_or_default(),
            unique: object.take("unique").map(|value| unique::unique(&value)).transpose()?,
        })
    }
}

/// The tags, and the context of the caller's trace, which is kept as one of them.
fn all_tags(object: &mut Object<'_>) -> Result<Vec<(String, String)>, Bad> {
    let mut all = object.take("tags").map(|value| tags(&value)).transpose()?.unwrap_or_default();
    if let Some(value) = object.take(TRACEPARENT) {
        let text = value.str()?;
        if let Some(problem) = traceparent_problem(&text) {
            return Err(value.bad(problem));
        }
        if all.iter().any(|(key, _)| key == TRACEPARENT) {
            return Err(value.bad("and a tag of this name exclude each other: keep one"));
        }
        all.push((TRACEPARENT.to_owned(), text));
    }
    Ok(all)
}

fn args(object: &mut Object<'_>) -> Result<Vec<u8>, Bad> {
    Ok(args_given(object)?.unwrap_or_else(|| ARGS_DEFAULT.to_vec()))
}

/// Args, as JSON or as base64; none if neither is there.
pub(super) fn args_given(object: &mut Object<'_>) -> Result<Option<Vec<u8>>, Bad> {
    let (json, bytes) = (object.take_any("args"), object.take("args_base64"));
    match (json, bytes) {
        (Some(_), Some(bytes)) => Err(bytes.bad("and `args` exclude each other: keep one")),
        (Some(json), None) => Ok(Some(json.raw().as_bytes().to_vec())),
        (None, Some(bytes)) => {
            STANDARD.decode(bytes.str()?).map(Some).map_err(|error| bytes.bad(&format!("is not base64: {error}")))
        }
        (None, None) => Ok(None),
    }
}

pub(super) fn priority(value: &Value<'_>) -> Result<Priority, Bad> {
    if let Ok(number) = serde_json::from_str::<i16>(value.raw()) {
        return Ok(Priority(number));
    }
    let named = serde_json::from_str::<String>(value.raw()).ok();
    parse_priority(named.as_deref().unwrap_or_else(|| value.raw())).map_err(|why| value.bad(&why))
}

/// A number or a name.
///
/// # Errors
/// One sentence on what would be right.
pub fn parse_priority(text: &str) -> Result<Priority, String> {
    text.parse().map(Priority).ok().or_else(|| Priority::named(text)).ok_or_else(|| {
        let names = Priority::NAMED.map(|(name, _)| name).join(", ");
        format!("must be a whole number from -32768 (first) to 32767 (last), or one of {names}")
    })
}

pub(super) fn tags(value: &Value<'_>) -> Result<Vec<(String, String)>, Bad> {
    let entries = value.object()?.into_rest();
    entries.into_iter().map(|(key, value)| Ok((key, value.str()?))).collect()
}

fn expected(value: &Value<'_>) -> Result<StateName, Bad> {
    let finals = StateName::ALL.into_iter().filter(|state| state.is_final());
    let word = value.str()?;
    finals.clone().find(|state| state.as_str() == word).ok_or_else(|| {
        let hint = nearest(&word, finals.map(StateName::as_str))
            .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
        value.bad(&format!("must be completed, discarded or cancelled{hint}"))
    })
}

#[cfg(test)]
mod tests {
    use runner_store::job::Backoff;
    use serde_json::value::RawValue;

    use super::*;

    fn read(text: &str) -> Result<NewJob, Bad> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        NewJob::read(Object::read(text, raw)?)
    }

    #[track_caller]
    fn check_refused(text: &str, field: &str, at: usize, why: &str) {
        let bad = read(text).expect_err("is refused");
        assert_eq!((bad.field.as_str(), bad.at), (field, at), "{}", bad.why);
        assert!(bad.why.contains(why), "{}", bad.why);
    }

    #[test]
    fn every_field_is_read() {
        let job = read(
            r#"{"kind": "a", "args": {"n":  1.0, "n": 2}, "queue": "q", "priority": "low", "delay": "1h 30m",
                "max_attempts": 3, "timeout": "5s", "expires_at": "2027-01-31T08:00:00Z", "hold": true,
                "retry": {"backoff": "linear", "base": "2s", "max": "1m", "jitter": 0.1}, "tags": {"k": "v"}}"#,
        )
        .unwrap();
        assert_eq!(job.args, br#"{"n":  1.0, "n": 2}"#, "args keep their bytes");
        let spec = job.into_spec(&KindDefaults::default()).unwrap();
        assert_eq!((spec.queue.as_str(), spec.priority, spec.delay), ("q", Priority(16384), Some(Millis(5_400_000))));
        let backoff = Backoff::Linear { base: Millis(2_000) };
        assert_eq!(spec.retry, Some(RetryPolicy { backoff, jitter_permille: 100, max: Millis(60_000) }));
        assert_eq!(spec.tags, [("k".to_owned(), "v".to_owned())]);
        assert!(spec.hold && spec.check().is_ok());
    }

    #[test]
    fn what_is_not_said_follows_from_the_kind() {
        let spec = |text| {
            let defaults = KindDefaults { queue: Some("m".into()), priority: Some(-3), ..KindDefaults::default() };
            read(text).unwrap().into_spec(&defaults).unwrap()
        };
        let plain = spec(r#"{"kind": "a"}"#);
        assert_eq!((plain.queue.as_str(), plain.priority, plain.args.as_slice()), ("m", Priority(-3), ARGS_DEFAULT));
        let own =
            spec(r#"{"kind": "a", "queue": "q", "priority": 0, "args": null, "retry": {"delays": ["1s", "5m"]}}"#);
        assert_eq!((own.queue.as_str(), own.priority, own.args.as_slice()), ("q", Priority(0), b"null".as_slice()));
        assert_eq!(own.retry.unwrap().backoff, Backoff::List(vec![Millis(1_000), Millis(300_000)]));
        assert_eq!(read(r#"{"kind": "a", "args_base64": "/w=="}"#).unwrap().args, [255]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        check_refused(r#"{"kid": "a"}"#, "kind", 0, "is missing");
        check_refused(r#"{"kind": "a", "prioritty": 1}"#, "prioritty", 27, "did you mean `priority`?");
        check_refused(r#"{"kind": "a", "kind": "b"}"#, "kind", 22, "occurs twice");
        check_refused(r#"{"kind": "a", "tags": {"a": "1", "a": "2"}}"#, "tags.a", 38, "occurs twice");
        check_refused(r#"{"kind": "a", "tags": {"a": 1}}"#, "tags.a", 28, "must be a text; it is 1");
        check_refused(r#"{"kind": "a", "timeout": 60}"#, "timeout", 25, "must be a text with a unit");
        check_refused(r#"{"kind": "a", "timeout": "60"}"#, "timeout", 25, "has no unit; write for example `60s`");
        check_refused(r#"{"kind": "a", "priority": 40000}"#, "priority", 26, "highest, high, default, low, lowest");
        check_refused(r#"{"kind": "a", "run_at": "noon"}"#, "run_at", 24, "not an RFC 3339 time");
        check_refused(r#"{"kind": "a", "retry": {"base": 5}}"#, "retry.base", 32, "with a unit");
        check_refused(r#"{"kind": "a", "retry": {"delays": ["1s", 2]}}"#, "retry.delays[1]", 41, "with a unit");
        check_refused(r#"{"kind": "a", "args": 1, "args_base64": ""}"#, "args_base64", 40, "exclude each other");
        check_refused(r#"{"kind": "a", "args_base64": "*"}"#, "args_base64", 29, "is not base64");
        check_refused("[1]", "", 0, "must be an object");
    }

    #[test]
    fn a_handler_says_in_its_options_what_a_caller_says() {
        let read = reader(&Arc::default());
        let enqueue = |options: &str| read("default", "a".to_owned(), br#"{"u": 7}"#.to_vec(), options);
        let options =
            r#"{"depends_on": ["5", {"job": "6", "on_failure": "run"}], "unique": {"fields": ["u"]}, "hold": true}"#;
        let spec = enqueue(options).unwrap();
        assert_eq!((spec.depends_on.len(), spec.hold), (2, true));
        assert!(spec.unique.is_some_and(|unique| unique.key.starts_with("sha256:")));
        for (options, words) in [
            (r#"{"depends_on": [{"position": 0}]}"#, "names jobs by their ids"),
            (r#"{"unique": {"key": "k", "on_conflict": "merge"}}"#, "no plugin of kind a exports merge"),
            (r#"{"unique": {"key": ""}}"#, "unique.key: must be 1 to 256 bytes"),
            (r#"{"ack": "buffered"}"#, "ack: is no known field"),
        ] {
            let why = enqueue(options).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
