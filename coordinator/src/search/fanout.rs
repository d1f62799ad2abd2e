//! Asking shards side by side. Each answer is candidates or a typed failure; nothing here decides whether a failure matters.

use super::recall::Recall;
use super::request::CheckedSearch;
use super::samples::Samples;
use super::summaries::Summaries;
use super::{TableFacts, millis_since};
use crate::targets::{Place, Target, Views, read_at};
use crate::workers::knn::{self, Bring, KnnQuery, KnnRow, Scope};
use crate::workers::{ShardError, Workers};
use atoll_core::routing::ShardRoute;
use atoll_core::search::calibration::Tier;
use atoll_core::search::plan::{ALWAYS_EXACT_ROWS, ShardPlan, ShardSize, Strategy, Wish, plan_shard};
use atoll_core::search::summary;
use atoll_proto::problem::ShardFailure;
use atoll_proto::{Distribution, Namespace, ShardId, Vector};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What to ask of whom.
pub(super) struct FanOut {
    /// In the order of shards.
    pub(super) asks: Vec<Ask>,
    /// What each shard was planned by.
    pub(super) wish: Wish,
    /// Whether winners' wide columns are fetched after the fan-out.
    pub(super) fetches: bool,
    /// Whether candidates come with the workers' distances in place of their vectors.
    pub(super) vectors_later: bool,
    tiers: Tiers,
}

/// Kinds of search that a search may be, by the graphs that it would walk; none where there are none of theirs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiers {
    pub(super) own_graphs: Option<Tier>,
    pub(super) shard_graphs: Option<Tier>,
}

/// What to ask of one shard.
pub(super) struct Ask {
    pub(super) place: Place,
    pub(super) query: KnnQuery,
    /// What it was planned by.
    pub(super) size: ShardSize,
    /// Hits that the answer needs of this shard, if it has them.
    needed: usize,
}

/// What one shard gave.
pub(super) struct ShardAnswer {
    /// Position among the asks.
    pub(super) place: usize,
    pub(super) plan: ShardPlan,
    pub(super) rows: Result<Vec<KnnRow>, ShardError>,
    /// How many rows the graph gave, if they were too few and every row was looked at after it.
    pub(super) walked: Option<u32>,
    pub(super) started: Instant,
    /// How long connections were waited for.
    pub(super) queued: Duration,
    pub(super) ms: f64,
}

impl FanOut {
    /// Groups the targets by shard and plans each.
    pub(super) fn plan(
        target: &Target,
        workers: &Workers,
        facts: &dyn TableFacts,
        samples: &Arc<Samples>,
        recall: &Recall,
        search: &CheckedSearch,
        vector: &Vector,
    ) -> Self {
        let parts: Vec<Part> = scopes(target, &search.scope)
            .into_iter()
            .map(|(route, scope)| Part::new(target, facts, samples, search, target.place(workers, route), scope))
            .collect();
        let graphs = parts.iter().map(|part| part.size.graphs).sum();
        let tiers = Tiers::of(&parts);
        let wish = Wish { shards: parts.len() as u32, graphs, ..search.wish() };
        let wish = Wish { calibrated: recall.calibrated(target, tiers, &wish), ..wish };
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
                Ask { place, query, size, needed: wish.k as usize }
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
        Self { asks, wish, fetches, vectors_later, tiers }
    }

    /// Whether a shard was asked to walk a graph.
    pub(super) fn walks(&self) -> bool {
        self.asks.iter().any(|ask| ask.query.plan.strategy != Strategy::Exact)
    }

    /// The kind of search it was; none where no graphs were walked, graphs of both kinds, or graphs until enough matched.
    pub(super) fn walked(&self) -> Option<Tier> {
        if self.asks.iter().any(|ask| ask.query.plan.visits_max.is_some()) {
            return None;
        }
        let by = |strategy| self.asks.iter().any(|ask| ask.query.plan.strategy == strategy);
        match (by(Strategy::OwnGraphs), by(Strategy::Hnsw)) {
            (true, false) => self.tiers.own_graphs,
            (false, true) => self.tiers.shard_graphs,
            (false, false) | (true, true) => None,
        }
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
}

impl Ask {
    async fn run(&self, i: usize, views: &Views, workers: &Workers, deadline: Instant) -> (Place, ShardAnswer) {
        let started = Instant::now();
        let query = &self.query;
        let nearest = |place: Place| async move { knn::nearest(&place.pool, &place.table, query, deadline).await };
        let (mut place, mut found) = read_at(views, workers, &self.place, nearest).await;
        let (mut walked, mut queued) = (None, Duration::ZERO);
        if let Ok(few) = &found
            && query.plan.strategy != Strategy::Exact
            && few.rows.len() < self.needed
        {
            (walked, queued) = (Some(few.rows.len() as u32), few.queued);
            // The graph may have missed rows that match: look at all of them, so that a short answer is a true one.
            let exact = &KnnQuery { plan: query.plan.exact(self.needed as u32), ..query.clone() };
            let nearest = |place: Place| async move { knn::nearest(&place.pool, &place.table, exact, deadline).await };
            (place, found) = read_at(views, workers, &place, nearest).await;
        }
        let rows = found.map(|found| {
            queued += found.queued;
            found.rows
        });
        let ms = millis_since(started);
        (place, ShardAnswer { place: i, plan: query.plan, rows, walked, started, queued, ms })
    }
}

/// The shard behind a route, by which its tables are known; none for a reference collection.
pub(super) fn shard_of(target: &Target, route: &ShardRoute) -> Option<ShardId> {
    match target.collection.settings.distribution {
        Distribution::Hash => Some(route.shard),
        Distribution::Reference => None,
    }
}

/// The part of the scope that each shard holds. Shards that hold none of it are not asked.
pub(super) fn scopes<'a>(target: &'a Target, scope: &Scope) -> Vec<(&'a ShardRoute, Scope)> {
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
        let shard = shard_of(target, &place.route);
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

impl Tiers {
    fn of(parts: &[Part]) -> Self {
        let tier = |rows: u64, walks: u32| (walks > 0).then(|| Tier::of(rows / u64::from(walks.max(1)), walks));
        let own = parts.iter().map(|part| &part.size);
        let shards = parts.iter().map(|part| &part.size).filter(|size| size.shard_graph);
        Self {
            own_graphs: tier(own.clone().map(|size| size.graph_rows).sum(), own.map(|size| size.graphs).sum()),
            shard_graphs: tier(shards.clone().filter_map(|size| size.rows).sum(), shards.count() as u32),
        }
    }
}
