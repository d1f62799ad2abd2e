//! Asking shards side by side. Each answer is candidates or a typed failure; nothing here decides whether a failure matters.

use super::members::{First, Members};
use super::recall::Recall;
use super::request::CheckedSearch;
use super::samples::Samples;
use super::summaries::Summaries;
use super::{TableFacts, millis_since};
use crate::error::RequestError;
use crate::targets::{Place, Target};
use crate::workers::knn::{self, Bring, KnnQuery, KnnRow, Scope};
use crate::workers::{ShardError, WorkerPool, Workers};
use atoll_core::access::Touched;
use atoll_core::routing::ShardRoute;
use atoll_core::search::calibration::Tier;
use atoll_core::search::filtered::{Matching, is_worth_walking};
use atoll_core::search::plan::{
    ALWAYS_EXACT_ROWS, Reach, ShardPlan, ShardSize, Strategy, Wish, exact_plan, plan_shard,
};
use atoll_core::search::summary;
use atoll_proto::problem::ShardFailure;
use atoll_proto::{Namespace, ShardId, Vector};
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
    pub(super) reach: Reach,
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
    /// What is asked if a graph gives fewer than the answer may need of it.
    pub(super) exact: ShardPlan,
    needed: usize,
}

/// What one shard gave.
pub(super) struct ShardAnswer {
    /// Position among the asks.
    pub(super) place: usize,
    pub(super) plan: ShardPlan,
    pub(super) rows: Result<Vec<KnnRow>, ShardError>,
    /// How many rows came first, if a graph gave too few and every row was looked at after it.
    pub(super) walked: Option<u32>,
    /// How many candidates were asked for, by what answered.
    pub(super) wanted: usize,
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
        samples: &Samples,
        recall: &Recall,
        search: &CheckedSearch,
        vector: &Vector,
    ) -> Result<Self, RequestError> {
        let wish = search.wish();
        let part =
            |(route, scope)| Part::new(target, facts, samples, search, &wish, target.place(workers, route), scope);
        let parts: Vec<Part> = scopes(target, &search.scope)?.into_iter().map(part).collect();
        let tiers = Tiers::of(&parts);
        let reach = Reach {
            shards: parts.len() as u32,
            graphs: parts.iter().map(|part| part.size.graphs).sum(),
            calibrated: recall.calibrated(target, tiers, &wish),
        };
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
                    plan: plan_shard(&wish, &reach, size),
                    graphs,
                };
                Ask { place, query, size, exact: exact_plan(&wish, size), needed: wish.k as usize }
            })
            .collect();
        let candidates: Vec<u32> = asks.iter().map(|ask| ask.query.plan.candidates).collect();
        let bytes = || {
            let of_one = |ask: &Ask| facts.row_bytes(target.table_of(&ask.place.route), &target.name);
            asks.iter().map(|ask| Some(of_one(ask)? * u64::from(ask.query.plan.candidates))).sum()
        };
        let wide = search.wide_columns();
        let wants_wide = !wide.is_empty();
        let bring = match (search.per_namespace, asks.len()) {
            // Near ties decide within each namespace, and all of them are looked at.
            (Some(_), 2..) => Bring::Columns(Arc::default()),
            _ => Bring::of_fan_out(&candidates, bytes, wide),
        };
        asks.iter_mut().for_each(|ask| ask.query.bring = bring.clone());
        let fetches = wants_wide && bring.wide().is_empty();
        let vectors_later = matches!(bring, Bring::Distance);
        Ok(Self { asks, wish, reach, fetches, vectors_later, tiers })
    }

    /// Whether a shard was asked to walk a graph.
    pub(super) fn walks(&self) -> bool {
        self.asks.iter().any(|ask| ask.query.plan.strategy.walks())
    }

    /// The kind of search it was; none where no graphs were walked, or graphs of both kinds.
    pub(super) fn walked(&self) -> Option<Tier> {
        let by = |strategy| self.asks.iter().any(|ask| ask.query.plan.strategy == strategy);
        match (by(Strategy::OwnGraphs), by(Strategy::Hnsw)) {
            (true, false) => self.tiers.own_graphs,
            (false, true) => self.tiers.shard_graphs,
            (false, false) | (true, true) => None,
        }
    }

    /// Gives more of ef to shards where hits are likely, and less to others, in a search of everything. Summaries are of whole
    /// tables: they say nothing of a few namespaces, or of what a filter lets through.
    pub(super) fn share_out(&mut self, target: &Target, summaries: &Summaries, search: &CheckedSearch) {
        let everything = matches!(search.scope, Scope::All) && search.exclude.is_empty() && search.filter.is_none();
        if !everything || search.ef.is_some() {
            return;
        }
        let mut asks: Vec<&mut Ask> =
            self.asks.iter_mut().filter(|ask| summary::is_shared_out(&ask.query.plan)).collect();
        let [first, _, ..] = asks.as_slice() else { return };
        let vector = first.query.vector.clone();
        let places: Vec<_> = asks.iter().map(|ask| (&ask.place, ask.size.table_rows)).collect();
        let weights = summaries.weights(target, vector.as_slice(), &places);
        for (ask, weight) in asks.iter_mut().zip(weights) {
            ask.query.plan = summary::share_out(ask.query.plan, weight);
        }
    }

    /// Whether the workers would come to it in time, by what waits for each of them.
    pub(super) fn has_room(&self, deadline: Instant) -> bool {
        let mut asked: BTreeMap<&str, (&WorkerPool, usize)> = BTreeMap::new();
        for Ask { place, .. } in &self.asks {
            asked.entry(place.pool.worker()).or_insert((&place.pool, 0)).1 += 1;
        }
        let rounds = if self.fetches || self.vectors_later { 2 } else { 1 };
        asked.into_values().all(|(pool, statements)| pool.has_room(statements, deadline, rounds))
    }

    /// How many shards are asked.
    pub(super) fn shards(&self) -> usize {
        self.asks.len()
    }

    /// Asks every shard and waits for all, at most until the deadline. From then on each place is the one that answered.
    pub(super) async fn run(&mut self, members: &Members<'_>, deadline: Instant) -> Vec<ShardAnswer> {
        let mut under_way: FuturesUnordered<_> =
            self.asks.iter().enumerate().map(|(i, ask)| ask.run(i, members, deadline)).collect();
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
    async fn run(&self, i: usize, members: &Members<'_>, deadline: Instant) -> (Place, ShardAnswer) {
        let started = Instant::now();
        let query = &self.query;
        let nearest =
            |place: Place, watch| async move { knn::nearest(&place.pool, &place.table, query, watch, deadline).await };
        let (mut place, mut found) = members.read(&self.place, First::Anyone, deadline, nearest).await;
        let (mut walked, mut queued) = (None, Duration::ZERO);
        if let Ok(few) = &found
            && query.plan.strategy.walks()
            && few.fewest < self.needed
        {
            (walked, queued) = (Some(few.rows.len() as u32), few.queued);
            // It may have missed rows that match: look at all of them, so that nothing is missing that others' rows would hide.
            let exact = &KnnQuery { plan: self.exact, ..query.clone() };
            let nearest = |place: Place, watch| async move {
                knn::nearest(&place.pool, &place.table, exact, watch, deadline).await
            };
            (place, found) = members.read(&place, First::Same, deadline, nearest).await;
        }
        let rows = found.map(|found| {
            queued += found.queued;
            found.rows
        });
        let ms = millis_since(started);
        let wanted = if walked.is_some() { self.exact.candidates } else { query.plan.candidates } as usize;
        (place, ShardAnswer { place: i, plan: query.plan, rows, walked, wanted, started, queued, ms })
    }
}

