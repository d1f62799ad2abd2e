//! Words.

pub mod internal;
