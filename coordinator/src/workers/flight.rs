//! What is sent to a worker in one flight, without waiting for answers in between: a read and its settings, or a transaction:
//! `begin; set local …`, the statements and `commit`. Each statement ends by the request's deadline.

use super::session::{ReadSettings, Session};
use super::{ShardError, ShardTable, WorkerPool};
use futures::future::{join, join_all};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

/// A statement and its values.
pub(super) struct Bound<'a> {
    pub(super) text: &'a str,
    pub(super) params: Vec<&'a (dyn ToSql + Sync)>,
    /// Whether the text is one of few, and worth keeping prepared.
    pub(super) cacheable: bool,
}

/// Opens a transaction that writes, with the collection's durability, until the deadline.
pub(super) fn writing(table: &ShardTable, deadline: Instant) -> String {
    let durability = match table.settings.durability {
        atoll_proto::Durability::Quorum => "on",
        atoll_proto::Durability::Local => "local",
        atoll_proto::Durability::Ephemeral => "off",
    };
    format!("begin; {}; set local synchronous_commit = {durability}", until(deadline))
}

/// Opens a transaction that remembers a request, until the deadline.
pub(super) fn remembering(deadline: Instant) -> String {
    format!("begin; {}", until(deadline))
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
    let prepared = prepare_one(session, statement).await?;
    let query = session.query(&prepared, &statement.params);
    let Some(change) = session.change_to(settings) else { return query.await };
    // Polled in this order for the first time, so sent in this order, in one flight.
    let (changed, rows) = join(session.batch_execute(&change), query).await;
    changed?;
    rows
}

/// Runs one statement in a transaction that `begin` opens.
pub(super) async fn query(
    pool: &WorkerPool,
    begin: &str,
    statement: Bound<'_>,
    deadline: Instant,
) -> Result<Vec<Row>, ShardError> {
    let rows = pool.run(deadline, async |client| fly(client, begin, &[statement]).await).await?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// Runs statements in a transaction that `begin` opens; gives the rows of each.
pub(super) async fn fly(client: &Session, begin: &str, statements: &[Bound<'_>]) -> Result<Vec<Vec<Row>>, Error> {
    let prepared = prepare(client, statements).await?;
    let begin = client.opening(begin);
    let begin = client.batch_execute(&begin);
    // A few at most, which join_all polls in order.
    let queries =
        join_all(prepared.iter().zip(statements).map(|(prepared, bound)| client.query(prepared, &bound.params)));
    let commit = client.batch_execute("commit");
    // Polled in this order for the first time, so sent in this order, in one flight. All are waited for, also after a failure:
    // the connection is fit for use only when each was answered. What fails makes the server take the commit as a rollback.
    let (begun, (rows, committed)) = join(begin, join(queries, commit)).await;
    begun?;
    let rows = rows.into_iter().collect::<Result<_, _>>()?;
    committed?;
    Ok(rows)
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
        prepared.push(prepare_one(session, statement).await?);
    }
    Ok(prepared)
}

async fn prepare_one(session: &Session, statement: &Bound<'_>) -> Result<Statement, Error> {
    match statement.cacheable {
        true => session.prepare_cached(statement.text).await,
        false => session.prepare(statement.text).await,
    }
}
