//! A shard moves from one group of three to another under writers. Another move is under way when its source's primary dies, and one more
//! when its target's does: they are given up, nothing acknowledged is lost, nothing is left behind, and begun again they succeed.

#![allow(clippy::unwrap_used)]

use cluster_tests::moves::{GRAPH_SENT_AWAY, begin, shard_of, wait_for_phase, wait_nothing_left, wait_over};
use cluster_tests::poll;
use cluster_tests::traffic::{Asked, Traffic};
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const WRITERS: u64 = 2;
const ENOUGH: usize = 30;
const PATIENCE: Duration = Duration::from_secs(90);
/// Held back, so that the copy follows its source and nothing has been verified when a primary dies.
const HELD: &str = "record-catching-up";

const EXPECTED: [&str; 13] = [
    GRAPH_SENT_AWAY,
    r#""code":"write-outcome-unknown""#,
    r#""code":"deadline-exceeded""#,
    "a shard's part of a batch was not written",
    "the agent does not answer",
    "PostgreSQL died, starting it again",
    "PostgreSQL does not serve",
    "desired state not applied",
    "the agent could not apply the desired state; will retry",
    "trying again later",
    "some metrics of PostgreSQL are missing",
    "the group's record cannot be followed yet",
    "a step of a move could not be recorded; will retry",
];

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
        let primary = group(&client, dies).await["primary"].as_str().unwrap().to_owned();
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
    let exported = client.export("c", None).await;
    let mut found = BTreeSet::new();
    for entry in &exported {
        assert!(found.insert(entry["key"].as_str().unwrap().to_owned()), "doubled: {entry}");
    }
    let lost: Vec<&String> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes are lost: {lost:?}", lost.len(), acknowledged.len());
    wait_nothing_left(&cluster, &client).await;
    cluster.finish(&EXPECTED).await;
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

async fn groups(client: &Client) -> Vec<Value> {
    client.get("/v1/admin/groups").await.expect(200).json()["groups"].as_array().unwrap().clone()
}

async fn group(client: &Client, name: &str) -> Value {
    groups(client).await.into_iter().find(|group| group["group"] == name).unwrap()
}

/// Waits until all members of all groups are in sync.
async fn whole(client: &Client) {
    poll::until("all in sync", PATIENCE, async || {
        let groups = groups(client).await;
        let is_whole = |group: &Value| {
            group["phase"] == "steady" && group["in_sync"].as_array().is_some_and(|in_sync| in_sync.len() == 3)
        };
        if groups.iter().all(is_whole) { Ok(()) } else { Err(format!("{groups:?}")) }
    })
    .await;
}
