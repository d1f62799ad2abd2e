//! One coordinator, from its configuration to its end: the only place that knows all parts.

use crate::agents::{AgentBoard, AgentClient};
use crate::config::{Cluster, Config, ConfigError};
use crate::credentials::Credentials;
use crate::failover::Gaps;
use crate::findings::Findings;
use crate::freshness::Freshness;
use crate::http::{self, App, Bodies, Door, Parts, Patience};
use crate::next_primary::NextPrimary;
use crate::raft::{CatalogNode, FirstStart, RaftSettings, StartError};
use crate::read::{CursorKey, Reader};
use crate::rebalance::{PlanRunner, Rebalancer, Scheduler};
use crate::search::{AnswerCache, Calibrator, Recall, Searcher, TableFacts};
use crate::settle::Settler;
use crate::telemetry::Metrics;
use crate::workers::Workers;
use crate::write::{self, LoadAgents, Writer};
use crate::{failover, moves};
use atoll_core::search::warnings::TableKnown;
use atoll_proto::{CollectionName, Namespace, ShardId, WorkerId};
use atoll_trust::{Loudness, ServerConfig, TlsListener};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long an address may be taken by a predecessor.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(5);

/// For one try to catch up with the catalog, and between two.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(5);
const CATCH_UP_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Why a coordinator ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its configuration.
    #[error("the configuration is not usable")]
    Config(#[from] ConfigError),
    /// An address is taken or not ours.
    #[error("can't listen on {address}; is another process there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The catalog.
    #[error("the catalog could not be started")]
    Catalog(#[from] StartError),
    /// Nothing could tell it to stop.
    #[error("signals can't be listened to")]
    Signals(#[source] std::io::Error),
    /// Raft met what it can't go on from.
    #[error("the catalog stopped: {0}")]
    Stopped(String),
}

/// How a coordinator is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Stop when standard input ends: whoever started the coordinator holds the other end.
    pub stop_on_stdin_eof: bool,
}

/// Runs a coordinator until it is told to stop: by SIGTERM, SIGINT, or the end of standard input if `options` say so.
pub async fn run(file: &Path, options: Options) -> Result<(), ServeError> {
    let config = Config::load(file)?;
    crate::telemetry::start_logging();
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
            () = stdin_ended(), if options.stop_on_stdin_eof => tracing::info!("standard input ended"),
        }
    };
    serve(config, stop).await
}

async fn stdin_ended() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0_u8; 256];
    while let Ok(1..) = stdin.read(&mut ignored).await {}
}

