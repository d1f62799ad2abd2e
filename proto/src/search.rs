//! Search: body and answer.

use crate::entry::{EntryId, Include};
use crate::filter::Filter;
use crate::problem::ShardFailure;
use crate::{CatalogVersion, Namespace, StoredMetadata, Vector};
use serde::{Deserialize, Serialize};

crate::object::only_objects!(SearchRequest, Partial, SearchBatch);

/// Body of `POST …/search`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct SearchRequest {
    /// What to look for. Exactly one of `vector` and `like`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vector>,
    /// A stored entry whose vector to look for; it is left out of the hits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<EntryId>,
    /// Hits wanted.
    #[serde(default = "SearchRequest::default_k")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub k: u32,
    /// Where to look. Exactly one of `namespaces`, `prefix` and `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<Namespace>>,
    /// Namespaces that begin with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// Namespaces to leave out, with `prefix` or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<Namespace>>,
    /// Least score of a hit.
    #[serde(default)]
    pub min_score: Option<f64>,
    /// Which entries may be hits.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// Recall against speed.
    #[serde(default)]
    pub profile: Profile,
    /// Recall to aim for; wins over `profile`.
    #[serde(default)]
    pub target_recall: Option<f64>,
    /// `hnsw.ef_search` of each shard; wins over `target_recall`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub ef: Option<u32>,
    /// Look at every entry; wins over `ef`.
    #[serde(default)]
    pub exact: bool,
    /// What a walk of a graph looks for at least, as a multiple of k, 1 to 10: ef is never below it.
    #[serde(default = "SearchRequest::default_overfetch")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 10))]
    pub overfetch: f64,
    /// What to give of each hit.
    #[serde(default = "Include::usual")]
    pub include: Vec<Include>,
    /// At most this many hits of one namespace.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub group_by_namespace: Option<u32>,
    /// Which members of a group may answer.
    #[serde(default)]
    pub consistency: Consistency,
    /// Whether an answer without some shards will do.
    #[serde(default)]
    pub partial: Partial,
    /// Whether a cached answer will do.
    #[serde(default)]
    pub cache: CachePolicy,
    /// Tell in the answer how each shard was searched.
    #[serde(default)]
    pub explain: bool,
}

impl SearchRequest {
    fn default_k() -> u32 {
        10
    }

    fn default_overfetch() -> f64 {
        2.0
    }
}

/// Recall against speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Recall of 0.99 and more.
    Accuracy,
    /// Between the two.
    Balanced,
    /// Recall of 0.95 and more.
    Speed,
    /// As the coordinator sees fit: balanced.
    #[default]
    Auto,
}

impl Profile {
    /// Its word in requests, metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Balanced => "balanced",
            Self::Speed => "speed",
            Self::Auto => "auto",
        }
    }
}

/// Which members of a group may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// The primary.
    #[default]
    Primary,
    /// Any that has replayed what the session token names.
    Session,
    /// Any.
    Eventual,
}

/// Whether a cached answer will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CachePolicy {
    /// Yes, if it shows what was written through this coordinator and what the session token names.
    #[default]
    Use,
    /// No, and this one is not to be kept.
    Bypass,
}

/// Whether an answer without some shards will do.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct Partial {
    /// Answer 200 with `complete: false` in place of 503.
    pub allow: bool,
    /// Least share of the shards that must have answered, 0 to 1. Null: any, but at least one shard.
    pub min_coverage: Option<f64>,
}

impl Partial {
    /// Whether an answer of `ok` shards of `total` will do.
    pub fn accepts(self, ok: usize, total: usize) -> bool {
        ok == total || (self.allow && ok > 0 && ok as f64 / total as f64 >= self.min_coverage.unwrap_or(0.0))
    }
}

