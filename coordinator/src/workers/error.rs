//! Why a shard gave no answer.

use tokio_postgres::error::SqlState;

/// Why a shard gave no answer, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The server can't be reached, and nothing was sent to it.
    #[error("worker {worker} can't be reached")]
    Unreachable {
        /// The worker.
        worker: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke while a statement was under way: what was sent may have happened.
    #[error("the connection to worker {worker} broke")]
    Broken {
        /// The worker.
        worker: String,
        /// What went wrong.
        #[source]
        source: tokio_postgres::Error,
    },
    /// No answer before the deadline: what was sent may have happened.
    #[error("worker {worker} gave no answer before the deadline")]
    Deadline {
        /// The worker.
        worker: String,
    },
    /// The server committed, and then did not wait until enough of its standbys had it: a failover may take back what was sent.
    #[error("worker {worker} committed, and no longer waited for its standbys")]
    InDoubt {
        /// The worker.
        worker: String,
    },
    /// Another server became the primary of the group while a statement was under way: what was sent may have happened.
    #[error("worker {worker} gave no answer before another took its place as primary")]
    Superseded {
        /// The worker.
        worker: String,
    },
    /// The server ended a statement at the deadline; nothing happened.
    #[error("worker {worker} ended a statement at the deadline")]
    TimedOut {
        /// The worker.
        worker: String,
    },
    /// Too many requests wait for the worker; nothing was sent.
    #[error("too many requests wait for worker {worker}")]
    Overloaded {
        /// The worker.
        worker: String,
    },
    /// The shard is not there (any more): the view is out of date, or the table is not made yet. Nothing happened.
    #[error("worker {worker} has no such table")]
    Stale {
        /// The worker.
        worker: String,
    },
    /// The shard is being handed over to another group, or its group to another primary, and that took too long, or too many requests wait
    /// for it. Nothing happened.
    #[error("a shard on worker {worker} is being handed over")]
    Fenced {
        /// The worker.
        worker: String,
    },
    /// Another transaction was in the way; nothing happened, and a retry may succeed.
    #[error("a concurrent transaction on worker {worker} was in the way")]
    Conflict {
        /// The worker.
        worker: String,
    },
    /// The server refused the statement; nothing happened. Our fault, or the server is in trouble.
    #[error("worker {worker} refused a statement")]
    Refused {
        /// The worker.
        worker: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A row is not what its table should hold.
    #[error("worker {worker} gave a row that makes no sense")]
    Malformed {
        /// The worker.
        worker: String,
        /// What it was.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ShardError {
    /// What a failed statement means.
    pub(super) fn of(worker: &str, error: tokio_postgres::Error) -> Self {
        let worker = worker.to_owned();
        let Some(state) = error.code() else {
            let conversion = error.to_string().starts_with("error deserializing");
            return match conversion {
                true => Self::Malformed { worker, source: Box::new(error) },
                false => Self::Broken { worker, source: error },
            };
        };
        // A server that says so has rolled back: it does not end a commit that has begun.
        if [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(state) {
            return Self::TimedOut { worker };
        }
        if [
            SqlState::UNDEFINED_TABLE,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::READ_ONLY_SQL_TRANSACTION,
            // A cached statement whose table was made anew.
            SqlState::FEATURE_NOT_SUPPORTED,
        ]
        .contains(state)
        {
            return Self::Stale { worker };
        }
        if [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(state) {
            return Self::Conflict { worker };
        }
        if [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(state) {
            // The server may have committed before it went.
            return Self::Broken { worker, source: error };
        }
        if *state == SqlState::DISK_FULL {
            return Self::Unreachable { worker, source: Box::new(error) };
        }
        Self::Refused { worker, source: error }
    }

    /// What a failure to connect means: nothing was sent yet.
    pub(super) fn of_connecting(worker: &str, error: tokio_postgres::Error) -> Self {
        let worker = worker.to_owned();
        match error.code() {
            Some(state) if *state == SqlState::TOO_MANY_CONNECTIONS => Self::Overloaded { worker },
            Some(_) | None => Self::Unreachable { worker, source: Box::new(error) },
        }
    }

    /// The word for it in an answer's `failures`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::InDoubt { .. }
            | Self::Superseded { .. }
            | Self::Conflict { .. } => "unavailable",
            Self::Deadline { .. } | Self::TimedOut { .. } => "deadline",
            Self::Overloaded { .. } => "overloaded",
            Self::Stale { .. } => "stale",
            Self::Fenced { .. } => "fenced",
            Self::Refused { .. } | Self::Malformed { .. } => "internal",
        }
    }

    /// Whether a statement that writes may have taken effect all the same.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Deadline { .. } | Self::InDoubt { .. } | Self::Superseded { .. } => true,
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Overloaded { .. }
            | Self::Stale { .. }
            | Self::Fenced { .. }
            | Self::Conflict { .. }
            | Self::Refused { .. }
            | Self::Malformed { .. } => false,
        }
    }
}
