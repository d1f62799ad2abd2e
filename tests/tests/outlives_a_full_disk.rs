//! The disk of a group's primary is full: its PostgreSQL can't write its log any more and ends. Another member takes over, writers go on, and
//! nothing acknowledged is lost. With room again the first one comes back as a standby by itself. Needs the right to mount a small disk:
//! elsewhere nothing is tried.

#![allow(clippy::unwrap_used)]

use cluster_tests::client::Request;
use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::small_disk::SmallDisk;
use cluster_tests::standbys::{self, PRIMARY_LOSS, holds, whole};
use cluster_tests::traffic::{Asked, Traffic};
use cluster_tests::{Client, Cluster, ClusterOptions, poll, sql};
use http::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const WRITERS: u64 = 3;
const ENOUGH: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);
/// Room for a server, and for what it is copied by.
const DISK_MB: u32 = 700;
/// More segments of the log than it has in stock.
const SEGMENTS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outlives_a_full_disk() {
    let Some(disk) = SmallDisk::mount(DISK_MB) else {
        println!("not tried: no right to mount a disk");
        return;
    };
    let mut cluster = Cluster::start(ClusterOptions::new("outlives_a_full_disk").workers(3).replicas(3)).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    whole(&client).await;
    let worker = cluster.layout().workers.into_iter().next().unwrap();
    cluster.kill_worker(&worker).await;
    disk.take(&cluster.folder().join(&worker.name));
    cluster.start_member(&worker.name);
    whole(&client).await;
    be_primary(&client, &worker.name).await;

    let begin =
        |writer| (writer, Traffic::begin(cluster.client(), move |client, number| write(client, writer, number)));
    let writers: Vec<(u64, Traffic)> = (0..WRITERS).map(begin).collect();
    for (_, traffic) in &writers {
        traffic.wait_for_successes(ENOUGH, PATIENCE).await;
    }
    let filler = disk.fill();
    let owner = worker.owner_dsn();
    let mut ended = false;
    for _ in 0..SEGMENTS {
        ended = ended || sql::try_rows(&owner, "select pg_switch_wal()").await.is_err();
    }
    assert!(ended, "a full disk takes {SEGMENTS} segments");
    poll::until("another primary", PATIENCE, async || {
        let group = standbys::group(&client, "g1").await;
        let is_over = group["primary"] != worker.name.as_str() && group["phase"] == "steady";
        if is_over { Ok(()) } else { Err(group.to_string()) }
    })
    .await;
    let mut acknowledged = BTreeSet::new();
    for (writer, traffic) in writers {
        traffic.wait_for_successes(ENOUGH, PATIENCE).await;
        let asked = traffic.end().await;
        let worse = asked.iter().find(|one| !one.succeeded() && !is_unknown(one));
        assert!(worse.is_none(), "writer {writer}: {worse:?}");
        acknowledged.extend(asked.iter().filter(|one| one.succeeded()).map(|one| key(writer, one.number)));
    }
    holds(&client, "c", &acknowledged).await;

    std::fs::remove_file(filler).unwrap();
    whole(&client).await;
    be_primary(&client, &worker.name).await;
    holds(&client, "c", &acknowledged).await;
    println!("{} acknowledged writes outlived a full disk", acknowledged.len());
    // It may be asked before all are known to follow.
    let full = ["No space left on device", r#""code":"not-enough-replicas""#];
    cluster.finish(&[&full[..], &PRIMARY_LOSS, &WORKER_LOSS].concat()).await;
}

async fn be_primary(client: &Client, worker: &str) {
    poll::until("it to be the primary", PATIENCE, async || {
        let group = standbys::group(client, "g1").await;
        if group["phase"] != "steady" {
            return Err(group.to_string());
        }
        if group["primary"] == worker {
            return Ok(());
        }
        let answer = client.post("/v1/admin/groups/g1/failover", &json!({"to": worker})).await;
        Err(format!("{group}: {}", answer.text()))
    })
    .await;
    whole(client).await;
}

fn key(writer: u64, number: u64) -> String {
    format!("{writer}-{number}")
}

fn write(client: &Client, writer: u64, number: u64) -> Request<'_> {
    let path = format!("/v1/collections/c/namespaces/n{writer}/entries/{}", key(writer, number));
    let request = client.request(Method::PUT, &path).header("x-timeout-ms", "15000");
    request.json(&json!({"vector": [writer + 1, number, 1]}))
}

fn is_unknown(asked: &Asked) -> bool {
    asked.outcome == Ok(504) && asked.body.contains("write-outcome-unknown")
}
