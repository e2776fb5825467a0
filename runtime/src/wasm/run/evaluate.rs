//! Evaluating a script when it is loaded, so that its runs begin behind that.

use wasmtime::component::ComponentExportIndex;

use tokio::time::Instant;

use super::Means;
use super::aside::{Aside, Said, ask};
use super::call::instance;
use super::policy::{ADVICE_FUEL, DESCRIBE_TIME};
use crate::wasm::exports::Exports;
use crate::wasm::host::Role;
use crate::wasm::image::Kept;
use crate::wasm::limits::Limits;
use crate::wasm::plugin::Plugin;
use crate::wasm::script::Script;

/// What the engine hands over once it has evaluated the script. Nothing, if the script cannot be evaluated, asks for the time
/// or for chance, or writes something: every run of it does that again.
pub(in crate::wasm) async fn evaluate(
    means: Means<'_>,
    plugin: &Plugin,
    (exports, evaluate): (&Exports, ComponentExportIndex),
    script: &Script,
) -> Kept {
    let limits = Limits { fuel: Some(ADVICE_FUEL), ..plugin.own_limits() };
    let deadline = Instant::now() + DESCRIBE_TIME;
    let aside = Aside::new(means, (Role::Advice, plugin.advice_grants(), limits), deadline);
    let said = ask!(aside, store => {
        store.data_mut().image = Some(Kept::default());
        let instance = instance(store, exports).await?;
        let evaluate = instance.get_typed_func::<(&str, &str), ()>(&mut *store, evaluate)?;
        evaluate.call_async(&mut *store, (script.file(), script.text())).await?;
        Ok(store.data_mut().image.take().unwrap_or_default())
    });
    said.answer.unwrap_or_else(|broken| {
        tracing::debug!(plugin = plugin.name(), "its script is evaluated by every run: {}", Said::<()>::why(&broken));
        Kept::default()
    })
}
