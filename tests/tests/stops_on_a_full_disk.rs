//! A coordinator whose disk is full stops and says why, rather than go on without its memory; with room again, it comes back and has
//! what it acknowledged. Needs the right to mount a small disk: elsewhere nothing is tried.

#![allow(clippy::unwrap_used)]

use cluster_tests::small_disk::SmallDisk;
use cluster_tests::{Cluster, ClusterOptions, poll};
use http::Method;
use serde_json::json;
use std::time::Duration;

const NAME: &str = "coordinator-1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount(16) else {
        println!("not tried: no right to mount a disk");
        return;
    };
    let options = ClusterOptions { workers: 1, shards: 1, ..ClusterOptions::new("stops_on_a_full_disk") };
    let mut cluster = Cluster::start(options).await;
    let client = cluster.client();
    cluster.kill(cluster.layout().coordinators[0].pid).await;
    disk.take(&cluster.folder().join(NAME));
    cluster.start_member(NAME);
    cluster.wait_ready(1).await;

    let filler = disk.fill();
    let mut acknowledged = Vec::new();
    let unanswered = async {
        for i in 0..1_000 {
            let path = format!("/v1/collections/c{i}");
            let answer = client.request(Method::PUT, &path).json(&json!({"dimensions": 2})).try_send().await;
            match answer {
                Ok(answer) => acknowledged.push((path, answer.expect(201))),
                Err(_) => return true,
            }
        }
        false
    };
    assert!(unanswered.await, "a full disk takes a thousand changes");
    let status = cluster.wait_end(NAME).await;
    assert!(!status.success(), "it ended with {status}");
    let log = std::fs::read_to_string(cluster.folder().join("logs").join(format!("{NAME}.log"))).unwrap();
    assert!(log.lines().any(|line| line.contains("\"ERROR\"") && line.contains("No space left on device")), "{log}");

    std::fs::remove_file(filler).unwrap();
    cluster.start_member(NAME);
    cluster.wait_ready(1).await;
    println!("{} changes were acknowledged before the disk was full", acknowledged.len());
    for (path, _) in acknowledged {
        client.get(&path).await.expect(200);
    }
    poll::until("a collection to be taken", Duration::from_secs(30), async || {
        let answer = client.put("/v1/collections/after", &json!({"dimensions": 2})).await;
        if [200, 201].contains(&answer.status) { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    // Whoever still has something to write then finds the writer gone.
    let expected =
        ["No space left on device", "channel closed", "the coordinator cannot be reached", "the agent does not answer"];
    cluster.finish(&expected).await;
}
