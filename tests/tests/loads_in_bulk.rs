//! A namespace with a graph gets many times its rows in one import. Its graph goes meanwhile and comes back, every row is found as
//! soon as it is written, and a coordinator that dies in the middle leaves nobody without a graph.

#![allow(clippy::unwrap_used)]

use atoll_proto::Metric;
use cluster_tests::command_line::{CommandLine, argument};
use cluster_tests::oracle::Neighbour;
use cluster_tests::slow_import::SlowImport;
use cluster_tests::wordnet::{self, Sample};
use cluster_tests::{Client, Cluster, ClusterOptions, oracle, poll, sql};
use serde_json::{Value, json};
use std::time::Duration;

const SEARCH: &str = "/v1/collections/memory_entries/search";
const NAMESPACE: &str = "grows";
const BEFORE: usize = 1_000;
/// Two batches: enough to be a load.
const LOADED: usize = 2_000;
const K: usize = 10;
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_in_bulk() {
    let options = ClusterOptions { shards: 2, ..ClusterOptions::new("loads_in_bulk").workers(1).uncached() };
    let mut cluster = Cluster::start(options.environment("ATOLL_AGENT__STATS__INTERVAL_SECONDS", "1")).await;
    let (client, command_line) = (cluster.client(), CommandLine::new(cluster.client().base()));
    let entries: Vec<Sample> =
        wordnet::sample().into_iter().map(|entry| Sample { namespace: NAMESPACE.to_owned(), ..entry }).collect();
    let (loaded, whole) = (truths(&entries[..BEFORE + LOADED]), truths(&entries));
    let file = cluster.scratch().join("before.jsonl");
    std::fs::write(&file, wordnet::ndjson(&entries[..BEFORE])).unwrap();
    command_line.run(&["import", argument(&file), "--wait-for-graphs"]).await.expect(0);
    assert_eq!(namespace(&client).await["tier"], "graph");
    wait_for_graph(&cluster, true).await;

    let import = SlowImport::begin(&client, "memory_entries");
    for part in entries[BEFORE..BEFORE + LOADED].chunks(500) {
        import.send(wordnet::ndjson(part)).await;
    }
    wait_for_graph(&cluster, false).await;
    let seen = poll::until("the load to be told of", PATIENCE, async || {
        let seen = namespace(&client).await;
        if seen["build"]["state"] == "loading" && seen["tier"] == "exact" { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await;
    assert_eq!(seen["count"].as_u64(), Some((BEFORE + LOADED) as u64), "{seen}");
    answers_are_true(&client, &loaded).await;
    let recall_without_graph = recall(&client, &loaded, false).await;
    assert_eq!(recall_without_graph, 1.0, "there is nothing but a scan");
    command_line.run(&["status"]).await.expect(0).prints(&["1 when its import ends"]);

    let coordinator = cluster.layout().coordinators.remove(0);
    cluster.kill(coordinator.pid).await;
    assert!(import.end().await.is_err(), "nobody says that it is done");
    cluster.start_member("coordinator-1");
    cluster.wait_ready(1).await;
    answers_are_true(&client, &loaded).await;
    wait_for_graph(&cluster, true).await;

    // Sent again, as a whole: what is there already is no load, the rest is.
    std::fs::write(&file, wordnet::ndjson(&entries)).unwrap();
    let run = command_line.run(&["import", argument(&file), "--wait-for-graphs"]).await.expect(0);
    run.prints(&["5000 rows written"]);
    assert_eq!(namespace(&client).await["tier"], "graph");
    let recall = recall(&client, &whole, false).await;
    assert!(recall >= 0.95, "recall {recall}");
    answers_are_true(&client, &whole).await;
    cluster.finish(&["the agent does not answer", "not registered"]).await;
}

async fn namespace(client: &Client) -> Value {
    client.get(&format!("/v1/collections/memory_entries/namespaces/{NAMESPACE}")).await.expect(200).json()
}

/// Exact answers miss nothing, whatever becomes of the graph.
async fn answers_are_true(client: &Client, truths: &[(&Sample, Vec<Neighbour>)]) {
    assert_eq!(recall(client, truths, true).await, 1.0);
}

fn truths(stored: &[Sample]) -> Vec<(&Sample, Vec<Neighbour>)> {
    oracle::answers_to_some(Metric::Cosine, stored, K)
}

async fn recall(client: &Client, truths: &[(&Sample, Vec<Neighbour>)], exact: bool) -> f64 {
    let mut found = 0;
    for (query, truth) in truths {
        let body = json!({"vector": query.vector, "namespaces": [NAMESPACE], "k": K, "include": [], "exact": exact});
        let answer = client.post(SEARCH, &body).await.expect(200).json();
        let hits = answer["hits"].as_array().unwrap();
        found += truth.iter().filter(|one| hits.iter().any(|hit| hit["key"] == one.key.as_str())).count();
    }
    found as f64 / (truths.len() * K) as f64
}

/// Until the namespace has a whole graph on its worker, or none at all.
async fn wait_for_graph(cluster: &Cluster, wanted: bool) {
    let statement = "select indisvalid from pg_index where indexrelid::regclass::text like '%\\_ns\\_%'";
    poll::until(if wanted { "the graph" } else { "the graph to go" }, PATIENCE, async || {
        let graphs = sql::rows(&cluster.layout().workers[0].dsn, statement).await;
        let expected: &[&str] = if wanted { &["t"] } else { &[] };
        if graphs == expected { Ok(()) } else { Err(format!("{graphs:?}")) }
    })
    .await;
}
