//! Import and export: NDJSON of any size, in and out, in bounded memory.

use super::extract::{InPath, InQuery};
use super::problem::Answer;
use super::state::App;
use crate::write::ImportState;
use atoll_proto::entry::{ImportProgress, NewEntry};
use atoll_proto::problem::{Problem, ProblemCode};
use atoll_proto::{CollectionName, Namespace};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// Between two progress lines.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How long the rest of an import that ended early is taken and thrown away.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Import NDJSON, one entry a line. The answer is NDJSON too: progress lines, then one with `"done": true`.
#[utoipa::path(post, path = "/v1/collections/{c}/import", tag = "entries", params(("c" = CollectionName, Path)),
    request_body(content = NewEntry, content_type = "application/x-ndjson"),
    responses((status = 200, description = "Progress, a line at a time", body = ImportProgress, content_type = "application/x-ndjson"),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn import(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    std::future::ready(()).await;
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !matches!(
        media_type.split(';').next().unwrap_or_default().trim(),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl"
    ) {
        let detail = "the body must be application/x-ndjson: one entry a line";
        return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail).into());
    }
    crate::targets::Target::find(&app.node.watch(), &collection)?;
    let Ok(place) = app.streams.clone().try_acquire_owned() else {
        return Err(Problem::new(ProblemCode::Overloaded, "too many imports and exports are under way").into());
    };
    let (lines, answer) = mpsc::channel(64);
    tokio::spawn(async move {
        let _place = place;
        let mut last = Instant::now();
        let progress = |state: &ImportState| {
            if last.elapsed() >= PROGRESS_EVERY {
                last = Instant::now();
                // A client that reads slowly misses lines, not entries.
                let _ = lines.try_send(line(&progress_of(state, false)));
            }
        };
        let mut body = body.into_data_stream();
        let (state, done) = app.writer.import(&collection, &mut body, progress).await;
        let ended_early = done.is_err();
        let mut report = progress_of(&state, true);
        report.first_failures = Some(state.first_failures.clone());
        if let Err(error) = done {
            let problem = error.problem();
            // Bad input is the client's to mend: it is told, the operator need not be.
            if problem.status >= 500 {
                tracing::warn!(error = &error as &dyn std::error::Error, written = state.written, "import ended early");
            }
            report.problem = Some(problem);
        }
        app.metrics.entries_written.with_label_values(&["imported"]).inc_by(state.written);
        let _ = lines.send(line(&report)).await;
        drop(lines);
        if ended_early {
            // A client that is still sending, into a connection that is closed, would lose the answer.
            let rest = async { while let Some(Ok(_)) = body.next().await {} };
            let _ = tokio::time::timeout(DRAIN_TIME, rest).await;
        }
    });
    Ok(ndjson(answer))
}

fn progress_of(state: &ImportState, done: bool) -> ImportProgress {
    ImportProgress { done, written: state.written, failed: state.failed, first_failures: None, problem: None }
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
    responses((status = 200, description = "Entries, one a line", body = NewEntry, content_type = "application/x-ndjson"),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn export(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    InQuery(what): InQuery<What>,
) -> Answer<Response> {
    std::future::ready(()).await;
    let Ok(place) = app.streams.clone().try_acquire_owned() else {
        return Err(Problem::new(ProblemCode::Overloaded, "too many imports and exports are under way").into());
    };
    let mut entries = app.reader.export(&collection, what.namespace.as_ref())?;
    let (lines, answer) = mpsc::channel(64);
    tokio::spawn(async move {
        let _place = place;
        while let Some(entry) = entries.recv().await {
            let line = match entry {
                Ok(entry) => line(&exported(entry)),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "export ended early");
                    line(&serde_json::json!({ "problem": error.problem() }))
                }
            };
            if lines.send(line).await.is_err() {
                return;
            }
        }
    });
    Ok(ndjson(answer))
}

/// An entry in the form that import takes.
#[derive(Serialize)]
struct Exported {
    namespace: String,
    key: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<atoll_proto::Vector>,
    metadata: Option<serde_json::Value>,
    tags: Option<Vec<String>>,
}

fn exported(entry: atoll_proto::entry::Entry) -> Exported {
    let atoll_proto::entry::Entry { namespace, key, value, metadata, tags, vector, .. } = entry;
    Exported { namespace, key, value, vector, metadata, tags }
}

fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn ndjson(lines: mpsc::Receiver<Bytes>) -> Response {
    let lines = stream::unfold(lines, |mut lines| async {
        let line = lines.recv().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    // Who packs an answer asks once more after its end.
    let lines = lines.fuse();
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
}
