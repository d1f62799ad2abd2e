//! From merged candidates to hits: the wide columns of the winners only. An entry that was deleted in between leaves its place
//! to the next best candidate, so an answer is not short for it.

use super::Candidate;
use super::fanout::FanOut;
use super::request::CheckedSearch;
use crate::error::RequestError;
use crate::targets::worth_a_second_try;
use crate::workers::knn::Wide;
use crate::workers::read;
use atoll_core::search::distance::score;
use atoll_core::search::merge::Merged;
use atoll_proto::entry::{Entry, EntryId, Include};
use atoll_proto::search::Hit;
use atoll_proto::{EntryKey, Metric, Namespace};
use futures::future::try_join_all;
use std::collections::{BTreeMap, HashMap};
use tokio::time::Instant;

/// Rounds of looking up replacements for winners that were deleted under way.
const ROUNDS_MAX: usize = 4;

/// Makes hits of the winners.
pub(super) async fn fetch(
    fan_out: &FanOut,
    search: &CheckedSearch,
    metric: Metric,
    merged: Merged<Candidate>,
    deadline: Instant,
) -> Result<Vec<Hit>, RequestError> {
    let Merged { hits: mut winners, reserve, .. } = merged;
    let include = search.wide_columns();
    let mut reserve = reserve.into_iter();
    for _ in 0..ROUNDS_MAX {
        let missing: Vec<usize> =
            (0..winners.len()).filter(|i| !include.is_empty() && winners[*i].row.wide.is_none()).collect();
        if missing.is_empty() {
            break;
        }
        let mut found = look_up(fan_out, &winners, &missing, &include, deadline).await?;
        for candidate in &mut winners {
            let id = (candidate.row.namespace.clone(), candidate.row.key.clone());
            if let Some(entry) = found.remove(&id) {
                let Entry { value, metadata, tags, version, .. } = entry;
                candidate.row.version = version;
                candidate.row.wide = Some(Wide { value, metadata, tags });
            }
        }
        winners.retain(|candidate| candidate.row.wide.is_some());
        winners.extend(reserve.by_ref().take(search.k - winners.len()));
    }
    if !include.is_empty() {
        winners.retain(|candidate| candidate.row.wide.is_some());
    }
    Ok(winners.into_iter().map(|candidate| hit(search, metric, candidate)).collect())
}

async fn look_up(
    fan_out: &FanOut,
    winners: &[Candidate],
    missing: &[usize],
    include: &[Include],
    deadline: Instant,
) -> Result<HashMap<(String, String), Entry>, RequestError> {
    let mut by_place: BTreeMap<usize, Vec<EntryId>> = BTreeMap::new();
    for i in missing {
        let row = &winners[*i].row;
        // Stored names were checked when they were written.
        if let (Ok(namespace), Ok(key)) = (Namespace::parse(&row.namespace), EntryKey::parse(&row.key)) {
            by_place.entry(winners[*i].place).or_default().push(EntryId { namespace, key });
        }
    }
    let look_ups = by_place.iter().map(|(place, ids)| async {
        let place = fan_out.place(*place);
        let mut entries = read::get(&place.pool, &place.table, ids, include, deadline).await;
        if entries.as_ref().is_err_and(worth_a_second_try) {
            entries = read::get(&place.pool, &place.table, ids, include, deadline).await;
        }
        entries.map_err(|error| place.read_error(error))
    });
    let entries = try_join_all(look_ups).await?.into_iter().flatten();
    Ok(entries.map(|entry| ((entry.namespace.clone(), entry.key.clone()), entry)).collect())
}

fn hit(search: &CheckedSearch, metric: Metric, candidate: Candidate) -> Hit {
    let Candidate { row, distance, .. } = candidate;
    let wide = row.wide.unwrap_or_default();
    Hit {
        namespace: row.namespace,
        key: row.key,
        score: score(metric, distance),
        distance,
        version: row.version,
        value: wide.value,
        metadata: wide.metadata,
        tags: wide.tags,
        vector: search.include.contains(&Include::Vector).then_some(row.vector),
    }
}
