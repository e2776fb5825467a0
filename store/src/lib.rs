//! The durable job store of `runner`.
//!
//! Read in this order: [`job`] has the rules ([`job::transition`]); [`command`] is everything that can be asked, as
//! data; [`decide`] turns a batch of commands into changes, purely; [`engine`] is the narrow boundary to what keeps
//! them; [`writer`] is the one thread that does it all, many commands a transaction; [`handle`] is what callers hold.
//! [`dir`] is the folder that a store lies in, and what is done to it as a whole; [`disk`] the room that it has.
//!
//! It knows nothing of Wasm, HTTP or an async scheduler. One module reads the clock of the system ([`clock`]).

#![forbid(unsafe_code)]

pub mod check;
pub mod clock;
pub mod codec;
pub mod command;
pub mod decide;
pub mod dir;
pub mod disk;
pub mod engine;
pub mod error;
pub mod figures;
pub mod handle;
pub mod index;
pub mod job;
pub mod listening;
pub mod log;
pub mod notice;
mod readers;
pub mod schedule;
pub mod slots;
pub mod steps;
pub mod token;
pub mod writer;

pub use handle::Handle;

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}
