//! One import's word to the agents: [`atoll_proto::load`] is the protocol, [`atoll_core::loads`] decides which namespaces it is about.
//!
//! The import itself never depends on it: an agent that does not answer makes it slow, and nothing else. Only a shard's next
//! batches wait after a load began there: the drop of the graph waits for batches under way, and row by row these take seconds.
//! Others that began meanwhile would make it wait for them in turn.

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

/// Longest that a shard's batches wait for its graphs to go. Something else keeps them then, such as an export.
const HOLD: Duration = Duration::from_secs(30);

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
    held: watch::Sender<Held>,
}

/// Shards whose batches wait for graphs to go.
#[derive(Debug, Default)]
struct Held {
    /// Those where a load began, and when, whose graphs may be there still.
    since: BTreeMap<ShardId, Instant>,
    /// Those where waiting was in vain. What kept the graphs then keeps them longer: these wait no more.
    in_vain: BTreeSet<ShardId>,
}

impl Held {
    /// A load began in the shard.
    fn begin(&mut self, shard: ShardId, now: Instant) {
        if !self.in_vain.contains(&shard) {
            self.since.insert(shard, now);
        }
    }

    /// Agents that were told of what had begun by `told_at` have graphs to drop yet in the shards of `waiting`.
    fn heard(&mut self, told_at: Instant, waiting: &BTreeSet<ShardId>, now: Instant) {
        let in_vain = &mut self.in_vain;
        self.since.retain(|shard, begun| {
            let is_late = waiting.contains(shard) && now >= *begun + HOLD;
            if is_late {
                in_vain.insert(*shard);
            }
            *begun > told_at || (waiting.contains(shard) && !is_late)
        });
    }
}

impl Loading {
    /// Begins; none for a collection whose namespaces have no graphs, or have copies.
    pub(super) fn begin(agents: &LoadAgents, views: &Views, target: &Target) -> Option<Self> {
        let settings = &target.collection.settings;
        if settings.dimensions.is_none() || settings.distribution != Distribution::Hash {
            return None;
        }
        let (collection, loads) = (target.name.clone(), Mutex::default());
        let shared = Arc::new(Shared { collection, loads, held: watch::Sender::default() });
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

    /// Waits, if a load began in the shard and its graphs are on their way out.
    pub(super) async fn may_go_on(&self, shard: ShardId) {
        let mut held = self.shared.held.subscribe();
        // In vain is as good: then the rows are inserted one by one.
        let _ = timeout(HOLD + ANSWER_WITHIN, held.wait_for(|held| !held.since.contains_key(&shard))).await;
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
            self.shared.held.send_modify(|held| held.begin(shard, Instant::now()));
            self.news.send_modify(|news| *news += 1);
        }
    }
}

/// Tells every agent concerned, again and again, until the import ends.
async fn keep_telling(client: AgentClient, views: Views, shared: Arc<Shared>, mut news: watch::Receiver<u64>) {
    let import = format!("{:032x}", rand::random::<u128>());
    loop {
        // An agent takes its time to answer as long as graphs are there: then it is asked again at once.
        let pause = if shared.held.borrow().since.is_empty() { RENEW_EVERY } else { Duration::ZERO };
        let ended = timeout(pause, news.changed()).await.is_ok_and(|changed| changed.is_err());
        let told_at = Instant::now();
        let told = shared.by_agent(&views, ended).into_iter().map(async |(agent_url, tables)| {
            let shards: Vec<ShardId> = tables.iter().map(|table| table.shard).collect();
            let report = LoadReport { import: import.clone(), ended, tables };
            (shards, tell(&client, agent_url, report).await)
        });
        let answers = join_all(told).await;
        let waiting = answers.into_iter().filter(|(_, graphs_left)| *graphs_left > 0).flat_map(|(shards, _)| shards);
        let waiting: BTreeSet<ShardId> = waiting.collect();
        shared.held.send_modify(|held| held.heard(told_at, &waiting, Instant::now()));
        if ended {
            return;
        }
    }
}

/// Graphs that are still there; none if the agent does not hear of the load, for then there is nothing to wait for.
async fn tell(client: &AgentClient, agent_url: String, report: LoadReport) -> u32 {
    match client.put_load(&agent_url, &report, Instant::now() + ANSWER_WITHIN).await {
        Ok(LoadHeard { graphs_left }) => graphs_left,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(agent_url, error, "the agent does not hear of the load");
            0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_held_until_its_graphs_are_gone_or_once_in_vain() {
        let (begun, shard, mut held) = (Instant::now(), ShardId(3), Held::default());
        let (second, waiting, none) = (Duration::from_secs(1), BTreeSet::from([shard]), BTreeSet::new());
        held.begin(shard, begun);
        held.heard(begun - second, &none, begun);
        assert!(held.since.contains_key(&shard), "nobody was told yet");
        held.heard(begun + second, &waiting, begun + second);
        assert!(held.since.contains_key(&shard));
        held.heard(begun + second, &none, begun + second);
        assert!(held.since.is_empty(), "they are gone");

        held.begin(shard, begun);
        held.heard(begun, &waiting, begun + HOLD);
        assert!(held.since.is_empty());
        held.begin(shard, begun + HOLD);
        assert!(held.since.is_empty(), "another load of the same import does not wait again");
        held.begin(ShardId(4), begun + HOLD);
        assert!(held.since.contains_key(&ShardId(4)));
    }
}
