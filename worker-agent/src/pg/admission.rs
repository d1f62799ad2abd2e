//! Which servers may become workers. A server that loses or damages data is refused with the reason, before it holds any.

use crate::pg::facts::ServerFacts;
use crate::pg::find::POSTGRES_MAJOR_MIN;
use crate::pg::version::PgvectorVersion;

/// Why a server is no worker. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too old a server.
    #[error("PostgreSQL {version} is older than {POSTGRES_MAJOR_MIN}: upgrade it")]
    PostgresTooOld {
        /// Its version.
        version: String,
    },
    /// A standby cannot take writes.
    #[error("the server is in recovery: register its primary, or promote it")]
    InRecovery,
    /// A crash would lose acknowledged writes.
    #[error("fsync is off, so a crash would lose or damage data: set `fsync = on` and reload the server")]
    FsyncOff,
    /// A crash could leave torn pages.
    #[error("full_page_writes is off, so a crash could damage data: set `full_page_writes = on` and reload the server")]
    FullPageWritesOff,
    /// No vectors.
    #[error("the server has no pgvector: install {} or newer for its PostgreSQL", PgvectorVersion::OLDEST_SAFE)]
    PgvectorMissing,
    /// Vacuum would corrupt vector indexes.
    #[error(
        "pgvector {version} can corrupt HNSW indexes on vacuum: install {} or newer, then \
         `alter extension vector update` (allow_old_pgvector = true accepts the risk)",
        PgvectorVersion::OLDEST_SAFE
    )]
    PgvectorTooOld {
        /// Its version.
        version: String,
    },
}

/// Whether a server with these facts may be a worker, if `pgvector` is the version it works with.
pub fn admit(facts: &ServerFacts, pgvector: Option<&str>, allow_old_pgvector: bool) -> Result<(), Refusal> {
    if facts.version_num / 10_000 < POSTGRES_MAJOR_MIN {
        return Err(Refusal::PostgresTooOld { version: facts.version.clone() });
    }
    if facts.in_recovery {
        return Err(Refusal::InRecovery);
    }
    if !facts.fsync {
        return Err(Refusal::FsyncOff);
    }
    if !facts.full_page_writes {
        return Err(Refusal::FullPageWritesOff);
    }
    let Some(version) = pgvector else {
        return Err(Refusal::PgvectorMissing);
    };
    // A version that is no version, such as a development build's, is not known to be safe either.
    let safe = version.parse::<PgvectorVersion>().is_ok_and(|version| version >= PgvectorVersion::OLDEST_SAFE);
    if !safe && !allow_old_pgvector {
        return Err(Refusal::PgvectorTooOld { version: version.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn good() -> ServerFacts {
        ServerFacts {
            version: "18.4".to_owned(),
            version_num: 180_004,
            max_connections: 100,
            fsync: true,
            full_page_writes: true,
            in_recovery: false,
            started_at_us: 1,
            system_identifier: "7".to_owned(),
            pgvector_installed: Some("0.8.5".to_owned()),
            pgvector_available: Some("0.8.5".to_owned()),
            pending_restart: None,
        }
    }

    fn judged(facts: &ServerFacts) -> Result<(), Refusal> {
        admit(facts, facts.pgvector(), false)
    }

    #[test]
    fn a_good_server_is_admitted() {
        assert_eq!(judged(&good()), Ok(()));
        assert_eq!(judged(&ServerFacts { version_num: 150_000, ..good() }), Ok(()));
    }

    #[test]
    fn each_fault_is_refused_with_its_reason() {
        let refused = |facts: ServerFacts| judged(&facts).unwrap_err();
        assert!(matches!(refused(ServerFacts { version_num: 140_012, ..good() }), Refusal::PostgresTooOld { .. }));
        assert_eq!(refused(ServerFacts { in_recovery: true, ..good() }), Refusal::InRecovery);
        assert_eq!(refused(ServerFacts { fsync: false, ..good() }), Refusal::FsyncOff);
        assert_eq!(refused(ServerFacts { full_page_writes: false, ..good() }), Refusal::FullPageWritesOff);
        let none = ServerFacts { pgvector_installed: None, pgvector_available: None, ..good() };
        assert_eq!(refused(none), Refusal::PgvectorMissing);
    }

    #[test]
    fn an_old_pgvector_needs_consent() {
        for old in ["0.8.3", "0.7.4", "0.8.x"] {
            let facts = ServerFacts { pgvector_installed: Some(old.to_owned()), ..good() };
            assert!(matches!(judged(&facts), Err(Refusal::PgvectorTooOld { .. })), "{old}");
            assert_eq!(admit(&facts, facts.pgvector(), true), Ok(()));
            // Before the extension is updated, what counts is what it can be updated to.
            assert_eq!(admit(&facts, facts.pgvector_to_come(), false), Ok(()));
        }
        let available =
            ServerFacts { pgvector_installed: None, pgvector_available: Some("0.8.4".to_owned()), ..good() };
        assert_eq!(judged(&available), Ok(()));
        let hopeless = ServerFacts { pgvector_available: Some("0.8.3".to_owned()), ..good() };
        assert!(admit(&hopeless, hopeless.pgvector_to_come(), false).is_err());
    }
}
