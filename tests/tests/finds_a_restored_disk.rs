//! The disk of a worker is put back to an earlier state, as a snapshot of its machine would. It holds less than the worker has confirmed since:
//! it takes no part in choosing a primary, and is copied anew when there is one. Where no other is left, an operator may go on with it.

#![allow(clippy::unwrap_used)]

use cluster_tests::cluster::WorkerPlace;
use cluster_tests::command_line::CommandLine;
use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::standbys::{self, PRIMARY_LOSS, group, holds, whole};
use cluster_tests::{Client, Cluster, ClusterOptions, poll};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_a_restored_disk() {
    let options = ClusterOptions::new("finds_a_restored_disk").coordinators(3).workers(3).replicas(3);
    let mut cluster = Cluster::start(options.environment("ATOLL__FAILOVER__STAMP_SECONDS", "1")).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    whole(&client).await;
    let mut acknowledged = BTreeSet::new();

    // Nobody else who is there has the last writes, and it would be enough to choose a primary, were it what it was.
    let all = |worker: &WorkerPlace| worker.data_dir.parent().unwrap().to_owned();
    let [primary, standby, other] = put_back(&mut cluster, &client, all, &mut acknowledged).await;
    cluster.start_member(&other);
    until_restored(&client, &standby).await;
    let found = client.get("/v1/admin/findings").await.expect(200).text();
    assert!(found.contains("disk-restored"), "{found}");
    cluster.start_member(&primary);
    whole(&client).await;
    assert_eq!(times_copied(&cluster, &standby), 2, "when it joined, and now");
    holds(&client, "c", &acknowledged).await;

    // The others never come back, as far as anybody knows. And of the disk it is only PostgreSQL's data, as from a backup.
    let kept = acknowledged.clone();
    let data = |worker: &WorkerPlace| worker.data_dir.clone();
    let [primary, standby, other] = put_back(&mut cluster, &client, data, &mut acknowledged).await;
    until_restored(&client, &standby).await;
    let atoll = CommandLine::new(client.base());
    let accept = ["group", "accept-loss", "g1", "--survivor", &standby, "--yes"];
    atoll.run(&accept).await.expect(0);
    poll::until("it is the primary", PATIENCE, async || {
        let group = group(&client, "g1").await;
        let is_over = group["primary"] == standby.as_str() && group["phase"] == "steady";
        if is_over { Ok(()) } else { Err(group.to_string()) }
    })
    .await;
    cluster.start_member(&primary);
    cluster.start_member(&other);
    whole(&client).await;
    holds(&client, "c", &kept).await;
    let mut all = acknowledged.clone();
    write(&client, &mut all).await;
    let since = all.difference(&acknowledged).cloned();
    let acknowledged = kept.into_iter().chain(since).collect();
    holds(&client, "c", &acknowledged).await;

    // A backup that brought the data alone.
    let primary = standbys::primary(&client, "g1").await;
    let copied = times_copied(&cluster, &primary);
    kill(&mut cluster, &primary).await;
    std::fs::remove_file(group_file(&place(&cluster, &primary))).unwrap();
    cluster.start_member(&primary);
    poll::until("it is copied anew", PATIENCE, async || {
        let now = times_copied(&cluster, &primary);
        if now == copied + 1 { Ok(()) } else { Err(format!("{copied}, {now}")) }
    })
    .await;
    whole(&client).await;
    holds(&client, "c", &acknowledged).await;
    cluster
        .finish(
            &[
                &["this data was put back to an earlier state", "\"target\":\"openraft::"][..],
                &PRIMARY_LOSS,
                &WORKER_LOSS,
            ]
            .concat(),
        )
        .await;
}

/// Writes what only the primary and one standby have, stops all three workers, and starts the standby on the disk that it had before. Gives the
/// primary, that standby and the other one.
async fn put_back(
    cluster: &mut Cluster,
    client: &Client,
    what: impl Fn(&WorkerPlace) -> PathBuf,
    acknowledged: &mut BTreeSet<String>,
) -> [String; 3] {
    let primary = standbys::primary(client, "g1").await;
    let standbys = place_of_others(cluster, &primary);
    let [standby, other] = [&standbys[0], &standbys[1]].map(|place| place.name.clone());
    write(client, acknowledged).await;
    let folder = what(&standbys[0]);
    let snapshot = cluster.scratch().join("snapshot");
    kill(cluster, &standby).await;
    copy(&folder, &snapshot);
    let drawn = stamps_drawn(&standbys[0]);
    cluster.start_member(&standby);
    whole(client).await;
    poll::until("stamps that the snapshot does not know", PATIENCE, async || {
        let now = stamps_drawn(&standbys[0]);
        if now >= drawn + 2 { Ok(()) } else { Err(format!("{drawn}, {now}")) }
    })
    .await;
    kill(cluster, &other).await;
    poll::until("the other leaves the set", PATIENCE, async || {
        let group = group(client, "g1").await;
        if group["in_sync"].as_array().map_or(0, Vec::len) == 2 { Ok(()) } else { Err(group.to_string()) }
    })
    .await;
    write(client, acknowledged).await;
    kill(cluster, &primary).await;
    kill(cluster, &standby).await;
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::rename(&snapshot, &folder).unwrap();
    cluster.start_member(&standby);
    [primary, standby, other]
}

fn place_of_others(cluster: &Cluster, primary: &str) -> Vec<WorkerPlace> {
    cluster.layout().workers.into_iter().filter(|worker| worker.name != primary).collect()
}

fn place(cluster: &Cluster, name: &str) -> WorkerPlace {
    cluster.layout().workers.into_iter().find(|worker| worker.name == name).unwrap()
}

/// Kills a worker, whoever started it.
async fn kill(cluster: &mut Cluster, name: &str) {
    let place = place(cluster, name);
    cluster.kill(cluster.extra_pid(name).unwrap_or(place.agent_pid)).await;
    if let Some(postmaster) = cluster.postmaster(&place) {
        cluster.kill_postgres(postmaster).await;
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.is_ok_and(|copied| copied.success()), "{} is copied", from.display());
}

fn group_file(worker: &WorkerPlace) -> PathBuf {
    PathBuf::from(format!("{}.group", worker.data_dir.display()))
}

/// How many stamps its agent has drawn.
fn stamps_drawn(worker: &WorkerPlace) -> u64 {
    let kept: Value = serde_json::from_slice(&std::fs::read(group_file(worker)).unwrap()).unwrap();
    kept["stamps"]["now"]["count"].as_u64().unwrap()
}

async fn until_restored(client: &Client, worker: &str) {
    poll::until("it is known to be restored", PATIENCE, async || {
        let group = group(client, "g1").await;
        let mut members = group["members"].as_array().unwrap().iter();
        let is_so = members.any(|member| member["worker"] == worker && member["restored"] == true);
        if is_so { Ok(()) } else { Err(group.to_string()) }
    })
    .await;
}

fn times_copied(cluster: &Cluster, worker: &str) -> usize {
    let log = std::fs::read_to_string(cluster.folder().join("logs").join(format!("{worker}.log"))).unwrap();
    log.matches("\"act\":\"BaseBackup").count()
}

async fn write(client: &Client, acknowledged: &mut BTreeSet<String>) {
    for number in acknowledged.len()..acknowledged.len() + 20 {
        let key = number.to_string();
        let path = format!("/v1/collections/c/namespaces/n/entries/{key}");
        client.put(&path, &json!({"vector": [1, number, 1]})).await.expect(201);
        acknowledged.insert(key);
    }
}
