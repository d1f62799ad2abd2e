//! Changing parts of one entry: read under a lock, changed, written, in one transaction. No other writer comes between, and under a
//! ticket the outcome that was stored is looked up before anything else.

use super::flight::{self, Written};
use super::idempotency::{self, Replay, Ticket};
use super::read::ALIVE;
use super::write::{self, RowOutcome, WriteRow, WriteRule};
use super::{ShardError, ShardTable, WorkerPool};
use atoll_proto::entry::{EntryId, Metadata};
use tokio::time::Instant;
use tokio_postgres::types::Json;

/// What is stored of an entry, but for its vector.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Text.
    pub value: Option<String>,
    /// Metadata.
    pub metadata: Metadata,
    /// Tags.
    pub tags: Vec<String>,
}

/// Changes one entry by `change`, if it is at a version; nothing is kept of a change that is refused.
pub async fn patch<R: Send>(
    pool: &WorkerPool,
    table: &ShardTable,
    id: &EntryId,
    at_version: Option<i64>,
    change: impl Fn(Stored) -> Result<WriteRow, R> + Send + Sync,
    ticket: Option<&Ticket>,
    deadline: Instant,
) -> Result<Written<Result<Replay<RowOutcome>, R>>, ShardError> {
    let find = format!(
        "select version, value, metadata, tags from {} where namespace = $1 and key = $2 and {ALIVE} for update",
        table.quoted()
    );
    let (namespace, key) = (id.namespace.as_str(), id.key.as_str());
    pool.run(deadline, async |client| {
        let transaction = flight::writing(table, deadline);
        if let Some(replay) = idempotency::open(client, &transaction, table, ticket).await? {
            return Ok(replay.map(Ok));
        }
        let found = client.query_opt(&client.prepare_cached(&find).await?, &[&namespace, &key]).await?;
        let outcome = match found {
            None => RowOutcome::Missing,
            Some(row) => {
                let version: i64 = row.try_get(0)?;
                let Json(metadata) = row.try_get(2)?;
                let stored = Stored { value: row.try_get(1)?, metadata, tags: row.try_get(3)? };
                if at_version.is_some_and(|wanted| wanted != version) {
                    RowOutcome::Exists(version)
                } else {
                    let row = match change(stored) {
                        Ok(row) => row,
                        Err(refusal) => {
                            transaction.roll_back(client).await?;
                            return Ok(Written::nothing(Err(refusal)));
                        }
                    };
                    let parts = write::Parts::new(table, std::slice::from_ref(&row), WriteRule::AtVersion(version));
                    let answers = flight::each(client, &parts.statements()).await?;
                    parts.outcomes(&answers)?.into_iter().next().unwrap_or(RowOutcome::Missing)
                }
            }
        };
        Ok(idempotency::close(client, &transaction, table, ticket, outcome).await?.map(Ok))
    })
    .await
}
