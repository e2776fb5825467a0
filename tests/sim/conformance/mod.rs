//! Every semantic of the store as a case, on both engines, on virtual time.

mod boots;
mod claim;
mod dependencies;
mod enqueue;
mod holding;
mod keys;
mod limits;
mod orders;
mod queries;
mod quotas;
mod retention;
mod runs;
mod settling;
mod staged;
mod unique;
mod verbs;
