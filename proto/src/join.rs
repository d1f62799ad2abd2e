//! What a coordinator says when it joins the others, on the internal listener, with the cluster secret as bearer.

use crate::CoordinatorId;
use serde::{Deserialize, Serialize};

/// `POST` [`JoinCluster`] gives [`Joined`]. Answered by the leader; a follower forwards.
pub const JOIN_PATH: &str = "/internal/v1/coordinators/join";
/// `POST` [`JoinReady`]: the newcomer's Raft listens; make it a learner, then a voter.
pub const READY_PATH: &str = "/internal/v1/coordinators/ready";

/// A new coordinator asks for its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinCluster {
    /// Base URL for clients.
    pub http: String,
    /// Base URL for coordinators and agents.
    pub internal: String,
}

/// The newcomer's identity, which it keeps with its data before it starts Raft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The cluster.
    pub cluster_id: String,
    /// Its id: never used before and never again.
    pub id: CoordinatorId,
}

/// The newcomer is listening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinReady {
    /// Who it is.
    pub id: CoordinatorId,
}
