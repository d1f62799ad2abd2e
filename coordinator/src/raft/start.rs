//! Starting: open the data directory, find out who this coordinator is, start Raft.
//!
//! The first coordinator makes the cluster; every other asks one that is there for an id, writes it down, and only then
//! starts Raft. The order on disk is log file, identity, Raft: whoever has an identity has had a log, so an identity
//! without its log means that a vote may have been forgotten, and such a coordinator must not vote again.

use super::contacts::{Alive, Contacts};
use super::identity::{Identity, IdentityError};
use super::log_store::{LogStore, OpenLogError};
use super::network::RaftHttp;
use super::node::{CatalogNode, Shared};
use super::propose::ProposeError;
use super::snapshot_file::ReadSnapshotError;
use super::state_machine::StateMachine;
use super::types::{Raft, RaftMember, RaftMetrics};
use crate::internal_client::InternalClient;
use crate::telemetry::chain;
use atoll_core::catalog::{Command, Outcome, Refusal};
use atoll_proto::CoordinatorId;
use atoll_proto::join::{JOIN_PATH, JoinCluster, JoinReady, Joined, READY_PATH};
use atoll_trust::{ClusterSecret, Kept, PeerTls};
use openraft::error::{InitializeError, RaftError};
use openraft::{Config, ServerState, SnapshotPolicy};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Between two attempts to join.
const JOIN_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// For one answer of a coordinator that is asked to let this one join. Becoming a member waits until the catalog is there.
const JOIN_ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// For the first entry of a new cluster, which needs nobody else.
const INIT_WITHIN: Duration = Duration::from_secs(30);

/// Who this coordinator is, and where its data lies.
#[derive(Debug, Clone)]
pub struct RaftSettings {
    /// Its data; locked while it runs.
    pub data_dir: PathBuf,
    /// What to do on an empty data directory.
    pub first_start: FirstStart,
    /// What coordinators know each other by.
    pub secret: ClusterSecret,
    /// What coordinators and agents show each other; none where nothing is encrypted.
    pub tls: Option<Kept<PeerTls>>,
    /// Base URL for clients, as others reach it.
    pub http: String,
    /// Base URL for coordinators and agents, as others reach it.
    pub internal: String,
}

/// What to do on an empty data directory. Ignored when there is an identity already.
#[derive(Debug, Clone)]
pub enum FirstStart {
    /// Make a new cluster. Exactly one coordinator of a cluster is told so.
    Bootstrap {
        /// Slots of the ring.
        shard_count: u32,
        /// Groups to wait for before the first placement.
        initial_groups: u32,
        /// Workers that a group has.
        replicas: u32,
    },
    /// Join the cluster that one of these belongs to (internal base URLs).
    Join(Vec<String>),
}

