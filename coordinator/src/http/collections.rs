//! Collections: listed, made, changed, dropped.

use super::extract::{Body, InPath, Json, Terms};
use super::problem::{Answer, ApiError};
use super::state::App;
use crate::settle::{SettleWait, wait_settled};
use atoll_core::catalog::{Collection, Command, Outcome};
use atoll_proto::collection::{CollectionDropped, CollectionInfo, CollectionList, CollectionSettings};
use atoll_proto::problem::{Problem, ProblemCode};
use atoll_proto::{CatalogVersion, CollectionId, CollectionName};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tokio::time::Instant;

/// Usual time for tables to be made on every server.
const DDL_TIME: Duration = Duration::from_secs(30);

/// List collections.
#[utoipa::path(get, path = "/v1/collections", tag = "collections",
    responses((status = 200, body = CollectionList)))]
pub(super) async fn list(State(app): State<App>) -> Answer<Json<CollectionList>> {
    let view = app.node.view();
    let mut collections: Vec<CollectionInfo> = view.catalog.collections.values().map(info).collect();
    collections.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(CollectionList { collections }))
}

/// Show a collection.
#[utoipa::path(get, path = "/v1/collections/{c}", tag = "collections", params(("c" = CollectionName, Path)),
    responses((status = 200, body = CollectionInfo)))]
pub(super) async fn show(State(app): State<App>, InPath(name): InPath<CollectionName>) -> Answer<Json<CollectionInfo>> {
    let view = app.node.view();
    match view.collection(&name) {
        Some(collection) => Ok(Json(info(collection))),
        None => Err(not_found(&name).into()),
    }
}

/// Make a collection, or change of it what may change. Answers when every server has its tables.
#[utoipa::path(put, path = "/v1/collections/{c}", tag = "collections", params(("c" = CollectionName, Path)),
    request_body = CollectionSettings,
    responses((status = 200, description = "It was there, or was changed", body = CollectionInfo),
        (status = 201, description = "It is new", body = CollectionInfo)))]
pub(super) async fn put(
    State(app): State<App>,
    InPath(name): InPath<CollectionName>,
    terms: Terms,
    body: Body<CollectionSettings>,
) -> Answer<Response> {
    let settings = body.value;
    if let Err(error) = settings.validate() {
        return Err(Problem::invalid(error.pointer(), error.to_string()).into());
    }
    let deadline = terms.deadline_or(DDL_TIME);
    // Also what this coordinator takes for done: its view may be old.
    let proposed = app.node.propose(Command::PutCollection { name: name.clone(), settings }, deadline).await?;
    let (id, changed_at) = match proposed.outcome {
        Outcome::CollectionPut { id, changed_at } => (id, changed_at),
        Outcome::Refused(refusal) => return Err(refusal.into()),
        other @ (Outcome::Done
        | Outcome::Unchanged
        | Outcome::CoordinatorAdded { .. }
        | Outcome::WorkerRegistered { .. }
        | Outcome::MoveStarted { .. }) => return Err(unexpected(&other)),
    };
    wait(&app, id, changed_at, deadline).await?;
    let view = app.node.view();
    let Some(collection) = view.collection(&name) else { return Err(not_found(&name).into()) };
    // An id is the index of the entry that made it.
    let status = if id.0 == proposed.index { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(info(collection))).into_response())
}

/// Drop a collection and all its entries. Answers when every server has dropped its tables.
#[utoipa::path(delete, path = "/v1/collections/{c}", tag = "collections", params(("c" = CollectionName, Path)),
    responses((status = 200, body = CollectionDropped)))]
pub(super) async fn delete(
    State(app): State<App>,
    InPath(name): InPath<CollectionName>,
    terms: Terms,
) -> Answer<Json<CollectionDropped>> {
    let deadline = terms.deadline_or(DDL_TIME);
    let known = || app.node.view().catalog.collection(&name).map(|(id, _)| id);
    let id = match known() {
        Some(id) => id,
        None => {
            // Another coordinator may have made it a moment ago.
            app.node.catch_up(deadline).await?;
            known().ok_or_else(|| not_found(&name))?
        }
    };
    match app.node.propose(Command::DropCollection { id }, deadline).await?.outcome {
        Outcome::CollectionPut { id, changed_at } => wait(&app, id, changed_at, deadline).await?,
        Outcome::Unchanged => {}
        Outcome::Refused(refusal) => return Err(refusal.into()),
        other @ (Outcome::Done
        | Outcome::CoordinatorAdded { .. }
        | Outcome::WorkerRegistered { .. }
        | Outcome::MoveStarted { .. }) => {
            return Err(unexpected(&other));
        }
    }
    Ok(Json(CollectionDropped { dropped: true }))
}

fn unexpected(outcome: &Outcome) -> ApiError {
    Problem::new(ProblemCode::Internal, format!("the catalog gave an outcome of another command: {outcome:?}")).into()
}

async fn wait(app: &App, id: CollectionId, changed_at: CatalogVersion, deadline: Instant) -> Answer<()> {
    match wait_settled(&app.node, &app.board, id, changed_at, deadline).await {
        SettleWait::Settled => Ok(()),
        SettleWait::NotPlaced => {
            let detail = "the change is recorded and will be carried out once the cluster's workers have registered";
            Err(Problem::new(ProblemCode::ShardUnavailable, detail).into())
        }
        SettleWait::Behind { groups } => {
            let detail = format!(
                "the change is recorded, and will be carried out when these groups answer: {}; send it again to wait",
                groups.join(", ")
            );
            Err(Problem::new(ProblemCode::ShardUnavailable, detail).into())
        }
        SettleWait::NotNoted => {
            let detail = "the change was carried out, but the catalog has not noted it yet; send it again to wait";
            Err(Problem::new(ProblemCode::NoLeader, detail).into())
        }
    }
}

fn info(collection: &Collection) -> CollectionInfo {
    let Collection { name, settings, state, .. } = collection;
    CollectionInfo { name: name.clone(), state: *state, settings: settings.clone() }
}

fn not_found(name: &CollectionName) -> Problem {
    crate::error::RequestError::CollectionNotFound(name.clone()).problem()
}
