//! What a server says of itself.

use crate::identity::Identity;
use crate::pg::connect::{PgError, chain};
use crate::pg::machine::Machine;
use crate::pg::session::Session;
use atoll_proto::agent::PostgresFacts;

/// A server's own words, read in one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Such as `18.4`.
    pub version: String,
    /// Such as 180004.
    pub version_num: u32,
    /// `max_connections`.
    pub max_connections: u32,
    /// Whether commits reach the disk.
    pub fsync: bool,
    /// Whether torn pages can be repaired.
    pub full_page_writes: bool,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// When it started, in microseconds since 1970: tells one run of the server from the next.
    pub started_at_us: i64,
    /// Identity of the data directory; of an external server the one that it is known by.
    pub system_identifier: String,
    /// Version of `vector` in this database.
    pub pgvector_installed: Option<String>,
    /// Version of `vector` that could be installed.
    pub pgvector_available: Option<String>,
    /// Settings in its files that it takes up only when it is started anew.
    pub pending_restart: Option<String>,
}

impl ServerFacts {
    /// Asks the server of the worker with this identity.
    pub async fn read(session: &Session, identity: &Identity) -> Result<Self, PgError> {
        let system_identifier = match &identity.server {
            Some(known) => Some(known.clone()),
            None => system_identifier(session).await?,
        };
        let row = session.query_one("describe itself", include_str!("facts.sql"), &[]).await?;
        let number = |name: &str| u32::try_from(row.get::<_, i32>(name)).unwrap_or(0);
        Ok(Self {
            version: row.get("version"),
            version_num: number("version_num"),
            max_connections: number("max_connections"),
            fsync: row.get("fsync"),
            full_page_writes: row.get("full_page_writes"),
            in_recovery: row.get("in_recovery"),
            started_at_us: row.get("started_at_us"),
            // Where it may not be read the server is known by the worker's claim in it.
            system_identifier: system_identifier.unwrap_or_else(|| identity.uid.clone()),
            pgvector_installed: row.get("pgvector_installed"),
            pgvector_available: row.get("pgvector_available"),
            pending_restart: row.get("pending_restart"),
        })
    }

    /// The version that counts: the installed one, else the one that would be.
    pub fn pgvector(&self) -> Option<&str> {
        self.pgvector_installed.as_deref().or(self.pgvector_available.as_deref())
    }

    /// The version that can be had: what the extension is made or updated to, whatever is installed now.
    pub fn pgvector_to_come(&self) -> Option<&str> {
        self.pgvector_available.as_deref().or(self.pgvector_installed.as_deref())
    }

    /// As coordinators are told. The cores are those of this machine, which an external server need not share.
    pub fn for_coordinators(&self) -> PostgresFacts {
        PostgresFacts {
            version: self.version.split_whitespace().next().unwrap_or_default().to_owned(),
            version_num: self.version_num,
            pgvector: self.pgvector().unwrap_or_default().to_owned(),
            system_identifier: self.system_identifier.clone(),
            max_connections: self.max_connections,
            cores: Machine::cores(),
        }
    }
}

/// PostgreSQL's own identity of the data; none where the user may not read it.
pub async fn system_identifier(session: &Session) -> Result<Option<String>, PgError> {
    let statement = "select system_identifier::text from pg_control_system()";
    match session.query_one("name its data", statement, &[]).await {
        Ok(row) => Ok(Some(row.get(0))),
        Err(error) if error.is_lost() || error.is_cancelled() => Err(error),
        Err(error) => {
            tracing::debug!(error = chain(&error), "the system identifier is not known");
            Ok(None)
        }
    }
}
