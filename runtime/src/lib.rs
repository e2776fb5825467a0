//! Runs jobs: scheduler, Wasm host, HTTP API, command line.
#![deny(unsafe_code)]

pub mod api;
pub mod buffered;
pub mod cli;
pub mod externals;
pub mod holds;
pub mod leases;
mod machine;
pub mod merging;
pub mod middleware;
pub mod node;
pub mod notify;
pub mod operator;
pub mod run_logs;
pub mod scheduler;
pub mod schedules;
pub mod subscriptions;
mod table;
pub mod traces;
pub mod wasm;

/// Of whatever links this: the binary, its tests and its benchmarks alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
