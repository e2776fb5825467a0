//! Runs jobs: scheduler, Wasm host, HTTP API, command line.
#![forbid(unsafe_code)]

pub mod wasm;
