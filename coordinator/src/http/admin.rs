//! What the cluster consists of, for operators.

use super::extract::{Body, InPath, InQuery, Json, Terms};
use super::problem::Answer;
use super::state::App;
use crate::raft::Hop;
use atoll_core::routing::RoutingTable;
use atoll_proto::admin::{AddCoordinator, ClusterInfo, ShardInfo, ShardList, WorkerInfo, WorkerList};
use atoll_proto::finding::FindingList;
use atoll_proto::{CoordinatorId, Generation, ShardId, WorkerId};
use axum::extract::State;
use serde::Deserialize;
use std::time::Duration;

/// Usual time for a coordinator to come or go.
const MEMBERSHIP_TIME: Duration = Duration::from_secs(25);

/// Show coordinators, leader and catalog.
#[utoipa::path(get, path = "/v1/admin/cluster", tag = "admin",
    responses((status = 200, body = ClusterInfo)))]
pub(super) async fn cluster(State(app): State<App>) -> Answer<Json<ClusterInfo>> {
    Ok(Json(app.node.cluster_info()))
}

/// Make a coordinator that has joined a voter.
#[utoipa::path(post, path = "/v1/admin/coordinators", tag = "admin", request_body = AddCoordinator,
    responses((status = 200, body = ClusterInfo)))]
pub(super) async fn add_coordinator(
    State(app): State<App>,
    terms: Terms,
    body: Body<AddCoordinator>,
) -> Answer<Json<ClusterInfo>> {
    app.node.add_coordinator(body.value.id, Hop::First, terms.deadline_or(MEMBERSHIP_TIME)).await?;
    Ok(Json(app.node.cluster_info()))
}

/// Let a coordinator leave for good. Its id is never used again.
#[utoipa::path(delete, path = "/v1/admin/coordinators/{id}", tag = "admin", params(("id" = u64, Path)),
    responses((status = 200, body = ClusterInfo)))]
pub(super) async fn remove_coordinator(
    State(app): State<App>,
    InPath(id): InPath<u64>,
    terms: Terms,
) -> Answer<Json<ClusterInfo>> {
    app.node.remove_coordinator(CoordinatorId(id), Hop::First, terms.deadline_or(MEMBERSHIP_TIME)).await?;
    Ok(Json(app.node.cluster_info()))
}

/// List workers.
#[utoipa::path(get, path = "/v1/admin/workers", tag = "admin",
    responses((status = 200, body = WorkerList)))]
pub(super) async fn workers(State(app): State<App>) -> Answer<Json<WorkerList>> {
    let view = app.node.view();
    let catalog = &view.catalog;
    let one = |(id, worker): (&WorkerId, &atoll_core::catalog::Worker)| {
        let group = &catalog.groups[&worker.group];
        let status = app.board.status(*id);
        // What the agent sees now is newer than what it registered with.
        let facts = status.as_ref().and_then(|status| status.facts.clone()).unwrap_or_else(|| worker.facts.clone());
        WorkerInfo {
            worker: worker.name.to_string(),
            group: group.name.to_string(),
            role: role(*id == group.primary),
            mode: worker.mode,
            up: app.board.is_up(*id),
            postgres: facts.version,
            pgvector: facts.pgvector,
            bytes: status.map_or(0, |status| status.bytes),
        }
    };
    let mut workers: Vec<WorkerInfo> = catalog.workers.iter().map(one).collect();
    workers.sort_by(|a, b| a.worker.cmp(&b.worker));
    Ok(Json(WorkerList { workers }))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfGroup {
    /// Only shards of this group.
    group: Option<String>,
}

/// List shards.
#[utoipa::path(get, path = "/v1/admin/shards", tag = "admin", params(OfGroup),
    responses((status = 200, body = ShardList)))]
pub(super) async fn shards(
    State(app): State<App>,
    InQuery(OfGroup { group }): InQuery<OfGroup>,
) -> Answer<Json<ShardList>> {
    let view = app.node.view();
    let wanted = view.shards().iter().filter(|route| group.as_ref().is_none_or(|group| **group == *route.group_name));
    let shards = wanted.map(|route| {
        let (rows, bytes) = size(&app, &view, route.shard);
        let generation: Generation = route.generation;
        ShardInfo {
            shard: route.shard,
            group: route.group_name.to_string(),
            generation,
            schema: route.schema.to_string(),
            rows,
            bytes,
            moving: view.catalog.move_of(route.shard).map(|(id, _)| id.0),
        }
    });
    Ok(Json(ShardList { shards: shards.collect() }))
}

/// Say what is wrong or unwise, and what to do about it.
#[utoipa::path(get, path = "/v1/admin/findings", tag = "admin",
    responses((status = 200, body = FindingList)))]
pub(super) async fn findings(State(app): State<App>) -> Answer<Json<FindingList>> {
    Ok(Json(FindingList { findings: app.findings.list() }))
}

/// Rows and bytes of all tables of a shard, as its agent last counted them.
pub(super) fn size(app: &App, view: &RoutingTable, shard: ShardId) -> (u64, u64) {
    let tables =
        view.catalog.collections.values().filter_map(|collection| app.board.size(Some(shard), &collection.name));
    tables.fold((0, 0), |sum, (rows, bytes)| (sum.0 + rows, sum.1 + bytes))
}

pub(super) fn role(is_primary: bool) -> String {
    if is_primary { "primary".to_owned() } else { "standby".to_owned() }
}
