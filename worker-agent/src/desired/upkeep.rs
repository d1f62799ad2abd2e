//! Work on the server that goes on beside requests: vector indexes built anew after their profile changed, expired rows
//! deleted. It takes as long as it takes, so it is no part of applying a desired state, and is looked at again and again.

use crate::desired::apply::Applier;
use crate::desired::plan::rebuilds;
use crate::pg::connect::{PgError, chain};
use crate::pg::existing::Existing;
use crate::pg::{index, sweep};
use crate::stop::Stop;
use crate::worker::Worker;
use atoll_proto::agent::{DesiredState, REFERENCE_SCHEMA, shard_schema};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUND_EVERY: Duration = Duration::from_secs(60);
const SWEEP_STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// The schemas that a desired state speaks of. Others, such as those of shards that moved away, are left alone.
pub fn schemas_of(desired: &DesiredState) -> Vec<String> {
    let shards = desired.shards.iter().map(|shard| shard_schema(shard.shard, shard.generation));
    shards.chain([REFERENCE_SCHEMA.to_owned()]).collect()
}

/// Rebuilds vector indexes, each minute and after each applied state, until `stop`.
pub async fn rebuild_indexes(worker: Arc<Worker>, applier: Arc<Applier>, mut stop: Stop) {
    let mut current = applier.current();
    loop {
        let desired = current.borrow_and_update().clone();
        if let Some(desired) = desired
            && worker.server.ready().is_ok()
        {
            let round = tokio::select! {
                round = rebuild_round(&worker, &desired) => round,
                () = stop.told() => return,
            };
            if let Err(error) = round {
                tracing::warn!(error = chain(&error), "vector indexes not rebuilt, trying again later");
            }
        }
        tokio::select! {
            _ = tokio::time::sleep(ROUND_EVERY) => {}
            changed = current.changed() => if changed.is_err() { return },
            () = stop.told() => return,
        }
    }
}

/// Deletes expired rows each minute, until `stop`.
pub async fn sweep_expired(worker: Arc<Worker>, applier: Arc<Applier>, mut stop: Stop) {
    let current = applier.current();
    loop {
        tokio::select! {
            _ = tokio::time::sleep(ROUND_EVERY) => {}
            () = stop.told() => return,
        }
        let desired = current.borrow().clone();
        let Some(desired) = desired else {
            continue;
        };
        if worker.server.ready().is_err() {
            continue;
        }
        match sweep_round(&worker, &desired).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "expired rows deleted"),
            Err(error) if error.is_gone() => tracing::debug!(error = chain(&error), "dropped in the meantime"),
            Err(error) => tracing::warn!(error = chain(&error), "expired rows not deleted, trying again later"),
        }
    }
}

/// Rebuilds what is to be rebuilt, one after the other; one that fails does not keep the others back.
async fn rebuild_round(worker: &Worker, desired: &DesiredState) -> Result<(), PgError> {
    let session = worker.target().connect(Duration::ZERO).await?;
    for rebuild in rebuilds(desired, &Existing::read(&session).await?) {
        let (schema, collection) = (&rebuild.schema, &rebuild.collection.name);
        let begun = Instant::now();
        match index::rebuild(&session, &rebuild).await {
            Ok(()) => {
                let took_ms = begun.elapsed().as_millis();
                tracing::info!(schema, %collection, took_ms, "vector index rebuilt");
            }
            Err(error) if error.is_lost() => return Err(error),
            // A desired state dropped or changed the table, and had the build sent away.
            Err(error) if error.is_gone() || error.is_cancelled() => {
                tracing::debug!(schema, %collection, error = chain(&error), "vector index not rebuilt");
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(schema, %collection, error, "vector index not rebuilt, trying again later");
            }
        }
    }
    Ok(())
}

async fn sweep_round(worker: &Worker, desired: &DesiredState) -> Result<u64, PgError> {
    let session = worker.target().connect(SWEEP_STATEMENT_LIMIT).await?;
    sweep::sweep(&session, &schemas_of(desired)).await
}
