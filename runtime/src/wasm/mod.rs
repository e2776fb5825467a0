//! The Wasm host.
