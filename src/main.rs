//! The `unaufs` program.
fn main() {}
