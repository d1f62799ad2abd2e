//! When plans are made and carried out by themselves: shown and set. The leader follows it.

use super::extract::{Body, Json, Terms};
use super::problem::Answer;
use super::record::record;
use super::state::App;
use atoll_core::catalog::Command;
use atoll_core::rebalance::{Policy, Schedule};
use atoll_proto::limits;
use atoll_proto::problem::Problem;
use atoll_proto::rebalance::{RebalancePolicy, RebalancePolicyInfo};
use axum::extract::State;
use jiff::Timestamp;

/// Show when plans are made and carried out by themselves.
#[utoipa::path(get, path = "/v1/admin/rebalance/policy", tag = "admin", operation_id = "policy",
    responses((status = 200, body = RebalancePolicyInfo)))]
pub(super) async fn show(State(app): State<App>) -> Answer<Json<RebalancePolicyInfo>> {
    Ok(Json(info(&app)))
}

/// Say when plans are made and carried out by themselves. Takes effect from the next time of the schedule on.
#[utoipa::path(put, path = "/v1/admin/rebalance/policy", tag = "admin", operation_id = "put_policy", request_body = RebalancePolicy,
    responses((status = 200, body = RebalancePolicyInfo)))]
pub(super) async fn put(
    State(app): State<App>,
    terms: Terms,
    body: Body<RebalancePolicy>,
) -> Answer<Json<RebalancePolicyInfo>> {
    let now_s = Timestamp::now().as_second();
    let policy = checked(body.value, now_s)?;
    record(&app, Command::SetRebalancePolicy { policy, now_s }, &terms).await?;
    Ok(Json(info(&app)))
}

fn checked(policy: RebalancePolicy, now_s: i64) -> Result<RebalancePolicy, Box<Problem>> {
    let invalid = |pointer: &str, detail: String| Err(Box::new(Problem::invalid(pointer, detail)));
    if Policy::new(policy.by, policy.threshold).is_none() {
        let allowed = limits::REBALANCE_THRESHOLD;
        return invalid("/threshold", format!("must be {} to {}", allowed.start(), allowed.end()));
    }
    match Schedule::parse(&policy.schedule) {
        Err(error) => return invalid("/schedule", error.to_string()),
        Ok(schedule) if schedule.next_after(now_s).is_none() => {
            return invalid("/schedule", "there is no such day within the next four years".to_owned());
        }
        Ok(_) => {}
    }
    if !(1..=limits::PARALLEL_MOVES_MAX).contains(&policy.max_parallel_moves) {
        return invalid("/max_parallel_moves", format!("must be 1 to {}", limits::PARALLEL_MOVES_MAX));
    }
    let windows = limits::REBALANCE_WINDOW_MINUTES;
    if policy.window_minutes.is_some_and(|minutes| !windows.contains(&minutes)) {
        return invalid("/window_minutes", format!("must be {} to {}, or null", windows.start(), windows.end()));
    }
    Ok(policy)
}

fn info(app: &App) -> RebalancePolicyInfo {
    let policy = app.node.view().catalog.schedule.as_ref().map(|kept| kept.policy.clone()).unwrap_or_default();
    let schedule = Schedule::parse(&policy.schedule).ok().filter(|_| policy.enabled);
    let next_s = schedule.and_then(|schedule| schedule.next_after(Timestamp::now().as_second()));
    let next_at = next_s.and_then(|next_s| Timestamp::from_second(next_s).ok()).map(|next| next.to_string());
    RebalancePolicyInfo { policy, next_at }
}
