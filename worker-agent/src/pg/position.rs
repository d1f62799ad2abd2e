//! Where the server's log stands, and up to where everything is visible: what coordinators judge kept answers by.

use crate::pg::connect::PgError;
use crate::pg::session::Session;
use atoll_proto::Lsn;
use tokio_postgres::types::PgLsn;

/// The position below which every commit is seen by statements that begin now; none on a standby.
///
/// A commit is flushed first and visible after that. So the position is read, and then whether any transaction holds an id: each
/// holds it, by a lock on it, until it is visible. If none does, whatever was committed up to the position is visible, and what comes
/// later has a later position. Else only what lies below it is certain to have been visible when somebody read a position.
pub async fn settled(session: &Session) -> Result<Option<Lsn>, PgError> {
    let flushed = "select case when pg_is_in_recovery() then null else pg_current_wal_flush_lsn() end";
    let row = session.query_one("read the log's position", flushed, &[]).await?;
    let Some(flushed) = row.get::<_, Option<PgLsn>>(0) else { return Ok(None) };
    let flushed = Lsn(flushed.into());
    let writing = "select exists (select from pg_locks where locktype = 'transactionid' and mode = 'ExclusiveLock')";
    let row = session.query_one("look for transactions that write", writing, &[]).await?;
    Ok(Some(if row.get(0) { flushed } else { flushed.next() }))
}
