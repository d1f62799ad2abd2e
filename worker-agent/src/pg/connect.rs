//! Connections to the server.

use crate::config::Endpoint;
use crate::pg::session::Session;
use crate::secret::{Secret, SecretError};
use atoll_trust::{Kept, PostgresTls};
use std::net::IpAddr;
use std::time::Duration;
use tokio_postgres::error::SqlState;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A statement of ours that waits longer for a lock gives up: whatever holds it matters more, and we come again.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
/// A network that swallows everything is noticed after this long, as coordinators notice it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(20);

/// Where and as whom to connect.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host; the one that a certificate has to be for.
    pub host: String,
    /// Where it is, if that is known better than by its name.
    pub address: Option<IpAddr>,
    /// TCP port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Its password, if it needs one.
    pub password: Option<Kept<Secret, SecretError>>,
    /// The worker's database.
    pub database: String,
    /// A database that exists before the worker's own is made; none where we must not make it.
    pub first_database: Option<String>,
    /// Whether connections are encrypted, and whom to trust.
    pub tls: PostgresTls,
}

/// Why the server did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// No connection, or it broke: may work later.
    #[error("PostgreSQL cannot be reached")]
    Unreachable {
        /// What the client library said.
        source: tokio_postgres::Error,
    },
    /// The answer did not come in time.
    #[error("PostgreSQL did not answer within {} s", limit.as_secs())]
    Slow {
        /// The time allowed.
        limit: Duration,
    },
    /// The user lacks a right; somebody has to give it.
    #[error("PostgreSQL user lacks the right to {what}")]
    Rights {
        /// What was tried.
        what: String,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// The server refused a statement.
    #[error("PostgreSQL could not {what}")]
    Refused {
        /// What was tried.
        what: String,
        /// What the server said.
        source: tokio_postgres::Error,
    },
}

impl PgError {
    /// Sorts an error by what can be done about it; `what` completes "PostgreSQL could not …".
    pub fn of(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| {
            let code = source.code().cloned();
            if source.is_closed() || code.is_none() {
                return Self::Unreachable { source };
            }
            let what = what.into();
            if code == Some(SqlState::INSUFFICIENT_PRIVILEGE) {
                return Self::Rights { what, source };
            }
            Self::Refused { what, source }
        }
    }

    /// Whether what the statement was about is not there (any more): it was dropped in the meantime.
    pub fn is_gone(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        let gone = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_OBJECT, SqlState::INVALID_SCHEMA_NAME];
        source.code().is_some_and(|code| gone.contains(code))
    }

    /// Whether another session changed the same object at the same moment: trying again is all it takes.
    pub fn is_concurrent(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        let Some(error) = source.as_db_error() else { return false };
        // PostgreSQL has no code of its own for it.
        let updated = *error.code() == SqlState::INTERNAL_ERROR && error.message().contains("concurrently updated");
        updated || *error.code() == SqlState::T_R_DEADLOCK_DETECTED
    }

    /// Whether somebody uses what the statement was to drop.
    pub fn is_in_use(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        source.code() == Some(&SqlState::OBJECT_IN_USE)
    }

    /// Whether a lock did not become free in time.
    pub fn is_locked(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether the statement was cancelled: its time was up, or something more important needed what it held.
    pub fn is_cancelled(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        source.code() == Some(&SqlState::QUERY_CANCELED)
    }

    /// Whether the connection is of no more use.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Slow { .. })
    }

    /// Whether the server said that a right is missing.
    pub fn is_rights(&self) -> bool {
        matches!(self, Self::Rights { .. })
    }
}

impl Target {
    /// The same at another server.
    pub fn at(&self, endpoint: &Endpoint) -> Self {
        Self { host: endpoint.host.clone(), address: None, port: endpoint.port, ..self.clone() }
    }

    /// Connects to the worker's database; statements may take `statement_limit` (zero: any time).
    ///
    /// Its commits wait for this server's disk and not for synchronous standbys: while these are away, tables still have to be made,
    /// and locks to be let go. A failover may take such a commit back, and then it is made again, by what should be there. A
    /// coordinator's write that was acknowledged lies behind the table it is in, so it keeps that too.
    pub async fn connect(&self, statement_limit: Duration) -> Result<Session, PgError> {
        self.connect_to(&self.database, statement_limit).await
    }

    /// The same for moves, whose steps the catalog counts on: what it was told of must not be taken back. Commits wait as the
    /// server's settings say.
    pub async fn connect_for_moves(&self, statement_limit: Duration) -> Result<Session, PgError> {
        self.open(&self.database, statement_limit, "").await
    }

    /// Connects to `database`, as [`Self::connect`] does.
    pub async fn connect_to(&self, database: &str, statement_limit: Duration) -> Result<Session, PgError> {
        self.open(database, statement_limit, " -c synchronous_commit=local").await
    }

    async fn open(&self, database: &str, statement_limit: Duration, more: &str) -> Result<Session, PgError> {
        let mut config = tokio_postgres::Config::new();
        config.host(&self.host).port(self.port).user(&self.user).dbname(database);
        config.application_name("atoll-agent").connect_timeout(CONNECT_LIMIT);
        config.keepalives_idle(KEEPALIVE_IDLE).tcp_user_timeout(UNACKNOWLEDGED_LIMIT);
        config.options(format!(
            "-c statement_timeout={} -c lock_timeout={} -c client_min_messages=warning{more}",
            statement_limit.as_millis(),
            LOCK_LIMIT.as_millis()
        ));
        if let Some(password) = &self.password {
            config.password(password.now().expose());
        }
        if let Some(address) = self.address {
            config.hostaddr(address);
        }
        config.ssl_mode(self.tls.ssl_mode());
        let connecting = tokio::time::timeout(CONNECT_LIMIT, config.connect(self.tls.clone())).await;
        let (client, connection) = connecting
            .map_err(|_| PgError::Slow { limit: CONNECT_LIMIT })?
            .map_err(PgError::of(format!("let `{}` into database `{database}`", self.user)))?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        let limit = (!statement_limit.is_zero()).then_some(statement_limit);
        Ok(Session::new(client, limit, connection.abort_handle()))
    }
}

/// An error and all that caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        // The client library repeats its source's text.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}
