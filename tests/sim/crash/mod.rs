//! The store on a simulated disk: power cuts and I/O errors at every operation, power cuts again while the store recovers
//! from one, and files that were changed behind its back.
//!
//! A [`script`] is a seeded workload with what the store must hold after each of its batches. `images` cuts the power,
//! `faults` lets operations fail, `mutations` damages files. Each prints its figures, and on failure the line that
//! repeats exactly what failed.

mod disk;
mod faults;
mod images;
mod mutations;
mod script;
