//! A search of everything looks hardest where hits are likely, and finds all the same what was written where they are not.

#![allow(clippy::unwrap_used)]

use atoll_proto::Metric;
use cluster_tests::seeded::Seeded;
use cluster_tests::wordnet::{self, Sample};
use cluster_tests::{Client, Cluster, ClusterOptions, oracle, poll};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const SEARCH: &str = "/v1/collections/things/search";
const DIMENSIONS: usize = 16;
const SHARDS: u16 = 3;
const ROWS: usize = 1_500;
const K: usize = 5;
/// What each shard sends at most, and ef yields at least: over-fetch as it is by itself.
const CANDIDATES: usize = 2 * K;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_ef_out() {
    let options = ClusterOptions { shards: SHARDS, ..ClusterOptions::new("shares_ef_out") };
    let cluster = Cluster::start(options).await;
    let client = cluster.client();
    let settings = json!({"dimensions": DIMENSIONS, "index": {"scope": "shard"}});
    client.put("/v1/collections/things", &settings).await.expect(201);

    // In each shard one namespace, whose entries lie about a direction of their own.
    let namespaces = one_namespace_a_shard(&client).await;
    let mut chance = Seeded::new(3);
    let mut entries = Vec::new();
    for (direction, namespace) in namespaces.values().enumerate() {
        entries.extend((0..ROWS).map(|i| entry(namespace, &format!("k{i}"), near(direction, 0.3, &mut chance))));
    }
    let done = client.import("things", wordnet::ndjson(&entries)).await;
    assert_eq!(done["written"], entries.len(), "{done}");

    let query = near(0, 0.0, &mut chance);
    let (near_by, far) = (*namespaces.keys().next().unwrap(), *namespaces.keys().next_back().unwrap());
    let usual = poll::until("summaries of all shards", Duration::from_secs(60), async || {
        let answer = search(&client, &query, "balanced").await;
        let (promising, unlikely) = (shard(&answer, near_by), shard(&answer, far));
        let told = says(promising, "promising") && says(unlikely, "unlikely to hold hits");
        if told { Ok(answer) } else { Err(answer["explain"].to_string()) }
    })
    .await;
    assert_eq!(shard(&usual, far)["ef"], CANDIDATES, "{usual}");
    assert!(shard(&usual, near_by)["ef"].as_u64() > Some(2 * K as u64), "{usual}");

    // Nearer than all others, and where the summaries know of nothing near.
    let new: Vec<Sample> =
        (0..K).map(|i| entry(&namespaces[&far], &format!("new{i}"), near(0, 0.01, &mut chance))).collect();
    let done = client.import("things", wordnet::ndjson(&new)).await;
    assert_eq!(done["written"], K, "{done}");
    entries.extend(new);
    let truth: Vec<String> = oracle::nearest(Metric::Cosine, &query, &entries, K, |_| true)
        .into_iter()
        .map(|one| format!("{} {}", one.namespace, one.key))
        .collect();
    for profile in ["speed", "balanced", "accuracy"] {
        let answer = search(&client, &query, profile).await;
        assert!(says(shard(&answer, far), "unlikely to hold hits"), "{answer}");
        assert_eq!(found(&answer), truth, "{profile}: {answer}");
    }

    // Who asks for all or names ef gets it everywhere.
    let body = json!({"vector": query, "all": true, "k": K, "exact": true, "include": []});
    let exact = client.post(SEARCH, &body).await.expect(200).json();
    assert_eq!((found(&exact), &exact["plan"]["strategies"]["exact"]), (truth.clone(), &json!(SHARDS)), "{exact}");
    let body = json!({"vector": query, "all": true, "k": K, "ef": 50, "explain": true, "include": []});
    let named = client.post(SEARCH, &body).await.expect(200).json();
    assert!(shards(&named).iter().all(|shard| shard["ef"] == 50), "{named}");
    cluster.finish(&[]).await;
}

async fn search(client: &Client, query: &[f32], profile: &str) -> Value {
    let body = json!({"vector": query, "all": true, "k": K, "profile": profile, "explain": true, "include": [],
                      "cache": "bypass"});
    client.post(SEARCH, &body).await.expect(200).json()
}

async fn one_namespace_a_shard(client: &Client) -> BTreeMap<u64, String> {
    let mut namespaces = BTreeMap::new();
    for i in 0..100 {
        let name = format!("n{i}");
        let body = json!({"vector": vec![1.0; DIMENSIONS], "namespaces": [name], "explain": true});
        let answer = client.post(SEARCH, &body).await.expect(200).json();
        namespaces.entry(shards(&answer)[0]["shard"].as_u64().unwrap()).or_insert(name);
        if namespaces.len() == SHARDS as usize {
            break;
        }
    }
    assert_eq!(namespaces.len(), SHARDS as usize);
    namespaces
}

fn entry(namespace: &str, key: &str, vector: Vec<f32>) -> Sample {
    let (namespace, key) = (namespace.to_owned(), key.to_owned());
    Sample { namespace, key, value: String::new(), metadata: Map::new(), tags: Vec::new(), vector }
}

/// A direction, and so much of any other.
fn near(direction: usize, noise: f32, chance: &mut Seeded) -> Vec<f32> {
    let mut vector: Vec<f32> = chance.vector(DIMENSIONS).into_iter().map(|x| x * noise).collect();
    vector[direction] += 1.0;
    vector
}

fn shards(answer: &Value) -> &Vec<Value> {
    answer["explain"]["shards"].as_array().unwrap_or_else(|| panic!("no explain: {answer}"))
}

fn shard(answer: &Value, number: u64) -> &Value {
    shards(answer)
        .iter()
        .find(|shard| shard["shard"] == number)
        .unwrap_or_else(|| panic!("no shard {number}: {answer}"))
}

fn says(shard: &Value, word: &str) -> bool {
    shard["why"].as_str().unwrap().contains(word)
}

fn found(answer: &Value) -> Vec<String> {
    let hits = answer["hits"].as_array().unwrap_or_else(|| panic!("no hits: {answer}"));
    hits.iter().map(|hit| format!("{} {}", hit["namespace"].as_str().unwrap(), hit["key"].as_str().unwrap())).collect()
}
