//! Why a file is no plugin, in sentences for whoever put it there.

use std::time::Duration;

use crate::wasm::script::ENGINE_FILE;

/// Why a file is no plugin: what is wrong and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's text is its documentation")]
pub enum PluginError {
    #[error("the file is empty; build or copy it again")]
    Empty,
    #[error("the file ends within its first 8 bytes; build or copy it again")]
    Truncated,
    #[error("the file ends too early, at byte {offset} ({message}); build or copy it again")]
    Cut { offset: usize, message: String },
    #[error("the file is not WebAssembly but {found}; put the `.wasm` file that your toolchain builds here")]
    NotWasm { found: &'static str },
    #[error(
        "the file is WebAssembly precompiled to native code, which is never loaded as it cannot be checked; \
         put the `.wasm` file here that it was made from"
    )]
    Precompiled,
    #[error("the file's WebAssembly version is {version}; known are a component (0d000100) and a module (01000000)")]
    UnknownVersion { version: String },
    #[error("the file has {size_bytes} bytes, at most {max} are loaded; build with optimisation for size, or strip it")]
    TooLarge { size_bytes: u64, max: u64 },
    #[error("it declares {count} {what}, at most {max} are compiled")]
    TooMany { what: &'static str, count: u64, max: u64 },
    #[error("it is not valid WebAssembly for this runner: {message}")]
    Invalid { message: String },
    #[error("it imports what the runner does not offer: {}", names.join(", "))]
    UnknownImports { names: Vec<String> },
    #[error("it does not export {}; {hint}", names.join(", "))]
    MissingExports { names: Vec<String>, hint: &'static str },
    #[error(
        "it is built for {found}, this runner serves version {served}; build it with the contract that `runner plugin wit` prints"
    )]
    ContractVersion { found: String, served: &'static str },
    #[error("it cannot be linked: {message}")]
    Link { message: String },
    #[error("its manifest pins sha256 {pinned}, but the file has {found}; put the pinned file here or change the pin")]
    Digest { pinned: String, found: String },
    #[error("its manifest asks for what it does not export: {message}")]
    Manifest { message: String },
    #[error("its name is not allowed: {problem}; rename the file")]
    Name { problem: String },
    #[error(
        "compiling it takes more than {} s, where the slowest honest plugins, those in Python, take 25; \
         look for one huge function, or for generated code, and build it anew", limit.as_secs_f64()
    )]
    CompileTime { limit: Duration },
    #[error(
        "the process that compiled it was {how}, as when it needs more than its {} MiB of memory, or nests too deeply; \
         look for generated code, and build it anew", memory_bytes >> 20
    )]
    CompilerDied { how: String, memory_bytes: u64 },
    #[error("its native code would have more than {} MiB; build it with optimisation for size", max >> 20)]
    CodeTooLarge { max: u64 },
    #[error("it could not be compiled, for no fault of its own: {message}; start the runner again")]
    CompilerFailed { message: String },
    #[error(
        "it is a script, and the engine that runs scripts, `{ENGINE_FILE}`, is not in the plugin folder: `plugins/build` \
         makes it and puts it into plugins/dist; copy it from there"
    )]
    NoEngine,
    #[error("it is a script but no UTF-8 text: byte {at} is wrong; save it as UTF-8")]
    ScriptText { at: usize },
    #[error("compiling it was stopped, as the runner stops")]
    CompileStopped,
}
