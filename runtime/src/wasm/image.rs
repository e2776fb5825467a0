//! Memories that instances of the engine of scripts begin with.
//!
//! The engine's component asks for a module `image` that brings its memory, and has one in a section of that name: the memory of
//! an engine that no script has seen. When a script is loaded, it is evaluated once on that, and the engine hands over
//! what its memory is then ([`Kept`]); a module of it is made, and every run begins there ([`evaluated`]). So the engine is compiled once
//! for all scripts, and no run parses its script again. An image is data: one with code in it is refused. All images together
//! have a bound; the scripts behind it are evaluated by each of their runs.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use wasm_encoder::{ConstExpr, DataSection, ExportKind, ExportSection, MemorySection, MemoryType};
use wasmparser::{Parser, Payload};
use wasmtime::component::{Component, InstancePre};
use wasmtime::{Module, StoreContextMut};

use super::exports::Exports;
use super::gate;
use super::guest::Guest;
use super::plugin::{Plugin, PluginError, chain};
use super::spawn::Host;

/// How the module is asked for, and the section that has the first one.
const IMAGE: &str = "image";
/// Where an engine hands its memory over.
const HANDS_OVER: &str = "runner:engine/image@0.1.0";
/// What a component may import that asks for an image.
pub(super) const OFFERED: [&str; 2] = [IMAGE, HANDS_OVER];
/// What is larger would be copied into each instance instead of being shared by all.
const IMAGE_BYTES_MAX: usize = 16 << 20;
/// Pieces of one: the engine hands its memory over in a few.
const PIECES_MAX: usize = 1_024;
/// WebAssembly's page, and how finely is looked for what is not zero: the system's page.
const PAGE_BYTES: usize = 64 << 10;
const STEP_BYTES: usize = 4 << 10;

/// Pieces of its memory that an engine handed over.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(u32, Vec<u8>)>);

impl Kept {
    /// Whether another piece is not too much.
    fn take(&mut self, at: u32, piece: Vec<u8>) -> bool {
        self.0.push((at, piece));
        self.0.len() <= PIECES_MAX && self.0.iter().map(|(_, piece)| piece.len()).sum::<usize>() <= IMAGE_BYTES_MAX
    }
}

/// The image that a component has with it.
///
/// # Errors
/// It is no module, or has more than a memory.
pub(super) fn brought(host: &Host, component: &[u8]) -> Result<Option<Module>, PluginError> {
    let Some(image) = section(component) else { return Ok(None) };
    gate::check(image)?;
    let invalid = |message: String| PluginError::Invalid { message };
    for payload in Parser::new(0).parse_all(image) {
        match payload.map_err(|error| invalid(error.to_string()))? {
            Payload::Version { .. }
            | Payload::MemorySection(_)
            | Payload::ExportSection(_)
            | Payload::DataSection(_)
            | Payload::End(_) => {}
            _ => return Err(invalid(format!("its section `{IMAGE}` has more in it than a memory"))),
        }
    }
    compiled(host, image).map(Some).map_err(|error| invalid(chain(&error)))
}

/// The last section of that name: they stand at the end.
fn section(component: &[u8]) -> Option<&[u8]> {
    let mut reader = wasmparser::BinaryReader::new(component, 0);
    reader.read_bytes(8).ok()?;
    let mut found = None;
    while !reader.eof() {
        let id = reader.read_u8().ok()?;
        let length = reader.read_var_u32().ok()? as usize;
        let bytes = reader.read_bytes(length).ok()?;
        if id == 0 {
            let mut custom = wasmparser::BinaryReader::new(bytes, 0);
            if custom.read_string().is_ok_and(|name| name == IMAGE) {
                found = custom.read_bytes(custom.bytes_remaining()).ok();
            }
        }
    }
    found
}

/// There is no code in it, so this takes no longer than copying it.
fn compiled(host: &Host, image: &[u8]) -> wasmtime::Result<Module> {
    Module::new(host.engine(), image)
}

/// A component whose instances begin with this image.
pub(super) fn linked(host: &Host, component: &Component, image: &Module) -> wasmtime::Result<InstancePre<Guest>> {
    let mut linker = host.component_linker().clone();
    linker.root().module(IMAGE, image)?;
    let keep = |mut store: StoreContextMut<'_, Guest>, (at, piece): (u32, Vec<u8>)| {
        let image = &mut store.data_mut().image;
        if let Some(kept) = image
            && !kept.take(at, piece)
        {
            *image = None;
        }
        Ok(())
    };
    linker.instance(HANDS_OVER)?.func_wrap("keep", keep)?;
    linker.instantiate_pre(component)
}

/// What the runs of a script begin with that was evaluated, and the room of its image.
pub(super) struct Evaluated {
    pub(super) exports: Exports,
    _room: OwnedSemaphorePermit,
}

/// Has a plugin's script evaluated, once for all its runs: what they begin with then. None: each run evaluates it.
pub(super) fn evaluated(host: &Host, plugin: &Plugin) -> Option<Evaluated> {
    let exports = plugin.exports()?;
    let image = encoded(&host.evaluate(plugin))?;
    let each_run = |why: &str| tracing::warn!(plugin = plugin.name(), "every run evaluates its script: {why}");
    let kib = u32::try_from(image.len().div_ceil(1024)).unwrap_or(u32::MAX);
    let Ok(room) = Arc::clone(host.images()).try_acquire_many_owned(kib) else {
        each_run("the scripts that were loaded before take what memory there is for that");
        return None;
    };
    match compiled(host, &image).and_then(|image| linked(host, exports.pre.component(), &image)) {
        Ok(pre) => Some(Evaluated { exports: Exports::of(pre), _room: room }),
        Err(error) => {
            each_run(&chain(&error));
            None
        }
    }
}

/// A module of what was handed over; none: nothing was.
fn encoded(kept: &Kept) -> Option<Vec<u8>> {
    let Kept(pieces) = kept;
    let end = pieces.iter().map(|(at, piece)| *at as usize + piece.len()).max()?;
    let mut memories = MemorySection::new();
    let minimum = end.div_ceil(PAGE_BYTES) as u64;
    memories.memory(MemoryType { minimum, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    let mut data = DataSection::new();
    for (at, piece) in pieces {
        for (from, bytes) in filled(piece) {
            let at = at.wrapping_add(u32::try_from(from).unwrap_or(u32::MAX));
            data.active(0, &ConstExpr::i32_const(at.cast_signed()), bytes.iter().copied());
        }
    }
    let mut image = wasm_encoder::Module::new();
    image.section(&memories).section(&exports).section(&data);
    Some(image.finish())
}

/// The parts of a piece that are not zero.
fn filled(piece: &[u8]) -> Vec<(usize, &[u8])> {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for (n, step) in piece.chunks(STEP_BYTES).enumerate() {
        if step.iter().all(|byte| *byte == 0) {
            continue;
        }
        let (from, to) = (n * STEP_BYTES, n * STEP_BYTES + step.len());
        match parts.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => parts.push((from, to)),
        }
    }
    parts.into_iter().map(|(from, to)| (from, &piece[from..to])).collect()
}
