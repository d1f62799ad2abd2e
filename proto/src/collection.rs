//! Collections: what a distributed table is.

use crate::{CollectionName, Metric, VectorType, limits};
use serde::{Deserialize, Serialize};

/// How a collection's rows are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// By the namespace's hash onto the shards. All such collections are co-located: a namespace's rows of all of them
    /// lie in the same shard.
    #[default]
    Hash,
    /// A full copy on every group. For small tables that every shard joins with.
    Reference,
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Flushed by the primary and, where the group has standbys, by one of them.
    #[default]
    Quorum,
    /// Flushed by the primary.
    Local,
    /// Held in an unlogged table: lost when PostgreSQL crashes.
    Ephemeral,
}

/// How much memory and time the vector index may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum IndexProfile {
    /// Denser graph: better recall at the same ef, slower to build (m 32, ef_construction 128).
    Accuracy,
    /// pgvector's own proportions (m 16, ef_construction 64).
    #[default]
    Balanced,
    /// Sparser graph: quicker to build (m 12, ef_construction 40).
    Speed,
}

/// Where the vector index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum IndexScope {
    /// Each large namespace has a graph of its own; small ones are scanned exactly. Writes are quick, and so is a search of a
    /// few namespaces; one of all namespaces walks every graph and scans the rest.
    #[default]
    Namespace,
    /// One graph over each shard. For collections that are searched as a whole.
    Shard,
    /// Both: searches choose, writes pay for both.
    Both,
}

impl IndexScope {
    /// Whether there is a graph over each shard.
    pub fn has_shard_graph(self) -> bool {
        match self {
            Self::Namespace => false,
            Self::Shard | Self::Both => true,
        }
    }
}

/// Settings of the vector index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct IndexSettings {
    /// The graph's density.
    pub profile: IndexProfile,
    /// Where graphs are.
    pub scope: IndexScope,
}

crate::object::only_objects!(IndexSettings);

/// What `PUT /v1/collections/{c}` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CollectionSettings {
    /// Numbers in each vector; null for a collection without vectors.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 4000))]
    pub dimensions: Option<u32>,
    /// What a search orders by.
    #[serde(default = "CollectionSettings::default_metric")]
    pub metric: Metric,
    /// How vectors are stored.
    #[serde(default = "CollectionSettings::default_vector_type")]
    pub vector_type: VectorType,
    /// How rows are spread.
    #[serde(default)]
    pub distribution: Distribution,
    /// When a write counts as done.
    #[serde(default)]
    pub durability: Durability,
    /// Settings of the vector index.
    #[serde(default)]
    pub index: IndexSettings,
    /// Entries vanish this long after they were last written; null for never.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub ttl_seconds: Option<u32>,
}

/// Why settings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// None, or more than pgvector can index.
    #[error("dimensions must be 1 to {max} for this vector_type, {given} given")]
    Dimensions {
        /// Dimensions asked for.
        given: u32,
        /// Dimensions allowed.
        max: u32,
    },
    /// A time to live of zero would hide what was just written.
    #[error("ttl_seconds must be at least 1")]
    Ttl,
}

impl SettingsError {
    /// JSON pointer of the field at fault.
    pub fn pointer(&self) -> &'static str {
        match self {
            Self::Dimensions { .. } => "/dimensions",
            Self::Ttl => "/ttl_seconds",
        }
    }
}

impl CollectionSettings {
    /// What a fresh cluster's `memory_entries` has: 384 dimensions, cosine.
    pub fn memory_entries() -> Self {
        Self {
            dimensions: Some(384),
            metric: Self::default_metric(),
            vector_type: Self::default_vector_type(),
            distribution: Distribution::Hash,
            durability: Durability::Quorum,
            index: IndexSettings::default(),
            ttl_seconds: None,
        }
    }

    /// Checks what the types alone cannot.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let max = match self.vector_type {
            VectorType::Float32 => limits::DIMENSIONS_FLOAT32,
            VectorType::Float16 => limits::DIMENSIONS_FLOAT16,
        };
        if let Some(given) = self.dimensions
            && (given == 0 || given > max)
        {
            return Err(SettingsError::Dimensions { given, max });
        }
        if self.ttl_seconds == Some(0) {
            return Err(SettingsError::Ttl);
        }
        Ok(())
    }

    fn default_metric() -> Metric {
        Metric::Cosine
    }

    fn default_vector_type() -> VectorType {
        VectorType::Float32
    }
}

/// Where a collection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CollectionState {
    /// Its tables are being made; not every shard has them yet.
    Creating,
    /// Every shard has its table.
    Active,
    /// Its tables are being dropped.
    Dropping,
}

/// A collection as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CollectionInfo {
    /// Its name.
    pub name: CollectionName,
    /// Where it stands.
    pub state: CollectionState,
    /// Its settings.
    #[serde(flatten)]
    pub settings: CollectionSettings,
}

/// Answer of `GET /v1/collections`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CollectionList {
    /// Every collection, by name.
    pub collections: Vec<CollectionInfo>,
}

/// Answer of `DELETE /v1/collections/{c}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CollectionDropped {
    /// Whether there was one to drop.
    pub dropped: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dimension_limits_hold_at_n_and_n_plus_one() {
        for (vector_type, max) in [(VectorType::Float32, 2_000), (VectorType::Float16, 4_000)] {
            let with = |dimensions| CollectionSettings {
                dimensions: Some(dimensions),
                vector_type,
                ..CollectionSettings::memory_entries()
            };
            assert!(with(1).validate().is_ok());
            assert!(with(max).validate().is_ok());
            assert_eq!(with(max + 1).validate(), Err(SettingsError::Dimensions { given: max + 1, max }));
            assert!(with(0).validate().is_err());
        }
    }

    #[test]
    fn an_empty_body_is_a_collection_without_vectors() {
        let settings: CollectionSettings = serde_json::from_str("{}").unwrap();
        assert_eq!(settings.dimensions, None);
        assert!(serde_json::from_str::<CollectionSettings>("{\"colour\":1}").is_err());
    }
}