/// Serves until `stop` resolves, or the catalog can't go on.
pub async fn serve(config: Config, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let mut stop = pin!(stop);
    let credentials = Credentials::read(&config)?;
    let workers = Arc::new(Workers::new(credentials.workers_settings()?));
    let hang_up = signal(SignalKind::hangup()).map_err(ServeError::Signals)?;
    let renewing = tokio::spawn(renew_at(hang_up, credentials.clone(), workers.clone()));
    let _renewing = AbortOnDrop(renewing);
    let headers = Duration::from_millis(config.limits.idle_ms);
    let shown = credentials.public.clone().map(|kept| move || kept.now());
    let public = open(config.server.listen, shown, headers, Loudness::Debug).await?;
    let shown = credentials.peers.clone().map(|kept| move || Arc::clone(&kept.now().server));
    let internal = open(config.server.internal_listen, shown, headers, Loudness::Warn).await?;
    let node = tokio::select! {
        started = CatalogNode::start(raft_settings(&config, &credentials)) => started?,
        // It may be waiting for a coordinator that lets it join, for ever.
        () = &mut stop => return Ok(()),
    };

    let (close_internal, closed) = oneshot::channel::<()>();
    let internal_router = http::internal::router(node.clone(), credentials.cluster.clone());
    let patience = Patience { headers, drain: Duration::from_secs(1) };
    let internal = tokio::spawn(http::serve(internal, internal_router, async { drop(closed.await) }, patience));
    let freshness = Freshness::new(write::late_by(config.statement_timeout()));
    let board = AgentBoard::start(AgentClient::new(node.client().clone()), node.watch(), freshness.clone());
    let settler = Settler::start(node.clone(), board.clone());
    let mover = moves::start(node.clone());
    let failover = failover::start(node.clone(), Duration::from_secs(config.failover.stamp_seconds));
    let runner = PlanRunner::start(node.clone());
    let rebalancer = Rebalancer::new(node.clone(), board.clone());
    let scheduler = Scheduler::start(node.clone(), rebalancer.clone());
    let departures = tokio::spawn(let_go(node.clone(), workers.clone()));
    let catching_up = tokio::spawn(catch_up(node.clone(), strangers_reach(&config)));
    let cursors = CursorKey::new(&credentials.cluster.presented());
    let app = app(&config, workers, cursors, node.clone(), board.clone(), rebalancer, freshness);
    let gaps = Gaps::start(node.clone(), board, app.metrics.clone());
    let calibrator = Calibrator::start(app.searcher.clone());
    tracing::info!(id = %node.id(), cluster = node.cluster_id(), listen = %config.server.listen, "coordinator serves");

    let (stopping, stopped) = oneshot::channel::<()>();
    let (leave, leaving) = (Duration::from_millis(config.server.leave_ms), app.clone());
    let until_told = async {
        let ended = tokio::select! {
            () = stop => Ok(()),
            reason = node.stopped() => Err(ServeError::Stopped(reason)),
        };
        if ended.is_ok() && !leave.is_zero() {
            tracing::info!(leave_ms = leave.as_millis(), "told to stop: serves until load balancers have noticed");
            leaving.leaving.store(true, Ordering::Relaxed);
            tokio::time::sleep(leave).await;
        }
        tracing::info!("stopping: what is under way may finish");
        drop(stopping);
        ended
    };
    let patience = Patience { headers, drain: Duration::from_millis(config.server.drain_ms) };
    let serving = http::serve(public, http::router(app), async { drop(stopped.await) }, patience);
    let (ended, ()) = tokio::join!(until_told, serving);

    drop((settler, runner, scheduler, mover, failover, gaps, calibrator));
    departures.abort();
    catching_up.abort();
    node.shutdown().await;
    // The internal listener answers to the end, so that the others learn of the shutdown from Raft itself.
    drop(close_internal);
    drop(internal.await);
    ended
}

/// Takes an address. A predecessor that was killed a moment ago may hold it until the system has cleared it away.
async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let patience = Instant::now() + ADDRESS_PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(source) => return Err(ServeError::Listen { address, source }),
        }
    }
}

fn raft_settings(config: &Config, credentials: &Credentials) -> RaftSettings {
    let first_start = match config.cluster.bootstrap {
        true => {
            let Cluster { shards, initial_groups, replicas, .. } = config.cluster;
            FirstStart::Bootstrap { shard_count: shards, initial_groups, replicas }
        }
        false => FirstStart::Join(config.cluster.join.clone()),
    };
    RaftSettings {
        data_dir: config.cluster.data_dir.clone(),
        first_start,
        secret: credentials.cluster.clone(),
        tls: credentials.peers.clone(),
        http: config.http_url(),
        internal: config.internal_url(),
    }
}

/// Lets clients in as they come; or, if there is a certificate to show them, when their handshake is done.
async fn open(
    address: SocketAddr,
    tls: Option<impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static>,
    patience: Duration,
    loudness: Loudness,
) -> Result<Door, ServeError> {
    let listener = listen(address).await?;
    let Some(tls) = tls else { return Ok(Door::Plain(listener)) };
    let listener = TlsListener::new(listener, tls, patience, loudness);
    listener.map(Door::Tls).map_err(|source| ServeError::Listen { address, source })
}

/// Whether strangers may reach the public listener, whom keys alone keep out. Where it is not encrypted, an operator has said that the
/// network does.
fn strangers_reach(config: &Config) -> bool {
    config.server.tls.is_some() && !config.server.listen.ip().is_loopback()
}

/// Reads certificates, keys and secrets anew at each SIGHUP.
async fn renew_at(mut hang_up: Signal, credentials: Credentials, workers: Arc<Workers>) {
    while hang_up.recv().await.is_some() {
        tracing::info!("SIGHUP: certificates, keys and secrets are read anew");
        credentials.renew(&workers);
    }
}

