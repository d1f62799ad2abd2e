//! What every agent said last. Each coordinator asks each agent every second by itself, so that nothing a request needs
//! depends on another coordinator. Readers take the board of the last round; nobody waits for an agent.

use super::client::AgentClient;
use crate::freshness::Freshness;
use crate::internal_client::CallError;
use atoll_core::catalog::Group;
use atoll_core::failover::{Lately, serves};
use atoll_core::freshness::Position;
use atoll_core::routing::RoutingTable;
use atoll_proto::agent::{AgentStatus, LARGE_NAMESPACE_ROWS, TableStats};
use atoll_proto::group::{GroupRecord, Lag, Phase};
use atoll_proto::{CollectionName, GroupId, Namespace, ShardId, WorkerId};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

const ROUND_EVERY: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_millis(900);

/// An answer may be lost, and a machine be busy, for a few rounds.
const LATELY: Duration = Duration::from_secs(5);

/// An agent that has not seen its server for so long does not know how it stands, in milliseconds.
const SEEN_MS_MAX: u64 = 2_500;

/// What one agent said last.
#[derive(Debug, Clone)]
pub struct AgentRecord {
    /// Its last answer; none yet if it never gave one.
    pub status: Option<Arc<AgentStatus>>,
    /// When it gave that answer.
    pub answered_at: Option<Instant>,
    /// Why it gave none in the last round; none if it did.
    pub error: Option<Arc<CallError>>,
}

/// The board; a clone is the same board. Asking stops when the last clone is dropped.
#[derive(Clone)]
pub struct AgentBoard {
    last: Arc<RwLock<Arc<Round>>>,
    _asking: Arc<Asking>,
}

/// Everything known after a round.
#[derive(Debug, Default)]
struct Round {
    agents: BTreeMap<WorkerId, AgentRecord>,
    /// Tables of shards by the shard's primary; of reference collections (no shard) by any primary.
    tables: BTreeMap<(Option<ShardId>, CollectionName), TableStats>,
}

