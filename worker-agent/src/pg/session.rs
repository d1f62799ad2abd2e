//! One connection to the server. Every statement has a limit here as well as there, because a server that hangs and a
//! network that swallows say nothing.

use crate::pg::connect::PgError;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// How much longer than the server's own limit an answer is waited for, so that its word comes first.
const GRACE: Duration = Duration::from_secs(1);

/// A connection. After a lost statement ([`PgError::is_lost`]) it is of no more use.
pub struct Session {
    client: Client,
    /// Longest a statement may run; none for any time.
    limit: Option<Duration>,
    connection: AbortHandle,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The connection's task would wait for ever for a server that hangs.
        self.connection.abort();
    }
}

impl Session {
    pub(super) fn new(client: Client, limit: Option<Duration>, connection: AbortHandle) -> Self {
        Self { client, limit, connection }
    }

    /// Whether the server closed it.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Statements without parameters: all of them or none, as in one transaction. `what` completes "PostgreSQL could not …".
    pub async fn run(&self, what: impl Into<String>, statements: &str) -> Result<(), PgError> {
        self.within_limit(what, self.client.batch_execute(statements)).await
    }

    /// Tells how many rows a statement touched.
    pub async fn execute(
        &self,
        what: impl Into<String>,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, PgError> {
        self.within_limit(what, self.client.execute(statement, parameters)).await
    }

    /// All rows.
    pub async fn query(
        &self,
        what: impl Into<String>,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        self.within_limit(what, self.client.query(statement, parameters)).await
    }

    /// The one row that a statement gives.
    pub async fn query_one(
        &self,
        what: impl Into<String>,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, PgError> {
        self.within_limit(what, self.client.query_one(statement, parameters)).await
    }

    /// One row or none.
    pub async fn query_opt(
        &self,
        what: impl Into<String>,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, PgError> {
        self.within_limit(what, self.client.query_opt(statement, parameters)).await
    }

    async fn within_limit<T>(
        &self,
        what: impl Into<String>,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PgError> {
        let answer = match self.limit {
            Some(limit) => tokio::time::timeout(limit + GRACE, answer).await.map_err(|_| PgError::Slow { limit })?,
            None => answer.await,
        };
        answer.map_err(PgError::of(what))
    }
}
