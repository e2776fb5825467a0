//! The engine of bare scripts: a plugin that runs `NAME.js` of a plugin folder as a handler.
//!
//! The runner calls it as any other plugin, with the script in the job's `meta` (`script`, `script-name`). A script is a module
//! whose default export is the handler, `(args, cx) => value`; `../../prelude.js` is what it finds beside the language. What goes wrong
//! carries the script's line.
//!
//! It deliberately offers no modules to import, no timers and no files: what a script may do is what its manifest asks for.

mod calls;
mod script;

use boa_engine::{Context, JsValue};

use self::script::{Ended, Script};
use crate::exports::runner::plugin::handler::Guest;
use crate::runner::plugin::types::{Failure, Job, Retry, Snooze};

wit_bindgen::generate!({ path: "../../wit", world: "plugin" });

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
        run(&job, Script { name, source })
    }
}

export!(Engine);

fn run(job: &Job, script: Script<'_>) -> Result<Vec<u8>, Failure> {
    let mut context = Context::default();
    script.run(job, &mut context).map_err(|ended| match ended {
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
