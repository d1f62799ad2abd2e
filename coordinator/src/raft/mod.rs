//! The replicated catalog: one Raft group of the coordinators (openraft), with a log and snapshots of its own. No name of
//! openraft leaves this module.
//!
//! - [`CatalogNode`] is the handle: view, propose, lead, join, leave.
//! - `start` opens the data directory and finds out who this coordinator is; `identity` keeps it.
//! - [`Drivers`] are tasks of the leader, one for each of many things.
//! - `propose` carries a command to the leader; `membership` lets coordinators come and go; `contacts` sees who answers.
//! - `log_store`, `log_writer`, `state_machine` and `snapshot_file` are what is kept; `network` and `receive` are Raft's
//!   messages, out and in.

mod contacts;
mod drivers;
mod identity;
mod log_store;
mod log_writer;
mod membership;
mod network;
mod node;
mod propose;
mod receive;
mod snapshot_file;
mod start;
mod state_machine;
mod types;

#[cfg(test)]
mod storage_tests;

pub use contacts::{Alive, HEALTH_PATH};
pub use drivers::Drivers;
pub use identity::IdentityError;
pub use log_store::OpenLogError;
pub use membership::{Hop, MembershipError, REMOVE_PATH, RemoveCoordinator};
pub(crate) use network::{APPEND_PATH, SNAPSHOT_PATH, VOTE_PATH};
pub use node::CatalogNode;
pub use propose::{ForwardedCommand, PROPOSE_PATH, ProposeError, Proposed};
pub use snapshot_file::ReadSnapshotError;
pub use start::{FirstStart, RaftSettings, StartError};
