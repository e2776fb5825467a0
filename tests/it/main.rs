//! Integration tests of the whole runner.
mod api;
mod cli;
mod sandbox;
