//! Integration tests of the whole runner.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod api;
mod buffered;
mod cli;
mod crowd;
mod languages;
mod lists;
mod node;
mod recovery;
mod sandbox;
mod soak;
mod tidy;
mod zoo;
