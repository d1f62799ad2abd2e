//! Words.

pub mod agents;
pub mod cluster_secret;
pub mod http;
pub mod internal_client;
pub mod raft;
pub mod settle;
