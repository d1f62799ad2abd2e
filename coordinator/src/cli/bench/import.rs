//! Entries for benchmarks: `bench prepare`, and the scenario `bulk`.

use super::queries;
use super::scratch::Scratch;
use super::stop::Stop;
use super::tally::{Summary, Tally};
use super::truth::Found;
use super::work::stopped;
use crate::cli::client::{Client, Patience};
use crate::cli::error::CommandError;
use crate::cli::import::{Rows, progress_bar, upload};
use crate::cli::output::{Output, count};
use crate::cli::{InCollection, path};
use atoll_proto::CollectionName;
use atoll_proto::entry::{ImportProgress, NewEntry};
use http::Method;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

/// Fields that `prepare` adds: a hash of the key modulo each number. `mod20` of one value keeps 5 %, and so on.
const MODULI: [(&str, u64); 3] = [("mod10", 10), ("mod20", 20), ("mod1000", 1_000)];

const AFTER_HELP: &str = "\
Each entry gets the metadata fields mod10, mod20 and mod1000: a hash of its key, modulo that. So a filter of any selectivity can be
written, and is the same in every run: {\"must\":[{\"field\":\"metadata.mod20\",\"eq\":7}]} keeps about 5 % of the entries,
{\"must\":[{\"field\":\"metadata.mod1000\",\"range\":{\"lt\":300}}]} about 30 %.
An entry that is there already is overwritten.

Examples:
  atoll bench prepare
  atoll bench prepare --entries base.jsonl.gz --entry-vectors base.f16bin --limit 100000";

/// What `atoll bench prepare` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct PrepareArgs {
    #[command(flatten)]
    collection: InCollection,
    /// Entries: NDJSON, plain or gzipped. [default: the sample's]
    #[arg(long, value_name = "FILE", requires = "entry_vectors")]
    entries: Option<PathBuf>,
    /// Vectors of the entries (f16bin).
    #[arg(long, value_name = "FILE", requires = "entries")]
    entry_vectors: Option<PathBuf>,
    /// Import at most N entries.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Both files of a pair, or neither.
pub(super) fn pair<'a>(entries: &'a Option<PathBuf>, vectors: &'a Option<PathBuf>) -> Option<(&'a Path, &'a Path)> {
    Some((entries.as_deref()?, vectors.as_deref()?))
}

/// Imports entries with fields to filter by.
pub(super) async fn prepare(args: PrepareArgs, client: &Client, output: &Output) -> Result<(), CommandError> {
    let mut rows = queries::open(pair(&args.entries, &args.entry_vectors))?.with_edit(add_moduli);
    if let Some(limit) = args.limit {
        rows = rows.with_limit(limit);
    }
    let started = Instant::now();
    let last = import(client, &args.collection.collection, rows).await?;
    if output.json {
        return output.line(serde_json::to_string(&last).expect("wire shapes have text keys only, so they serialise"));
    }
    let seconds = started.elapsed().as_secs_f64();
    output.line(format_args!("{} written in {seconds:.1} s, with mod10, mod20 and mod1000", count(last.written, "row")))
}

async fn import(client: &Client, collection: &CollectionName, rows: Rows) -> Result<ImportProgress, CommandError> {
    let bar = progress_bar(rows.expected());
    let outcome = upload(client, collection, rows, |line| bar.set_position(line.written + line.failed)).await;
    bar.finish_and_clear();
    let last = outcome?.last;
    if let Some(problem) = &last.problem {
        return Err(CommandError::Failed(format!("the import ended early: {problem}")));
    }
    if let Some(failure) = last.first_failures.as_deref().unwrap_or_default().first() {
        return Err(CommandError::Failed(format!(
            "{} failed, the first: entry {}: {}",
            count(last.failed, "row"),
            failure.line,
            failure.problem
        )));
    }
    Ok(last)
}

fn add_moduli(entry: &mut Map<String, Value>) {
    let hash = xxh3_64(entry.get("key").and_then(Value::as_str).unwrap_or_default().as_bytes());
    let metadata = entry.entry("metadata").or_insert_with(|| json!({}));
    if let Value::Object(metadata) = metadata {
        metadata.extend(MODULI.map(|(name, modulus)| (name.to_owned(), json!(hash % modulus))));
    }
}

/// Imports entries into namespaces of this run in one stream, and finds the last one. The time ends when it was found.
pub(super) async fn bulk(
    files: Option<(&Path, &Path)>,
    rows: u64,
    client: &Client,
    collection: &CollectionName,
    scratch: &Scratch,
    stop: &Stop,
) -> Result<Summary, CommandError> {
    let last = last_entry(queries::open(files)?.with_limit(rows))?;
    let namespaces = scratch.clone();
    let renamed = move |entry: &mut Map<String, Value>| {
        if let Some(Value::String(name)) = entry.get_mut("namespace") {
            *name = bulk_namespace(&namespaces, name);
        }
    };
    // Whoever stops it ends its body and has its answer: what were still being written would be written after the traces are gone.
    let told = stop.clone();
    let rows = queries::open(files)?.with_limit(rows).with_edit(renamed).until(move || told.came());
    let started = Instant::now();
    let imported = import(client, collection, rows).await?;
    if stop.came() {
        return Err(stopped());
    }
    let search = json!({"vector": last.vector, "k": 1, "exact": true, "include": [], "cache": "bypass",
        "namespaces": [bulk_namespace(scratch, last.namespace.as_str())]});
    let to = path::collection(collection, "/search");
    let found: Found = client.send(Method::POST, &to, &[], &search, Patience::Long).await?.parse()?;
    let elapsed = started.elapsed();
    if found.is_empty() {
        return Err(CommandError::Failed("an entry was acknowledged and not found".to_owned()));
    }
    Ok(rows_a_second(imported.written, elapsed))
}

/// Where the entries of a namespace go.
fn bulk_namespace(scratch: &Scratch, name: &str) -> String {
    // A name may be too long for another in front of it: its digest is as good.
    scratch.namespace(format_args!("bulk:{:x}", xxh3_64(name.as_bytes()))).into()
}

fn rows_a_second(rows: u64, elapsed: Duration) -> Summary {
    let summary = Tally::new().summary(elapsed);
    Summary { requests: rows, per_second: rows as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE), ..summary }
}

