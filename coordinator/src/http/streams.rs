//! Import and export: NDJSON of any size, in and out, in bounded memory. They have no deadline, but a client that is silent, or
//! reads nothing, for `limits.idle_ms` is not waited for any longer.

use super::extract::{InPath, InQuery, caller, refuse_preconditions, session};
use super::ndjson::{Lines, NotTaken, lines};
use super::problem::{Answer, ApiError};
use super::state::App;
use crate::access::Caller;
use crate::error::RequestError;
use crate::read::Export;
use crate::targets::Target;
use crate::write::ImportState;
use atoll_core::freshness::SessionToken;
use atoll_proto::entry::{ImportProgress, NewEntry};
use atoll_proto::problem::{Problem, ProblemCode};
use atoll_proto::{CollectionName, Namespace};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, header};
use axum::response::Response;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::{Instrument, Span};

/// Between two progress lines.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Between two looks whether the key of an export is still valid.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Import NDJSON, one entry a line. The answer is NDJSON too: progress lines, then one with `"done": true`.
#[utoipa::path(post, path = "/v1/collections/{c}/import", tag = "entries", params(("c" = CollectionName, Path)),
    request_body(content = NewEntry, content_type = "application/x-ndjson"),
    responses((status = 200, description = "Progress, a line at a time", body = ImportProgress, content_type = "application/x-ndjson")))]
pub(super) async fn import(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    headers: HeaderMap,
    extensions: Extensions,
    body: Body,
) -> Answer<Response> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !matches!(
        media_type.split(';').next().unwrap_or_default().trim(),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl"
    ) {
        let detail = "the body must be application/x-ndjson: one entry a line";
        return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail).into());
    }
    refuse_preconditions(&headers)?;
    let caller = caller(&extensions)?.clone();
    Target::find(&app.node.watch(), &collection, &caller.grant)?;
    let place = take_place(&app)?;
    let (lines, answer) = lines(idle(&app));
    let session = session(&extensions);
    tokio::spawn(import_all(app, collection, session, caller, body, lines, place).instrument(Span::current()));
    Ok(answer)
}

async fn import_all(
    app: App,
    collection: CollectionName,
    session: SessionToken,
    caller: Caller,
    body: Body,
    lines: Lines,
    _place: OwnedSemaphorePermit,
) {
    let idle = idle(&app);
    // Why no more is taken, if it is for another reason than the client's.
    let cut_off = OnceLock::new();
    // The time runs only while more is waited for, not while what came is being committed.
    let body = stream::unfold(body.into_data_stream(), |mut body| async {
        let cut = match timeout(idle, body.next()).await {
            Ok(_) if !is_still_let_in(&app, &caller) => RequestError::KeyGone,
            Ok(more) => return Some((more?.map_err(std::io::Error::other), body)),
            Err(_) => RequestError::Idle { seconds: idle.as_secs() },
        };
        let error = std::io::Error::other(cut.to_string());
        let _ = cut_off.set(cut);
        Some((Err(error), body))
    });
    let mut last = Instant::now();
    let progress = |state: &ImportState| {
        if last.elapsed() >= PROGRESS_EVERY {
            last = Instant::now();
            lines.offer(&progress_of(state, false));
        }
    };
    let (state, done) = app.writer.import(&collection, session, &caller.grant, pin!(body), progress).await;
    let done = match cut_off.into_inner() {
        Some(cut) => Err(cut),
        None => done,
    };
    let mut report = progress_of(&state, true);
    report.first_failures = Some(state.first_failures.clone());
    report.session = state.session.text();
    if let Err(error) = done {
        let problem = error.problem();
        // Bad input is the client's to mend: it is told, the operator need not be.
        if problem.status >= 500 {
            tracing::warn!(error = &error as &dyn std::error::Error, written = state.written, "import ended early");
        }
        report.problem = Some(problem);
    }
    app.metrics.entries_written.with_label_values(&["imported"]).inc_by(state.written);
    lines.end_with(&report);
}

/// Streams last: a key that goes meanwhile takes them with it.
fn is_still_let_in(app: &App, caller: &Caller) -> bool {
    caller.is_still_let_in(&app.node.view().catalog, Timestamp::now().as_second())
}

fn take_place(app: &App) -> Answer<OwnedSemaphorePermit> {
    let place = app.streams.clone().try_acquire_owned();
    let detail = "too many imports and exports are under way; try again when one has ended";
    place.map_err(|_| ApiError::from(Problem::new(ProblemCode::Overloaded, detail)))
}

fn idle(app: &App) -> Duration {
    Duration::from_millis(app.limits.idle_ms)
}

fn progress_of(state: &ImportState, done: bool) -> ImportProgress {
    ImportProgress {
        done,
        written: state.written,
        failed: state.failed,
        first_failures: None,
        session: None,
        problem: None,
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct What {
    /// Only this namespace.
    #[param(value_type = Option<String>)]
    namespace: Option<Namespace>,
}

/// Export entries as NDJSON that import takes: each shard as of one moment. A last line with `"problem"` says that it is not whole.
#[utoipa::path(get, path = "/v1/collections/{c}/export", tag = "entries", params(("c" = CollectionName, Path), What),
    responses((status = 200, description = "Entries, one a line", body = NewEntry, content_type = "application/x-ndjson")))]
pub(super) async fn export(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    InQuery(what): InQuery<What>,
    extensions: Extensions,
) -> Answer<Response> {
    let caller = caller(&extensions)?.clone();
    let place = take_place(&app)?;
    let export = app.reader.export(&collection, what.namespace.as_ref(), &caller.grant)?;
    let (lines, answer) = lines(idle(&app));
    tokio::spawn(export_all(app, caller, export, lines, place).instrument(Span::current()));
    Ok(answer)
}

async fn export_all(app: App, caller: Caller, export: Export, lines: Lines, _place: OwnedSemaphorePermit) {
    let Export { mut entries, producer } = export;
    let mut looked = Instant::now();
    let failed = loop {
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            if !is_still_let_in(&app, &caller) {
                break RequestError::KeyGone;
            }
        }
        match entries.recv().await {
            Some(Ok(entry)) => match lines.send(&exported(entry)).await {
                Ok(()) => {}
                Err(NotTaken::Gone) => return,
                Err(NotTaken::Idle) => break RequestError::Idle { seconds: idle(&app).as_secs() },
            },
            Some(Err(error)) => break error,
            None => match producer.await {
                Ok(()) => return lines.end(),
                Err(panic) => break RequestError::Bug(panic),
            },
        }
    };
    tracing::warn!(error = &failed as &dyn std::error::Error, "export ended early");
    lines.end_with(&serde_json::json!({ "problem": failed.problem() }));
}

/// An entry in the form that import takes.
#[derive(Serialize)]
struct Exported {
    namespace: String,
    key: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<atoll_proto::Vector>,
    metadata: Option<atoll_proto::StoredMetadata>,
    tags: Option<Vec<String>>,
}

fn exported(entry: atoll_proto::entry::Entry) -> Exported {
    let atoll_proto::entry::Entry { namespace, key, value, metadata, tags, vector, .. } = entry;
    Exported { namespace, key, value, vector, metadata, tags }
}
