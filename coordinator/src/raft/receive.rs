//! Raft's messages from the other coordinators, as they arrive on the internal listener.

use super::network::{Addressed, SnapshotMessage};
use super::node::CatalogNode;
use super::types::{newer_format, stop_process};
use atoll_proto::problem::{Problem, ProblemCode};
use openraft::Snapshot;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

impl CatalogNode {
    /// Entries, or a sign of life, of the leader. Takes and gives JSON.
    pub async fn receive_append(&self, body: &[u8]) -> Result<Vec<u8>, Box<Problem>> {
        let request: AppendEntriesRequest<super::types::TypeConfig> = match self.opened(body) {
            Ok(request) => request,
            Err(problem) => {
                // Only what is meant for this coordinator can stop it.
                if let Ok(message) = self.opened::<serde_json::Value>(body) {
                    stop_if_newer(&message);
                }
                return Err(problem);
            }
        };
        Ok(answer(&self.raft().append_entries(request).await))
    }

    /// A candidate asks for a vote. Takes and gives JSON.
    pub async fn receive_vote(&self, body: &[u8]) -> Result<Vec<u8>, Box<Problem>> {
        let request: VoteRequest<u64> = self.opened(body)?;
        Ok(answer(&self.raft().vote(request).await))
    }

    /// The leader's whole state, for a member that lies too far behind. Takes and gives JSON.
    pub async fn receive_snapshot(&self, body: &[u8]) -> Result<Vec<u8>, Box<Problem>> {
        let SnapshotMessage { vote, meta, content } = self.opened(body)?;
        let snapshot = Snapshot { meta, snapshot: Box::new(content.into_bytes()) };
        Ok(answer(&self.raft().install_full_snapshot(vote, snapshot).await))
    }

    fn opened<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Box<Problem>> {
        let Addressed { cluster_id, target, message } = serde_json::from_slice::<Addressed<T>>(body)
            .map_err(|error| Problem::new(ProblemCode::MalformedJson, error.to_string()))?;
        if cluster_id != self.cluster_id() {
            let detail = "this coordinator belongs to another cluster";
            return Err(Problem::new(ProblemCode::Forbidden, detail).into());
        }
        if target != self.id().0 {
            let detail = format!("this is coordinator {}, not {target}", self.id());
            return Err(Problem::new(ProblemCode::Forbidden, detail).into());
        }
        Ok(message)
    }
}

/// A leader of a newer program may send what does not parse here. Skipping it is not possible, and answering with an error
/// for ever would hide why.
fn stop_if_newer(message: &serde_json::Value) {
    let entries = message.get("entries").and_then(serde_json::Value::as_array);
    if let Some(found) = entries.into_iter().flatten().find_map(newer_format) {
        stop_process("the leader sent a command of a newer program; upgrade this one", &format!("format {found}"));
    }
}

fn answer(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("raft's answers are plain structs, which serialise")
}
