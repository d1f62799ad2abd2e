//! Entries: written, read, deleted, listed and counted.

use super::extract::{Body, EntryTerms, InPath, Json, OneEntry, Terms, is_known};
use super::problem::Answer;
use super::session;
use super::state::App;
use crate::error::RequestError;
use crate::write::WriteTerms;
use atoll_proto::entry::{
    Count, CountEntries, DeleteEntries, Deleted, Entry, EntryBody, EntryId, EntryList, EntryPage, EntryPatch,
    GetEntries, Include, ListEntries, WriteAnswer, WriteBatch, WriteResult, WriteStatus,
};
use atoll_proto::{CollectionName, EntryKey, Namespace};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::time::Instant;

/// Write a batch: atomic on each shard, one result for each entry.
#[utoipa::path(post, path = "/v1/collections/{c}/entries", tag = "entries", params(("c" = CollectionName, Path)),
    request_body = WriteBatch,
    responses((status = 200, description = "All were written", body = WriteAnswer),
        (status = 207, description = "Some failed", body = WriteAnswer)))]
pub(super) async fn write(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    terms: Terms,
    body: Body<WriteBatch>,
) -> Answer<Response> {
    let terms = terms.of_write(&body.raw);
    let answer = app.writer.batch(&collection, body.value, &terms).await?;
    count_written(&app, &answer.results);
    let status = if answer.failed == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    Ok(within(&terms, (status, Json(answer))))
}

/// Write one entry.
#[utoipa::path(put, path = "/v1/collections/{c}/namespaces/{ns}/entries/{key}", tag = "entries",
    params(("c" = CollectionName, Path), ("ns" = Namespace, Path), ("key" = EntryKey, Path)),
    request_body = EntryBody,
    responses((status = 200, description = "It was changed, or was as given", body = WriteAnswer),
        (status = 201, description = "It is new", body = WriteAnswer)))]
pub(super) async fn put(
    State(app): State<App>,
    OneEntry { collection, id }: OneEntry,
    EntryTerms { terms, precondition }: EntryTerms,
    body: Body<EntryBody>,
) -> Answer<Response> {
    let started = Instant::now();
    let terms = terms.of_write(&body.raw);
    let written = app.writer.put(&collection, &id, body.value, precondition, &terms).await?;
    Ok(written_one(&app, id, written, &terms, started))
}

/// Change parts of one entry: metadata is merged (RFC 7396), the rest replaced.
#[utoipa::path(patch, path = "/v1/collections/{c}/namespaces/{ns}/entries/{key}", tag = "entries",
    params(("c" = CollectionName, Path), ("ns" = Namespace, Path), ("key" = EntryKey, Path)),
    request_body = EntryPatch,
    responses((status = 200, body = WriteAnswer)))]
pub(super) async fn patch(
    State(app): State<App>,
    OneEntry { collection, id }: OneEntry,
    EntryTerms { terms, precondition }: EntryTerms,
    body: Body<EntryPatch>,
) -> Answer<Response> {
    let started = Instant::now();
    let terms = terms.of_write(&body.raw);
    let written = app.writer.patch(&collection, &id, body.value, precondition, &terms).await?;
    Ok(written_one(&app, id, written, &terms, started))
}

/// Read one entry.
#[utoipa::path(get, path = "/v1/collections/{c}/namespaces/{ns}/entries/{key}", tag = "entries",
    params(("c" = CollectionName, Path), ("ns" = Namespace, Path), ("key" = EntryKey, Path)),
    responses((status = 200, body = Entry), (status = 304, description = "It is as If-None-Match has it")))]
pub(super) async fn get_one(
    State(app): State<App>,
    OneEntry { collection, id }: OneEntry,
    terms: Terms,
    headers: HeaderMap,
) -> Answer<Response> {
    let include = vec![Include::Value, Include::Metadata, Include::Tags, Include::Vector];
    let request = GetEntries { ids: vec![id], include };
    let found = app.reader.get(&collection, &request, &terms.grant, terms.deadline).await?;
    let Some(entry) = found.into_iter().next() else { return Err(RequestError::EntryNotFound.into()) };
    let etag = etag(entry.version);
    if etag.to_str().is_ok_and(|etag| is_known(&headers, etag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    Ok(([(header::ETAG, etag)], Json(entry)).into_response())
}

/// Delete one entry.
#[utoipa::path(delete, path = "/v1/collections/{c}/namespaces/{ns}/entries/{key}", tag = "entries",
    params(("c" = CollectionName, Path), ("ns" = Namespace, Path), ("key" = EntryKey, Path)),
    responses((status = 200, body = Deleted)))]
