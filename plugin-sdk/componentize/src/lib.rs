//! Makes a component of a core module that follows the contract.
//!
//! C compilers and Go make core modules. What they lack is a description of their types and a wrapper; both follow from the
//! contract, which is within this library. The module exports `runner:plugin/handler@0.1.0#handle` and `cabi_realloc`, as
//! the SDKs see to, and may use WASI 0.1, which an adapter turns into 0.2. It does nothing to the module's code.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract that the module is to follow.
const CONTRACT: &str = include_str!("../../wit/plugin.wit");
/// The export without which there is no plugin.
const HANDLER: &str = "runner:plugin/handler@0.1.0#handle";
const WASI: &str = "wasi_snapshot_preview1";

/// Why a module became no component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The contract has no such world.
    #[error("the contract has no world `{0}`; `runner plugin wit` prints those that it has")]
    World(String),
    /// The module does not export the handler.
    #[error(
        "the module does not export `{HANDLER}`: build it with the SDK of its language, as a library and not as a program"
    )]
    NoHandler,
    /// The module imports or exports what the contract does not know, or is broken.
    #[error("the module does not fit the contract: {0}")]
    Misfit(String),
}

/// The component that a module is in a world of the contract, usually `plugin`.
///
/// # Errors
/// There is no such world, or the module does not fit it.
pub fn component(module: &[u8], world: &str) -> Result<Vec<u8>, Error> {
    let mut module = module.to_vec();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", CONTRACT).expect("the contract is well formed: its tests read it");
    let found = resolve.select_world(&[package], Some(world)).map_err(|_| Error::World(world.to_owned()))?;
    if world == "plugin" && !contains(&module, HANDLER.as_bytes()) {
        return Err(Error::NoHandler);
    }
    let misfit = |why: String| Error::Misfit(why);
    embed_component_metadata(&mut module, &resolve, found, StringEncoding::UTF8)
        .map_err(|error| misfit(format!("{error:#}")))?;
    let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
    ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.validate(true).adapter(WASI, adapter))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| misfit(format!("{error:#}")))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
