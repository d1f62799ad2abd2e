//! The names of a move's schemas: what the source gives up, and what the target takes.

use super::{copy, last_marker, number, schema_exists};
use crate::pg::connect::PgError;
use crate::pg::ddl::quote;
use crate::pg::session::Session;
use atoll_proto::CatalogVersion;
use atoll_proto::moves::MoveSubject;

/// A schema that was retired.
pub struct Retired {
    /// The marker that was written under the lock.
    pub marker: u64,
    /// For how long writes have waited, in milliseconds.
    pub held_ms: u64,
}

/// Since when the schema is retired, if it is.
pub async fn retired(session: &Session, subject: &MoveSubject) -> Result<Option<Retired>, PgError> {
    // The time is that at which the transaction began: it does nothing before it asks for the lock.
    let statement = "select marker, (extract(epoch from clock_timestamp() - changed_at) * 1000)::bigint
                       from atoll.moves where move_id = $1 and retired is not null and marker is not null";
    let row = session.query_opt("look whether a schema is retired", statement, &[&number(subject.id.0)]).await?;
    Ok(row.map(|row| Retired { marker: super::unsigned(row.get(0)), held_ms: super::unsigned(row.get(1)) }))
}

/// The statements that retire the schema, in the transaction that holds its locks. They fail if a newer order came meanwhile.
///
/// Their commit waits for the disk, whatever the server's default: a source that forgot it in a crash would take writes again.
pub fn retire(subject: &MoveSubject, ordered_at: CatalogVersion, marker: u64) -> String {
    format!(
        "set local synchronous_commit = on;
         do $$ begin
             update atoll.moves set retired = '{schema}', marker = {marker}, changed_at = now()
              where move_id = {id} and ordered_at = {ordered_at};
             if not found then raise exception 'a newer order came'; end if;
         end $$;
         alter schema {quoted} rename to {retired};
         commit",
        schema = subject.source_schema(),
        id = subject.id,
        quoted = quote(&subject.source_schema()),
        retired = quote(&subject.retired_schema()),
    )
}

/// Gives the copy its own name, if it has everything up to the marker, and flushes. Whether it has.
pub async fn take_over(
    session: &Session,
    subject: &MoveSubject,
    ordered_at: CatalogVersion,
    marker: u64,
) -> Result<bool, PgError> {
    let what = "hand a shard over";
    if last_marker(session, subject).await? < marker {
        return Ok(false);
    }
    let rename = match copy::owned(session, subject).await? {
        Some(name) if name == subject.target_schema() => String::new(),
        Some(name) => format!("alter schema {} rename to {};", quote(&name), quote(&subject.target_schema())),
        None => return Ok(false),
    };
    // The commit writes a record of its own, so it waits for the disk to have everything before it.
    let statements = format!(
        "set local synchronous_commit = on;
         do $$ begin
             update atoll.moves set marker = {marker}, changed_at = now()
              where move_id = {} and ordered_at = {ordered_at};
             if not found then raise exception 'a newer order came'; end if;
         end $$;
         {rename}",
        subject.id
    );
    session.run(what, &statements).await?;
    Ok(true)
}

/// Gives both schemas the source's name back, whichever is here.
pub async fn restore(session: &Session, subject: &MoveSubject) -> Result<(), PgError> {
    let mut statements =
        format!("update atoll.moves set retired = null, marker = null where move_id = {};\n", subject.id);
    let source = quote(&subject.source_schema());
    if schema_exists(session, &subject.retired_schema()).await? {
        statements.push_str(&format!("alter schema {} rename to {source};\n", quote(&subject.retired_schema())));
    }
    if copy::owned(session, subject).await?.is_some_and(|name| name == subject.target_schema()) {
        statements.push_str(&format!("alter schema {} rename to {source};\n", quote(&subject.target_schema())));
    }
    session.run("put names back", &statements).await
}
