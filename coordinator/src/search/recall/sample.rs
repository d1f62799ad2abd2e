//! Stored entries of several shards, taken at random.

use super::super::Searcher;
use super::super::fanout::scopes;
use crate::error::RequestError;
use crate::targets::{Place, Target, read_at};
use crate::workers::knn::Scope;
use crate::workers::sampled_entries::{self, Draw, SampledEntry};
use atoll_proto::Namespace;
use futures::{StreamExt, TryStreamExt, stream};
use rand::seq::SliceRandom;
use tokio::time::Instant;

/// Shards that are asked at once.
const PARALLEL: usize = 2;

impl Searcher {
    /// Takes up to `count` entries with vectors of these namespaces, or of all: of each shard in proportion to its rows.
    pub(super) async fn sample(
        &self,
        target: &Target,
        namespaces: Option<&[Namespace]>,
        count: u32,
        deadline: Instant,
    ) -> Result<Vec<SampledEntry>, RequestError> {
        let scope = match namespaces {
            Some(namespaces) => Scope::Namespaces(namespaces.to_vec()),
            None => Scope::All,
        };
        let parts: Vec<Part> = scopes(target, &scope)?
            .into_iter()
            .map(|(route, scope)| {
                let namespaces = match scope {
                    Scope::Namespaces(namespaces) => Some(namespaces),
                    Scope::Prefix(_) | Scope::All => None,
                };
                let rows = self.facts.rows(target.table_of(route), &target.name, namespaces.as_deref());
                Part { place: target.place(&self.workers, route), namespaces, rows }
            })
            .collect();
        let all_rows: u64 = parts.iter().map(Part::weight).sum();
        let samples = parts.iter().map(|part| {
            // One more than its share: what is left over goes at random, and an empty shard leaves its part to others.
            let share = f64::from(count) * part.weight() as f64 / all_rows as f64;
            self.sample_of(part, (share.ceil() as u32 + 1).min(count), deadline)
        });
        let samples = samples.collect::<Vec<_>>();
        let found: Vec<Vec<SampledEntry>> = stream::iter(samples).buffer_unordered(PARALLEL).try_collect().await?;
        let mut entries: Vec<SampledEntry> = found.into_iter().flatten().collect();
        entries.shuffle(&mut rand::rng());
        entries.truncate(count as usize);
        Ok(entries)
    }

    async fn sample_of(&self, part: &Part, count: u32, deadline: Instant) -> Result<Vec<SampledEntry>, RequestError> {
        let draw = Draw { namespaces: part.namespaces.as_deref(), rows: part.rows, count };
        let take =
            |place: Place| async move { sampled_entries::entries(&place.pool, &place.table, draw, deadline).await };
        let (place, taken) = read_at(&self.views, &self.workers, &part.place, take).await;
        taken.map_err(|error| place.read_error(error))
    }
}

/// One shard's part of what is sampled.
struct Part {
    place: Place,
    namespaces: Option<Vec<Namespace>>,
    rows: Option<u64>,
}

impl Part {
    /// Its rows, as far as known. One that was not counted since it was written to is not empty.
    fn weight(&self) -> u64 {
        self.rows.unwrap_or(1).max(1)
    }
}
