//! The path of a search: check → one view → targets → plan → fan out → merge and re-rank → fetch the winners → answer.
//!
//! Candidates carry their vectors: distances are computed anew here, at the full precision of what is stored, so the order of an
//! answer does not depend on which server, index or shard a candidate came from. Wide columns are fetched for winners only.

mod fanout;
mod like;
mod request;
mod summaries;
mod winners;

use crate::error::RequestError;
use crate::targets::{Place, Target, Views};
use crate::telemetry::Metrics;
use crate::workers::knn::KnnRow;
use crate::workers::{ShardError, Workers};
use atoll_core::search::distance::Query;
use atoll_core::search::merge::{Ranked, merge};
use atoll_core::search::plan::{ShardPlan, Strategy};
use atoll_proto::problem::ShardFailure;
use atoll_proto::search::{
    CachePolicy, Coverage, Hit, PlanSummary, SearchAnswer, SearchRequest, ShardCoverage, ShortReason, Strategies,
    Timings,
};
use atoll_proto::{CollectionName, Namespace, ShardId, Vector};
use fanout::{FanOut, ShardAnswer};
use request::CheckedSearch;
use std::sync::Arc;
use summaries::Summaries;
use tokio::time::Instant;
use winners::Winners;

/// What planning goes by.
pub trait TableFacts: Send + Sync {
    /// Rows of a collection's table in a shard, or of a reference collection (no shard); with `namespaces` at least as many as
    /// these have together. None if not known yet.
    fn rows(
        &self,
        shard: Option<ShardId>,
        collection: &CollectionName,
        namespaces: Option<&[Namespace]>,
    ) -> Option<u64>;

    /// Namespaces with a graph of their own in the table, with their rows, and whether there is a graph over all of it.
    fn graphs(&self, shard: Option<ShardId>, collection: &CollectionName) -> (Vec<(Namespace, u64)>, bool);
}

/// Answers searches.
#[derive(Clone)]
pub struct Searcher {
    views: Views,
    workers: Arc<Workers>,
    counts: Arc<dyn TableFacts>,
    summaries: Arc<Summaries>,
    metrics: Metrics,
}

/// A candidate with its exact distance.
struct Candidate {
    row: KnnRow,
    distance: f64,
    /// Position of its shard among the targets.
    place: usize,
}

impl Ranked for Candidate {
    fn distance(&self) -> f64 {
        self.distance
    }
    fn namespace(&self) -> &str {
        &self.row.namespace
    }
    fn key(&self) -> &str {
        &self.row.key
    }
}

impl Searcher {
    /// Searches by the latest of `views`.
    pub fn new(views: Views, workers: Arc<Workers>, counts: Arc<dyn TableFacts>, metrics: Metrics) -> Self {
        Self { views, workers, counts, summaries: Summaries::new(), metrics }
    }

    /// Answers one search before the deadline.
    pub async fn search(
        &self,
        collection: &CollectionName,
        request: &SearchRequest,
        deadline: Instant,
    ) -> Result<SearchAnswer, RequestError> {
        let started = Instant::now();
        let target = Target::find(&self.views, collection)?;
        let mut search = request::check(request, &target.collection.settings)?;
        if let Some(id) = search.like.clone() {
            search.vector = Some(like::vector_of(&self.views, &self.workers, &target, &id, deadline).await?);
        }
        let vector = search.vector.clone().expect("check leaves a vector or like, and like was looked up");

        let mut round = self.round(&target, &search, &vector, deadline).await?;
        if round.outdated {
            // Entries changed between being found and being fetched: once more, by what is stored now.
            round = self.round(&target, &search, &vector, deadline).await?;
        }
        let Round { fan_out, summary, hits, failures, cut_by_score, outdated, fanout_ms, merge_ms } = round;
        let short_reason = short_reason(hits.len(), search.k, outdated || !failures.is_empty(), cut_by_score);
        let (total, failed) = (fan_out.shards() as u32, failures.len() as u32);
        Ok(SearchAnswer {
            hits,
            complete: failures.is_empty(),
            short_reason,
            coverage: Coverage { shards: ShardCoverage { total, ok: total - failed, failed }, failures },
            plan: PlanSummary {
                profile: search.profile_used(),
                ef: summary.ef,
                overfetch: search.overfetch,
                candidates: summary.candidates,
                strategies: summary.strategies,
            },
            catalog_version: target.view.version,
            cache: match search.cache {
                CachePolicy::Use => "miss".to_owned(),
                CachePolicy::Bypass => "bypass".to_owned(),
            },
            session: None,
            timings: Timings {
                total_ms: millis_since(started),
                fanout_ms,
                slowest_shard_ms: summary.slowest_ms,
                merge_ms,
            },
            explain: search.explain.then(|| fan_out.explain(summary.explain)),
        })
    }