/// Answer of `POST …/search`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SearchAnswer {
    /// Best first; ties by namespace, then key.
    pub hits: Vec<Hit>,
    /// Whether every shard answered.
    pub complete: bool,
    /// Why there are fewer than k hits; null if there are k.
    pub short_reason: Option<ShortReason>,
    /// Who answered.
    pub coverage: Coverage,
    /// How it was searched.
    pub plan: PlanSummary,
    /// The catalog that the search went by.
    pub catalog_version: CatalogVersion,
    /// `hit`, `miss` or `bypass`.
    pub cache: String,
    /// The session token that was sent; null if none was.
    pub session: Option<String>,
    /// Where the time went.
    pub timings: Timings,
    /// How it was searched in full, if asked for.
    pub explain: Option<crate::explain::Explanation>,
}

/// One found entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hit {
    /// Its namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// Higher is better: cosine 1-d, dot the inner product, l2 1/(1+d).
    pub score: f64,
    /// The operator's value: lower is better.
    pub distance: f64,
    /// The entry's version.
    pub version: i64,
    /// The text.
    pub value: Option<String>,
    /// The metadata.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub metadata: Option<StoredMetadata>,
    /// The tags.
    pub tags: Option<Vec<String>>,
    /// The vector.
    pub vector: Option<Vector>,
}

/// Why there are fewer than k hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ShortReason {
    /// There are no more.
    FewerMatches,
    /// There are more, below `min_score`.
    MinScore,
    /// There may be more on shards that gave no answer in time.
    Deadline,
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Coverage {
    /// How many shards.
    pub shards: ShardCoverage,
    /// The shards that gave no answer.
    pub failures: Vec<ShardFailure>,
}

/// How many shards were asked and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShardCoverage {
    /// Asked.
    pub total: u32,
    /// Answered.
    pub ok: u32,
    /// Did not.
    pub failed: u32,
}

/// How it was searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanSummary {
    /// The profile that was used; null if `exact`, `ef` or `target_recall` decided.
    pub profile: Option<Profile>,
    /// Largest `hnsw.ef_search` of a shard; null if none used a graph.
    pub ef: Option<u32>,
    /// Over-fetch as asked.
    pub overfetch: f64,
    /// Candidates that came back from all shards.
    pub candidates: u32,
    /// Shards by strategy.
    pub strategies: Strategies,
}

/// Shards by strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Strategies {
    /// Every matching entry was looked at.
    pub exact: u32,
    /// Vector indexes were walked.
    pub hnsw: u32,
    /// An index gave too few, so every matching entry was looked at.
    pub exact_fallback: u32,
}

/// Where the time went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Timings {
    /// The whole request inside the coordinator.
    pub total_ms: f64,
    /// From the first statement sent to the last answer.
    pub fanout_ms: f64,
    /// The slowest shard's part.
    pub slowest_shard_ms: f64,
    /// Merge and re-rank.
    pub merge_ms: f64,
}

/// Body of `POST …/search/batch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct SearchBatch {
    /// 1 to 32 searches.
    pub searches: Vec<SearchRequest>,
}

/// Answer of `POST …/search/batch`: one for each search, in the order given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SearchBatchAnswer {
    /// The answers.
    pub answers: Vec<SearchBatchItem>,
}

/// One search's answer or problem; the other is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SearchBatchItem {
    /// What it found.
    pub answer: Option<SearchAnswer>,
    /// Why it found nothing.
    pub problem: Option<crate::problem::Problem>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_partial_answer_needs_leave_and_its_coverage() {
        let partial = |text: &str| serde_json::from_str::<Partial>(text).unwrap();
        assert!(partial("{}").accepts(4, 4));
        assert!(!partial("{}").accepts(3, 4));
        assert!(!partial(r#"{"min_coverage":0.1}"#).accepts(3, 4));
        assert!(partial(r#"{"allow":true}"#).accepts(1, 4));
        assert!(!partial(r#"{"allow":true}"#).accepts(0, 4));
        assert!(partial(r#"{"allow":true,"min_coverage":0.75}"#).accepts(3, 4));
        assert!(!partial(r#"{"allow":true,"min_coverage":0.76}"#).accepts(3, 4));
    }
}
