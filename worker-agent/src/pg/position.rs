//! Where the server's log stands, and up to where everything is visible: what coordinators judge kept answers by.

use crate::pg::connect::{PgError, chain};
use crate::pg::session::Session;
use atoll_proto::Lsn;
use tokio_postgres::types::PgLsn;

/// The position below which every commit is seen by statements that begin now; none on a standby, and on a server that tells no
/// positions. An error means that the server gave no answer: it ends by itself what took longer than an answer may.
pub async fn settled(session: &Session) -> Result<Option<Lsn>, PgError> {
    match look(session).await {
        Err(error) if !error.is_lost() && !error.is_cancelled() => {
            tracing::debug!(error = chain(&error), "the log's position is not known");
            Ok(None)
        }
        settled => settled,
    }
}

/// A commit is flushed first and visible after that. So the position is read, and then whether any transaction holds an id: each
/// holds it, by a lock on it, until it is visible. If none does, whatever was committed up to the position is visible, and what comes
/// later has a later position. Else only what lies below it is certain to have been visible when somebody read a position.
async fn look(session: &Session) -> Result<Option<Lsn>, PgError> {
    let flushed = "select case when pg_is_in_recovery() then null else pg_current_wal_flush_lsn() end";
    let row = session.query_one("read the log's position", flushed, &[]).await?;
    let Some(flushed) = row.get::<_, Option<PgLsn>>(0) else { return Ok(None) };
    let flushed = Lsn(flushed.into());
    let writing = "select exists (select from pg_locks where locktype = 'transactionid' and mode = 'ExclusiveLock')";
    let row = session.query_one("look for transactions that write", writing, &[]).await?;
    Ok(Some(if row.get(0) { flushed } else { flushed.next() }))
}
