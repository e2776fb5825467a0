//! What a guest calls: one file per interface of the contract, and the linkers that offer them.
//!
//! [`Job`] is the state behind all of them, one per run. Nothing here touches the store: what a run may read of it comes
//! through a `Backing`, effects are staged in [`Staged`] and recorded, or not, by whoever gets the run's report. A refused
//! call is a typed `call-error`, never a trap, and the run's log says what to add where.

mod blobs;
mod config;
mod http;
mod job;
mod kv;
mod offered;
mod staged;
mod wasi_http;

use wasmtime::component::{HasSelf, Linker};

pub(super) use self::job::{Job, Role};
pub(super) use self::offered::offers;
pub(super) use self::staged::{NewJobArgs, Staged};
pub(super) use self::wasi_http::context as http_context;
use super::guest::Guest;

/// The contract in Rust, made from `plugin-sdk/wit/plugin.wit`.
pub(super) mod contract {
    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        // Everything that a component may export. None does: what one has is looked up in it, see `exports`.
        inline: "
            package runner:host;
            world every-export {
                include runner:plugin/mixed-plugin-policy-merge@0.1.0;
                export runner:plugin/middleware@0.1.0;
            }
        ",
        world: "runner:host/every-export",
        // What waits for a disk or a network; the rest answers at once.
        imports: { "runner:plugin/blobs": async, "runner:plugin/http.send": async },
        exports: { default: async },
    });
}

pub(super) use self::contract::runner::plugin::types::{self, CallError};

/// The package of the contract, without its version.
pub(super) const PACKAGE: &str = "runner:plugin/";
/// The version that this host serves.
pub(super) const CONTRACT_VERSION: &str = "0.1.0";
/// Interfaces of the contract that a component may import.
pub(super) const OFFERED: [&str; 6] = ["types", "host", "kv", "blobs", "http", "config"];
/// What of WASI a component may import, all of version 0.2: packages, and of one its interfaces, as nobody serves requests.
pub(super) const WASI_OFFERED: [&str; 8] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// Everything that a component may import.
pub(super) fn component_linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    contract::EveryExport::add_to_linker::<Guest, HasSelf<Job>>(&mut linker, |guest| &mut guest.job)?;
    Ok(linker)
}

/// Everything that a WASI command may import.
pub(super) fn command_linker(engine: &wasmtime::Engine) -> wasmtime::Result<wasmtime::Linker<Guest>> {
    let mut linker = wasmtime::Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |guest: &mut Guest| &mut guest.wasi)?;
    Ok(linker)
}

impl types::Host for Job {}

fn call_error(code: &str, message: String) -> CallError {
    CallError { code: code.to_owned(), message }
}
