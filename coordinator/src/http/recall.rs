//! How good answers are: measured on request, and as measured beside the traffic.

use super::extract::{Body, InPath, Json, Terms};
use super::problem::Answer;
use super::state::App;
use atoll_proto::CollectionName;
use atoll_proto::recall::{RecallAnswer, RecallRequest, RecallTable};
use axum::extract::State;
use std::time::Duration;

/// Usual time to measure: hundreds of searches, two at a time.
const MEASURE_TIME: Duration = Duration::from_secs(30);

/// Show what the coordinator measured of which ef gives which recall, and what live searches find.
#[utoipa::path(get, path = "/v1/collections/{c}/recall", tag = "recall", params(("c" = CollectionName, Path)),
    responses((status = 200, body = RecallTable)))]
pub(super) async fn show(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    terms: Terms,
) -> Answer<Json<RecallTable>> {
    Ok(Json(app.searcher.recall_table(&collection, &terms.grant)?))
}

/// Measure recall and latency of profiles, by searches for stored entries, against exact search.
#[utoipa::path(post, path = "/v1/collections/{c}/recall", tag = "recall", params(("c" = CollectionName, Path)),
    request_body = RecallRequest,
    responses((status = 200, body = RecallAnswer)))]
pub(super) async fn measure(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    terms: Terms,
    body: Body<RecallRequest>,
) -> Answer<Json<RecallAnswer>> {
    let deadline = terms.deadline_or(MEASURE_TIME);
    Ok(Json(app.searcher.measure_recall(&collection, &body.value, &terms.grant, deadline).await?))
}
