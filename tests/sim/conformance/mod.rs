//! Every semantic of the store as a case, on both engines, on virtual time.

mod boots;
mod bulk;
mod calls;
mod claim;
mod clock;
mod dependencies;
mod depth;
mod enqueue;
mod holding;
mod keys;
mod kv;
mod limits;
mod listening;
mod log;
mod names;
mod orders;
mod queries;
mod quotas;
mod races;
mod retention;
mod run_logs;
mod runs;
mod settling;
mod staged;
mod unique;
mod verbs;
