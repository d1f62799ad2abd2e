//! Atoll's coordinator: stateless front end and Raft member.
//!
//! `http` → {`search`, `write`, `read`, `raft`} → {`workers` (SQL), `agents` (RPC)} → `atoll-core`. Nobody imports `http`.

pub mod error;
pub mod read;
pub mod search;
pub mod targets;
mod vectors;
pub mod workers;
pub mod write;
