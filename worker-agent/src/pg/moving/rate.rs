//! Bounds how fast a copy is made, so that it leaves disk and network to others.
//!
//! PostgreSQL copies as fast as it can and has no setting for it. So where a limit is set, a trigger on the copy's tables waits
//! whenever more bytes have come than the limit allows for the time since the first. It waits in a copy alone: changes that follow have to
//! keep up. It goes before indexes are built.

use crate::pg::connect::PgError;
use crate::pg::ddl;
use crate::pg::session::Session;
use atoll_proto::moves::MoveSubject;

const NAME: &str = "_copy_rate";

/// Statements that slow the copy of the subject's tables in `schema` down to so many bytes a second; nothing if there is no limit. They
/// belong to the statements that make the tables: none is ever filled without.
pub(super) fn limit(subject: &MoveSubject, schema: &str, bytes_per_second: u64) -> String {
    if bytes_per_second == 0 {
        return String::new();
    }
    let name = ddl::quote(NAME);
    let function = ddl::qualified(schema, NAME);
    // What is known between two rows is kept in settings of the session: PostgreSQL copies a table in one session. It looks at the
    // clock once in 256 KiB.
    let mut statements = format!(
        "create function {function}() returns trigger language plpgsql as $$
         declare
             bytes bigint := coalesce(nullif(current_setting('atoll.copied', true), '')::bigint, 0) + pg_column_size(new);
             began double precision := nullif(current_setting('atoll.copy_began', true), '')::double precision;
             due double precision;
         begin
             if began is null then
                 began := extract(epoch from clock_timestamp());
                 perform set_config('atoll.copy_began', began::text, false);
             end if;
             if bytes / 262144 > (bytes - pg_column_size(new)) / 262144 then
                 due := began + bytes / {bytes_per_second}.0 - extract(epoch from clock_timestamp());
                 if due > 0 and exists (select from pg_stat_progress_copy where pid = pg_backend_pid()) then
                     perform pg_sleep(due);
                 end if;
             end if;
             perform set_config('atoll.copied', bytes::text, false);
             return new;
         end $$;\n"
    );
    for collection in &subject.collections {
        let table = ddl::qualified(schema, collection.name.as_str());
        statements.push_str(&format!(
            "create trigger {name} before insert on {table} for each row execute function {function}();\n\
             alter table {table} enable always trigger {name};\n"
        ));
    }
    statements
}

/// From now on the copy takes changes as fast as it can.
pub(super) async fn lift(session: &Session, schema: &str) -> Result<(), PgError> {
    let statement = format!("drop function if exists {}() cascade", ddl::qualified(schema, NAME));
    session.run("lift the limit of a copy's rate", &statement).await
}
