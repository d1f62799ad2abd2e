//! `atoll shard`, `worker` and `coordinator`: what the cluster is made of. Groups have [`super::groups`].

use super::client::Client;
use super::error::CommandError;
use super::moves::BeginMove;
use super::output::{Output, bytes, or_dash, table, yes_no};
use super::path;
use atoll_proto::admin::{ClusterInfo, ShardInfo, ShardList, WorkerInfo, WorkerList};
use atoll_proto::agent::WorkerMode;
use atoll_proto::{CoordinatorId, GroupName};
use serde::de::IgnoredAny;

/// What can be done with shards.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ShardCommand {
    /// List shards: the group that owns each, its rows and bytes.
    List {
        /// Only those of this group.
        #[arg(long, value_name = "GROUP")]
        group: Option<GroupName>,
    },
    /// Move a shard to another group while searches and writes go on; waits until it is over.
    Move(BeginMove),
}

/// What can be done with workers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum WorkerCommand {
    /// List workers: PostgreSQL servers and their agents.
    List,
}

/// What can be done with coordinators.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CoordinatorCommand {
    /// List coordinators.
    List,
    /// Take a coordinator out of the cluster, for instance one whose disk was lost.
    Remove {
        /// Its id: see `atoll coordinator list`.
        id: u64,
    },
}

impl ShardCommand {
    /// Does it.
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        match self {
            Self::List { group } => {
                let query = path::query(&[("group", group.map(String::from))]);
                let answer = client.get(&format!("/v1/admin/shards{query}")).await?;
                output.show(&answer, |list: ShardList| shards_table(&list.shards))
            }
            Self::Move(begin) => begin.run(client, output).await,
        }
    }
}

impl WorkerCommand {
    /// Does it.
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        let Self::List = self;
        let answer = client.get("/v1/admin/workers").await?;
        output.show(&answer, |list: WorkerList| workers_table(&list.workers))
    }
}

impl CoordinatorCommand {
    /// Does it.
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        match self {
            Self::List => {
                let answer = client.get("/v1/admin/cluster").await?;
                output.show(&answer, |cluster: ClusterInfo| coordinators_table(&cluster))
            }
            Self::Remove { id } => {
                let answer = client.delete(&format!("/v1/admin/coordinators/{id}")).await?;
                output.show(&answer, |_: IgnoredAny| format!("coordinator {} is out of the cluster", CoordinatorId(id)))
            }
        }
    }
}

fn shards_table(shards: &[ShardInfo]) -> String {
    let rows = shards.iter().map(|shard| {
        [
            shard.shard.to_string(),
            shard.group.clone(),
            shard.schema.clone(),
            shard.rows.to_string(),
            bytes(shard.bytes),
            or_dash(shard.moving),
        ]
    });
    table(&["SHARD>", "GROUP", "SCHEMA", "ROWS>", "SIZE>", "MOVE>"], rows)
}

/// Workers as a table.
pub(super) fn workers_table(workers: &[WorkerInfo]) -> String {
    let rows = workers.iter().map(|worker| {
        let mode = match worker.mode {
            WorkerMode::Managed => "managed",
            WorkerMode::External => "external",
        };
        [
            worker.worker.clone(),
            worker.group.clone(),
            worker.role.clone(),
            mode.to_owned(),
            yes_no(worker.up),
            worker.postgres.clone(),
            worker.pgvector.clone(),
            bytes(worker.bytes),
        ]
    });
    table(&["WORKER", "GROUP", "ROLE", "MODE", "UP", "POSTGRESQL", "PGVECTOR", "SIZE>"], rows)
}

/// Coordinators as a table.
pub(super) fn coordinators_table(cluster: &ClusterInfo) -> String {
    let rows = cluster.coordinators.iter().map(|coordinator| {
        let role = if cluster.leader == Some(coordinator.id) { "leader".to_owned() } else { coordinator.role.clone() };
        [
            coordinator.id.to_string(),
            role,
            yes_no(coordinator.up),
            coordinator.http.clone(),
            coordinator.internal.clone(),
        ]
    });
    table(&["COORDINATOR>", "ROLE", "UP", "HTTP", "INTERNAL"], rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_leader_and_what_is_down_stand_out() {
        let cluster: ClusterInfo = serde_json::from_value(serde_json::json!({
            "cluster_id":"c","leader":2,"term":3,"applied_index":88,"catalog_version":42,"shard_count":12,
            "initial_groups":3,"answered_by":1,"build":"0.1.0","coordinators":[
                {"id":1,"http":"http://a","internal":"http://b","role":"voter","up":true},
                {"id":2,"http":"http://c","internal":"http://d","role":"voter","up":false}]
        }))
        .unwrap();
        let shown = coordinators_table(&cluster);
        assert!(shown.contains("2  leader  no   http://c  http://d"), "{shown}");
    }
}