struct Asking(JoinHandle<()>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const UNPOISONED: &str = "no holder of this lock panics: it is held for a swap or a clone only";

impl AgentBoard {
    /// Starts asking the workers of the view, as it changes. What they say of their positions goes to `freshness`.
    pub fn start(client: AgentClient, view: watch::Receiver<Arc<RoutingTable>>, freshness: Freshness) -> Self {
        let last = Arc::new(RwLock::new(Arc::new(Round::default())));
        let asking = tokio::spawn(keep_asking(client, view, last.clone(), freshness));
        Self { last, _asking: Arc::new(Asking(asking)) }
    }

    /// What a worker's agent said last; none before it was asked for the first time.
    pub fn record(&self, worker: WorkerId) -> Option<AgentRecord> {
        self.round().agents.get(&worker).cloned()
    }

    /// A worker's last status, however old.
    pub fn status(&self, worker: WorkerId) -> Option<Arc<AgentStatus>> {
        self.record(worker)?.status
    }

    /// Whether agent and PostgreSQL answered in the last round.
    pub fn is_up(&self, worker: WorkerId) -> bool {
        let Some(record) = self.record(worker) else { return false };
        record.error.is_none() && record.status.is_some_and(|status| status.postgres_up)
    }

    /// Whether agent and PostgreSQL answered in one of the last rounds, and have not said otherwise since.
    pub fn was_up_lately(&self, worker: WorkerId) -> bool {
        let Some(AgentRecord { status: Some(status), answered_at: Some(at), .. }) = self.record(worker) else {
            return false;
        };
        status.postgres_up && at.elapsed() <= LATELY
    }

    /// How these members of a group stand, of those whose agents answered in the last round and have just seen their servers.
    pub fn lately<'a>(&self, members: impl IntoIterator<Item = &'a WorkerId>) -> Lately {
        let seen = |member: &WorkerId| {
            let record = self.record(*member).filter(|record| record.error.is_none())?;
            let seen = record.status?.member.clone()?;
            (seen.report.age_ms < SEEN_MS_MAX).then_some((*member, seen))
        };
        members.into_iter().filter_map(seen).collect()
    }

    /// Whether a group has a primary that serves, as far as its agent said in the last round.
    pub fn has_primary(&self, record: &GroupRecord) -> bool {
        let primary = record.primary.worker;
        let says_so = self.lately([&primary]).values().any(|seen| serves(record, &seen.report));
        record.phase == Phase::Steady && says_so && self.is_up(primary)
    }

    /// Whether a member of a group is up with the data that is counted on: a new agent in a lost one's place may not have been let in yet.
    pub fn is_up_in_sync(&self, record: &GroupRecord, member: WorkerId) -> bool {
        let seen = self.lately([&member]);
        self.is_up(member) && seen.values().any(|seen| record.voters.contains(&seen.report.disk))
    }

    /// How far the standbys of a primary lie behind, as far as its agent says so.
    pub fn lags(&self, primary: WorkerId) -> BTreeMap<WorkerId, Lag> {
        self.lately([&primary]).into_values().next().map(|seen| seen.lags).unwrap_or_default()
    }

    /// How long ago a worker's agent answered; none if it never did.
    pub fn heard_seconds_ago(&self, worker: WorkerId) -> Option<u64> {
        Some(self.record(worker)?.answered_at?.elapsed().as_secs())
    }

    /// How long ago a worker's agent counted rows; none if it never did.
    pub fn counted_seconds_ago(&self, worker: WorkerId) -> Option<u64> {
        let record = self.record(worker)?;
        Some(record.status?.stats_age_seconds? + record.answered_at?.elapsed().as_secs())
    }

    /// Size of a collection's table in a shard, or of a reference collection (no shard).
    pub fn table(&self, shard: Option<ShardId>, collection: &CollectionName) -> Option<TableStats> {
        self.round().tables.get(&(shard, collection.clone())).cloned()
    }

    /// Rows and bytes of a collection's table in a shard, or of a reference collection (no shard).
    pub fn size(&self, shard: Option<ShardId>, collection: &CollectionName) -> Option<(u64, u64)> {
        self.round().tables.get(&(shard, collection.clone())).map(|table| (table.rows, table.bytes))
    }

    /// Rows of a collection's table in a shard, or of a reference collection (no shard).
    pub fn rows(&self, shard: Option<ShardId>, collection: &CollectionName) -> Option<u64> {
        self.round().tables.get(&(shard, collection.clone())).map(|table| table.rows)
    }

    /// At least as many rows as these namespaces have together: of the large ones what was counted, of the small ones together no
    /// more than the large ones leave of the table.
    pub fn rows_of(
        &self,
        shard: Option<ShardId>,
        collection: &CollectionName,
        namespaces: &[Namespace],
    ) -> Option<u64> {
        let round = self.round();
        let table = round.tables.get(&(shard, collection.clone()))?;
        let asked: BTreeSet<&str> = namespaces.iter().map(Namespace::as_str).collect();
        let (mut rows, mut small, mut left) = (0, asked.len() as u64, table.rows);
        for large in table.large_namespaces.iter().filter(|large| large.rows >= LARGE_NAMESPACE_ROWS) {
            left = left.saturating_sub(large.rows);
            if asked.contains(large.namespace.as_str()) {
                rows += large.rows;
                small -= 1;
            }
        }
        Some(rows + left.min(small * LARGE_NAMESPACE_ROWS))
    }

    /// Namespaces of a table with a graph of their own that a search may walk, with their rows, and whether there is a graph over
    /// the whole table.
    pub fn graphs(&self, shard: Option<ShardId>, collection: &CollectionName) -> (Vec<(Namespace, u64)>, bool) {
        let round = self.round();
        let Some(table) = round.tables.get(&(shard, collection.clone())) else { return (Vec::new(), false) };
        let rows = |namespace: &str| {
            let large = table.large_namespaces.iter().find(|large| large.namespace == namespace);
            large.map_or(LARGE_NAMESPACE_ROWS, |large| large.rows)
        };
        let graphs = table.graphs.iter().filter_map(|name| Some((Namespace::parse(name).ok()?, rows(name))));
        (graphs.collect(), table.shard_graph)
    }

    fn round(&self) -> Arc<Round> {
        self.last.read().expect(UNPOISONED).clone()
    }
}

