//! One import's word to the agents: [`atoll_proto::load`] is the protocol, [`atoll_core::loads`] decides which namespaces it is about.
//!
//! The import itself never depends on it: an agent that does not answer makes it slow, and nothing else. Only a shard's next
//! batches wait a moment after a load began there, so that the drop of the graph need not wait for them in turn.

use crate::agents::{AgentBoard, AgentClient};
use crate::targets::{Target, Views};
use crate::workers::write::WriteRow;
use atoll_core::loads::Loads;
use atoll_proto::load::{DROP_PATIENCE, LoadHeard, LoadReport, LoadedTable, RENEW_EVERY};
use atoll_proto::{CollectionName, Distribution, Namespace, ShardId};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Beyond an agent's own patience: for the way there and back.
const ANSWER_WITHIN: Duration = Duration::from_secs(1).saturating_add(DROP_PATIENCE);

/// The agents, as imports need them.
#[derive(Clone)]
pub struct LoadAgents {
    client: AgentClient,
    board: AgentBoard,
}

impl LoadAgents {
    /// Tells through `client`; knows from `board` how large namespaces are.
    pub fn new(client: AgentClient, board: AgentBoard) -> Self {
        Self { client, board }
    }
}

/// An import, as far as agents hear of it. When it is dropped they hear that it has ended.
pub(super) struct Loading {
    shared: Arc<Shared>,
    board: AgentBoard,
    /// Counts what there is to tell; its end is the import's.
    news: watch::Sender<u64>,
    telling: JoinHandle<()>,
}

struct Shared {
    collection: CollectionName,
    loads: Mutex<Loads>,
    /// Shards where a load began that their agent has not heard of.
    unheard: watch::Sender<BTreeSet<ShardId>>,
}

impl Loading {
    /// Begins; none for a collection whose namespaces have no graphs, or have copies.
    pub(super) fn begin(agents: &LoadAgents, views: &Views, target: &Target) -> Option<Self> {
        let settings = &target.collection.settings;
        if settings.dimensions.is_none() || settings.distribution != Distribution::Hash {
            return None;
        }
        let (collection, loads) = (target.name.clone(), Mutex::default());
        let shared = Arc::new(Shared { collection, loads, unheard: watch::Sender::default() });
        let (news, told) = watch::channel(0);
        let telling = tokio::spawn(keep_telling(agents.client.clone(), views.clone(), shared.clone(), told));
        Some(Self { shared, board: agents.board.clone(), news, telling })
    }

    /// Ends, and waits until the agents have heard of it: who asks for the graphs afterwards is told of those that are to be built.
    pub(super) async fn end(self) {
        let Self { news, telling, .. } = self;
        drop(news);
        // One that does not answer finds out by itself.
        let _ = timeout(ANSWER_WITHIN, telling).await;
    }

    /// Waits a moment, if a load has just begun in the shard.
    pub(super) async fn heard(&self, shard: ShardId) {
        let mut unheard = self.shared.unheard.subscribe();
        // In vain is as good: then the rows are inserted one by one.
        let _ = timeout(ANSWER_WITHIN, unheard.wait_for(|unheard| !unheard.contains(&shard))).await;
    }

    /// A batch was committed, and so many of its rows changed what was stored.
    pub(super) fn committed(&self, shard: ShardId, rows: &[WriteRow], changed: u64) {
        let of_namespace = |name: &str| {
            let namespace = Namespace::parse(name).ok();
            namespace.and_then(|namespace| self.board.rows_of(Some(shard), &self.shared.collection, &[namespace]))
        };
        let namespaces = rows.iter().map(|row| row.namespace.as_str());
        let mut loads = self.shared.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if loads.committed(shard, namespaces, changed, |name| of_namespace(name).unwrap_or(0)) {
            self.shared.unheard.send_modify(|unheard| _ = unheard.insert(shard));
            self.news.send_modify(|news| *news += 1);
        }
    }
}

/// Tells every agent concerned, again and again, until the import ends.
async fn keep_telling(client: AgentClient, views: Views, shared: Arc<Shared>, mut news: watch::Receiver<u64>) {
    let import = format!("{:032x}", rand::random::<u128>());
    loop {
        let ended = match timeout(RENEW_EVERY, news.changed()).await {
            Ok(changed) => changed.is_err(),
            Err(_) => false,
        };
        let heard = shared.unheard.borrow().clone();
        let told = shared.by_agent(&views, ended).into_iter().map(|(agent_url, tables)| {
            let report = LoadReport { import: import.clone(), ended, tables };
            tell(&client, agent_url, report)
        });
        join_all(told).await;
        shared.unheard.send_modify(|unheard| unheard.retain(|shard| !heard.contains(shard)));
        if ended {
            return;
        }
    }
}

async fn tell(client: &AgentClient, agent_url: String, report: LoadReport) {
    match client.put_load(&agent_url, &report, Instant::now() + ANSWER_WITHIN).await {
        Ok(LoadHeard { graphs_left: 0 }) => {}
        Ok(LoadHeard { graphs_left }) => {
            tracing::debug!(agent_url, graphs_left, "graphs are still there, rows are inserted one by one");
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(agent_url, error, "the agent does not hear of the load");
        }
    }
}

impl Shared {
    /// What each agent is to hear, by its base URL.
    fn by_agent(&self, views: &Views, ended: bool) -> Vec<(String, Vec<LoadedTable>)> {
        let view = views.borrow().clone();
        let loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shards: BTreeMap<_, BTreeSet<ShardId>> = BTreeMap::new();
        for route in loads.shards().filter_map(|shard| view.shard(shard)) {
            shards.entry(route.primary.worker).or_default().insert(route.shard);
        }
        let told = shards.into_iter().filter_map(|(worker, shards)| {
            let tables = match ended {
                true => loads.ended(&self.collection, &shards),
                false => loads.loading(&self.collection, &shards),
            };
            let worker = view.catalog.workers.get(&worker)?;
            (!tables.is_empty()).then(|| (worker.agent_url.clone(), tables))
        });
        told.collect()
    }
}
