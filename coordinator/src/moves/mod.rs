//! Moves of shards, driven by the leader: what to do next is `atoll-core`'s to say, here it is done. `docs/moves.md` is the protocol.
//!
//! - [`start`] drives every open move, on the leader.

mod drive;
mod pauses;

use crate::agents::AgentClient;
use crate::raft::{CatalogNode, Drivers};

/// Drives moves while this coordinator leads, each by a task of its own.
pub fn start(node: CatalogNode) -> Drivers {
    let agents = AgentClient::new(node.client().clone());
    Drivers::start(
        node.clone(),
        |catalog| catalog.moves.iter().filter(|(_, job)| job.is_open()).map(|(id, _)| *id).collect(),
        move |id| drive::drive(node.clone(), agents.clone(), id),
    )
}
