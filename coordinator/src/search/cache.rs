//! Answers that may be given again.
//!
//! An answer is kept under a digest of everything that was asked and the version of the catalog it was asked by, and given again while
//! [`atoll_core::freshness`] says that it would still be found, until so many seconds after its fan-out began at most, and until the first
//! of its hits expires. A stored entry's vector, where a search is by one, is looked up each time before: it is what was asked for. Whose
//! key asked is no part of it: what the key is not for was refused before ([`super::request::check`]).
//!
//! Only whole answers of primaries are kept. None is that lacks a shard, that entries changed under, or that explains itself. One that is
//! kept will do for `eventual` too, and for no session where there are standbys.

use super::millis_since;
use super::request::CheckedSearch;
use crate::error::RequestError;
use crate::freshness::Freshness;
use crate::targets::Target;
use crate::telemetry::Metrics;
use crate::workers::knn::Scope;
use atoll_core::freshness::{Basis, MarkSet, SessionToken};
use atoll_proto::Vector;
use atoll_proto::search::{CachePolicy, Consistency, Hit, SearchAnswer, Timings};
use moka::sync::Cache;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Section `cache` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// Most bytes that answers of searches may take which are kept to be given again; 0 for none.
    pub max_bytes: u64,
    /// How long after its fan-out began an answer is given again at most, 86,400 (a day) at the most: so long may a search lack what was
    /// written through another coordinator, unless it comes with the writer's session token.
    pub ttl_seconds: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { max_bytes: 64 * 1024 * 1024, ttl_seconds: 10 }
    }
}

/// The answers that one coordinator keeps.
pub struct AnswerCache {
    /// None if there is no cache.
    kept: Option<Cache<Key, Arc<Kept>>>,
    lasts: Duration,
    freshness: Freshness,
    metrics: Metrics,
}

/// SHA-256: that two searches share a key is out of the question, also if somebody wants them to.
type Key = [u8; 32];

/// An answer, and until when it may be given.
struct Kept {
    answer: SearchAnswer,
    basis: Basis,
    begun_at: Instant,
    expires_at: Option<SystemTime>,
}

/// A search that may be answered from the cache.
pub(super) struct Asked {
    key: Key,
    wanted: MarkSet,
}

/// Such a search, from just before its fan-out on, if its answer may be kept.
pub(super) struct Begun {
    key: Key,
    basis: Basis,
    at: Instant,
}

impl AnswerCache {
    /// Keeps answers as long as `freshness` lets it, and counts in `metrics`.
    pub fn new(settings: &CacheSettings, freshness: Freshness, metrics: Metrics) -> Self {
        let lasts = Duration::from_secs(settings.ttl_seconds);
        let kept = (settings.max_bytes > 0).then(|| {
            Cache::builder()
                .max_capacity(settings.max_bytes)
                .weigher(|_, kept: &Arc<Kept>| kept.bytes())
                // Runs from when it was put there, which is later than what counts: this only makes room.
                .time_to_live(lasts)
                .build()
        });
        Self { kept, lasts, freshness, metrics }
    }

    /// Bytes that answers take, about.
    pub fn bytes(&self) -> u64 {
        let Some(kept) = &self.kept else { return 0 };
        kept.run_pending_tasks();
        kept.weighted_size()
    }

    /// A search for this vector, if it may be answered from the cache.
    pub(super) fn asked(&self, target: &Target, search: &CheckedSearch, vector: &Vector) -> Option<Asked> {
        // A session is to be told up to where an answer shows all, and no kept one says that.
        let is_session = search.consistency == Consistency::Session;
        if self.kept.is_none() || search.explain || is_session || search.cache == CachePolicy::Bypass {
            return None;
        }
        let wanted = match &search.scope {
            Scope::Namespaces(namespaces) => MarkSet::of_namespaces(&target.name, namespaces),
            Scope::Prefix(_) | Scope::All => MarkSet::of_collection(&target.name),
        };
        Some(Asked { key: key(target, search, vector), wanted })
    }

