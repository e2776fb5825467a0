//! What the write path of the store costs.

fn main() {}
