//! Handlers for `runner` in Rust: a handler is one function over serde types.
//!
//! ```
//! use runner_plugin::{Context, Failure, handler, info};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Args {
//!     text: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Output {
//!     words: usize,
//! }
//!
//! #[handler]
//! fn count(args: Args, cx: &Context) -> Result<Output, Failure> {
//!     if args.text.is_empty() {
//!         return Err(Failure::discard("there is no text to count"));
//!     }
//!     info!(cx, "{} bytes", args.text.len());
//!     Ok(Output { words: args.text.split_whitespace().count() })
//! }
//! # fn main() {}
//! ```
//!
//! * **In**: any `Deserialize` type (args as JSON; args of the wrong shape discard the job and name the field, for they do not
//!   get better by retrying), [`Raw`] for the bytes themselves, [`WithFile`] for a file with or without options.
//! * **Out**: any `Serialize` type, or [`Raw`]; `()` and `None` are no output.
//! * **Failing**: `?` on any [`std::error::Error`] tries the job again; [`Failure`] says more: [`Failure::retry`],
//!   [`Failure::discard`], [`Failure::snooze`]. A panic is a failed attempt with the panic's message in the run's log.
//! * **The host**: [`Context`] – the job's fields, log, progress, enqueue, checkpoint, [`kv`], [`blobs`], [`http`],
//!   [`config`]. The argument may be left out. A component imports only what its handlers call.
//! * **Several kinds** in one plugin: [`kinds!`].
//! * **Tests** run natively with `cargo test`: [`mod@test`] is a host in memory.
//!
//! It deliberately has no async, no global state and no dependency injection; and it does not cover the contract's
//! `batch`, `policy`, `merge` and `middleware` exports, for which `wit_bindgen::generate!` on the contract is the way.

mod args;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "plugin",
        pub_export_macro: true,
        export_macro_name: "export_plugin",
    });
}
pub mod blobs;
pub mod config;
mod context;
mod failure;
#[cfg(target_family = "wasm")]
mod guest;
mod handler;
pub mod http;
pub mod kv;
mod new_job;
#[cfg(not(target_family = "wasm"))]
pub mod test;

pub use args::{Base64, FromArgs, Raw, WithFile};
pub use context::{CallError, Context, Job, Level};
pub use failure::Failure;
pub use handler::{Handler, IntoOutput, Outcome};
pub use new_job::NewJob;
pub use runner_plugin_macros::handler;

/// Several kinds in one plugin, each served by a plain function: `kinds! { "a.b" => f, "c.d" => g }`. A job of any other
/// kind is discarded with a message that says which there are. `kinds! { _ => f }` is what `#[handler]` writes.
#[macro_export]
macro_rules! kinds {
    (_ => $handler:path $(,)?) => {
        const _: () = {
            fn dispatch(args: ::std::vec::Vec<u8>, cx: &$crate::Context) -> $crate::Outcome {
                $crate::__private::call(&$handler, args, cx)
            }
            $crate::__export! { dispatch }
        };
    };
    ($($kind:literal => $handler:path),+ $(,)?) => {
        const _: () = {
            fn dispatch(args: ::std::vec::Vec<u8>, cx: &$crate::Context) -> $crate::Outcome {
                match cx.kind.as_str() {
                    $($kind => $crate::__private::call(&$handler, args, cx),)+
                    _ => $crate::__private::unknown_kind(cx, &[$($kind),+]),
                }
            }
            $crate::__export! { dispatch }
        };
    };
}

/// Logs at a level of the run's log: `info!(cx, "{} of {}", done, all)`; likewise `trace!`, `debug!`, `warn!`, `error!`.
#[macro_export]
macro_rules! info {
    ($cx:expr, $($text:tt)+) => { $cx.log($crate::Level::Info, ::std::format!($($text)+)) };
}

/// As [`info!`], for what only the author wants to see, all of it.
#[macro_export]
macro_rules! trace {
    ($cx:expr, $($text:tt)+) => { $cx.log($crate::Level::Trace, ::std::format!($($text)+)) };
}

/// As [`info!`], for what helps to find a fault.
#[macro_export]
macro_rules! debug {
    ($cx:expr, $($text:tt)+) => { $cx.log($crate::Level::Debug, ::std::format!($($text)+)) };
}

/// As [`info!`], for what went on although something was wrong.
#[macro_export]
macro_rules! warn {
    ($cx:expr, $($text:tt)+) => { $cx.log($crate::Level::Warn, ::std::format!($($text)+)) };
}

/// As [`info!`], for what makes the result wrong or missing.
#[macro_export]
macro_rules! error {
    ($cx:expr, $($text:tt)+) => { $cx.log($crate::Level::Error, ::std::format!($($text)+)) };
}

/// The contract's export for a dispatch function.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($dispatch:ident) => {
        struct Plugin;
        impl $crate::bindings::exports::runner::plugin::handler::Guest for Plugin {
            fn handle(
                job: $crate::bindings::exports::runner::plugin::handler::Job,
            ) -> ::std::result::Result<::std::vec::Vec<u8>, $crate::bindings::exports::runner::plugin::handler::Failure>
            {
                $crate::__private::run(job, $dispatch)
            }
        }
        $crate::bindings::export_plugin!(Plugin with_types_in $crate::bindings);
    };
}

/// Natively there is nothing to export; the function is still compiled, so that its types are checked.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($dispatch:ident) => {
        const _: fn(::std::vec::Vec<u8>, &$crate::Context) -> $crate::Outcome = $dispatch;
    };
}

/// What the macros write; no part of the interface.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use crate::guest::run;
    pub use crate::handler::{call, unknown_kind};
}
