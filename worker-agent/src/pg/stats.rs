//! Counts rows and bytes of each table, and names the large namespaces. Counting exactly means reading an index, so a table
//! is counted again only after it changed, and a very large one is estimated from PostgreSQL's own statistics. Those are a sample,
//! and a large namespace may be missing from them: so what was large before, or has a graph, is counted, and no graph goes because
//! the statistics do not know its namespace.

use crate::pg::connect::{PgError, chain};
use crate::pg::ddl::qualified;
use crate::pg::session::Session;
use atoll_proto::agent::{LARGE_NAMESPACE_ROWS, NamespaceRows};
use std::collections::{BTreeSet, HashMap, HashSet};
use tokio_postgres::types::ToSql;

/// Above this many rows a table is estimated.
const EXACT_ROWS_MAX: f64 = 1_000_000.0;
/// Up to this many rows every change is counted; above, changes to a hundredth of the rows are waited for.
const FOLLOWED_ROWS_MAX: u64 = 50_000;
/// In an estimated table a namespace is counted up to this many rows.
const NAMESPACE_ROWS_MAX: i64 = 100_000;
/// Most namespaces that are named.
const NAMED_MAX: usize = 1_000;
/// Longest wait for a table that somebody has for himself: there are others to count.
const LOCK_WAIT_MS: u32 = 200;

/// Counts, remembering what it counted.
#[derive(Debug, Default)]
pub struct Counter {
    counted: HashMap<i64, Counted>,
    /// Tables that could not be counted, told once each.
    told: HashSet<i64>,
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
    bytes: u64,
    vector_index_bytes: u64,
}

struct TableRow {
    oid: i64,
    schema: String,
    name: String,
    estimate: f64,
    changes: i64,
}

impl Counter {
    /// Bytes of the database.
    pub async fn database_bytes(session: &Session) -> Result<u64, PgError> {
        let statement = "select pg_database_size(current_database())";
        Ok(unsigned(session.query_one("measure its database", statement, &[]).await?.get(0)))
    }

    /// Size of each table in `schemas`. A table that cannot be counted now, because somebody needs it for himself, keeps its
    /// last figures, and does not keep the others back. Tables in `anew` (schema and name) are counted whether they seem to have
    /// changed or not.
    pub async fn count(
        &mut self,
        session: &Session,
        schemas: &[String],
        anew: &HashSet<(String, String)>,
    ) -> Result<Vec<TableSize>, PgError> {
        let lock_limit = format!("set lock_timeout = {LOCK_WAIT_MS}");
        session.run("limit the wait for locks", &lock_limit).await?;
        let mut sizes = Vec::new();
        for row in session.query("list its tables", include_str!("tables.sql"), &[&schemas]).await? {
            let table = TableRow {
                oid: row.get("oid"),
                schema: row.get("schema"),
                name: row.get("table_name"),
                estimate: row.get("estimate"),
                changes: row.get("changes"),
            };
            let anew = anew.contains(&(table.schema.clone(), table.name.clone()));
            match count_one(session, &table, self.counted.get(&table.oid), anew).await {
                Ok(now) => {
                    self.counted.insert(table.oid, now);
                }
                Err(error) if error.is_lost() => return Err(error),
                Err(error) => self.tell(&table, &error),
            }
            if let Some(known) = self.counted.get(&table.oid).cloned() {
                sizes.push((table, known));
            }
        }
        let there: HashSet<i64> = sizes.iter().map(|(table, _)| table.oid).collect();
        self.counted.retain(|oid, _| there.contains(oid));
        Ok(sizes.into_iter().map(|(table, known)| known.size_of(table)).collect())
    }

    /// A table never counted is one that nobody knows the size of; others have an old one.
    fn tell(&mut self, table: &TableRow, error: &PgError) {
        let (schema, name, error_text) = (&table.schema, &table.name, chain(error));
        let unknown = !self.counted.contains_key(&table.oid) && !error.is_gone();
        if unknown && self.told.insert(table.oid) {
            tracing::warn!(schema, table = name, error = error_text, "table not counted, trying again later");
        } else {
            tracing::debug!(schema, table = name, error = error_text, "table not counted");
        }
    }
}

impl Counted {
    fn size_of(self, table: TableRow) -> TableSize {
        let Self { changes: _, rows, large_namespaces, bytes, vector_index_bytes } = self;
        TableSize { schema: table.schema, name: table.name, rows, bytes, vector_index_bytes, large_namespaces }
    }

