//! For machines that look after this one: health, readiness, metrics, version, and the API's own description.

use super::admin::size;
use super::extract::Json;
use super::state::App;
use atoll_core::catalog::{Catalog, Group};
use atoll_proto::GroupId;
use atoll_proto::admin::{GroupState, Readiness, VersionInfo};
use atoll_proto::group::GroupRecord;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Whether the process is up.
#[utoipa::path(get, path = "/healthz", tag = "service", responses((status = 200, description = "It is", body = String, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests will be served: a view of the catalog, shards placed, a member of every group in reach.
#[utoipa::path(get, path = "/readyz", tag = "service",
    responses((status = 200, body = Readiness), (status = 503, description = "Not yet, or not any more", body = Readiness)))]
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let reasons = not_ready_because(&app);
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: reasons.is_empty(), reasons })).into_response()
}

fn not_ready_because(app: &App) -> Vec<String> {
    let view = app.node.view();
    if app.leaving.load(Ordering::Relaxed) {
        return vec!["it was told to stop".to_owned()];
    }
    let mut reasons = Vec::new();
    let Some(cluster) = &view.catalog.cluster else {
        return vec!["the catalog is not loaded yet".to_owned()];
    };
    if !view.is_placed() {
        let registered = view.catalog.full_groups().count();
        reasons.push(format!("{registered} of {} groups have registered", cluster.initial_groups));
    }
    if !app.node.has_caught_up() {
        reasons.push("the catalog's leader has not been heard of yet".to_owned());
    }
    for group in view.catalog.groups.values() {
        if !group.members.iter().any(|member| app.board.was_up_lately(*member)) {
            reasons.push(format!("no worker of group {} answers", group.name));
        }
    }
    reasons
}

/// Name and version of the program.
#[utoipa::path(get, path = "/version", tag = "service", responses((status = 200, body = VersionInfo)))]
pub(super) async fn version() -> Json<VersionInfo> {
    Json(VersionInfo { name: "atoll".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// What is no JSON: metrics and the API's own description.
pub(super) fn untyped_routes(app: App) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/openapi.json", get(openapi_json)).with_state(app)
}

async fn metrics(State(app): State<App>) -> Response {
    let metrics = &app.metrics;
    // A worker or a group that was removed has no figures.
    for of_something in [
        &metrics.connections_active,
        &metrics.connections_idle,
        &metrics.connections_max,
        &metrics.connections_waiting,
        &metrics.worker_up,
        &metrics.group_shards,
        &metrics.group_bytes,
        &metrics.group_capacity,
        &metrics.group_has_primary,
        &metrics.group_members,
        &metrics.group_in_sync,
        &metrics.lag_bytes,
    ] {
        of_something.reset();
    }
    metrics.lag_seconds.reset();
    for gauge in app.workers.gauges() {
        let labels = [gauge.worker.as_str()];
        metrics.connections_active.with_label_values(&labels).set(gauge.active as i64);
        metrics.connections_idle.with_label_values(&labels).set(gauge.idle as i64);
        metrics.connections_max.with_label_values(&labels).set(gauge.max as i64);
        metrics.connections_waiting.with_label_values(&labels).set(gauge.waiting as i64);
    }
    let view = app.node.view();
    // Summed here and not in the gauges: somebody else may be asking for them too.
    let mut held: BTreeMap<GroupId, (i64, i64)> = BTreeMap::new();
    for route in view.shards() {
        let (rows, bytes) = size(&app, &view, route.shard);
        let shard = route.shard.to_string();
        metrics.shard_rows.with_label_values(&[shard.as_str()]).set(rows as i64);
        metrics.shard_bytes.with_label_values(&[shard.as_str()]).set(bytes as i64);
        let (shards, sum) = held.entry(route.group).or_default();
        (*shards, *sum) = (*shards + 1, *sum + bytes as i64);
    }
    for (id, group) in &view.catalog.groups {
        let labels = [group.name.as_str()];
        let (shards, bytes) = held.get(id).copied().unwrap_or_default();
        // One that is being emptied should hold nothing.
        let capacity = match group.state {
            GroupState::Active => view.catalog.primary(group).capacity,
            GroupState::Draining => 0,
        };
        metrics.group_shards.with_label_values(&labels).set(shards);
        metrics.group_bytes.with_label_values(&labels).set(bytes);
        metrics.group_capacity.with_label_values(&labels).set(i64::from(capacity));
        if let Some(record) = &group.record {
            measure_replication(&app, &view.catalog, group, record);
        }
    }
    for (id, worker) in &view.catalog.workers {
        metrics.worker_up.with_label_values(&[worker.name.as_str()]).set(i64::from(app.board.is_up(*id)));
    }
    let moves = view.catalog.moves.values().filter(|job| !job.phase.is_over());
    metrics.moves_active.set(moves.count() as i64);
    metrics.cache_bytes.set(app.searcher.cache_bytes() as i64);
    metrics.catalog_version.set(view.version.0 as i64);
    metrics.leader.set(i64::from(app.node.is_leader()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}

/// A group with standbys: who could take over, and how far each lies behind.
fn measure_replication(app: &App, catalog: &Catalog, group: &Group, record: &GroupRecord) {
    let (metrics, labels) = (&app.metrics, [group.name.as_str()]);
    let in_sync = group.in_sync.iter().filter(|member| app.board.is_up_in_sync(record, **member)).count();
    metrics.group_has_primary.with_label_values(&labels).set(i64::from(app.board.has_primary(record)));
    metrics.group_members.with_label_values(&labels).set(group.members.len() as i64);
    metrics.group_in_sync.with_label_values(&labels).set(in_sync as i64);
    for (member, lag) in app.board.lags(group.primary) {
        let Some(worker) = catalog.workers.get(&member) else { continue };
        let labels = [group.name.as_str(), worker.name.as_str()];
        metrics.lag_bytes.with_label_values(&labels).set(i64::try_from(lag.bytes).unwrap_or(i64::MAX));
        metrics.lag_seconds.with_label_values(&labels).set(lag.ms as f64 / 1_000.0);
    }
}

async fn openapi_json() -> Json<utoipa::openapi::OpenApi> {
    Json(super::openapi())
}
