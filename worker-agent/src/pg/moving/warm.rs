//! Brings a copy's graphs into the server's memory before searches come to it.
//!
//! A walk of a graph reads pages here and there, so on a cold server the first hundreds of searches wait for the disk at each step.
//! `pg_prewarm` would need an extension that not every server has. So the graphs are walked beforehand, from rows all over them: that
//! reads just what searches will read. Rows of namespaces without a graph are read whole soon after, for the sums.

use super::copy::owned;
use crate::pg::connect::{PgError, chain};
use crate::pg::ddl;
use crate::pg::existing::Existing;
use crate::pg::session::Session;
use atoll_proto::Metric;
use atoll_proto::agent::DesiredCollection;
use atoll_proto::moves::MoveSubject;
use std::time::{Duration, Instant};

/// For all graphs of a copy together; one alone may take half of what is left. Those that are not reached stay cold, as after any start of
/// a server.
const WARM_WITHIN: Duration = Duration::from_secs(60);
/// One walk for so many rows: it looks at some hundreds, and others' overlap.
const ROWS_OF_A_WALK: f64 = 200.0;
/// Fewest and most walks of one graph, about.
const WALKS: (f64, f64) = (50.0, 2_000.0);

/// Walks every graph of the copy. That there is not enough time, or that one cannot be walked, is no failure.
pub async fn warm(session: &Session, subject: &MoveSubject) -> Result<(), PgError> {
    let Some(schema) = owned(session, subject).await? else { return Ok(()) };
    let existing = Existing::read(session).await?;
    let began = Instant::now();
    // Without a sort, only a walk gives rows in order of distance.
    let settings = "set enable_sort = off; set hnsw.ef_search = 100; set max_parallel_workers_per_gather = 0";
    session.run("prepare to walk graphs", settings).await?;
    for collection in &subject.collections {
        let table = existing.schemas.get(&schema).and_then(|tables| tables.get(collection.name.as_str()));
        let graphs = table.into_iter().flat_map(|table| &table.vector_indexes);
        for (name, graph) in graphs.filter(|(_, graph)| graph.valid) {
            let left = WARM_WITHIN.saturating_sub(began.elapsed());
            if left.is_zero() {
                tracing::info!(id = %subject.id, "not all graphs of the copy were brought into memory: they are large");
                return Ok(());
            }
            let limit = format!("set statement_timeout = {}", (left / 2).as_millis().max(1));
            session.run("bound its walks", &limit).await?;
            let rows = rows_in(session, &schema, name).await?;
            let walks = walks(&schema, collection, graph.namespace.as_deref(), rows);
            match session.query("walk a graph", &walks, &[]).await {
                Err(error) if error.is_gone() || error.is_lost() => return Err(error),
                Err(error) => tracing::info!(id = %subject.id, error = chain(&error), "a graph stays cold"),
                Ok(_) => {}
            }
        }
    }
    Ok(())
}

/// Rows that a graph holds, as its build counted them.
async fn rows_in(session: &Session, schema: &str, index: &str) -> Result<f64, PgError> {
    let statement = "select coalesce(max(c.reltuples), 0)::double precision
                       from pg_class c join pg_namespace n on n.oid = c.relnamespace
                      where n.nspname = $1 and c.relname = $2";
    Ok(session.query_one("look how large a graph is", statement, &[&schema, &index]).await?.get(0))
}

/// Walks one graph from rows all over it.
fn walks(schema: &str, collection: &DesiredCollection, namespace: Option<&str>, rows: f64) -> String {
    let table = ddl::qualified(schema, collection.name.as_str());
    let operator = match collection.settings.metric {
        Metric::Cosine => "<=>",
        Metric::L2 => "<->",
        Metric::Dot => "<#>",
    };
    // As the predicate of the index has it; a parameter would not match that. A namespace has no quotes in it.
    let within = namespace.map_or_else(|| "true".to_owned(), |namespace| format!("namespace = '{namespace}'"));
    let walks = (rows / ROWS_OF_A_WALK).clamp(WALKS.0, WALKS.1);
    let percent = (100.0 * walks / rows.max(1.0)).min(100.0);
    format!(
        "select count(found.key)
           from (select embedding from {table} tablesample system ({percent}) repeatable (1) where {within}) as chosen
          cross join lateral (select key from {table} where {within} order by embedding {operator} chosen.embedding limit 10) as found"
    )
}
