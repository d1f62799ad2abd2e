//! Why a request did not do what it asked, by what the client can do about it. `http::problem` is the one place that turns these
//! into status codes.

use crate::workers::ShardError;
use atoll_proto::CollectionName;
use atoll_proto::problem::{FieldError, ShardFailure};

/// Why a request did not do what it asked.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Fields are wrong: the client can mend them.
    #[error("the request is not valid")]
    Invalid(Vec<FieldError>),
    /// There is no such collection.
    #[error("there is no collection {0}")]
    CollectionNotFound(CollectionName),
    /// The collection's tables are not all there yet, or not any more.
    #[error("collection {0} is being made or dropped")]
    CollectionNotReady(CollectionName),
    /// Shards have no owners yet.
    #[error("{registered} of {wanted} groups have registered")]
    NotPlaced {
        /// Groups that are there.
        registered: usize,
        /// Groups to wait for.
        wanted: u32,
    },
    /// There is no such entry.
    #[error("there is no such entry")]
    EntryNotFound,
    /// The entry is there and should not be.
    #[error("the entry exists already")]
    AlreadyExists,
    /// The entry is not at the version asked for.
    #[error("the entry is at version {current:?}")]
    VersionMismatch {
        /// Its version; none if it does not exist.
        current: Option<i64>,
    },
    /// The cursor was not made by this cluster for this list.
    #[error("the cursor is not one of this list")]
    BadCursor,
    /// The idempotency key belongs to another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Shards gave no answer.
    #[error("{} of {total} shards gave no answer", failures.len())]
    Shards {
        /// Which, and why.
        failures: Vec<ShardFailure>,
        /// How many were asked.
        total: usize,
        /// The first failure's cause, for the log.
        #[source]
        cause: Box<ShardError>,
    },
    /// A write may or may not have happened.
    #[error("the outcome of the write is unknown")]
    OutcomeUnknown {
        /// The cause, for the log.
        #[source]
        cause: Box<ShardError>,
    },
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline,
    /// The service has as much to do as it can.
    #[error("too many requests are under way")]
    Overloaded,
}

impl RequestError {
    /// One wrong field.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }
}
