//! The path of a search: check → one view → targets → plan → fan out → merge and re-rank → fetch the winners → answer.
//!
//! Distances are computed anew here, at the full precision of what is stored, so the order of an answer does not depend on which
//! server, index or shard a candidate came from. Few candidates carry all that is wanted of them. Many carry their workers' distances,
//! and only the best of all, with the near ties of the last hit, are fetched: vectors and wide columns.

mod cache;
mod explain;
mod fanout;
mod kept;
mod like;
mod members;
mod race;
mod recall;
mod request;
mod samples;
mod summaries;
mod winners;

use crate::error::RequestError;
use crate::next_primary::NextPrimary;
use crate::targets::{Place, Target, Views};
use crate::telemetry::Metrics;
use crate::workers::knn::KnnRow;
use crate::workers::{ShardError, Workers};
use atoll_core::access::Grant;
use atoll_core::freshness::SessionToken;
use atoll_core::members::Hedges;
use atoll_core::search::distance::Query;
use atoll_core::search::merge::{MergeLimits, Ranked, merge, moved};
use atoll_core::search::plan::{NEAR_TIES, ShardPlan};
use atoll_core::search::unseen::Unseen;
use atoll_core::search::warnings::TableKnown;
use atoll_proto::problem::ShardFailure;
use atoll_proto::search::{
    CachePolicy, Coverage, Hit, PlanSummary, SearchAnswer, SearchRequest, ShardCoverage, ShortReason, Strategies,
    Timings,
};
use atoll_proto::{CollectionName, Namespace, ShardId, Vector, WorkerId};
pub use cache::{AnswerCache, CacheSettings};
use explain::Explained;
use fanout::{FanOut, ShardAnswer};
use members::Members;
pub use recall::{CalibrationSettings, Calibrator, Recall, SearchSettings};
use request::CheckedSearch;
use samples::Samples;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use summaries::Summaries;
use tokio::time::Instant;
use winners::{Fetching, Winners};

/// Rounds of asking anew because entries that were found had gone when they were fetched, and others may be nearer than what is
/// left. A second one is rare.
const ROUNDS_MAX: usize = 8;

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

    /// Bytes of one of its rows on average, with its share of the indexes. None if not known yet.
    fn row_bytes(&self, shard: Option<ShardId>, collection: &CollectionName) -> Option<u64>;

    /// Namespaces with a graph of their own in the table, with their rows, and whether there is a graph over all of it.
    fn graphs(&self, shard: Option<ShardId>, collection: &CollectionName) -> (Vec<(Namespace, u64)>, bool);

    /// All that a worker's agent has told of the table, for explanations.
    fn known(&self, shard: Option<ShardId>, collection: &CollectionName, worker: WorkerId) -> Option<TableKnown>;
}

/// Answers searches.
#[derive(Clone)]
pub struct Searcher {
    views: Views,
    workers: Arc<Workers>,
    facts: Arc<dyn TableFacts>,
    samples: Arc<Samples>,
    summaries: Arc<Summaries>,
    metrics: Metrics,
    recall: Arc<Recall>,
    cache: Arc<AnswerCache>,
    hedges: Arc<Mutex<Hedges>>,
    next_primary: NextPrimary,
}

/// What a search gave that was run.
struct Ran {
    answer: SearchAnswer,
    fan_out: FanOut,
    /// Whether entries changed under way: the answer is as good as any, but is of no single moment.
    changed: bool,
    /// When the first of the hits expires, if one does.
    expires_at: Option<SystemTime>,
}

/// A candidate with its distance: exact if it came with its vector, else the worker's until its vector is fetched.
struct Candidate {
    row: KnnRow,
    distance: f64,
    /// Position of its shard among the targets.
    place: usize,
    /// Whether it has moved away from the query since it was found.
    receded: bool,
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
    pub fn new(
        views: Views,
        workers: Arc<Workers>,
        facts: Arc<dyn TableFacts>,
        metrics: Metrics,
        recall: Arc<Recall>,
        cache: AnswerCache,
        next_primary: NextPrimary,
    ) -> Self {
        let (samples, summaries, cache) = (Samples::new(), Summaries::new(), Arc::new(cache));
        let hedges = Arc::default();
        Self { views, workers, facts, samples, summaries, recall, metrics, cache, hedges, next_primary }
    }

    /// Answers one search before the deadline, from the cache if an answer there shows what this session has written.
    pub async fn search(
        &self,
        collection: &CollectionName,
        request: &SearchRequest,
        session: &SessionToken,
        grant: &Grant,
        deadline: Instant,
    ) -> Result<SearchAnswer, RequestError> {
        let started = Instant::now();
        let target = Target::find(&self.views, collection, grant)?;
        let search = request::check(request, &target)?;
        let members = self.members(&target, &search, session.clone());
        let vector = self.vector(&target, &search, &members, deadline).await?;
        let asked = self.cache.asked(&target, &search, &vector);
        let found = asked.as_ref().and_then(|asked| self.cache.find(asked, session, started));
        let answer = match found {
            Some(answer) => answer,
            None => {
                let begun = match asked {
                    Some(asked) => self.cache.begin(&asked, &target, &search)?,
                    None => None,
                };
                let Ran { answer, changed, expires_at, .. } =
                    self.run(&target, &search, &vector, &members, started, deadline).await?;
                if let Some(begun) = begun
                    && answer.complete
                    && !changed
                {
                    self.cache.keep(begun, &answer, expires_at);
                }
                answer
            }
        };
        Ok(SearchAnswer { session: members.token().text(), ..answer })
    }

