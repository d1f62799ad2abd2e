//! The agent as a whole: prepares its server, starts its parts, and stops them in order.

use crate::config::{Config, ConfigError, Endpoint, PostgresSection};
use crate::credentials::{self, Credentials, CredentialsError};
use crate::desired::apply::Applier;
use crate::desired::{graphs, upkeep};
use crate::failover::{Kept as KeptOfGroup, Member};
use crate::identity::{Identity, IdentityError};
use crate::moves::Mover;
use crate::pg::account::{Account, AccountError};
use crate::pg::conf::ServerSettings;
use crate::pg::connect::Target;
use crate::pg::find::{FindError, Wanted};
use crate::pg::health;
use crate::pg::init::{InitError, OWNER_ROLE, claim, data_major, prepare};
use crate::pg::layout::Layout;
use crate::pg::machine::Machine;
use crate::pg::replica::{Replica, ReplicaError};
use crate::pg::server_tls::{ServerTls, ServerTlsError};
use crate::pg::steer::Steering;
use crate::pg::supervise::Supervised;
use crate::pg::version::PgvectorVersion;
use crate::pg::vitals;
use crate::secret::{Secret, SecretError};
use crate::worker::Worker;
use crate::{http, register, status, stop};
use atoll_proto::agent::WorkerMode;
use atoll_trust::{Kept, Names, PostgresTls};
use std::fs::File;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests and rounds in progress may take this long to end.
const PARTS_STOP_LIMIT: Duration = Duration::from_secs(5);
/// How long the address may be taken by a predecessor.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(5);

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration lacks something.
    #[error("the configuration is refused")]
    Config(#[from] ConfigError),
    /// A secret cannot be read.
    #[error("a secret is missing")]
    Secret(#[from] SecretError),
    /// Secrets or certificates cannot be read.
    #[error("the agent cannot show who it is")]
    Credentials(#[from] CredentialsError),
    /// The managed server gets no certificate.
    #[error("the server cannot have TLS")]
    ServerTls(#[from] ServerTlsError),
    /// Nothing could tell it to read files anew.
    #[error("signals cannot be listened to")]
    Signals(#[source] io::Error),
    /// Somebody else listens there.
    #[error("the agent cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is no PostgreSQL to start.
    #[error("no PostgreSQL can be used")]
    Find(#[from] FindError),
    /// Nobody to run PostgreSQL as.
    #[error("no user can run PostgreSQL")]
    Account(#[from] AccountError),
    /// The data directory cannot be used or made.
    #[error("the data directory is not ready")]
    Init(#[from] InitError),
    /// The identity cannot be read or kept.
    #[error("the worker has no identity")]
    Identity(#[from] IdentityError),
    /// Data of a group can't be started as what it may be.
    #[error("the server can't be made a standby")]
    Replica(#[from] ReplicaError),
    /// A task of ours ended early.
    #[error("preparing the server was cut off")]
    CutOff,
    /// A part that should run for ever does not.
    #[error("a part of the agent ended early")]
    PartEnded {
        /// Its panic, if that was it.
        source: Option<tokio::task::JoinError>,
    },
}

struct Prepared {
    target: Target,
    identity_file: PathBuf,
    supervised: Option<Supervised>,
    member: Option<Arc<Member>>,
    server_tls: Option<ServerTls>,
    /// Held as long as the agent lives.
    claim: Option<File>,
}

/// Takes an address. A predecessor that was killed a moment ago may hold it until the system has cleared it away.
async fn listen(address: SocketAddr) -> Result<TcpListener, AgentError> {
    let patience = Instant::now() + ADDRESS_PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(source) => return Err(AgentError::Listen { address, source }),
        }
    }
}

/// Runs the agent until `stopped`; a managed server is stopped at the end.
pub async fn run(config: Config, stopped: impl Future<Output = ()>) -> Result<(), AgentError> {
    let credentials = Credentials::read(&config)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(AgentError::Signals)?;
    // Early, so that two agents of one address do not both touch a data directory.
    let listener = listen(config.listen).await?;
    tokio::pin!(stopped);
    let preparing = tokio::task::spawn_blocking({
        let (config, tls) = (config.clone(), credentials.postgres.clone());
        move || prepare_server(&config, tls)
    });
    let prepared = tokio::select! {
        prepared = preparing => prepared.map_err(|_| AgentError::CutOff)??,
        () = &mut stopped => {
            tracing::info!("agent stops before its server is prepared");
            return Ok(());
        }
    };
    let Prepared { target, identity_file, supervised, member, server_tls, claim } = prepared;
    let worker = Arc::new(Worker::new(config, credentials, target, server_tls, identity_file)?);
    let applier = Arc::new(Applier::new(Arc::clone(&worker)));
    worker.hold_still(member.as_ref().is_some_and(|member| member.has_record()));

    let (stop_parts, stop) = stop::pair();
    let (stop_server, server_stop) = stop::pair();
    let server = supervised.map(|supervised| {
        let (pid, pid_seen) = watch::channel(None);
        tokio::spawn(report_process(Arc::clone(&worker), pid_seen));
        tokio::spawn(supervised.run(pid, server_stop))
    });
    let mut parts = JoinSet::new();
    parts.spawn(health::watch(Arc::clone(&worker), stop.clone()));
    parts.spawn(register::register_always(Arc::clone(&worker), Arc::clone(&applier), member.clone(), stop.clone()));
    parts.spawn(status::count_always(Arc::clone(&worker), applier.current(), stop.clone()));
    parts.spawn(vitals::read_always(Arc::clone(&worker), stop.clone()));
    parts.spawn(upkeep::rebuild_indexes(Arc::clone(&worker), Arc::clone(&applier), stop.clone()));
    parts.spawn(graphs::keep_graphs(Arc::clone(&worker), Arc::clone(&applier), stop.clone()));
    parts.spawn(upkeep::sweep_expired(Arc::clone(&worker), Arc::clone(&applier), stop.clone()));
    parts.spawn({
        let (worker, mut stop) = (Arc::clone(&worker), stop.clone());
        async move {
            loop {
                tokio::select! {
                    Some(()) = hang_up.recv() => {
                        tracing::info!("SIGHUP: certificates, keys and secrets are read anew");
                        credentials::renew(&worker).await;
                    }
                    () = stop.told() => return,
                }
            }
        }
    });
    if let Some(member) = member.clone() {
        let (worker, stop) = (Arc::clone(&worker), stop.clone());
        parts.spawn(async move { member.run(&worker, stop).await });
    }
    let leaves = member.clone();
    let mover = Arc::new(Mover::new(Arc::clone(&worker), Arc::clone(&applier)));
    parts.spawn({
        let (worker, mut stop) = (Arc::clone(&worker), stop);
        let until_stop = async move { stop.told().await };
        async move {
            if let Err(error) = http::serve(listener, http::Parts { worker, applier, mover, member }, until_stop).await
            {
                tracing::error!(%error, "the agent's HTTP ended");
            }
        }
    });
    tracing::info!(name = %worker.config.name, listen = %worker.config.listen, "agent runs");

    tokio::select! {
        () = &mut stopped => tracing::info!("agent stops"),
        // The server runs on: whoever starts the agent again has it adopt the server.
        Some(ended) = parts.join_next() => return Err(AgentError::PartEnded { source: ended.err() }),
    }
    if let (Some(member), Some(ours)) = (leaves, worker.membership()) {
        member.leave(ours.worker).await;
    }
    stop_parts.stop();
    let all_ended = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(PARTS_STOP_LIMIT, all_ended).await.is_err() {
        tracing::warn!("some work did not end in time and is cut off");
        parts.abort_all();
    }
    stop_server.stop();
    if let Some(server) = server
        && let Err(error) = server.await
    {
        tracing::error!(%error, "the supervisor ended early");
    }
    drop(claim);
    Ok(())
}

/// Finds and prepares a managed server, or says how to reach an external one. Blocks.
fn prepare_server(config: &Config, tls: PostgresTls) -> Result<Prepared, AgentError> {
    match config.mode {
        WorkerMode::Managed => prepare_managed(config, tls),
        WorkerMode::External => prepare_external(config, tls),
    }
}

fn prepare_managed(config: &Config, tls: PostgresTls) -> Result<Prepared, AgentError> {
    let data_dir = config.data_dir().ok_or_else(|| missing("postgres.data_dir"))?;
    let host = config.postgres.host.parse().map_err(|_| missing("postgres.host"))?;
    let layout = Layout::new(data_dir);
    let claim = claim(&layout)?;
    let account = Account::for_server()?;
    let oldest = if config.allow_old_pgvector { PgvectorVersion::ANY } else { PgvectorVersion::OLDEST_SAFE };
    let wanted = Wanted {
        bin: config.postgres.bin.clone(),
        pgvector_min: oldest,
        major: data_major(&layout)?,
        ..Wanted::safe(account.clone())
    };
    let install = wanted.find()?;
    tracing::info!(bin = %install.bin.display(), major = install.major, pgvector = %install.pgvector, "PostgreSQL found");
    let (port, fsync) = (config.postgres.port, config.postgres.fsync);
    let machine = Machine::this().shared_by(config.postgres.servers_on_machine);
    let (buffers_mb, builds) = (config.postgres.shared_buffers_mb, config.builds_at_once(machine.cores));
    let server_tls = server_tls(config, &layout, account.as_ref());
    let settings = ServerSettings {
        tls: server_tls.as_ref().map(|_| layout.tls()),
        ..ServerSettings::for_machine(host, port, buffers_mb, fsync, builds, machine)
    };
    let reachable = settings.reachable_host();
    if let Some(server_tls) = &server_tls {
        server_tls.hand_over()?;
    }
    let identity_file = config.identity_file.clone().unwrap_or_else(|| layout.identity());
    // Data that is half a copy gets its settings when it is whole; were it taken for none, the worker would lose its identity.
    let is_half = KeptOfGroup::load(&layout.group())?.is_some_and(|kept| kept.unusable.is_some());
    if !is_half {
        prepare(&layout, &identity_file, &install, account.as_ref(), &settings)?;
        if let Some(server_tls) = &server_tls {
            server_tls.check(&install)?;
        }
    }
    let kept = KeptOfGroup::load_or_make(&layout.group())?;
    let steering = Steering::new(kept.record.is_some());
    // Data that was a group's, and of which nothing else is left, comes from a backup: it is no primary.
    let is_left_over = kept.record.is_none()
        && layout.stamp().exists()
        && Identity::load_or_make(&identity_file)?.membership.is_some();
    let replica = Replica {
        layout: layout.clone(),
        install: install.clone(),
        account: account.clone(),
        settings,
        steering: steering.clone(),
        database: config.postgres.database.clone(),
        password_file: config.postgres_password_file.clone(),
        tls: tls.clone(),
        authorities: server_tls.as_ref().map(ServerTls::authorities),
        names: Names::default(),
        session: tokio::sync::Mutex::new(None),
        ended_at: AtomicU64::new(0),
    };
    if is_left_over {
        replica.start_detached()?;
    }
    let member = Arc::new(Member::new(replica, layout.group(), kept));
    let password_file = layout.secret();
    // A certificate is for the host that the others dial.
    let host = server_tls.as_ref().map_or_else(|| reachable.to_string(), |server_tls| server_tls.host.clone());
    let target = Target {
        host,
        address: Some(reachable),
        port,
        user: OWNER_ROLE.to_owned(),
        password: Some(Kept::new(move || Secret::read(&password_file))?),
        database: config.postgres.database.clone(),
        first_database: Some("postgres".to_owned()),
        tls,
    };
    Ok(Prepared {
        target,
        identity_file,
        supervised: Some(Supervised { layout, install, account, port, steering }),
        member: Some(member),
        server_tls,
        claim: Some(claim),
    })
}

fn prepare_external(config: &Config, tls: PostgresTls) -> Result<Prepared, AgentError> {
    let password_file = config.postgres.password_file.clone();
    let password = password_file.map(|file| Kept::new(move || Secret::read(&file))).transpose()?;
    // Of several, the one that takes writes is looked for when the agent runs.
    let Endpoint { host, port } =
        config.postgres.places().into_iter().next().ok_or_else(|| missing("postgres.host"))?;
    let target = Target {
        host,
        address: None,
        port,
        user: config.postgres.user.clone().ok_or_else(|| missing("postgres.user"))?,
        password,
        database: config.postgres.database.clone(),
        first_database: None,
        tls,
    };
    let identity_file = config.identity_file.clone().ok_or_else(|| missing("identity_file"))?;
    Ok(Prepared { target, identity_file, supervised: None, member: None, server_tls: None, claim: None })
}

/// What a managed server shows, if the configuration gives it something.
fn server_tls(config: &Config, layout: &Layout, account: Option<&Account>) -> Option<ServerTls> {
    let PostgresSection { ca_file, cert_file, key_file, .. } = &config.postgres;
    Some(ServerTls {
        layout: layout.clone(),
        account: account.cloned(),
        host: config.advertised(&config.postgres.host).to_owned(),
        ca_file: ca_file.clone()?,
        cert_file: cert_file.clone()?,
        key_file: key_file.clone()?,
    })
}

async fn report_process(worker: Arc<Worker>, mut pid: watch::Receiver<Option<u32>>) {
    loop {
        let now = *pid.borrow_and_update();
        worker.status.process(now);
        if pid.changed().await.is_err() {
            return;
        }
    }
}

fn missing(key: &'static str) -> AgentError {
    ConfigError::Setting { key, detail: "is missing or not usable".to_owned() }.into()
}
