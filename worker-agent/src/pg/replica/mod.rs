//! What a member of a group does with its PostgreSQL: looks how it stands, and turns it into a primary or a standby. `docs/failover.md`
//! says when; [`crate::failover`] decides it. Each operation can be done again after a crash in its middle.

mod copy;
mod history;
mod settings;
mod standing;

pub use standing::{Look, Reached};

use crate::identity::write_whole_of;
use crate::pg::account::Account;
use crate::pg::bootstrap;
use crate::pg::conf::ServerSettings;
use crate::pg::connect::{PgError, Target};
use crate::pg::find::Install;
use crate::pg::init::{self, InitError, OWNER_ROLE};
use crate::pg::layout::Layout;
use crate::pg::process::Postmaster;
use crate::pg::session::Session;
use crate::pg::steer::Steering;
use crate::secret::{Secret, SecretError};
use atoll_proto::agent::PostgresAddress;
use atoll_proto::group::{Disk, GroupRecord};
use atoll_proto::{Generation, WorkerId};
use atoll_trust::{Names, PostgresTls};
use postgres_protocol::password::scram_sha_256;
use settings::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Standbys connect as this role: it may receive the log and read the server's files, for that is what a copy is.
pub const REPLICA_ROLE: &str = "atoll_replica";

const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// For a name. Where it leads is not known then.
const LOOK_UP_LIMIT: Duration = Duration::from_millis(300);
const PROMOTE_LIMIT: Duration = Duration::from_secs(20);
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(5);
/// Transactions that a switchover waits for.
const DRAIN_LIMIT: Duration = Duration::from_millis(300);
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(25);
/// Processes of the server take new settings up one by one, within some milliseconds. Nobody says when the last one has.
const TAKEN_UP_AFTER: Duration = Duration::from_millis(250);
/// For sessions to end that were told to, and between two looks whether they have. `pg_terminate_backend` with a limit of its own looks
/// each 100 ms, and waits for one after the other.
const END_LIMIT: Duration = Duration::from_millis(500);
const END_LOOK_EVERY: Duration = Duration::from_millis(5);

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// A server did not do as asked.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// Files of the server.
    #[error(transparent)]
    Files(#[from] InitError),
    /// A password is missing.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it printed.
        said: String,
    },
    /// It may work later.
    #[error("{0}")]
    NotYet(&'static str),
}

/// A managed server that may be a member of a group.
#[derive(Debug)]
pub struct Replica {
    /// Its files.
    pub layout: Layout,
    /// Its programs.
    pub install: Install,
    /// Who runs it, if not we.
    pub account: Option<Account>,
    /// Its settings, which a copy of another's data brings along as the other's.
    pub settings: ServerSettings,
    /// Whether it runs.
    pub steering: Steering,
    /// The worker's database.
    pub database: String,
    /// File of the password of [`REPLICA_ROLE`], the same on all workers.
    pub password_file: PathBuf,
    /// How other servers are spoken to by this agent.
    pub tls: PostgresTls,
    /// How they are spoken to by PostgreSQL itself.
    pub authorities: Option<PathBuf>,
    /// Where hosts are.
    pub names: Names,
    /// The connection that looks.
    pub session: Mutex<Option<Session>>,
    /// The generation that was recorded last and whose older connections were ended.
    pub ended_at: AtomicU64,
}

impl Replica {
    /// Starts it as the primary that it is.
    pub fn start_primary(&self) {
        self.steering.start();
    }

    /// Starts it as a standby of nobody, which counts nobody.
    pub fn start_detached(&self) -> Result<(), ReplicaError> {
        self.be_standby(&Settings::Closed)?;
        self.steering.start();
        Ok(())
    }

    /// Stops it, and returns when it is.
    pub async fn stop(&self) {
        self.session.lock().await.take();
        self.steering.stop().await;
    }

