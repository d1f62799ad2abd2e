//! The internal listener: Raft's messages, coordinators that join and leave, agents that register, the way back where all admin keys are
//! lost. Every route asks for the cluster secret.

use super::middleware::around_internal;
use super::problem::{ApiError, refusal_problem};
use super::{audit, keys};
use crate::internal_client::{BODY_BYTES_MAX, FORWARDED_HEADER};
use crate::raft::{
    APPEND_PATH, Alive, CatalogNode, ForwardedCommand, HEALTH_PATH, Hop, PROPOSE_PATH, REMOVE_PATH, RemoveCoordinator,
    SNAPSHOT_PATH, VOTE_PATH,
};
use atoll_core::catalog::{Catalog, Command, Outcome, Refusal};
use atoll_proto::agent::{REGISTER_PATH, RegisterWorker, Registered};
use atoll_proto::join::{JOIN_PATH, JoinCluster, JoinReady, READY_PATH};
use atoll_proto::key::RECOVER_PATH;
use atoll_proto::problem::{Problem, ProblemCode};
use atoll_proto::{GroupId, WorkerId};
use atoll_trust::ClusterSecret;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::Instant;

/// For a registration to go through the log.
const REGISTER_WITHIN: Duration = Duration::from_secs(5);
/// For a key to go through the log.
const RECOVER_WITHIN: Duration = Duration::from_secs(5);
/// For a coordinator to become a member: the catalog has to be carried over to it first. Below what a newcomer waits.
const MEMBERSHIP_WITHIN: Duration = Duration::from_secs(25);

/// The routes of the internal listener.
pub fn router(node: CatalogNode, secret: ClusterSecret) -> Router {
    Router::new()
        .route(APPEND_PATH, post(append))
        .route(VOTE_PATH, post(vote))
        .route(SNAPSHOT_PATH, post(snapshot))
        .route(PROPOSE_PATH, post(propose))
        .route(JOIN_PATH, post(join))
        .route(READY_PATH, post(ready))
        .route(REMOVE_PATH, post(remove))
        .route(REGISTER_PATH, post(register))
        .route(RECOVER_PATH, post(recover_key))
        .route(HEALTH_PATH, get(health))
        .fallback(no_such_route)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(secret, require_secret))
        .layer(from_fn(around_internal))
        .with_state(node)
}

type Answer = super::problem::Answer<Response>;

async fn require_secret(State(secret): State<ClusterSecret>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION);
    if authorization.is_some_and(|presented| secret.is_presented_by(presented.as_bytes())) {
        return next.run(request).await;
    }
    if request.uri().path() == RECOVER_PATH {
        audit::note(request.method(), RECOVER_PATH, "none", StatusCode::UNAUTHORIZED);
    }
    ApiError::from(Problem::new(ProblemCode::Unauthenticated, "the cluster secret is missing or wrong")).into_response()
}

async fn no_such_route() -> ApiError {
    Problem::new(ProblemCode::RouteNotFound, "there is no such internal route").into()
}

async fn append(State(node): State<CatalogNode>, body: Bytes) -> Answer {
    Ok(json_response(node.receive_append(&body).await?))
}

async fn vote(State(node): State<CatalogNode>, body: Bytes) -> Answer {
    Ok(json_response(node.receive_vote(&body).await?))
}

async fn snapshot(State(node): State<CatalogNode>, body: Bytes) -> Answer {
    Ok(json_response(node.receive_snapshot(&body).await?))
}

async fn propose(State(node): State<CatalogNode>, body: Bytes) -> Answer {
    let forwarded: ForwardedCommand = parsed(&body)?;
    Ok(json_response(json(&node.propose_forwarded(forwarded).await?)))
}

async fn join(State(node): State<CatalogNode>, headers: HeaderMap, body: Bytes) -> Answer {
    let asked: JoinCluster = parsed(&body)?;
    Ok(json_response(json(&node.join(asked, hop(&headers), Instant::now() + MEMBERSHIP_WITHIN).await?)))
}

async fn ready(State(node): State<CatalogNode>, headers: HeaderMap, body: Bytes) -> Answer {
    let JoinReady { id } = parsed(&body)?;
    Ok(json_response(json(&node.add_coordinator(id, hop(&headers), Instant::now() + MEMBERSHIP_WITHIN).await?)))
}

