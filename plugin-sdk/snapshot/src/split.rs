//! The same component without its memory: it asks for a module `image` that brings one, and has the module that it was made
//! with in a section of its own. So one compiled component serves many memories, each of which is a module without code.
//!
//! It knows what `componentize` makes: all modules come before all instances, the first of them is the guest, and no core types
//! are declared.

use std::borrow::Cow;

use wasm_encoder::reencode::{Reencode, ReencodeComponent, RoundtripReencoder};
use wasm_encoder::{
    Component, ComponentAliasSection, ComponentImportSection, ComponentSectionId, ComponentTypeRef, CoreTypeSection,
    CustomSection, EntityType, ExportKind, ExportSection, ImportSection, InstanceSection, MemorySection, MemoryType,
    Module, ModuleArg, ModuleType, RawSection,
};
use wasmparser::{BinaryReader, Instance, Parser, Payload};

use super::Error;

/// How the module is asked for, the memory in it is called, and the section is called that has the module.
pub const IMAGE: &str = "image";
const MEMORY: &str = "memory";

/// The component that asks for its memory.
///
/// # Errors
/// It cannot be read, or its first module has no memory.
pub fn split(component: &[u8]) -> Result<Vec<u8>, Error> {
    let sections = sections(component)?;
    let modules = sections.iter().filter(|(id, _)| *id == ComponentSectionId::CoreModule as u8).count();
    let mut made = Component::new();
    let (mut seen, mut image) = (0, None);
    let mut shifted = Shifted;
    for (id, bytes) in sections {
        if id == ComponentSectionId::CoreModule as u8 {
            let code = match seen {
                0 => {
                    let (code, memory) = apart(bytes)?;
                    image = Some(memory);
                    Cow::Owned(code)
                }
                _ => Cow::Borrowed(bytes),
            };
            made.section(&wasm_encoder::RawSection { id, data: &code });
            seen += 1;
            if seen == modules {
                ask(&mut made, modules);
            }
        } else if id == ComponentSectionId::CoreInstance as u8 {
            let mut new = InstanceSection::new();
            for instance in wasmparser::InstanceSectionReader::new(BinaryReader::new(bytes, 0))? {
                given(&mut shifted, &mut new, instance?);
            }
            made.section(&new);
        } else if id == ComponentSectionId::Alias as u8 {
            let mut new = ComponentAliasSection::new();
            for alias in wasmparser::ComponentAliasSectionReader::new(BinaryReader::new(bytes, 0))? {
                new.alias(shifted.component_alias(alias?).expect("aliases stay what they are"));
            }
            made.section(&new);
        } else if id != ComponentSectionId::CoreCustom as u8 {
            // Names of instances would be those of others.
            made.section(&RawSection { id, data: bytes });
        }
    }
    let image = image.ok_or(Error::NoMemory)?;
    made.section(&CustomSection { name: IMAGE.into(), data: image.into() });
    Ok(made.finish())
}

/// Sections of a component, with their numbers.
fn sections(component: &[u8]) -> Result<Vec<(u8, &[u8])>, Error> {
    let mut reader = BinaryReader::new(component, 0);
    reader.read_bytes(8)?;
    let mut sections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()? as usize;
        sections.push((id, reader.read_bytes(length)?));
    }
    Ok(sections)
}

/// The first instance is the memory's; all others have one more before them.
struct Shifted;

impl Reencode for Shifted {
    type Error = std::convert::Infallible;
}

impl ReencodeComponent for Shifted {
    fn instance_index(&mut self, index: u32) -> u32 {
        index + 1
    }
}

/// Asks for the module, whose number is `modules`, and makes the first instance of it.
fn ask(made: &mut Component, modules: usize) {
    let mut ty = ModuleType::new();
    ty.export(MEMORY, EntityType::Memory(memory_type(0)));
    let mut types = CoreTypeSection::new();
    types.ty().module(&ty);
    let mut imports = ComponentImportSection::new();
    imports.import(IMAGE, ComponentTypeRef::Module(0));
    let mut instances = InstanceSection::new();
    let nothing: [(&str, ModuleArg); 0] = [];
    instances.instantiate(u32::try_from(modules).expect("there are few"), nothing);
    made.section(&types).section(&imports).section(&instances);
}

/// The guest gets the memory beside what it has.
fn given(shifted: &mut Shifted, new: &mut InstanceSection, instance: Instance<'_>) {
    match instance {
        Instance::Instantiate { module_index: 0, args } => {
            let args = args.iter().map(|arg| (arg.name, ModuleArg::Instance(shifted.instance_index(arg.index))));
            new.instantiate(0, args.chain([(IMAGE, ModuleArg::Instance(0))]).collect::<Vec<_>>());
        }
        other => shifted.parse_instance(new, other).expect("instances stay what they are"),
    }
}

fn memory_type(minimum: u64) -> MemoryType {
    MemoryType { minimum, maximum: None, memory64: false, shared: false, page_size_log2: None }
}

/// The module with a memory of another one, and that other one.
fn apart(module: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let (mut code, mut image, mut has_memory) = (Module::new(), Module::new(), false);
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        match &payload {
            Payload::ImportSection(section) => {
                let mut imports = ImportSection::new();
                RoundtripReencoder
                    .parse_import_section(&mut imports, section.clone())
                    .expect("imports stay what they are");
                imports.import(IMAGE, MEMORY, EntityType::Memory(memory_type(0)));
                code.section(&imports);
            }
            Payload::MemorySection(section) => {
                let pages = section.clone().into_iter().next().ok_or(Error::NoMemory)??.initial;
                let mut memories = MemorySection::new();
                memories.memory(memory_type(pages));
                let mut exports = ExportSection::new();
                exports.export(MEMORY, ExportKind::Memory, 0);
                image.section(&memories).section(&exports);
                has_memory = true;
            }
            Payload::DataSection(_) => {
                let (id, range) = payload.as_section().expect("it is one");
                image.section(&RawSection { id, data: &module[range] });
            }
            Payload::DataCountSection { .. } => {}
            _ => {
                if let Some((id, range)) = payload.as_section() {
                    code.section(&RawSection { id, data: &module[range] });
                }
            }
        }
    }
    if has_memory { Ok((code.finish(), image.finish())) } else { Err(Error::NoMemory) }
}
