//! The command line: what can be asked for, and the commands that ask a coordinator over HTTP.

mod bench;
mod builds;
mod client;
mod collection;
mod doctor;
mod entry;
mod error;
mod explain;
mod export;
mod failover;
mod groups;
mod import;
mod keys;
mod like;
mod members;
mod moves;
mod namespace;
mod output;
mod path;
mod pg_plan;
mod rebalance;
mod recall;
mod search;
mod server;
mod status;
#[cfg(test)]
mod testing;
mod time_left;
mod vector_input;

pub(crate) use client::{Answer, Client, Trusted};
pub(crate) use error::CommandError;
pub(crate) use import::{F16Rows, Rows, progress_bar, upload};
pub(crate) use output::Output;
pub(crate) use search::{hits_table, summary};

use crate::dev::DevArgs;
use atoll_proto::{CollectionName, limits};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use serde::de::DeserializeOwned;
use serde::de::value::{Error as WordError, StrDeserializer};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  atoll dev --sample                                     a whole cluster on this machine, with 5,000 entries in it
  atoll status                                           what the cluster is made of and whether it is ready
  atoll search --like noun.animal:n-01901828 -k 5        the nearest neighbours of a stored entry
  atoll import notes.jsonl.gz --vectors notes.f16bin     many entries at once
  atoll bench --cluster DIR/cluster.json                 what it can do, and what PostgreSQL alone would do
  atoll doctor                                           what is wrong and what to do about it

Commands print tables for people and, with --json, the API's answer for programs; data goes to standard output, the rest
to standard error. Exit status: 0 done, 1 error, 2 bad usage.";

/// Vector search over many plain PostgreSQL servers.
#[derive(Debug, Parser)]
#[command(name = "atoll", version, propagate_version = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to reach a coordinator, and how to print what it says.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection and output")]
struct Connection {
    /// Any coordinator's address for clients.
    #[arg(long, global = true, env = "ATOLL_URL", value_name = "URL", default_value = "http://127.0.0.1:7700")]
    url: String,
    /// File with the API key to send, where the cluster asks for one; else ATOLL_KEY in the environment is taken.
    #[arg(long, global = true, env = "ATOLL_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Authorities (PEM) whose certificates are trusted in place of this machine's, for a URL with https://.
    #[arg(long, global = true, env = "ATOLL_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Print the API's answers as they are.
    #[arg(long, global = true)]
    json: bool,
    /// Deadline of a request in milliseconds, 60000 at most.
    #[arg(long, global = true, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=limits::DEADLINE_MS_MAX))]
    timeout_ms: Option<u64>,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one coordinator.
    Serve(server::ServeArgs),
    /// Run a whole cluster on this machine, to try and to develop with.
    Dev(DevArgs),
    /// Load 5,000 embedded WordNet entries into a cluster, unless they are there, and search them once.
    Sample,
    /// Print a coordinator's effective configuration: file, then environment.
    Config(server::ConfigArgs),
    /// Show what the cluster is made of and whether it is ready.
    Status,
    /// Make, list, show and drop collections.
    #[command(subcommand)]
    Collection(collection::CollectionCommand),
    /// List, show, locate and delete namespaces.
    #[command(subcommand)]
    Namespace(namespace::NamespaceCommand),
    /// Write one entry.
    Put(entry::PutArgs),
    /// Read entries by their keys.
    Get(entry::GetArgs),
    /// Find the entries nearest to a vector or to a stored entry.
    Search(search::SearchArgs),
    /// Measure how much of the true nearest searches find, and how fast.
    Recall(recall::RecallArgs),
    /// Write many entries from a file.
    Import(import::ImportArgs),
    /// Read all entries, as a file that `import` takes.
    Export(export::ExportArgs),
    /// List shards, and move them to other groups.
    #[command(subcommand)]
    Shard(members::ShardCommand),
    /// List, show and cancel moves of shards.
    #[command(subcommand)]
    Move(moves::MoveCommand),
    /// List groups, drain and remove them.
    #[command(subcommand)]
    Group(groups::GroupCommand),
    /// Make, list and remove API keys: from the first one on every request needs one.
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// List workers.
    #[command(subcommand)]
    Worker(members::WorkerCommand),
    /// List and remove coordinators.
    #[command(subcommand)]
    Coordinator(members::CoordinatorCommand),
    /// Even out what groups hold: plan which shards to move, and move them, also by a schedule.
    #[command(subcommand)]
    Rebalance(rebalance::RebalanceCommand),
    /// Measure what a cluster can do, and what PostgreSQL alone would do.
    Bench(Box<bench::BenchArgs>),
    /// Say what is wrong with the cluster and what to do about it.
    Doctor,
}

