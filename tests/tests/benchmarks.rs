//! `atoll bench` measures what it says, tells it to people and programs, and leaves no traces.

#![allow(clippy::unwrap_used)]

use cluster_tests::command_line::argument;
use cluster_tests::processes::{program, signal};
use cluster_tests::{Client, Cluster, ClusterOptions, CommandLine, poll};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measures_and_leaves_no_traces() {
    let cluster = Cluster::start(ClusterOptions { shards: 4, ..ClusterOptions::new("benchmarks").workers(2) }).await;
    let client = cluster.client();
    let atoll = CommandLine::new(client.base());

    let nothing = atoll.run(&["bench", "own", "--requests", "5"]).await.expect(1);
    nothing.complains(&["no namespace of the queries holds entries", "atoll bench prepare"]);
    atoll.run(&["bench", "prepare", "--limit", "1500"]).await.expect(0).prints(&["1500 rows written"]);

    both_sides_are_measured(&cluster, &atoll).await;
    writes_are_measured_and_taken_away(&cluster, &client, &atoll).await;
    ctrl_c_ends_with_a_report(&client).await;
    cluster.finish(&[]).await;
}

async fn both_sides_are_measured(cluster: &Cluster, atoll: &CommandLine) {
    let file = cluster.folder().join("cluster.json");
    let page = cluster.scratch().join("bench.html");
    let scenarios = ["bench", "own", "five", "all", "filtered", "get", "--exact", "--requests", "50", "--warm-up", "0"];
    let options =
        ["--clients", "1,3", "--recall-queries", "20", "--cluster", argument(&file), "--html", argument(&page)];
    let report = atoll.json(&[&scenarios[..], &options].concat()).await;
    assert_eq!(report["ended_early"], false, "{report}");
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0, "{report}");
    let points = report["results"].as_array().unwrap();
    assert_eq!(points.len(), 5 * 2, "{report}");
    for point in points {
        for side in ["http", "floor"] {
            let side = &point[side];
            assert_eq!(
                (&side["requests"], &side["errors"], &side["too_many_requests"]),
                (&json!(50), &json!({}), &json!(0)),
                "{point}"
            );
            let latency = &side["latency"];
            let ms = |name: &str| latency[name].as_f64().unwrap();
            assert!(0.0 < ms("p50_ms") && ms("p50_ms") <= ms("p99_ms") && ms("p99_ms") <= ms("max_ms"), "{point}");
        }
        assert!(point["ratio"].as_f64().unwrap() > 0.0, "{point}");
        if point["scenario"] != "get" {
            // The queries are stored entries, and every row is looked at.
            assert_eq!((&point["recall"]["mean"], &point["recall"]["short"]), (&json!(1.0), &json!(0)), "{point}");
            assert!(point["recall"]["answers"].as_u64().unwrap() > 0, "{point}");
        }
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("own: percentiles"), "{page}");
}

async fn writes_are_measured_and_taken_away(cluster: &Cluster, client: &Client, atoll: &CommandLine) {
    let file = cluster.folder().join("cluster.json");
    let before = count(client).await;
    let report = atoll
        .run(&[
            "bench",
            "upsert",
            "bulk",
            "mixed-read-write",
            "--requests",
            "60",
            "--warm-up",
            "0",
            "--clients",
            "2",
            "--bulk-rows",
            "300",
            "--cluster",
            argument(&file),
        ])
        .await
        .expect(0);
    report.prints(&["SCENARIO", "REQ/S", "RATIO", "upsert", "bulk", "mixed-read-write"]);
    assert_eq!(traces(client).await, Vec::<Value>::new());
    assert_eq!(count(client).await, before, "the entries that were there stay");
}

async fn ctrl_c_ends_with_a_report(client: &Client) {
    let mut bench = Command::new(program("atoll"));
    bench.args([
        "bench",
        "upsert",
        "--seconds",
        "600",
        "--warm-up",
        "0",
        "--clients",
        "2",
        "--json",
        "--url",
        client.base(),
    ]);
    let bench = bench.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    poll::until("the benchmark to write", PATIENCE, async || {
        let traces = traces(client).await;
        if traces.is_empty() { Err("no namespace of it".to_owned()) } else { Ok(()) }
    })
    .await;
    signal(bench.id().unwrap(), Signal::INT);
    let ended = tokio::time::timeout(PATIENCE, bench.wait_with_output()).await.expect("in time").unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(report["ended_early"], true, "{report}");
    assert!(report["results"][0]["http"]["requests"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(traces(client).await, Vec::<Value>::new());
}

/// Namespaces of benchmarks.
async fn traces(client: &Client) -> Vec<Value> {
    let listed = client.get("/v1/collections/memory_entries/namespaces?prefix=bench:").await.expect(200).json();
    listed["namespaces"].as_array().unwrap().clone()
}

/// Entries of a namespace that the benchmark only reads.
async fn count(client: &Client) -> Value {
    let body = json!({"namespace": "noun.artifact"});
    client.post("/v1/collections/memory_entries/entries/count", &body).await.expect(200).json()["count"].clone()
}
