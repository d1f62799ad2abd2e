//! The indexes of a copy: which are missing, their builds, and how far these are.

use super::copy::owned;
use super::{STATEMENT_LIMIT, unsigned};
use crate::pauses;
use crate::pg::connect::{PgError, Target};
use crate::pg::ddl;
use crate::pg::existing::Existing;
use crate::pg::session::Session;
use atoll_proto::Namespace;
use atoll_proto::agent::DesiredCollection;
use atoll_proto::moves::{IndexProgress, MoveSubject};
use std::collections::{BTreeMap, BTreeSet};

/// An index that the copy is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    name: String,
    statement: String,
    /// Rows that go into it, if it is a graph: the other kinds take hardly any time.
    graph_rows: u64,
}

/// All indexes of the copy, in the order in which they are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexes {
    schema: String,
    wanted: Vec<Wanted>,
}

impl Indexes {
    /// Those that the source has, the graphs of namespaces included; none if there is no copy. `session` must have no statement limit:
    /// it counts rows.
    pub async fn as_on(source: &Target, session: &Session, subject: &MoveSubject) -> Result<Option<Self>, PgError> {
        let from = Existing::read(&source.connect(STATEMENT_LIMIT).await?).await?;
        let Some(schema) = owned(session, subject).await? else { return Ok(None) };
        let mut wanted = Vec::new();
        for collection in &subject.collections {
            let tables = from.schemas.get(&subject.source_schema());
            let table = tables.and_then(|tables| tables.get(collection.name.as_str()));
            let graphs = table.into_iter().flat_map(|table| table.vector_indexes.values());
            let graphs: Vec<Namespace> = graphs
                .filter(|graph| graph.valid)
                .filter_map(|graph| Namespace::parse(graph.namespace.as_deref()?).ok())
                .collect();
            let rows = graph_rows(session, &schema, collection, &graphs).await?;
            wanted.extend(ddl::indexes(&schema, collection, &graphs).into_iter().map(|(name, statement)| {
                let graph_rows = rows.get(&name).copied().unwrap_or(0);
                Wanted { name, statement, graph_rows }
            }));
        }
        Ok(Some(Self { schema, wanted }))
    }

    /// Builds every one that is missing. The subscription waits meanwhile. `session` must have no limits of statements and locks. A build
    /// whose session ends leaves no index.
    pub async fn build(&self, session: &Session, subject: &MoveSubject) -> Result<(), PgError> {
        let there = self.there(session).await?;
        for missing in self.wanted.iter().filter(|wanted| !there.contains(&wanted.name)) {
            session.run("build an index of a copy", &missing.statement).await?;
            pauses::let_through("index").await;
        }
        for collection in &subject.collections {
            let table = ddl::qualified(&self.schema, collection.name.as_str());
            session.run("take statistics of a copy", &format!("analyze {table}")).await?;
        }
        Ok(())
    }

    /// How far the builds are.
    pub async fn progress(&self, session: &Session) -> Result<IndexProgress, PgError> {
        let there = self.there(session).await?;
        let building = "select coalesce(sum(p.tuples_done), 0)::bigint
                          from pg_stat_progress_create_index p
                          join pg_class c on c.oid = p.relid
                          join pg_namespace n on n.oid = c.relnamespace
                         where n.nspname = $1
                           and p.datid = (select oid from pg_database where datname = current_database())";
        let row = session.query_one("tell how far a build is", building, &[&self.schema]).await?;
        Ok(self.progress_with(&there, unsigned(row.get(0))))
    }

    async fn there(&self, session: &Session) -> Result<BTreeSet<String>, PgError> {
        let named = "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                      where n.nspname = $1 and c.relkind = 'i'";
        let rows = session.query("list a copy's indexes", named, &[&self.schema]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// They are built in order: what is added just now goes into the first that is not there.
    fn progress_with(&self, there: &BTreeSet<String>, added: u64) -> IndexProgress {
        let (done, missing): (Vec<_>, Vec<_>) = self.wanted.iter().partition(|wanted| there.contains(&wanted.name));
        let rows = |of: &[&Wanted]| of.iter().map(|wanted| wanted.graph_rows).sum::<u64>();
        let added = missing.first().map_or(0, |building| added.min(building.graph_rows));
        let (in_them, all) = (rows(&done) + added, rows(&done) + rows(&missing));
        let percent = match all {
            0 => 100 * done.len() as u64 / (self.wanted.len() as u64).max(1),
            all => 100 * in_them / all,
        };
        IndexProgress {
            done: u32::try_from(done.len()).unwrap_or(u32::MAX),
            total: u32::try_from(self.wanted.len()).unwrap_or(u32::MAX),
            percent: u8::try_from(percent).unwrap_or(100),
        }
    }
}

/// Rows that go into each graph of a table, by the name of its index.
async fn graph_rows(
    session: &Session,
    schema: &str,
    collection: &DesiredCollection,
    graphs: &[Namespace],
) -> Result<BTreeMap<String, u64>, PgError> {
    let has_shard_graph = collection.settings.index.scope.has_shard_graph();
    if collection.settings.dimensions.is_none() || graphs.is_empty() && !has_shard_graph {
        return Ok(BTreeMap::new());
    }
    let table = ddl::qualified(schema, collection.name.as_str());
    // Those without a graph are counted together: they may be millions.
    let statement = format!(
        "select coalesce(case when namespace = any ($1) then namespace end, ''), count(*) from {table} group by 1"
    );
    let names: Vec<&str> = graphs.iter().map(Namespace::as_str).collect();
    let counted: BTreeMap<String, u64> = session
        .query("count a copy's rows", &statement, &[&names])
        .await?
        .iter()
        .map(|row| (row.get(0), unsigned(row.get(1))))
        .collect();
    let own = graphs.iter().map(|namespace| {
        (ddl::namespace_graph(collection.id, namespace), counted.get(namespace.as_str()).copied().unwrap_or(0))
    });
    let whole = (ddl::vector_index(&collection.name), counted.values().sum());
    Ok(own.chain([whole]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_graphs_are_what_takes_time() {
        let wanted = [("created", 0), ("tags", 0), ("large", 900), ("small", 100)];
        let wanted =
            wanted.map(|(name, graph_rows)| Wanted { name: name.to_owned(), statement: String::new(), graph_rows });
        let indexes = Indexes { schema: "s0001_g1".to_owned(), wanted: wanted.to_vec() };
        let progress = |there: &[&str], added| {
            let there = there.iter().map(|name| (*name).to_owned()).collect();
            let IndexProgress { done, total, percent } = indexes.progress_with(&there, added);
            (done, total, percent)
        };
        assert_eq!(progress(&[], 0), (0, 4, 0));
        assert_eq!(progress(&[], 500), (0, 4, 0), "a tree is built, whose rows do not count");
        assert_eq!(progress(&["created", "tags"], 450), (2, 4, 45));
        assert_eq!(progress(&["created", "tags"], 5_000), (2, 4, 90), "it grew since it was counted");
        assert_eq!(progress(&["created", "tags", "large"], 50), (3, 4, 95));
        assert_eq!(progress(&["created", "tags", "large", "small", "a stranger's"], 0), (4, 4, 100));
        let trees = Indexes { schema: String::new(), wanted: indexes.wanted[..2].to_vec() };
        assert_eq!(trees.progress_with(&BTreeSet::from(["created".to_owned()]), 7).percent, 50);
    }
}
