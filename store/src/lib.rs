//! The durable job store (being written).
pub mod job;
