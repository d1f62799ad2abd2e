//! The catalog version that shaped the server, kept in the server itself: so it is true of the data, whatever happened to
//! the agent, and an older desired state is refused after a restart too.

use crate::pg::connect::PgError;
use crate::pg::session::Session;
use atoll_proto::CatalogVersion;

/// The single row of `atoll.applied`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedRow {
    /// The cluster that the server belongs to.
    pub cluster_id: String,
    /// The newest version that was begun; nothing older is taken.
    pub begun: CatalogVersion,
    /// The newest version that was finished.
    pub applied: Option<CatalogVersion>,
}

/// Reads the row; none before the first desired state.
pub async fn read(session: &Session) -> Result<Option<AppliedRow>, PgError> {
    let statement = "select cluster_id, begun, applied from atoll.applied";
    let row = session.query_opt("read the applied version", statement, &[]).await?;
    Ok(row.map(|row| AppliedRow {
        cluster_id: row.get(0),
        begun: version(row.get(1)),
        applied: row.get::<_, Option<i64>>(2).map(version),
    }))
}

/// Notes that `begun` is being made so, before anything is touched.
pub async fn begin(session: &Session, cluster_id: &str, begun: CatalogVersion) -> Result<(), PgError> {
    let statement = "insert into atoll.applied (cluster_id, begun) values ($1, $2)
                     on conflict (only_row) do update set begun = greatest(atoll.applied.begun, excluded.begun)";
    session.execute("note the version begun", statement, &[&cluster_id, &number(begun)]).await?;
    Ok(())
}

/// Notes that `applied` has been made so.
pub async fn finish(session: &Session, applied: CatalogVersion) -> Result<(), PgError> {
    let statement = "update atoll.applied set applied = $1, changed_at = now()";
    session.execute("note the version applied", statement, &[&number(applied)]).await?;
    Ok(())
}

fn number(version: CatalogVersion) -> i64 {
    i64::try_from(version.0).unwrap_or(i64::MAX)
}

fn version(number: i64) -> CatalogVersion {
    CatalogVersion(u64::try_from(number).unwrap_or(0))
}
