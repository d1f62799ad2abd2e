//! A read that also tells where its server's log stood: what of it a session has been shown.
//!
//! All goes in one flight, each statement with a snapshot of its own: the position before the read, the read, the position after it,
//! and the generation last. A log never goes back while a connection lasts, so a generation that is no newer then was none before.

use super::flight::{self, Bound};
use super::session::{ReadSettings, Session};
use super::{ShardError, WorkerPool};
use atoll_core::freshness::LogSpan;
use atoll_proto::{Generation, Lsn};
use futures::future::{OptionFuture, join};
use tokio::time::Instant;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Error, Row};

const POSITION: &str = "select pg_is_in_recovery(), \
    case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end";
const GENERATION: &str = "select coalesce(max(generation), 1) from atoll.generation";

/// Whether a read tells where its server's log stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Watch {
    /// It does not.
    #[default]
    Nothing,
    /// Where it stood after the read. Of which generation it is was known before, as of a primary.
    After,
    /// Where it stood before and after the read, and its generation.
    Around,
}

/// What was read, and where the log stood; none if nobody asked.
#[derive(Debug)]
pub struct Logged<T> {
    /// What was read.
    pub value: T,
    /// Where the log stood.
    pub log: Option<LogSpan>,
}

impl<T> Logged<T> {
    /// The same of something that is made of it.
    pub fn and_then<U, E>(self, change: impl FnOnce(T) -> Result<U, E>) -> Result<Logged<U>, E> {
        Ok(Logged { value: change(self.value)?, log: self.log })
    }
}

/// Runs one statement that reads.
pub(super) async fn read(
    pool: &WorkerPool,
    settings: &ReadSettings,
    statement: Bound<'_>,
    watch: Watch,
    deadline: Instant,
) -> Result<Logged<Vec<Row>>, ShardError> {
    pool.run(deadline, async |session| ask(session, settings, &statement, watch).await).await
}

/// The same on a session.
pub(super) async fn ask(
    session: &Session,
    settings: &ReadSettings,
    statement: &Bound<'_>,
    watch: Watch,
) -> Result<Logged<Vec<Row>>, Error> {
    if watch == Watch::Nothing {
        return Ok(Logged { value: flight::ask(session, settings, statement).await?, log: None });
    }
    let is_around = watch == Watch::Around;
    let prepared = session.prepare_cached(statement.text).await?;
    let position = session.prepare_cached(POSITION).await?;
    let generation = match is_around {
        true => Some(session.prepare_cached(GENERATION).await?),
        false => None,
    };
    let before: OptionFuture<_> = is_around.then(|| session.query_one(&position, &[])).into();
    let read = flight::ask_prepared(session, settings, &prepared, &statement.params);
    let after = session.query_one(&position, &[]);
    let generation: OptionFuture<_> = generation.as_ref().map(|text| session.query_one(text, &[])).into();
    // Polled in this order for the first time, so sent in this order. All are waited for, also after a failure.
    let (before, (rows, (after, generation))) = join(before, join(read, join(after, generation))).await;
    let (value, (is_standby, after)) = (rows?, place(&after?)?);
    let before = match before {
        Some(row) => place(&row?)?.1,
        None => Lsn(0),
    };
    let generation = match generation {
        Some(row) => Some(Generation(row?.try_get::<_, i64>(0)?.unsigned_abs())),
        None => None,
    };
    Ok(Logged { value, log: Some(LogSpan { is_standby, before, after, generation }) })
}

/// Up to where a server's log is visible, of a standby what it has replayed.
pub async fn position(pool: &WorkerPool, deadline: Instant) -> Result<Lsn, ShardError> {
    let asked = pool.run(deadline, async |session| {
        let row = session.query_one(&session.prepare_cached(POSITION).await?, &[]).await?;
        place(&row)
    });
    Ok(asked.await?.1)
}

/// Whether it is a standby, and its position. A standby that has replayed nothing since it was started tells none: it is at its beginning.
fn place(row: &Row) -> Result<(bool, Lsn), Error> {
    let position: Option<PgLsn> = row.try_get(1)?;
    Ok((row.try_get(0)?, position.map_or(Lsn(0), |position| Lsn(position.into()))))
}
