//! The floor: what the coordinator would ask of the workers, asked without it.
//!
//! The one place of the command line that goes past the coordinator's HTTP: a benchmark has to say what PostgreSQL alone would
//! do. How each shard is searched is learned from the coordinator before each measurement, and the statement is made by the
//! coordinator's own code. Of several shards the winners are not fetched: which these are only a merge can say.

use super::operation::Ask;
use super::work::Where;
use crate::cli::client::Client;
use crate::cli::error::CommandError;
use crate::cli::path;
use crate::dev::{ClusterFile, WorkerEntry};
use atoll::workers::ShardTable;
use atoll::workers::knn::{Bring, KnnQuery, Scope};
use atoll::workers::straight::{ReadyStatement, Straight};
use atoll::workers::write::WriteRow;
use atoll_core::filter::Expr;
use atoll_core::search::filtered::RowPath;
use atoll_core::search::plan::{ShardPlan, Strategy};
use atoll_proto::admin::ShardList;
use atoll_proto::collection::CollectionInfo;
use atoll_proto::entry::{EntryId, Include, NamespaceInfo};
use atoll_proto::explain::ShardExplain;
use atoll_proto::{CollectionName, Distribution, Namespace, ShardId, Vector};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Where everything lies.
pub(super) struct Floor {
    collection: CollectionName,
    places: HashMap<ShardId, Place>,
    homes: HashMap<Namespace, ShardId>,
}

/// The collection's table in a shard, and its worker.
#[derive(Clone)]
pub(super) struct Place {
    worker: Arc<Straight>,
    table: ShardTable,
}

/// How a shard is searched for any vector.
pub(super) struct ShardSearch {
    place: Place,
    query: KnnQuery,
}

impl Floor {
    /// Reads where the workers are and asks where the shards lie. Connections are made when they are needed; at most as many to a
    /// worker as a coordinator has there.
    pub(super) async fn open(file: &Path, client: &Client, collection: &CollectionInfo) -> Result<Self, CommandError> {
        if collection.settings.distribution == Distribution::Reference {
            return Err(CommandError::Failed("a reference collection has no floor: leave out --cluster".to_owned()));
        }
        let unreadable = |source| CommandError::File { doing: "read", path: file.to_owned(), source };
        let cluster: ClusterFile = serde_json::from_slice(&std::fs::read(file).map_err(unreadable)?)
            .map_err(|error| CommandError::Failed(format!("{} is no cluster.json: {error}", file.display())))?;
        let connections = std::thread::available_parallelism().map_or(1, usize::from) * 2 + 1;
        let mut workers = HashMap::new();
        for WorkerEntry { name, group, dsn, .. } in cluster.workers {
            let straight = Straight::new(&name, &dsn, connections).map_err(|error| CommandError::failed(&error))?;
            workers.insert(group, Arc::new(straight));
        }
        let shards: ShardList = client.get("/v1/admin/shards").await?.parse()?;
        let mut places = HashMap::new();
        for shard in shards.shards {
            let Some(worker) = workers.get(&shard.group).cloned() else {
                return Err(CommandError::Failed(format!(
                    "{} has no worker of group {}: does it belong to {}?",
                    file.display(),
                    shard.group,
                    client.base()
                )));
            };
            let table = ShardTable::in_schema(&shard.schema, &collection.name, &collection.settings);
            places.insert(shard.shard, Place { worker, table });
        }
        Ok(Self { collection: collection.name.clone(), places, homes: HashMap::new() })
    }

    /// Where a namespace lies.
    pub(super) async fn home(&mut self, client: &Client, namespace: &Namespace) -> Result<Place, CommandError> {
        let shard = self.shard_of(client, namespace).await?;
        self.place(shard)
    }

    /// Learns from one search how the shards are searched: `search` is its body.
    pub(super) async fn learn(
        &mut self,
        client: &Client,
        search: &Value,
        at: &Where,
        filter: Option<&Arc<Expr>>,
    ) -> Result<Vec<ShardSearch>, CommandError> {
        let mut search = search.clone();
        search["explain"] = json!(true);
        let answer: Value = client.post(&path::collection(&self.collection, "/search"), &search).await?.parse()?;
        let explained: Vec<ShardExplain> = Deserialize::deserialize(&answer["explain"]["shards"]).map_err(|error| {
            CommandError::Failed(format!("the search's explanation is of another version: {error}"))
        })?;
        // Winners were fetched, so candidates came with their distances alone.
        let bring = match answer["explain"]["fetch"].is_null() {
            true => Bring::Columns(Include::usual().into()),
            false => Bring::Distance,
        };
        let mut searches = Vec::with_capacity(explained.len());
        for explained in explained {
            searches.push(self.shard_search(client, &explained, &bring, at, filter).await?);
        }
        Ok(searches)
    }

