//! The lock that keeps writers out of a shard while its last changes go over.

use super::{mark, names, session, tables};
use crate::pg::connect::{PgError, Target};
use crate::pg::session::Session;
use atoll_proto::CatalogVersion;
use atoll_proto::moves::MoveSubject;
use std::time::{Duration, Instant};

/// Time of a statement under the lock, at least: writers wait for it.
const STATEMENT_TIME: Duration = Duration::from_secs(1);
/// How long an agent that does not go on may hold a lock, at least; a fence holds one for as long as writes may wait.
const HELD_BY_THE_STOPPED: Duration = Duration::from_secs(5);

/// A held lock. Dropped, it is let go, and nothing has happened.
pub struct Fence {
    session: Session,
    subject: MoveSubject,
    ordered_at: CatalogVersion,
    /// The marker that was committed under the lock.
    pub marker: u64,
    /// When the lock was asked for: since then writers wait.
    pub since: Instant,
}

impl Fence {
    /// Locks every table of the shard against writes and commits a marker; gives up a lock that is not there within `lock_wait`.
    pub async fn take(
        target: &Target,
        subject: &MoveSubject,
        ordered_at: CatalogVersion,
        lock_wait: Duration,
    ) -> Result<Self, PgError> {
        let limit = (lock_wait * 4).max(STATEMENT_TIME);
        // Both connections first: from the lock on, writers wait.
        let holder = session(target, subject, limit).await?;
        let marking = session(target, subject, limit).await?;
        clear_way(&marking, subject).await?;
        let since = Instant::now();
        lock(&holder, subject, "exclusive", lock_wait).await?;
        let marker = mark(&marking, subject).await?;
        Ok(Self { session: holder, subject: subject.clone(), ordered_at, marker, since })
    }

    /// Whether it was taken for this order.
    pub fn is_of(&self, ordered_at: CatalogVersion) -> bool {
        self.ordered_at == ordered_at
    }

    /// Renames the schema to its retired name and lets go.
    pub async fn retire(self) -> Result<(), PgError> {
        let statements = names::retire(&self.subject, self.ordered_at, self.marker);
        self.session.run("retire a shard", &statements).await
    }
}

/// Begins a transaction that locks all tables of the shard, outcomes first, as writers do.
pub(super) async fn lock(
    session: &Session,
    subject: &MoveSubject,
    mode: &str,
    lock_wait: Duration,
) -> Result<(), PgError> {
    let tables = tables(subject, &subject.source_schema()).join(", ");
    let statements = format!(
        "begin;
         set local lock_timeout = {};
         set local idle_in_transaction_session_timeout = {};
         lock table {tables} in {mode} mode",
        lock_wait.as_millis().max(1),
        // Nobody else lets go what an agent holds that was stopped.
        (lock_wait * 8).max(HELD_BY_THE_STOPPED).as_millis()
    );
    session.run("lock a shard", &statements).await
}

/// Sends away what is in the way of a lock and can be done again: autovacuum, and the agent's own builds.
pub(super) async fn clear_way(session: &Session, subject: &MoveSubject) -> Result<(), PgError> {
    let statement = "select pg_cancel_backend(a.pid)
                       from pg_stat_activity a
                      where (a.backend_type = 'autovacuum worker' or a.application_name = 'atoll-agent')
                        and exists (select
                                      from pg_locks l
                                      join pg_class c on c.oid = l.relation
                                      join pg_namespace n on n.oid = c.relnamespace
                                     where l.pid = a.pid and l.locktype = 'relation' and n.nspname = $1
                                       and l.mode <> 'AccessShareLock'
                                       and l.database = (select oid from pg_database where datname = current_database()))";
    match session.query("send others away from a shard", statement, &[&subject.source_schema()]).await {
        Ok(_) => Ok(()),
        // On a server that is not ours we may lack the right: then their patience must end first.
        Err(error) if error.is_rights() => Ok(()),
        Err(error) => Err(error),
    }
}
