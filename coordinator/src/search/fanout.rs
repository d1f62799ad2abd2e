//! Asking shards side by side. Each answer is candidates or a typed failure; nothing here decides whether a failure matters.

use super::request::CheckedSearch;
use super::samples::Samples;
use super::{ShardExplainPart, TableFacts, millis_since};
use crate::targets::{Place, Target, Views, read_at};
use crate::workers::knn::{self, Bring, KnnQuery, KnnRow, Scope};
use crate::workers::{ShardError, Workers};
use atoll_core::routing::ShardRoute;
use atoll_core::search::plan::{ALWAYS_EXACT_ROWS, ShardPlan, ShardSize, Strategy, Wish, plan_shard};
use atoll_proto::problem::ShardFailure;
use atoll_proto::search::ShardExplain;
use atoll_proto::{Distribution, Namespace, ShardId, Vector};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// What to ask of whom.
pub(super) struct FanOut {
    asks: Vec<Ask>,
    /// Whether winners' wide columns are fetched after the fan-out.
    pub(super) fetches: bool,
    /// Whether candidates come with the workers' distances in place of their vectors.
    pub(super) vectors_later: bool,
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
        samples: &Arc<Samples>,
        search: &CheckedSearch,
        vector: &Vector,
    ) -> Self {
        let parts: Vec<Part> = scopes(target, &search.scope)
            .into_iter()
            .map(|(route, scope)| Part::new(target, facts, samples, search, target.place(workers, route), scope))
            .collect();
        let graphs = parts.iter().map(|part| part.size.graphs).sum();
        let wish = Wish { shards: parts.len() as u32, graphs, ..search.wish() };
        let mut asks: Vec<Ask> = parts
            .into_iter()
            .map(|Part { place, scope, size, graphs }| {
                let query = KnnQuery {
                    vector: vector.clone(),
                    scope,
                    exclude: search.exclude.clone(),
                    filter: search.filter.clone(),
                    without: search.like.clone(),
                    bring: Bring::Columns(Arc::default()),
                    plan: plan_shard(&wish, size),
                    graphs,
                };
                Ask { place, query, needed: wish.k as usize }
            })
            .collect();
        let (wide, most) = (search.wide_columns(), asks.iter().map(|ask| ask.query.plan.candidates).max());
        let wants_wide = !wide.is_empty();
        let bring = match (search.per_namespace, asks.len()) {
            // Near ties decide within each namespace, and all of them are looked at.
            (Some(_), 2..) => Bring::Columns(Arc::default()),
            (_, shards) => Bring::of_fan_out(shards, most.unwrap_or_default(), wide),
        };
        asks.iter_mut().for_each(|ask| ask.query.bring = bring.clone());
        let fetches = wants_wide && bring.wide().is_empty();
        let vectors_later = matches!(bring, Bring::Distance);
        Self { asks, fetches, vectors_later }
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
            let (strategy, why) = match part.fell_back {
                true => ("exact_fallback", "the graph gave fewer than k"),
                false => (query.plan.strategy_name(), query.plan.why),
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
            let exact = &KnnQuery { plan: query.plan.exact(self.needed as u32), ..query.clone() };
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
struct Part {
    place: Place,
    scope: Scope,
    size: ShardSize,
    /// Namespaces asked for that have a graph of their own.
    graphs: Vec<Namespace>,
}

impl Part {
    fn new(
        target: &Target,
        facts: &dyn TableFacts,
        samples: &Arc<Samples>,
        search: &CheckedSearch,
        place: Place,
        scope: Scope,
    ) -> Self {
        let shard = match target.collection.settings.distribution {
            Distribution::Hash => Some(place.route.shard),
            Distribution::Reference => None,
        };
        let rows = match &scope {
            Scope::Prefix(_) | Scope::All => facts.rows(shard, &target.name, None),
            Scope::Namespaces(namespaces) => facts.rows(shard, &target.name, Some(namespaces)),
        };
        let (mut own, shard_graph) = facts.graphs(shard, &target.name);
        own.retain(|(namespace, _)| scope.holds(namespace.as_str()) && !search.exclude.contains(namespace));
        let matching = match (&search.filter, rows) {
            (Some(filter), Some(asked)) if asked > ALWAYS_EXACT_ROWS => {
                let table_rows = facts.rows(shard, &target.name, None).unwrap_or(asked);
                let sample = samples.of(&place, table_rows);
                sample.and_then(|sample| sample.matching(filter, table_rows, |name| scope.holds(name)))
            }
            (Some(_) | None, _) => None,
        };
        let size = ShardSize {
            rows,
            whole_table: matches!(scope, Scope::All),
            graphs: own.len() as u32,
            graph_rows: own.iter().map(|(_, rows)| rows).sum(),
            shard_graph,
            matching,
        };
        Self { place, scope, size, graphs: own.into_iter().map(|(namespace, _)| namespace).collect() }
    }
}
