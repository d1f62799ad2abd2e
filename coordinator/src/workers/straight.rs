//! The coordinator's statements, sent straight to a worker by someone who has nothing else to do: what a benchmark holds a
//! coordinator against.
//!
//! Text, values, settings and flight are made where the coordinator's own are made, so that the two can't drift apart. What is
//! left out is all that a coordinator adds: routing, planning, building statements, reading rows, computing distances anew,
//! merging and HTTP.

use super::flight::{self, Bound, Transaction};
use super::knn::{self, KnnQuery};
use super::pool::session_options;
use super::session::{ReadSettings, Session};
use super::statement::Statement;
use super::write::{Parts, WriteRow, WriteRule};
use super::{ShardError, ShardTable, read};
use atoll_proto::entry::{EntryId, Include};
use atoll_trust::PostgresTls;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, Error};

/// What every statement has, as requests have that name no deadline.
const DEADLINE: Duration = Duration::from_millis(atoll_proto::limits::DEADLINE_MS);

/// Longest that a statement is waited for: its server gives up before.
const PATIENCE: Duration = DEADLINE.saturating_add(Duration::from_secs(1));
/// Longest that connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// A statement with its values, ready to be sent as often as one likes.
pub struct ReadyStatement {
    flight: Flight,
}

enum Flight {
    Read(ReadSettings, Statement),
    Write(Transaction, Parts),
}

impl ReadyStatement {
    /// Asks a shard for its nearest candidates.
    pub fn nearest(table: &ShardTable, query: &KnnQuery) -> Self {
        let settings = knn::settings(query, Instant::now() + DEADLINE);
        Self { flight: Flight::Read(settings, knn::statement(table, query)) }
    }

    /// Reads an entry.
    pub fn get(table: &ShardTable, id: EntryId, include: &[Include]) -> Self {
        let settings = read::get_settings(Instant::now() + DEADLINE);
        Self { flight: Flight::Read(settings, read::get_statement(table, &[id], None, include)) }
    }

    /// Writes an entry, whether it is there or not.
    pub fn upsert(table: &ShardTable, row: WriteRow) -> Self {
        let transaction = flight::writing(table, Instant::now() + DEADLINE);
        Self { flight: Flight::Write(transaction, Parts::new(table, &[row], WriteRule::Upsert)) }
    }
}

/// Prepared as the coordinator has it.
fn bound(statement: &Statement) -> Bound<'_> {
    Bound { text: &statement.text, params: statement.params() }
}

/// A worker, and connections to it that are made when they are first needed.
pub struct Straight {
    worker: String,
    config: Config,
    places: Semaphore,
    /// The one used last lies last, and is taken first: its backend has its caches warm.
    idle: Mutex<Vec<Session>>,
}

impl Straight {
    /// The worker at an address such as `postgresql://user:password@host:port/database`; at most so many `connections`.
    pub fn new(worker: &str, dsn: &str, connections: usize) -> Result<Self, ShardError> {
        let unreachable = |error: tokio_postgres::Error| ShardError::of_connecting(worker, error);
        let mut config: Config = dsn.parse().map_err(unreachable)?;
        config.options(session_options(DEADLINE)).application_name("atoll bench");
        // Not encrypted; an address that insists on it is refused.
        if config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(PostgresTls::off().ssl_mode());
        }
        Ok(Self {
            worker: worker.to_owned(),
            config,
            places: Semaphore::new(connections.max(1)),
            idle: Mutex::default(),
        })
    }

    /// Sends a statement in the coordinator's flight and waits for its rows; says how many there are.
    pub async fn run(&self, statement: &ReadyStatement) -> Result<usize, ShardError> {
        match &statement.flight {
            Flight::Read(settings, statement) => {
                let read = async |session: &Session| flight::ask(session, settings, &bound(statement)).await;
                Ok(self.with_session(read).await?.len())
            }
            Flight::Write(transaction, parts) => {
                let write = async |session: &Session| flight::fly(session, transaction, &parts.statements()).await;
                Ok(self.with_session(write).await?.value.iter().map(Vec::len).sum())
            }
        }
    }

    /// After a failure the connection is thrown away, so a transaction left open in it is rolled back.
    async fn with_session<T>(&self, work: impl AsyncFnOnce(&Session) -> Result<T, Error>) -> Result<T, ShardError> {
        let late = |_| ShardError::Deadline { worker: self.worker.clone() };
        let _place = self.places.acquire().await.expect("nobody closes the places");
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let session = match idle {
            Some(session) => session,
            None => self.connect().await?,
        };
        let done = timeout(PATIENCE, work(&session)).await.map_err(late)?;
        if session.is_in_doubt() {
            return Err(ShardError::InDoubt { worker: self.worker.clone() });
        }
        let done = done.map_err(|error| ShardError::of(&self.worker, error))?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        Ok(done)
    }

    async fn connect(&self) -> Result<Session, ShardError> {
        let late = |elapsed| ShardError::Unreachable { worker: self.worker.clone(), source: Box::new(elapsed) };
        let connecting = Session::connect(&self.config, Arc::default(), PostgresTls::off());
        let connected = timeout(CONNECT_TIME, connecting).await.map_err(late)?;
        connected.map_err(|error| ShardError::of_connecting(&self.worker, error))
    }
}