    /// Bytes that kept answers take, about.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Runs a search that was checked.
    async fn run(
        &self,
        target: &Target,
        search: &CheckedSearch,
        vector: &Vector,
        members: &Members<'_>,
        started: Instant,
        deadline: Instant,
    ) -> Result<Ran, RequestError> {
        let round = self.rounds(target, search, vector, members, deadline).await?;
        self.recheck_sometimes(target, search, vector, &round);
        let Round { fan_out, summary, hits, failures, cut_by_score, changed, expires_at, fanout_ms, merge_ms, .. } =
            round;
        let explain = search.explain.then(|| {
            let facts = self.facts.as_ref();
            Explained { target, search, fan_out: &fan_out, facts, started, deadline }.ran(&summary, hits.len())
        });
        let short_reason = short_reason(hits.len(), search.k, !failures.is_empty(), cut_by_score);
        let (total, failed) = (fan_out.shards() as u32, failures.len() as u32);
        let answer = SearchAnswer {
            hits,
            complete: failures.is_empty(),
            short_reason,
            coverage: Coverage { shards: ShardCoverage { total, ok: total - failed, failed }, failures },
            plan: summary.plan(search),
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
            explain,
        };
        Ok(Ran { answer, fan_out, changed, expires_at })
    }

    /// Asks until what was found is an answer, whatever was written meanwhile.
    async fn rounds(
        &self,
        target: &Target,
        search: &CheckedSearch,
        vector: &Vector,
        members: &Members<'_>,
        deadline: Instant,
    ) -> Result<Round, RequestError> {
        for number in 0..ROUNDS_MAX {
            let round = self.round(target, search, vector, members, deadline, number == 0).await?;
            if !round.outdated {
                return Ok(round);
            }
        }
        tracing::warn!(rounds = ROUNDS_MAX, "entries went faster than a search could fetch them");
        Err(RequestError::Deadline)
    }

    /// Which members a search reads that belongs to this session.
    fn members(&self, target: &Target, search: &CheckedSearch, session: SessionToken) -> Members<'_> {
        let Self { views, workers, hedges, .. } = self;
        // Who takes an answer without a part does not wait for it.
        let next_primary = (!search.partial.allow).then_some(&self.next_primary);
        Members::new(views, workers, hedges, next_primary, search.consistency, target.view.version, session)
    }

    /// What to look for.
    async fn vector(
        &self,
        target: &Target,
        search: &CheckedSearch,
        members: &Members<'_>,
        deadline: Instant,
    ) -> Result<Vector, RequestError> {
        match &search.like {
            Some(id) => like::vector_of(members, &self.workers, target, id, deadline).await,
            None => Ok(search.vector.clone().expect("check leaves a vector or like")),
        }
    }

    /// Plans what to ask of the shards.
    fn planned(&self, target: &Target, search: &CheckedSearch, vector: &Vector) -> Result<FanOut, RequestError> {
        let facts = self.facts.as_ref();
        let mut fan_out = FanOut::plan(target, &self.workers, facts, &self.samples, &self.recall, search, vector)?;
        fan_out.share_out(target, &self.summaries, search);
        Ok(fan_out)
    }

    /// Asks the shards, merges their candidates and fetches the winners.
    async fn round(
        &self,
        target: &Target,
        search: &CheckedSearch,
        vector: &Vector,
        members: &Members<'_>,
        deadline: Instant,
        is_first: bool,
    ) -> Result<Round, RequestError> {
        let started = Instant::now();
        let metric = target.collection.settings.metric;
        let mut fan_out = self.planned(target, search, vector)?;
        // Of several members one may have room; each refuses for itself what is too much.
        if is_first && members.are_primaries() && !search.partial.allow && !fan_out.has_room(deadline) {
            return Err(RequestError::Overloaded);
        }
        let answers_due = match search.partial.allow && fan_out.fetches {
            // A shard that hangs must leave time to fetch the winners of the others.
            true => started + deadline.saturating_duration_since(started) * 3 / 4,
            false => deadline,
        };
        let answers = fan_out.run(members, answers_due).await;
        let fanout_ms = millis_since(started);
        let merging = Instant::now();
        let query = Query::new(metric, vector.as_slice());
        let mut summary = Summary::default();
        let mut candidates = Vec::new();
        let mut unseen = Unseen::NOTHING;
        let mut failed = Vec::new();
        for ShardAnswer { place, plan, rows, walked, wanted, started, queued, ms } in answers {
            self.measure(fan_out.place(place), plan, ms);
            match rows {
                Err(error) => failed.push((place, error)),
                Ok(rows) => match re_ranked(&query, fan_out.place(place).pool.worker(), place, rows) {
                    Ok(found) => {
                        let moved = if search.explain { moved(&found) as u32 } else { 0 };
                        let came = found.len() as u32;
                        let part = ShardPart { walked, candidates: came, moved, hits: 0, started, queued, ms };
                        summary.add(place, plan, part);
                        let every_row = walked.is_some() || !plan.strategy.walks();
                        unseen = unseen.and(Unseen::of_shard(every_row, wanted, &found));
                        candidates.extend(found);
                    }
                    Err(error) => failed.push((place, error)),
                },
            }
        }
        let failed = accept_missing_shards(search, &fan_out, failed)?;
        let limits = search.merge_limits(metric);
        let merged = match fan_out.vectors_later {
            // The order is not known for certain yet: the near ties of the last hit come along.
            true => merge(candidates, MergeLimits { k: limits.k + NEAR_TIES as usize, min_score: None, ..limits }),
            false => merge(candidates, limits),
        };
        let merge_ms = millis_since(merging);

        let fetching = Fetching { members, fan_out: &fan_out, search, query: &query };
        let Winners { hits, places, failed: not_fetched, changed, outdated, cut_by_score, expires_at } =
            fetching.hits(merged, unseen, deadline).await;
        summary.times = Some(Times { merging, merge_ms, fetched: Instant::now() });
        if search.explain {
            summary.count_hits(&places);
        }
        let failed = accept_missing_shards(search, &fan_out, failed.into_iter().chain(not_fetched).collect())?;
        let failures = failed.iter().map(|(place, error)| {
            let failure = fan_out.failure(*place, error);
            let cause = error as &dyn std::error::Error;
            tracing::warn!(error = cause, shard = %failure.shard, "a search goes on without a shard");
            failure
        });
        let failures = failures.collect();
        Ok(Round { fan_out, summary, hits, failures, cut_by_score, changed, outdated, expires_at, fanout_ms, merge_ms })
    }
}

