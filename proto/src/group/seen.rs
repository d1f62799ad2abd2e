//! What a member's agent tells every coordinator each second: to be shown to people, measured and judged. Nothing in here can make two
//! primaries of one, so it may be old.

use super::report::Report;
use crate::WorkerId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a member stands, as its agent last saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSeen {
    /// What it says of itself.
    pub report: Report,
    /// Of a primary: how far the others lie behind, also those that are gone, as far as this agent has seen them.
    pub lags: BTreeMap<WorkerId, Lag>,
}

/// How far a standby lies behind: what of the primary's log it has not replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// How much that is.
    pub bytes: u64,
    /// For how long the oldest of it has been there, in milliseconds; at least, where that is longer than the agent remembers.
    pub ms: u64,
}
