//! Counts what a file declares before anything compiles it.
//!
//! Compiling untrusted code is not covered by wasmtime's promises, and a small file can declare much. The counts here
//! are far above what the largest honest plugins have (Python: 30,000 functions; StarlingMonkey: 20,000).

use wasmparser::{Parser, Payload};

use super::plugin::PluginError;

/// Functions of all modules of a file together.
const FUNCTIONS_MAX: u64 = 200_000;
/// Bytes of one function's body.
const FUNCTION_BYTES_MAX: u64 = 4 << 20;
/// Locals of one function: the compiler's work and memory grow with each.
const LOCALS_MAX: u64 = 50_000;
/// Types, imports, exports, globals, tables, memories, data and element segments, each.
const ITEMS_MAX: u64 = 100_000;
/// Modules and components inside a component, at any depth.
const NESTED_MAX: u64 = 1_000;
/// How deep they are inside one another: those of the toolchains two, composed ones some more.
const DEPTH_MAX: u64 = 32;

/// Refuses what declares more than any honest plugin.
pub(super) fn check(bytes: &[u8]) -> Result<(), PluginError> {
    let (mut functions, mut nested, mut depth) = (0_u64, 0_u64, 0_u64);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        match &payload {
            Payload::CodeSectionStart { count, .. } => {
                functions += u64::from(*count);
                at_most("functions", functions, FUNCTIONS_MAX)?;
            }
            Payload::CodeSectionEntry(body) => function(body)?,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                nested += 1;
                at_most("nested modules", nested, NESTED_MAX)?;
                depth += 1;
                at_most("modules inside one another", depth, DEPTH_MAX)?;
            }
            // The last one is the file's own.
            Payload::End(_) => depth = depth.saturating_sub(1),
            other => {
                if let Some((what, count)) = items(other) {
                    at_most(what, u64::from(count), ITEMS_MAX)?;
                }
            }
        }
    }
    Ok(())
}

fn function(body: &wasmparser::FunctionBody<'_>) -> Result<(), PluginError> {
    let range = body.range();
    at_most("bytes in one function", (range.end - range.start) as u64, FUNCTION_BYTES_MAX)?;
    let mut locals = 0_u64;
    for group in body.get_locals_reader().map_err(invalid)? {
        locals += u64::from(group.map_err(invalid)?.0);
        at_most("locals in one function", locals, LOCALS_MAX)?;
    }
    Ok(())
}

fn items(payload: &Payload<'_>) -> Option<(&'static str, u32)> {
    Some(match payload {
        Payload::TypeSection(s) => ("types", s.count()),
        Payload::ImportSection(s) => ("imports", s.count()),
        Payload::ExportSection(s) => ("exports", s.count()),
        Payload::GlobalSection(s) => ("globals", s.count()),
        Payload::TableSection(s) => ("tables", s.count()),
        Payload::MemorySection(s) => ("memories", s.count()),
        Payload::DataSection(s) => ("data segments", s.count()),
        Payload::ElementSection(s) => ("element segments", s.count()),
        Payload::InstanceSection(s) => ("instances", s.count()),
        Payload::ComponentTypeSection(s) => ("component types", s.count()),
        Payload::ComponentInstanceSection(s) => ("component instances", s.count()),
        _ => return None,
    })
}

fn at_most(what: &'static str, count: u64, max: u64) -> Result<(), PluginError> {
    if count > max { Err(PluginError::TooMany { what, count, max }) } else { Ok(()) }
}

fn invalid(error: wasmparser::BinaryReaderError) -> PluginError {
    let offset = error.offset();
    let message = error.message().to_owned();
    // Out of input where more was announced: the file is half there.
    if message.contains("unexpected end") {
        PluginError::Cut { offset, message }
    } else {
        PluginError::Invalid { message: format!("{message} (at byte {offset})") }
    }
}
