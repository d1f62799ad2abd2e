//! A worker takes a shard no faster than it was told to; whoever asks sees how far copy and indexes are; and the graphs are in memory
//! before searches come to them.

#![allow(clippy::unwrap_used)]

use cluster_tests::command_line::CommandLine;
use cluster_tests::moves::{begin, shard_of, wait_for_phase, wait_nothing_left, wait_over};
use cluster_tests::poll;
use cluster_tests::seeded::Seeded;
use cluster_tests::sql;
use cluster_tests::{Cluster, ClusterOptions};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ROWS: usize = 2_500;
const DIMENSIONS: usize = 384;
const PATIENCE: Duration = Duration::from_secs(120);

/// Graphs that were walked again and again.
const WALKED: &str =
    "select indexrelname from pg_stat_user_indexes where indexrelname like '\\_ns\\_%' and idx_scan > 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_gently() {
    let options = ClusterOptions::new("moves_gently").workers(2).uncached();
    let options = options.environment("ATOLL_AGENT__MOVES__COPY_MB_PER_SECOND", "1");
    // What walks the graph on its new server is the move itself.
    let cluster = Cluster::start(options.environment("ATOLL__SEARCH__CALIBRATION__ENABLED", "false")).await;
    // The move is held where all indexes are there, to look at them.
    std::fs::write(cluster.pauses().join("before-warm"), "").unwrap();
    let client = cluster.client();
    let mut seeded = Seeded::new(7);
    let rows = (0..ROWS).map(|i| {
        let entry = json!({"namespace": "heavy", "key": format!("k{i}"), "vector": seeded.vector(DIMENSIONS)});
        format!("{entry}\n")
    });
    assert_eq!(client.import("memory_entries", rows.collect::<String>()).await["written"], ROWS);
    let shown = poll::until("the namespace to have its graph", PATIENCE, async || {
        let shown = client.get("/v1/collections/memory_entries/namespaces/heavy").await.expect(200).json();
        if shown["tier"] == "graph" { Ok(shown) } else { Err(shown.to_string()) }
    })
    .await;
    let (shard, from) = shard_of(&client, "memory_entries", "heavy").await;
    let layout = cluster.layout();
    let target = layout.workers.iter().find(|worker| worker.group != from).unwrap();

    let begun = Instant::now();
    let id = begin(&client, shard, &target.group).await;
    wait_for_phase(&client, id, &["copying"]).await;
    let middle = poll::until("some rows to be copied, and some not", PATIENCE, async || {
        let told = client.get(&format!("/v1/admin/moves/{id}")).await.expect(200).json();
        let rows = told["rows_done"].as_u64().unwrap();
        let is_middle = told["phase"] == "copying" && rows > 0 && rows < ROWS as u64;
        if is_middle { Ok(told) } else { Err(told.to_string()) }
    })
    .await;
    assert_eq!(middle["indexes"], Value::Null, "{middle}");
    wait_for_phase(&client, id, &["indexing", "catching-up", "verifying", "fencing", "switching", "cleaning"]).await;
    let copied_in = begun.elapsed();
    // A megabyte a second, and each row is more than its vector.
    let least = Duration::from_secs_f64((ROWS * DIMENSIONS * 4) as f64 / f64::from(1 << 20));
    assert!(copied_in > least, "{copied_in:?} for what takes {least:?}");
    let indexes = poll::until("the indexes to be told of", PATIENCE, async || {
        let told = client.get(&format!("/v1/admin/moves/{id}")).await.expect(200).json();
        if told["indexes"]["percent"] == 100 { Ok(told["indexes"].clone()) } else { Err(told.to_string()) }
    })
    .await;
    assert_eq!(sql::rows(&target.dsn, WALKED).await, Vec::<String>::new(), "not yet");
    std::fs::remove_file(cluster.pauses().join("before-warm")).unwrap();
    // Five trees of the collection's, and the graph.
    assert_eq!((&indexes["done"], &indexes["total"]), (&json!(6), &json!(6)), "{indexes}; {shown}");
    let over = wait_over(&client, id).await;
    assert_eq!((&over["phase"], &over["indexes"]), (&json!("done"), &Value::Null), "{over}");

    poll::until("the graph to have been walked, though nobody searched", PATIENCE, async || {
        let graphs = sql::rows(&target.dsn, WALKED).await;
        if graphs.len() == 1 { Ok(()) } else { Err(format!("{graphs:?}")) }
    })
    .await;
    let slowed = "select tgname from pg_trigger where not tgisinternal
                  union all select proname from pg_proc where proname = '_copy_rate'";
    assert_eq!(sql::rows(&target.dsn, slowed).await, Vec::<String>::new(), "nothing slows it down any more");
    wait_nothing_left(&cluster, &client).await;
    let run = CommandLine::new(client.base()).run(&["move", "show", &id.to_string()]).await;
    assert!(run.out.contains("done"), "{}", run.out);
    cluster.finish(&[]).await;
}
