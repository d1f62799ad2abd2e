//! `atoll import`: many entries from a file, streamed.

mod f16bin;
mod rows;
mod upload;

pub(crate) use f16bin::F16Rows;
pub(crate) use rows::Rows;
pub(crate) use upload::upload;

use super::client::Client;
use super::error::CommandError;
use super::output::{Output, count};
use super::{InCollection, builds, path};
use atoll_proto::CollectionName;
use atoll_proto::agent::GRAPH_FROM_ROWS;
use atoll_proto::collection::CollectionInfo;
use indicatif::{ProgressBar, ProgressStyle};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Agents count what was imported in this time, unless it is very much.
const GRAPHS_KNOWN_WITHIN: Duration = Duration::from_secs(3);

const AFTER_HELP: &str = "\
The file holds one JSON object a line, plain or gzipped:
  {\"namespace\":\"notes\",\"key\":\"n-1\",\"value\":\"buy milk\",\"vector\":[0.1,…],\"metadata\":{},\"tags\":[\"todo\"]}
Where there is no `value`, `text` is taken for it. Vectors stand in the lines, or in an f16bin file beside it: little-endian
uint32 n, uint32 d, then n*d half-precision floats, in the order of the lines. What `atoll export` writes can be imported.

Examples:
  atoll import notes.jsonl.gz
  atoll import sample/wordnet.jsonl.gz --vectors sample/wordnet.f16bin --limit 1000
  zcat notes.jsonl.gz | atoll import - --collection notes

An entry that is there already is overwritten, so an import that broke off can be run again.";

/// What `atoll import` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    collection: InCollection,
    /// NDJSON, plain or gzipped; - for standard input.
    file: PathBuf,
    /// Vectors of the entries (f16bin).
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Leave out the first N entries.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Import at most N entries.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Return when the graphs of large namespaces are built. Searches are right before, and slower.
    #[arg(long)]
    wait_for_graphs: bool,
}

/// Imports and says what became of it.
pub(crate) async fn run(args: ImportArgs, client: &Client, output: &Output) -> Result<(), CommandError> {
    let collection = &args.collection.collection;
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| CommandError::File { doing: "read", path, source }
    };
    let mut rows = Rows::open(&args.file).map_err(unreadable(&args.file))?;
    // Asked first, so that a missing collection or a wrong model is told before anything is sent.
    let info: CollectionInfo = client.get(&path::collection(collection, "")).await?.parse()?;
    if let Some(path) = &args.vectors {
        let vectors = F16Rows::open(path).map_err(unreadable(path))?;
        if info.settings.dimensions != Some(vectors.dimensions()) {
            return Err(CommandError::Failed(format!(
                "{} has vectors of {} numbers, collection {collection} {}",
                path.display(),
                vectors.dimensions(),
                match info.settings.dimensions {
                    Some(dimensions) => format!("takes {dimensions}"),
                    None => "takes none".to_owned(),
                }
            )));
        }
        rows = rows.with_vectors(vectors);
    }
    rows.skip(args.skip).map_err(|error| CommandError::failed(&error))?;
    if let Some(limit) = args.limit {
        rows = rows.with_limit(limit);
    }

    let bar = progress_bar(rows.expected());
    let started = Instant::now();
    let outcome = upload(client, collection, rows, |line| bar.set_position(line.written + line.failed)).await;
    bar.finish_and_clear();
    let uploaded = outcome?;
    let imported = Instant::now();
    let last = &uploaded.last;
    if output.json {
        let text = serde_json::to_string(last).expect("wire shapes have text keys only, so they serialise");
        output.line(text)?;
    } else {
        let seconds = started.elapsed().as_secs_f64();
        let rate = last.written as f64 / seconds.max(0.001);
        output.line(format_args!("{} written in {seconds:.1} s ({rate:.0}/s)", count(last.written, "row")))?;
    }
    if uploaded.vectors_left > 0 && args.limit.is_none() {
        eprintln!(
            "warning: {} without an entry: does {} belong to these vectors?",
            count(uploaded.vectors_left, "vector"),
            args.file.display()
        );
    }
    let failures = last.first_failures.as_deref().unwrap_or_default();
    for failure in failures {
        eprintln!("entry {}: {}", failure.line + args.skip, failure.problem);
        for error in failure.problem.errors.iter().filter(|error| error.detail != failure.problem.detail) {
            eprintln!("  {}: {}", error.pointer, error.detail);
        }
    }
    if last.failed > failures.len() as u64 {
        eprintln!("… and {} more", last.failed - failures.len() as u64);
    }
    if let Some(problem) = &last.problem {
        return Err(CommandError::Failed(format!("the import ended early: {problem}")));
    }
    if last.failed > 0 {
        return Err(CommandError::Failed(format!("{} failed", count(last.failed, "row"))));
    }
    if info.settings.dimensions.is_none() {
        return Ok(());
    }
    if args.wait_for_graphs {
        return builds::wait(client, collection, imported).await;
    }
    if !output.json && last.written >= GRAPH_FROM_ROWS {
        tell_of_graphs(client, collection, imported).await;
    }
    Ok(())
}

/// Says how many graphs are to be built. What is not known soon is not waited for: the import itself is done.
async fn tell_of_graphs(client: &Client, collection: &CollectionName, imported: Instant) {
    let known = tokio::time::timeout(GRAPHS_KNOWN_WITHIN, builds::known_since(client, collection, imported)).await;
    if let Ok(Ok(builds)) = known
        && let Some(summary) = builds::summary(&builds)
    {
        eprintln!("graphs: {summary}; searches scan until then. To watch: atoll status");
    }
}

/// A bar where the end is known, else a counter; nothing where standard error is no terminal.
pub(crate) fn progress_bar(expected: Option<u64>) -> ProgressBar {
    let (bar, template) = match expected {
        Some(expected) => (ProgressBar::new(expected), "{bar:40} {human_pos}/{human_len} rows, {per_sec}, {eta} to go"),
        None => (ProgressBar::no_length(), "{spinner} {human_pos} rows, {per_sec}"),
    };
    bar.set_style(ProgressStyle::with_template(template).expect("the templates above are well-formed"));
    bar
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;

    #[tokio::test]
    async fn a_broken_file_is_told_with_its_cause_when_entries_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.jsonl.gz");
        std::fs::write(&file, [0x1f, 0x8b, 8, 0]).unwrap();
        let info = "{\"name\":\"c\",\"state\":\"active\",\"dimensions\":null,\"metric\":\"cosine\",\
            \"vector_type\":\"float32\",\"distribution\":\"hash\",\"durability\":\"quorum\",\
            \"index\":{\"profile\":\"balanced\"},\"ttl_seconds\":null}";
        let fake = FakeCoordinator::answering(200, info).await;
        let collection = InCollection { collection: "c".parse().unwrap() };
        let args = ImportArgs { collection, file, vectors: None, skip: 1, limit: None, wait_for_graphs: false };
        let error = run(args, &fake.client(), &Output::detect(false)).await.unwrap_err().to_string();
        let cause = error.strip_prefix("entry 1: the input cannot be read: ");
        assert!(cause.is_some_and(|cause| !cause.is_empty()), "{error}");
    }
}