/// Why a coordinator can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can't be made.
    #[error("the data directory {} can't be used", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It may have voted and would not remember.
    #[error(
        "{} names coordinator {id}, but its raft log is gone; it must not vote again: remove coordinator {id} from the \
         cluster, empty the directory and let it join as a new one, by cluster.join (never by cluster.bootstrap: that \
         makes another cluster)", path.display()
    )]
    LogMissing {
        /// The directory.
        path: PathBuf,
        /// Who it was.
        id: CoordinatorId,
    },
    /// There is a log or a snapshot, and nothing says whose.
    #[error(
        "{} holds a raft log or a snapshot but no identity; remove its coordinator from the cluster, empty the directory and let it join \
         as a new one, by cluster.join (never by cluster.bootstrap: that makes another cluster)", path.display()
    )]
    IdentityMissing {
        /// The directory.
        path: PathBuf,
    },
    /// The log goes on from a snapshot that is not there.
    #[error(
        "{} has lost its snapshot, which the raft log builds on; remove coordinator {id} from the cluster, empty the \
         directory and let it join as a new one, by cluster.join (never by cluster.bootstrap: that makes another cluster)", path.display()
    )]
    SnapshotMissing {
        /// The directory.
        path: PathBuf,
        /// Who it was.
        id: CoordinatorId,
    },
    /// The identity can't be read or written.
    #[error("the identity of this coordinator can't be had")]
    Identity(#[from] IdentityError),
    /// The log can't be opened.
    #[error("the raft log can't be had")]
    Log(#[from] OpenLogError),
    /// The snapshot can't be read.
    #[error("the catalog's snapshot can't be had")]
    Snapshot(#[from] ReadSnapshotError),
    /// Raft does not start.
    #[error("raft did not start: {reason}")]
    Raft {
        /// Why not.
        reason: String,
    },
    /// The first entry of a new cluster did not go through.
    #[error("the new cluster could not be initialised")]
    Init(#[source] ProposeError),
}

impl CatalogNode {
    /// Starts this coordinator. On a first start that joins, waits for a coordinator that lets it in, without end. The
    /// view of an earlier run is there when this returns, whether or not anybody else is.
    ///
    /// The internal listener must be served soon after, for only then can the others reach this one. Cancelled before it
    /// returns, nothing is lost: the next start goes on from what is on disk.
    pub async fn start(settings: RaftSettings) -> Result<Self, StartError> {
        let RaftSettings { data_dir, first_start, secret, tls, http, internal } = settings;
        std::fs::create_dir_all(&data_dir).map_err(|source| StartError::DataDir { path: data_dir.clone(), source })?;
        let identity_path = data_dir.join("identity.json");
        let log_path = data_dir.join("raft.redb");
        let known = Identity::read(&identity_path)?;
        if let Some(identity) = &known
            && !log_path.exists()
        {
            return Err(StartError::LogMissing { path: data_dir, id: identity.id });
        }
        let (log, log_writer) = LogStore::open(&log_path)?;
        let (state_machine, applied) = StateMachine::open(data_dir.join("catalog.json"))?;

        let client = InternalClient::new(&secret, tls);
        let here = RaftMember { http, internal };
        let identity = match known {
            // A snapshot without as much as a vote: the log file is another one than the one that belongs to it.
            Some(identity) if log.is_pristine() && state_machine.last_applied().is_some() => {
                return Err(StartError::LogMissing { path: data_dir, id: identity.id });
            }
            Some(identity) if log.purged() > state_machine.last_applied() => {
                return Err(StartError::SnapshotMissing { path: data_dir, id: identity.id });
            }
            Some(identity) => identity,
            None if !log.is_pristine() || state_machine.last_applied().is_some() => {
                return Err(StartError::IdentityMissing { path: data_dir });
            }
            None => {
                let identity = new_identity(&first_start, &client, &here).await;
                identity.write(&identity_path)?;
                identity
            }
        };
        tracing::info!(id = %identity.id, cluster_id = identity.cluster_id, "starting raft");

        let id = identity.id;
        let cluster_id: Arc<str> = identity.cluster_id.into();
        let network = RaftHttp { client: client.clone(), cluster_id: cluster_id.clone() };
        let raft = Raft::new(id.0, Arc::new(raft_config(id)), network, log, state_machine)
            .await
            .map_err(|error| StartError::Raft { reason: error.to_string() })?;

        let mut tasks = JoinSet::new();
        let (leads, leadership) = watch::channel(false);
        tasks.spawn(follow_leadership(raft.metrics(), leads));
        let contacts = Contacts::default();
        let this = Alive { cluster_id: cluster_id.to_string(), id };
        tasks.spawn(contacts.clone().keep_asking(this, client.clone(), applied.view.clone()));
        if let FirstStart::Join(others) = &first_start {
            tasks.spawn(become_member(id, others.clone(), client.clone(), raft.metrics()));
        }
        let node = Self::new(Shared {
            id,
            cluster_id,
            raft,
            applied,
            client,
            leadership,
            contacts,
            caught_up: AtomicBool::new(false),
            membership_change: tokio::sync::Mutex::new(()),
            tasks: Mutex::new(tasks),
            log_writer: Mutex::new(Some(log_writer)),
        });
        node.warn_if_moved(&here);
        if let FirstStart::Bootstrap { shard_count, initial_groups, replicas } = first_start
            && id == FIRST_ID
        {
            let command = Command::InitCluster {
                cluster_id: node.cluster_id().to_owned(),
                shard_count,
                initial_groups,
                replicas,
                coordinator: id,
                http: here.http.clone(),
                internal: here.internal.clone(),
            };
            node.init_cluster(here, command).await?;
        }
        Ok(node)
    }

    /// The others know this coordinator by the addresses it joined with.
    fn warn_if_moved(&self, here: &RaftMember) {
        let view = self.view();
        let Some(known) = view.catalog.coordinators.get(&self.id()) else { return };
        if place(&known.internal) != place(&here.internal) || place(&known.http) != place(&here.http) {
            tracing::warn!(
                known_internal = known.internal,
                internal = here.internal,
                known_http = known.http,
                http = here.http,
                "the configured addresses are not those that the other coordinators know; to change them, remove this \
                 coordinator and let it join again with an empty data directory"
            );
        }
    }

    /// Makes this coordinator the only voter of a new cluster; goes on where an earlier start was interrupted.
    async fn init_cluster(&self, here: RaftMember, command: Command) -> Result<(), StartError> {
        let raft_failed = |reason: String| StartError::Raft { reason };
        let initialised = self.raft().is_initialized().await.map_err(|error| raft_failed(error.to_string()))?;
        if !initialised {
            let members = BTreeMap::from([(self.id().0, here)]);
            match self.raft().initialize(members).await {
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(error) => return Err(raft_failed(error.to_string())),
            }
        }
        if self.view().catalog.cluster.is_some() {
            return Ok(());
        }
        // Nobody can have joined a cluster that has no first entry yet, so this waits for nobody else.
        let proposed = self.propose(command, Instant::now() + INIT_WITHIN).await.map_err(StartError::Init)?;
        if let Outcome::Refused(Refusal::AlreadyInitialised { cluster_id }) = &proposed.outcome {
            tracing::info!(cluster_id, "the cluster was initialised by an earlier start");
        }
        Ok(())
    }
}

/// The coordinator that makes the cluster.
const FIRST_ID: CoordinatorId = CoordinatorId(1);

async fn new_identity(first_start: &FirstStart, client: &InternalClient, here: &RaftMember) -> Identity {
    match first_start {
        FirstStart::Bootstrap { .. } => {
            let cluster_id = format!("{:032x}", rand::random::<u128>());
            tracing::info!(cluster_id, "making a new cluster");
            Identity::new(cluster_id, FIRST_ID)
        }
        FirstStart::Join(others) => {
            let asked = JoinCluster { http: here.http.clone(), internal: here.internal.clone() };
            let joined: Joined = ask_in_turn(client, others, JOIN_PATH, &asked).await;
            Identity::new(joined.cluster_id, joined.id)
        }
    }
}

/// Says `ready` once at each start, unless this coordinator votes already: an earlier start may have been interrupted between
/// learning and voting, and there may be room for a voter now. Repeated until this coordinator finds itself a member: each
/// answer may be lost, and asking again does no harm.
async fn become_member(
    id: CoordinatorId,
    others: Vec<String>,
    client: InternalClient,
    metrics: watch::Receiver<RaftMetrics>,
) {
    if metrics.borrow().membership_config.membership().voter_ids().any(|voter| voter == id.0) {
        return;
    }
    loop {
        let () = ask_in_turn(&client, &others, READY_PATH, &JoinReady { id }).await;
        if metrics.borrow().membership_config.membership().get_node(&id.0).is_some() {
            return;
        }
        sleep(JOIN_AGAIN_AFTER).await;
    }
}

/// Asks each of the others until one gives what is asked for. Says why not, once for each new reason.
async fn ask_in_turn<T: serde::de::DeserializeOwned>(
    client: &InternalClient,
    others: &[String],
    path: &str,
    body: &impl serde::Serialize,
) -> T {
    let mut said = String::new();
    loop {
        for other in others {
            let error = match client.post(other, path, body, Instant::now() + JOIN_ANSWER_WITHIN).await {
                Ok(answer) => return answer,
                Err(error) => error,
            };
            let reason = chain(&error);
            if said != reason {
                tracing::warn!(error = reason, "can't join yet");
                said = reason;
            }
        }
        sleep(JOIN_AGAIN_AFTER).await;
    }
}

async fn follow_leadership(mut metrics: watch::Receiver<RaftMetrics>, leads: watch::Sender<bool>) {
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            // One that led when it was killed starts as the leader of its old term, by its own word alone. It leads once a
            // majority has answered: until then its view may be old, and others may have a leader.
            let heard = metrics.millis_since_quorum_ack.is_some();
            metrics.state == ServerState::Leader && heard && metrics.running_state.is_ok()
        };
        leads.send_if_modified(|before| std::mem::replace(before, now) != now);
        if metrics.changed().await.is_err() {
            leads.send_replace(false);
            return;
        }
    }
}

/// Where a URL leads, however it is spoken there: the certificates of a cluster may come after its catalog.
fn place(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, place)| place)
}

/// Timings for machines that are loaded and disks that sync: failover takes one to two seconds.
fn raft_config(id: CoordinatorId) -> Config {
    // Most ids wait differently long, so that two survivors campaign at once less often.
    let patience_ms = 100 * (id.0.saturating_sub(FIRST_ID.0) % 5);
    Config {
        cluster_name: "atoll".to_owned(),
        heartbeat_interval: 150,
        election_timeout_min: 600 + patience_ms,
        election_timeout_max: 900 + patience_ms,
        install_snapshot_timeout: 10_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(1_000),
        max_in_snapshot_log_to_keep: 1_000,
        ..Config::default()
    }
}
