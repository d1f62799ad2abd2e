//! Raft's messages to the other coordinators: HTTP with JSON bodies. Each says which cluster and which member it is meant
//! for; one that arrives at the wrong address is refused there, for Raft itself would take it as its own.

use super::types::{RaftMember, SnapshotMeta, TypeConfig, Vote};
use crate::internal_client::{CallError, InternalClient};
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{OptionalSend, RaftNetwork, RaftNetworkFactory, Snapshot};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Paths of Raft's messages on the internal listener.
pub(crate) const APPEND_PATH: &str = "/raft/v1/append";
/// See [`APPEND_PATH`].
pub(crate) const VOTE_PATH: &str = "/raft/v1/vote";
/// See [`APPEND_PATH`].
pub(crate) const SNAPSHOT_PATH: &str = "/raft/v1/snapshot";

/// How long to leave a member alone that can't be reached. Well below the election timeout: one that comes back must hear
/// of its leader before it loses patience.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(200);

/// A message, and whom it is meant for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Addressed<T> {
    pub(super) cluster_id: String,
    pub(super) target: u64,
    pub(super) message: T,
}

/// A whole snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotMessage {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    /// The snapshot file's text.
    pub(super) content: String,
}

type Failure<E> = RPCError<u64, RaftMember, E>;

/// Makes a [`MemberClient`] for each member.
pub(super) struct RaftHttp {
    pub(super) client: InternalClient,
    pub(super) cluster_id: Arc<str>,
}

/// Speaks to one member.
pub(super) struct MemberClient {
    client: InternalClient,
    cluster_id: Arc<str>,
    target: u64,
    internal: String,
}

impl RaftNetworkFactory<TypeConfig> for RaftHttp {
    type Network = MemberClient;

    async fn new_client(&mut self, target: u64, node: &RaftMember) -> MemberClient {
        MemberClient {
            client: self.client.clone(),
            cluster_id: self.cluster_id.clone(),
            target,
            internal: node.internal.clone(),
        }
    }
}

impl MemberClient {
    async fn send<M: Serialize, A: DeserializeOwned, E: std::error::Error + DeserializeOwned>(
        &self,
        path: &str,
        message: M,
        ttl: Duration,
    ) -> Result<A, Failure<E>> {
        let message = Addressed { cluster_id: self.cluster_id.to_string(), target: self.target, message };
        let answer: Result<Result<A, E>, CallError> =
            self.client.post(&self.internal, path, &message, Instant::now() + ttl).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(RemoteError::new(self.target, error).into()),
            // The wait is over already: ask again at once.
            Err(error @ CallError::Deadline { .. }) => Err(NetworkError::new(&error).into()),
            // Anything else fails fast; asking again at once would be a busy loop while a member is away.
            Err(error) => Err(Unreachable::new(&error).into()),
        }
    }
}

impl RaftNetwork<TypeConfig> for MemberClient {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure<RaftError<u64>>> {
        self.send(APPEND_PATH, request, option.hard_ttl()).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure<RaftError<u64>>> {
        self.send(VOTE_PATH, request, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let content = match String::from_utf8(*snapshot.snapshot) {
            Ok(content) => content,
            Err(error) => return Err(Unreachable::new(&error).into()),
        };
        let message = SnapshotMessage { vote, meta: snapshot.meta, content };
        let sent = self.send::<_, _, Fatal<u64>>(SNAPSHOT_PATH, message, option.hard_ttl());
        tokio::select! {
            closed = cancel => Err(closed.into()),
            answer = sent => answer.map_err(streaming_error),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}

fn streaming_error(error: Failure<Fatal<u64>>) -> StreamingError<TypeConfig, Fatal<u64>> {
    match error {
        RPCError::Timeout(error) => error.into(),
        RPCError::Unreachable(error) => error.into(),
        RPCError::PayloadTooLarge(error) => Unreachable::new(&error).into(),
        RPCError::Network(error) => error.into(),
        RPCError::RemoteError(error) => error.into(),
    }
}
