//! Integration tests of the whole runner.
mod sandbox;