    /// Before a primary stops for another: begins no more transactions that write, which those who ask for one can send to the next primary,
    /// and lets those end that have written, for a moment. A commit that is cut off is in doubt.
    pub async fn retire(&self, me: Disk, listed: &BTreeSet<Disk>, copies: u32) -> Result<(), ReplicaError> {
        self.take_up(&Settings::Retiring { me, listed, copies }).await?;
        let session = self.owner()?.connect(LOOK_LIMIT).await?;
        let statement = "select exists (select from pg_stat_activity
                                         where backend_type = 'client backend' and backend_xid is not null)";
        let until = Instant::now() + DRAIN_LIMIT;
        while session.query_one("look who writes", statement, &[]).await?.get(0) && Instant::now() < until {
            tokio::time::sleep(DRAIN_LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Writes what is in memory to its files, so that it stops sooner when it is told to. No harm if it is not done.
    pub async fn checkpoint(&self) -> Result<(), ReplicaError> {
        let session = self.owner()?.connect(CHECKPOINT_LIMIT).await?;
        Ok(session.run("write a checkpoint", "checkpoint").await?)
    }

    /// Stops receiving. What it has is replayed by then or a moment later, which [`Self::look`] tells.
    pub async fn detach(&self) -> Result<(), ReplicaError> {
        self.take_up(&Settings::Closed).await
    }

    /// Receives from another worker. Slots of moves are left behind where it was a primary itself: those moves were given up with it, and
    /// the slots would keep log here and rows of the catalogs on the new primary.
    pub async fn follow(
        &self,
        me: Disk,
        worker: WorkerId,
        servers: &BTreeMap<WorkerId, PostgresAddress>,
    ) -> Result<(), ReplicaError> {
        let address = settings::address_of(servers, worker)?;
        let connection = self.connection_to(me, address, &self.look_up(address).await)?;
        let session = self.owner()?.connect(LOOK_LIMIT).await?;
        let statement = "select pg_drop_replication_slot(slot_name) from pg_replication_slots
                          where slot_type = 'logical' and not active
                            and (slot_name like 'atoll\\_move\\_%' or slot_name like 'pg\\_%\\_sync\\_%')";
        session.query("drop slots of before", statement, &[]).await?;
        self.take_up(&Settings::Following { worker, connection: &connection }).await
    }

    /// Goes on receiving from that worker, where it may be elsewhere by now.
    pub async fn follow_on(
        &self,
        me: Disk,
        worker: WorkerId,
        servers: &BTreeMap<WorkerId, PostgresAddress>,
    ) -> Result<(), ReplicaError> {
        let address = settings::address_of(servers, worker)?;
        let found = self.look_up(address).await;
        if found.is_empty() {
            return Ok(());
        }
        let connection = self.connection_to(me, address, &found)?;
        let settings = Settings::Following { worker, connection: &connection };
        let path = self.layout.replica_settings();
        let before = std::fs::read_to_string(&path).map_err(init::at(&path))?;
        if before == settings.text() { Ok(()) } else { self.take_up(&settings).await }
    }

    /// Makes a primary of a standby of nobody.
    pub async fn promote(&self) -> Result<(), ReplicaError> {
        let session = self.owner()?.connect(PROMOTE_LIMIT).await?;
        let seconds = i32::try_from(PROMOTE_LIMIT.as_secs()).unwrap_or(i32::MAX);
        let done = session.query_one("be promoted", "select pg_promote(true, $1)", &[&seconds]).await?;
        if done.get(0) { Ok(()) } else { Err(ReplicaError::NotYet("the promotion takes longer than it may")) }
    }

    /// Writes the generation into the log, and ends all connections of before. The commit waits for its own disk only. With it goes the
    /// owner's password: copied data has that of the server it was copied from.
    pub async fn record(&self, generation: Generation) -> Result<(), ReplicaError> {
        let session = self.owner()?.connect(LOOK_LIMIT).await?;
        let verifier = scram_sha_256(Secret::read(&self.layout.secret())?.expose().as_bytes());
        let generation = generation.0;
        let statements = format!(
            "begin; set local synchronous_commit = local;
             create schema if not exists atoll;
             create table if not exists atoll.generation (
                 generation bigint primary key, timeline integer not null, recorded_at timestamptz not null default now());
             alter role {OWNER_ROLE} password '{verifier}';
             insert into atoll.generation (generation, timeline)
                 values ({generation}, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer)
                 on conflict do nothing;
             commit"
        );
        session.run("record the generation", &statements).await?;
        end_others(&session).await?;
        self.ended_at.store(generation, Ordering::Relaxed);
        Ok(())
    }

    /// Counts these disks, and nobody else. Where nobody was counted before, connections that are older than the generation are ended first,
    /// unless that was done when it was recorded: it is not known whether an agent before this one lived to do so.
    pub async fn count(&self, me: Disk, known: &GroupRecord, was_closed: bool) -> Result<(), ReplicaError> {
        let GroupRecord { listed, copies, generation, .. } = known;
        if was_closed {
            let session = self.owner()?.connect(LOOK_LIMIT).await?;
            if self.ended_at.load(Ordering::Relaxed) != generation.0 {
                end_others(&session).await?;
            }
            bootstrap::let_standbys_copy(&session, &self.database, &Secret::read(&self.password_file)?).await?;
        }
        self.take_up(&Settings::Counting { me, listed, copies: *copies }).await
    }

    /// How the agent logs in on any data: as the owner by the socket, where the system says who it is.
    fn owner(&self) -> Result<Target, ReplicaError> {
        let sockets = self.layout.sockets();
        let sockets = sockets.ok_or(ReplicaError::NotYet(
            "the data directory's name is too long for a socket beside it: choose a shorter one",
        ))?;
        Ok(Target {
            host: sockets.display().to_string(),
            address: None,
            port: self.settings.port,
            user: OWNER_ROLE.to_owned(),
            password: None,
            database: self.database.clone(),
            first_database: None,
            tls: PostgresTls::off(),
        })
    }

    fn connection_to(&self, me: Disk, address: &PostgresAddress, found: &[IpAddr]) -> Result<String, ReplicaError> {
        let password = Secret::read(&self.password_file)?;
        let authorities = self.authorities.as_deref();
        let connection = settings::connection(address, found, &settings::name(me), Some(&password), authorities);
        Ok(format!("{connection} {}", settings::SOON_GIVEN_UP))
    }

    /// At which addresses a host is; none where that can't be told. A receiver that looks a name up itself is deaf meanwhile, which is
    /// many seconds where nobody answers, and the host that is gone may be the reason.
    async fn look_up(&self, address: &PostgresAddress) -> Vec<IpAddr> {
        let found = timeout(LOOK_UP_LIMIT, self.names.addresses(&address.host)).await;
        let mut found = found.ok().and_then(Result::ok).unwrap_or_default();
        // Some name servers give another order each time.
        found.sort();
        found
    }

    fn be_standby(&self, settings: &Settings<'_>) -> Result<(), ReplicaError> {
        self.write(self.layout.replica_settings(), &settings.text())?;
        self.write(self.layout.standby_signal(), "")
    }

    async fn take_up(&self, settings: &Settings<'_>) -> Result<(), ReplicaError> {
        self.write(self.layout.replica_settings(), &settings.text())?;
        if let Some((postmaster, _)) = Postmaster::find_running(&self.layout) {
            postmaster.reload();
        }
        tokio::time::sleep(TAKEN_UP_AFTER).await;
        Ok(())
    }

    /// Writes a file of the server, whole or not at all. It can read it from the beginning: somebody may be copying all that there is.
    pub fn write(&self, path: PathBuf, text: &str) -> Result<(), ReplicaError> {
        let own = |path: &Path| self.account.as_ref().map_or(Ok(()), |account| account.own(path));
        Ok(write_whole_of(&path, text.as_bytes(), own).map_err(init::at(&path))?)
    }
}

/// Ends all connections of clients but this one: what they waited for is in doubt. Those that come meanwhile are no older.
async fn end_others(session: &Session) -> Result<(), ReplicaError> {
    let statement = "select pid, pg_terminate_backend(pid) from pg_stat_activity
                      where backend_type = 'client backend' and pid <> pg_backend_pid()";
    let told = session.query("end older connections", statement, &[]).await?;
    let told: Vec<i32> = told.iter().map(|row| row.get(0)).collect();
    let until = tokio::time::Instant::now() + END_LIMIT;
    loop {
        let statement = "select exists (select from pg_stat_activity where pid = any ($1))";
        let are_left: bool = session.query_one("look whether they ended", statement, &[&told]).await?.get(0);
        match are_left {
            false => return Ok(()),
            true if tokio::time::Instant::now() >= until => {
                return Err(ReplicaError::NotYet("older connections do not end"));
            }
            true => tokio::time::sleep(END_LOOK_EVERY).await,
        }
    }
}
