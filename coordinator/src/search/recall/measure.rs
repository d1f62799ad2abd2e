//! Recall on request: stored entries are searched for with each profile and exactly.

use super::super::Searcher;
use super::super::request::CheckedSearch;
use super::probe::Probe;
use crate::error::RequestError;
use crate::targets::Target;
use crate::workers::knn::Scope;
use crate::workers::sampled_entries::SampledEntry;
use atoll_core::access::{Grant, Touched};
use atoll_proto::problem::FieldError;
use atoll_proto::recall::{ProfileRecall, RecallAnswer, RecallRequest, RecallScope, RecallTable};
use atoll_proto::search::Profile;
use atoll_proto::{CollectionName, limits};
use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

/// Searches of one request that run at once.
const PARALLEL: usize = 2;

/// What one entry's searches found.
struct Measurement {
    exact: Probe,
    /// In the order of the profiles asked for.
    profiles: Vec<Probe>,
}

impl Searcher {
    /// Measures until a little before the deadline: what was measured by then is the answer.
    pub async fn measure_recall(
        &self,
        collection: &CollectionName,
        request: &RecallRequest,
        grant: &Grant,
        deadline: Instant,
    ) -> Result<RecallAnswer, RequestError> {
        let started = Instant::now();
        let target = Target::find(&self.views, collection, grant)?;
        check(request, &target)?;
        permit(request, &target)?;
        let entries = self.sample(&target, request.namespaces.as_deref(), request.sample, deadline).await?;
        let nothing_stored = entries.is_empty();
        let until = started + deadline.saturating_duration_since(started) * 9 / 10;
        let measure = |entry| self.measure_one(&target, request, entry, deadline);
        let mut under_way = stream::iter(entries).map(measure).buffer_unordered(PARALLEL);
        let mut measured = Vec::new();
        while let Ok(Some(measurement)) = timeout_at(until, under_way.next()).await {
            measured.push(measurement?);
        }
        if measured.is_empty() && !nothing_stored {
            return Err(RequestError::Deadline);
        }
        let profiles = request.profiles.iter().enumerate();
        Ok(RecallAnswer {
            sampled: measured.len() as u32,
            k: request.k,
            profiles: profiles.map(|(i, profile)| summary(*profile, i, &measured)).collect(),
            took_ms: super::super::millis_since(started),
        })
    }

    /// What was measured beside the traffic, and what live searches show.
    pub fn recall_table(&self, collection: &CollectionName, grant: &Grant) -> Result<RecallTable, RequestError> {
        let target = Target::find(&self.views, collection, grant)?;
        target.permit(Touched::All)?;
        Ok(self.recall.table(&target))
    }

    async fn measure_one(
        &self,
        target: &Target,
        request: &RecallRequest,
        entry: SampledEntry,
        deadline: Instant,
    ) -> Result<Measurement, RequestError> {
        // However many clients ask, live searches have the workers.
        let _place = self.recall.measuring.acquire().await.expect("nobody closes the places");
        let scope = match request.scope {
            RecallScope::Own => Scope::Namespaces(vec![entry.id.namespace.clone()]),
            RecallScope::All => Scope::All,
        };
        let vector = entry.vector;
        let search = CheckedSearch::for_stored(entry.id, scope, request.k as usize);
        let exact = CheckedSearch { exact: true, ..search.clone() };
        let exact = self.probe(target, &exact, &vector, deadline).await?;
        let mut profiles = Vec::with_capacity(request.profiles.len());
        for profile in &request.profiles {
            let search = CheckedSearch { profile: *profile, ..search.clone() };
            profiles.push(self.probe(target, &search, &vector, deadline).await?);
        }
        Ok(Measurement { exact, profiles })
    }
}

/// Refuses what the request may not touch: where entries are taken from, and where they are searched for.
fn permit(request: &RecallRequest, target: &Target) -> Result<(), RequestError> {
    match (&request.namespaces, request.scope) {
        (Some(namespaces), RecallScope::Own) => target.permit_each(namespaces.iter()),
        (None, _) | (_, RecallScope::All) => target.permit(Touched::All),
    }
}

/// Names all that is wrong.
fn check(request: &RecallRequest, target: &Target) -> Result<(), RequestError> {
    let RecallRequest { sample, k, namespaces, profiles, scope: _ } = request;
    if target.collection.settings.dimensions.is_none() {
        return Err(RequestError::invalid("", "this collection has no vectors to search"));
    }
    let mut errors = Vec::new();
    let mut wrong = |pointer: &str, detail: String| errors.push(FieldError { pointer: pointer.to_owned(), detail });
    if !(1..=limits::RECALL_SAMPLE).contains(sample) {
        wrong("/sample", format!("sample must be 1 to {}, {sample} given", limits::RECALL_SAMPLE));
    }
    if !(1..=limits::K).contains(k) {
        wrong("/k", format!("k must be 1 to {}, {k} given", limits::K));
    }
    if let Some(given) = namespaces.as_ref().map(Vec::len)
        && !(1..=limits::SEARCH_NAMESPACES).contains(&given)
    {
        wrong("/namespaces", format!("1 to {} namespaces, {given} given", limits::SEARCH_NAMESPACES));
    }
    let different: std::collections::BTreeSet<&Profile> = profiles.iter().collect();
    if profiles.is_empty() || different.len() < profiles.len() {
        wrong("/profiles", "give at least one profile, and none twice".to_owned());
    }
    if errors.is_empty() { Ok(()) } else { Err(RequestError::Invalid(errors)) }
}

fn summary(profile: Profile, i: usize, measured: &[Measurement]) -> ProfileRecall {
    let share = |one: &Measurement| {
        let wanted = one.exact.ids.len();
        // An entry without neighbours has none to miss.
        if wanted == 0 { 1.0 } else { f64::from(one.profiles[i].found_of(&one.exact)) / wanted as f64 }
    };
    let shares: Vec<f64> = measured.iter().map(share).collect();
    let ms = || measured.iter().map(|one| one.profiles[i].ms);
    ProfileRecall {
        profile,
        recall: (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64),
        worst: shares.iter().copied().min_by(f64::total_cmp),
        p50_ms: percentile(ms(), 0.5),
        p95_ms: percentile(ms(), 0.95),
        exact_p50_ms: percentile(measured.iter().map(|one| one.exact.ms), 0.5),
        ef: measured.iter().filter_map(|one| one.profiles[i].ef).max(),
    }
}

/// The least value that this share of the values does not exceed; none of none.
fn percentile(values: impl Iterator<Item = f64>, share: f64) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share).ceil() as usize;
    values.get(place.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred = || (1..=100).map(f64::from);
        assert_eq!(percentile(hundred(), 0.5), Some(50.0));
        assert_eq!(percentile(hundred(), 0.95), Some(95.0));
        assert_eq!(percentile([7.0].into_iter(), 0.5), Some(7.0));
        assert_eq!(percentile([].into_iter(), 0.5), None);
    }
}