pub(super) async fn delete_one(
    State(app): State<App>,
    OneEntry { collection, id }: OneEntry,
    EntryTerms { terms, precondition }: EntryTerms,
) -> Answer<Response> {
    let terms = terms.of_write(b"");
    app.writer.delete(&collection, &id, precondition, &terms).await?;
    Ok(within(&terms, Json(Deleted { deleted: 1 })))
}

/// Read entries by id: those that exist, in the order asked.
#[utoipa::path(post, path = "/v1/collections/{c}/entries/get", tag = "entries", params(("c" = CollectionName, Path)),
    request_body = GetEntries,
    responses((status = 200, body = EntryList)))]
pub(super) async fn get_many(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    terms: Terms,
    body: Body<GetEntries>,
) -> Answer<Json<EntryList>> {
    let entries = app.reader.get(&collection, &body.value, &terms.grant, terms.deadline).await?;
    Ok(Json(EntryList { entries }))
}

/// Delete entries by id, or those of a namespace that match a filter.
#[utoipa::path(post, path = "/v1/collections/{c}/entries/delete", tag = "entries", params(("c" = CollectionName, Path)),
    request_body = DeleteEntries,
    responses((status = 200, body = Deleted)))]
pub(super) async fn delete_many(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    terms: Terms,
    body: Body<DeleteEntries>,
) -> Answer<Response> {
    let terms = terms.of_write(&body.raw);
    let deleted = app.writer.delete_entries(&collection, body.value, &terms).await?;
    Ok(within(&terms, Json(Deleted { deleted })))
}

/// List the entries of a namespace, page by page.
#[utoipa::path(post, path = "/v1/collections/{c}/entries/list", tag = "entries", params(("c" = CollectionName, Path)),
    request_body = ListEntries,
    responses((status = 200, body = EntryPage)))]
pub(super) async fn list(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    terms: Terms,
    body: Body<ListEntries>,
) -> Answer<Json<EntryPage>> {
    Ok(Json(app.reader.list(&collection, &body.value, &terms.grant, terms.deadline).await?))
}

/// Count the entries of a namespace.
#[utoipa::path(post, path = "/v1/collections/{c}/entries/count", tag = "entries", params(("c" = CollectionName, Path)),
    request_body = CountEntries,
    responses((status = 200, body = Count)))]
pub(super) async fn count(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    terms: Terms,
    body: Body<CountEntries>,
) -> Answer<Json<Count>> {
    let count = app.reader.count(&collection, &body.value, &terms.grant, terms.deadline).await?;
    Ok(Json(Count { count }))
}

/// The answer of a write: who sends its token back finds what was written.
pub(super) fn within(terms: &WriteTerms, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    session::tell(&mut response, &terms.session.token());
    response
}

fn written_one(
    app: &App,
    id: EntryId,
    (status, version): (WriteStatus, i64),
    terms: &WriteTerms,
    started: Instant,
) -> Response {
    let EntryId { namespace, key } = id;
    let results = vec![WriteResult { namespace, key, status, version: Some(version), problem: None }];
    count_written(app, &results);
    let took_ms = started.elapsed().as_secs_f64() * 1_000.0;
    let session = terms.session.token().text();
    let answer = WriteAnswer { written: 1, failed: 0, results, session, took_ms };
    let code = if status == WriteStatus::Created { StatusCode::CREATED } else { StatusCode::OK };
    within(terms, (code, [(header::ETAG, etag(version))], Json(answer)))
}

fn count_written(app: &App, results: &[WriteResult]) {
    for (status, outcome) in [
        (WriteStatus::Created, "created"),
        (WriteStatus::Updated, "updated"),
        (WriteStatus::Unchanged, "unchanged"),
        (WriteStatus::Failed, "failed"),
    ] {
        let count = results.iter().filter(|result| result.status == status).count() as u64;
        app.metrics.entries_written.with_label_values(&[outcome]).inc_by(count);
    }
}

fn etag(version: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits and quotes make a header value")
}