/// A task that ends with its holder.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Gives the connections to workers back that were removed, and lets nobody wait for a primary that was replaced, until there are no more
/// views.
async fn let_go(node: CatalogNode, workers: Arc<Workers>) {
    let mut views = node.watch();
    let mut before = views.borrow_and_update().catalog.clone();
    while views.changed().await.is_ok() {
        let catalog = views.borrow_and_update().catalog.clone();
        workers.keep_only(|worker| catalog.workers.contains_key(&worker));
        for (id, group) in &before.groups {
            // One that is the primary again serves those who have waited for it.
            if catalog.groups.get(id).is_some_and(|now| now.primary != group.primary) {
                workers.supersede(group.primary);
            }
        }
        before = catalog;
    }
}

fn app(
    config: &Config,
    workers: Arc<Workers>,
    cursors: CursorKey,
    node: CatalogNode,
    board: AgentBoard,
    rebalancer: Rebalancer,
    freshness: Freshness,
) -> App {
    let metrics = Metrics::new();
    let views = node.watch();
    let facts: Arc<dyn TableFacts> = Arc::new(board.clone());
    let recall = Arc::new(Recall::new(config.search.clone()));
    let load_agents = LoadAgents::new(AgentClient::new(node.client().clone()), board.clone());
    // Reads of a group without a primary must not take all places from others.
    let reads_held = (config.limits.concurrency / 2).max(1);
    let reads = NextPrimary::new(views.clone(), workers.clone(), Arc::new(Semaphore::new(reads_held)));
    let cache = AnswerCache::new(&config.cache, freshness.clone(), metrics.clone());
    App::new(Parts {
        findings: Findings::start(node.clone(), board.clone(), recall.clone(), strangers_reach(config)),
        rebalancer,
        searcher: Searcher::new(views.clone(), workers.clone(), facts, metrics.clone(), recall, cache, reads.clone()),
        writer: Writer::new(views.clone(), workers.clone(), freshness, config.import_settings(), load_agents),
        reader: Reader::new(views, workers.clone(), cursors, reads),
        node,
        board,
        workers,
        metrics,
        limits: config.limits.clone(),
        requests: Semaphore::new(config.limits.concurrency),
        // One body of the largest kind has room, whatever was set.
        bodies: Bodies::new(config.limits.bodies_bytes.max(config.limits.body_bytes)),
        leaving: AtomicBool::new(false),
        streams: Arc::new(Semaphore::new(config.limits.streams)),
    })
}

/// Until then the API asks for patience where it knows of no keys: there may be some. Then it tells if there is none that keeps strangers out.
async fn catch_up(node: CatalogNode, strangers_reach_it: bool) {
    while !node.has_caught_up() {
        if let Err(error) = node.catch_up(Instant::now() + CATCH_UP_WITHIN).await {
            tracing::debug!(%error, "not caught up with the catalog yet; will retry");
            tokio::time::sleep(CATCH_UP_AGAIN_AFTER).await;
        }
    }
    if strangers_reach_it && node.view().catalog.keys.is_empty() {
        tracing::warn!(
            "everybody who can reach this coordinator may read, write and change the cluster: connections are encrypted, but no key \
             is asked for until there is one: atoll key create"
        );
    }
}

impl TableFacts for AgentBoard {
    fn rows(
        &self,
        shard: Option<ShardId>,
        collection: &CollectionName,
        namespaces: Option<&[Namespace]>,
    ) -> Option<u64> {
        match namespaces {
            Some(namespaces) => self.rows_of(shard, collection, namespaces),
            None => AgentBoard::rows(self, shard, collection),
        }
    }

    fn row_bytes(&self, shard: Option<ShardId>, collection: &CollectionName) -> Option<u64> {
        let (rows, bytes) = self.size(shard, collection)?;
        Some(bytes / rows.max(1))
    }

    fn graphs(&self, shard: Option<ShardId>, collection: &CollectionName) -> (Vec<(Namespace, u64)>, bool) {
        AgentBoard::graphs(self, shard, collection)
    }

    fn known(&self, shard: Option<ShardId>, collection: &CollectionName, worker: WorkerId) -> Option<TableKnown> {
        let table = self.table(shard, collection)?;
        let large = table.large_namespaces.iter();
        Some(TableKnown {
            rows: table.rows,
            counted_seconds_ago: self.counted_seconds_ago(worker),
            large: large.filter_map(|one| Some((Namespace::parse(&one.namespace).ok()?, one.rows))).collect(),
            graphs: table.graphs.len(),
        })
    }
}
