//! The types that Raft is instantiated with, and the check of formats on what it carries.

use atoll_core::catalog::{CommandEnvelope, FORMAT, Outcome};
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// Atoll's Raft: commands of the catalog in, their outcomes out. A snapshot travels as the bytes of its file.
    pub(crate) TypeConfig:
        D = CommandEnvelope,
        R = Outcome,
        NodeId = u64,
        Node = RaftMember,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Vec<u8>,
);

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, RaftMember>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, RaftMember>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type RaftMetrics = openraft::RaftMetrics<u64, RaftMember>;

/// Where a Raft member listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RaftMember {
    /// Base URL for clients.
    pub(crate) http: String,
    /// Base URL for coordinators and agents.
    pub(crate) internal: String,
}

/// The format of a log entry's command, if it is higher than this program knows. Looks at nothing else: the rest of such
/// an entry may not parse.
pub(crate) fn newer_format(entry: &serde_json::Value) -> Option<u64> {
    let format = entry.get("payload")?.get("Normal")?.get("format")?.as_u64()?;
    (format > u64::from(FORMAT)).then_some(format)
}

/// Ends the process: going on could lose what was promised, or act on what was not understood. Never returns, so that no
/// caller can forget to stop.
pub(crate) fn stop_process(reason: &str, error: &dyn std::fmt::Display) -> ! {
    tracing::error!(%error, "{reason}");
    std::process::abort()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_newer_command_is_recognised_even_if_it_does_not_parse() {
        let entry =
            json!({"log_id": 1, "payload": {"Normal": {"format": FORMAT + 1, "command": {"do": "unheard_of"}}}});
        assert_eq!(newer_format(&entry), Some(u64::from(FORMAT) + 1));
        let entry = json!({"payload": {"Normal": {"format": FORMAT, "command": {"do": "unheard_of"}}}});
        assert_eq!(newer_format(&entry), None);
        assert_eq!(newer_format(&json!({"payload": "Blank"})), None);
    }
}
