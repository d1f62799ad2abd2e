//! `atoll namespace`.

use super::client::Client;
use super::error::CommandError;
use super::output::{Output, count, table};
use super::{InCollection, path};
use atoll_proto::build::{BuildState, GraphBuild};
use atoll_proto::entry::{Deleted, NamespaceInfo, NamespacePage, Tier};
use atoll_proto::{Namespace, limits};

/// What can be done with namespaces.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum NamespaceCommand {
    /// List the namespaces that hold entries.
    List(ListArgs),
    /// Show how many entries a namespace holds, and where.
    Show(OneNamespace),
    /// Tell the shard that a namespace is hashed onto, whether it holds entries or not.
    Locate(OneNamespace),
    /// Delete all entries of a namespace.
    Delete(OneNamespace),
}

/// What `atoll namespace list` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    collection: InCollection,
    /// Only those that begin with this.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// At most this many. With --json one page is printed, and this is its size.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// One namespace of a collection.
#[derive(Debug, clap::Args)]
pub(crate) struct OneNamespace {
    #[command(flatten)]
    collection: InCollection,
    /// Namespace.
    namespace: Namespace,
}

impl NamespaceCommand {
    /// Does it.
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        match self {
            Self::List(args) => list(args, client, output).await,
            Self::Show(one) => show(&one, client, output, true).await,
            Self::Locate(one) => show(&one, client, output, false).await,
            Self::Delete(one) => {
                let answer = client.delete(&path::namespace(&one.collection.collection, &one.namespace)).await?;
                output.show(&answer, |deleted: Deleted| {
                    let entries = if deleted.deleted == 1 { "entry" } else { "entries" };
                    format!("{} {entries} of namespace {} deleted", deleted.deleted, one.namespace)
                })
            }
        }
    }
}

async fn list(args: ListArgs, client: &Client, output: &Output) -> Result<(), CommandError> {
    let mut wanted = args.limit;
    let mut cursor = args.cursor;
    let mut shown = 0_u64;
    loop {
        let page_size = wanted.map_or(limits::LIST_PAGE, |wanted| wanted.min(limits::LIST_PAGE));
        let query = path::query(&[
            ("prefix", args.prefix.clone()),
            ("limit", Some(page_size.to_string())),
            ("cursor", cursor.clone()),
        ]);
        let answer = client.get(&path::collection(&args.collection.collection, &format!("/namespaces{query}"))).await?;
        if output.json {
            return output.line(answer.text.trim_end());
        }
        let page: NamespacePage = answer.parse()?;
        for namespace in &page.namespaces {
            output.line(namespace)?;
        }
        let got = page.namespaces.len() as u32;
        shown += u64::from(got);
        wanted = wanted.map(|wanted| wanted.saturating_sub(got));
        cursor = page.next_cursor;
        // A page without a namespace ends the list as well: a cursor that leads nowhere must not be followed for ever.
        if cursor.is_none() || wanted == Some(0) || got == 0 {
            break;
        }
    }
    eprintln!("{}", count(shown, "namespace"));
    Ok(())
}

async fn show(one: &OneNamespace, client: &Client, output: &Output, counted: bool) -> Result<(), CommandError> {
    let answer = client.get(&path::namespace(&one.collection.collection, &one.namespace)).await?;
    output.show(&answer, |info: NamespaceInfo| {
        let mut header = vec!["NAMESPACE", "SHARD>", "GROUP", "SCHEMA"];
        let mut row = vec![info.namespace.to_string(), info.shard.to_string(), info.group, info.schema];
        if counted {
            header.extend(["ENTRIES>", "TIER"]);
            row.extend([info.count.to_string(), tier(info.tier, info.build.as_ref())]);
        }
        table(&header, [row])
    })
}

/// How a namespace is searched, and what is to come.
fn tier(tier: Tier, build: Option<&GraphBuild>) -> String {
    match (tier, build) {
        (Tier::Graph, _) => "graph".to_owned(),
        (Tier::Building, build) => {
            let share = build.and_then(|build| build.progress).unwrap_or(0.0);
            format!("building, {:.0} %", 100.0 * share)
        }
        (Tier::Exact, None) => "exact".to_owned(),
        (Tier::Exact, Some(build)) => match build.state {
            BuildState::Building | BuildState::Waiting => "exact, graph waits for others".to_owned(),
            BuildState::Loading => "exact, graph after the import".to_owned(),
            BuildState::Growing => "exact, graph when it stops growing".to_owned(),
            BuildState::Failed => "exact, graph failed and is tried again".to_owned(),
        },
    }
}
