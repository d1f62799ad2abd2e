//! What was acknowledged is there after every process was killed at once, three times over.

#![allow(clippy::unwrap_used)]

use cluster_tests::traffic::Traffic;
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::json;
use std::time::Duration;

const WRITERS: u64 = 4;
const ROUNDS: u64 = 3;
/// Acknowledged writes of a round that make its outcome mean something.
const ENOUGH: usize = 150;

/// What coordinators and agents say of servers that were killed and recover. A killed server's process may linger for moments
/// until somebody reaps it; as long as it does, the next one takes it for running and ends.
const EXPECTED: [&str; 5] = [
    "request failed",
    "PostgreSQL died, starting it again",
    "desired state not applied",
    "the agent could not apply the desired state; will retry",
    "PostgreSQL does not serve",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_kill_of_everything() {
    let mut cluster = Cluster::start(ClusterOptions::new("survives_kill_of_everything")).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    let mut acknowledged: Vec<(u64, u64, u64)> = Vec::new();
    for round in 0..ROUNDS {
        let writers: Vec<Traffic> = (0..WRITERS)
            .map(|writer| {
                Traffic::begin(cluster.client(), move |client, number| {
                    let path =
                        format!("/v1/collections/c/namespaces/{}/entries/{number}", namespace(round, writer, number));
                    let body = json!({"value": format!("{round} {writer} {number}"), "vector": vector(writer, number)});
                    client.request(Method::PUT, &path).json(&body)
                })
            })
            .collect();
        for writer in &writers {
            writer.wait_for_successes(ENOUGH, Duration::from_secs(60)).await;
        }
        // In the middle of it.
        cluster.kill_everything().await;
        for (writer, traffic) in (0..).zip(writers) {
            // It was writing when everything was killed, and so it notices.
            traffic.wait_for_a_failure(Duration::from_secs(20)).await;
            let asked = traffic.end().await;
            let done = asked.iter().filter(|one| one.succeeded());
            acknowledged.extend(done.map(|one| (round, writer, one.number)));
        }
        cluster.start_all().await;
        every_acknowledged_write_is_there(&client, &acknowledged).await;
    }
    assert!(acknowledged.len() >= ENOUGH * (WRITERS * ROUNDS) as usize);
    println!("{} acknowledged writes outlived {ROUNDS} kills", acknowledged.len());
    let found = client.export("c", None).await.len();
    // A write whose answer was lost may be there: at most one for each writer and round.
    let most = acknowledged.len() + (WRITERS * ROUNDS) as usize;
    assert!((acknowledged.len()..=most).contains(&found), "{found} entries, {} acknowledged", acknowledged.len());
    cluster.finish(&EXPECTED).await;
}

/// Many, so that every shard is written to.
fn namespace(round: u64, writer: u64, number: u64) -> String {
    format!("r{round}-w{writer}-{}", number % 20)
}

fn vector(writer: u64, number: u64) -> [f32; 3] {
    [1.0 + number as f32, writer as f32, 0.5]
}

async fn every_acknowledged_write_is_there(client: &Client, acknowledged: &[(u64, u64, u64)]) {
    for some in acknowledged.chunks(1_000) {
        let ids: Vec<_> = some
            .iter()
            .map(|(round, writer, number)| json!({"namespace": namespace(*round, *writer, *number), "key": number.to_string()}))
            .collect();
        let body = json!({"ids": ids, "include": ["value", "vector"]});
        let found = client.post("/v1/collections/c/entries/get", &body).await.expect(200).json();
        let found = found["entries"].as_array().unwrap();
        assert_eq!(found.len(), some.len(), "acknowledged writes are lost");
        for (entry, (round, writer, number)) in found.iter().zip(some) {
            assert_eq!(entry["value"], format!("{round} {writer} {number}"));
            assert_eq!(entry["vector"], json!(vector(*writer, *number)));
            assert_eq!(entry["version"], 1);
        }
    }
}
