//! The task that measures which ef gives which recall, a little at a time.
//!
//! At each step one stored entry is searched for: exactly, and with each ef of the ladder, in a number of namespaces with graphs that
//! is drawn at random, until every kind of search that the collection can have is known well enough. A step that meets traffic
//! waiting for connections, a shard that gives no answer or is scanned after its walk, or graphs that come and go meanwhile, is given
//! up: the next one starts anew. Nothing is half counted: a step is taken in whole, at its end.

use super::super::Searcher;
use super::super::request::CheckedSearch;
use crate::error::RequestError;
use crate::targets::Target;
use crate::workers::knn::Scope;
use atoll_core::access::{Grant, Touched};
use atoll_core::search::calibration::{MEASURED_K, Tier, ladder};
use atoll_proto::Namespace;
use rand::seq::{IndexedRandom, SliceRandom};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Graphs that a step walks, besides all there are.
const WALKS: [usize; 4] = [1, 3, 8, 20];
/// Kinds of search that a step looks at to find one that is wanted.
const LOOKS: usize = 8;
/// A step's time: scans of everything may take long.
const STEP_WITHIN: Duration = Duration::from_secs(20);

/// The running task; dropping it ends it.
pub struct Calibrator(JoinHandle<()>);

impl Drop for Calibrator {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Calibrator {
    /// Starts it, unless settings say no.
    pub fn start(searcher: Searcher) -> Option<Self> {
        let settings = &searcher.recall.settings.calibration;
        let pause = Duration::from_secs(60) / settings.queries_per_minute.max(1);
        settings.enabled.then(|| Self(tokio::spawn(run(searcher, pause))))
    }
}

async fn run(searcher: Searcher, pause: Duration) {
    loop {
        // Coordinators that were started together measure at different moments.
        sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
        if searcher.workers.have_waiters() {
            continue;
        }
        let Some(step) = searcher.next_step() else { continue };
        if let Err(error) = searcher.calibrate(&step).await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, collection = %step.target.name, "recall not measured; will go on");
        }
    }
}

/// A search to measure.
struct Step {
    target: Target,
    /// Entries are taken of this namespace; of any if none.
    namespace: Option<Namespace>,
    scope: Scope,
    /// Graphs that it walks.
    walks: usize,
    /// Rows behind graphs in the whole collection.
    rows: u64,
}

/// Graphs of a collection.
struct Graphs {
    /// Namespaces with one of their own, and their rows.
    own: Vec<(Namespace, u64)>,
    /// Shards with one over all their rows, and those rows.
    shards: Vec<u64>,
}

impl Searcher {
    fn next_step(&self) -> Option<Step> {
        let view = self.views.borrow().clone();
        let mut collections: Vec<_> = view.catalog.collections.values().collect();
        collections.shuffle(&mut rand::rng());
        collections.into_iter().filter(|collection| collection.settings.dimensions.is_some()).find_map(|collection| {
            let target = Target::find(&self.views, &collection.name, &Grant::everything()).ok()?;
            let graphs = self.graphs_of(&target).ok()?;
            (0..LOOKS).find_map(|_| self.step(&target, &graphs))
        })
    }

    /// A kind of search drawn at random, if it is wanted.
    fn step(&self, target: &Target, graphs: &Graphs) -> Option<Step> {
        let Graphs { own, shards } = graphs;
        let rows = own.iter().map(|(_, rows)| rows).chain(shards).sum();
        let mean = |rows: &[u64]| rows.iter().sum::<u64>() / (rows.len() as u64).max(1);
        let walks = WALKS.iter().copied().filter(|walks| *walks < own.len()).chain([own.len()]);
        let walks = *walks.collect::<Vec<_>>().choose(&mut rand::rng())?;
        let everything = !shards.is_empty() && (own.is_empty() || rand::random_bool(0.5));
        if everything {
            let tier = Tier::of(mean(shards), shards.len() as u32);
            let walks = shards.len();
            let step = || Step { target: target.clone(), namespace: None, scope: Scope::All, walks, rows };
            return self.recall.wants(target, tier, rows).then(step);
        }
        let asked: Vec<&(Namespace, u64)> = own.sample(&mut rand::rng(), walks).collect();
        let (first, _) = asked.first()?;
        let walked: Vec<u64> = asked.iter().map(|(_, rows)| *rows).collect();
        let tier = Tier::of(mean(&walked), walked.len() as u32);
        let namespaces = asked.iter().map(|(namespace, _)| namespace.clone()).collect();
        let step = || Step {
            target: target.clone(),
            namespace: Some(first.clone()),
            scope: Scope::Namespaces(namespaces),
            walks,
            rows,
        };
        self.recall.wants(target, tier, rows).then(step)
    }

    fn graphs_of(&self, target: &Target) -> Result<Graphs, RequestError> {
        let mut graphs = Graphs { own: Vec::new(), shards: Vec::new() };
        for route in target.routes(Touched::All)? {
            let shard = target.table_of(route);
            let (own, shard_graph) = self.facts.graphs(shard, &target.name);
            graphs.own.extend(own);
            graphs.shards.extend(shard_graph.then(|| self.facts.rows(shard, &target.name, None)).flatten());
        }
        Ok(graphs)
    }

    async fn calibrate(&self, step: &Step) -> Result<(), RequestError> {
        let Step { target, namespace, scope, walks, rows } = step;
        let deadline = Instant::now() + STEP_WITHIN;
        let sampled = self.sample(target, namespace.as_ref().map(std::slice::from_ref), 1, deadline).await?;
        let Some(entry) = sampled.into_iter().next() else { return Ok(()) };
        let search = CheckedSearch::for_stored(entry.id, scope.clone(), MEASURED_K as usize);
        let exact = CheckedSearch { exact: true, ..search.clone() };
        let exact = self.probe(target, &exact, &entry.vector, deadline).await?;
        let (mut tier, mut found) = (None, Vec::new());
        for ef in ladder(*walks) {
            if self.workers.have_waiters() {
                return Ok(());
            }
            // No more candidates than hits: ef can be as low as these. One more, because the graph finds the entry itself as well.
            let search = CheckedSearch { ef: Some(ef + 1), overfetch: 1.0, ..search.clone() };
            let probe = self.probe(target, &search, &entry.vector, deadline).await?;
            let Some(walked) = probe.walked.filter(|_| !probe.fell_back) else { return Ok(()) };
            if *tier.get_or_insert(walked) != walked {
                return Ok(());
            }
            found.push((ef, probe.found_of(&exact), probe.ms));
        }
        if let Some(tier) = tier {
            self.recall.measured(target, tier, &found, exact.ids.len() as u32, *rows);
        }
        Ok(())
    }
}
