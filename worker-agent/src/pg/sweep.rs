//! Deletes rows whose time is over: expired entries, and outcomes remembered for longer than a client may ask for them.

use crate::pg::connect::PgError;
use crate::pg::ddl::qualified;
use crate::pg::session::Session;
use atoll_proto::agent::IDEMPOTENCY_TABLE;

/// Rows deleted by one statement: short enough that nobody waits for it.
const BATCH_ROWS: u64 = 1_000;
/// Batches on one table in one round, so that one table does not keep the others waiting for ever.
const BATCHES_PER_ROUND: usize = 100;

/// Sweeps every table of `schemas` once; tells how many rows went.
pub async fn sweep(session: &Session, schemas: &[String]) -> Result<u64, PgError> {
    let statement = "select schemaname::text, tablename::text from pg_tables where schemaname = any ($1) order by 1, 2";
    let mut gone = 0;
    for table in session.query("list its tables", statement, &[&schemas]).await? {
        let (schema, name): (String, String) = (table.get(0), table.get(1));
        match sweep_table(session, &statement_for(&schema, &name)).await {
            Ok(rows) => gone += rows,
            Err(error) if error.is_lost() => return Err(error),
            // Dropped meanwhile, or locked: the others still matter, and the next round comes.
            Err(error) => tracing::debug!(schema, table = name, %error, "table not swept"),
        }
    }
    Ok(gone)
}

async fn sweep_table(session: &Session, statement: &str) -> Result<u64, PgError> {
    let mut gone = 0;
    for _ in 0..BATCHES_PER_ROUND {
        let rows = session.execute("delete expired rows", statement, &[]).await?;
        gone += rows;
        if rows < BATCH_ROWS {
            break;
        }
    }
    Ok(gone)
}

fn statement_for(schema: &str, table: &str) -> String {
    let over =
        if table == IDEMPOTENCY_TABLE { "created_at < now() - interval '24 hours'" } else { "expires_at < now()" };
    let table = qualified(schema, table);
    // Rows that somebody is writing are skipped: they may just be made to live on.
    format!(
        "delete from {table} where ctid = any (array(\
         select ctid from {table} where {over} limit {BATCH_ROWS} for update skip locked))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_expire_and_outcomes_age() {
        assert_eq!(
            statement_for("s0001_g1", "a"),
            "delete from \"s0001_g1\".\"a\" where ctid = any (array(select ctid from \"s0001_g1\".\"a\" \
             where expires_at < now() limit 1000 for update skip locked))"
        );
        assert!(statement_for("s0001_g1", "_idempotency").contains("created_at < now() - interval '24 hours'"));
    }
}
