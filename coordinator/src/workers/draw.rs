//! Rows of a table drawn at random: what samples and summaries are made of.

use super::flight::{self, Bound};
use super::read::ALIVE;
use super::row;
use super::session::ReadSettings;
use super::statement::Statement;
use super::{ShardError, ShardTable, WorkerPool};
use tokio::time::Instant;

/// Rows to find on the pages that are read, for each that is taken: those of one page may have been written together.
const SPARE: f64 = 2.0;
/// Rows to find at least, so that few pages are not none by bad luck.
const FOUND_MIN: f64 = 100.0;

/// A statement that reads `columns` of about so many rows at random, of a table, or of its part that `more_conditions` ask for, of
/// so many `rows`. Whole pages are read, and what they hold is cut at random, not where the table ends.
pub(super) fn random_rows(
    columns: &str,
    table: &ShardTable,
    rows: u64,
    wanted: u32,
    more_conditions: impl FnOnce(&mut Statement),
) -> Statement {
    let found = (f64::from(wanted) * SPARE).max(FOUND_MIN);
    let percent = (100.0 * found / rows.max(1) as f64).min(100.0) as f32;
    let mut sql = Statement::new(format!("select {columns} from {} tablesample system (", table.quoted()));
    sql.bind(percent).push(") where ").push(ALIVE);
    more_conditions(&mut sql);
    sql.push(" order by random() limit ").bind(i64::from(wanted));
    sql
}

/// Draws about so many vectors of a table of so many rows.
pub async fn vectors(
    pool: &WorkerPool,
    table: &ShardTable,
    table_rows: u64,
    wanted: u32,
    deadline: Instant,
) -> Result<Vec<Vec<f32>>, ShardError> {
    let there = |sql: &mut Statement| _ = sql.push(" and embedding is not null");
    let statement = random_rows("embedding", table, table_rows, wanted, there);
    let bound = Bound { text: &statement.text, params: statement.params() };
    let rows = flight::read(pool, &ReadSettings::until(deadline), bound, deadline).await?;
    rows.iter()
        .map(|row| {
            let mut numbers = Vec::new();
            row::read_numbers(pool.worker(), table.settings.vector_type, row, 0, &mut numbers)?;
            Ok(numbers)
        })
        .collect()
}
