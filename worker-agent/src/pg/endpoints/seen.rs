//! What the server at an endpoint says of itself.

use super::claim;
use crate::pg::connect::{PgError, Target};
use crate::pg::facts;
use crate::pg::session::Session;
use std::time::Duration;

const STATEMENT_LIMIT: Duration = Duration::from_secs(2);

/// A server's word on whose data it has, and whether it takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether it is a primary that lets transactions write.
    pub(super) takes_writes: bool,
    /// PostgreSQL's own identity of the data; none where it may not be read.
    pub(super) system_identifier: Option<String>,
    /// Uid of the worker whose database it is, as its agent wrote it there.
    pub(super) worker: Option<String>,
    /// Of a primary: how often its data have changed primaries; none where that is not told.
    pub(super) timeline: Option<u32>,
}

impl Seen {
    /// Asks a server.
    pub(super) async fn look(target: &Target) -> Result<Self, PgError> {
        let session = target.connect(STATEMENT_LIMIT).await?;
        let row = session.query_one("say whether it takes writes", include_str!("look.sql"), &[]).await?;
        let takes_writes = row.get("takes_writes");
        Ok(Self {
            takes_writes,
            system_identifier: facts::system_identifier(&session).await?,
            worker: if row.get("has_claim") { claim::read(&session).await? } else { None },
            timeline: if takes_writes { timeline(&session).await? } else { None },
        })
    }
}

/// Whether the server of an open session takes writes.
pub async fn takes_writes(session: &Session) -> Result<bool, PgError> {
    Ok(session.query_one("say whether it takes writes", include_str!("look.sql"), &[]).await?.get("takes_writes"))
}

/// By the log that is being written: `pg_control_checkpoint` has the new one only after the first checkpoint that follows a promotion.
async fn timeline(session: &Session) -> Result<Option<u32>, PgError> {
    let statement = "select left(pg_walfile_name(pg_current_wal_lsn()), 8)";
    match session.query_one("tell its timeline", statement, &[]).await {
        Ok(row) => Ok(u32::from_str_radix(row.get(0), 16).ok()),
        Err(error) if error.is_lost() => Err(error),
        Err(_) => Ok(None),
    }
}
