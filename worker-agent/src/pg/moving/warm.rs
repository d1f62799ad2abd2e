//! Brings a copy's graphs into the server's memory before searches come to it.
//!
//! A walk of a graph reads pages here and there, so on a cold server the first hundreds of searches wait for the disk at each step.
//! `pg_prewarm` would need an extension that not every server has. So the graphs are walked beforehand, from rows all over them: that
//! reads just what searches will read. Rows of namespaces without a graph were read a moment ago, for the sums.

use super::copy::owned;
use crate::pg::connect::{PgError, chain};
use crate::pg::ddl;
use crate::pg::existing::Existing;
use crate::pg::session::Session;
use atoll_proto::Metric;
use atoll_proto::agent::DesiredCollection;
use atoll_proto::moves::MoveSubject;
use std::time::{Duration, Instant};

/// For all graphs of a copy together. Those that are not reached are cold, as after any start of a server.
const WARM_WITHIN: Duration = Duration::from_secs(60);
/// One walk for so many rows: it looks at some hundreds, and others' overlap.
const ROWS_OF_A_WALK: i64 = 200;
/// Most walks of one graph.
const WALKS_MAX: i64 = 2_000;

/// Walks every graph of the copy. That it has not enough time, or that one cannot be walked, is no failure: it is only slower then.
pub async fn warm(session: &Session, subject: &MoveSubject) -> Result<(), PgError> {
    let Some(schema) = owned(session, subject).await? else { return Ok(()) };
    let existing = Existing::read(session).await?;
    let began = Instant::now();
    // Whatever the planner thinks of it, a graph has to be walked; and a walk that others' parts of a query would help is no walk.
    let settings = "set enable_seqscan = off; set enable_sort = off; set hnsw.ef_search = 100; set max_parallel_workers_per_gather = 0";
    session.run("prepare to walk graphs", settings).await?;
    for collection in &subject.collections {
        let table = existing.schemas.get(&schema).and_then(|tables| tables.get(collection.name.as_str()));
        for graph in table.into_iter().flat_map(|table| table.vector_indexes.values()).filter(|graph| graph.valid) {
            let left = WARM_WITHIN.saturating_sub(began.elapsed());
            if left.is_zero() {
                tracing::info!(id = %subject.id, "not all graphs of the copy were brought into memory: they are many");
                return Ok(());
            }
            let limit = format!("set statement_timeout = {}", left.as_millis().max(1));
            session.run("bound its walks", &limit).await?;
            let walks = walks(&schema, collection, graph.namespace.as_deref());
            match session.query("walk a graph", &walks, &[]).await {
                Err(error) if error.is_gone() || error.is_lost() => return Err(error),
                Err(error) => tracing::info!(id = %subject.id, error = chain(&error), "a graph stays cold"),
                Ok(_) => {}
            }
        }
    }
    Ok(())
}

/// Walks one graph from rows all over it.
fn walks(schema: &str, collection: &DesiredCollection, namespace: Option<&str>) -> String {
    let table = ddl::qualified(schema, collection.name.as_str());
    let operator = match collection.settings.metric {
        Metric::Cosine => "<=>",
        Metric::L2 => "<->",
        Metric::Dot => "<#>",
    };
    // As the predicate of the index has it; a parameter would not match that. A namespace has no quotes in it.
    let within = namespace.map_or_else(|| "true".to_owned(), |namespace| format!("namespace = '{namespace}'"));
    format!(
        "with counted as (select count(*) as n from {table} where {within}),
              numbered as (select embedding, row_number() over () as i from {table} where {within}),
              chosen as (select embedding from numbered, counted
                          where i % greatest({ROWS_OF_A_WALK}, n / {WALKS_MAX}) = 0 or i = 1)
         select count(found.key)
           from chosen
          cross join lateral (select key from {table} where {within} order by embedding {operator} chosen.embedding limit 10) as found"
    )
}
