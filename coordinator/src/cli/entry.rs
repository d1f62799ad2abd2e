//! `atoll put` and `atoll get`.

use super::client::{Client, Patience};
use super::error::CommandError;
use super::output::Output;
use super::search::INCLUDES;
use super::vector_input::VectorInput;
use super::{InCollection, one_of, path};
use atoll_proto::entry::{
    Entry, EntryBody, EntryId, EntryList, GetEntries, Include, Metadata, WriteAnswer, WriteStatus,
};
use atoll_proto::{EntryKey, Namespace, limits};
use http::{HeaderName, Method, header};
use std::io::Read;
use std::path::{Path, PathBuf};

const PUT_HELP: &str = "\
Examples:
  atoll put notes n-1 --value 'buy milk' --vector-file n-1.json --tag todo --metadata '{\"lang\":\"en\"}'
  atoll put notes n-1 --value-file n-1.txt --if-version 3
  echo 'buy milk' | atoll put notes n-1 --value-file - --if-absent";

const GET_HELP: &str = "\
Examples:
  atoll get noun.animal n-01901828
  atoll get noun.animal n-01901828 n-02106030 --include vector --json";

/// What `atoll put` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = PUT_HELP)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    collection: InCollection,
    /// Namespace.
    namespace: Namespace,
    /// Key: names the entry inside its namespace.
    key: EntryKey,
    /// Text.
    #[arg(long, value_name = "TEXT", conflicts_with = "value_file", allow_hyphen_values = true)]
    value: Option<String>,
    /// File with the text; - for standard input.
    #[arg(long, value_name = "FILE")]
    value_file: Option<PathBuf>,
    #[command(flatten)]
    vector: VectorInput,
    /// Which row of an f16bin file, counted from 0.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "vector_file")]
    vector_row: u32,
    /// Metadata: a JSON object.
    #[arg(long, value_name = "JSON", value_parser = parse_metadata)]
    metadata: Option<Metadata>,
    /// A word to filter by; may be given again.
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// Write only if the stored entry is at this version.
    #[arg(long, value_name = "VERSION", conflicts_with = "if_absent")]
    if_version: Option<u64>,
    /// Write only if there is no such entry.
    #[arg(long)]
    if_absent: bool,
}

/// What `atoll get` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = GET_HELP)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    collection: InCollection,
    /// Namespace.
    namespace: Namespace,
    /// Keys.
    #[arg(required = true, num_args = 1..=limits::BATCH_ENTRIES)]
    keys: Vec<EntryKey>,
    /// What to give of each entry, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = one_of::<Include>(INCLUDES), default_value = "value,metadata,tags")]
    include: Vec<Include>,
}

fn parse_metadata(text: &str) -> Result<Metadata, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Writes one entry.
pub(crate) async fn put(args: PutArgs, client: &Client, output: &Output) -> Result<(), CommandError> {
    let value = match args.value_file {
        Some(file) => Some(read_text(&file)?),
        None => args.value,
    };
    let body = EntryBody {
        value,
        vector: args.vector.read(args.vector_row)?,
        metadata: args.metadata.unwrap_or_default(),
        tags: args.tag,
    };
    let mut headers = Vec::new();
    if let Some(version) = args.if_version {
        headers.push((header::IF_MATCH, format!("\"{version}\"")));
    }
    if args.if_absent {
        headers.push((header::IF_NONE_MATCH, "*".to_owned()));
    }
    // Under one key the write happens once, however often it is sent.
    headers.push((HeaderName::from_static("idempotency-key"), format!("{:032x}", rand::random::<u128>())));
    let to = path::entry(&args.collection.collection, &args.namespace, &args.key);
    let send = || client.send(Method::PUT, &to, &headers, &body, Patience::Usual);
    let answer = match send().await {
        Err(unknown) if unknown.is_outcome_unknown() => match send().await {
            Err(error) if !error.is_final() => return Err(unknown),
            answer => answer?,
        },
        answer => answer?,
    };
    if output.json {
        return output.line(answer.text.trim_end());
    }
    let answer: WriteAnswer = answer.parse()?;
    for result in &answer.results {
        let status = match result.status {
            WriteStatus::Created => "created",
            WriteStatus::Updated => "updated",
            WriteStatus::Unchanged => "unchanged",
            WriteStatus::Failed => "failed",
        };
        match (&result.version, &result.problem) {
            (_, Some(problem)) => eprintln!("{}: {problem}", result.key),
            (Some(version), None) => output.line(format_args!("{status}: {} at version {version}", result.key))?,
            (None, None) => output.line(format_args!("{status}: {}", result.key))?,
        }
    }
    if answer.failed > 0 {
        return Err(CommandError::Failed("the entry was not written".to_owned()));
    }
    Ok(())
}