impl Cli {
    /// How this run prints.
    pub(crate) fn output(&self) -> Output {
        Output::detect(self.connection.json)
    }

    /// Whether it runs a coordinator.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }

    /// Does what was asked.
    pub(crate) async fn run(self, output: &Output) -> Result<(), CommandError> {
        let connection = self.connection;
        let key = || keys::configured(connection.key_file.as_deref());
        let trusted = || Trusted { ca_file: connection.ca_file.clone(), shown: None };
        let client = || Client::trusting(&connection.url, connection.timeout_ms, &trusted())?.with_key(key()?);
        match self.command {
            Command::Serve(args) => server::serve(args).await,
            Command::Config(args) => server::print_config(&args, output),
            Command::Dev(args) => crate::dev::run(args, key()?, output).await,
            Command::Sample => crate::dev::run_sample(&client()?, output).await,
            Command::Status => status::run(&client()?, output).await,
            Command::Collection(command) => command.run(&client()?, output).await,
            Command::Namespace(command) => command.run(&client()?, output).await,
            Command::Put(args) => entry::put(args, &client()?, output).await,
            Command::Get(args) => entry::get(args, &client()?, output).await,
            Command::Search(args) => search::run(args, &client()?, output).await,
            Command::Recall(args) => recall::run(args, &client()?, output).await,
            Command::Import(args) => import::run(args, &client()?, output).await,
            Command::Export(args) => export::run(args, &client()?, output).await,
            Command::Shard(command) => command.run(&client()?, output).await,
            Command::Move(command) => command.run(&client()?, output).await,
            Command::Group(command) => command.run(&client()?, output).await,
            Command::Key(command) => command.run(&client()?, trusted(), output).await,
            Command::Worker(command) => command.run(&client()?, output).await,
            Command::Coordinator(command) => command.run(&client()?, output).await,
            Command::Rebalance(command) => command.run(&client()?, output).await,
            Command::Bench(args) => bench::run(*args, &client()?, output).await,
            Command::Doctor => doctor::run(&client()?, output).await,
        }
    }
}

/// The collection that a command works on.
#[derive(Debug, clap::Args)]
struct InCollection {
    /// Collection.
    #[arg(long, value_name = "NAME", default_value = "memory_entries")]
    collection: CollectionName,
}

/// Takes one of `words` as the wire's word of the same spelling, so that the wire's types need to know nothing of
/// command lines.
fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words)
        .try_map(|word| T::deserialize(StrDeserializer::<WordError>::new(&word)).map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_go_before_or_after_the_command() {
        for line in [["atoll", "--url", "http://h:1", "status"], ["atoll", "status", "--url", "http://h:1"]] {
            assert_eq!(Cli::try_parse_from(line).unwrap().connection.url, "http://h:1");
        }
    }

    #[test]
    fn every_word_offered_is_a_word_of_the_wire() {
        let create = |option: &str, word: &str| {
            Cli::try_parse_from(["atoll", "collection", "create", "c", "--dimensions", "3", option, word])
        };
        for (option, words) in collection::WORDS {
            for word in *words {
                assert!(create(option, word).is_ok(), "{option} {word}");
            }
            assert!(create(option, "nonsense").is_err());
        }
        for profile in search::PROFILES {
            assert!(Cli::try_parse_from(["atoll", "search", "--vector", "[1]", "--profile", profile]).is_ok());
        }
        for measure in rebalance::MEASURES {
            assert!(Cli::try_parse_from(["atoll", "rebalance", "plan", "--by", measure]).is_ok());
            assert!(Cli::try_parse_from(["atoll", "rebalance", "policy", "--by", measure]).is_ok());
        }
        for include in search::INCLUDES {
            assert!(Cli::try_parse_from(["atoll", "search", "--vector", "[1]", "--include", include]).is_ok());
        }
    }

    #[test]
    fn names_are_checked_before_anything_is_sent() {
        for line in [
            &["atoll", "get", "bad namespace", "k"][..],
            &["atoll", "collection", "show", "Upper"],
            &["atoll", "search"],
            &["atoll", "search", "--like", "nocolon"],
            &["atoll", "search", "--vector", "[1]", "--like", "a:b"],
            &["atoll", "search", "--vector", "[1]", "--namespace", "a", "--prefix", "b"],
            &["atoll", "search", "--vector", "[1]", "--namespace", "a", "--exclude", "b"],
            &["atoll", "search", "--vector", "[1]", "--like-namespace", "a"],
            &["atoll", "search", "--vector", "[1]", "--plan-only"],
            &["atoll", "collection", "create", "c"],
            &["atoll", "rebalance", "policy", "--enable", "--disable"],
            &["atoll", "group", "drain", "g4", "--no-apply", "--max-parallel-moves", "2"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