fn last_entry(mut rows: Rows) -> Result<NewEntry, CommandError> {
    let mut last = None;
    while let Some(chunk) = rows.next_chunk().map_err(|error| CommandError::failed(&error))? {
        last = Some(chunk);
    }
    let chunk = last.unwrap_or_default();
    let line = chunk.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    serde_json::from_slice(line.unwrap_or_default())
        .map_err(|error| CommandError::Failed(format!("the last entry is none: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_filter_by_a_modulus_keeps_its_share() {
        let kept = (0..20_000).filter(|number| {
            let mut entry = json!({"key": format!("n-{number}"), "metadata": {"pos": "n"}});
            add_moduli(entry.as_object_mut().unwrap());
            assert_eq!(entry["metadata"]["pos"], "n");
            entry["metadata"]["mod20"] == 7
        });
        let kept = kept.count();
        assert!((900..1_100).contains(&kept), "{kept} of 20000");
    }

    #[test]
    fn an_entry_without_metadata_gets_some() {
        let mut entry = json!({"key": "k"});
        add_moduli(entry.as_object_mut().unwrap());
        assert_eq!(entry["metadata"].as_object().unwrap().len(), 3);
    }

    #[test]
    fn what_is_prepared_keeps_its_tags() {
        let entry = last_entry(queries::open(None).unwrap().with_edit(add_moduli).with_limit(1)).unwrap();
        assert_eq!(entry.tags, [entry.metadata["pos"].as_str().unwrap()]);
        assert!(entry.metadata.contains_key("mod20"));
    }

    #[test]
    fn the_last_entry_is_the_last() {
        let at = |place: u64| last_entry(queries::open(None).unwrap().with_limit(place)).unwrap();
        assert_ne!(at(5).key, at(300).key);
        assert!(at(5).vector.is_some());
    }
}
