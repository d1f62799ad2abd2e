//! `atoll export`: entries as NDJSON, streamed.

use super::client::{Client, empty};
use super::error::CommandError;
use super::output::Output;
use super::{InCollection, path};
use atoll_proto::Namespace;
use http::Method;
use http_body_util::BodyExt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Examples:
  atoll export --namespace team-a:notes > notes.jsonl
  atoll export --output all.jsonl
  atoll export | gzip > all.jsonl.gz";

/// What `atoll export` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    collection: InCollection,
    /// Only this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    /// File to write; it appears under this name only when it is whole. Without it, standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Copies the coordinator's lines to a file or to standard output.
pub(crate) async fn run(args: ExportArgs, client: &Client, _output: &Output) -> Result<(), CommandError> {
    let query = path::query(&[("namespace", args.namespace.map(String::from))]);
    let from = path::collection(&args.collection.collection, &format!("/export{query}"));
    let Some(target) = args.output else {
        let mut stdout = std::io::stdout().lock();
        copy(client, &from, &mut stdout, CommandError::Output).await?;
        return Ok(());
    };
    let unfinished = unfinished(&target);
    let failed = |source| CommandError::File { doing: "write", path: unfinished.clone(), source };
    let mut file = BufWriter::new(File::create(&unfinished).map_err(failed)?);
    let lines = copy(client, &from, &mut file, failed).await?;
    std::fs::rename(&unfinished, &target).map_err(|source| CommandError::File {
        doing: "write",
        path: target.clone(),
        source,
    })?;
    eprintln!("{lines} entries exported to {}", target.display());
    Ok(())
}

async fn copy(
    client: &Client,
    from: &str,
    to: &mut impl Write,
    failed: impl Fn(std::io::Error) -> CommandError,
) -> Result<u64, CommandError> {
    let mut body = client.stream(Method::GET, from, None, empty()).await?.into_body();
    let mut lines = 0;
    while let Some(frame) = body.frame().await {
        // An answer that is cut off ends in an error here, because its last chunk never came.
        if let Ok(data) = frame.map_err(|error| client.broken(error))?.into_data() {
            lines += data.iter().filter(|byte| **byte == b'\n').count() as u64;
            to.write_all(&data).map_err(&failed)?;
        }
    }
    to.flush().map_err(failed)?;
    Ok(lines)
}

fn unfinished(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;

    #[tokio::test]
    async fn a_file_appears_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out.jsonl");
        let args = |target: &Path| ExportArgs {
            collection: InCollection { collection: "c".parse().unwrap() },
            namespace: Some(Namespace::parse("a:b").unwrap()),
            output: Some(target.to_owned()),
        };
        let fake = FakeCoordinator::answering(200, "{\"key\":\"1\"}\n{\"key\":\"2\"}\n").await;
        run(args(&target), &fake.client(), &Output::detect(false)).await.unwrap();
        assert!(fake.request().await.starts_with("GET /v1/collections/c/export?namespace=a%3Ab HTTP/1.1\r\n"));
        assert_eq!(std::fs::read_to_string(&target).unwrap().lines().count(), 2);

        let cut = folder.path().join("cut.jsonl");
        let fake = FakeCoordinator::cut_off(200, "{\"key\":\"1\"}\n").await;
        let error = run(args(&cut), &fake.client(), &Output::detect(false)).await.unwrap_err();
        assert!(matches!(error, CommandError::Broken { .. }), "{error}");
        assert!(!cut.exists());
    }
}
