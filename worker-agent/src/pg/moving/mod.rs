//! What moves of shards need of a server: replication from the source ([`feed`]) to the copy ([`copy`]) at a bounded `rate`, the
//! copy's [`indexes`], the comparison of both ([`sums`]), what is read into memory ([`warm`]), the fence ([`fence`]) and the names
//! ([`names`]).

pub mod copy;
pub mod feed;
pub mod fence;
pub mod indexes;
pub mod names;
mod rate;
pub mod sums;
pub mod warm;

use crate::pg::connect::{PgError, Target};
use crate::pg::ddl::qualified;
use crate::pg::session::Session;
use atoll_proto::agent::IDEMPOTENCY_TABLE;
use atoll_proto::moves::MoveSubject;
use atoll_proto::{CatalogVersion, MoveId};
use std::time::Duration;

/// Statements that make, rename or ask; copies and builds take as long as they take.
pub const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// A session that works for a move and calls itself so.
pub async fn session(target: &Target, subject: &MoveSubject, limit: Duration) -> Result<Session, PgError> {
    named(target, &session_name(subject.id), limit).await
}

/// A session that cleans up after a move. [`end_sessions`] lets it be: asked for again, a cleanup that takes long would end itself.
pub async fn cleaning_session(target: &Target, subject: &MoveSubject) -> Result<Session, PgError> {
    named(target, &format!("{}-cleanup", session_name(subject.id)), STATEMENT_LIMIT).await
}

async fn named(target: &Target, name: &str, limit: Duration) -> Result<Session, PgError> {
    let session = target.connect_for_moves(limit).await?;
    // Sums are of rows as text, so both sides have to write them alike.
    let statement = "select set_config('application_name', $1, false), set_config('timezone', 'UTC', false),
                            set_config('datestyle', 'ISO, YMD', false), set_config('extra_float_digits', '1', false)";
    session.query_one("name its session", statement, &[&name]).await?;
    Ok(session)
}

/// Ends every session that works for the move, except those that clean up after it.
pub async fn end_sessions(target: &Target, subject: &MoveSubject) -> Result<(), PgError> {
    let session = target.connect(STATEMENT_LIMIT).await?;
    let statement = "select pg_terminate_backend(pid) from pg_stat_activity
                      where application_name = $1 and datname = current_database()";
    session.query("end work for a move", statement, &[&session_name(subject.id)]).await.map(drop)
}

fn session_name(id: MoveId) -> String {
    format!("atoll-move-{id}")
}

/// Notes that an order is being carried out; false if a newer one came before.
pub async fn note_order(session: &Session, id: MoveId, ordered_at: CatalogVersion) -> Result<bool, PgError> {
    let statement = "insert into atoll.moves as m (move_id, ordered_at) values ($1, $2)
                     on conflict (move_id) do update
                           set ordered_at = excluded.ordered_at,
                               changed_at = case m.ordered_at when excluded.ordered_at then m.changed_at else now() end
                           where m.ordered_at <= excluded.ordered_at
                     returning m.ordered_at";
    let noted = session.query_opt("note an order", statement, &[&number(id.0), &number(ordered_at.0)]).await?;
    Ok(noted.is_some())
}

/// Schemas that this server has retired: never made anew.
pub async fn retired(session: &Session) -> Result<Vec<String>, PgError> {
    let statement = "select retired from atoll.moves where retired is not null";
    let rows = session.query("list the schemas it has retired", statement, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Forgets orders of moves that are over, as of a desired state.
pub async fn forget(session: &Session, open: &[MoveId], as_of: CatalogVersion) -> Result<(), PgError> {
    let open: Vec<i64> = open.iter().map(|id| number(id.0)).collect();
    let statement = "delete from atoll.moves where move_id <> all ($1) and ordered_at < $2";
    session.execute("forget moves that are over", statement, &[&open, &number(as_of.0)]).await.map(drop)
}

/// Writes a marker, and tells it.
pub async fn mark(session: &Session, subject: &MoveSubject) -> Result<u64, PgError> {
    let markers = qualified("atoll", &subject.markers());
    let statement =
        format!("insert into {markers} (marker) select coalesce(max(marker), 0) + 1 from {markers} returning marker");
    Ok(unsigned(session.query_one("write a marker", &statement, &[]).await?.get(0)))
}

/// The last marker that has arrived; 0 before the first.
pub async fn last_marker(session: &Session, subject: &MoveSubject) -> Result<u64, PgError> {
    let markers = qualified("atoll", &subject.markers());
    let statement = format!("select coalesce(max(marker), 0) from {markers}");
    Ok(unsigned(session.query_one("look for a marker", &statement, &[]).await?.get(0)))
}

/// Tables of the shard, qualified and in quotes. Outcomes come first, as in every transaction that writes.
fn tables(subject: &MoveSubject, schema: &str) -> Vec<String> {
    let names = subject.collections.iter().map(|collection| collection.name.as_str());
    [IDEMPOTENCY_TABLE].into_iter().chain(names).map(|name| qualified(schema, name)).collect()
}

/// The statement that makes the table of markers.
fn create_markers(subject: &MoveSubject) -> String {
    format!(
        "create table if not exists {} (marker bigint primary key, written_at timestamptz not null default clock_timestamp());\n",
        qualified("atoll", &subject.markers())
    )
}

fn drop_markers(subject: &MoveSubject) -> String {
    format!("drop table if exists {};\n", qualified("atoll", &subject.markers()))
}

async fn schema_exists(session: &Session, name: &str) -> Result<bool, PgError> {
    let statement = "select exists (select from pg_namespace where nspname = $1)";
    Ok(session.query_one("look for a schema", statement, &[&name]).await?.get(0))
}

/// A text as a literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn number(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

fn unsigned(of: i64) -> u64 {
    u64::try_from(of).unwrap_or(0)
}
