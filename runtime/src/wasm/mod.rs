//! The Wasm host: compiles plugins, gives every run a sandbox of its own, and says how it ended.
//!
//! Used like this: one [`Host`] a process; [`folder::load`] (or [`Host::compile`]) makes [`Plugin`]s, which exist only
//! if they compiled and everything they import is offered; the [`catalog`] has those that serve now, and the [`loader`]
//! keeps it as the folder is; [`Host::spawn`] runs a [`RunRequest`] on the guests' own
//! threads and answers with a [`RunReport`], always, whatever the guest did.
//!
//! What this module deliberately does not do: it never touches the store, decides no retry and knows no queue. It
//! reports an outcome and the effects that the run staged; what becomes of them is `store`'s to say. `PLUGINS.md` is
//! the specification of what a guest sees.

mod answer;
pub mod backing;
mod blobs;
pub mod cancel;
pub mod catalog;
mod classify;
mod command;
pub mod compile;
pub mod egress;
pub mod engine;
mod exports;
pub mod folder;
mod gate;
pub mod grants;
mod guest;
mod header;
mod host;
mod image;
mod kept;
pub mod limits;
pub mod loader;
pub mod log;
pub mod manifest;
pub mod memory;
pub mod plugin;
pub mod run;
mod script;
pub mod spawn;
pub mod streams;
pub mod units;
mod wasi;
mod watch;

pub use self::backing::{Alone, Backing, KvWrite};
pub use self::cancel::CancelSignal;
pub use self::catalog::{Catalog, Serving};
pub use self::compile::{CompileLimits, Compiler};
pub use self::egress::EgressSettings;
pub use self::engine::HostSettings;
pub use self::grants::Grants;
pub use self::limits::Limits;
pub use self::log::{LogLine, LogSource, RunLog};
pub use self::manifest::{AskedSchedule, Manifest};
pub use self::plugin::{Description, Flavour, Plugin, PluginError};
pub use self::run::{BatchJob, Charge, IdSource, JobEnd, JobView, MergeError, NewJob, ReadJob, RunReport, RunRequest};
pub(crate) use self::spawn::Panicked;
pub use self::spawn::{Host, HostError};
pub use self::streams::Streams;