/// Reads entries and prints them.
pub(crate) async fn get(args: GetArgs, client: &Client, output: &Output) -> Result<(), CommandError> {
    let ids = args.keys.iter().map(|key| EntryId { namespace: args.namespace.clone(), key: key.clone() }).collect();
    let to = path::collection(&args.collection.collection, "/entries/get");
    let answer = client.post(&to, &GetEntries { ids, include: args.include }).await?;
    let list: EntryList = answer.parse()?;
    if output.json {
        output.line(answer.text.trim_end())?;
    } else {
        for (place, entry) in list.entries.iter().enumerate() {
            if place > 0 {
                output.line("")?;
            }
            output.line(described(entry))?;
        }
    }
    let missing: Vec<&str> = args
        .keys
        .iter()
        .map(EntryKey::as_str)
        .filter(|key| !list.entries.iter().any(|entry| entry.key == *key))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(CommandError::Failed(format!("namespace {} has no entry {}", args.namespace, missing.join(", "))))
}

fn described(entry: &Entry) -> String {
    let mut lines = vec![
        format!("namespace  {}", entry.namespace),
        format!("key        {}", entry.key),
        format!("version    {}", entry.version),
        format!("created    {}", entry.created_at),
        format!("updated    {}", entry.updated_at),
    ];
    if let Some(value) = &entry.value {
        lines.push(format!("value      {}", value.replace('\n', "\n           ")));
    }
    if let Some(metadata) = &entry.metadata {
        lines.push(format!("metadata   {}", metadata.as_str()));
    }
    if let Some(tags) = &entry.tags {
        lines.push(format!("tags       {}", tags.join(", ")));
    }
    if let Some(vector) = &entry.vector {
        let first: Vec<String> = vector.as_slice().iter().take(4).map(f32::to_string).collect();
        let rest = if vector.dimensions() > 4 { ", …" } else { "" };
        lines.push(format!("vector     [{}{rest}] of {} (all with --json)", first.join(", "), vector.dimensions()));
    }
    lines.join("\n")
}

fn read_text(path: &Path) -> Result<String, CommandError> {
    let unreadable = |source| CommandError::File { doing: "read", path: path.to_owned(), source };
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn an_entry_reads_well() {
        let entry: Entry = serde_json::from_value(serde_json::json!({
            "namespace":"n","key":"k","value":"two\nlines","metadata":{"a":1},"tags":["x","y"],
            "vector":[1,2,3,4,5],"version":7,"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-02T00:00:00Z"
        }))
        .unwrap();
        let text = described(&entry);
        assert!(text.contains("value      two\n           lines\nmetadata   {\"a\":1}\ntags       x, y\n"), "{text}");
        assert!(text.ends_with("vector     [1, 2, 3, 4, …] of 5 (all with --json)"), "{text}");
    }

    const UNKNOWN: &str =
        "{\"code\":\"write-outcome-unknown\",\"title\":\"Unknown\",\"detail\":\"first\",\"retryable\":true}";

    fn put_if_absent() -> PutArgs {
        let line = ["atoll", "put", "n", "k", "--value", "v", "--if-absent"];
        let Command::Put(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not a put");
        };
        args
    }

    #[tokio::test]
    async fn a_write_of_unknown_outcome_is_sent_again_under_the_same_key() {
        let written = "{\"results\":[{\"namespace\":\"n\",\"key\":\"k\",\"status\":\"created\",\"version\":1}],\"written\":1,\"failed\":0}";
        let fake = FakeCoordinator::in_turn(vec![(504, UNKNOWN), (200, written)]).await;
        put(put_if_absent(), &fake.client(), &Output::detect(true)).await.unwrap();
        let key =
            |request: &str| request.lines().find(|line| line.starts_with("idempotency-key: ")).unwrap().to_owned();
        let (first, second) = (fake.request().await, fake.request().await);
        assert_eq!(key(&first), key(&second));
        assert!(second.contains("if-none-match: *"), "{second}");
    }

    #[tokio::test]
    async fn what_became_of_a_write_is_told_as_far_as_it_is_known() {
        let conflict = "{\"code\":\"already-exists\",\"title\":\"Exists\",\"detail\":\"second\"}";
        let again = UNKNOWN.replace("first", "second");
        for (second, told) in [((409, conflict), "Exists: second"), ((504, again.as_str()), "Unknown: first")] {
            let fake = FakeCoordinator::in_turn(vec![(504, UNKNOWN), second]).await;
            let error = put(put_if_absent(), &fake.client(), &Output::detect(true)).await.unwrap_err();
            assert_eq!(error.to_string(), told);
        }
    }

    #[tokio::test]
    async fn a_key_that_is_not_there_is_an_error() {
        let fake = FakeCoordinator::answering(200, "{\"entries\":[]}").await;
        let args = GetArgs {
            collection: InCollection { collection: "c".parse().unwrap() },
            namespace: Namespace::parse("n").unwrap(),
            keys: vec![EntryKey::parse("k").unwrap()],
            include: Include::usual(),
        };
        let error = get(args, &fake.client(), &Output::detect(true)).await.unwrap_err();
        assert_eq!(error.to_string(), "namespace n has no entry k");
        let request = fake.request().await;
        assert!(request.starts_with("POST /v1/collections/c/entries/get HTTP/1.1\r\n"), "{request}");
    }
}
