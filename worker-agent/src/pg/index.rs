//! Builds vector indexes anew while reads and writes go on.

use crate::desired::plan::{Rebuild, RebuildWork};
use crate::pg::connect::PgError;
use crate::pg::ddl;
use tokio_postgres::Client;

/// Carries out a rebuild. `client` must have no statement limit: a build takes as long as it takes.
pub async fn rebuild(client: &mut Client, rebuild: &Rebuild) -> Result<(), PgError> {
    let (schema, collection) = (&rebuild.schema, &rebuild.collection);
    let what = || format!("rebuild the vector index of `{schema}`.`{}`", collection.name);
    let drop_next = ddl::drop_next_vector_index(schema, &collection.name);
    // What runs concurrently waits for old transactions while others go on; only the swap holds others up.
    client.batch_execute("set lock_timeout = 0").await.map_err(PgError::of(what()))?;
    match rebuild.work {
        RebuildWork::DropLeftover => {
            return client.batch_execute(&drop_next).await.map_err(PgError::of(what()));
        }
        RebuildWork::BuildAndSwap => {
            let Some(build) = ddl::build_next_vector_index(schema, collection) else {
                return Ok(());
            };
            // Each by itself: neither may run inside a transaction.
            client.batch_execute(&drop_next).await.map_err(PgError::of(what()))?;
            client.batch_execute(&build).await.map_err(PgError::of(what()))?;
        }
        RebuildWork::Swap => {}
    }
    let transaction = client.transaction().await.map_err(PgError::of(what()))?;
    let swap = ddl::swap_vector_index(schema, &collection.name);
    transaction.batch_execute("set local lock_timeout = '5s'").await.map_err(PgError::of(what()))?;
    transaction.batch_execute(&swap).await.map_err(PgError::of(what()))?;
    transaction.commit().await.map_err(PgError::of(what()))
}
