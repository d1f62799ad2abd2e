//! Stored entries, taken at random.

use super::draw::random_rows;
use super::flight::{self, Bound};
use super::read::ALIVE;
use super::session::ReadSettings;
use super::statement::Statement;
use super::{ShardError, ShardTable, WorkerPool, row};
use atoll_proto::entry::EntryId;
use atoll_proto::{EntryKey, Namespace, Vector};
use tokio::time::Instant;
use tokio_postgres::Row;

/// Of up to this many rows every id is looked at, in the primary key; of more only a sample of the table's pages.
const EVERY_ID_ROWS_MAX: u64 = 20_000;

/// A stored entry with its vector.
#[derive(Debug, Clone)]
pub struct SampledEntry {
    /// Its id.
    pub id: EntryId,
    /// Its vector.
    pub vector: Vector,
}

/// What to take.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// Of these namespaces; of all if none.
    pub namespaces: Option<&'a [Namespace]>,
    /// How many rows these have together, as far as known.
    pub rows: Option<u64>,
    /// At most so many.
    pub count: u32,
}

/// Takes entries with vectors at random, none twice, in any order: fewer than asked for where there are no more, or now and then
/// by chance.
pub async fn entries(
    pool: &WorkerPool,
    table: &ShardTable,
    draw: Draw<'_>,
    deadline: Instant,
) -> Result<Vec<SampledEntry>, ShardError> {
    let sql = match draw.rows {
        Some(rows) if rows > EVERY_ID_ROWS_MAX => by_page(table, draw, rows),
        Some(_) | None => by_id(table, draw),
    };
    let begin = format!(
        "{}; set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off",
        ReadSettings::until(deadline).in_transaction()
    );
    let statement = Bound { text: &sql.text, params: sql.params() };
    let rows = flight::query(pool, &flight::reading(begin), statement, deadline).await?;
    rows.iter().filter_map(|row| entry(pool.worker(), table, row).transpose()).collect()
}

/// Ids at random, by the primary key alone, then their rows.
fn by_id(table: &ShardTable, draw: Draw<'_>) -> Statement {
    let quoted = table.quoted();
    let mut sql = Statement::new("with picked as materialized (select namespace, key from ");
    sql.push(&quoted);
    if let Some(namespaces) = draw.namespaces {
        sql.push(" where namespace = any(").bind(names(namespaces)).push(")");
    }
    sql.push(" order by random() limit ").bind(i64::from(draw.count));
    sql.push(") select stored.namespace, stored.key, stored.embedding from picked join ").push(&quoted);
    sql.push(" as stored using (namespace, key) where ").push(ALIVE);
    sql
}

/// Rows at random of pages at random.
fn by_page(table: &ShardTable, draw: Draw<'_>, rows: u64) -> Statement {
    random_rows("namespace, key, embedding", table, rows, draw.count, |sql| {
        if let Some(namespaces) = draw.namespaces {
            sql.push(" and namespace = any(").bind(names(namespaces)).push(")");
        }
    })
}

fn names(namespaces: &[Namespace]) -> Vec<String> {
    namespaces.iter().map(ToString::to_string).collect()
}

fn entry(worker: &str, table: &ShardTable, row: &Row) -> Result<Option<SampledEntry>, ShardError> {
    let failed = |error| ShardError::of(worker, error);
    let malformed = |error| ShardError::Malformed { worker: worker.to_owned(), source: Box::new(error) };
    let (namespace, key): (String, String) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    let id = EntryId {
        namespace: Namespace::parse(&namespace).map_err(malformed)?,
        key: EntryKey::parse(&key).map_err(malformed)?,
    };
    let vector = row::embedding(worker, table.settings.vector_type, row, 2)?;
    Ok(vector.map(|vector| SampledEntry { id, vector }))
}
