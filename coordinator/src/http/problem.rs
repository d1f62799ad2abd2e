//! Where errors become HTTP answers: a request's by its own mapping ([`RequestError::problem`]), the catalog's by those below.
//! A handler's error travels as a response extension to the middleware
//! around it, which adds path and request id, logs the chain of causes once, and writes the document. A 5xx never shows SQL,
//! PostgreSQL's text or host names: causes go to the log alone.

use crate::error::RequestError;
use crate::raft::{MembershipError, ProposeError};
use atoll_core::catalog::Refusal;
use atoll_proto::problem::{Problem, ProblemCode};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::error::Error;
use std::sync::Arc;

/// What a handler fails with.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub(super) problem: Box<Problem>,
    pub(super) cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// The status that it is answered with.
    pub(super) fn status(&self) -> StatusCode {
        status_of(&self.problem)
    }
}

/// Answer of a handler.
pub(super) type Answer<T> = Result<T, ApiError>;

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), cause: None }
    }
}

impl From<Box<Problem>> for ApiError {
    fn from(problem: Box<Problem>) -> Self {
        Self { problem, cause: None }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let problem = Box::new(error.problem());
        Self { problem, cause: Some(Arc::new(error)) }
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        Self { problem: Box::new(propose_problem(&error)), cause: Some(Arc::new(error)) }
    }
}

impl From<MembershipError> for ApiError {
    fn from(error: MembershipError) -> Self {
        Self { problem: Box::new(membership_problem(&error)), cause: Some(Arc::new(error)) }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        refusal_problem(&refusal).into()
    }
}

fn propose_problem(error: &ProposeError) -> Problem {
    match error {
        ProposeError::NoLeader => {
            Problem::new(ProblemCode::NoLeader, "the catalog has no leader just now; try again in a moment")
        }
        ProposeError::Stopped => Problem::new(ProblemCode::NoLeader, "this coordinator is stopping; ask another one"),
        ProposeError::Deadline => Problem::new(
            ProblemCode::WriteOutcomeUnknown,
            "the catalog did not confirm the change in time; it may still happen: look, or send it again",
        ),
        ProposeError::Refused(problem) => problem.as_ref().clone(),
    }
}

fn membership_problem(error: &MembershipError) -> Problem {
    let code = match error {
        MembershipError::NoLeader | MembershipError::Stopped => ProblemCode::NoLeader,
        MembershipError::Deadline => ProblemCode::WriteOutcomeUnknown,
        MembershipError::NotFound { .. } => ProblemCode::OperationNotFound,
        MembershipError::LastVoter { .. } => ProblemCode::ValidationFailed,
        MembershipError::AlreadyMember { .. } => ProblemCode::AlreadyExists,
        MembershipError::Refused(refusal) => return refusal_problem(refusal),
        MembershipError::Leader(problem) => return problem.as_ref().clone(),
    };
    Problem::new(code, error.to_string())
}

/// A refusal of the catalog.
pub(super) fn refusal_problem(refusal: &Refusal) -> Problem {
    let code = match refusal {
        Refusal::SettingsConflict { .. } | Refusal::BeingDropped { .. } => ProblemCode::CollectionSettingsConflict,
        Refusal::MoveInProgress { .. } | Refusal::MoveLeftThings { .. } | Refusal::RebalanceInProgress { .. } => {
            ProblemCode::MoveInProgress
        }
        Refusal::StalePlan { .. } => ProblemCode::StalePlan,
        Refusal::NoRebalance => ProblemCode::OperationNotFound,
        Refusal::NoSuchKey { .. } => ProblemCode::KeyNotFound,
        Refusal::KeyNotValid => ProblemCode::Unauthenticated,
        Refusal::FirstKeyNotAdmin | Refusal::TooManyKeys => ProblemCode::ValidationFailed,
        Refusal::LastAdminKey { .. } | Refusal::LastKey { .. } => ProblemCode::KeyInUse,
        Refusal::NoSuchMove { .. } => ProblemCode::MoveNotFound,
        Refusal::NoSuchGroup { .. } => ProblemCode::GroupNotFound,
        Refusal::LastActiveGroup { .. }
        | Refusal::GroupNotDraining { .. }
        | Refusal::GroupHoldsShards { .. }
        | Refusal::GroupHasMove { .. }
        | Refusal::OnlyWholeCopy { .. } => ProblemCode::GroupInUse,
        Refusal::WorkerRemoved { .. } => ProblemCode::WorkerRemoved,
        Refusal::NoSuchShard { .. }
        | Refusal::OwnsAlready { .. }
        | Refusal::GroupDraining { .. }
        | Refusal::Ephemeral { .. }
        | Refusal::KnowsNoGroups { .. }
        | Refusal::TooLateToCancel { .. } => ProblemCode::ValidationFailed,
        // Init is under way: try again.
        Refusal::NotInitialised => ProblemCode::NoLeader,
        Refusal::AlreadyInitialised { .. }
        | Refusal::NameTaken { .. }
        | Refusal::Replaced { .. }
        | Refusal::GroupTaken { .. }
        | Refusal::GroupFull { .. }
        | Refusal::OtherData { .. }
        | Refusal::OtherGroup { .. }
        | Refusal::KeyTaken { .. } => ProblemCode::AlreadyExists,
    };
    Problem::new(code, refusal.to_string())
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

fn status_of(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Writes the document.
pub(super) fn respond(problem: &Problem) -> Response {
    let status = status_of(problem);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    let mut response = (status, [content_type], body).into_response();
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A problem for an answer that some layer made without one.
pub(super) fn problem_of_status(status: StatusCode) -> Problem {
    let code = match status {
        StatusCode::NOT_FOUND => ProblemCode::RouteNotFound,
        StatusCode::METHOD_NOT_ALLOWED => ProblemCode::MethodNotAllowed,
        StatusCode::NOT_ACCEPTABLE => ProblemCode::NotAcceptable,
        StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::BodyTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemCode::UnsupportedMediaType,
        status if status.is_client_error() => ProblemCode::MalformedJson,
        _ => ProblemCode::Internal,
    };
    Problem::new(code, code.title())
}

pub(super) async fn route_not_found() -> ApiError {
    Problem::new(ProblemCode::RouteNotFound, "there is no such path; GET /openapi.json lists them").into()
}

pub(super) async fn method_not_allowed() -> ApiError {
    Problem::new(ProblemCode::MethodNotAllowed, "the path does not take this method; see the Allow header").into()
}

/// A handler's panic: our bug, told as such.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without text".to_owned(),
    };
    let problem = Problem::new(ProblemCode::Internal, "the request met a bug; the log has it under the request id");
    ApiError { problem: Box::new(problem), cause: Some(Arc::new(std::io::Error::other(text))) }.into_response()
}
