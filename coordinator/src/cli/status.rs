//! `atoll status`: the cluster at a glance.

use super::builds::{summary, waits};
use super::client::Client;
use super::error::CommandError;
use super::groups::groups_table;
use super::members::{coordinators_table, workers_table};
use super::output::{Output, bytes, count, or_dash};
use atoll_proto::admin::{BuildList, ClusterInfo, GroupList, Readiness, ShardList, WorkerList};
use serde_json::{Value, json};

/// What the coordinator says of its cluster.
pub(super) struct Overview {
    /// `GET /v1/admin/cluster`.
    pub(super) cluster: ClusterInfo,
    /// `GET /v1/admin/workers`.
    pub(super) workers: WorkerList,
    /// `GET /v1/admin/groups`.
    pub(super) groups: GroupList,
    /// `GET /v1/admin/shards`.
    pub(super) shards: ShardList,
    /// `GET /v1/admin/builds`.
    pub(super) builds: BuildList,
    /// `GET /readyz`.
    pub(super) readiness: Readiness,
    /// All of them, as they came.
    json: Value,
}

impl Overview {
    /// Asks for all of it.
    pub(super) async fn fetch(client: &Client) -> Result<Self, CommandError> {
        let cluster = client.get("/v1/admin/cluster").await?;
        let workers = client.get("/v1/admin/workers").await?;
        let groups = client.get("/v1/admin/groups").await?;
        let shards = client.get("/v1/admin/shards").await?;
        let builds = client.get("/v1/admin/builds").await?;
        let readiness = client.get_any("/readyz").await?;
        Ok(Self {
            json: json!({
                "cluster": cluster.parse::<Value>()?,
                "workers": workers.parse::<Value>()?["workers"],
                "groups": groups.parse::<Value>()?["groups"],
                "shards": shards.parse::<Value>()?["shards"],
                "builds": builds.parse::<Value>()?["builds"],
                "readiness": readiness.parse::<Value>()?,
            }),
            cluster: cluster.parse()?,
            workers: workers.parse()?,
            groups: groups.parse()?,
            shards: shards.parse()?,
            builds: builds.parse()?,
            readiness: readiness.parse()?,
        })
    }
}

/// Prints the cluster at a glance. Not being ready is an answer, not an error: `doctor` is for judging.
pub(crate) async fn run(client: &Client, output: &Output) -> Result<(), CommandError> {
    let overview = Overview::fetch(client).await?;
    if output.json {
        return output.line(&overview.json);
    }
    let Overview { cluster, workers, groups, shards, builds, readiness, json: _ } = overview;
    output.line(format_args!("cluster       {}", or_dash(cluster.cluster_id.as_ref())))?;
    let build = &cluster.build;
    output.line(format_args!("answered by   coordinator {} ({build}) at {}", cluster.answered_by, client.base()))?;
    let (leader, term, version) = (or_dash(cluster.leader), cluster.term, cluster.catalog_version);
    output.line(format_args!("leader        {leader} (term {term}, catalog version {version})"))?;
    let rows: u64 = shards.shards.iter().map(|shard| shard.rows).sum();
    let size: u64 = shards.shards.iter().map(|shard| shard.bytes).sum();
    let (placed, all) = (shards.shards.len(), count(cluster.shard_count, "shard"));
    output.line(format_args!("shards        {placed} of {all} placed, {}, {}", count(rows, "row"), bytes(size)))?;
    if let Some(summary) = summary(&builds.builds) {
        output.line(format_args!("graphs        {summary}"))?;
    }
    for wait in waits(&builds.builds) {
        output.line(format_args!("              {wait}"))?;
    }
    output.line(format_args!("ready         {}", if readiness.ready { "yes" } else { "no" }))?;
    for reason in &readiness.reasons {
        output.line(format_args!("              {reason}"))?;
    }
    output.line(format_args!("\n{}", coordinators_table(&cluster)))?;
    output.line(format_args!("\n{}", groups_table(&groups.groups)))?;
    output.line(format_args!("\n{}", workers_table(&workers.workers)))?;
    if !readiness.ready {
        eprintln!("\nwhat to do about it: atoll doctor");
    }
    Ok(())
}
