//! How good answers are: measured when asked, calibrated beside the traffic, and estimated from live searches.

use crate::Namespace;
use crate::search::Profile;
use serde::{Deserialize, Serialize};

crate::object::only_objects!(RecallRequest);

/// Body of `POST …/recall`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct RecallRequest {
    /// Stored entries to search for.
    #[serde(default = "RecallRequest::default_sample")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub sample: u32,
    /// Hits wanted of each search.
    #[serde(default = "RecallRequest::default_k")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub k: u32,
    /// Take entries of these alone; null for all.
    #[serde(default)]
    pub namespaces: Option<Vec<Namespace>>,
    /// What to search with.
    #[serde(default = "RecallRequest::default_profiles")]
    pub profiles: Vec<Profile>,
    /// Where to look for each entry.
    #[serde(default)]
    pub scope: RecallScope,
}

impl RecallRequest {
    fn default_sample() -> u32 {
        50
    }

    fn default_k() -> u32 {
        10
    }

    fn default_profiles() -> Vec<Profile> {
        vec![Profile::Speed, Profile::Balanced, Profile::Accuracy]
    }
}

/// Where each sampled entry is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RecallScope {
    /// In its own namespace.
    #[default]
    Own,
    /// In all.
    All,
}

/// Answer of `POST …/recall`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecallAnswer {
    /// Entries that were searched for: fewer than asked for where there are no more, or the time was up.
    pub sampled: u32,
    /// Hits wanted of each search.
    pub k: u32,
    /// What each profile found.
    pub profiles: Vec<ProfileRecall>,
    /// Time taken.
    pub took_ms: f64,
}

/// What one profile found of the true nearest, and in how many milliseconds from the first statement to the merged hits. Everything
/// measured is null where nothing was sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProfileRecall {
    /// The profile.
    pub profile: Profile,
    /// Mean share of the true hits that was found.
    pub recall: Option<f64>,
    /// The same of the worst search.
    pub worst: Option<f64>,
    /// Median.
    pub p50_ms: Option<f64>,
    /// Nineteen of twenty searches took no longer.
    pub p95_ms: Option<f64>,
    /// Median of the exact searches.
    pub exact_p50_ms: Option<f64>,
    /// Largest `hnsw.ef_search`; null if none walked a graph.
    pub ef: Option<u32>,
}

/// Answer of `GET …/recall`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecallTable {
    /// Whether the answering coordinator measures.
    pub enabled: bool,
    /// What it measured, by kind of search.
    pub tiers: Vec<RecallTier>,
    /// What live searches show.
    pub estimates: Vec<RecallEstimate>,
}

/// What was measured of one kind of search: over so many graphs of so many rows each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecallTier {
    /// Rows of a graph on average: from.
    pub rows_from: u64,
    /// Up to, but without; null for no end.
    pub rows_until: Option<u64>,
    /// Graphs walked: from.
    pub walks_from: u32,
    /// Up to, but without; null for no end.
    pub walks_until: Option<u32>,
    /// Searches it is worth; older ones weigh less.
    pub samples: u32,
    /// Whether searches go by it yet.
    pub believed: bool,
    /// Seconds since the last measurement.
    pub age_seconds: u64,
    /// What each ef found.
    pub points: Vec<RecallPoint>,
    /// The ef that each profile takes by it; null while it is not believed.
    pub ef: Option<ProfileEf>,
}

/// What one ef found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecallPoint {
    /// `hnsw.ef_search`.
    pub ef: u32,
    /// Share of the true hits that was found.
    pub recall: f64,
    /// What it is at least, as far as so few searches can tell.
    pub least: f64,
    /// Mean time of a search.
    pub ms: f64,
}

/// The ef of each profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProfileEf {
    /// For recall of 0.99.
    pub accuracy: u32,
    /// For recall of 0.98.
    pub balanced: u32,
    /// For recall of 0.95.
    pub speed: u32,
}

/// Recall of the live searches of one profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecallEstimate {
    /// The profile.
    pub profile: Profile,
    /// Whether of searches with a filter, or without.
    pub filtered: bool,
    /// What it promises.
    pub promise: f64,
    /// What was seen of searches that walked a graph.
    pub recall: f64,
    /// Searches it is worth; older ones weigh less.
    pub samples: u32,
    /// Whether recall surely falls short of the promise.
    pub broken: bool,
}
