//! What coordinators say to a member.

use super::record::GroupRecord;
use crate::WorkerId;
use crate::agent::PostgresAddress;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Path on an agent: `PUT` [`ToldGroup`] gives [`super::Report`].
pub const GROUP_PATH: &str = "/agent/v1/group";

/// A coordinator sends a member the record as it knows it. The answer is the member's report, so one round tells both all they need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldGroup {
    /// The cluster it speaks for; an agent of another cluster refuses.
    pub cluster_id: String,
    /// Who is meant: an agent that is another worker refuses.
    pub worker: WorkerId,
    /// The record. An older one than the member knows is not taken, and answered all the same.
    pub record: GroupRecord,
    /// Where the servers of the group's workers listen.
    pub servers: BTreeMap<WorkerId, PostgresAddress>,
    /// Whether the sender has just heard from most coordinators, so that a primary's lease goes on. One that was cut off from the
    /// others does not know whether its record is the newest.
    pub confirmed: bool,
}
