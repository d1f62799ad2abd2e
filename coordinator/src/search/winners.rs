//! From merged candidates to hits: the wide columns of the winners only, and their vectors if they came without. An entry that was deleted in between leaves its place
//! to the next best candidate, so an answer is not short for it; one that was changed is no longer the one that was found.

use super::Candidate;
use super::fanout::FanOut;
use super::request::CheckedSearch;
use crate::targets::{Place, Views, read_at};
use crate::workers::knn::WideColumns;
use crate::workers::{ShardError, Workers, read};
use atoll_core::search::distance::{Query, score};
use atoll_core::search::merge::{Merged, merge};
use atoll_proto::entry::{Entry, EntryId, Include};
use atoll_proto::search::Hit;
use atoll_proto::{EntryKey, Metric, Namespace};
use futures::future::join_all;
use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;
use tokio::time::Instant;

/// Rounds of looking up replacements for winners that were deleted under way.
const ROUNDS_MAX: usize = 4;

/// What became of the winners.
pub(super) struct Winners {
    /// Best first.
    pub(super) hits: Vec<Hit>,
    /// Where each of them came from.
    pub(super) places: Vec<usize>,
    /// Shards whose entries could not be looked up, or read; none of their candidates is a hit.
    pub(super) failed: BTreeMap<usize, ShardError>,
    /// Whether entries changed under way such that better hits may be missing.
    pub(super) outdated: bool,
    /// Whether a candidate was left out for its score alone.
    pub(super) cut_by_score: bool,
    /// When the first of the hits expires, if one does.
    pub(super) expires_at: Option<SystemTime>,
}

/// Makes hits of the winners.
pub(super) async fn fetch(
    views: &Views,
    workers: &Workers,
    fan_out: &FanOut,
    search: &CheckedSearch,
    query: &Query<'_>,
    merged: Merged<Candidate>,
    deadline: Instant,
) -> Winners {
    let Merged { hits: mut winners, reserve, mut cut_by_score } = merged;
    let mut failed: BTreeMap<usize, ShardError> = BTreeMap::new();
    let (mut gone, mut changed) = (false, false);
    if fan_out.fetches {
        let wanted = winners.len();
        let mut include = search.wide_columns();
        if fan_out.vectors_later {
            include.push(Include::Vector);
        }
        let mut reserve = reserve.into_iter();
        for _ in 0..ROUNDS_MAX {
            let mut found = HashMap::new();
            for (place, entries) in look_up(views, workers, fan_out, &winners, &include, deadline).await {
                match entries {
                    Ok(entries) => found.extend(entries.into_iter().map(|entry| ((place, id_of(&entry)), entry))),
                    Err(error) => _ = failed.entry(place).or_insert(error),
                }
            }
            let lost = |place: usize| failed.contains_key(&place);
            for candidate in winners.iter_mut().filter(|candidate| candidate.row.fetched.is_none()) {
                let id = (candidate.row.namespace.clone(), candidate.row.key.clone());
                match found.remove(&(candidate.place, id)) {
                    Some(Entry { value, metadata, tags, version, vector, .. }) if version == candidate.row.version => {
                        if let Some(vector) = &vector {
                            candidate.distance = query.distance(vector.as_slice());
                        }
                        candidate.row.fetched = Some(WideColumns { value, metadata, tags, vector });
                    }
                    Some(_) => changed = true,
                    None => gone |= !lost(candidate.place),
                }
            }
            winners.retain(|candidate| candidate.row.fetched.is_some() && !lost(candidate.place));
            let missing = wanted - winners.len();
            winners.extend(reserve.by_ref().filter(|candidate| !lost(candidate.place)).take(missing));
            if winners.iter().all(|candidate| candidate.row.fetched.is_some()) {
                break;
            }
        }
        winners.retain(|candidate| candidate.row.fetched.is_some());
    }
    let metric = query.metric();
    if fan_out.vectors_later {
        let merged = merge(winners, search.merge_limits(metric));
        cut_by_score |= merged.cut_by_score;
        winners = merged.hits;
    }
    let outdated = changed || (gone && (winners.len() < search.k || search.per_namespace.is_some()));
    let mut read = Vec::with_capacity(winners.len());
    let mut expires_at: Option<SystemTime> = None;
    for candidate in winners {
        let place = candidate.place;
        match hit(fan_out.place(place), search, metric, candidate) {
            Ok((hit, expires)) => {
                read.push((hit, place));
                expires_at = expires_at.into_iter().chain(expires).min();
            }
            Err(error) => _ = failed.entry(place).or_insert(error),
        }
    }
    read.retain(|(_, place)| !failed.contains_key(place));
    let (hits, places) = read.into_iter().unzip();
    Winners { hits, places, failed, outdated, cut_by_score, expires_at }
}

/// Looks up the winners that lack their wide columns.
async fn look_up(
    views: &Views,
    workers: &Workers,
    fan_out: &FanOut,
    winners: &[Candidate],
    include: &[Include],
    deadline: Instant,
) -> Vec<(usize, Result<Vec<Entry>, ShardError>)> {
    let mut by_place: BTreeMap<usize, Vec<EntryId>> = BTreeMap::new();
    for Candidate { row, place, .. } in winners.iter().filter(|candidate| candidate.row.fetched.is_none()) {
        // Stored names were checked when they were written.
        if let (Ok(namespace), Ok(key)) = (Namespace::parse(&row.namespace), EntryKey::parse(&row.key)) {
            by_place.entry(*place).or_default().push(EntryId { namespace, key });
        }
    }
    let look_ups = by_place.iter().map(|(place, ids)| async move {
        let get = |place: Place| async move { read::get(&place.pool, &place.table, ids, include, deadline).await };
        let (_, entries) = read_at(views, workers, fan_out.place(*place), get).await;
        (*place, entries)
    });
    join_all(look_ups).await
}

fn id_of(entry: &Entry) -> (String, String) {
    (entry.namespace.clone(), entry.key.clone())
}

/// Makes a hit of a winner; says when it expires, if it does.
fn hit(
    place: &Place,
    search: &CheckedSearch,
    metric: Metric,
    candidate: Candidate,
) -> Result<(Hit, Option<SystemTime>), ShardError> {
    let Candidate { mut row, distance, .. } = candidate;
    let worker = place.pool.worker();
    let expires_at = row.expires_at(worker)?;
    let wide = row.wide_columns(worker)?;
    let vector = match (search.include.contains(&Include::Vector), wide.vector) {
        (true, Some(vector)) => Some(vector),
        (true, None) => row.vector(worker)?,
        (false, _) => None,
    };
    let hit = Hit {
        namespace: row.namespace,
        key: row.key,
        score: score(metric, distance),
        distance,
        version: row.version,
        value: wide.value,
        metadata: wide.metadata,
        tags: wide.tags,
        vector,
    };
    Ok((hit, expires_at))
}
