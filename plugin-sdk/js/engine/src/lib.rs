//! The engine of bare scripts: a plugin that runs `NAME.js` of a plugin folder as a handler.
//!
//! The runner calls it as any other plugin, with the script in the job's `meta` (`script`, `script-name`) unless it has been evaluated
//! in it before. A script is a module whose default export is the handler, `(args, cx) => value`; `../../prelude.js` is what it finds
//! beside the language. What goes wrong carries the script's line.
//!
//! Making a context – the language's own objects, and the prelude – takes longer than most scripts, and parsing a script longer than
//! most runs of it. So both are done beforehand. `plugins/build` calls [`prepare`] and keeps the memory as it is then
//! (`plugin-sdk/snapshot`); the runner calls [`Evaluates`] when it loads a script, and keeps the memory as it is then ([`image`]).
//! Every instance begins with the one or the other: with a context that no run has seen. An instance that is kept goes on with
//! the context that it has, as the manifest's `reuse` allows.
//!
//! It deliberately offers no modules to import, no timers and no files: what a script may do is what its manifest asks for.

mod calls;
mod deep;
mod image;
mod json;
mod near;
mod script;
mod wrong;

use std::cell::RefCell;

use boa_engine::JsValue;

use self::script::{Ended, Ready, Script};
use crate::exports::runner::engine::script::Guest as Evaluates;
use crate::exports::runner::plugin::handler::Guest as Handles;
use crate::runner::plugin::types::{Failure, Job, Retry, Snooze};

wit_bindgen::generate!({ path: ["../../wit", "wit"], world: "runner:engine/engine", generate_all });

thread_local! {
    /// What the snapshot was taken with; in an instance that is kept, what the runs so far have left.
    static READY: RefCell<Option<Ready>> = const { RefCell::new(None) };
}

/// Called once, before the snapshot is taken; it calls nothing of the runner.
#[unsafe(export_name = "prepare")]
pub extern "C" fn prepare() {
    READY.set(Some(Ready::new()));
}

struct Engine;

impl Handles for Engine {
    fn handle(job: Job) -> Result<Vec<u8>, Failure> {
        let meta = |wanted: &str| job.meta.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str());
        let given = meta("script").map(|source| Script { name: meta("script-name").unwrap_or("script.js"), source });
        let ready = READY.take().filter(|ready| given.is_none_or(|script| ready.is_for(script)));
        let mut ready = ready.unwrap_or_else(Ready::new);
        let answer = match given {
            Some(script) => ready.load(script).and_then(|()| ready.run(&job)),
            None => ready.run(&job),
        };
        // Nothing is taken apart: that would take longer than the script, and the instance goes with its memory.
        READY.set(Some(ready));
        answer.map_err(failure)
    }
}

impl Evaluates for Engine {
    fn evaluate(name: String, source: String) {
        let mut ready = READY.take().unwrap_or_else(Ready::new);
        _ = calls::has_depended();
        let evaluated = ready.load(Script { name: &name, source: &source });
        READY.set(Some(ready));
        drop((name, source));
        // Of a script that cannot be evaluated, every run shall say so; what depends on the run is each run's own.
        if evaluated.is_ok() && !calls::has_depended() {
            // What parsing left would be in every run's way.
            boa_gc::force_collect();
            near::begin();
            image::keep();
        }
    }
}

export!(Engine);

fn failure(ended: Ended) -> Failure {
    match ended {
        Ended::Retry { why, after_ms } => Failure::Retry(Retry { message: why, after_ms }),
        Ended::Discard { why } => Failure::Discard(why),
        Ended::Snooze { why, after_ms } => {
            Failure::Snooze(Snooze { after_ms, reason: Some(why).filter(|why| !why.is_empty()) })
        }
    }
}

/// Milliseconds of the contract, of any number; none of what is no number.
fn millis(value: &JsValue) -> Option<u32> {
    value.as_number().filter(|ms| !ms.is_nan()).map(|ms| ms.clamp(0.0, f64::from(u32::MAX)) as u32)
}
