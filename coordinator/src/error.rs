//! Why a request did not do what it asked, by what the client can do about it, and the one place that makes a problem document
//! of that. A document of a 5xx never shows SQL, PostgreSQL's text or host names: causes go to the log alone.

use crate::workers::ShardError;
use atoll_proto::CollectionName;
use atoll_proto::problem::{FieldError, Problem, ProblemCode, ShardFailure};

/// Why a request did not do what it asked.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Fields are wrong: the client can mend them.
    #[error("the request is not valid")]
    Invalid(Vec<FieldError>),
    /// There is no such collection.
    #[error("there is no collection {0}")]
    CollectionNotFound(CollectionName),
    /// The collection's tables are not all there yet.
    #[error("collection {0} is being made")]
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
    /// No entry of a batch could be written.
    #[error("no entry was written")]
    NoneWritten {
        /// Why the first could not.
        code: ProblemCode,
        /// Why each could not.
        errors: Vec<FieldError>,
    },
    /// The entry is not at the version asked for.
    #[error("the entry is at version {current:?}")]
    VersionMismatch {
        /// Its version; none if it does not exist.
        current: Option<i64>,
    },
    /// The cursor was not made by this cluster for this list.
    #[error("the cursor is not one of this list")]
    BadCursor,
    /// The key that the request came with is not for a namespace that it touches, or would.
    #[error("the key is not for all namespaces that are touched")]
    Foreign,
    /// The key that the request came with is gone, or has expired, while it was carried out.
    #[error("the key is not valid any more")]
    KeyGone,
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
    /// A write to a reference collection did not reach every copy.
    #[error("{} of {total} further copies did not take the write", failures.len())]
    CopiesBehind {
        /// Which, and why.
        failures: Vec<ShardFailure>,
        /// How many further copies there are.
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
    /// Nothing came from the client, or nothing was read by it, for too long.
    #[error("the client was idle for {seconds} s")]
    Idle {
        /// How long.
        seconds: u64,
    },
    /// The service has as much to do as it can.
    #[error("too many requests are under way")]
    Overloaded,
    /// A task of ours panicked.
    #[error("the request met a bug")]
    Bug(#[source] tokio::task::JoinError),
}

impl RequestError {
    /// One wrong field.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// The document of it, without path and request id.
    pub fn problem(&self) -> Problem {
        match self {
            RequestError::Invalid(errors) => {
                let many = format!("{} fields are wrong, see errors", errors.len());
                fields_problem(ProblemCode::ValidationFailed, many, errors)
            }
            RequestError::NoneWritten { code, errors } => {
                fields_problem(*code, "no entry was written, see errors".to_owned(), errors)
            }
            RequestError::CollectionNotFound(name) => Problem::new(
                ProblemCode::CollectionNotFound,
                format!("there is no collection {name}; GET /v1/collections lists them"),
            ),
            RequestError::CollectionNotReady(name) => Problem::new(
                ProblemCode::ShardUnavailable,
                format!("collection {name} is being made on some shards; try again in a moment"),
            ),
            RequestError::NotPlaced { registered, wanted } => Problem::new(
                ProblemCode::ShardUnavailable,
                format!("the cluster waits for its workers: {registered} of {wanted} groups have registered"),
            ),
            RequestError::EntryNotFound => Problem::new(ProblemCode::EntryNotFound, "there is no such entry"),
            RequestError::VersionMismatch { current } => {
                let detail = match current {
                    Some(version) => format!("the entry is at version {version}; read it again and decide anew"),
                    None => "there is no such entry".to_owned(),
                };
                Problem::new(ProblemCode::VersionMismatch, detail)
            }
            RequestError::BadCursor => Problem::new(
                ProblemCode::BadCursor,
                "the cursor is not one of this list: same collection, namespace, filter and order are needed; or begin anew",
            ),
            RequestError::Foreign => Problem::new(
                ProblemCode::Forbidden,
                "the key is for some namespaces only, and this is not all within them: name namespaces, or a prefix, that it is for",
            ),
            RequestError::KeyGone => Problem::new(
                ProblemCode::Unauthenticated,
                "the key was removed, or has expired, meanwhile: what was not confirmed is to be sent, or asked for, again",
            ),
            RequestError::KeyReused => Problem::new(
                ProblemCode::IdempotencyKeyReused,
                "this Idempotency-Key was used for another request in the last 24 hours; use a new key",
            ),
            RequestError::Shards { failures, total, cause } => shards_problem(failures, *total, cause),
            RequestError::CopiesBehind { failures, total, .. } => {
                let behind = failures.len();
                let detail = format!("written, but {behind} of {total} further copies did not take it; send it again");
                let mut problem = Problem::new(ProblemCode::ShardUnavailable, detail);
                problem.failures = failures.clone();
                problem
            }
            RequestError::OutcomeUnknown { .. } => Problem::new(
                ProblemCode::WriteOutcomeUnknown,
                "the write was not confirmed: it may or may not have happened, or last; send it again under the same Idempotency-Key",
            ),
            RequestError::Deadline => {
                Problem::new(ProblemCode::DeadlineExceeded, "the deadline passed; X-Timeout-Ms sets it")
            }
            RequestError::Idle { seconds } => Problem::new(
                ProblemCode::DeadlineExceeded,
                format!(
                    "nothing was sent or taken for {seconds} s: what was not confirmed is to be sent, or asked for, again"
                ),
            ),
            RequestError::Bug(_) => {
                Problem::new(ProblemCode::Internal, "the request met a bug; the log has it under the request id")
            }
            RequestError::Overloaded => {
                Problem::new(ProblemCode::Overloaded, "too many requests are under way; try again in a moment")
            }
        }
    }
}

/// `many` says what is wrong if it is more than one field.
fn fields_problem(code: ProblemCode, many: String, errors: &[FieldError]) -> Problem {
    let detail = match errors {
        [one] => one.detail.clone(),
        _ => many,
    };
    let mut problem = Problem::new(code, detail);
    problem.errors = errors.to_vec();
    problem
}

fn shards_problem(failures: &[ShardFailure], total: usize, cause: &ShardError) -> Problem {
    let all_of = |reasons: &[&str]| {
        !failures.is_empty() && failures.iter().all(|failure| reasons.contains(&failure.reason.as_str()))
    };
    let all = |reason: &str| all_of(&[reason]);
    let some = |reason: &str| failures.iter().any(|failure| failure.reason == reason);
    let gave_none = format!("{} of {total} shards gave no answer", failures.len());
    let mut problem = if matches!(cause, ShardError::Refused { .. } | ShardError::Malformed { .. }) {
        Problem::new(
            ProblemCode::Internal,
            "a shard could not do what it was asked; the log has the reason under the request id",
        )
    } else if some("overloaded") && all_of(&["overloaded", "deadline"]) {
        Problem::new(ProblemCode::Overloaded, format!("{gave_none}: too many requests wait for their workers"))
    } else if all("fenced") {
        Problem::new(
            ProblemCode::WriteFenced,
            format!("{gave_none}: they are being handed over to other groups; try again in a moment"),
        )
    } else if all("deadline") && failures.len() == total {
        Problem::new(ProblemCode::DeadlineExceeded, format!("{gave_none} before the deadline; X-Timeout-Ms sets it"))
    } else {
        Problem::new(
            ProblemCode::ShardUnavailable,
            format!("{gave_none}; see failures, and GET /v1/admin/workers for the state of workers"),
        )
    };
    problem.failures = failures.to_vec();
    problem
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_proto::ShardId;

    /// The code of a search whose shards failed so.
    fn code(reasons: &[&str]) -> ProblemCode {
        let failure =
            |reason: &&str| ShardFailure { shard: ShardId(1), group: "g".to_owned(), reason: (*reason).to_owned() };
        let cause = Box::new(ShardError::Overloaded { worker: "w".to_owned() });
        RequestError::Shards { failures: reasons.iter().map(failure).collect(), total: 3, cause }.problem().code
    }

    #[test]
    fn too_much_at_once_is_told_apart_from_workers_that_are_gone() {
        assert_eq!(code(&["overloaded"]), ProblemCode::Overloaded);
        assert_eq!(code(&["deadline", "overloaded", "deadline"]), ProblemCode::Overloaded, "waiting took the time");
        assert_eq!(code(&["overloaded", "unavailable"]), ProblemCode::ShardUnavailable);
        assert_eq!(code(&["deadline", "deadline", "deadline"]), ProblemCode::DeadlineExceeded);
        assert_eq!(code(&["deadline"]), ProblemCode::ShardUnavailable, "others had time");
        assert_eq!(code(&[]), ProblemCode::ShardUnavailable);
    }
}
