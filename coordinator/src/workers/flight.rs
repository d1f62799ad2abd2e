//! What is sent to a worker in one flight, without waiting for answers in between: a read and its settings, or a transaction:
//! `begin; set local …`, the statements and `commit`. Each statement ends by the request's deadline.

use super::session::{ReadSettings, Session};
use super::{ShardError, ShardTable, WorkerPool};
use atoll_proto::{Durability, Lsn};
use futures::future::{join, join_all};
use futures::{Stream, TryStreamExt};
use std::pin::pin;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, SimpleQueryMessage, Statement};

/// A statement and its values.
pub(super) struct Bound<'a> {
    pub(super) text: &'a str,
    pub(super) params: Vec<&'a (dyn ToSql + Sync)>,
}

/// What a transaction begins and ends with.
pub(super) struct Transaction {
    begin: String,
    /// Sent ahead of the commit, if it has to wait for standbys: see [`WAIT`].
    wait: Option<&'static str>,
    /// Sent along with its end: where the log then stands.
    position: &'static str,
}

/// What was written, and a position in the worker's log from after it could be seen; none if nothing was, or nobody asked.
#[derive(Debug)]
pub struct Written<T> {
    /// What became of it.
    pub value: T,
    /// The position.
    pub position: Option<Lsn>,
}

impl<T> Written<T> {
    pub(super) fn nothing(value: T) -> Self {
        Self { value, position: None }
    }

    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Written<U> {
        Written { value: change(self.value), position: self.position }
    }
}

/// Makes a transaction that wrote nothing write, where there are standbys to wait for.
///
/// A commit without a record in the log waits for nobody. But what it answers ("unchanged", or the outcome of an earlier request) it
/// has read, and that may be on this server alone: it was committed, and its wait cut short. With a record behind all it saw, its
/// own wait is for that too.
const WAIT: &str = "select pg_logical_emit_message(true, 'atoll', '') \
    where pg_current_xact_id_if_assigned() is null and current_setting('synchronous_standby_names') <> ''";

/// A transaction that writes, with the collection's durability, until the deadline.
pub(super) fn writing(table: &ShardTable, deadline: Instant) -> Transaction {
    let durability = table.settings.durability;
    let (wait, position) = match durability {
        Durability::Quorum => (Some(WAIT), "; select pg_current_wal_flush_lsn()"),
        Durability::Local => (None, "; select pg_current_wal_flush_lsn()"),
        // Its commit is not flushed yet.
        Durability::Ephemeral => (None, "; select pg_current_wal_insert_lsn()"),
    };
    Transaction { begin: begin(durability, deadline), wait, position }
}

/// A transaction that remembers a request to a collection of this durability, until the deadline. It always writes.
pub(super) fn remembering(durability: Durability, deadline: Instant) -> Transaction {
    Transaction { begin: begin(durability, deadline), wait: None, position: "" }
}

/// A transaction that keeps nothing of what it does, until the deadline.
pub(super) fn passing(deadline: Instant) -> Transaction {
    Transaction { begin: format!("begin; {}", until(deadline)), wait: None, position: "" }
}

/// A transaction that reads, opened so.
pub(super) fn reading(begin: String) -> Transaction {
    Transaction { begin, wait: None, position: "" }
}

/// Opens a transaction whose commit is as durable as the collection wants, whatever the server's default.
fn begin(durability: Durability, deadline: Instant) -> String {
    let commit = match durability {
        Durability::Quorum => "on",
        Durability::Local => "local",
        Durability::Ephemeral => "off",
    };
    format!("begin; {}; set local synchronous_commit = {commit}", until(deadline))
}

impl Transaction {
    /// What to send to open it.
    pub(super) fn opening(&self, session: &Session) -> String {
        session.opening(&self.begin).into_owned()
    }

    /// Commits, and tells where the log then stands.
    pub(super) async fn commit(&self, session: &Session) -> Result<Option<Lsn>, Error> {
        match self.wait {
            Some(wait) => end(session, 2, &format!("{wait}; commit{}", self.position)).await,
            None => end(session, 1, &format!("commit{}", self.position)).await,
        }
    }

    /// Rolls back: nothing is kept, and nothing is acknowledged.
    ///
    /// The server takes what [`Session::opening`] set back for a part of the transaction, and undoes that too: so once more.
    pub(super) async fn roll_back(&self, session: &Session) -> Result<(), Error> {
        session.batch_execute("rollback; reset all").await
    }
}

/// Ends a transaction by the first statements of `text` and asks for the position in one message. Sent when first polled.
///
/// When these were carried out nothing that comes after them may tell otherwise: a position that could not be had is unknown. Before
/// that, whatever fails leaves a session that is not as it should be, and is not lent again.
async fn end(session: &Session, statements: usize, text: &str) -> Result<Option<Lsn>, Error> {
    ended(session.simple_query_raw(text).await?, statements).await
}

