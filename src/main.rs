//! The `pgfanout` program.
fn main() {}
