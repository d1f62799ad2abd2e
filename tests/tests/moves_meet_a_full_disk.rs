//! The target's disk is full: the move fails and says so, writers and searchers notice nothing, and with room again what it left goes,
//! and the shard can move. Needs the right to mount a small disk: elsewhere nothing is tried.

#![allow(clippy::unwrap_used)]

use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::moves::{begin, shard_of, wait_nothing_left, wait_over};
use cluster_tests::small_disk::SmallDisk;
use cluster_tests::traffic::{Asked, Traffic};
use cluster_tests::wordnet::{self, Sample};
use cluster_tests::{Cluster, ClusterOptions, poll};
use http::Method;
use serde_json::json;
use std::time::Duration;

const ENTRIES: usize = 2_000;
/// What a server that was just made takes, and little more.
const DISK_MEGABYTES: u32 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_meet_a_full_disk() {
    let Some(disk) = SmallDisk::mount(DISK_MEGABYTES) else {
        println!("not tried: no right to mount a disk");
        return;
    };
    let options = ClusterOptions::new("moves_meet_a_full_disk").workers(2).uncached();
    let mut cluster = Cluster::start(options).await;
    let client = cluster.client();
    client.wait_until_active("memory_entries").await;
    let into_one = |entry| Sample { namespace: "moving".to_owned(), ..entry };
    let entries: Vec<Sample> = wordnet::sample().into_iter().take(ENTRIES).map(into_one).collect();
    assert_eq!(client.import("memory_entries", wordnet::ndjson(&entries)).await["written"], ENTRIES);
    let (shard, from) = shard_of(&client, "memory_entries", "moving").await;
    let target = cluster.layout().workers.into_iter().find(|worker| worker.group != from).unwrap();
    cluster.kill_worker(&target).await;
    disk.take(&target.data_dir);
    cluster.start_member(&target.name);
    poll::until("the target to be back", Duration::from_secs(60), async || {
        let workers = client.get("/v1/admin/workers").await.text();
        if workers.contains(r#""up":false"#) { Err(workers) } else { Ok(()) }
    })
    .await;

    let vector = entries[3].vector.clone();
    let writer = Traffic::begin(client.clone(), move |client, number| {
        let path = format!("/v1/collections/memory_entries/namespaces/moving/entries/written-{}", number % 100);
        client.request(Method::PUT, &path).json(&json!({"value": number.to_string(), "vector": vector}))
    });
    writer.wait_for_successes(100, Duration::from_secs(60)).await;
    let filler = disk.fill();
    let id = begin(&client, shard, &target.group).await;
    let over = wait_over(&client, id).await;
    println!("on a full disk: {over}");
    assert_eq!(over["phase"], "failed", "{over}");
    // An operator has to know where to look. A server that has died of it cannot tell more than that it does not serve.
    let error = over["error"].as_str().unwrap_or_default();
    let told = ["No space left on device", "the server does not serve"].iter().any(|told| error.contains(told));
    assert!(told, "{over}");
    assert_eq!(shard_of(&client, "memory_entries", "moving").await, (shard, from));

    std::fs::remove_file(filler).unwrap();
    wait_nothing_left(&cluster, &client).await;
    let id = poll::until("the shard to take another move", Duration::from_secs(60), async || {
        let answer = client.post("/v1/admin/moves", &json!({"shard": shard, "to": target.group})).await;
        if answer.status == 200 { Ok(answer.json()["id"].as_u64().unwrap()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(wait_over(&client, id).await["phase"], "done");
    let asked = writer.end().await;
    let failed: Vec<&Asked> = asked.iter().filter(|asked| !asked.succeeded()).collect();
    assert!(failed.is_empty(), "{} of {} writes failed: {:?}", failed.len(), asked.len(), failed[0]);
    assert_eq!(client.export("memory_entries", Some("moving")).await.len(), ENTRIES + 100);
    wait_nothing_left(&cluster, &client).await;
    cluster.finish(&[&WORKER_LOSS[..], &["No space left on device", "not registered"]].concat()).await;
}