/// One shard's candidates with their distances.
fn re_ranked(query: &Query<'_>, worker: &str, place: usize, rows: Vec<KnnRow>) -> Result<Vec<Candidate>, ShardError> {
    let mut numbers = Vec::new();
    rows.into_iter()
        .map(|row| {
            let distance = match row.distance(worker)? {
                Some(distance) => distance,
                None => {
                    row.read_numbers(worker, &mut numbers)?;
                    query.distance(&numbers)
                }
            };
            Ok(Candidate { distance, row, place, receded: false })
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
    /// Whether entries changed between being found and being fetched.
    changed: bool,
    /// Whether others may therefore be nearer than these hits.
    outdated: bool,
    expires_at: Option<SystemTime>,
    fanout_ms: f64,
    merge_ms: f64,
}

impl Searcher {
    fn measure(&self, place: &Place, plan: ShardPlan, ms: f64) {
        let shard = place.route.shard.to_string();
        self.metrics.shard_seconds.with_label_values(&[shard.as_str(), plan.strategy.word()]).observe(ms / 1_000.0);
    }
}

/// What the shards' answers add up to.
#[derive(Default)]
struct Summary {
    candidates: u32,
    ef: Option<u32>,
    strategies: Strategies,
    slowest_ms: f64,
    parts: Vec<(usize, ShardPart)>,
    times: Option<Times>,
}

/// What one shard did.
struct ShardPart {
    /// How many rows came first, if a graph gave too few and every row was looked at after it.
    walked: Option<u32>,
    candidates: u32,
    /// Candidates that stood elsewhere than exact distances put them; 0 unless it is to be explained.
    moved: u32,
    /// Hits that the merge made of them; 0 unless it is to be explained.
    hits: u32,
    started: Instant,
    queued: Duration,
    ms: f64,
}

/// When things happened after the fan-out.
struct Times {
    merging: Instant,
    merge_ms: f64,
    fetched: Instant,
}

impl Summary {
    fn add(&mut self, place: usize, plan: ShardPlan, part: ShardPart) {
        self.candidates += part.candidates;
        self.slowest_ms = self.slowest_ms.max(part.ms);
        self.count(plan, part.walked.is_some());
        self.parts.push((place, part));
    }

    fn count(&mut self, plan: ShardPlan, fell_back: bool) {
        let walks = plan.strategy.walks();
        match (walks, fell_back) {
            (true, true) => self.strategies.exact_fallback += 1,
            (true, false) => self.strategies.hnsw += 1,
            (false, _) => self.strategies.exact += 1,
        }
        if walks {
            self.ef = self.ef.max(Some(plan.ef));
        }
    }

    fn count_hits(&mut self, places: &[usize]) {
        for (place, part) in &mut self.parts {
            part.hits = places.iter().filter(|of_hit| *of_hit == place).count() as u32;
        }
    }

    fn plan(&self, search: &CheckedSearch) -> PlanSummary {
        PlanSummary {
            profile: search.profile_used(),
            ef: self.ef,
            overfetch: search.overfetch,
            candidates: self.candidates,
            strategies: self.strategies,
        }
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
