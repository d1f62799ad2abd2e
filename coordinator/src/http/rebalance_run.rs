//! Plans that are carried out: begun, shown, paused, resumed, cancelled. The leader does it, whoever was asked.

use super::extract::{Body, Json, Terms};
use super::moves::info;
use super::problem::Answer;
use super::record::record;
use super::state::App;
use atoll_core::catalog::Command;
use atoll_core::rebalance::{FAILURES_MAX, Fate, RebalanceRun, RunMove, Wish};
use atoll_core::routing::RoutingTable;
use atoll_proto::MoveId;
use atoll_proto::limits;
use atoll_proto::problem::{Problem, ProblemCode};
use atoll_proto::rebalance::{ApplyRequest, RebalanceStatus, RunCounts, RunMoveInfo, RunMoveState, RunState};
use axum::extract::State;

/// Begin to carry a plan out. Searches and writes go on.
#[utoipa::path(post, path = "/v1/admin/rebalance/apply", tag = "admin", request_body = ApplyRequest,
    responses((status = 200, description = "It is recorded and will be carried out", body = RebalanceStatus)))]
pub(super) async fn apply(
    State(app): State<App>,
    terms: Terms,
    body: Body<ApplyRequest>,
) -> Answer<Json<RebalanceStatus>> {
    let ApplyRequest { plan_id, max_parallel_moves } = body.value;
    if !(1..=limits::PARALLEL_MOVES_MAX).contains(&max_parallel_moves) {
        let detail = format!("must be 1 to {}", limits::PARALLEL_MOVES_MAX);
        return Err(Problem::invalid("/max_parallel_moves", detail).into());
    }
    let Some(plan) = app.rebalancer.kept(&plan_id) else {
        let detail = "this coordinator keeps no such plan: only the last few that it made itself; make it anew here";
        return Err(Problem::new(ProblemCode::OperationNotFound, detail).into());
    };
    let command = Command::ApplyPlan {
        plan_id,
        planned_at: plan.told.catalog_version,
        parallel: max_parallel_moves,
        moves: plan.moves.clone(),
    };
    recorded(&app, terms, command).await
}

/// Begin no more moves for now. Those under way go on.
#[utoipa::path(post, path = "/v1/admin/rebalance/pause", tag = "admin", responses((status = 200, body = RebalanceStatus)))]
pub(super) async fn pause(State(app): State<App>, terms: Terms) -> Answer<Json<RebalanceStatus>> {
    recorded(&app, terms, Command::SteerRebalance { wish: Wish::Pause }).await
}

/// Go on after a pause.
#[utoipa::path(post, path = "/v1/admin/rebalance/resume", tag = "admin", responses((status = 200, body = RebalanceStatus)))]
pub(super) async fn resume(State(app): State<App>, terms: Terms) -> Answer<Json<RebalanceStatus>> {
    recorded(&app, terms, Command::SteerRebalance { wish: Wish::Run }).await
}

/// Begin no more moves, and put back what is under way. Shards that have moved stay where they are.
#[utoipa::path(post, path = "/v1/admin/rebalance/cancel", tag = "admin", responses((status = 200, body = RebalanceStatus)))]
pub(super) async fn cancel(State(app): State<App>, terms: Terms) -> Answer<Json<RebalanceStatus>> {
    recorded(&app, terms, Command::SteerRebalance { wish: Wish::Cancel }).await
}

/// Show how far the plan is that is being carried out, or was last.
#[utoipa::path(get, path = "/v1/admin/rebalance/status", tag = "admin", responses((status = 200, body = RebalanceStatus)))]
pub(super) async fn status(State(app): State<App>) -> Json<RebalanceStatus> {
    Json(status_of(&app))
}

async fn recorded(app: &App, terms: Terms, command: Command) -> Answer<Json<RebalanceStatus>> {
    record(app, command, &terms).await?;
    Ok(Json(status_of(app)))
}

fn status_of(app: &App) -> RebalanceStatus {
    let view = app.node.view();
    let Some(run) = &view.catalog.rebalance else {
        return RebalanceStatus {
            plan_id: None,
            state: RunState::None,
            max_parallel_moves: 0,
            counts: RunCounts::default(),
            note: None,
            moves: Vec::new(),
        };
    };
    let RebalanceRun { plan_id, began_at: _, parallel, wish: _, failures, moves, scheduled: _ } = run;
    let state = run.state();
    let paused_itself = state == RunState::Paused && *failures >= FAILURES_MAX;
    RebalanceStatus {
        plan_id: Some(plan_id.clone()),
        state,
        max_parallel_moves: *parallel,
        counts: counts(moves),
        note: if run.is_held() {
            Some(
                "its window is over, and it goes on at the next time of the schedule; resume goes on at once"
                    .to_owned(),
            )
        } else {
            paused_itself.then(|| format!("{failures} moves failed; see why, then resume or cancel"))
        },
        moves: moves.iter().map(|one| move_info(app, &view, one)).collect(),
    }
}

fn counts(moves: &[RunMove]) -> RunCounts {
    let mut counts = RunCounts::default();
    for one in moves {
        counts.total += 1;
        let kind = match one.fate {
            Fate::Waiting => &mut counts.waiting,
            Fate::UnderWay(_) => &mut counts.under_way,
            Fate::Moved(_) => &mut counts.moved,
            Fate::Cancelled(_) => &mut counts.cancelled,
            Fate::Failed(..) => &mut counts.failed,
            Fate::Skipped(_) => &mut counts.skipped,
        };
        *kind += 1;
    }
    counts
}

fn move_info(app: &App, view: &RoutingTable, one: &RunMove) -> RunMoveInfo {
    let (state, id, error): (RunMoveState, Option<MoveId>, Option<String>) = match &one.fate {
        Fate::Waiting => (RunMoveState::Waiting, None, None),
        Fate::UnderWay(id) => (RunMoveState::UnderWay, Some(*id), None),
        Fate::Moved(id) => (RunMoveState::Moved, Some(*id), None),
        Fate::Cancelled(id) => (RunMoveState::Cancelled, Some(*id), None),
        Fate::Failed(id, error) => (RunMoveState::Failed, Some(*id), Some(error.clone())),
        Fate::Skipped(reason) => (RunMoveState::Skipped, None, Some(reason.to_string())),
    };
    let under_way = id.filter(|_| state == RunMoveState::UnderWay);
    RunMoveInfo {
        shard: one.planned.shard,
        from: view.catalog.group_name(one.planned.from),
        to: view.catalog.group_name(one.planned.to),
        state,
        id,
        progress: under_way.and_then(|id| Some(info(app, view, id, view.catalog.moves.get(&id)?))),
        error,
    }
}
