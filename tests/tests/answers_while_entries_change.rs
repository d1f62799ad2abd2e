//! A search over many shards finds first and fetches then. Entries that are rewritten, moved, deleted or changed in between are shown
//! as they are stored, or not at all, and no other is missing for it.

#![allow(clippy::unwrap_used)]

use cluster_tests::{Client, Cluster, ClusterOptions};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::task::JoinSet;

const NAMESPACES: usize = 8;
/// Entries of each namespace that nobody writes.
const STILL: usize = 6;
const K: usize = 14;
/// Searches, of which this many at least must show that entries changed meanwhile.
const SEARCHES: usize = 400;
const SHOW_CHANGE: usize = 50;

/// Angles to the query, by kind: those of one kind lie nearer than those of the next.
fn angle(kind: &str, number: usize) -> f64 {
    let base = match kind {
        "rewritten" => 0.1,
        "coming" => 0.2,
        "turning" => 0.3,
        "moving" => 0.4,
        "still" => 0.5,
        other => panic!("{other} is no kind"),
    };
    base + number as f64 * 0.001
}

fn entry(namespace: usize, key: &str, angle: f64, metadata: Value) -> Value {
    json!({"namespace": format!("n{namespace}"), "key": key, "value": key, "vector": [angle.cos(), angle.sin()], "metadata": metadata})
}

/// All that changes, in the state of a turn.
fn turn(namespace: usize, turn: usize) -> Value {
    let odd = turn % 2 == 1;
    let moved = if odd { 2.0 } else { angle("moving", namespace) };
    json!({"entries": [
        entry(namespace, "rewritten", angle("rewritten", namespace), json!({"on": true, "turn": turn})),
        entry(namespace, "turning", angle("turning", namespace), json!({"on": odd, "turn": turn})),
        entry(namespace, "moving", moved, json!({"on": true, "turn": turn, "away": odd})),
    ]})
}

async fn write(client: Client, done: Arc<AtomicBool>, namespace: usize) {
    let coming = entry(namespace, "coming", angle("coming", namespace), json!({"on": true}));
    let ids = json!({"ids": [{"namespace": format!("n{namespace}"), "key": "coming"}]});
    let mut number = 0;
    while !done.load(Ordering::Relaxed) {
        number += 1;
        client.post("/v1/collections/c/entries", &turn(namespace, number)).await.expect(200);
        match number % 2 {
            0 => client.post("/v1/collections/c/entries", &json!({"entries": [coming]})).await.expect(200),
            _ => client.post("/v1/collections/c/entries/delete", &ids).await.expect(200),
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_while_entries_change() {
    let cluster = Cluster::start(ClusterOptions::new("answers_while_entries_change").workers(2)).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 2})).await.expect(201);
    client.wait_until_active("c").await;
    for namespace in 0..NAMESPACES {
        let still = (0..STILL).map(|i| {
            let angle = angle("still", namespace * STILL + i);
            entry(namespace, &format!("still{i}"), angle, json!({"on": true}))
        });
        client.post("/v1/collections/c/entries", &json!({"entries": still.collect::<Vec<_>>()})).await.expect(200);
        client.post("/v1/collections/c/entries", &turn(namespace, 0)).await.expect(200);
    }

    let done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for namespace in 0..NAMESPACES {
        writers.spawn(write(client.clone(), done.clone(), namespace));
    }
    let changes = Arc::new(AtomicUsize::new(0));
    let mut searchers = JoinSet::new();
    for _ in 0..2 {
        searchers.spawn(search(client.clone(), changes.clone()));
    }
    while let Some(searcher) = searchers.join_next().await {
        searcher.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let changes = changes.load(Ordering::Relaxed);
    assert!(changes >= SHOW_CHANGE, "{changes} answers differ from those before them: nothing was written meanwhile");
    cluster.finish(&[]).await;
}

async fn search(client: Client, changes: Arc<AtomicUsize>) {
    let on = json!({"must": [{"field": "metadata.on", "eq": true}]});
    let body = json!({"vector": [1, 0], "all": true, "k": K, "filter": on, "cache": "bypass"});
    let mut before = Value::Null;
    for _ in 0..SEARCHES / 2 {
        let answer = client.post("/v1/collections/c/search", &body).await.expect(200).json();
        check(&answer);
        let hits = answer["hits"].clone();
        if hits != before {
            changes.fetch_add(1, Ordering::Relaxed);
        }
        before = hits;
    }
}

/// What nobody deletes is there, what nobody writes is there in its order up to k, and every hit is of one state of its entry.
fn check(answer: &Value) {
    let hits = answer["hits"].as_array().unwrap();
    assert_eq!((hits.len(), &answer["short_reason"], &answer["complete"]), (K, &Value::Null, &json!(true)), "{answer}");
    let distances: Vec<f64> = hits.iter().map(|hit| hit["distance"].as_f64().unwrap()).collect();
    assert!(distances.is_sorted(), "{answer}");
    let (mut rewritten, mut still) = (0, 0);
    for (hit, distance) in hits.iter().zip(distances) {
        let (key, metadata) = (hit["key"].as_str().unwrap(), &hit["metadata"]);
        let kind = key.trim_end_matches(|c: char| c.is_ascii_digit());
        let namespace: usize = hit["namespace"].as_str().unwrap()[1..].parse().unwrap();
        assert_eq!(metadata["on"], true, "it does not match: {hit} of {answer}");
        let number = match kind {
            "still" => {
                still += 1;
                still - 1
            }
            _ => namespace,
        };
        rewritten += usize::from(kind == "rewritten");
        let at = if metadata["away"] == true { 2.0 } else { angle(kind, number) };
        assert!((distance - (1.0 - at.cos())).abs() < 1e-6, "{hit} of {answer}");
    }
    assert_eq!(rewritten, NAMESPACES, "{answer}");
}
