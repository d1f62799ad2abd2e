//! What is wrong or unwise, and what to do about it.

use serde::{Deserialize, Serialize};

/// `GET /v1/admin/findings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FindingList {
    /// The worst first.
    pub findings: Vec<Finding>,
}

/// Something that is wrong or unwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of finding it is.
    pub code: FindingCode,
    /// What it is about, such as `worker w1` or `collection notes`.
    pub subject: String,
    /// What is so, this time.
    pub detail: String,
    /// What to do about it.
    pub action: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work, or data is in danger.
    Error,
    /// Something works worse than it should.
    Warning,
    /// Good to know.
    Info,
}

/// The closed list of findings. A program may match on the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FindingCode {
    /// The catalog has no leader.
    NoLeader,
    /// Everybody who can reach the public API may do everything.
    OpenToAll,
    /// A coordinator was not reached lately.
    CoordinatorDown,
    /// Shards wait for groups, or for the catalog.
    NotPlaced,
    /// A worker's agent or server does not answer.
    WorkerDown,
    /// A group has no primary.
    NoPrimary,
    /// Too few workers of a group are up for a write to be acknowledged.
    WritesWait,
    /// One more worker that is lost stops a group's writes.
    GroupShort,
    /// A standby could not take over.
    StandbyNotInSync,
    /// A worker's data was put back to an earlier state.
    DiskRestored,
    /// A worker can't be what it should, such as with fsync off.
    WorkerRefuses,
    /// A worker's pgvector is not known to be safe.
    PgvectorOld,
    /// Rows and bytes of a worker's tables were last counted long ago.
    StatisticsStale,
    /// A collection is not settled.
    CollectionUnsettled,
    /// A large namespace has had no graph for long.
    GraphMissing,
    /// Recall surely falls short of what a profile promises.
    RecallBelowPromise,
    /// One shard holds far more than the others.
    ShardSkew,
    /// A move does not get through with its cut-over.
    MoveStuck,
    /// A move is over, and a server that did not answer still holds what it made.
    MoveLeftThings,
}
