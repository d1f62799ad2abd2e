//! From merged candidates to hits: value, metadata and tags of the winners only, and their vectors if they came without.
//!
//! What is fetched is what is stored then, and that is what the answer shows: an entry that was changed meanwhile is given as it is
//! now, at its new distance, and one that was deleted, has expired, or no longer matches is none. Those that went, or moved away
//! from the query, leave their places to the next best candidates. Where rows that no shard has given may belong in one of them
//! ([`Unseen`]) the search has to be run anew.

use super::Candidate;
use super::fanout::FanOut;
use super::members::{First, Members};
use super::request::CheckedSearch;
use crate::targets::Place;
use crate::workers::knn::WideColumns;
use crate::workers::{ShardError, read};
use atoll_core::search::distance::{Query, score};
use atoll_core::search::merge::{Merged, merge};
use atoll_core::search::unseen::Unseen;
use atoll_proto::entry::{Entry, EntryId, Include};
use atoll_proto::search::Hit;
use atoll_proto::{EntryKey, Namespace};
use futures::future::join_all;
use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;
use tokio::time::Instant;

/// Rounds of looking up replacements for winners that went or moved away.
const ROUNDS_MAX: usize = 4;
/// By how much workers' distances, of 32 bits, may differ from ours, relatively.
const WORKERS_NOISE: f64 = 1e-4;

/// What became of the winners.
pub(super) struct Winners {
    /// Best first.
    pub(super) hits: Vec<Hit>,
    /// Where each of them came from.
    pub(super) places: Vec<usize>,
    /// Shards whose entries could not be looked up, or read; none of their candidates is a hit.
    pub(super) failed: BTreeMap<usize, ShardError>,
    /// Whether entries changed between being found and being fetched.
    pub(super) changed: bool,
    /// Whether others may therefore be nearer than these hits.
    pub(super) outdated: bool,
    /// Whether a candidate was left out for its score alone.
    pub(super) cut_by_score: bool,
    /// When the first of the hits expires, if one does.
    pub(super) expires_at: Option<SystemTime>,
}

/// What is needed to make hits of winners.
pub(super) struct Fetching<'a> {
    pub(super) members: &'a Members<'a>,
    pub(super) fan_out: &'a FanOut,
    pub(super) search: &'a CheckedSearch,
    pub(super) query: &'a Query<'a>,
}

/// Candidates with all that hits show of them.
#[derive(Default)]
struct Fetched {
    candidates: Vec<Candidate>,
    failed: BTreeMap<usize, ShardError>,
    changed: bool,
    /// Whether some of what was found went, or moved away from the query.
    receded: bool,
    /// Whether more went than was looked for others in their places.
    gave_up: bool,
}

