//! Plans of moves: made, and shown again.

use super::extract::{Body, InPath, Json};
use super::problem::Answer;
use super::state::App;
use atoll_core::rebalance::Policy;
use atoll_proto::limits;
use atoll_proto::problem::{Problem, ProblemCode};
use atoll_proto::rebalance::{RebalancePlan, RebalanceRequest};
use axum::extract::State;

/// Plan which shards to move so that groups are evenly full. Moves nothing.
#[utoipa::path(post, path = "/v1/admin/rebalance/plan", tag = "admin", request_body = RebalanceRequest,
    responses((status = 200, body = RebalancePlan)))]
pub(super) async fn plan(State(app): State<App>, body: Body<RebalanceRequest>) -> Answer<Json<RebalancePlan>> {
    let RebalanceRequest { by, threshold } = body.value;
    let Some(policy) = Policy::new(by, threshold) else {
        let allowed = limits::REBALANCE_THRESHOLD;
        let detail = format!("must be {} to {}", allowed.start(), allowed.end());
        return Err(Problem::invalid("/threshold", detail).into());
    };
    // Of a large cluster a plan takes a good part of a second, for which other requests would wait.
    let planned = tokio::task::spawn_blocking(move || app.rebalancer.plan(policy)).await;
    let planned = planned.expect("planning does not panic");
    Ok(Json(planned.told.clone()))
}

/// Show a plan again, as the answering coordinator made it.
#[utoipa::path(get, path = "/v1/admin/rebalance/plan/{id}", tag = "admin", params(("id" = String, Path)),
    responses((status = 200, body = RebalancePlan)))]
pub(super) async fn show_plan(State(app): State<App>, InPath(id): InPath<String>) -> Answer<Json<RebalancePlan>> {
    match app.rebalancer.kept(&id) {
        Some(plan) => Ok(Json(plan.told.clone())),
        None => {
            let detail = "this coordinator keeps no such plan: only the last few that it made itself; make it anew";
            Err(Problem::new(ProblemCode::OperationNotFound, detail).into())
        }
    }
}
