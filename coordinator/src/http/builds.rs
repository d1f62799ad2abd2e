//! Graphs on their way, as agents last told.

use super::extract::Json;
use super::problem::Answer;
use super::state::App;
use atoll_core::routing::RoutingTable;
use atoll_proto::admin::BuildList;
use atoll_proto::build::{BuildState, GraphBuild};
use atoll_proto::entry::Tier;
use atoll_proto::{CollectionName, Namespace, ShardId, WorkerId};
use axum::extract::State;
use std::cmp::Reverse;

/// List graphs that are being built or will be.
#[utoipa::path(get, path = "/v1/admin/builds", tag = "admin",
    responses((status = 200, body = BuildList)))]
pub(super) async fn builds(State(app): State<App>) -> Answer<Json<BuildList>> {
    let view = app.node.view();
    let mut list = BuildList { builds: Vec::new(), counting: false, asked_ms_ago: None, silent: Vec::new() };
    for group in view.catalog.groups.values() {
        let record = app.board.record(group.primary);
        let Some((record, status)) = record.as_ref().and_then(|record| Some((record, record.status.as_ref()?))) else {
            list.silent.push(view.catalog.workers[&group.primary].name.to_string());
            continue;
        };
        if record.error.is_some() {
            list.silent.push(view.catalog.workers[&group.primary].name.to_string());
        }
        let asked = record.answered_at.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        list.asked_ms_ago = list.asked_ms_ago.max(asked);
        list.counting |= status.counting;
        list.builds.extend(of_primary(&view, group.primary, &status.builds));
    }
    list.builds.sort_by_key(|build| (build.state, Reverse(build.rows)));
    list.silent.sort_unstable();
    Ok(Json(list))
}

/// What a namespace's size earned it on its worker, and its graph that is not there yet. No `shard` for a reference collection.
pub(super) fn tier(
    app: &App,
    worker: WorkerId,
    shard: Option<ShardId>,
    collection: &CollectionName,
    namespace: &Namespace,
) -> (Tier, Option<GraphBuild>) {
    let status = app.board.status(worker);
    let is_its = |build: &&GraphBuild| {
        (build.shard, &build.collection, build.namespace.as_str()) == (shard, collection, namespace.as_str())
    };
    let build = status.and_then(|status| status.builds.iter().find(is_its).cloned());
    let (graphs, _) = app.board.graphs(shard, collection);
    let tier = match &build {
        _ if graphs.iter().any(|(graph, _)| graph == namespace) => Tier::Graph,
        Some(build) if build.state == BuildState::Building => Tier::Building,
        Some(_) | None => Tier::Exact,
    };
    (tier, build)
}

/// A shard that has moved away is no longer this worker's to tell of.
fn of_primary(view: &RoutingTable, worker: WorkerId, builds: &[GraphBuild]) -> impl Iterator<Item = GraphBuild> {
    let owned = move |shard: ShardId| view.shard(shard).is_some_and(|route| route.primary.worker == worker);
    builds.iter().filter(move |build| build.shard.is_none_or(owned)).cloned()
}
