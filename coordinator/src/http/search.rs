//! Search, one at a time or a batch.

use super::extract::{Body, InPath, Json, Terms};
use super::problem::Answer;
use super::session;
use super::state::App;
use crate::error::RequestError;
use crate::telemetry::chain;
use atoll_core::freshness::SessionToken;
use atoll_proto::explain::{ExplainAnswer, ExplainRequest};
use atoll_proto::problem::Problem;
use atoll_proto::search::{SearchAnswer, SearchBatch, SearchBatchAnswer, SearchBatchItem, SearchRequest};
use atoll_proto::{CollectionName, limits};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream;
use std::time::Instant;

/// Searches of one batch that run at once.
const BATCH_PARALLEL: usize = 8;

/// Find the nearest entries of one, several or all namespaces.
#[utoipa::path(post, path = "/v1/collections/{c}/search", tag = "search", params(("c" = CollectionName, Path)),
    request_body = SearchRequest,
    responses((status = 200, body = SearchAnswer)))]
pub(super) async fn search(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    terms: Terms,
    body: Body<SearchRequest>,
) -> Answer<Response> {
    let answer = measured(&app, &collection, &body.value, &terms).await?;
    let session = answer.session.clone();
    let mut response = Json(answer).into_response();
    session::tell_text(&mut response, session.as_deref());
    Ok(response)
}

/// Tell how a search is planned, and with `analyze` how it ran; for those who run the cluster.
#[utoipa::path(post, path = "/v1/collections/{c}/search/explain", tag = "search", params(("c" = CollectionName, Path)),
    request_body = ExplainRequest,
    responses((status = 200, body = ExplainAnswer)))]
pub(super) async fn explain(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    terms: Terms,
    body: Body<ExplainRequest>,
) -> Answer<Json<ExplainAnswer>> {
    let Terms { session, grant, deadline, .. } = &terms;
    Ok(Json(app.searcher.explain(&collection, &body.value, session, grant, *deadline).await?))
}

/// Run up to 32 searches; each has an answer or a problem of its own.
#[utoipa::path(post, path = "/v1/collections/{c}/search/batch", tag = "search", params(("c" = CollectionName, Path)),
    request_body = SearchBatch,
    responses((status = 200, body = SearchBatchAnswer)))]
pub(super) async fn batch(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    terms: Terms,
    body: Body<SearchBatch>,
) -> Answer<Response> {
    let searches = body.value.searches;
    if !(1..=limits::SEARCH_BATCH).contains(&searches.len()) {
        let detail = format!("1 to {} searches, {} given", limits::SEARCH_BATCH, searches.len());
        return Err(Problem::invalid("/searches", detail).into());
    }
    let (app, collection, terms) = (&app, &collection, &terms);
    let answers = stream::iter(searches)
        .map(|request| async move {
            match measured(app, collection, &request, terms).await {
                Ok(answer) => SearchBatchItem { answer: Some(answer), problem: None },
                Err(error) => {
                    let problem = error.problem();
                    if problem.status >= 500 {
                        // The batch itself succeeds, so nobody else tells why.
                        tracing::warn!(
                            code = problem.code.as_str(),
                            chain = chain(&error),
                            "a search of a batch failed"
                        );
                    }
                    SearchBatchItem { answer: None, problem: Some(problem) }
                }
            }
        })
        .buffered(BATCH_PARALLEL)
        .collect::<Vec<_>>()
        .await;
    let session = shown(&terms.session, &answers);
    let mut response = Json(SearchBatchAnswer { answers }).into_response();
    session::tell(&mut response, &session);
    Ok(response)
}

/// What a session has been shown by all of a batch.
fn shown(session: &SessionToken, answers: &[SearchBatchItem]) -> SessionToken {
    let tokens = answers.iter().filter_map(|item| item.answer.as_ref()?.session.as_ref()?.parse().ok());
    tokens.fold(session.clone(), |all, one: SessionToken| all.followed_by(&one))
}

async fn measured(
    app: &App,
    collection: &CollectionName,
    request: &SearchRequest,
    terms: &Terms,
) -> Result<SearchAnswer, RequestError> {
    let started = Instant::now();
    let answer = app.searcher.search(collection, request, &terms.session, &terms.grant, terms.deadline).await?;
    let scope = match (&request.namespaces, &request.prefix) {
        (Some(namespaces), _) if namespaces.len() == 1 => "one",
        (Some(_), _) => "several",
        (None, Some(_)) => "prefix",
        (None, None) => "all",
    };
    app.metrics.search_seconds.with_label_values(&[scope]).observe(started.elapsed().as_secs_f64());
    app.metrics.search_results.with_label_values(&[scope]).inc_by(answer.hits.len() as u64);
    Ok(answer)
}
