//! Vectors of a table drawn at random: what a summary is made of.

use super::flight::{self, Bound};
use super::read::ALIVE;
use super::row;
use super::session::ReadSettings;
use super::statement::Statement;
use super::{ShardError, ShardTable, WorkerPool};
use tokio::time::Instant;

/// Draws about so many vectors of a table of so many rows. Whole pages are read, half as many rows again as are kept: a page
/// holds few rows, which may have been written together.
pub async fn vectors(
    pool: &WorkerPool,
    table: &ShardTable,
    table_rows: u64,
    wanted: usize,
    deadline: Instant,
) -> Result<Vec<Vec<f32>>, ShardError> {
    let percent = 150.0 * wanted as f64 / table_rows.max(1) as f64;
    let statement = statement(table, percent.min(100.0) as f32, wanted);
    let bound = Bound { text: &statement.text, params: statement.params(), cacheable: false };
    let rows = flight::read(pool, &ReadSettings::until(deadline), bound, deadline).await?;
    rows.iter()
        .map(|row| {
            let mut numbers = Vec::new();
            row::read_numbers(pool.worker(), table.settings.vector_type, row, 0, &mut numbers)?;
            Ok(numbers)
        })
        .collect()
}

fn statement(table: &ShardTable, percent: f32, wanted: usize) -> Statement {
    let mut sql = Statement::new("select embedding from ");
    sql.push(&table.quoted()).push(" tablesample system (").bind(percent).push(") where ").push(ALIVE);
    // Cut at random, not where the table ends.
    sql.push(" and embedding is not null order by random() limit ").bind(wanted as i64);
    sql
}
