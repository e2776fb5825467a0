//! The engine of bare scripts: a plugin that runs `NAME.js` of a plugin folder as a handler.
//!
//! The runner calls it as any other plugin, with the script in the job's `meta` (`script`, `script-name`). A script is a module
//! whose default export is the handler, `(args, cx) => value`; `../../prelude.js` is what it finds beside the language. What goes wrong
//! carries the script's line.
//!
//! Making a context – the language's own objects, and the prelude – takes longer than most scripts. So `plugins/build` has it done
//! once: it calls [`prepare`] and keeps the memory as it is then (`plugin-sdk/snapshot`), and every instance begins with
//! a context that no script has seen. An instance that is kept makes another one for its next run.
//!
//! It deliberately offers no modules to import, no timers and no files: what a script may do is what its manifest asks for.

mod calls;
mod json;
mod script;

use std::cell::RefCell;

use boa_engine::JsValue;

use self::script::{Ended, Ready, Script};
use crate::exports::runner::plugin::handler::Guest;
use crate::runner::plugin::types::{Failure, Job, Retry, Snooze};

wit_bindgen::generate!({ path: "../../wit", world: "plugin" });

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

impl Guest for Engine {
    fn handle(job: Job) -> Result<Vec<u8>, Failure> {
        let meta = |wanted: &str| job.meta.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str());
        let Some(source) = meta("script") else {
            return Err(Failure::Discard(
                "this plugin runs scripts: put NAME.js beside it into the plugin folder".to_owned(),
            ));
        };
        let name = meta("script-name").unwrap_or("script.js");
        let script = Script { name, source };
        let mut ready = READY.take().filter(|ready| ready.is_for(&script)).unwrap_or_else(Ready::new);
        let answer = run(&job, script, &mut ready);
        // Nothing is taken apart: that would take longer than the script, and the instance goes with its memory.
        READY.set(Some(ready));
        answer
    }
}

export!(Engine);

fn run(job: &Job, script: Script<'_>, ready: &mut Ready) -> Result<Vec<u8>, Failure> {
    script.run(job, ready).map_err(|ended| match ended {
        Ended::Retry { why, after_ms } => Failure::Retry(Retry { message: why, after_ms }),
        Ended::Discard { why } => Failure::Discard(why),
        Ended::Snooze { why, after_ms } => {
            Failure::Snooze(Snooze { after_ms, reason: Some(why).filter(|why| !why.is_empty()) })
        }
    })
}

/// Milliseconds of the contract, of any number; none of what is no number.
fn millis(value: &JsValue) -> Option<u32> {
    value.as_number().filter(|ms| !ms.is_nan()).map(|ms| ms.clamp(0.0, f64::from(u32::MAX)) as u32)
}
