//! The claim of a worker in its database. Replication copies it to each server that may take its place, and to no other.

use crate::pg::connect::PgError;
use crate::pg::session::Session;

/// Uid of the worker whose database this is; none before its agent wrote it down.
pub async fn read(session: &Session) -> Result<Option<String>, PgError> {
    let row = session.query_opt("read whose database it is", "select uid from atoll.worker", &[]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Writes it down, once.
pub async fn write(session: &Session, uid: &str) -> Result<(), PgError> {
    let statement = "insert into atoll.worker (uid) values ($1) on conflict do nothing";
    session.execute("write down whose database it is", statement, &[&uid]).await?;
    Ok(())
}
