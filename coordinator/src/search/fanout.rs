//! Asking shards side by side. Each answer is candidates or a typed failure; nothing here decides whether a failure matters.

use super::request::CheckedSearch;
use super::summaries::Summaries;
use super::{ShardExplainPart, TableFacts, millis_since};
use crate::targets::{Place, Target, Views, read_at};
use crate::workers::knn::{self, KnnQuery, KnnRow, Scope};
use crate::workers::{ShardError, Workers};
use atoll_core::routing::ShardRoute;
use atoll_core::search::plan::{ShardPlan, ShardSize, Strategy, Wish, plan_shard};
use atoll_core::search::summary;
use atoll_proto::problem::ShardFailure;
use atoll_proto::search::ShardExplain;
use atoll_proto::{Distribution, Namespace, ShardId, Vector};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Up to this many candidates of a single shard bring their wide columns along.
const WIDE_CANDIDATES_MAX: u32 = 64;

/// What to ask of whom.
pub(super) struct FanOut {
    asks: Vec<Ask>,
    /// Whether winners' wide columns are fetched after the fan-out.
    pub(super) fetches: bool,
}

struct Ask {
    place: Place,
    query: KnnQuery,
    /// Hits that the answer needs of this shard, if it has them.
    needed: usize,
}

/// What one shard gave.
pub(super) struct ShardAnswer {
    /// Position among the asks.
    pub(super) place: usize,
    pub(super) plan: ShardPlan,
    pub(super) rows: Result<Vec<KnnRow>, ShardError>,
    /// Whether the graph gave too few and every row was looked at after it.
    pub(super) fell_back: bool,
    pub(super) ms: f64,
}

impl FanOut {
    /// Groups the targets by shard and plans each.
    pub(super) fn plan(
        target: &Target,
        workers: &Workers,
        facts: &dyn TableFacts,
        search: &CheckedSearch,
        vector: &Vector,
    ) -> Self {
        let parts: Vec<Part<'_>> = scopes(target, &search.scope)
            .into_iter()
            .map(|(route, scope)| Part::new(target, facts, search, route, scope))
            .collect();
        let graphs = parts.iter().map(|part| part.size.graphs).sum();
        let wish = Wish { shards: parts.len() as u32, graphs, ..search.wish() };
        let mut asks: Vec<Ask> = parts
            .into_iter()
            .map(|Part { route, scope, size, graphs }| {
                let query = KnnQuery {
                    vector: vector.clone(),
                    scope,
                    exclude: search.exclude.clone(),
                    filter: search.filter.clone(),
                    without: search.like.clone(),
                    wide: Arc::default(),
                    plan: plan_shard(&wish, size),
                    graphs,
                };
                Ask { place: target.place(workers, route), query, needed: wish.k as usize }
            })
            .collect();
        // One shard's candidates bring their wide columns along: a second round trip would cost more.
        let mut fetches = !search.wide_columns().is_empty();
        if let [only] = asks.as_mut_slice()
            && only.query.plan.candidates <= WIDE_CANDIDATES_MAX
        {
            only.query.wide = search.wide_columns().into();
            fetches = false;
        }
        Self { asks, fetches }
    }

    /// Gives more of ef to shards where hits are likely, and less to others, in a search of everything. Summaries are of whole
    /// tables: they say nothing of a few namespaces, or of what a filter lets through.
    pub(super) fn share_out(
        &mut self,
        target: &Target,
        facts: &dyn TableFacts,
        summaries: &Arc<Summaries>,
        search: &CheckedSearch,
    ) {
        let everything = matches!(search.scope, Scope::All) && search.exclude.is_empty() && search.filter.is_none();
        let Wish { k, ef: None, .. } = search.wish() else { return };
        if !everything {
            return;
        }
        let mut asks: Vec<&mut Ask> =
            self.asks.iter_mut().filter(|ask| summary::is_shared_out(&ask.query.plan, k)).collect();
        let [first, _, ..] = asks.as_slice() else { return };
        let vector = first.query.vector.clone();
        let rows = |ask: &Ask| facts.rows(Some(ask.place.route.shard), &target.name, None).unwrap_or_default();
        let places: Vec<_> = asks.iter().map(|ask| (&ask.place, rows(ask))).collect();
        let weights = summaries.weights(target.collection.settings.metric, vector.as_slice(), &places);
        for (ask, weight) in asks.iter_mut().zip(weights) {
            ask.query.plan = summary::share_out(ask.query.plan, k, weight);
        }
    }

    /// How many shards are asked.
    pub(super) fn shards(&self) -> usize {
        self.asks.len()
    }

    /// Asks every shard and waits for all, at most until the deadline. From then on each place is the one that answered.
    pub(super) async fn run(&mut self, views: &Views, workers: &Workers, deadline: Instant) -> Vec<ShardAnswer> {
        let mut under_way: FuturesUnordered<_> =
            self.asks.iter().enumerate().map(|(i, ask)| ask.run(i, views, workers, deadline)).collect();
        let mut answers = Vec::with_capacity(self.asks.len());
        while let Some(answer) = under_way.next().await {
            answers.push(answer);
        }
        drop(under_way);
        let answered = answers.into_iter().map(|(place, answer)| {
            self.asks[answer.place].place = place;
            answer
        });
        answered.collect()
    }

