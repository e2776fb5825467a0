//! Guests in WebAssembly text: the part that differs is given, the frame around it is here.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

pub(crate) const CONTRACT: &str = include_str!("../../../plugin-sdk/wit/plugin.wit");

/// Where a handler leaves its result; zeroes there are `ok` with an empty list.
pub(crate) const RESULT: &str = "(i32.const 64)";

/// `cabi_realloc` that only ever gives out more.
pub(crate) const REALLOC: &str = r#"
  (global $top (mut i32) (i32.const 4096))
  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))"#;

/// A component whose `handle` has this body (`$job` is the job's record), with a memory of 1 MiB.
pub(crate) fn handler(body: &str) -> Vec<u8> {
    handler_with("", body)
}

/// The same with imports and further fields before it.
pub(crate) fn handler_with(fields: &str, body: &str) -> Vec<u8> {
    component(&format!(
        r#"(module {fields}
          (memory (export "memory") 16)
          {REALLOC}
          (func $handle (export "runner:plugin/handler@0.1.0#handle") (param $job i32) (result i32) {body}))"#
    ))
}

/// A component made of a whole core module, which exports the handler.
pub(crate) fn component(module: &str) -> Vec<u8> {
    component_of(&["handler"], module)
}

/// A component made of a whole core module, which exports these interfaces of the contract.
pub(crate) fn component_of(exports: &[&str], module: &str) -> Vec<u8> {
    component_from(CONTRACT, "0.1.0", exports, module)
}

/// The same, built with another version of the contract.
pub(crate) fn component_from(contract: &str, version: &str, exports: &[&str], module: &str) -> Vec<u8> {
    let exports: String = exports.iter().map(|name| format!("export runner:plugin/{name}@{version}; ")).collect();
    let world = format!("include runner:plugin/imports@{version}; {exports}");
    component_in(contract, &[&format!("package test:guest; world guest {{ {world} }}")], module)
}

/// A component for the world `guest` of the last of these packages, which may use the contract and those before it.
pub(crate) fn component_in(contract: &str, packages: &[&str], module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).expect("the text is a module");
    let mut resolve = Resolve::default();
    let mut package = resolve.push_str("plugin.wit", contract).expect("the contract is right");
    for text in packages {
        package = resolve.push_str("guest.wit", text).expect("the package is right");
    }
    let world = resolve.select_world(&[package], Some("guest")).expect("the package has the world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("the module takes it");
    let encoder = ComponentEncoder::default().validate(true).module(&module).expect("the module fits the world");
    let mut encoder = encoder;
    encoder.encode().expect("the module becomes a component")
}

/// A core module with a memory of 1 MiB and these fields.
pub(crate) fn module(fields: &str) -> String {
    format!(r#"(module {fields} (memory (export "memory") 16) {REALLOC})"#)
}

/// A function that the contract exports: `export("batch", "handle-batch", "(param $jobs i32) …", body)`.
pub(crate) fn export(interface: &str, function: &str, ty: &str, body: &str) -> String {
    format!(r#"(func (export "runner:plugin/{interface}@0.1.0#{function}") {ty} {body})"#)
}

/// A WASI command with this `_start`.
pub(crate) fn command(body: &str) -> Vec<u8> {
    command_with("", body)
}

/// The same with further fields before it, and what it may import.
pub(crate) fn command_with(fields: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 64)
          {fields}
          (func $print (param $fd i32) (param $at i32) (param $len i32)
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (local.get $len))
            (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
          (func (export "_start") {body}))"#
    );
    wat::parse_str(text).expect("the text is a module")
}

/// A WASI command that writes this to stdout and this to stderr and exits.
pub(crate) fn says(stdout: &str, stderr: &str, exit: i32) -> Vec<u8> {
    let data = |text: &str| text.bytes().map(|b| format!("\\{b:02x}")).collect::<String>();
    let fields = format!(r#"(data (i32.const 1024) "{}") (data (i32.const 65536) "{}")"#, data(stdout), data(stderr));
    command_with(
        &fields,
        &format!(
            "(call $print (i32.const 1) (i32.const 1024) (i32.const {}))
             (call $print (i32.const 2) (i32.const 65536) (i32.const {}))
             (call $exit (i32.const {exit}))",
            stdout.len(),
            stderr.len()
        ),
    )
}
