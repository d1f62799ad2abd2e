//! Counts rows and bytes of each table, and names the large namespaces. Counting exactly means reading an index, so a table
//! is counted again only after it changed, and a very large one is estimated from PostgreSQL's own statistics.

use crate::pg::connect::PgError;
use crate::pg::ddl::qualified;
use atoll_proto::agent::{LARGE_NAMESPACE_ROWS, NamespaceRows};
use std::collections::HashMap;
use tokio_postgres::Client;

/// Above this many rows a table is estimated.
const EXACT_ROWS_MAX: f64 = 1_000_000.0;
/// Up to this many rows every change is counted; above, changes to a hundredth of the rows are waited for.
const FOLLOWED_ROWS_MAX: u64 = 50_000;

/// Counts, remembering what it counted.
#[derive(Debug, Default)]
pub struct Counter {
    counted: HashMap<i64, Counted>,
}

/// Size of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Bytes of table, TOAST and indexes.
    pub bytes: u64,
    /// Bytes of the vector index.
    pub vector_index_bytes: u64,
    /// Namespaces of at least [`LARGE_NAMESPACE_ROWS`] rows, largest first.
    pub large_namespaces: Vec<NamespaceRows>,
}

#[derive(Debug, Clone)]
struct Counted {
    changes: i64,
    rows: u64,
    large_namespaces: Vec<NamespaceRows>,
}

struct TableRow {
    oid: i64,
    schema: String,
    name: String,
    estimate: f64,
    changes: i64,
    bytes: i64,
    vector_index_bytes: i64,
}

impl Counter {
    /// Bytes of the database.
    pub async fn database_bytes(client: &Client) -> Result<u64, PgError> {
        let row = client.query_one("select pg_database_size(current_database())", &[]).await;
        Ok(unsigned(row.map_err(PgError::of("measure its database"))?.get(0)))
    }

    /// Size of each table in `schemas`.
    pub async fn count(&mut self, client: &Client, schemas: &[String]) -> Result<Vec<TableSize>, PgError> {
        let rows = client.query(include_str!("tables.sql"), &[&schemas]).await;
        let mut sizes = Vec::new();
        let mut counted = HashMap::new();
        for row in rows.map_err(PgError::of("list its tables"))? {
            let table = TableRow {
                oid: row.get("oid"),
                schema: row.get("schema"),
                name: row.get("table_name"),
                estimate: row.get("estimate"),
                changes: row.get("changes"),
                bytes: row.get("bytes"),
                vector_index_bytes: row.get("vector_index_bytes"),
            };
            let known = self.counted.remove(&table.oid).filter(|known| !known.is_outdated(table.changes));
            let now = match known {
                Some(known) => known,
                None => match count_one(client, &table).await {
                    Ok(now) => now,
                    Err(error @ PgError::Unreachable { .. }) => return Err(error),
                    // Dropped meanwhile, or too slow to count: the others still matter.
                    Err(error) => {
                        tracing::debug!(schema = table.schema, table = table.name, %error, "table not counted");
                        continue;
                    }
                },
            };
            sizes.push(TableSize {
                schema: table.schema,
                name: table.name,
                rows: now.rows,
                bytes: unsigned(table.bytes),
                vector_index_bytes: unsigned(table.vector_index_bytes),
                large_namespaces: now.large_namespaces.clone(),
            });
            counted.insert(table.oid, now);
        }
        self.counted = counted;
        Ok(sizes)
    }
}

impl Counted {
    fn is_outdated(&self, changes: i64) -> bool {
        // Fewer changes than before: the statistics were reset.
        if changes < self.changes || self.rows <= FOLLOWED_ROWS_MAX {
            return changes != self.changes;
        }
        unsigned(changes - self.changes) > self.rows / 100
    }
}

async fn count_one(client: &Client, table: &TableRow) -> Result<Counted, PgError> {
    if table.estimate > EXACT_ROWS_MAX { estimate(client, table).await } else { exact(client, table).await }
}

async fn exact(client: &Client, table: &TableRow) -> Result<Counted, PgError> {
    let statement = count_statement(&table.schema, &table.name);
    let floor = signed(LARGE_NAMESPACE_ROWS);
    let rows = client.query(&statement, &[&floor]).await.map_err(PgError::of("count a table"))?;
    let mut counted = Counted { changes: table.changes, rows: 0, large_namespaces: Vec::new() };
    for row in rows {
        let number = unsigned(row.get(1));
        match row.get::<_, Option<String>>(0) {
            None => counted.rows = number,
            Some(namespace) => counted.large_namespaces.push(NamespaceRows { namespace, rows: number }),
        }
    }
    Ok(counted)
}

async fn estimate(client: &Client, table: &TableRow) -> Result<Counted, PgError> {
    let floor = LARGE_NAMESPACE_ROWS as f64;
    let statement = include_str!("common_namespaces.sql");
    let rows = client.query(statement, &[&table.schema, &table.name, &table.estimate, &floor]).await;
    let rows = rows.map_err(PgError::of("read its statistics"))?;
    let named = |row: &tokio_postgres::Row| NamespaceRows { namespace: row.get(0), rows: unsigned(row.get(1)) };
    Ok(Counted {
        changes: table.changes,
        rows: table.estimate as u64,
        large_namespaces: rows.iter().map(named).collect(),
    })
}

/// All rows of a table as a row without a namespace, then the namespaces of at least `$1` rows.
fn count_statement(schema: &str, table: &str) -> String {
    format!(
        "with counted as materialized (select namespace, count(*) as rows from {} group by namespace)\n\
         (select null::text, coalesce(sum(rows), 0)::bigint from counted)\n\
         union all\n\
         (select namespace, rows from counted where rows >= $1 order by rows desc, namespace limit 1000)",
        qualified(schema, table)
    )
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(rows: u64) -> Counted {
        Counted { changes: 1_000, rows, large_namespaces: Vec::new() }
    }

    #[test]
    fn small_tables_are_followed_closely_and_large_ones_loosely() {
        assert!(!counted(10).is_outdated(1_000));
        assert!(counted(10).is_outdated(1_001));
        assert!(!counted(100_000).is_outdated(2_000));
        assert!(counted(100_000).is_outdated(2_001));
        assert!(counted(100_000).is_outdated(3), "statistics were reset");
    }

    #[test]
    fn the_count_names_its_table_in_quotes() {
        assert!(count_statement("s0001_g1", "a").contains("from \"s0001_g1\".\"a\" group by namespace"));
    }
}
