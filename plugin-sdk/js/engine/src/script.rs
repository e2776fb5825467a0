//! One script and one job: parse, call, and say how it ended.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use boa_engine::builtins::promise::PromiseState;
use boa_engine::context::time::{Clock, JsInstant, StdClock};
use boa_engine::module::{ModuleLoader, ModuleRequest, Referrer};
use boa_engine::object::JsObject;
use boa_engine::object::builtins::{JsPromise, JsUint8Array};
use boa_engine::{Context, JsError, JsNativeError, JsResult, JsString, JsValue, Module, Source, js_string};

use super::{calls, deep, json, millis, wrong};
use crate::runner::plugin::types::Job;

const PRELUDE: &str = include_str!("../../prelude.js");
/// Calls within calls of a script; the engine's own stack holds so many.
pub(crate) const RECURSION_MAX: usize = 400;

/// A script and the name that errors call it by.
#[derive(Clone, Copy)]
pub(crate) struct Script<'a> {
    pub(crate) name: &'a str,
    pub(crate) source: &'a str,
}

/// How a script ended other than with a value.
pub(crate) enum Ended {
    Retry { why: String, after_ms: Option<u32> },
    Discard { why: String },
    Snooze { why: String, after_ms: u32 },
}

/// What `import` finds: nothing; and the script that asks, by name and source, so that it can be told where it does.
#[derive(Default)]
struct Alone(RefCell<Option<(String, Rc<str>)>>);

/// The prelude's functions.
struct Prelude(JsObject);

/// A context with the prelude in it, and what it has of a script.
pub(crate) struct Ready {
    context: Context,
    loader: Rc<Alone>,
    prelude: Prelude,
    /// A handler's second argument that no run has had.
    cx: Option<JsObject>,
    loaded: Option<Loaded>,
}

/// A script that was evaluated in a context.
struct Loaded {
    name: String,
    source: Rc<str>,
    /// Its default export.
    handler: JsObject,
}

/// The time. There are no timers, so only the calendar's matters: what asks for the other one would ask the runner for nothing.
struct Calendar;

impl Clock for Calendar {
    fn now(&self) -> JsInstant {
        JsInstant::new(0, 0)
    }

    fn system_time_millis(&self) -> i64 {
        calls::depends();
        StdClock::new().system_time_millis()
    }
}

impl Ready {
    pub(crate) fn new() -> Self {
        let loader = Rc::<Alone>::default();
        let made = Context::builder().module_loader(Rc::clone(&loader)).clock(Rc::new(Calendar)).build();
        let mut context = made.expect("it asks for nothing that could be missing");
        context.runtime_limits_mut().set_recursion_limit(RECURSION_MAX);
        let prelude = prelude(&mut context).expect("the prelude is right: every test of a script runs it");
        let mut ready = Self { context, loader, prelude, cx: None, loaded: None };
        let cx = ready.fresh_cx().expect("the prelude has it");
        // It has a place for everything that a job is.
        calls::tell(&cx, &calls::no_job(), &mut ready.context).expect("nothing of it is locked");
        ready.cx = Some(cx);
        ready
    }

    /// Whether the script may run here: one that another was in before it would find what that left.
    pub(crate) fn is_for(&self, script: Script<'_>) -> bool {
        self.loaded.as_ref().is_none_or(|loaded| loaded.name == script.name && *loaded.source == *script.source)
    }

    /// Evaluates a script, unless it is here already.
    pub(crate) fn load(&mut self, script: Script<'_>) -> Result<(), Ended> {
        if self.loaded.is_none() {
            let (name, source) = (script.name.to_owned(), Rc::<str>::from(script.source));
            self.loader.0.replace(Some((name.clone(), Rc::clone(&source))));
            let handler = self.evaluate(script).map_err(|error| self.ended(error, script.name))?;
            self.loaded = Some(Loaded { name, source, handler });
        }
        Ok(())
    }

    /// The default export.
    fn evaluate(&mut self, script: Script<'_>) -> JsResult<JsObject> {
        let context = &mut self.context;
        let source = Source::from_bytes(script.source.as_bytes()).with_path(Path::new(script.name));
        let parsed = Module::parse(source, None, context);
        let module = parsed.map_err(|error| wrong::misparsed(error, script, context))?;
        let evaluated = module.load_link_evaluate(context);
        settled(&evaluated, context)?;
        let handler = module.namespace(context).get(js_string!("default"), context)?.as_callable();
        match wrong::no_handler(handler.as_ref(), script) {
            Some(wrong) => Err(wrong),
            None => Ok(handler.expect("it is none otherwise")),
        }
    }

    /// Runs the script that is here.
    pub(crate) fn run(&mut self, job: &Job) -> Result<Vec<u8>, Ended> {
        let Some(Loaded { name, handler, .. }) = &self.loaded else {
            let why = "this plugin runs scripts: put NAME.js beside it into the plugin folder";
            return Err(Ended::Discard { why: why.to_owned() });
        };
        let (name, handler) = (name.clone(), handler.clone());
        self.answer(&handler, job).map_err(|error| self.ended(error, &name))
    }

    fn answer(&mut self, handler: &JsObject, job: &Job) -> JsResult<Vec<u8>> {
        let args = self.args(job)?;
        let Self { context, prelude, .. } = self;
        let value = handler.call(&JsValue::undefined(), &args, context)?;
        let value = awaited(value, context)?;
        if value.is_undefined() {
            return Ok(Vec::new());
        }
        if let Some(bytes) = value.as_object().and_then(|object| JsUint8Array::from_object(object.clone()).ok()) {
            return bytes.to_vec(context);
        }
        if deep::is_too_deep(&value, context)? {
            return prelude.call("tooDeep", (deep::DEPTH_MAX as u32).into(), context).map(|_| Vec::new());
        }
        let text = prelude.call("written", value, context)?;
        Ok(text.as_string().map(|text| text.to_std_string_lossy().into_bytes()).unwrap_or_default())
    }

