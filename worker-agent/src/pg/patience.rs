//! Statements that need a table for themselves while others use it. Whoever comes after a waiting request for a table's
//! exclusive lock waits behind it, so each wait is short, and the pauses between them grow.

use crate::pg::connect::PgError;
use crate::pg::session::Session;
use atoll_proto::agent::COORDINATOR_ROLE;
use std::time::Duration;

/// Longest wait for a lock.
const LOCK_WAIT_MS: u32 = 200;
/// Longest wait of the last try: it outlasts PostgreSQL's `deadlock_timeout` of a second, after which an autovacuum that is
/// in the way is sent away.
const LAST_LOCK_WAIT_MS: u32 = 1_500;
const TRIES_BEFORE_LAST: u32 = 5;
/// Tries before anybody is sent away: most statements are short.
const POLITE_TRIES: u32 = 2;
/// After the first try; each later pause is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Who is sent away from a table that does not become free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendAway {
    /// Nobody.
    Nobody,
    /// What the agent itself does there beside: it does it again later.
    Agent,
    /// The coordinators as well: the catalog says that the table is gone.
    AgentAndCoordinators,
}

/// Runs `statements`, all or none of them, again as long as others are in the way. `table` (qualified, in quotes) is what
/// they need for themselves.
pub async fn run(
    session: &Session,
    what: &str,
    statements: &str,
    table: &str,
    send_away: SendAway,
) -> Result<(), PgError> {
    let attempt = async |lock_wait_ms: u32| {
        session.run(what, &format!("set local lock_timeout = {lock_wait_ms};\n{statements}")).await
    };
    let mut pause = PAUSE_MIN;
    for tries in 1..=TRIES_BEFORE_LAST {
        match attempt(LOCK_WAIT_MS).await {
            Err(error) if error.is_locked() || error.is_concurrent() => {}
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
        if tries >= POLITE_TRIES {
            make_way(session, table, send_away).await?;
        }
    }
    attempt(LAST_LOCK_WAIT_MS).await
}

async fn make_way(session: &Session, table: &str, send_away: SendAway) -> Result<(), PgError> {
    let coordinators = match send_away {
        SendAway::Nobody => return Ok(()),
        SendAway::Agent => None,
        SendAway::AgentAndCoordinators => Some(COORDINATOR_ROLE),
    };
    match session.query("send others away from a table", include_str!("make_way.sql"), &[&table, &coordinators]).await {
        Ok(sent_away) if sent_away.is_empty() => Ok(()),
        Ok(sent_away) => {
            tracing::info!(table, sessions = sent_away.len(), "sessions sent away from a table");
            Ok(())
        }
        // On a server that is not ours we may lack the right: then their patience must end first.
        Err(error) if error.is_rights() => {
            tracing::debug!(table, %error, "others stay where they are");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