    /// The answer to a search, if there is one that is good for this session.
    pub(super) fn find(&self, asked: &Asked, session: &SessionToken, started: Instant) -> Option<SearchAnswer> {
        let kept = self.kept.as_ref().and_then(|kept| kept.get(&asked.key));
        let is_good = |kept: &Arc<Kept>| kept.lasts(self.lasts, started) && self.freshness.holds(&kept.basis, session);
        let Some(kept) = kept.filter(is_good) else {
            self.metrics.cache_misses.inc();
            return None;
        };
        self.metrics.cache_hits.inc();
        let timings = Timings { total_ms: millis_since(started), fanout_ms: 0.0, slowest_shard_ms: 0.0, merge_ms: 0.0 };
        Some(SearchAnswer { cache: "hit".to_owned(), timings, ..kept.answer.clone() })
    }

    /// The fan-out of a search is about to begin; none if its answer is not to be kept.
    pub(super) fn begin(
        &self,
        asked: &Asked,
        target: &Target,
        search: &CheckedSearch,
    ) -> Result<Option<Begun>, RequestError> {
        if search.consistency != Consistency::Primary {
            // What is known of a group's positions holds for its primary.
            return Ok(None);
        }
        let groups = target.groups_of(&search.scope)?;
        let at = Instant::now();
        let basis = self.freshness.basis(&asked.wanted, target.view.version, groups);
        Ok(basis.map(|basis| Begun { key: asked.key, basis, at }))
    }

    /// Keeps a whole answer until it expires, if it would still be found.
    pub(super) fn keep(&self, begun: Begun, answer: &SearchAnswer, expires_at: Option<SystemTime>) {
        let Begun { key, basis, at: begun_at } = begun;
        let Some(kept) = &self.kept else { return };
        if self.freshness.holds(&basis, &SessionToken::default()) {
            kept.insert(key, Arc::new(Kept { answer: answer.clone(), basis, begun_at, expires_at }));
        }
    }
}

/// Digest of everything that bears on the answer.
fn key(target: &Target, search: &CheckedSearch, vector: &Vector) -> Key {
    let CheckedSearch {
        // It was looked up if it was not given.
        vector: _,
        like,
        k,
        scope,
        exclude,
        filter,
        min_score,
        profile,
        target_recall,
        ef,
        exact,
        overfetch,
        include,
        per_namespace,
        // Whole answers are the same whether a partial one would have done.
        partial: _,
        // Only primaries' answers are kept, which show no less than others would.
        consistency: _,
        cache: _,
        explain: _,
    } = search;
    // The version stands for the collection, too: its settings, and which one it is that has the name.
    let asked_of = (target.view.version, &target.name);
    let asked = (like, k, scope, exclude, filter, min_score, profile, target_recall, ef, exact, overfetch);
    // Debug quotes texts and writes numbers in full, so what differs has different texts.
    let text = format!("{asked_of:?} {asked:?} {include:?} {per_namespace:?}");
    let mut digest = Sha256::new();
    digest.update((text.len() as u64).to_le_bytes());
    digest.update(text);
    for number in vector.as_slice() {
        digest.update(number.to_le_bytes());
    }
    digest.finalize().into()
}

impl Kept {
    /// Whether it may be given to a request that came then, as far as time goes.
    fn lasts(&self, for_so_long: Duration, came_at: Instant) -> bool {
        let is_young = came_at.saturating_duration_since(self.begun_at) < for_so_long;
        is_young && self.expires_at.is_none_or(|at| SystemTime::now() < at)
    }

    /// What it takes, about.
    fn bytes(&self) -> u32 {
        let fixed = size_of::<Self>() + size_of::<Key>() + self.basis.bytes();
        let bytes = fixed + self.answer.hits.iter().map(hit_bytes).sum::<usize>();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

fn hit_bytes(hit: &Hit) -> usize {
    let Hit { namespace, key, score: _, distance: _, version: _, value, metadata, tags, vector } = hit;
    let texts = [Some(namespace), Some(key), value.as_ref()].into_iter().flatten().map(String::len).sum::<usize>();
    let tags = tags.iter().flatten().map(|tag| size_of::<String>() + tag.len()).sum::<usize>();
    let numbers = vector.as_ref().map_or(0, |vector| size_of_val(vector.as_slice()));
    size_of::<Hit>() + texts + tags + numbers + metadata.as_ref().map_or(0, |metadata| metadata.as_str().len())
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