    fn is_outdated(&self, changes: i64) -> bool {
        // Fewer changes than before: the statistics were reset.
        if changes < self.changes || self.rows <= FOLLOWED_ROWS_MAX {
            return changes != self.changes;
        }
        unsigned(changes - self.changes) > self.rows / 100
    }
}

/// Measures the table, and counts it if it changed since it was counted, or `anew`.
async fn count_one(
    session: &Session,
    table: &TableRow,
    known: Option<&Counted>,
    anew: bool,
) -> Result<Counted, PgError> {
    // One table at a time, because measuring waits for its lock.
    let measured = session.query_one("measure a table", include_str!("table_bytes.sql"), &[&table.oid]).await?;
    let bytes = unsigned(measured.get("bytes"));
    let vector_index_bytes = unsigned(measured.get("vector_index_bytes"));
    if let Some(known) = known.filter(|known| !anew && !known.is_outdated(table.changes)) {
        return Ok(Counted { bytes, vector_index_bytes, ..known.clone() });
    }
    let (rows, large_namespaces) = match table.estimate > EXACT_ROWS_MAX {
        true => estimate(session, table, known).await?,
        false => exact(session, table).await?,
    };
    Ok(Counted { changes: table.changes, rows, large_namespaces, bytes, vector_index_bytes })
}

async fn exact(session: &Session, table: &TableRow) -> Result<(u64, Vec<NamespaceRows>), PgError> {
    let statement = count_statement(&table.schema, &table.name);
    let floor = signed(LARGE_NAMESPACE_ROWS);
    let mut all = 0;
    let mut large = Vec::new();
    for row in session.query("count a table", &statement, &[&floor]).await? {
        let rows = unsigned(row.get(1));
        match row.get::<_, Option<String>>(0) {
            None => all = rows,
            Some(namespace) => large.push(NamespaceRows { namespace, rows }),
        }
    }
    Ok((all, large))
}

async fn estimate(
    session: &Session,
    table: &TableRow,
    known: Option<&Counted>,
) -> Result<(u64, Vec<NamespaceRows>), PgError> {
    let floor = LARGE_NAMESPACE_ROWS as f64;
    let statement = include_str!("common_namespaces.sql");
    let parameters: [&(dyn ToSql + Sync); 4] = [&table.schema, &table.name, &table.estimate, &floor];
    let named = |row: &tokio_postgres::Row| NamespaceRows { namespace: row.get(0), rows: unsigned(row.get(1)) };
    let rows = session.query("read its statistics", statement, &parameters).await?;
    let mut large: Vec<NamespaceRows> = rows.iter().map(named).collect();

    let graphs = session.query("list its graphs", include_str!("graphs.sql"), &[&table.oid]).await?;
    let was_large = known.iter().flat_map(|known| &known.large_namespaces).map(|large| large.namespace.clone());
    let mut doubtful: BTreeSet<String> = graphs.iter().map(|row| row.get(0)).chain(was_large).collect();
    for NamespaceRows { namespace, .. } in &large {
        doubtful.remove(namespace);
    }
    let doubtful: Vec<String> = doubtful.into_iter().collect();
    let statement = count_namespaces_statement(&table.schema, &table.name);
    let parameters: [&(dyn ToSql + Sync); 3] = [&doubtful, &NAMESPACE_ROWS_MAX, &signed(LARGE_NAMESPACE_ROWS)];
    let counted = session.query("count some namespaces", &statement, &parameters).await?;
    large.extend(counted.iter().map(named));
    large.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.namespace.cmp(&b.namespace)));
    large.truncate(NAMED_MAX);
    Ok((table.estimate as u64, large))
}

/// All rows of a table as a row without a namespace, then the namespaces of at least `$1` rows.
fn count_statement(schema: &str, table: &str) -> String {
    format!(
        "with counted as materialized (select namespace, count(*) as rows from {} group by namespace)\n\
         (select null::text, coalesce(sum(rows), 0)::bigint from counted)\n\
         union all\n\
         (select namespace, rows from counted where rows >= $1 order by rows desc, namespace limit {NAMED_MAX})",
        qualified(schema, table)
    )
}

/// Those of the namespaces `$1` that have at least `$3` rows, each counted up to `$2`.
fn count_namespaces_statement(schema: &str, table: &str) -> String {
    format!(
        "select asked.namespace, counted.rows from unnest($1::text[]) as asked (namespace)\n\
         cross join lateral (select count(*) as rows from (select from {} as t\n\
         where t.namespace = asked.namespace limit $2) as some) as counted where counted.rows >= $3",
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
        Counted { changes: 1_000, rows, large_namespaces: Vec::new(), bytes: 0, vector_index_bytes: 0 }
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
