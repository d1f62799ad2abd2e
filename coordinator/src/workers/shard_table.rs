//! Names of tables, and the few pieces of SQL that depend on a collection's settings. Identifiers come from typed names only and
//! are quoted here.

use atoll_core::routing::ShardRoute;
use atoll_proto::agent::{IDEMPOTENCY_TABLE, REFERENCE_SCHEMA};
use atoll_proto::{CollectionName, CollectionSettings, Distribution, Metric, VectorType};
use std::sync::Arc;

/// A collection's table in one place.
#[derive(Debug, Clone)]
pub struct ShardTable {
    schema: Arc<str>,
    table: CollectionName,
    /// The collection's settings.
    pub settings: CollectionSettings,
}

impl ShardTable {
    /// The table of a collection in the shard that `route` leads to.
    pub fn new(route: &ShardRoute, table: &CollectionName, settings: &CollectionSettings) -> Self {
        let schema = match settings.distribution {
            Distribution::Hash => route.schema.clone(),
            Distribution::Reference => REFERENCE_SCHEMA.into(),
        };
        Self { schema, table: table.clone(), settings: settings.clone() }
    }

    /// The table of a collection in a shard's schema.
    pub fn in_schema(schema: &str, table: &CollectionName, settings: &CollectionSettings) -> Self {
        Self { schema: schema.into(), table: table.clone(), settings: settings.clone() }
    }

    /// The collection.
    pub fn collection(&self) -> &CollectionName {
        &self.table
    }

    /// `"schema"."table"`.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(self.table.as_str()))
    }

    /// The table of outcomes beside it.
    pub fn idempotency(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(IDEMPOTENCY_TABLE))
    }

    /// Whether rows have an embedding.
    pub fn has_vectors(&self) -> bool {
        self.settings.dimensions.is_some()
    }

    /// SQL type of the embedding.
    pub fn vector_type(&self) -> &'static str {
        match self.settings.vector_type {
            VectorType::Float32 => "vector",
            VectorType::Float16 => "halfvec",
        }
    }

    /// Distance operator: lower is nearer.
    pub fn operator(&self) -> &'static str {
        match self.settings.metric {
            Metric::Cosine => "<=>",
            Metric::L2 => "<->",
            Metric::Dot => "<#>",
        }
    }
}

/// The table of outcomes in a shard.
pub fn idempotency_table(route: &ShardRoute) -> String {
    format!("{}.{}", quote(&route.schema), quote(IDEMPOTENCY_TABLE))
}

/// A quoted identifier. Names never hold a quote; doubled all the same, so that this is right without knowing that.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
