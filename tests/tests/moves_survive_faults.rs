//! The processes that a move needs are killed in the middle of it: the move ends without help, every acknowledged write is there,
//! and nothing is left behind.

#![allow(clippy::unwrap_used)]

use cluster_tests::cluster::WorkerPlace;
use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::moves::{GRAPH_SENT_AWAY, begin, shard_of, wait_for_phase, wait_nothing_left, wait_over};
use cluster_tests::traffic::{Asked, Traffic};
use cluster_tests::wordnet;
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const KEYS: u64 = 200;
/// What is said, as it should be, while parts of a cluster are away.
const EXPECTED: [&str; 8] = [
    "\"target\":\"openraft::",
    "the coordinator cannot be reached",
    GRAPH_SENT_AWAY,
    "a step of a move could not be recorded",
    "not registered",
    r#""code":"shard-unavailable""#,
    r#""code":"write-outcome-unknown""#,
    "a shard's part of a batch was not written",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_survive_faults() {
    let entries: Vec<_> = wordnet::sample().into_iter().take(4_000).collect();
    let options = ClusterOptions::new("moves_survive_faults").coordinators(3).uncached();
    let mut cluster = Cluster::start(options).await;
    let leader = cluster.leader().await;
    let survivor = (1..=3).find(|number| *number != leader).unwrap();
    let client = cluster.client_of(survivor);
    client.wait_until_active("memory_entries").await;
    // All in one shard, so that its move takes a while.
    let lines: Vec<_> =
        entries.iter().cloned().map(|entry| wordnet::Sample { namespace: "moving".to_owned(), ..entry }).collect();
    assert_eq!(client.import("memory_entries", wordnet::ndjson(&lines)).await["written"], 4_000);
    let vector = entries[3].vector.clone();
    let writer = write_always(&client, "calm", vector.clone());
    writer.wait_for_successes(20, Duration::from_secs(60)).await;

    // The target's agent, while the copy is made.
    let (shard, from) = shard_of(&client, "memory_entries", "moving").await;
    let target = other_worker(&cluster, &from);
    let id = begin(&client, shard, &target.group).await;
    wait_for_phase(&client, id, &["preparing", "copying", "indexing"]).await;
    cluster.kill(target.agent_pid).await;
    writer.wait_for_successes(20, Duration::from_secs(60)).await;
    cluster.start_member(&target.name);
    let over = wait_over(&client, id).await;
    println!("the target's agent was killed: {over}");
    assert_eq!(over["phase"], "done", "{over}");
    wait_nothing_left(&cluster, &client).await;

    // The leader of the catalog.
    let (shard, from) = shard_of(&client, "memory_entries", "moving").await;
    let id = begin(&client, shard, &other_worker(&cluster, &from).group).await;
    wait_for_phase(&client, id, &["copying", "indexing", "catching-up", "verifying"]).await;
    let pid = cluster.layout().coordinators[usize::from(leader - 1)].pid;
    cluster.kill(pid).await;
    let over = wait_over(&client, id).await;
    println!("the leader was killed: {over}");
    assert_eq!(over["phase"], "done", "{over}");
    wait_nothing_left(&cluster, &client).await;

    let calm = writer.end().await;
    let failed: Vec<&Asked> = calm.iter().filter(|asked| !asked.succeeded()).collect();
    assert!(failed.is_empty(), "{} of {} writes failed: {:?}", failed.len(), calm.len(), failed[0]);
    nothing_acknowledged_is_lost(&client, "calm", &calm, 4_000).await;

    // The source's PostgreSQL: its agent starts it again.
    let writer = write_always(&client, "rough", vector);
    writer.wait_for_successes(20, Duration::from_secs(60)).await;
    let (shard, from) = shard_of(&client, "memory_entries", "moving").await;
    let source = cluster.layout().workers.into_iter().find(|worker| worker.group == from).unwrap();
    let id = begin(&client, shard, &other_worker(&cluster, &from).group).await;
    wait_for_phase(&client, id, &["copying", "indexing", "catching-up"]).await;
    let postmaster = cluster.postmaster(&source).unwrap();
    cluster.kill_postgres(postmaster).await;
    let over = wait_over(&client, id).await;
    println!("the source's PostgreSQL was killed: {over}");
    assert_eq!(over["phase"], "done", "{over}");
    wait_nothing_left(&cluster, &client).await;

    writer.wait_for_successes(20, Duration::from_secs(60)).await;
    let before = 4_000 + calm.len().min(KEYS as usize);
    nothing_acknowledged_is_lost(&client, "rough", &writer.end().await, before).await;
    cluster.finish(&[&EXPECTED[..], &WORKER_LOSS].concat()).await;
}

fn write_always(client: &Client, prefix: &'static str, vector: Vec<f32>) -> Traffic {
    Traffic::begin(client.clone(), move |client, number| {
        let path = format!("/v1/collections/memory_entries/namespaces/moving/entries/{prefix}-{}", number % KEYS);
        client.request(Method::PUT, &path).json(&json!({"value": number.to_string(), "vector": vector}))
    })
}

fn other_worker(cluster: &Cluster, group: &str) -> WorkerPlace {
    cluster.layout().workers.into_iter().find(|worker| worker.group != group).unwrap()
}

/// One client wrote, one write after the other: each key is as last acknowledged, or as a later write whose outcome is unknown.
async fn nothing_acknowledged_is_lost(client: &Client, prefix: &str, asked: &[Asked], others: usize) {
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for one in asked.iter().filter(|one| one.succeeded()) {
        acknowledged.insert(format!("{prefix}-{}", one.number % KEYS), one.number);
    }
    let found = client.export("memory_entries", Some("moving")).await;
    let mut values = BTreeMap::new();
    for entry in &found {
        let doubled = values.insert(entry["key"].as_str().unwrap(), entry["value"].as_str().unwrap());
        assert!(doubled.is_none(), "doubled: {entry}");
    }
    assert_eq!(found.len(), others + acknowledged.len());
    for (key, number) in &acknowledged {
        let value: u64 = values[key.as_str()].parse().unwrap();
        let unknown = || asked.iter().any(|one| one.number == value && !one.succeeded());
        assert!(value == *number || value > *number && unknown(), "{key}: {value} instead of {number}");
    }
    let failed = asked.iter().filter(|one| !one.succeeded()).count();
    println!("{prefix}: {} writes, {failed} failed while something was away", asked.len());
}
