//! The sample: 5,000 embedded WordNet synsets, compiled in so that the binary shows something wherever it is.

use crate::cli::{Answer, Client, CommandError, F16Rows, Output, Rows, hits_table, progress_bar, summary, upload};
use atoll_proto::CollectionName;
use atoll_proto::collection::{CollectionInfo, CollectionState};
use atoll_proto::entry::EntryList;
use atoll_proto::search::SearchAnswer;
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader, Cursor};
use std::time::Duration;
use tokio::time::Instant;

static ENTRIES: &[u8] = include_bytes!("../../../sample/wordnet.jsonl.gz");
static VECTORS: &[u8] = include_bytes!("../../../sample/wordnet.f16bin");

const COLLECTION: &str = "memory_entries";
/// The entry of the example search: a whisker, whose neighbours are of several namespaces.
const EXAMPLE: (&str, &str) = ("noun.animal", "n-01901828");
/// Hits of the example search.
const EXAMPLE_HITS: usize = 5;
/// How long the collection's tables may take.
const TABLES_PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The example search as a command.
pub(super) fn example_command() -> String {
    format!("search --like {}:{} -k {EXAMPLE_HITS}", EXAMPLE.0, EXAMPLE.1)
}

/// Loads the sample unless it is there.
pub(super) async fn load(client: &Client) -> Result<(), CommandError> {
    let collection = CollectionName::parse(COLLECTION).expect("the name above is one");
    wait_for_tables(client).await?;
    if is_there(client).await? {
        eprintln!("sample: is there already");
        return Ok(());
    }
    eprintln!("sample: loading 5,000 entries into {COLLECTION}");
    let rows = rows()?;
    let bar = progress_bar(rows.expected());
    let outcome = upload(client, &collection, rows, |line| bar.set_position(line.written + line.failed)).await;
    bar.finish_and_clear();
    let last = outcome?.last;
    if let Some(problem) = last.problem {
        return Err(CommandError::Failed(format!("the sample was loaded in part: {problem}")));
    }
    if let Some(failure) = last.first_failures.unwrap_or_default().first() {
        return Err(CommandError::Failed(format!(
            "{} entries of the sample were refused, the first one: {}",
            last.failed, failure.problem
        )));
    }
    eprintln!("sample: {} entries written", last.written);
    Ok(())
}

/// `atoll sample`: loads it into a cluster that is there, and prints the example search.
pub(crate) async fn run(client: &Client, output: &Output) -> Result<(), CommandError> {
    load(client).await?;
    output.show(&search_example(client).await?, |answer: SearchAnswer| shown(&answer, "atoll"))
}

/// Searches for the example's neighbours and shows them; `atoll` is how commands to this cluster begin.
pub(super) async fn show_example(client: &Client, atoll: &str) -> Result<(), CommandError> {
    eprintln!("\n{}", shown(&search_example(client).await?.parse()?, atoll));
    Ok(())
}

async fn search_example(client: &Client) -> Result<Answer, CommandError> {
    let query = json!({
        "like": {"namespace": EXAMPLE.0, "key": EXAMPLE.1}, "k": EXAMPLE_HITS, "all": true, "include": ["value"],
    });
    client.post(&format!("/v1/collections/{COLLECTION}/search"), &query).await
}

/// Hits, under the command that gives them.
fn shown(answer: &SearchAnswer, atoll: &str) -> String {
    format!("$ {atoll} {}\n{}\n{}", example_command(), hits_table(answer, Some(100)), summary(answer))
}

async fn wait_for_tables(client: &Client) -> Result<(), CommandError> {
    let deadline = Instant::now() + TABLES_PATIENCE;
    loop {
        let info: CollectionInfo = client.get(&format!("/v1/collections/{COLLECTION}")).await?.parse()?;
        if info.state == CollectionState::Active {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(CommandError::Failed(format!(
                "the tables of {COLLECTION} are not there after {} s: see the agents' logs",
                TABLES_PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the first and the last entry are stored: an import that broke off lacks the last.
async fn is_there(client: &Client) -> Result<bool, CommandError> {
    let mut ids = Vec::new();
    let lines: Vec<String> =
        BufReader::new(GzDecoder::new(ENTRIES)).lines().collect::<Result<_, _>>().map_err(broken)?;
    for line in [lines.first(), lines.last()].into_iter().flatten() {
        let entry: Value = serde_json::from_str(line).map_err(broken)?;
        ids.push(json!({"namespace": entry["namespace"], "key": entry["key"]}));
    }
    let body = json!({ "ids": ids, "include": [] });
    let found: EntryList = client.post(&format!("/v1/collections/{COLLECTION}/entries/get"), &body).await?.parse()?;
    Ok(found.entries.len() == ids.len())
}

/// Its entries, as an import has them.
pub(crate) fn rows() -> Result<Rows, CommandError> {
    let vectors = F16Rows::new(Box::new(Cursor::new(VECTORS)), VECTORS.len() as u64).map_err(broken)?;
    let rows = Rows::new(Cursor::new(ENTRIES)).map_err(broken)?;
    Ok(rows.with_vectors(vectors).with_edit(tag_with_part_of_speech))
}

fn tag_with_part_of_speech(entry: &mut Map<String, Value>) {
    if let Some(part_of_speech) = entry.get("metadata").and_then(|metadata| metadata.get("pos")) {
        let tags = json!([part_of_speech]);
        entry.insert("tags".to_owned(), tags);
    }
}

fn broken(error: impl std::fmt::Display) -> CommandError {
    CommandError::Failed(format!("the sample in this program is broken: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::entry::NewEntry;
    use std::collections::BTreeSet;

    #[test]
    fn the_sample_is_5000_entries_that_the_api_takes() {
        let mut rows = rows().unwrap();
        assert_eq!(rows.expected(), Some(5_000));
        let mut ids = BTreeSet::new();
        while let Some(chunk) = rows.next_chunk().unwrap() {
            for line in chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let entry: NewEntry = serde_json::from_slice(line).unwrap();
                assert!(entry.value.is_some());
                assert_eq!(entry.vector.unwrap().dimensions(), 384);
                assert_eq!(entry.tags, [entry.metadata["pos"].as_str().unwrap()]);
                ids.insert((entry.namespace.to_string(), entry.key.to_string()));
            }
        }
        assert_eq!((ids.len(), rows.vectors_left()), (5_000, 0));
        assert!(ids.contains(&(EXAMPLE.0.to_owned(), EXAMPLE.1.to_owned())));
    }
}
