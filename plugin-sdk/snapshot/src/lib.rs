//! Calls a function of a core module once, and makes a module that begins with the memory as it is then; takes the memory out
//! of the component that is made of it ([`split`]), so that one component can begin with many.
//!
//! What takes an instance long to prepare – an interpreter's own objects – is prepared when the plugin is built. The function
//! may compute and take memory; it must not call the runner, as there is none, and what it asks of WASI (random bytes, the time, the
//! environment) is zero. Only the memory is kept: a module with more state than that (tables that change, globals
//! beside the stack's pointer) is refused or must leave it as it was, which is how compilers of C and Rust do it.

mod prepare;
mod rewrite;
mod split;

pub use self::split::{IMAGE, split};

/// What libraries call first; it has been called, and the new module has it no more.
const INITIALIZE: &str = "_initialize";

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no module that can be read.
    #[error("it is no core module: {0}")]
    Module(#[from] wasmparser::BinaryReaderError),
    /// It cannot be run.
    #[error("it does not run: {0}")]
    Run(#[from] wasmi::Error),
    /// It has no such function.
    #[error("it exports no function `{0}` without parameters and results")]
    NoFunction(String),
    /// It has no memory of its own.
    #[error("it exports no memory")]
    NoMemory,
    /// It imports what is not a function.
    #[error("it imports `{0}`, which is no function")]
    Import(String),
    /// It has state that would be lost.
    #[error("{0}, which a snapshot of the memory would lose")]
    State(&'static str),
}

/// The module that begins where `function`, called in `module`, has ended. The new one exports it no more.
///
/// # Errors
/// It cannot be read or run, there is no such function, or it has state beside its memory.
pub fn snapshot(module: &[u8], function: &str) -> Result<Vec<u8>, Error> {
    let memory = prepare::memory_after(module, function)?;
    rewrite::with_memory(module, &memory, &[INITIALIZE, function])
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: &str = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "runner:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
        (memory (export "memory") 1)
        (global $stack (mut i32) (i32.const 65536))
        (data (i32.const 8) "once")
        (func (export "_initialize") (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))))
        (func (export "prepare")
          (drop (call $random (i32.const 8) (i32.const 2)))
          (drop (memory.grow (i32.const 1)))
          (i32.store (i32.const 70000) (i32.const 7)))
        (func (export "talks") (call $log (i32.const 0) (i32.const 0) (i32.const 0)))
        (func (export "seen") (result i32)
          (i32.add (i32.load (i32.const 0)) (i32.add (i32.load (i32.const 70000)) (i32.load8_u (i32.const 10))))))"#;

    #[test]
    fn a_snapshot_begins_where_the_function_ended() {
        let made = snapshot(&wat::parse_str(COUNTS).unwrap(), "prepare").unwrap();
        wasmparser::validate(&made).unwrap();
        let engine = wasmi::Engine::default();
        let module = wasmi::Module::new(&engine, &made).unwrap();
        let exports: Vec<&str> = module.exports().map(|export| export.name()).collect();
        assert_eq!(exports, ["memory", "seen", "talks"]);
        let mut store = wasmi::Store::new(&engine, ());
        let mut linker = wasmi::Linker::new(&engine);
        linker.func_wrap("wasi_snapshot_preview1", "random_get", |_: i32, _: i32| 0).unwrap();
        linker.func_wrap("runner:plugin/host@0.1.0", "log", |_: i32, _: i32, _: i32| ()).unwrap();
        let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
        let seen = instance.get_typed_func::<(), i32>(&store, "seen").unwrap();
        // It was initialised once, wrote behind its first page, and the random bytes over "on" are zero.
        assert_eq!(seen.call(&mut store, ()).unwrap(), 1 + 7 + i32::from(b'c'));
        let memory = instance.get_memory(&store, "memory").unwrap();
        assert_eq!((memory.size(&store), &memory.data(&store)[8..12]), (2, b"\0\0ce".as_slice()));
    }

    #[test]
    fn what_a_snapshot_would_lose_is_refused() {
        let says = |text: &str, function: &str| {
            snapshot(&wat::parse_str(text).unwrap(), function).expect_err("is refused").to_string()
        };
        assert!(says(COUNTS, "talks").contains("it calls `log` of `runner:plugin/host@0.1.0`"));
        assert!(says(COUNTS, "nothing").contains("exports no function `nothing`"));
        assert!(says(r#"(module (func (export "f")))"#, "f").contains("no memory"));
        let two = r#"(module (memory (export "memory") 1) (global (mut i32) (i32.const 0)) (global (mut i32) (i32.const 0))
            (func (export "f")))"#;
        assert!(says(two, "f").contains("more than one global"));
        let passive = r#"(module (memory (export "memory") 1) (data "x") (func (export "f")))"#;
        assert!(says(passive, "f").contains("copied when it runs"));
        assert!(snapshot(b"hello", "f").is_err());
    }

    const COMPONENT: &str = r#"(component
        (core module $guest
          (import "given" "nothing" (func))
          (memory (export "memory") 1)
          (data (i32.const 8) "once")
          (func (export "seen") (result i32) (i32.load8_u (i32.const 8))))
        (core module $shim (func (export "nothing")))
        (core instance $shims (instantiate $shim))
        (core instance $guests (instantiate $guest (with "given" (instance $shims))))
        (func (export "seen") (result u32) (canon lift (core func $guests "seen"))))"#;

    #[test]
    fn a_component_without_its_memory_asks_for_it_and_brings_it_along() {
        let made = split(&wat::parse_str(COMPONENT).unwrap()).unwrap();
        wasmparser::validate(&made).unwrap();
        let (mut asks, mut brings, mut modules) = (false, None, Vec::new());
        for payload in wasmparser::Parser::new(0).parse_all(&made) {
            match payload.unwrap() {
                wasmparser::Payload::ComponentImportSection(section) => {
                    asks |= section.into_iter().any(|import| import.unwrap().name.name == IMAGE);
                }
                wasmparser::Payload::CustomSection(section) if section.name() == IMAGE => brings = Some(section.data()),
                wasmparser::Payload::ModuleSection { unchecked_range, .. } => modules.push(&made[unchecked_range]),
                _ => {}
            }
        }
        assert!(asks);
        // What it brings is the memory, and the guest runs with it.
        let engine = wasmi::Engine::default();
        let mut linker = wasmi::Linker::new(&engine);
        let mut store = wasmi::Store::new(&engine, ());
        let image = wasmi::Module::new(&engine, brings.unwrap()).unwrap();
        let image = linker.instantiate_and_start(&mut store, &image).unwrap();
        linker.define(IMAGE, "memory", image.get_memory(&store, "memory").unwrap()).unwrap();
        linker.func_wrap("given", "nothing", || ()).unwrap();
        let guest = wasmi::Module::new(&engine, modules[0]).unwrap();
        let guest = linker.instantiate_and_start(&mut store, &guest).unwrap();
        let seen = guest.get_typed_func::<(), i32>(&store, "seen").unwrap();
        assert_eq!(seen.call(&mut store, ()).unwrap(), i32::from(b'o'));
        let none = wat::parse_str("(component (core module (func (export \"f\"))))").unwrap();
        assert!(matches!(split(&none), Err(Error::NoMemory)));
    }
}
