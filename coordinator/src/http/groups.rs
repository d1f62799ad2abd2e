//! Groups: listed, drained, made active again, removed. What drains a group is a plan of moves: here it is only marked.

use super::admin::{role, size};
use super::extract::{InPath, InQuery, Json, Terms};
use super::problem::{Answer, ApiError};
use super::record::record;
use super::state::App;
use atoll_core::catalog::{Command, Group, Refusal};
use atoll_core::routing::RoutingTable;
use atoll_proto::admin::{GroupInfo, GroupList, GroupState, MemberInfo, PositionInfo};
use atoll_proto::group::{Lag, Position};
use atoll_proto::{GroupId, WorkerId};
use axum::extract::State;
use serde::Deserialize;

/// List groups.
#[utoipa::path(get, path = "/v1/admin/groups", tag = "admin",
    responses((status = 200, body = GroupList)))]
pub(super) async fn groups(State(app): State<App>) -> Answer<Json<GroupList>> {
    Ok(Json(list(&app)))
}

/// Mark a group as draining: it takes no more shards, and plans of moves empty it. Moves nothing by itself.
#[utoipa::path(post, path = "/v1/admin/groups/{group}/drain", tag = "admin", params(("group" = String, Path)),
    responses((status = 200, body = GroupInfo)))]
pub(super) async fn drain(
    State(app): State<App>,
    InPath(name): InPath<String>,
    terms: Terms,
) -> Answer<Json<GroupInfo>> {
    set_state(&app, &name, terms, GroupState::Draining).await
}

/// Let a draining group take shards again. What has moved away stays away until a plan moves it.
#[utoipa::path(post, path = "/v1/admin/groups/{group}/activate", tag = "admin", params(("group" = String, Path)),
    responses((status = 200, body = GroupInfo)))]
pub(super) async fn activate(
    State(app): State<App>,
    InPath(name): InPath<String>,
    terms: Terms,
) -> Answer<Json<GroupInfo>> {
    set_state(&app, &name, terms, GroupState::Active).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RemoveQuery {
    /// Its servers will never answer again: what moves left on them is forgotten.
    #[serde(default)]
    lost: bool,
}

/// Take a drained group and its workers out of the cluster, for good. Answers with the groups that are left.
#[utoipa::path(delete, path = "/v1/admin/groups/{group}", tag = "admin",
    params(("group" = String, Path), RemoveQuery), responses((status = 200, body = GroupList)))]
pub(super) async fn remove(
    State(app): State<App>,
    InPath(name): InPath<String>,
    InQuery(query): InQuery<RemoveQuery>,
    terms: Terms,
) -> Answer<Json<GroupList>> {
    let id = id_of(&app, &name)?;
    record(&app, Command::RemoveGroup { id, lost: query.lost }, &terms).await?;
    tracing::info!(group = name, %id, "group removed");
    Ok(Json(list(&app)))
}

async fn set_state(app: &App, name: &str, terms: Terms, state: GroupState) -> Answer<Json<GroupInfo>> {
    let id = id_of(app, name)?;
    record(app, Command::SetGroupState { id, state }, &terms).await?;
    let view = app.node.view();
    match view.catalog.groups.get(&id) {
        Some(group) => Ok(Json(info(app, &view, id, group))),
        None => Err(unknown(name)),
    }
}

fn id_of(app: &App, name: &str) -> Result<GroupId, ApiError> {
    let view = app.node.view();
    let found = view.catalog.groups.iter().find(|(_, group)| group.name.as_str() == name);
    found.map(|(id, _)| *id).ok_or_else(|| unknown(name))
}

pub(super) fn unknown(name: &str) -> ApiError {
    Refusal::NoSuchGroup { group: name.to_owned() }.into()
}

fn list(app: &App) -> GroupList {
    let view = app.node.view();
    let groups = view.catalog.groups.iter().map(|(id, group)| info(app, &view, *id, group));
    let mut groups: Vec<GroupInfo> = groups.collect();
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    GroupList { groups }
}

pub(super) fn info(app: &App, view: &RoutingTable, id: GroupId, group: &Group) -> GroupInfo {
    let name = |id: &WorkerId| view.catalog.workers[id].name.to_string();
    let own = || view.shards().iter().filter(|route| route.group == id);
    let lags = app.board.lags(group.primary);
    let member = |member: &WorkerId| {
        let seen = app.board.status(*member).and_then(|status| status.member.clone());
        // By its own measure a primary is where it should be.
        let lag = if *member == group.primary { Some(Lag { bytes: 0, ms: 0 }) } else { lags.get(member).copied() };
        MemberInfo {
            restored: seen.as_ref().is_some_and(|seen| seen.report.restored),
            worker: name(member),
            role: role(*member == group.primary),
            up: app.board.is_up(*member),
            lag_bytes: lag.map(|lag| lag.bytes),
            lag_seconds: lag.map(|lag| lag.ms as f64 / 1_000.0),
            position: seen
                .and_then(|seen| seen.report.position)
                .map(|Position { generation, lsn }| PositionInfo { generation, lsn: lsn.to_string() }),
            heard_seconds_ago: app.board.heard_seconds_ago(*member),
        }
    };
    GroupInfo {
        group: group.name.to_string(),
        state: group.state,
        generation: group.generation,
        primary: name(&group.primary),
        phase: group.record.as_ref().map(|record| record.phase.name().to_owned()),
        in_sync: group.in_sync.iter().map(name).collect(),
        members: group.members.iter().map(member).collect(),
        shards: own().count() as u32,
        bytes: own().map(|route| size(app, view, route.shard).1).sum(),
    }
}
