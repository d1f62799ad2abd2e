//! A few live searches are run again exactly after they were answered: what they missed tells whether a profile keeps its promise.
//!
//! What is written between the two counts as missed. That is little, for they follow each other at once, and it makes an estimate
//! no better than the truth.

use super::super::request::CheckedSearch;
use super::super::{Round, Searcher};
use super::{Kind, RECHECK_EVERY, UNPOISONED};
use crate::targets::Target;
use atoll_core::search::estimate::Shown;
use atoll_proto::Vector;
use atoll_proto::search::{Consistency, Partial};
use std::time::Duration;
use tokio::time::Instant;

/// Nobody waits for it.
const WITHIN: Duration = Duration::from_secs(10);

impl Searcher {
    /// Runs a search again in the background, if it is one to learn from and its turn has come.
    pub(in crate::search) fn recheck_sometimes(
        &self,
        target: &Target,
        search: &CheckedSearch,
        vector: &Vector,
        round: &Round,
    ) {
        let Some(profile) = search.profile_used() else { return };
        let whole = round.failures.is_empty() && !round.outdated;
        if !whole || !round.fan_out.walks() || !self.is_their_turn() {
            return;
        }
        let Ok(place) = self.recall.rechecking.clone().try_acquire_owned() else { return };
        let (searcher, target, vector) = (self.clone(), target.clone(), vector.clone());
        let (found, ms) = (super::probe::ids(&round.hits), round.fanout_ms);
        let kind = Kind { profile, filtered: search.filter.is_some() };
        // A shard that is missing would make the truth smaller.
        let partial = Partial::default();
        let consistency = Consistency::Primary;
        let exact = CheckedSearch { exact: true, include: Default::default(), consistency, partial, ..search.clone() };
        tokio::spawn(async move {
            let _place = place;
            if searcher.workers.have_waiters() {
                return;
            }
            match searcher.probe(&target, &exact, &vector, Instant::now() + WITHIN).await {
                Ok(truth) => {
                    let (found, wanted) = (truth.ids.intersection(&found).count(), truth.ids.len());
                    searcher.learn(&target, kind, found as u32, wanted as u32, ms);
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a search was not run again");
                }
            }
        });
    }

    fn is_their_turn(&self) -> bool {
        let share = self.recall.settings.recheck_share;
        if share <= 0.0 || !rand::random_bool(share.min(1.0)) {
            return false;
        }
        let mut last = self.recall.last_recheck.lock().expect(UNPOISONED);
        let now = Instant::now();
        if last.is_some_and(|last| now < last + RECHECK_EVERY) {
            return false;
        }
        *last = Some(now);
        true
    }

    fn learn(&self, target: &Target, kind: Kind, found: u32, wanted: u32, ms: f64) {
        if wanted == 0 {
            return;
        }
        let (shown, estimate) = self.recall.rechecked(target, kind, found, wanted, ms);
        let Kind { profile, filtered } = kind;
        let name = profile.word();
        let recall = estimate.recall().unwrap_or_default();
        let labels = [target.name.as_str(), name];
        if !filtered {
            self.metrics.recall_estimate.with_label_values(&labels).set(recall);
            self.metrics.recall_samples.with_label_values(&labels).inc();
        }
        let (collection, promise) = (&target.name, estimate.promise());
        match shown {
            Shown::Nothing => {}
            Shown::Broken => {
                tracing::warn!(%collection, profile = name, filtered, recall, promise, "searches find less than promised");
            }
            Shown::Kept => {
                tracing::info!(%collection, profile = name, filtered, recall, promise, "searches find what is promised again")
            }
        }
    }
}