    async fn shard_search(
        &mut self,
        client: &Client,
        explained: &ShardExplain,
        bring: &Bring,
        at: &Where,
        filter: Option<&Arc<Expr>>,
    ) -> Result<ShardSearch, CommandError> {
        let place = self.place(explained.shard)?;
        let scope = match at {
            Where::All => Scope::All,
            Where::Namespaces(namespaces) => {
                let mut here = Vec::new();
                for namespace in namespaces {
                    if self.shard_of(client, namespace).await? == explained.shard {
                        here.push(namespace.clone());
                    }
                }
                Scope::Namespaces(here)
            }
        };
        let plan = ShardPlan {
            strategy: strategy(explained)?,
            candidates: explained.candidates_wanted,
            per_namespace: None,
            ef: explained.ef.unwrap_or_default(),
            why: "as the coordinator does",
        };
        let query = KnnQuery {
            vector: Vector::new(Vec::new()).expect("no number is not finite"),
            scope,
            exclude: Arc::default(),
            filter: filter.cloned(),
            without: None,
            bring: bring.clone(),
            plan,
            graphs: explained.graphs.clone(),
        };
        Ok(ShardSearch { place, query })
    }

    fn place(&self, shard: ShardId) -> Result<Place, CommandError> {
        let place = self.places.get(&shard).cloned();
        place.ok_or_else(|| CommandError::Failed(format!("shard {shard} is placed nowhere")))
    }

    async fn shard_of(&mut self, client: &Client, namespace: &Namespace) -> Result<ShardId, CommandError> {
        if let Some(shard) = self.homes.get(namespace) {
            return Ok(*shard);
        }
        let info: NamespaceInfo = client.get(&path::namespace(&self.collection, namespace)).await?.parse()?;
        self.homes.insert(namespace.clone(), info.shard);
        Ok(info.shard)
    }
}

/// The coordinator has one word for a walk of the shard's graph and for walks of namespaces' own.
fn strategy(explained: &ShardExplain) -> Result<Strategy, CommandError> {
    match explained.strategy.as_str() {
        // The walk before a fallback is left out: what was found came from the scan.
        "exact" | "exact_fallback" => Ok(Strategy::Exact(row_path(explained))),
        "hnsw" if !explained.graphs.is_empty() => Ok(Strategy::OwnGraphs),
        "hnsw" => Ok(Strategy::Hnsw),
        other => Err(CommandError::Failed(format!("the statement of strategy {other} is not known here"))),
    }
}

fn row_path(explained: &ShardExplain) -> RowPath {
    let known = RowPath::ALL.into_iter().find(|path| explained.rows_by.as_deref() == Some(path.word()));
    known.unwrap_or_default()
}

impl ShardSearch {
    /// The statement for a vector.
    pub(super) fn ask(&self, vector: &Vector) -> Ask {
        let query = KnnQuery { vector: vector.clone(), ..self.query.clone() };
        self.place.ask(ReadyStatement::nearest(&self.place.table, &query))
    }
}

impl Place {
    /// The statement that reads an entry with everything, as the API's GET does.
    pub(super) fn get(&self, id: EntryId) -> Ask {
        let include = [Include::Value, Include::Metadata, Include::Tags, Include::Vector];
        self.ask(ReadyStatement::get(&self.table, id, &include))
    }

    /// The statement that writes an entry.
    pub(super) fn upsert(&self, id: EntryId, value: String, vector: Vector) -> Ask {
        let EntryId { namespace, key } = id;
        let row = WriteRow {
            namespace: namespace.into(),
            key: key.to_string(),
            value: Some(value),
            metadata: serde_json::Map::new(),
            tags: Vec::new(),
            vector: Some(vector),
        };
        self.ask(ReadyStatement::upsert(&self.table, row))
    }

    fn ask(&self, statement: ReadyStatement) -> Ask {
        Ask { worker: self.worker.clone(), statement: Arc::new(statement) }
    }
}
