//! A shard moves from one group of three to another under writers. Another move is under way when its source's primary dies, and one more
//! when its target's does: they are given up, nothing acknowledged is lost, nothing is left behind, and begun again they succeed.

#![allow(clippy::unwrap_used)]

use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::moves::{GRAPH_SENT_AWAY, begin, shard_of, wait_for_phase, wait_nothing_left, wait_over};
use cluster_tests::poll;
use cluster_tests::standbys::{PRIMARY_LOSS, holds, primary, whole};
use cluster_tests::traffic::{Asked, Traffic};
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const WRITERS: u64 = 2;
const ENOUGH: usize = 30;
const PATIENCE: Duration = Duration::from_secs(90);
/// Held back, so that the copy follows its source and nothing has been verified when a primary dies.
const HELD: &str = "record-catching-up";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_with_standbys() {
    let options = ClusterOptions::new("moves_with_standbys").workers(6).replicas(3);
    let mut cluster = Cluster::start(options).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    whole(&client).await;
    let writers: Vec<Traffic> = (0..WRITERS).map(|writer| write_always(&client, writer)).collect();
    enough(&writers).await;

    let (shard, from) = shard_of(&client, "c", "moving").await;
    let to = cluster.layout().workers.into_iter().find(|worker| worker.group != from).unwrap().group;
    let moved = wait_over(&client, begin(&client, shard, &to).await).await;
    assert_eq!(moved["phase"], "done", "{moved}");
    enough(&writers).await;

    for (round, dies) in [("source", &to), ("target", &from)] {
        let held = cluster.pauses().join(HELD);
        std::fs::write(&held, "").unwrap();
        let id = begin(&client, shard, &from).await;
        poll::until("the move to be held", PATIENCE, async || {
            let reached = cluster.pauses().join(format!("{HELD}.reached"));
            if reached.exists() { Ok(()) } else { Err("it goes on".to_owned()) }
        })
        .await;
        let primary = primary(&client, dies).await;
        let lost = cluster.layout().workers.into_iter().find(|worker| worker.name == primary).unwrap();
        cluster.kill_worker(&lost).await;
        wait_for_phase(&client, id, &["cancelling"]).await;
        std::fs::remove_file(&held).unwrap();
        let over = wait_over(&client, id).await;
        assert_eq!(over["phase"], "failed", "{round}: {over}");
        let error = over["error"].as_str().unwrap();
        assert!(error.contains("got another primary meanwhile"), "{round}: {over}");
        std::fs::remove_file(cluster.pauses().join(format!("{HELD}.reached"))).unwrap();
        enough(&writers).await;
        cluster.start_member(&lost.name);
        whole(&client).await;
        wait_nothing_left(&cluster, &client).await;
    }
    let moved = wait_over(&client, begin(&client, shard, &from).await).await;
    assert_eq!(moved["phase"], "done", "{moved}");
    enough(&writers).await;

    let mut acknowledged = BTreeSet::new();
    for (writer, traffic) in writers.into_iter().enumerate() {
        let asked = traffic.end().await;
        let failed: Vec<&Asked> = asked.iter().filter(|one| !one.succeeded()).collect();
        let unknown = |one: &&Asked| one.outcome == Ok(504) && one.body.contains("write-outcome-unknown");
        assert!(failed.iter().all(unknown), "writer {writer}: {failed:?}");
        acknowledged.extend(asked.iter().filter(|one| one.succeeded()).map(|one| key(writer as u64, one.number)));
    }
    holds(&client, "c", &acknowledged).await;
    wait_nothing_left(&cluster, &client).await;
    let of_moves = [GRAPH_SENT_AWAY, "a step of a move could not be recorded; will retry"];
    cluster.finish(&[&of_moves[..], &PRIMARY_LOSS, &WORKER_LOSS].concat()).await;
}

fn key(writer: u64, number: u64) -> String {
    format!("{writer}-{number}")
}

fn write_always(client: &Client, writer: u64) -> Traffic {
    Traffic::begin(client.clone(), move |client, number| {
        let path = format!("/v1/collections/c/namespaces/moving/entries/{}", key(writer, number));
        client
            .request(Method::PUT, &path)
            .header("X-Timeout-Ms", "15000")
            .json(&json!({"vector": [writer + 1, number, 1]}))
    })
}

async fn enough(writers: &[Traffic]) {
    for traffic in writers {
        traffic.wait_for_successes(ENOUGH, PATIENCE).await;
    }
}