    /// Where a candidate came from.
    pub(super) fn place(&self, i: usize) -> &Place {
        &self.asks[i].place
    }

    /// The failure, as an answer names it.
    pub(super) fn failure(&self, place: usize, error: &ShardError) -> ShardFailure {
        self.asks[place].place.failure(error)
    }

    /// How each shard was searched.
    pub(super) fn explain(&self, mut parts: Vec<(usize, ShardExplainPart)>) -> Vec<ShardExplain> {
        parts.sort_by_key(|(i, _)| self.asks[*i].place.route.shard);
        let one = |(i, part): (usize, ShardExplainPart)| {
            let Ask { place, query, .. } = &self.asks[i];
            let (strategy, why) = match (part.fell_back, query.plan.strategy) {
                (true, _) => ("exact_fallback", "the graph gave fewer than k"),
                (false, Strategy::Exact) => ("exact", query.plan.why),
                (false, Strategy::OwnGraphs | Strategy::Hnsw) => ("hnsw", query.plan.why),
                (false, Strategy::HnswIterative) => ("hnsw_iterative", query.plan.why),
            };
            ShardExplain {
                shard: place.route.shard,
                group: place.route.group_name.to_string(),
                worker: place.route.primary.name.clone(),
                generation: place.route.generation,
                strategy: strategy.to_owned(),
                why: why.to_owned(),
                ef: (query.plan.strategy != Strategy::Exact).then_some(query.plan.ef),
                candidates_wanted: query.plan.candidates,
                candidates: part.candidates,
                ms: part.ms,
            }
        };
        parts.into_iter().map(one).collect()
    }
}

impl Ask {
    async fn run(&self, i: usize, views: &Views, workers: &Workers, deadline: Instant) -> (Place, ShardAnswer) {
        let started = Instant::now();
        let query = &self.query;
        let nearest = |place: Place| async move { knn::nearest(&place.pool, &place.table, query, deadline).await };
        let (mut place, mut rows) = read_at(views, workers, &self.place, nearest).await;
        let mut fell_back = false;
        if let Ok(found) = &rows
            && query.plan.strategy != Strategy::Exact
            && found.len() < self.needed
        {
            // The graph may have missed rows that match: look at all of them, so that a short answer is a true one.
            let exact = &KnnQuery { plan: query.plan.exact(), ..query.clone() };
            let nearest = |place: Place| async move { knn::nearest(&place.pool, &place.table, exact, deadline).await };
            (place, rows) = read_at(views, workers, &place, nearest).await;
            fell_back = true;
        }
        (place, ShardAnswer { place: i, plan: query.plan, rows, fell_back, ms: millis_since(started) })
    }
}

/// The part of the scope that each shard holds. Shards that hold none of it are not asked.
fn scopes<'a>(target: &'a Target, scope: &Scope) -> Vec<(&'a ShardRoute, Scope)> {
    match scope {
        Scope::Prefix(_) | Scope::All => target.routes().iter().map(|route| (route, scope.clone())).collect(),
        Scope::Namespaces(namespaces) => {
            let mut by_shard: BTreeMap<ShardId, (&ShardRoute, Vec<Namespace>)> = BTreeMap::new();
            for namespace in namespaces {
                let route = target.route(namespace);
                by_shard.entry(route.shard).or_insert((route, Vec::new())).1.push(namespace.clone());
            }
            by_shard.into_values().map(|(route, namespaces)| (route, Scope::Namespaces(namespaces))).collect()
        }
    }
}

/// One shard's part of a search, before it is planned.
struct Part<'a> {
    route: &'a ShardRoute,
    scope: Scope,
    size: ShardSize,
    /// Namespaces asked for that have a graph of their own.
    graphs: Vec<Namespace>,
}

impl<'a> Part<'a> {
    fn new(
        target: &Target,
        facts: &dyn TableFacts,
        search: &CheckedSearch,
        route: &'a ShardRoute,
        scope: Scope,
    ) -> Self {
        let shard = match target.collection.settings.distribution {
            Distribution::Hash => Some(route.shard),
            Distribution::Reference => None,
        };
        let rows = match &scope {
            Scope::Prefix(_) | Scope::All => facts.rows(shard, &target.name, None),
            Scope::Namespaces(namespaces) => facts.rows(shard, &target.name, Some(namespaces)),
        };
        let (mut own, shard_graph) = facts.graphs(shard, &target.name);
        own.retain(|(namespace, _)| scope.holds(namespace) && !search.exclude.contains(namespace));
        let size = ShardSize {
            rows,
            whole_table: matches!(scope, Scope::All),
            graphs: own.len() as u32,
            graph_rows: own.iter().map(|(_, rows)| rows).sum(),
            shard_graph,
        };
        Self { route, scope, size, graphs: own.into_iter().map(|(namespace, _)| namespace).collect() }
    }
}
