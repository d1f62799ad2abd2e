//! A shard moves to another group while clients write and search: no request fails, no entry is lost or doubled, and nothing of
//! the move is left behind. So does one that is cancelled, and it leaves the shard where it was.

#![allow(clippy::unwrap_used)]

use cluster_tests::command_line::CommandLine;
use cluster_tests::moves::{GRAPH_SENT_AWAY, begin, shard_of, wait_for_phase, wait_nothing_left, wait_over};
use cluster_tests::traffic::{Asked, Traffic, longest_gap};
use cluster_tests::wordnet::{self, Sample};
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const KEYS: u64 = 300;
const PAUSE_MAX: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_a_shard() {
    let entries: Vec<Sample> = wordnet::sample().into_iter().take(3_000).collect();
    let cluster = Cluster::start(ClusterOptions::new("moves_a_shard").uncached()).await;
    let client = cluster.client();
    client.put("/v1/collections/notes", &json!({"dimensions": null})).await.expect(201);
    client.put("/v1/collections/countries", &json!({"dimensions": 2, "distribution": "reference"})).await.expect(201);
    assert_eq!(client.import("memory_entries", wordnet::ndjson(&entries)).await["written"], 3_000);
    let (shard, from) = shard_of(&client, "memory_entries", "moving").await;
    let to = cluster.layout().workers.into_iter().find(|worker| worker.group != from).unwrap().group;
    for i in 0..50 {
        let path = format!("/v1/collections/notes/namespaces/moving/entries/note-{i}");
        client.put(&path, &json!({"value": format!("note {i}")})).await.expect(201);
    }
    let repeated = repeatable(&client, "before the move").await;

    let vector = entries[7].vector.clone();
    let writers: Vec<Traffic> = (0..3).map(|writer| write_always(&client, writer, vector.clone())).collect();
    let query = entries[11].vector.clone();
    let searcher = Traffic::begin(client.clone(), move |client, _| {
        let body = json!({"vector": query, "all": true, "exact": true, "k": 5, "include": ["value"]});
        client.request(Method::POST, "/v1/collections/memory_entries/search").json(&body)
    });
    for traffic in writers.iter().chain([&searcher]) {
        traffic.wait_for_successes(20, Duration::from_secs(60)).await;
    }

    let cancelled = begin(&client, shard, &to).await;
    wait_for_phase(&client, cancelled, &["copying", "indexing", "catching-up"]).await;
    client.post("/v1/admin/moves", &json!({"shard": shard, "to": to})).await.expect_problem(409, "move-in-progress");
    client.put("/v1/collections/late", &json!({"dimensions": 3})).await.expect_problem(409, "move-in-progress");
    client.post(&format!("/v1/admin/moves/{cancelled}/cancel"), &json!({})).await.expect(200);
    assert_eq!(wait_over(&client, cancelled).await["phase"], "cancelled");
    assert_eq!(shard_of(&client, "memory_entries", "moving").await, (shard, from.clone()));
    wait_nothing_left(&cluster, &client).await;

    let command = CommandLine::new(client.base());
    let run = command.run(&["shard", "move", &shard.to_string(), "--to", &to, "--json"]).await;
    assert_eq!(run.code, 0, "{} {}", run.out, run.err);
    let moved: Value = serde_json::from_str(&run.out).unwrap();
    let id = moved["id"].as_u64().unwrap();
    println!("the move: {}", run.out.trim());
    assert_eq!((&moved["phase"], &moved["error"]), (&json!("done"), &Value::Null), "{moved}");
    assert_eq!(shard_of(&client, "memory_entries", "moving").await, (shard, to.clone()));
    client.post(&format!("/v1/admin/moves/{id}/cancel"), &json!({})).await.expect_problem(422, "validation-failed");
    client.get("/v1/admin/moves/424242").await.expect_problem(404, "move-not-found");
    for traffic in writers.iter().chain([&searcher]) {
        traffic.wait_for_successes(20, Duration::from_secs(60)).await;
    }
    let searched = searcher.end().await;
    nobody_noticed("searcher", &searched);
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for (number, writer) in writers.into_iter().enumerate() {
        let written = writer.end().await;
        nobody_noticed("writer", &written);
        for asked in &written {
            last.insert(key(number as u64, asked.number), asked.number);
        }
    }
    assert_eq!(repeatable(&client, "before the move").await, repeated, "outcomes moved too");
    every_entry_is_as_last_written(&client, &last).await;
    assert_eq!(client.export("memory_entries", None).await.len(), 3_001 + last.len());
    assert_eq!(client.export("notes", Some("moving")).await.len(), 50);
    wait_nothing_left(&cluster, &client).await;

    let run = command.run(&["move", "list"]).await;
    assert!(run.out.contains("cancelled") && run.out.contains("done"), "{}", run.out);
    let run = command.run(&["move", "show", &id.to_string()]).await;
    assert!(run.out.contains("write pause"), "{}", run.out);
    cluster.finish(&[GRAPH_SENT_AWAY]).await;
}

/// A write that may come again; gives what became of it.
async fn repeatable(client: &Client, key: &str) -> Value {
    let path = "/v1/collections/memory_entries/namespaces/moving/entries/once";
    let request = client.request(Method::PUT, path).header("idempotency-key", key);
    let answer = request.json(&json!({"value": "once", "vector": vec![1; 384]})).send().await;
    assert!([200, 201].contains(&answer.status), "{}", answer.text());
    answer.json()["results"].clone()
}

fn key(writer: u64, number: u64) -> String {
    format!("w{writer}-{}", number % KEYS)
}

fn write_always(client: &Client, writer: u64, vector: Vec<f32>) -> Traffic {
    Traffic::begin(client.clone(), move |client, number| {
        let path = format!("/v1/collections/memory_entries/namespaces/moving/entries/{}", key(writer, number));
        client.request(Method::PUT, &path).json(&json!({"value": number.to_string(), "vector": vector}))
    })
}

fn nobody_noticed(who: &str, asked: &[Asked]) {
    let failed: Vec<&Asked> = asked.iter().filter(|asked| !asked.succeeded()).collect();
    assert!(failed.is_empty(), "{who}: {} of {} requests failed: {:?}", failed.len(), asked.len(), failed[0]);
    let slowest = asked.iter().map(|asked| asked.ended - asked.sent).max().unwrap();
    println!("{who}: {} requests, slowest {slowest:?}, longest gap {:?}", asked.len(), longest_gap(asked));
    assert!(slowest < PAUSE_MAX, "{who}: {slowest:?}");
}

async fn every_entry_is_as_last_written(client: &Client, last: &BTreeMap<String, u64>) {
    let found = client.export("memory_entries", Some("moving")).await;
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in &found {
        let doubled = values.insert(entry["key"].as_str().unwrap(), entry["value"].as_str().unwrap());
        assert!(doubled.is_none(), "doubled: {entry}");
    }
    for (key, number) in last {
        assert_eq!(values.get(key.as_str()), Some(&number.to_string().as_str()), "{key}");
    }
}
