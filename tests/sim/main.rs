//! The simulator: the rules about jobs as a table, every semantic on every engine, seeded workloads, and crashes.
//!
//! `transition` holds the pure rules against a table written from the design. `conformance` runs each semantic as a case
//! on both engines at once, on virtual time ([`world`]). [`model`] does the same with the random commands of [`workload`],
//! and an [`auditor`] follows it from outside. `acceptance` is behaviour that other queues have; `regressions` is what went
//! wrong in some of them. `crash` is a simulated disk: power cuts and I/O errors at every operation. `recovery` kills real
//! processes and damages real files. `embedded` is for programs that keep tables of their own. `writer` is what callers see
//! of the one thread that writes.

#![expect(clippy::unwrap_used, reason = "what fails here fails a test, and says where")]

mod acceptance;
mod auditor;
mod conformance;
mod crash;
mod embedded;
mod model;
mod recovery;
mod regressions;
mod transition;
mod workload;
mod world;
mod writer;