async fn keep_asking(
    client: AgentClient,
    mut view: watch::Receiver<Arc<RoutingTable>>,
    last: Arc<RwLock<Arc<Round>>>,
    freshness: Freshness,
) {
    let mut rounds = interval(ROUND_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        // The state machine holds the sender: without it there will be no new view, and the coordinator is going down.
        if view.has_changed().is_err() {
            return;
        }
        let current = view.borrow_and_update().clone();
        let before = last.read().expect(UNPOISONED).clone();
        let agents = ask_all(&client, &current, &before).await;
        for (group, position) in positions(&agents, &current) {
            freshness.learn(group, position);
        }
        let round = Round::new(agents, &current);
        *last.write().expect(UNPOISONED) = Arc::new(round);
    }
}

async fn ask_all(client: &AgentClient, view: &RoutingTable, before: &Round) -> BTreeMap<WorkerId, AgentRecord> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    let questions = view.catalog.workers.iter().map(async |(id, worker)| {
        let answer = client.status(&worker.agent_url, deadline).await;
        (*id, worker.name.to_string(), answer)
    });
    let mut answers: FuturesUnordered<_> = questions.collect();
    let mut agents = BTreeMap::new();
    while let Some((id, name, answer)) = answers.next().await {
        let known = before.agents.get(&id);
        let record = match answer {
            Ok(status) => {
                if known.is_some_and(|known| known.error.is_some()) {
                    tracing::info!(worker = name, "the agent answers again");
                }
                AgentRecord { status: Some(status.into()), answered_at: Some(Instant::now()), error: None }
            }
            Err(error) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                match known {
                    // Started together with its agent, a coordinator is often the quicker one.
                    None => tracing::info!(worker = name, %error, reason, "the agent does not answer yet"),
                    Some(known) if known.error.is_none() => {
                        tracing::warn!(worker = name, %error, reason, "the agent does not answer");
                    }
                    Some(_) => {}
                }
                AgentRecord {
                    status: known.and_then(|known| known.status.clone()),
                    answered_at: known.and_then(|known| known.answered_at),
                    error: Some(error.into()),
                }
            }
        };
        agents.insert(id, record);
    }
    agents
}

/// What primaries said in this round of their positions. They are of the generation that was known before they were asked.
fn positions(agents: &BTreeMap<WorkerId, AgentRecord>, view: &RoutingTable) -> Vec<(GroupId, Position)> {
    let position = |(id, group): (&GroupId, &Group)| {
        let record = agents.get(&group.primary).filter(|record| record.error.is_none())?;
        let lsn = record.status.as_ref()?.settled?;
        Some((*id, Position { generation: group.generation, lsn }))
    };
    view.catalog.groups.iter().filter_map(position).collect()
}

impl Round {
    fn new(agents: BTreeMap<WorkerId, AgentRecord>, view: &RoutingTable) -> Self {
        let mut round = Self { agents, ..Self::default() };
        for group in view.catalog.groups.values() {
            let Some(status) = round.agents.get(&group.primary).and_then(|record| record.status.clone()) else {
                continue;
            };
            for table in &status.tables {
                // Tables of a shard that has moved away, or has not arrived, would be counted twice.
                let owned = table
                    .shard
                    .is_none_or(|shard| view.shard(shard).is_some_and(|route| route.primary.worker == group.primary));
                if owned {
                    round.tables.insert((table.shard, table.collection.clone()), table.clone());
                }
            }
        }
        round
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
