//! PostgreSQL's plan of a shard query.
//!
//! A plan is true only if it is made as the statement itself gets it: under the same settings, with the same choice between a
//! plan for these values and one for any. `explain execute` of a prepared statement does just that, and takes its values as
//! text. So the server is first asked to write the values down: it gets them bound, as ever, and quotes them itself. What it
//! wrote goes back to it as a single statement in the extended protocol, which takes no second one.
//!
//! The prepared statement has the connection to itself while it is there: it goes with the transaction's end, and where that
//! is not reached the connection is thrown away.
//!
//! A plan shows names of tables, indexes and, in an index's condition, of namespaces, and the search's own values. It is for
//! those who run the cluster.

use super::knn::{self, KnnQuery};
use super::statement::Statement;
use super::{Session, ShardError, ShardTable, WorkerPool};
use serde_json::Value;
use tokio::time::Instant;
use tokio_postgres::Error;
use tokio_postgres::types::Type;

/// Asks for the plan of a query; with `analyze` the query runs for it.
pub async fn pg_plan(
    pool: &WorkerPool,
    table: &ShardTable,
    query: &KnnQuery,
    analyze: bool,
    deadline: Instant,
) -> Result<Value, ShardError> {
    let begin = knn::settings(query, deadline).in_transaction();
    let statement = knn::statement(table, query);
    let mut plans = pool.run(deadline, async |session| plan(session, &begin, &statement, analyze).await).await?;
    // One statement, so one plan.
    let only = plans.get_mut(0).map(Value::take);
    Ok(only.unwrap_or(plans))
}

async fn plan(client: &Session, begin: &str, statement: &Statement, analyze: bool) -> Result<Value, Error> {
    client.batch_execute(&client.opening(begin)).await?;
    let types = client.prepare(&statement.text).await?.params().to_vec();
    let written = client.query_one(&values_as_text(&types), &statement.params()).await?;
    let values: &str = written.try_get(0)?;
    client.batch_execute(&format!("prepare atoll_explained as {}", statement.text)).await?;
    let explain = format!("explain ({}) execute atoll_explained ({values})", options(analyze));
    let plan = client.query_one(&explain, &[]).await?.try_get(0)?;
    client.batch_execute("deallocate atoll_explained; commit").await?;
    Ok(plan)
}

fn options(analyze: bool) -> &'static str {
    match analyze {
        true => "analyze, buffers, settings, format json",
        false => "settings, format json",
    }
}

/// A statement that gives its values as literals, with commas between them.
fn values_as_text(types: &[Type]) -> String {
    let quoted = |(i, of_type): (usize, &Type)| {
        let name = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        format!("quote_nullable(${}::{}.{})", i + 1, name(of_type.schema()), name(of_type.name()))
    };
    let quoted: Vec<String> = types.iter().enumerate().map(quoted).collect();
    format!("select concat_ws(', ', {})", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_quotes_each_value_by_its_type() {
        let text = values_as_text(&[Type::TEXT, Type::TEXT_ARRAY, Type::INT8]);
        assert_eq!(
            text,
            "select concat_ws(', ', quote_nullable($1::\"pg_catalog\".\"text\"), \
             quote_nullable($2::\"pg_catalog\".\"_text\"), quote_nullable($3::\"pg_catalog\".\"int8\"))"
        );
    }
}
