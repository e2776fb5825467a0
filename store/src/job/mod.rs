//! Jobs.
pub mod outcome;
pub mod time;