    /// Asks the shards, merges their candidates and fetches the winners.
    async fn round(
        &self,
        target: &Target,
        search: &CheckedSearch,
        vector: &Vector,
        deadline: Instant,
    ) -> Result<Round, RequestError> {
        let started = Instant::now();
        let metric = target.collection.settings.metric;
        let mut fan_out = FanOut::plan(target, &self.workers, self.counts.as_ref(), search, vector);
        fan_out.share_out(target, self.counts.as_ref(), &self.summaries, search);
        let answers_due = match search.partial.allow && fan_out.fetches {
            // A shard that hangs must leave time to fetch the winners of the others.
            true => started + deadline.saturating_duration_since(started) * 3 / 4,
            false => deadline,
        };
        let answers = fan_out.run(&self.views, &self.workers, answers_due).await;
        let fanout_ms = millis_since(started);
        let merging = Instant::now();
        let query = Query::new(metric, vector.as_slice());
        let mut summary = Summary::default();
        let mut candidates = Vec::new();
        let mut failed = Vec::new();
        for ShardAnswer { place, plan, rows, fell_back, ms } in answers {
            self.measure(fan_out.place(place), plan.strategy, ms);
            match rows {
                Err(error) => failed.push((place, error)),
                Ok(rows) => match re_ranked(&query, fan_out.place(place).pool.worker(), place, rows) {
                    Ok(found) => {
                        summary.add(place, plan, ShardExplainPart { fell_back, candidates: found.len() as u32, ms });
                        candidates.extend(found);
                    }
                    Err(error) => failed.push((place, error)),
                },
            }
        }
        let failed = accept_missing_shards(search, &fan_out, failed)?;
        let merged = merge(candidates, search.merge_limits(metric));
        let merge_ms = millis_since(merging);

        let cut_by_score = merged.cut_by_score;
        let Winners { hits, failed: not_fetched, outdated } =
            winners::fetch(&self.views, &self.workers, &fan_out, search, metric, merged, deadline).await;
        let failed = accept_missing_shards(search, &fan_out, failed.into_iter().chain(not_fetched).collect())?;
        let failures = failed.iter().map(|(place, error)| {
            let failure = fan_out.failure(*place, error);
            let cause = error as &dyn std::error::Error;
            tracing::warn!(error = cause, shard = %failure.shard, "a search goes on without a shard");
            failure
        });
        let failures = failures.collect();
        Ok(Round { fan_out, summary, hits, failures, cut_by_score, outdated, fanout_ms, merge_ms })
    }
}

/// One shard's candidates with their exact distances.
fn re_ranked(query: &Query<'_>, worker: &str, place: usize, rows: Vec<KnnRow>) -> Result<Vec<Candidate>, ShardError> {
    let mut numbers = Vec::new();
    rows.into_iter()
        .map(|row| {
            row.read_numbers(worker, &mut numbers)?;
            Ok(Candidate { distance: query.distance(&numbers), row, place })
        })
        .collect()
}

/// What one round of asking gave.
struct Round {
    fan_out: FanOut,
    summary: Summary,
    hits: Vec<Hit>,
    failures: Vec<ShardFailure>,
    cut_by_score: bool,
    outdated: bool,
    fanout_ms: f64,
    merge_ms: f64,
}

impl Searcher {
    fn measure(&self, place: &Place, strategy: Strategy, ms: f64) {
        let query_type = match strategy {
            Strategy::Exact => "exact",
            Strategy::OwnGraphs | Strategy::Hnsw => "hnsw",
            Strategy::HnswIterative => "hnsw_iterative",
        };
        let shard = place.route.shard.to_string();
        self.metrics.shard_seconds.with_label_values(&[shard.as_str(), query_type]).observe(ms / 1_000.0);
    }
}

/// What the shards' answers add up to.
#[derive(Default)]
struct Summary {
    candidates: u32,
    ef: Option<u32>,
    strategies: Strategies,
    slowest_ms: f64,
    explain: Vec<(usize, ShardExplainPart)>,
}

/// What one shard did, for explain.
struct ShardExplainPart {
    fell_back: bool,
    candidates: u32,
    ms: f64,
}

impl Summary {
    fn add(&mut self, place: usize, plan: ShardPlan, part: ShardExplainPart) {
        self.candidates += part.candidates;
        self.slowest_ms = self.slowest_ms.max(part.ms);
        match (plan.strategy, part.fell_back) {
            (_, true) => self.strategies.exact_fallback += 1,
            (Strategy::Exact, false) => self.strategies.exact += 1,
            (Strategy::OwnGraphs | Strategy::Hnsw, false) => self.strategies.hnsw += 1,
            (Strategy::HnswIterative, false) => self.strategies.hnsw_iterative += 1,
        }
        if plan.strategy != Strategy::Exact {
            self.ef = self.ef.max(Some(plan.ef));
        }
        self.explain.push((place, part));
    }
}

/// Refuses an answer that lacks shards, unless the client accepts the share that is there.
fn accept_missing_shards(
    search: &CheckedSearch,
    fan_out: &FanOut,
    failed: Vec<(usize, ShardError)>,
) -> Result<Vec<(usize, ShardError)>, RequestError> {
    let total = fan_out.shards();
    if search.partial.accepts(total - failed.len(), total) {
        return Ok(failed);
    }
    let failures = failed.iter().map(|(place, error)| fan_out.failure(*place, error)).collect();
    match failed.into_iter().next() {
        Some((_, cause)) => Err(RequestError::Shards { failures, total, cause: Box::new(cause) }),
        None => Ok(Vec::new()),
    }
}

fn short_reason(hits: usize, k: usize, something_missing: bool, cut_by_score: bool) -> Option<ShortReason> {
    if hits >= k {
        return None;
    }
    if something_missing {
        return Some(ShortReason::Deadline);
    }
    if cut_by_score {
        return Some(ShortReason::MinScore);
    }
    Some(ShortReason::FewerMatches)
}

fn millis_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1_000.0
}
