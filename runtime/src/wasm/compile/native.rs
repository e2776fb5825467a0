//! Native code from bytes: the one `unsafe` of this project.
//!
//! Bytes that are not what the compiler wrote would be run as they are, so an [`Artefact`] can be had in two ways only:
//! from the child that compiled, over a pipe that nobody else has, and from the cache, once its authentication code was
//! found right. It is held in memory from there to here, so that nobody changes it in between.

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::Compiled;
use crate::wasm::plugin::Flavour;

/// What the compiler wrote. Whoever makes one says that it is.
pub(super) struct Artefact(Vec<u8>);

impl Artefact {
    /// What the child answered.
    pub(super) fn of_child(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What the cache had, authenticated.
    pub(super) fn of_cache(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Makes runnable code of an artefact. wasmtime itself refuses one of another version or other settings.
#[expect(unsafe_code, reason = "compiled code can be kept, and moved between processes, in no other way")]
pub(super) fn load(engine: &Engine, flavour: Flavour, artefact: &Artefact) -> wasmtime::Result<Compiled> {
    match flavour {
        // SAFETY: an `Artefact` is what `Engine::precompile_component` wrote, as its two makers see to.
        Flavour::Component => unsafe { Component::deserialize(engine, artefact.bytes()) }.map(Compiled::Component),
        // SAFETY: the same of `Engine::precompile_module`.
        Flavour::Command => unsafe { Module::deserialize(engine, artefact.bytes()) }.map(Compiled::Module),
    }
}
