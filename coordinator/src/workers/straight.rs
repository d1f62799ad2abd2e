//! The coordinator's statements, sent straight to a worker by someone who has nothing else to do: what a benchmark holds a
//! coordinator against.
//!
//! Text, values, settings and flight are made where the coordinator's own are made, so that the two can't drift apart. What is
//! left out is all that a coordinator adds: routing, planning, building statements, reading rows, computing distances anew,
//! merging and HTTP.

use super::flight::{self, Bound};
use super::knn::{self, KnnQuery};
use super::pool::session_options;
use super::statement::Statement;
use super::write::{Parts, WriteRow, WriteRule};
use super::{ShardError, ShardTable, read};
use atoll_proto::Namespace;
use atoll_proto::entry::{EntryId, Include};
use deadpool_postgres::ClientWrapper;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_postgres::{Config, NoTls, Row};

/// What every statement has, as requests have that name no deadline.
const DEADLINE: Duration = Duration::from_millis(atoll_proto::limits::DEADLINE_MS);

/// A statement with its values, ready to be sent as often as one likes.
pub struct ReadyStatement {
    begin: String,
    body: Body,
}

enum Body {
    Read(Statement),
    Write(Parts),
}

impl ReadyStatement {
    /// Asks a shard for its nearest candidates.
    pub fn nearest(table: &ShardTable, query: &KnnQuery) -> Self {
        let begin = knn::settings(query, Instant::now() + DEADLINE);
        Self { begin, body: Body::Read(knn::statement(table, query)) }
    }

    /// Reads an entry.
    pub fn get(table: &ShardTable, id: EntryId, include: &[Include]) -> Self {
        let begin = flight::reading(Instant::now() + DEADLINE);
        Self { begin, body: Body::Read(read::get_statement(table, &[id], include)) }
    }

    /// Writes an entry, whether it is there or not.
    pub fn upsert(table: &ShardTable, row: WriteRow) -> Self {
        let begin = flight::writing(table, Instant::now() + DEADLINE);
        Self { begin, body: Body::Write(Parts::new(table, &[row], WriteRule::Upsert)) }
    }

    /// All are kept prepared, also those that the coordinator prepares anew each time.
    fn bound(&self) -> Vec<Bound<'_>> {
        match &self.body {
            Body::Read(statement) => {
                vec![Bound { text: &statement.text, params: statement.params(), cacheable: true }]
            }
            Body::Write(parts) => parts.statements(),
        }
    }
}

/// A worker, and connections to it that are made when they are first needed.
pub struct Straight {
    worker: String,
    config: Config,
    places: Semaphore,
    /// The one used last lies last, and is taken first: its backend has its caches warm.
    idle: Mutex<Vec<ClientWrapper>>,
}

impl Straight {
    /// The worker at an address such as `postgresql://user:password@host:port/database`; at most so many `connections`.
    pub fn new(worker: &str, dsn: &str, connections: usize) -> Result<Self, ShardError> {
        let unreachable = |error: tokio_postgres::Error| ShardError::of_connecting(worker, error);
        let mut config: Config = dsn.parse().map_err(unreachable)?;
        config.options(session_options(DEADLINE)).application_name("atoll bench");
        Ok(Self {
            worker: worker.to_owned(),
            config,
            places: Semaphore::new(connections.max(1)),
            idle: Mutex::default(),
        })
    }

    /// Sends a statement in the coordinator's flight and waits for its rows; says how many there are.
    pub async fn run(&self, statement: &ReadyStatement) -> Result<usize, ShardError> {
        let rows = self.fly(&statement.begin, &statement.bound()).await?;
        Ok(rows.iter().map(Vec::len).sum())
    }

    /// Namespaces that have a graph of their own in a table, in byte order.
    pub async fn graphs(&self, table: &ShardTable) -> Result<Vec<Namespace>, ShardError> {
        let mut sql = Statement::new(
            "select pg_get_expr(i.indpred, i.indrelid) from pg_index as i join pg_class as c on c.oid = i.indexrelid \
             join pg_am as a on a.oid = c.relam where a.amname = 'hnsw' and i.indisvalid and i.indpred is not null \
             and i.indrelid = ",
        );
        sql.bind(table.quoted()).push("::text::regclass");
        let bound = Bound { text: &sql.text, params: sql.params(), cacheable: true };
        let rows = self.fly(&flight::reading(Instant::now() + DEADLINE), &[bound]).await?;
        let mut graphs = Vec::new();
        for row in rows.first().map(Vec::as_slice).unwrap_or_default() {
            let predicate: String = row.try_get(0).map_err(|error| ShardError::of(&self.worker, error))?;
            graphs.extend(namespace_of(&predicate));
        }
        graphs.sort();
        Ok(graphs)
    }

    /// After a failure the connection is thrown away, so a transaction left open in it is rolled back.
    async fn fly(&self, begin: &str, statements: &[Bound<'_>]) -> Result<Vec<Vec<Row>>, ShardError> {
        let _place = self.places.acquire().await.expect("nobody closes the places");
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let client = match idle {
            Some(client) => client,
            None => self.connect().await?,
        };
        let rows =
            flight::fly(&client, begin, statements).await.map_err(|error| ShardError::of(&self.worker, error))?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        Ok(rows)
    }

    async fn connect(&self) -> Result<ClientWrapper, ShardError> {
        let connecting = self.config.connect(NoTls).await;
        let (client, connection) = connecting.map_err(|error| ShardError::of_connecting(&self.worker, error))?;
        // What breaks the connection also fails the statement that waits for it.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok(ClientWrapper::new(client, task))
    }
}

/// The namespace that an index is about, by its condition as the server prints it: `(namespace = 'noun.animal'::text)`.
fn namespace_of(predicate: &str) -> Option<Namespace> {
    let (_, rest) = predicate.split_once("namespace = '")?;
    let (name, _) = rest.split_once('\'')?;
    Namespace::parse(name).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_namespace_of_an_index_is_read_off_its_condition() {
        assert_eq!(namespace_of("(namespace = 'noun.animal'::text)").unwrap().as_str(), "noun.animal");
        assert_eq!(namespace_of("(expires_at IS NOT NULL)"), None);
        assert_eq!(namespace_of("(namespace = 'no name'::text)"), None);
    }
}
