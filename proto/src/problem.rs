//! Problem documents (RFC 9457): what a client is told when its request did not do what it asked.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal, $retryable:literal;)*) => {
        /// The closed list of problems. A client may match on the code; it never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum ProblemCode {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Stable name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// HTTP status: 4xx you can act, 500 our bug, 503 and 504 try again.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// For people; the same for every problem of the code.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Whether the same request may succeed later.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }
        }
    };
}

codes! {
    /// The body is no JSON.
    MalformedJson = "malformed-json", 400, "Malformed JSON", false;
    /// The port takes TLS only.
    TlsRequired = "tls-required", 400, "TLS required", false;
    /// The cursor was not made by this cluster for this list.
    BadCursor = "bad-cursor", 400, "Bad cursor", false;
    /// The session token is not one that a coordinator of this version makes.
    BadSessionToken = "bad-session-token", 400, "Bad session token", false;
    /// No key, or an unknown one.
    Unauthenticated = "unauthenticated", 401, "Unauthenticated", false;
    /// The key does not allow this.
    Forbidden = "forbidden", 403, "Forbidden", false;
    /// No such collection.
    CollectionNotFound = "collection-not-found", 404, "Collection not found", false;
    /// No such entry.
    EntryNotFound = "entry-not-found", 404, "Entry not found", false;
    /// No such path.
    RouteNotFound = "route-not-found", 404, "Route not found", false;
    /// No such move.
    MoveNotFound = "move-not-found", 404, "Move not found", false;
    /// No such group.
    GroupNotFound = "group-not-found", 404, "Group not found", false;
    /// No such key.
    KeyNotFound = "key-not-found", 404, "Key not found", false;
    /// No such operation.
    OperationNotFound = "operation-not-found", 404, "Operation not found", false;
    /// The path exists, the method doesn't.
    MethodNotAllowed = "method-not-allowed", 405, "Method not allowed", false;
    /// None of the accepted media types can be given.
    NotAcceptable = "not-acceptable", 406, "Not acceptable", false;
    /// The collection exists with settings that can't change.
    CollectionSettingsConflict = "collection-settings-conflict", 409, "Collection settings conflict", false;
    /// The shard is on the move already.
    MoveInProgress = "move-in-progress", 409, "Move in progress", true;
    /// The catalog changed since the plan was made.
    StalePlan = "stale-plan", 409, "Stale plan", false;
    /// The group is still needed, or not drained.
    GroupInUse = "group-in-use", 409, "Group in use", false;
    /// Without the key nobody could manage the cluster, or everybody.
    KeyInUse = "key-in-use", 409, "Key in use", false;
    /// What should be made is there.
    AlreadyExists = "already-exists", 409, "Already exists", false;
    /// The worker was taken out of the cluster.
    WorkerRemoved = "worker-removed", 410, "Worker removed", false;
    /// The entry is not at the version asked for.
    VersionMismatch = "version-mismatch", 412, "Version mismatch", false;
    /// The body is too large.
    BodyTooLarge = "body-too-large", 413, "Body too large", false;
    /// The body's media type is not taken.
    UnsupportedMediaType = "unsupported-media-type", 415, "Unsupported media type", false;
    /// A field is wrong.
    ValidationFailed = "validation-failed", 422, "Validation failed", false;
    /// The idempotency key was used for another body.
    IdempotencyKeyReused = "idempotency-key-reused", 422, "Idempotency key reused", false;
    /// The client asks more often than it may.
    RateLimited = "rate-limited", 429, "Rate limited", true;
    /// The service has as much to do as it can.
    Overloaded = "overloaded", 429, "Overloaded", true;
    /// Our fault.
    Internal = "internal", 500, "Internal error", false;
    /// A shard gave no answer.
    ShardUnavailable = "shard-unavailable", 503, "Shard unavailable", true;
    /// The shard is being handed over.
    WriteFenced = "write-fenced", 503, "Write fenced", true;
    /// The catalog has no leader just now.
    NoLeader = "no-leader", 503, "No leader", true;
    /// Too few replicas to acknowledge a write.
    NotEnoughReplicas = "not-enough-replicas", 503, "Not enough replicas", true;
    /// The deadline passed.
    DeadlineExceeded = "deadline-exceeded", 504, "Deadline exceeded", true;
    /// The write may or may not have happened.
    WriteOutcomeUnknown = "write-outcome-unknown", 504, "Write outcome unknown", true;
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:atoll:problem:<code>`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// For people; the same for every problem of the code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What a program matches on.
    pub code: ProblemCode,
    /// What is wrong this time, and what to do about it.
    pub detail: String,
    /// Path of the request.
    pub instance: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Names the request in the logs.
    pub request_id: Option<String>,
    /// The client's own `traceparent` (W3C), if it sent one.
    pub traceparent: Option<String>,
    /// Fields at fault.
    pub errors: Vec<FieldError>,
    /// Shards that gave no answer.
    pub failures: Vec<ShardFailure>,
}

/// A field at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the request's body; empty for the body itself and for what is not in it: the path, the
    /// query, a header.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// A shard that gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShardFailure {
    /// The shard.
    pub shard: crate::ShardId,
    /// The group that owns it.
    pub group: String,
    /// `unavailable`, `deadline`, `overloaded`, `stale`, `fenced` or `internal`.
    pub reason: String,
}

impl Problem {
    /// A problem with a detail; the edge adds path and request id.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("urn:atoll:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            instance: None,
            retryable: code.retryable(),
            request_id: None,
            traceparent: None,
            errors: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// `validation-failed` for one field.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let mut problem = Self::new(ProblemCode::ValidationFailed, detail.clone());
        problem.errors.push(FieldError { pointer: pointer.into(), detail });
        problem
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_are_unique_and_written_as_they_serialise() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ProblemCode::ALL {
            assert!(seen.insert(code.as_str()));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..=599).contains(&code.status()));
        }
    }
}
