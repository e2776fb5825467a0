//! The same module with another memory: data and the memory's size are new, two exports are gone, everything else is copied.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    ConstExpr, DataCountSection, DataSection, ExportSection, MemorySection, MemoryType, Module, RawSection,
};
use wasmparser::{DataKind, DataSectionReader, GlobalSectionReader, Parser, Payload};

use super::Error;

/// WebAssembly's page.
const PAGE_BYTES: usize = 64 << 10;
/// So many zeros end a piece of data: fewer cost less than beginning another.
const ZEROS_BETWEEN: usize = 64;

/// The module with this memory from the beginning, without these exports.
pub(super) fn with_memory(module: &[u8], memory: &[u8], without: &[&str]) -> Result<Vec<u8>, Error> {
    let pieces = pieces(memory);
    let count = u32::try_from(pieces.len()).expect("a memory has less than 2^32 pieces");
    let mut made = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        match &payload {
            Payload::MemorySection(section) => {
                let mut new = MemorySection::new();
                for ty in section.clone() {
                    let ty = RoundtripReencoder.memory_type(ty?).expect("memories of 32 bits stay what they are");
                    new.memory(MemoryType { minimum: (memory.len() / PAGE_BYTES) as u64, ..ty });
                }
                made.section(&new);
            }
            Payload::ExportSection(section) => {
                let mut new = ExportSection::new();
                for export in section.clone() {
                    let export = export?;
                    if !without.contains(&export.name) {
                        let kind =
                            RoundtripReencoder.export_kind(export.kind).expect("kinds of exports stay what they are");
                        new.export(export.name, kind, export.index);
                    }
                }
                made.section(&new);
            }
            Payload::GlobalSection(section) => {
                check_globals(section.clone())?;
                copy(&mut made, module, &payload);
            }
            Payload::DataCountSection { .. } => {
                made.section(&DataCountSection { count });
            }
            Payload::DataSection(section) => {
                check_data(section.clone())?;
                let mut new = DataSection::new();
                for (at, bytes) in &pieces {
                    let offset = ConstExpr::i32_const(*at as i32);
                    new.active(0, &offset, bytes.iter().copied());
                }
                made.section(&new);
            }
            // It has been called.
            Payload::StartSection { .. } => {}
            _ => copy(&mut made, module, &payload),
        }
    }
    Ok(made.finish())
}

fn copy(made: &mut Module, module: &[u8], payload: &Payload<'_>) {
    if let Some((id, range)) = payload.as_section() {
        made.section(&RawSection { id, data: &module[range] });
    }
}

/// The stack's pointer is where it was, once a function has returned.
fn check_globals(section: GlobalSectionReader<'_>) -> Result<(), Error> {
    let mut mutable = 0;
    for global in section {
        mutable += usize::from(global?.ty.mutable);
    }
    if mutable > 1 { Err(Error::State("it has more than one global that may change")) } else { Ok(()) }
}

fn check_data(section: DataSectionReader<'_>) -> Result<(), Error> {
    for data in section {
        if !matches!(data?.kind, DataKind::Active { memory_index: 0, .. }) {
            return Err(Error::State("it has data that is copied when it runs"));
        }
    }
    Ok(())
}

/// What is not zero, with its place.
fn pieces(memory: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces: Vec<(usize, &[u8])> = Vec::new();
    let mut at = 0;
    while let Some(begin) = memory[at..].iter().position(|byte| *byte != 0).map(|zeros| at + zeros) {
        let mut end = begin + 1;
        let mut last = begin;
        while end < memory.len() && end - last <= ZEROS_BETWEEN {
            if memory[end] != 0 {
                last = end;
            }
            end += 1;
        }
        pieces.push((begin, &memory[begin..=last]));
        at = last + 1;
    }
    pieces
}
