//! posthouse
fn main() {}