async fn remove(State(node): State<CatalogNode>, headers: HeaderMap, body: Bytes) -> Answer {
    let RemoveCoordinator { id } = parsed(&body)?;
    Ok(json_response(json(&node.remove_coordinator(id, hop(&headers), Instant::now() + MEMBERSHIP_WITHIN).await?)))
}

/// Noted whatever becomes of it: who keeps an eye on keys has to hear of one that no key allowed.
async fn recover_key(State(node): State<CatalogNode>, body: Bytes) -> Answer {
    let done = match parsed(&body) {
        Ok(asked) => keys::recover(&node, asked, Instant::now() + RECOVER_WITHIN).await,
        Err(error) => Err(error),
    };
    let status = done.as_ref().map_or_else(|error| error.status(), Response::status);
    audit::note(&Method::POST, RECOVER_PATH, "the cluster secret", status);
    done
}

async fn health(State(node): State<CatalogNode>) -> Response {
    json_response(json(&Alive { cluster_id: node.cluster_id().to_owned(), id: node.id() }))
}

async fn register(State(node): State<CatalogNode>, body: Bytes) -> Answer {
    let worker: RegisterWorker = parsed(&body)?;
    // Agents register every few seconds. What the view already knows, or refuses, needs no entry in the log; a view that
    // is out of date is put right by the next registration.
    let (worker_id, group) = match rehearse(&node.view().catalog, worker.clone()) {
        Rehearsal::Known { worker, group } => (worker, group),
        Rehearsal::Refused(refusal) => return Err(refusal_problem(&refusal).into()),
        Rehearsal::Changes => {
            let name = worker.name.clone();
            let command = Command::RegisterWorker(worker);
            let proposed = node.propose(command, Instant::now() + REGISTER_WITHIN).await?;
            if let Outcome::Refused(refusal) = &proposed.outcome {
                return Err(refusal_problem(refusal).into());
            }
            let view = node.view();
            let Some((worker, known)) = view.catalog.worker(&name) else {
                let detail = "the worker is registered; this coordinator has not heard of it yet";
                return Err(Problem::new(ProblemCode::WriteOutcomeUnknown, detail).into());
            };
            tracing::info!(worker = %name, id = %worker, group = %known.group, "worker registered");
            (worker, known.group)
        }
    };
    let Some(desired) = node.view().catalog.desired_state(group) else {
        return Err(refusal_problem(&Refusal::NotInitialised).into());
    };
    let cluster_id = node.cluster_id().to_owned();
    Ok(json_response(json(&Registered { cluster_id, worker: worker_id, group, desired })))
}

/// What a registration would come to.
enum Rehearsal {
    Known { worker: WorkerId, group: GroupId },
    Refused(Refusal),
    Changes,
}

/// Applies a registration to a copy: the catalog's own rules say whether it would change anything.
fn rehearse(catalog: &Catalog, asked: RegisterWorker) -> Rehearsal {
    let name = asked.name.clone();
    let mut copy = catalog.clone();
    match copy.apply(catalog.version.0 + 1, Command::RegisterWorker(asked)) {
        // A coordinator that has just joined has an empty catalog yet; the leader's has more.
        Outcome::Refused(Refusal::NotInitialised) => Rehearsal::Changes,
        Outcome::Refused(refusal) => Rehearsal::Refused(refusal),
        Outcome::Unchanged => match catalog.worker(&name) {
            Some((worker, known)) => Rehearsal::Known { worker, group: known.group },
            None => Rehearsal::Changes,
        },
        Outcome::Done
        | Outcome::CoordinatorAdded { .. }
        | Outcome::WorkerRegistered { .. }
        | Outcome::MoveStarted { .. }
        | Outcome::CollectionPut { .. } => Rehearsal::Changes,
    }
}

fn hop(headers: &HeaderMap) -> Hop {
    if headers.contains_key(FORWARDED_HEADER) { Hop::Forwarded } else { Hop::First }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> super::problem::Answer<T> {
    serde_json::from_slice(body).map_err(|error| Problem::new(ProblemCode::MalformedJson, error.to_string()).into())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("wire shapes are plain structs with string keys, which serialise")
}

fn json_response(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
