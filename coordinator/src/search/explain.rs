//! Explains a search: how each shard was planned and why, what became of it and when, PostgreSQL's own plans, and what looks
//! wrong. The search itself runs as any other; PostgreSQL's plans are asked for after it, so its times stay true.

use super::fanout::{Ask, FanOut};
use super::request::{self, CheckedSearch};
use super::{Ran, Searcher, ShardPart, Summary, TableFacts, Times};
use crate::error::RequestError;
use crate::targets::{Place, Target, read_at};
use crate::workers::ShardError;
use crate::workers::knn::Scope;
use crate::workers::pg_plan::pg_plan;
use atoll_core::access::Grant;
use atoll_core::freshness::SessionToken;
use atoll_core::search::alternatives::weighed;
use atoll_core::search::pg_plan as plans;
use atoll_core::search::plan::{ShardPlan, Strategy};
use atoll_core::search::warnings::{Evidence, ShardEvidence, TableKnown, warnings};
use atoll_proto::explain::{
    ExplainAnswer, ExplainRequest, Explanation, FetchExplain, MergeExplain, SearchWarning, ShardExplain, ShardRun,
    WarningCode,
};
use atoll_proto::search::SearchAnswer;
use atoll_proto::{CollectionName, IndexScope, Namespace};
use futures::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

/// A search that was planned, and what is needed to tell of it.
pub(super) struct Explained<'a> {
    pub(super) target: &'a Target,
    pub(super) search: &'a CheckedSearch,
    pub(super) fan_out: &'a FanOut,
    pub(super) facts: &'a dyn TableFacts,
    pub(super) started: Instant,
    pub(super) deadline: Instant,
}

impl Searcher {
    /// Plans a search, runs it if that is asked for, and tells how.
    pub async fn explain(
        &self,
        collection: &CollectionName,
        request: &ExplainRequest,
        session: &SessionToken,
        grant: &Grant,
        deadline: Instant,
    ) -> Result<ExplainAnswer, RequestError> {
        let started = Instant::now();
        let target = Target::find(&self.views, collection, grant)?;
        let mut search = request::check(&request.search, &target)?;
        search.explain = request.analyze;
        let members = self.members(&target, &search, session.clone());
        let vector = self.vector(&target, &search, &members, deadline).await?;
        let (plan, mut answer, fan_out) = match request.analyze {
            true => {
                let Ran { answer, fan_out, .. } =
                    self.run(&target, &search, &vector, &members, started, deadline).await?;
                let answer = SearchAnswer { session: members.token().text(), ..answer };
                (answer.plan.clone(), Some(answer), fan_out)
            }
            false => {
                let fan_out = self.planned(&target, &search, &vector)?;
                let mut summary = Summary::default();
                fan_out.asks.iter().for_each(|ask| summary.count(ask.query.plan, false));
                (summary.plan(&search), None, fan_out)
            }
        };
        let facts = self.facts.as_ref();
        let explained = Explained { target: &target, search: &search, fan_out: &fan_out, facts, started, deadline };
        let mut explanation = match answer.as_mut().and_then(|answer| answer.explain.take()) {
            Some(explanation) => explanation,
            None => explained.planned(),
        };
        if request.pg_plan {
            self.add_pg_plans(&explained, &mut explanation, request.analyze).await;
        }
        Ok(ExplainAnswer { plan, catalog_version: target.view.version, explanation, answer })
    }

    /// Asks every server for its plan. One that gives none is a warning: what is known without it is worth telling.
    async fn add_pg_plans(&self, explained: &Explained<'_>, explanation: &mut Explanation, analyze: bool) {
        let asks = &explained.fan_out.asks;
        let plans = join_all(asks.iter().map(|ask| self.pg_plan(ask, analyze, explained.deadline))).await;
        for ((shard, ask), plan) in explanation.shards.iter_mut().zip(asks).zip(plans) {
            match plan {
                Ok(plan) => {
                    explanation.warnings.extend(plans::warnings(explained.meant(ask), &plan));
                    shard.pg_plan = Some(plan);
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, shard = %shard.shard, "no plan of a server");
                    let detail = format!("worker {} gave no plan: {}", shard.worker, error.reason());
                    let (code, shards) = (WarningCode::PlanMissing, vec![shard.shard]);
                    explanation.warnings.push(SearchWarning { code, shards, detail });
                }
            }
        }
    }

    async fn pg_plan(&self, ask: &Ask, analyze: bool, deadline: Instant) -> Result<Value, ShardError> {
        let plan_of =
            |place: Place| async move { pg_plan(&place.pool, &place.table, &ask.query, analyze, deadline).await };
        read_at(&self.views, &self.workers, &ask.place, plan_of).await.1
    }
}

/// How a scan gets at its rows; none of a walk.
fn rows_by(plan: ShardPlan) -> Option<String> {
    match plan.strategy {
        Strategy::Exact(path) => Some(path.word().to_owned()),
        Strategy::OwnGraphs | Strategy::Hnsw => None,
    }
}

