//! A reference collection has a full copy on every group, and the copies are alike whatever is written: looked at in each server.

#![allow(clippy::unwrap_used)]

use cluster_tests::cluster::WorkerPlace;
use cluster_tests::entries::{entry_path, statuses};
use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::{Client, Cluster, ClusterOptions, poll, sql};
use serde_json::{Value, json};
use std::time::Duration;

const ENTRIES: &str = "/v1/collections/countries/entries";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_reference_collections() {
    let mut cluster = Cluster::start(ClusterOptions::new("copies_reference_collections")).await;
    let client = cluster.client();
    let settings = json!({"dimensions": 2, "distribution": "reference"});
    client.put("/v1/collections/countries", &settings).await.expect(201);
    every_write_reaches_every_copy(&cluster, &client).await;
    a_copy_that_was_away_is_mended(&mut cluster, &client).await;
    let expected = [&[r#""code":"shard-unavailable""#][..], &WORKER_LOSS].concat();
    cluster.finish(&expected).await;
}

/// Everything that a row holds, as text, in each worker's copy.
async fn copy_of(worker: &WorkerPlace) -> Vec<String> {
    sql::rows(&worker.dsn, "select e::text from atoll_reference.countries as e order by namespace, key").await
}

/// Copies that are alike, each of so many rows.
async fn assert_copies(cluster: &Cluster, rows: usize, after: &str) {
    let workers = cluster.layout().workers;
    let first = copy_of(&workers[0]).await;
    assert_eq!(first.len(), rows, "{after}: rows of {}", workers[0].name);
    for other in &workers[1..] {
        assert_eq!(copy_of(other).await, first, "{after}: {} against {}", other.name, workers[0].name);
    }
}

fn entry(i: u32) -> Value {
    json!({"namespace": format!("r{}", i % 7), "key": format!("k{i}"), "value": "v", "vector": [i, 1], "metadata": {"i": i}, "tags": ["t"]})
}

async fn every_write_reaches_every_copy(cluster: &Cluster, client: &Client) {
    let entries: Vec<Value> = (0..40).map(entry).collect();
    client.post(ENTRIES, &json!({"entries": entries})).await.expect(200);
    assert_copies(cluster, 40, "a batch").await;
    client.put(&entry_path("countries", "put", "k"), &json!({"vector": [1, 2]})).await.expect(201);
    assert_copies(cluster, 41, "a put").await;
    client.patch(&entry_path("countries", "put", "k"), &json!({"value": "x", "metadata": {"a": 1}})).await.expect(200);
    assert_copies(cluster, 41, "a patch").await;
    client.delete(&entry_path("countries", "put", "k")).await.expect(200);
    assert_copies(cluster, 40, "a delete").await;

    let ids = json!({"ids": [{"namespace": "r0", "key": "k0"}, {"namespace": "r1", "key": "k1"}]});
    assert_eq!(client.post(&format!("{ENTRIES}/delete"), &ids).await.expect(200).json(), json!({"deleted": 2}));
    assert_copies(cluster, 38, "a delete by ids").await;
    let filter = json!({"namespace": "r2", "filter": {"must": [{"field": "metadata.i", "range": {"gte": 16}}]}});
    assert_eq!(client.post(&format!("{ENTRIES}/delete"), &filter).await.expect(200).json(), json!({"deleted": 4}));
    assert_copies(cluster, 34, "a delete by filter").await;
    let some = json!({"namespace": "r3", "limit": 2});
    assert_eq!(client.post(&format!("{ENTRIES}/delete"), &some).await.expect(200).json(), json!({"deleted": 2}));
    assert_copies(cluster, 32, "a delete of some").await;
    client.delete("/v1/collections/countries/namespaces/r4").await.expect(200);
    assert_copies(cluster, 26, "a delete of a namespace").await;

    // New ones, one that is changed, and one that is as it was.
    let changed = json!({"namespace": "r5", "key": "k5", "value": "changed", "vector": [9, 9]});
    let lines: Vec<Value> = (100..160).map(entry).chain([changed, entry(12)]).collect();
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(client.import("countries", lines).await["written"], 62);
    assert_copies(cluster, 86, "an import").await;
}

async fn a_copy_that_was_away_is_mended(cluster: &mut Cluster, client: &Client) {
    let shards = client.get("/v1/admin/shards").await.expect(200).json();
    let read_first = shards["shards"][0]["group"].as_str().unwrap().to_owned();
    let away = cluster.layout().workers.into_iter().find(|worker| worker.group != read_first).unwrap();
    cluster.kill_worker(&away).await;
    let body = json!({"entries": [entry(200), entry(201)]});
    let problem = client.post(ENTRIES, &body).await.expect_problem(503, "shard-unavailable");
    let failures = problem["failures"].as_array().unwrap();
    assert!(!failures.is_empty() && failures.iter().all(|failure| failure["group"] == away.group), "{problem}");
    client
        .post(&format!("{ENTRIES}/delete"), &json!({"namespace": "r6"}))
        .await
        .expect_problem(503, "shard-unavailable");

    cluster.start_member(&away.name);
    // The same again, until it is done.
    let answer = poll::until("the copy to be back", Duration::from_secs(60), async || {
        let answer = client.post(ENTRIES, &body).await;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(statuses(&answer), ["unchanged"; 2], "they were written where they are read first");
    client.post(&format!("{ENTRIES}/delete"), &json!({"namespace": "r6"})).await.expect(200);
    let found = client.export("countries", None).await;
    assert_copies(cluster, found.len(), "all were sent again").await;
}
