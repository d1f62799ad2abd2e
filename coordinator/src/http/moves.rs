//! Moves of shards: begun, shown, cancelled. The leader drives them, whoever was asked.

use super::admin::size;
use super::extract::{Body, InPath, Json, Terms};
use super::problem::{Answer, ApiError};
use super::record::{proposed, record};
use super::state::App;
use atoll_core::catalog::{Command, Outcome, Refusal};
use atoll_core::moves::MoveJob;
use atoll_core::routing::RoutingTable;
use atoll_proto::moves::{MoveInfo, MoveList, MovePhase, MoveSeen, StartMove, WRITE_PAUSE_MS_RANGE};
use atoll_proto::problem::{Problem, ProblemCode};
use atoll_proto::{GroupId, MoveId};
use axum::extract::State;

/// Begin to move a shard to another group. Searches and writes go on.
#[utoipa::path(post, path = "/v1/admin/moves", tag = "moves", request_body = StartMove,
    responses((status = 200, description = "It is recorded and will be carried out", body = MoveInfo)))]
pub(super) async fn start(State(app): State<App>, terms: Terms, body: Body<StartMove>) -> Answer<Json<MoveInfo>> {
    let StartMove { shard, to, max_write_pause_ms } = body.value;
    if !WRITE_PAUSE_MS_RANGE.contains(&max_write_pause_ms) {
        let (least, most) = (WRITE_PAUSE_MS_RANGE.start(), WRITE_PAUSE_MS_RANGE.end());
        return Err(Problem::invalid("/max_write_pause_ms", format!("{least} to {most}")).into());
    }
    let view = app.node.view();
    let Some(to) = view.catalog.groups.iter().find(|(_, group)| group.name.as_str() == to).map(|(id, _)| *id) else {
        let detail = format!("there is no group {to}; GET /v1/admin/groups lists them");
        return Err(Problem::invalid("/to", detail).into());
    };
    let token = format!("{:032x}", rand::random::<u128>());
    let command = Command::StartMove { token, shard, to, max_write_pause_ms };
    match proposed(&app, command, &terms).await? {
        Outcome::MoveStarted { id } => Ok(Json(info_of(&app, id)?)),
        Outcome::Refused(refusal @ (Refusal::NoSuchShard { .. } | Refusal::OwnsAlready { .. })) => {
            Err(Problem::invalid("/shard", refusal.to_string()).into())
        }
        Outcome::Refused(refusal @ (Refusal::GroupDraining { .. } | Refusal::NoSuchGroup { .. })) => {
            Err(Problem::invalid("/to", refusal.to_string()).into())
        }
        Outcome::Refused(refusal) => Err(refusal.into()),
        other @ (Outcome::Done
        | Outcome::Unchanged
        | Outcome::CoordinatorAdded { .. }
        | Outcome::WorkerRegistered { .. }
        | Outcome::CollectionPut { .. }) => {
            Err(Problem::new(ProblemCode::Internal, format!("unexpected outcome: {other:?}")).into())
        }
    }
}

/// List moves, the newest first.
#[utoipa::path(get, path = "/v1/admin/moves", tag = "moves", responses((status = 200, body = MoveList)))]
pub(super) async fn list(State(app): State<App>) -> Answer<Json<MoveList>> {
    let view = app.node.view();
    let moves = view.catalog.moves.iter().rev().map(|(id, job)| info(&app, &view, *id, job));
    Ok(Json(MoveList { moves: moves.collect() }))
}

/// Show a move.
#[utoipa::path(get, path = "/v1/admin/moves/{id}", tag = "moves", params(("id" = u64, Path)),
    responses((status = 200, body = MoveInfo)))]
pub(super) async fn show(State(app): State<App>, InPath(id): InPath<u64>) -> Answer<Json<MoveInfo>> {
    Ok(Json(info_of(&app, MoveId(id))?))
}

/// Give a move up and put everything back, as long as the target does not own the shard.
#[utoipa::path(post, path = "/v1/admin/moves/{id}/cancel", tag = "moves", params(("id" = u64, Path)),
    responses((status = 200, description = "It is recorded and will be carried out", body = MoveInfo)))]
pub(super) async fn cancel(State(app): State<App>, InPath(id): InPath<u64>, terms: Terms) -> Answer<Json<MoveInfo>> {
    let id = MoveId(id);
    record(&app, Command::CancelMove { id }, &terms).await?;
    Ok(Json(info_of(&app, id)?))
}

fn info_of(app: &App, id: MoveId) -> Result<MoveInfo, ApiError> {
    let view = app.node.view();
    match view.catalog.moves.get(&id) {
        Some(job) => Ok(info(app, &view, id, job)),
        None => Err(Refusal::NoSuchMove { id }.into()),
    }
}

/// The record, and what the two agents said last.
pub(super) fn info(app: &App, view: &RoutingTable, id: MoveId, job: &MoveJob) -> MoveInfo {
    let seen = |group: GroupId| -> Option<MoveSeen> {
        let status = app.board.status(view.catalog.groups.get(&group)?.primary)?;
        status.moves.iter().find(|seen| seen.id == id).cloned()
    };
    let (rows, bytes) = size(app, view, job.shard);
    let target = seen(job.to);
    let has_moved = matches!(job.phase, MovePhase::Switching | MovePhase::Cleaning | MovePhase::Done);
    let rows_total = if has_moved { job.rows.unwrap_or(rows) } else { rows };
    let rows_done = target.as_ref().and_then(|seen| seen.rows).unwrap_or(0);
    let bytes_done = target.as_ref().and_then(|seen| seen.bytes).unwrap_or(0);
    MoveInfo {
        id,
        shard: job.shard,
        from: view.catalog.group_name(job.from),
        to: view.catalog.group_name(job.to),
        phase: job.phase,
        rows_done: if has_moved { rows_total } else { rows_done.min(rows_total) },
        rows_total,
        bytes_done: if has_moved { bytes } else { bytes_done },
        bytes_total: bytes,
        indexes: target.and_then(|seen| seen.indexes).filter(|_| !job.phase.is_over()),
        lag_bytes: seen(job.from).and_then(|seen| seen.lag_bytes),
        write_pause_ms: job.write_pause_ms,
        attempts: job.attempts,
        error: job.error.clone(),
    }
}