    fn ended(&mut self, error: JsError, script: &str) -> Ended {
        let Self { context, prelude, .. } = self;
        let trace = error.to_string();
        let place = place(&trace, script);
        let said = |why: String| match &place {
            Some(place) if !why.contains(place) => format!("{why} ({place})"),
            _ => why,
        };
        let limit = error.as_engine().map(wrong::ended);
        let thrown = match (error.into_opaque(context), limit) {
            (Ok(thrown), None) => thrown,
            (_, limit) => {
                eprintln!("{trace}");
                let why = limit.unwrap_or_else(|| trace.lines().next().unwrap_or_default().to_owned());
                return Ended::Retry { why: said(why), after_ms: None };
            }
        };
        let told = prelude.call("ended", thrown, context).ok().and_then(|told| told.as_object());
        let Some(told) = told else { return Ended::Retry { why: trace, after_ms: None } };
        let mut part = |index: u32| told.get(index, context).unwrap_or_default();
        let text = |value: JsValue| value.as_string().map(|text| text.to_std_string_lossy()).unwrap_or_default();
        let (how, why, after) = (text(part(0)), text(part(1)), part(2));
        match how.as_str() {
            "discard" => Ended::Discard { why },
            "snooze" => Ended::Snooze { why, after_ms: millis(&after).unwrap_or(0) },
            "retry" => Ended::Retry { why, after_ms: millis(&after) },
            _ => {
                // All frames go to the log, the first one of the script's own into the message.
                eprintln!("{trace}");
                Ended::Retry { why: said(why), after_ms: None }
            }
        }
    }

    fn fresh_cx(&mut self) -> JsResult<JsObject> {
        let none = JsObject::with_null_proto();
        let cx = self.prelude.call("context", none.into(), &mut self.context)?;
        Ok(cx.as_object().expect("the prelude makes an object"))
    }

    /// The handler's two arguments.
    fn args(&mut self, job: &Job) -> JsResult<[JsValue; 2]> {
        let args = match json::read(&job.args, &mut self.context) {
            Some(args) => args,
            None => {
                let text = String::from_utf8_lossy(&job.args);
                self.prelude.call("parse", JsString::from(text.as_ref()).into(), &mut self.context)?
            }
        };
        let cx = match self.cx.take() {
            Some(cx) => cx,
            None => self.fresh_cx()?,
        };
        calls::tell(&cx, job, &mut self.context)?;
        Ok([args, cx.into()])
    }
}

impl ModuleLoader for Alone {
    async fn load_imported_module(
        self: Rc<Self>,
        _: Referrer,
        request: ModuleRequest,
        _: &RefCell<&mut Context>,
    ) -> JsResult<Module> {
        let name = request.specifier().to_std_string_lossy();
        let script = self.0.borrow().clone();
        let (script, source) = script.unwrap_or_default();
        Err(wrong::no_import(&name, (&script, &source)))
    }
}

impl Prelude {
    fn call(&self, name: &str, arg: JsValue, context: &mut Context) -> JsResult<JsValue> {
        let function = self.0.get(JsString::from(name), context)?;
        let function = function.as_callable().expect("the prelude has it");
        function.call(&JsValue::undefined(), &[arg], context)
    }
}

fn prelude(context: &mut Context) -> JsResult<Prelude> {
    let source = Source::from_bytes(PRELUDE.as_bytes()).with_path(Path::new("runner"));
    let make = context.eval(source)?;
    let host = calls::host(context);
    let made = make.as_callable().expect("it is a function").call(&JsValue::undefined(), &[host.into()], context)?;
    Ok(Prelude(made.as_object().expect("it answers with its functions")))
}

/// What a promise came to; any other value is itself.
fn awaited(value: JsValue, context: &mut Context) -> JsResult<JsValue> {
    match value.as_object().and_then(|object| JsPromise::from_object(object.clone()).ok()) {
        Some(promise) => settled(&promise, context),
        None => Ok(value),
    }
}

fn settled(promise: &JsPromise, context: &mut Context) -> JsResult<JsValue> {
    context.run_jobs()?;
    match promise.state() {
        PromiseState::Fulfilled(value) => Ok(value),
        PromiseState::Rejected(why) => Err(JsError::from_opaque(why)),
        PromiseState::Pending => Err(JsNativeError::error()
            .with_message("the script waits for something that never comes: there are no timers")
            .into()),
    }
}

/// `NAME.js:LINE:COLUMN` of the innermost frame that is the script's own; of none, what a syntax error says of its place.
/// The engine puts a place behind the message, too, but that is the outermost frame's.
fn place(trace: &str, script: &str) -> Option<String> {
    let is_frame = |line: &&str| line.starts_with("    at ");
    let mut frames = trace.lines().filter(is_frame).filter_map(|line| place_in(line, script));
    frames.next().or_else(|| trace.lines().find_map(|line| place_in(line, script)))
}

fn place_in(line: &str, script: &str) -> Option<String> {
    let from = line.find(&format!("{script}:"))?;
    Some(line[from..].chars().take_while(|c| !c.is_whitespace() && *c != ')').collect())
}
