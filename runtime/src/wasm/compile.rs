//! Makes native code of plugins.
//!
//! Compiling code that nobody vouches for is not covered by wasmtime's promises: it may take any time and memory, or find
//! a bug. So it is done by a child, the same program under [`child::VERB`], which has limits of its own and can be
//! killed; [`ask`] starts it and [`child`] is what it does. What it answers is kept in the [`cache`]. Nothing else makes
//! native code, and [`native`] alone turns such bytes into code that runs.
//!
//! It deliberately decides nothing about whose turn it is: that is `turns`'s business.

mod ask;
pub mod cache;
pub mod child;
pub mod figures;
mod native;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use self::cache::Name;
use super::plugin::{Flavour, PluginError, chain};
use super::spawn::Host;

/// Where plugins are compiled.
#[derive(Debug, Clone, Default)]
pub enum Compiler {
    /// In this process: for tests, benches and whoever trusts every plugin.
    #[default]
    Here,
    /// In a child that can be killed.
    Child {
        /// A program that compiles when it is called with [`child::VERB`]: this one.
        program: PathBuf,
        /// What it may take.
        limits: CompileLimits,
    },
}

/// What compiling one plugin may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileLimits {
    /// Wall clock, and processor time. Default: 120 s; the slowest honest plugins, those in Python, take 25 s.
    pub time: Duration,
    /// Address space. Default: 2 GiB; the largest honest plugins take 400 MB of memory.
    pub memory_bytes: u64,
    /// Native code. Default: 256 MiB; it has three to five times the size of the plugin.
    pub code_bytes: u64,
}

/// Set when nobody waits for what is being compiled any more.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

/// Code that can be linked.
pub(super) enum Compiled {
    Component(Component),
    Module(Module),
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(120), memory_bytes: 2 << 30, code_bytes: 256 << 20 }
    }
}

impl Stop {
    /// Ends what is being compiled, and whatever would be.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What was compiled of these bytes before, if that is still there.
pub(super) fn cached(host: &Host, flavour: Flavour, digest: &str) -> Option<Compiled> {
    let cache = host.cache()?;
    let name = name(host, flavour, digest);
    let artefact = cache.get(&name)?;
    match native::load(host.engine(), flavour, &artefact) {
        Ok(compiled) => {
            host.compile_counters().hit();
            Some(compiled)
        }
        Err(error) => {
            // It is what we wrote, so this program or this machine has changed in a way that its name does not say.
            cache.remove(&name, &chain(&error));
            None
        }
    }
}

/// Compiles bytes that passed every check. Takes up to minutes.
pub(super) fn compile(
    host: &Host,
    flavour: Flavour,
    digest: &str,
    bytes: &[u8],
    stop: &Stop,
) -> Result<Compiled, PluginError> {
    let began = Instant::now();
    let compiled = compile_anew(host, flavour, digest, bytes, stop);
    host.compile_counters().compiled(began.elapsed());
    compiled
}

fn compile_anew(
    host: &Host,
    flavour: Flavour,
    digest: &str,
    bytes: &[u8],
    stop: &Stop,
) -> Result<Compiled, PluginError> {
    let invalid = |error: wasmtime::Error| PluginError::Invalid { message: chain(&error) };
    match host.compiler() {
        Compiler::Here => here(host.engine(), flavour, bytes).map_err(invalid),
        Compiler::Child { program, limits } => {
            let artefact = {
                let _one = host.compiling();
                ask::compile(program, limits, host.fingerprint(), flavour, bytes, stop)?
            };
            if let Some(cache) = host.cache() {
                cache.put(&name(host, flavour, digest), &artefact);
            }
            native::load(host.engine(), flavour, &artefact)
                .map_err(|error| PluginError::CompilerFailed { message: chain(&error) })
        }
    }
}

fn here(engine: &Engine, flavour: Flavour, bytes: &[u8]) -> wasmtime::Result<Compiled> {
    match flavour {
        Flavour::Component => Component::from_binary(engine, bytes).map(Compiled::Component),
        Flavour::Command => Module::from_binary(engine, bytes).map(Compiled::Module),
    }
}

fn name(host: &Host, flavour: Flavour, digest: &str) -> Name {
    Name::new(digest, flavour, host.fingerprint())
}