async fn ended<E>(
    answers: impl Stream<Item = Result<SimpleQueryMessage, E>>,
    mut statements: usize,
) -> Result<Option<Lsn>, E> {
    let (mut answers, mut position) = (pin!(answers), None);
    loop {
        match answers.try_next().await {
            Ok(Some(SimpleQueryMessage::CommandComplete(_))) => statements = statements.saturating_sub(1),
            Ok(Some(SimpleQueryMessage::Row(row))) if statements == 0 => {
                position = Some(row.get(0).and_then(|text| text.parse().ok()).unwrap_or(Lsn::UNKNOWN));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(position),
            Err(_) if statements == 0 => return Ok(Some(Lsn::UNKNOWN)),
            Err(error) => return Err(error),
        }
    }
}

/// The server gives up a little before the coordinator does: then it can still say that nothing happened.
fn until(deadline: Instant) -> String {
    let left_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
    let ms = (left_ms - (left_ms / 20).min(100)).max(1);
    format!("set local statement_timeout = {ms}")
}

/// Runs one statement that reads.
pub(super) async fn read(
    pool: &WorkerPool,
    settings: &ReadSettings,
    statement: Bound<'_>,
    deadline: Instant,
) -> Result<Vec<Row>, ShardError> {
    pool.run(deadline, async |session| ask(session, settings, &statement).await).await
}

/// The same on a session.
pub(super) async fn ask(session: &Session, settings: &ReadSettings, statement: &Bound<'_>) -> Result<Vec<Row>, Error> {
    let prepared = session.prepare_cached(statement.text).await?;
    ask_prepared(session, settings, &prepared, &statement.params).await
}

/// The same with a statement that is prepared. All is sent when it is first polled.
pub(super) async fn ask_prepared(
    session: &Session,
    settings: &ReadSettings,
    prepared: &Statement,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    let query = session.query(prepared, params);
    let Some(change) = session.change_to(settings) else { return query.await };
    // Polled in this order for the first time, so sent in this order, in one flight.
    let (changed, rows) = join(session.batch_execute(&change), query).await;
    changed?;
    rows
}

/// Runs one statement in a transaction.
pub(super) async fn query(
    pool: &WorkerPool,
    transaction: &Transaction,
    statement: Bound<'_>,
    deadline: Instant,
) -> Result<Vec<Row>, ShardError> {
    let rows = pool.run(deadline, async |client| fly(client, transaction, &[statement]).await).await?;
    Ok(rows.value.into_iter().next().unwrap_or_default())
}

/// Runs statements in a transaction; gives the rows of each.
pub(super) async fn fly(
    client: &Session,
    transaction: &Transaction,
    statements: &[Bound<'_>],
) -> Result<Written<Vec<Vec<Row>>>, Error> {
    let prepared = prepare(client, statements).await?;
    let begin = transaction.opening(client);
    let begin = client.batch_execute(&begin);
    // A few at most, which join_all polls in order.
    let queries =
        join_all(prepared.iter().zip(statements).map(|(prepared, bound)| client.query(prepared, &bound.params)));
    let commit = transaction.commit(client);
    // Polled in this order for the first time, so sent in this order, in one flight. All are waited for, also after a failure:
    // the connection is fit for use only when each was answered. What fails makes the server take the commit as a rollback.
    let (begun, (rows, committed)) = join(begin, join(queries, commit)).await;
    begun?;
    let value = rows.into_iter().collect::<Result<_, _>>()?;
    Ok(Written { value, position: committed? })
}

/// Runs statements one after the other in a transaction that is open.
pub(super) async fn each(client: &Session, statements: &[Bound<'_>]) -> Result<Vec<Vec<Row>>, Error> {
    let prepared = prepare(client, statements).await?;
    let mut rows = Vec::with_capacity(statements.len());
    for (prepared, bound) in prepared.iter().zip(statements) {
        rows.push(client.query(prepared, &bound.params).await?);
    }
    Ok(rows)
}

async fn prepare(session: &Session, statements: &[Bound<'_>]) -> Result<Vec<Statement>, Error> {
    let mut prepared = Vec::with_capacity(statements.len());
    for statement in statements {
        prepared.push(session.prepare_cached(statement.text).await?);
    }
    Ok(prepared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    #[tokio::test]
    async fn only_what_comes_after_the_end_may_fail() {
        let done = || Ok(SimpleQueryMessage::CommandComplete(0));
        let of = |answers: Vec<Result<SimpleQueryMessage, &'static str>>, statements| {
            ended(stream::iter(answers), statements)
        };
        assert_eq!(of(vec![done(), Err("no position")], 1).await, Ok(Some(Lsn::UNKNOWN)));
        assert_eq!(of(vec![done(), done(), Err("no position")], 2).await, Ok(Some(Lsn::UNKNOWN)));
        assert_eq!(of(vec![done(), Err("no commit")], 2).await, Err("no commit"), "what is to make it wait was sent");
        assert_eq!(of(vec![Err("no commit")], 1).await, Err("no commit"));
        assert_eq!(of(vec![done()], 1).await, Ok(None));
    }
}
