//! Builds vector indexes anew while reads and writes go on.

use crate::desired::plan::{Rebuild, RebuildWork};
use crate::pg::connect::PgError;
use crate::pg::ddl;
use crate::pg::patience::{self, SendAway};
use crate::pg::session::Session;

/// Carries out a rebuild. `session` must have no statement limit: a build takes as long as it takes.
pub async fn rebuild(session: &Session, rebuild: &Rebuild) -> Result<(), PgError> {
    let (schema, collection) = (&rebuild.schema, &rebuild.collection);
    let what = format!("rebuild the vector index of `{schema}`.`{}`", collection.name);
    let drop_next = ddl::drop_next_vector_index(schema, &collection.name);
    // What runs concurrently waits for old transactions while others go on; only the swap holds others up.
    session.run(&what, "set lock_timeout = 0").await?;
    match rebuild.work {
        RebuildWork::DropLeftover => return session.run(&what, &drop_next).await,
        RebuildWork::DropAll => {
            session.run(&what, &drop_next).await?;
            return session.run(&what, &ddl::drop_index(schema, &ddl::vector_index(&collection.name))).await;
        }
        RebuildWork::BuildAndSwap => {
            let Some(build) = ddl::build_next_vector_index(schema, collection) else {
                return Ok(());
            };
            // Each by itself: neither may run inside a transaction.
            session.run(&what, &drop_next).await?;
            session.run(&what, &build).await?;
        }
        RebuildWork::Swap => {}
    }
    let swap = ddl::swap_vector_index(schema, &collection.name);
    let table = ddl::qualified(schema, collection.name.as_str());
    patience::run(session, &what, &swap, &table, SendAway::Nobody).await
}

/// Makes a session ready for one statement that builds or drops an index concurrently, and tells its process: it may wait for old
/// transactions as long as it takes, and `helpers` processes at most help it, fewer where the server is set so.
pub async fn prepare(session: &Session, helpers: u32) -> Result<i32, PgError> {
    let statement = "select pg_backend_pid(), set_config('lock_timeout', '0', false),
         set_config('max_parallel_maintenance_workers',
                    least(current_setting('max_parallel_maintenance_workers')::int, $1)::text, false)";
    let helpers = i32::try_from(helpers).unwrap_or(i32::MAX);
    Ok(session.query_one("prepare for work on an index", statement, &[&helpers]).await?.get(0))
}

/// Lets several processes build what lies over a small table, too. PostgreSQL counts the table's pages, while a graph takes the time of
/// its rows' vectors: two processes are sooner done from some hundreds of them on.
pub async fn share_small_builds(session: &Session) -> Result<(), PgError> {
    session.run("prepare for work on small indexes", "set min_parallel_table_scan_size = '1MB'").await
}

/// Sends away the work of some of our own sessions.
pub async fn send_away(session: &Session, pids: &[i32]) -> Result<(), PgError> {
    let statement = "select pg_cancel_backend(pid) from unnest($1::int[]) as pid";
    session.execute("send builds away", statement, &[&pids]).await.map(|_| ())
}
