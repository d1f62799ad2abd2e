//! `atoll doctor`: what is wrong with the cluster, and what to do about each.

use super::client::Client;
use super::error::CommandError;
use super::output::{Output, count};
use super::status::Overview;
use atoll_proto::agent::PGVECTOR_MIN;
use atoll_proto::collection::{CollectionList, CollectionState};
use serde::Serialize;

/// Something that is wrong or unwise.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What.
    what: String,
    /// What to do about it.
    next: String,
}

/// Looks at all the coordinator knows. An error if something is wrong, so that scripts can ask.
pub(crate) async fn run(client: &Client, output: &Output) -> Result<(), CommandError> {
    let overview = Overview::fetch(client).await?;
    let collections: CollectionList = client.get("/v1/collections").await?.parse()?;
    let findings = findings(&overview, &collections);
    if output.json {
        output.line(serde_json::json!({ "findings": findings }))?;
    } else {
        for finding in &findings {
            output.line(format_args!("- {}\n  next: {}", finding.what, finding.next))?;
        }
    }
    if findings.is_empty() {
        eprintln!("{}", output.green("nothing is wrong"));
        return Ok(());
    }
    Err(CommandError::Failed(format!("the cluster has {}", count(findings.len() as u64, "finding"))))
}

fn findings(overview: &Overview, collections: &CollectionList) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |what: String, next: &str| found.push(Finding { what, next: next.to_owned() });
    let Overview { cluster, workers, groups, shards, readiness, .. } = overview;

    if cluster.leader.is_none() {
        add(
            "the catalog has no leader: nothing that changes it can be done, searches and writes go on".to_owned(),
            "start coordinators until a majority of the voters is up",
        );
    }
    for coordinator in cluster.coordinators.iter().filter(|coordinator| !coordinator.up) {
        add(
            format!("coordinator {} at {} is down", coordinator.id, coordinator.http),
            "start it again and see its log; if its disk is lost: atoll coordinator remove ID, then join a new one",
        );
    }
    let registered = groups.groups.len() as u64;
    if registered < u64::from(cluster.initial_groups) {
        add(
            format!(
                "shards are placed once {} are registered, {registered} are so far",
                count(cluster.initial_groups, "group")
            ),
            "start the agents that are missing and see their logs: wrong secret, wrong coordinator address?",
        );
    } else if shards.shards.len() as u64 != u64::from(cluster.shard_count) {
        add(
            format!("{} of {} are placed", shards.shards.len(), count(cluster.shard_count, "shard")),
            "wait a moment; if it stays so, see the leader's log",
        );
    }
    for worker in &workers.workers {
        if !worker.up {
            add(
                format!("worker {} of group {} is down: its shards cannot be reached", worker.worker, worker.group),
                "see the logs of its agent and of its PostgreSQL; an agent that starts again starts its server",
            );
        }
        if version(&worker.pgvector).is_none_or(|version| version < PGVECTOR_MIN) {
            let (major, minor, patch) = PGVECTOR_MIN;
            add(
                format!(
                    "worker {} has pgvector {}, which is not known to be {major}.{minor}.{patch} or newer: before that, \
                     vacuum can corrupt HNSW indexes",
                    worker.worker, worker.pgvector
                ),
                "install a newer pgvector there, then: alter extension vector update; reindex the vector indexes",
            );
        }
    }
    for collection in &collections.collections {
        let doing = match collection.state {
            CollectionState::Active => continue,
            CollectionState::Creating => "being made",
            CollectionState::Dropping => "being dropped",
        };
        add(
            format!("the tables of collection {} are still {doing}", collection.name),
            "every worker must take part: if it stays so, see which worker is down and its agent's log",
        );
    }
    if !readiness.ready {
        for reason in &readiness.reasons {
            add(format!("not ready: {reason}"), "see above, or the coordinator's log");
        }
    }
    found
}

/// The first three numbers of a version; none if it has no such form.
fn version(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next().unwrap_or(Some(0))?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;
    use serde_json::json;

    #[test]
    fn versions_compare_by_number() {
        assert!(version("0.8.10").unwrap() > PGVECTOR_MIN);
        assert!(version("0.8.0").unwrap() < PGVECTOR_MIN);
        assert_eq!(version("0.9"), Some((0, 9, 0)));
        assert_eq!(version("unknown"), None);
    }

    #[tokio::test]
    async fn each_thing_wrong_has_a_next_step() {
        let worker = |name: &str, up: bool, pgvector: &str| {
            json!({"worker":name,"group":name,"role":"primary","mode":"managed","up":up,"postgres":"18.4",
                   "pgvector":pgvector,"bytes":0})
        };
        let fake = FakeCoordinator::routing(vec![
            (
                "/v1/admin/cluster",
                json!({
                "cluster_id":"c","leader":null,"term":3,"applied_index":88,"catalog_version":42,"shard_count":12,
                "initial_groups":3,"answered_by":1,"build":"0.1.0",
                "coordinators":[{"id":1,"http":"http://a","internal":"http://b","role":"voter","up":false}]}),
            ),
            ("/v1/admin/workers", json!({"workers":[worker("w1", false, "0.8.5"), worker("w2", true, "0.8.0"), worker("w3", true, "0.9-dev")]})),
            ("/v1/admin/groups", json!({"groups":[]})),
            ("/v1/admin/shards", json!({"shards":[]})),
            ("/v1/admin/builds", json!({"builds":[],"counting":false,"asked_ms_ago":null,"silent":["w1"]})),
            ("/readyz", json!({"ready":false,"reasons":["2 of 3 groups registered"]})),
        ])
        .await;
        let overview = Overview::fetch(&fake.client()).await.unwrap();
        let collections = serde_json::from_value(json!({"collections":[{"name":"c","state":"creating","dimensions":null,
            "metric":"cosine","vector_type":"float32","distribution":"hash","durability":"quorum","index":{"profile":"balanced"},
            "ttl_seconds":null}]}))
        .unwrap();
        let found = findings(&overview, &collections);
        let said: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        let unsafe_pgvector = "which is not known to be 0.8.4 or newer: before that, vacuum can corrupt HNSW indexes";
        assert_eq!(
            said,
            [
                "the catalog has no leader: nothing that changes it can be done, searches and writes go on",
                "coordinator 1 at http://a is down",
                "shards are placed once 3 groups are registered, 0 are so far",
                "worker w1 of group w1 is down: its shards cannot be reached",
                &format!("worker w2 has pgvector 0.8.0, {unsafe_pgvector}"),
                &format!("worker w3 has pgvector 0.9-dev, {unsafe_pgvector}"),
                "the tables of collection c are still being made",
                "not ready: 2 of 3 groups registered",
            ]
        );
        assert!(found.iter().all(|finding| !finding.next.is_empty()));
    }
}