impl Fetching<'_> {
    /// Makes hits of the winners; `unseen` is what shards have not given.
    pub(super) async fn hits(&self, merged: Merged<Candidate>, unseen: Unseen, deadline: Instant) -> Winners {
        let Merged { hits: winners, reserve, mut cut_by_score } = merged;
        let limits = self.search.merge_limits(self.query.metric());
        let fetched = match self.fan_out.fetches {
            true => {
                let mut fetched = self.fetch(winners, reserve, deadline).await;
                let merged = merge(fetched.candidates, limits);
                cut_by_score |= merged.cut_by_score;
                fetched.candidates = merged.hits;
                fetched
            }
            false => Fetched { candidates: winners, ..Fetched::default() },
        };
        let Fetched { candidates, mut failed, changed, receded, gave_up } = fetched;
        let outdated = gave_up || (receded && unseen.may_belong_to(&candidates, limits));
        let mut read = Vec::with_capacity(candidates.len());
        let mut expires_at: Option<SystemTime> = None;
        for candidate in candidates {
            let place = candidate.place;
            match self.hit(candidate) {
                Ok((hit, expires)) => {
                    read.push((hit, place));
                    expires_at = expires_at.into_iter().chain(expires).min();
                }
                Err(error) => _ = failed.entry(place).or_insert(error),
            }
        }
        read.retain(|(_, place)| !failed.contains_key(place));
        let (hits, places) = read.into_iter().unzip();
        Winners { hits, places, failed, changed, outdated, cut_by_score, expires_at }
    }

    /// Fetches the winners, and for each that went or moved away one of the reserve.
    async fn fetch(&self, winners: Vec<Candidate>, reserve: Vec<Candidate>, deadline: Instant) -> Fetched {
        let wanted = winners.len();
        let (mut next, mut reserve) = (winners, reserve.into_iter());
        let mut fetched = Fetched::default();
        for _ in 0..ROUNDS_MAX {
            let mut stored = self.look_up(&next, &mut fetched.failed, deadline).await;
            for candidate in next {
                let id = (candidate.row.namespace.clone(), candidate.row.key.clone());
                let entry = stored.remove(&(candidate.place, id));
                fetched.take(candidate, entry, self.query);
            }
            let Fetched { candidates, failed, .. } = &mut fetched;
            let lost = |candidate: &Candidate| failed.contains_key(&candidate.place);
            candidates.retain(|candidate| !lost(candidate));
            let steady = candidates.iter().filter(|candidate| !candidate.receded).count();
            next = reserve.by_ref().filter(|candidate| !lost(candidate)).take(wanted.saturating_sub(steady)).collect();
            if next.is_empty() {
                return fetched;
            }
        }
        fetched.gave_up = true;
        fetched
    }

    /// What is stored of these candidates now, if it still matches.
    async fn look_up(
        &self,
        candidates: &[Candidate],
        failed: &mut BTreeMap<usize, ShardError>,
        deadline: Instant,
    ) -> HashMap<(usize, (String, String)), Entry> {
        let mut include = self.search.wide_columns();
        include.push(Include::Vector);
        let (include, filter) = (&include, self.search.filter.as_deref());
        let mut by_place: BTreeMap<usize, Vec<EntryId>> = BTreeMap::new();
        for Candidate { row, place, .. } in candidates {
            // Stored names were checked when they were written.
            if let (Ok(namespace), Ok(key)) = (Namespace::parse(&row.namespace), EntryKey::parse(&row.key)) {
                by_place.entry(*place).or_default().push(EntryId { namespace, key });
            }
        }
        let look_ups = by_place.iter().map(|(place, ids)| async move {
            let get = |place: Place, watch| async move {
                read::get_logged(&place.pool, &place.table, ids, filter, include, watch, deadline).await
            };
            let (_, entries) = self.members.read(self.fan_out.place(*place), First::Same, deadline, get).await;
            (*place, entries)
        });
        let mut stored = HashMap::new();
        for (place, entries) in join_all(look_ups).await {
            let id = |entry: &Entry| (entry.namespace.clone(), entry.key.clone());
            match entries {
                Ok(entries) => stored.extend(entries.into_iter().map(|entry| ((place, id(&entry)), entry))),
                Err(error) => _ = failed.entry(place).or_insert(error),
            }
        }
        stored
    }

    /// Makes a hit of a winner; says when it expires, if it does.
    fn hit(&self, candidate: Candidate) -> Result<(Hit, Option<SystemTime>), ShardError> {
        let Candidate { mut row, distance, place, .. } = candidate;
        let worker = self.fan_out.place(place).pool.worker();
        let expires_at = row.expires_at(worker)?;
        let wide = row.wide_columns(worker)?;
        let vector = match (self.search.include.contains(&Include::Vector), wide.vector) {
            (true, Some(vector)) => Some(vector),
            (true, None) => row.vector(worker)?,
            (false, _) => None,
        };
        let hit = Hit {
            namespace: row.namespace,
            key: row.key,
            score: score(self.query.metric(), distance),
            distance,
            version: row.version,
            value: wide.value,
            metadata: wide.metadata,
            tags: wide.tags,
            vector,
        };
        Ok((hit, expires_at))
    }
}

impl Fetched {
    /// Takes what is stored of a candidate now, if it is.
    fn take(&mut self, mut candidate: Candidate, entry: Option<Entry>, query: &Query<'_>) {
        let Some(Entry { value, metadata, tags, version, vector: Some(vector), .. }) = entry else {
            // Of a shard that failed nothing is known.
            let went = !self.failed.contains_key(&candidate.place);
            (self.changed, self.receded) = (self.changed | went, self.receded | went);
            return;
        };
        let distance = query.distance(vector.as_slice());
        candidate.receded = distance - candidate.distance > WORKERS_NOISE * candidate.distance.abs().max(1.0);
        self.receded |= candidate.receded;
        self.changed |= candidate.receded || version != candidate.row.version;
        (candidate.distance, candidate.row.version) = (distance, version);
        candidate.row.fetched = Some(WideColumns { value, metadata, tags, vector: Some(vector) });
        self.candidates.push(candidate);
    }
}
