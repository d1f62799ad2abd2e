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

/// Runs one statement that builds or drops an index concurrently: it waits for old transactions while others go on.
pub async fn concurrently(session: &Session, what: &str, statement: &str) -> Result<(), PgError> {
    session.run(what, "set lock_timeout = 0").await?;
    session.run(what, statement).await
}
