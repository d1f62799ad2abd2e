//! Collections: listed, made, changed, dropped.

use super::extract::{Body, InPath, Json, Terms};
use super::problem::Answer;
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
    responses((status = 200, body = CollectionList), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(State(app): State<App>) -> Answer<Json<CollectionList>> {
    std::future::ready(()).await;
    let view = app.node.view();
    let mut collections: Vec<CollectionInfo> = view.catalog.collections.values().map(info).collect();
    collections.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(CollectionList { collections }))
}

/// Show a collection.
#[utoipa::path(get, path = "/v1/collections/{c}", tag = "collections", params(("c" = CollectionName, Path)),
    responses((status = 200, body = CollectionInfo), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(State(app): State<App>, InPath(name): InPath<CollectionName>) -> Answer<Json<CollectionInfo>> {
    std::future::ready(()).await;
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
        (status = 201, description = "It is new", body = CollectionInfo),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
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
    let known = app.node.view().collection(&name).cloned();
    if let Some(known) = &known
        && known.settled
        && known.settings == settings
    {
        return Ok(Json(info(known)).into_response());
    }
    let proposed = app.node.propose(Command::PutCollection { name: name.clone(), settings }, deadline).await?;
    let (id, changed_at) = collection_put(proposed.outcome)?;
    wait(&app, id, changed_at, deadline).await?;
    let view = app.node.view();
    let Some(collection) = view.collection(&name) else { return Err(not_found(&name).into()) };
    let status = if known.is_none() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(info(collection))).into_response())
}

/// Drop a collection and all its entries. Answers when every server has dropped its tables.
#[utoipa::path(delete, path = "/v1/collections/{c}", tag = "collections", params(("c" = CollectionName, Path)),
    responses((status = 200, body = CollectionDropped), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn delete(
    State(app): State<App>,
    InPath(name): InPath<CollectionName>,
    terms: Terms,
) -> Answer<Json<CollectionDropped>> {
    let deadline = terms.deadline_or(DDL_TIME);
    let proposed = app.node.propose(Command::DropCollection { name }, deadline).await?;
    let (id, changed_at) = collection_put(proposed.outcome)?;
    wait(&app, id, changed_at, deadline).await?;
    Ok(Json(CollectionDropped { dropped: true }))
}

fn collection_put(outcome: Outcome) -> Answer<(CollectionId, CatalogVersion)> {
    match outcome {
        Outcome::CollectionPut { id, changed_at } => Ok((id, changed_at)),
        Outcome::Refused(refusal) => Err(refusal.into()),
        Outcome::Done | Outcome::Unchanged | Outcome::CoordinatorAdded { .. } | Outcome::WorkerRegistered { .. } => {
            Err(Problem::new(ProblemCode::Internal, "the catalog gave an outcome of another command").into())
        }
    }
}

async fn wait(app: &App, id: CollectionId, changed_at: CatalogVersion, deadline: Instant) -> Answer<()> {
    match wait_settled(&app.node, &app.board, id, changed_at, deadline).await {
        SettleWait::Settled => Ok(()),
        SettleWait::StillPending { groups } if groups.is_empty() => {
            let detail = "the change is recorded and will be carried out once the cluster's workers have registered";
            Err(Problem::new(ProblemCode::ShardUnavailable, detail).into())
        }
        SettleWait::StillPending { groups } => {
            let detail = format!(
                "the change is recorded, and will be carried out when these groups answer: {}; send it again to wait",
                groups.join(", ")
            );
            Err(Problem::new(ProblemCode::ShardUnavailable, detail).into())
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
