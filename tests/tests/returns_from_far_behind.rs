//! A standby is away while its primary writes more than it keeps of its log. When it comes back it can't go on from where it was, and is
//! copied anew by itself.

#![allow(clippy::unwrap_used)]

use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::standbys::{self, PRIMARY_LOSS, group, holds, whole};
use cluster_tests::{Client, Cluster, ClusterOptions, poll, sql};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// Segments of 16 MB: more than `wal_keep_size`, 1 GB.
const SEGMENTS: usize = 80;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returns_from_far_behind() {
    let mut cluster = Cluster::start(ClusterOptions::new("returns_from_far_behind").workers(3).replicas(3)).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    whole(&client).await;
    let mut acknowledged = BTreeSet::new();
    write(&client, "before", &mut acknowledged).await;

    let primary = standbys::primary(&client, "g1").await;
    let (primaries, standbys): (Vec<_>, Vec<_>) =
        cluster.layout().workers.into_iter().partition(|worker| worker.name == primary);
    cluster.kill_worker(&standbys[0]).await;
    poll::until("it leaves the set", PATIENCE, async || {
        let group = group(&client, "g1").await;
        if group["in_sync"].as_array().map_or(0, Vec::len) == 2 { Ok(()) } else { Err(group.to_string()) }
    })
    .await;
    write(&client, "meanwhile", &mut acknowledged).await;
    let owner = primaries[0].owner_dsn();
    for _ in 0..SEGMENTS {
        sql::rows(&owner, "select pg_logical_emit_message(false, '', 'x')").await;
        sql::rows(&owner, "select pg_switch_wal()").await;
    }
    sql::rows(&owner, "checkpoint").await;

    cluster.start_member(&standbys[0].name);
    whole(&client).await;
    assert_eq!(times_copied(&cluster, &standbys[0].name), 2, "when it joined, and now");
    holds(&client, "c", &acknowledged).await;
    cluster.finish(&[&PRIMARY_LOSS[..], &WORKER_LOSS].concat()).await;
}

fn times_copied(cluster: &Cluster, worker: &str) -> usize {
    let log = std::fs::read_to_string(cluster.folder().join("logs").join(format!("{worker}.log"))).unwrap();
    log.matches("\"act\":\"BaseBackup").count()
}

async fn write(client: &Client, when: &str, acknowledged: &mut BTreeSet<String>) {
    for number in 0..20 {
        let key = format!("{when}-{number}");
        let path = format!("/v1/collections/c/namespaces/n/entries/{key}");
        client.put(&path, &json!({"vector": [1, number, 1]})).await.expect(201);
        acknowledged.insert(key);
    }
}
