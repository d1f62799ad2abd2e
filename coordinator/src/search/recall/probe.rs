//! A search that nobody asked for: what it finds counts, not what is stored there.

use super::super::request::CheckedSearch;
use super::super::{Round, Searcher};
use crate::error::RequestError;
use crate::targets::Target;
use atoll_core::freshness::SessionToken;
use atoll_core::search::calibration::Tier;
use atoll_proto::Vector;
use atoll_proto::search::Hit;
use std::collections::BTreeSet;
use tokio::time::Instant;

/// Ids of hits: namespace and key.
pub(super) type Ids = BTreeSet<(String, String)>;

/// What it found.
pub(super) struct Probe {
    pub(super) ids: Ids,
    /// From the first statement to the merged hits.
    pub(super) ms: f64,
    /// Largest ef of a shard; none if no graph was walked.
    pub(super) ef: Option<u32>,
    /// Its kind, if it walked graphs of one kind.
    pub(super) walked: Option<Tier>,
    /// Whether a shard was scanned because a graph gave too few: what it found then says nothing of ef.
    pub(super) fell_back: bool,
}

impl Probe {
    /// How many of the true hits it found.
    pub(super) fn found_of(&self, truth: &Probe) -> u32 {
        truth.ids.intersection(&self.ids).count() as u32
    }
}

impl Searcher {
    /// Searches once. All shards must answer.
    pub(super) async fn probe(
        &self,
        target: &Target,
        search: &CheckedSearch,
        vector: &Vector,
        deadline: Instant,
    ) -> Result<Probe, RequestError> {
        let members = self.members(target, search, SessionToken::default());
        let Round { fan_out, summary, hits, fanout_ms, merge_ms, .. } =
            self.round(target, search, vector, &members, deadline, true).await?;
        Ok(Probe {
            ids: ids(&hits),
            ms: fanout_ms + merge_ms,
            ef: summary.ef,
            walked: fan_out.walked(),
            fell_back: summary.strategies.exact_fallback > 0,
        })
    }
}

/// Ids of hits.
pub(super) fn ids(hits: &[Hit]) -> Ids {
    hits.iter().map(|hit| (hit.namespace.clone(), hit.key.clone())).collect()
}
