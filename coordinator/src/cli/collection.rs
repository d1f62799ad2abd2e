//! `atoll collection`.

use super::client::{Client, Patience};
use super::error::CommandError;
use super::output::{Output, or_dash, table};
use super::{one_of, path};
use atoll_proto::collection::{CollectionDropped, CollectionInfo, CollectionList};
use atoll_proto::{
    CollectionName, CollectionSettings, Distribution, Durability, IndexProfile, IndexScope, IndexSettings, Metric,
    VectorType,
};
use http::Method;
use serde::Serialize;

const METRICS: &[&str] = &["cosine", "l2", "dot"];
const VECTOR_TYPES: &[&str] = &["float32", "float16"];
const DISTRIBUTIONS: &[&str] = &["hash", "reference"];
const DURABILITIES: &[&str] = &["quorum", "local", "ephemeral"];
const INDEX_PROFILES: &[&str] = &["accuracy", "balanced", "speed"];
const INDEX_SCOPES: &[&str] = &["namespace", "shard", "both"];

/// The options of `create` that take one of several words.
#[cfg(test)]
pub(super) const WORDS: &[(&str, &[&str])] = &[
    ("--metric", METRICS),
    ("--vector-type", VECTOR_TYPES),
    ("--distribution", DISTRIBUTIONS),
    ("--durability", DURABILITIES),
    ("--index-profile", INDEX_PROFILES),
    ("--index-scope", INDEX_SCOPES),
];

const CREATE_HELP: &str = "\
Examples:
  atoll collection create notes --dimensions 384
  atoll collection create images --dimensions 1024 --metric dot --vector-type float16
  atoll collection create settings --no-vectors --distribution reference

Asking again for what is there changes nothing.";

/// What can be done with collections.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CollectionCommand {
    /// Make a collection: a table on every shard.
    Create(CreateArgs),
    /// List collections.
    List,
    /// Show one collection.
    Show {
        /// Collection.
        name: CollectionName,
    },
    /// Drop a collection with all its entries.
    Drop {
        /// Collection.
        name: CollectionName,
    },
}

/// What `atoll collection create` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = CREATE_HELP)]
#[command(group = clap::ArgGroup::new("vectors").required(true).args(["dimensions", "no_vectors"]))]
pub(crate) struct CreateArgs {
    /// Collection: small letters, digits and underscores.
    name: CollectionName,
    /// Numbers in each vector.
    #[arg(long, value_name = "N")]
    dimensions: Option<u32>,
    /// Entries without vectors.
    #[arg(long)]
    no_vectors: bool,
    /// What a search orders by.
    #[arg(long, value_parser = one_of::<Metric>(METRICS), default_value = "cosine")]
    metric: Metric,
    /// How vectors are stored.
    #[arg(long, value_parser = one_of::<VectorType>(VECTOR_TYPES), default_value = "float32")]
    vector_type: VectorType,
    /// Rows by their namespace's hash, or a full copy on every group.
    #[arg(long, value_parser = one_of::<Distribution>(DISTRIBUTIONS), default_value = "hash")]
    distribution: Distribution,
    /// When a write counts as done.
    #[arg(long, value_parser = one_of::<Durability>(DURABILITIES), default_value = "quorum")]
    durability: Durability,
    /// How dense the vector index is.
    #[arg(long, value_parser = one_of::<IndexProfile>(INDEX_PROFILES), default_value = "balanced")]
    index_profile: IndexProfile,
    /// A graph for each large namespace, one over each shard, or both.
    #[arg(long, value_parser = one_of::<IndexScope>(INDEX_SCOPES), default_value = "namespace")]
    index_scope: IndexScope,
    /// Entries vanish this long after they were last written.
    #[arg(long, value_name = "SECONDS")]
    ttl_seconds: Option<u32>,
}

impl CreateArgs {
    fn settings(&self) -> CollectionSettings {
        CollectionSettings {
            dimensions: self.dimensions,
            metric: self.metric,
            vector_type: self.vector_type,
            distribution: self.distribution,
            durability: self.durability,
            index: IndexSettings { profile: self.index_profile, scope: self.index_scope },
            ttl_seconds: self.ttl_seconds,
        }
    }
}

impl CollectionCommand {
    /// Does it.
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        match self {
            Self::Create(args) => {
                let to = path::collection(&args.name, "");
                let answer = client.send(Method::PUT, &to, &[], &args.settings(), Patience::Long).await?;
                output
                    .show(&answer, |info: CollectionInfo| format!("collection {} is {}", info.name, word(&info.state)))
            }
            Self::List => {
                let answer = client.get("/v1/collections").await?;
                output.show(&answer, |list: CollectionList| collections_table(&list.collections))
            }
            Self::Show { name } => {
                let answer = client.get(&path::collection(&name, "")).await?;
                output.show(&answer, |info| collections_table(&[info]))
            }
            Self::Drop { name } => {
                let answer = client.delete(&path::collection(&name, "")).await?;
                output.show(&answer, |gone: CollectionDropped| {
                    let what = if gone.dropped { "is dropped" } else { "was not there" };
                    format!("collection {name} {what}")
                })
            }
        }
    }
}

fn collections_table(collections: &[CollectionInfo]) -> String {
    let rows = collections.iter().map(|info| {
        let settings = &info.settings;
        [
            info.name.to_string(),
            word(&info.state),
            or_dash(settings.dimensions),
            word(&settings.metric),
            word(&settings.vector_type),
            word(&settings.distribution),
            word(&settings.durability),
            word(&settings.index.profile),
            or_dash(settings.ttl_seconds),
        ]
    });
    table(
        &["NAME", "STATE", "DIMENSIONS>", "METRIC", "VECTOR", "DISTRIBUTION", "DURABILITY", "INDEX", "TTL SECONDS>"],
        rows,
    )
}

/// A word of the wire, spelt as on the wire.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::{Cli, Command};
    use atoll_proto::collection::CollectionState;
    use clap::Parser;

    #[test]
    fn the_defaults_are_those_of_the_api() {
        let line = ["atoll", "collection", "create", "c", "--dimensions", "384"];
        let Command::Collection(CollectionCommand::Create(args)) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not a create");
        };
        assert_eq!(args.settings(), CollectionSettings::memory_entries());
    }

    #[test]
    fn a_collection_is_one_row() {
        let info = CollectionInfo {
            name: CollectionName::parse("notes").unwrap(),
            state: CollectionState::Creating,
            settings: CollectionSettings::memory_entries(),
        };
        let shown = collections_table(&[info]);
        assert!(
            shown.ends_with(
                "notes  creating         384  cosine  float32  hash          quorum      balanced            -"
            ),
            "{shown}"
        );
    }
}
