//! Failover of groups, driven by the leader: what to do next is `atoll-core`'s to say, here it is done. Members are told the record and
//! answer how they are; when something follows from that, the record changes. `docs/failover.md` is the protocol.
//!
//! - [`start`] drives every group that has a record, on the leader.
//! - [`Gaps`] counts on every coordinator how often and for how long groups had no primary.

mod driver;
mod gaps;
mod knock;
mod seen;

pub use gaps::Gaps;

use crate::agents::AgentClient;
use crate::raft::{CatalogNode, Drivers};
use std::time::Duration;

/// Drives groups while this coordinator leads, each by a task of its own. Their stamps are recorded once in `stamp_every`.
pub fn start(node: CatalogNode, stamp_every: Duration) -> Drivers {
    let agents = AgentClient::new(node.client().clone());
    Drivers::start(
        node.clone(),
        |catalog| catalog.groups.iter().filter(|(_, group)| group.record.is_some()).map(|(id, _)| *id).collect(),
        move |id| driver::drive(node.clone(), agents.clone(), id, stamp_every),
    )
}
