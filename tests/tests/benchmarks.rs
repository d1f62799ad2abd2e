//! `atoll bench` measures what it says, tells it to people and programs, and leaves no traces.

#![allow(clippy::unwrap_used)]

use cluster_tests::command_line::argument;
use cluster_tests::processes::{program, signal};
use cluster_tests::{Client, Cluster, ClusterOptions, CommandLine, poll, sql};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);
/// Each query is held against the truth, and asked once.
const QUERIES: [&str; 4] = ["--query-limit", "50", "--recall-queries", "50"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measures_and_leaves_no_traces() {
    let options = ClusterOptions { shards: 4, ..ClusterOptions::new("benchmarks").workers(2) };
    // What walks graphs besides would be counted with the benchmark's own walks.
    let options = options.environment("ATOLL__SEARCH__CALIBRATION__ENABLED", "false");
    let cluster = Cluster::start(options.environment("ATOLL_AGENT__STATS__INTERVAL_SECONDS", "1")).await;
    let client = cluster.client();
    let atoll = CommandLine::new(client.base());

    let nothing = atoll.run(&["bench", "own", "--requests", "5"]).await.expect(1);
    nothing.complains(&["no namespace of the queries holds entries", "atoll bench prepare"]);
    atoll.run(&["bench", "prepare", "--limit", "1500"]).await.expect(0).prints(&["1500 rows written"]);

    both_sides_are_measured(&cluster, &atoll).await;
    walks_are_measured(&cluster, &client, &atoll).await;
    writes_are_measured_and_taken_away(&cluster, &client, &atoll).await;
    ctrl_c_ends_with_a_report(&client).await;
    cluster.finish(&[]).await;
}

async fn both_sides_are_measured(cluster: &Cluster, atoll: &CommandLine) {
    let file = cluster.folder().join("cluster.json");
    let page = cluster.scratch().join("bench.html");
    let scenarios = ["bench", "own", "five", "all", "filtered", "get", "--exact", "--requests", "50", "--warm-up", "0"];
    let options = ["--clients", "1,3", "--cluster", argument(&file), "--html", argument(&page)];
    let report = atoll.json(&[&scenarios[..], &QUERIES, &options].concat()).await;
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
        }
        let ms = |side: &str, what: &str| point[side]["latency"][what].as_f64().unwrap();
        assert_eq!(point["ratio"].as_f64(), Some(ms("http", "p50_ms") / ms("floor", "p50_ms")), "{point}");
        if point["scenario"] != "get" {
            // That no statement gave fewer rows than the truth has hits is among the errors.
            // The queries are stored entries, and every row is looked at.
            assert_eq!((&point["recall"]["mean"], &point["recall"]["short"]), (&json!(1.0), &json!(0)), "{point}");
            let answers = point["recall"]["answers"].as_u64().unwrap();
            // Where the filter lets nothing through there is nothing to find.
            assert!(answers == 50 || (point["scenario"] == "filtered" && answers > 0), "{point}");
            let inside = point["inside_p50_ms"].as_f64().unwrap();
            assert!(0.0 < inside && inside < ms("http", "max_ms"), "{point}");
        }
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("own: percentiles"), "{page}");
}

/// A walk with an ef that was named, of a graph over each shard, is what the workers are asked for too.
async fn walks_are_measured(cluster: &Cluster, client: &Client, atoll: &CommandLine) {
    let settings = json!({"dimensions": 384, "index": {"scope": "shard"}});
    client.put("/v1/collections/walked", &settings).await.expect(201);
    atoll.run(&["bench", "prepare", "--limit", "2500", "--collection", "walked"]).await.expect(0);
    let search = json!({"like": {"namespace": "noun.artifact", "key": "n-03683341"}, "all": true, "ef": 40});
    // The fourth shard has too few rows for that.
    poll::until("three shards to be walked", PATIENCE, async || {
        let answer = client.post("/v1/collections/walked/search", &search).await;
        let strategies = answer.expect(200).json()["plan"]["strategies"].clone();
        if strategies["hnsw"] == 3 { Ok(()) } else { Err(strategies.to_string()) }
    })
    .await;
    let file = cluster.folder().join("cluster.json");
    let walk = ["bench", "all", "--ef", "40", "--collection", "walked", "--requests", "50", "--warm-up", "0"];
    let options = ["--clients", "1", "--cluster", argument(&file)];
    let before = walks(cluster).await;
    let report = atoll.json(&[&walk[..], &QUERIES, &options].concat()).await;
    let point = &report["results"][0];
    assert_eq!((&point["quality"], &point["floor"]["errors"]), (&json!("ef 40"), &json!({})), "{point}");
    assert!(point["recall"]["mean"].as_f64().unwrap() >= 0.95 && point["recall"]["answers"] == 50, "{point}");
    // Each search walks three graphs: measured on both sides, and explained before the warm-up and after it.
    poll::until("both sides to have walked", PATIENCE, async || match walks(cluster).await - before {
        enough if enough >= 4 * 50 * 3 => Ok(()),
        few => Err(format!("{few} walks: {point}")),
    })
    .await;
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

/// How often graphs over shards were walked, on all workers.
async fn walks(cluster: &Cluster) -> u64 {
    let statement = "select sum(idx_scan)::text from pg_stat_user_indexes where indexrelname = '_walked_hnsw'";
    let mut walks = 0;
    for worker in cluster.layout().workers {
        walks += sql::rows(&worker.dsn, statement).await[0].parse::<u64>().unwrap();
    }
    walks
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
