//! Atoll's coordinator: stateless front end and Raft member.
//!
//! `http` → {`findings`, `rebalance`, `search`, `write`, `read`, `settle`, `moves`, `raft`} → {`workers` (SQL), `agents` (RPC)} →
//! `atoll-core`. Nobody but `serve` imports `http`.

pub mod access;
pub mod agents;
pub mod config;
mod credentials;
pub mod error;
pub mod failover;
pub mod findings;
pub mod freshness;
pub mod http;
pub mod internal_client;
pub mod moves;
pub mod next_primary;
pub mod raft;
pub mod read;
pub mod rebalance;
pub mod search;
pub mod serve;
pub mod settle;
pub mod targets;
pub mod telemetry;
mod vectors;
pub mod workers;
pub mod write;