impl Explained<'_> {
    /// How it would be searched.
    pub(super) fn planned(&self) -> Explanation {
        let shards = self.shards(|_| None);
        let warnings = self.warnings(&shards, None);
        Explanation { shards, merge: None, fetch: None, warnings }
    }

    /// How it was searched.
    pub(super) fn ran(&self, summary: &Summary, hits: usize) -> Explanation {
        let part = |place: usize| summary.parts.iter().find(|(of, _)| *of == place).map(|(_, part)| part);
        let shards = self.shards(|place| part(place).map(|part| self.run_of(part)));
        let (mut merge, mut fetch) = (None, None);
        if let Some(Times { merging, merge_ms, fetched }) = summary.times {
            let sum = |of: fn(&ShardRun) -> u32| shards.iter().filter_map(|shard| shard.run.as_ref()).map(of).sum();
            let started_ms = self.offset(merging);
            merge = Some(MergeExplain {
                started_ms,
                ms: merge_ms,
                candidates: summary.candidates,
                hits: sum(|run| run.hits),
                moved: sum(|run| run.moved),
                overfetch: self.search.overfetch,
                added_by_fallback: sum(|run| run.added_by_fallback.unwrap_or(0)),
            });
            let started_ms = started_ms + merge_ms;
            let ms = self.offset(fetched) - started_ms;
            fetch = self.fan_out.fetches.then_some(FetchExplain { started_ms, ms, hits: hits as u32 });
        }
        let warnings = self.warnings(&shards, Some(self.offset(Instant::now())));
        Explanation { shards, merge, fetch, warnings }
    }

    /// Every shard, in the order of asks, which is that of their numbers; `run` gives what became of the one at a place.
    fn shards(&self, run: impl Fn(usize) -> Option<ShardRun>) -> Vec<ShardExplain> {
        self.fan_out.asks.iter().enumerate().map(|(place, ask)| self.shard(ask, run(place))).collect()
    }

    fn shard(&self, ask: &Ask, run: Option<ShardRun>) -> ShardExplain {
        let Ask { place, query, size, .. } = ask;
        let plan = query.plan;
        let fell_back = run.is_some_and(|run| run.added_by_fallback.is_some());
        let (strategy, answered) = match fell_back {
            true => ("exact_fallback", ask.exact),
            false => (plan.strategy.word(), plan),
        };
        let weighed = weighed(&self.fan_out.wish, &self.fan_out.reach, *size, &plan);
        ShardExplain {
            shard: place.route.shard,
            group: place.route.group_name.to_string(),
            worker: place.pool.worker().to_owned(),
            role: if place.is_primary() { "primary" } else { "standby" }.to_owned(),
            generation: place.route.generation,
            strategy: strategy.to_owned(),
            why: answered.why.to_owned(),
            ef: plan.strategy.walks().then_some(plan.ef),
            rows_by: rows_by(answered),
            candidates_wanted: answered.candidates,
            graphs: if plan.strategy == Strategy::OwnGraphs { query.graphs.clone() } else { Vec::new() },
            rows: size.rows,
            cost_us: weighed.cost_us,
            rejected: weighed.rejected,
            run,
            pg_plan: None,
        }
    }

    fn run_of(&self, part: &ShardPart) -> ShardRun {
        ShardRun {
            started_ms: self.offset(part.started),
            queued_ms: part.queued.as_secs_f64() * 1_000.0,
            ms: part.ms,
            candidates: part.candidates,
            hits: part.hits,
            moved: part.moved,
            added_by_fallback: part.walked.map(|walked| part.candidates.saturating_sub(walked)),
        }
    }

    fn warnings(&self, shards: &[ShardExplain], total_ms: Option<f64>) -> Vec<SearchWarning> {
        let asks = &self.fan_out.asks;
        let known: Vec<Option<TableKnown>> = asks.iter().map(|ask| self.known(ask)).collect();
        let evidence = shards.iter().zip(asks).zip(&known).map(|((explained, ask), known)| ShardEvidence {
            explained,
            known: known.as_ref(),
            without_graph: known.as_ref().map(|known| self.without_graph(ask, known)).unwrap_or_default(),
        });
        warnings(&Evidence {
            shards: &evidence.collect::<Vec<_>>(),
            filtered: self.search.filter.is_some(),
            exact: self.search.exact,
            overfetch: self.search.overfetch,
            deadline_ms: self.deadline.saturating_duration_since(self.started).as_secs_f64() * 1_000.0,
            total_ms,
        })
    }

    /// Large namespaces asked for that have no graph of their own, where the collection wants such graphs.
    fn without_graph(&self, ask: &Ask, known: &TableKnown) -> Vec<(Namespace, u64)> {
        if self.target.collection.settings.index.scope == IndexScope::Shard {
            return Vec::new();
        }
        let query = &ask.query;
        let asked = |namespace: &Namespace| query.scope.holds(namespace.as_str()) && !query.exclude.contains(namespace);
        let large = known.large.iter();
        let (graphs, _) = self.facts.graphs(self.target.table_of(&ask.place.route), &self.target.name);
        let has_graph = |namespace: &Namespace| graphs.iter().any(|(with_graph, _)| with_graph == namespace);
        large.filter(|(name, _)| asked(name) && !has_graph(name)).cloned().collect()
    }

    /// What the server is meant to do.
    fn meant(&self, ask: &Ask) -> plans::Meant {
        let walks = match ask.query.plan.strategy {
            Strategy::Exact(_) => 0,
            Strategy::OwnGraphs => ask.query.graphs.len(),
            Strategy::Hnsw => 1,
        };
        let table_rows = self.known(ask).map(|known| known.rows);
        let whole_table = matches!(ask.query.scope, Scope::All);
        plans::Meant { shard: ask.place.route.shard, walks, whole_table, table_rows }
    }

    fn known(&self, ask: &Ask) -> Option<TableKnown> {
        let route = &ask.place.route;
        self.facts.known(self.target.table_of(route), &self.target.name, route.primary.worker)
    }

    /// Milliseconds from the start of the search.
    fn offset(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.started).as_secs_f64() * 1_000.0
    }
}