/// The part of the scope that each shard holds. Shards that hold none of it are not asked.
pub(super) fn scopes<'a>(target: &'a Target, scope: &Scope) -> Result<Vec<(&'a ShardRoute, Scope)>, RequestError> {
    let whole = |routes: &'a [ShardRoute]| routes.iter().map(|route| (route, scope.clone())).collect();
    Ok(match scope {
        Scope::Prefix(prefix) => whole(target.routes(Touched::Prefix(prefix))?),
        Scope::All => whole(target.routes(Touched::All)?),
        Scope::Namespaces(namespaces) => {
            let mut by_shard: BTreeMap<ShardId, (&ShardRoute, Vec<Namespace>)> = BTreeMap::new();
            for namespace in namespaces {
                let route = target.route(namespace)?;
                by_shard.entry(route.shard).or_insert((route, Vec::new())).1.push(namespace.clone());
            }
            let sorted = |(route, mut namespaces): (_, Vec<Namespace>)| {
                namespaces.sort_unstable();
                (route, Scope::Namespaces(namespaces))
            };
            by_shard.into_values().map(sorted).collect()
        }
    })
}

/// One shard's part of a search, before it is planned.
struct Part {
    place: Place,
    scope: Scope,
    size: ShardSize,
    /// Namespaces asked for whose own graph may be walked.
    graphs: Vec<Namespace>,
}

impl Part {
    fn new(
        target: &Target,
        facts: &dyn TableFacts,
        samples: &Samples,
        search: &CheckedSearch,
        wish: &Wish,
        place: Place,
        scope: Scope,
    ) -> Self {
        let shard = target.table_of(&place.route);
        let left_out = |name: &str| search.exclude.binary_search_by(|one| one.as_str().cmp(name)).is_ok();
        let asked = |name: &str| scope.holds(name) && !left_out(name);
        let whole_table = matches!(scope, Scope::All) && search.exclude.is_empty();
        let in_table = facts.rows(shard, &target.name, None);
        let counted = match &scope {
            Scope::Prefix(_) | Scope::All => in_table,
            Scope::Namespaces(namespaces) => facts.rows(shard, &target.name, Some(namespaces)),
        };
        let (mut own, shard_graph) = facts.graphs(shard, &target.name);
        own.retain(|(namespace, _)| asked(namespace.as_str()));
        let own_rows: u64 = own.iter().map(|(_, rows)| rows).sum();
        let is_counted = whole_table || matches!(scope, Scope::Namespaces(_));
        let table_rows = in_table.or(counted).unwrap_or_default();
        let wants_sample = search.filter.is_some() || !(is_counted || wish.exact);
        let sample = match counted {
            Some(rows) if wants_sample && rows > ALWAYS_EXACT_ROWS => samples.of(target, &place, table_rows),
            Some(_) | None => None,
        };
        let tried =
            sample.as_ref().map(|sample| sample.tried(search.filter.as_deref())).filter(|tried| !tried.is_empty());
        let rows = match &tried {
            Some(tried) if !is_counted => Some(((tried.asked(asked) * table_rows as f64) as u64).max(own_rows)),
            Some(_) | None => counted,
        };
        let matching = tried.filter(|tried| search.filter.is_some() && !tried.is_untried()).map(|tried| {
            let mut share_of_graphs = 1.0_f64;
            own.retain(|(namespace, rows)| {
                let share = tried.matching(|name| name == namespace.as_str());
                let walked = is_worth_walking(wish, *rows, share);
                share_of_graphs = if walked { share_of_graphs.min(share) } else { share_of_graphs };
                walked
            });
            let indexed_rows = tried.indexed().map(|share| (share * table_rows as f64).ceil());
            Matching { share: tried.matching(asked), share_of_graphs, indexed_rows }
        });
        let size = ShardSize {
            rows,
            table_rows,
            whole_table,
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
