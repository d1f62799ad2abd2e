//! Words.

fn main() {}
