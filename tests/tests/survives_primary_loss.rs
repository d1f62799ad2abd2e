//! A group of three loses its primary, server and agent at once, under writers: another member takes over by itself with all that was
//! acknowledged, and the lost one comes back as a standby. Then the new primary is lost, and the first takes over again. Writes are held
//! meanwhile: none fails but those that were under way, and under an `Idempotency-Key` not even those.

#![allow(clippy::unwrap_used)]

use cluster_tests::client::Request;
use cluster_tests::poll;
use cluster_tests::traffic::{Asked, Traffic};
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const WRITERS: u64 = 3;
/// The writer that sends an `Idempotency-Key`.
const CAREFUL: u64 = 0;
/// Acknowledged writes, of each writer, that make a loss mean something.
const ENOUGH: usize = 60;
const PATIENCE: Duration = Duration::from_secs(60);

/// What is said of servers that die, and of members that become what they are not yet.
const EXPECTED: [&str; 11] = [
    r#""code":"write-outcome-unknown""#,
    r#""code":"deadline-exceeded""#,
    "a shard's part of a batch was not written",
    "the agent does not answer",
    "PostgreSQL died, starting it again",
    "PostgreSQL does not serve",
    "desired state not applied",
    "the agent could not apply the desired state; will retry",
    // Of counts, graphs and whatever else was under way on a server that died.
    "trying again later",
    "some metrics of PostgreSQL are missing",
    "the group's record cannot be followed yet",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_primary_loss() {
    let options = ClusterOptions::new("survives_primary_loss").workers(3).replicas(3);
    let mut cluster = Cluster::start(options).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    whole(&client, None).await;

    let mut acknowledged = BTreeSet::new();
    let mut primaries = Vec::new();
    for round in 0..2 {
        let begin = |writer| {
            (writer, Traffic::begin(cluster.client(), move |client, number| write(client, round, writer, number)))
        };
        let writers: Vec<(u64, Traffic)> = (0..WRITERS).map(begin).collect();
        for (_, traffic) in &writers {
            traffic.wait_for_successes(ENOUGH, PATIENCE).await;
        }
        let primary = group(&client).await["primary"].as_str().unwrap().to_owned();
        let lost = cluster.layout().workers.into_iter().find(|worker| worker.name == primary).unwrap();
        let killed = Instant::now();
        cluster.kill_worker(&lost).await;
        for (writer, traffic) in writers {
            let before = traffic.successes();
            traffic.wait_for_successes(before + ENOUGH, PATIENCE).await;
            let asked = traffic.end().await;
            failed_as_they_may(writer, &asked);
            println!("round {round}, writer {writer}: {} ms without an acknowledged write", gap_ms(&asked, killed));
            let kept = asked.iter().filter(|one| one.succeeded());
            acknowledged.extend(kept.map(|one| key(round, writer, one.number)));
        }
        let now = group(&client).await;
        assert_ne!(now["primary"], primary, "{now}");
        holds(&client, &acknowledged).await;
        cluster.start_member(&lost.name);
        whole(&client, Some(&lost.name)).await;
        holds(&client, &acknowledged).await;
        primaries.push(primary);
    }
    assert_ne!(primaries[0], primaries[1]);
    println!("{} acknowledged writes outlived two primaries", acknowledged.len());
    cluster.finish(&EXPECTED).await;
}

fn key(round: u64, writer: u64, number: u64) -> String {
    format!("{round}-{writer}-{number}")
}

fn write<'a>(client: &'a Client, round: u64, writer: u64, number: u64) -> Request<'a> {
    let path = format!("/v1/collections/c/namespaces/n{writer}/entries/{}", key(round, writer, number));
    // Longer than a failover takes, on a machine that does much else.
    let request = client
        .request(Method::PUT, &path)
        .header("X-Timeout-Ms", "15000")
        .json(&json!({"vector": [writer + 1, number, 1]}));
    match writer {
        CAREFUL => request.header("Idempotency-Key", key(round, writer, number)),
        _ => request,
    }
}

/// Whoever does not say that a write may be sent again is told when nobody knows what became of it, and nothing worse.
fn failed_as_they_may(writer: u64, asked: &[Asked]) {
    let mut failed = asked.iter().filter(|one| !one.succeeded());
    let is_unknown = |one: &Asked| one.outcome == Ok(504) && one.body.contains("write-outcome-unknown");
    let may_fail = |one: &Asked| writer != CAREFUL && is_unknown(one);
    let worse = failed.find(|one| !may_fail(one));
    assert!(worse.is_none(), "writer {writer}: {worse:?}");
}

/// Longest time between two acknowledged writes, from the kill on.
fn gap_ms(asked: &[Asked], killed: Instant) -> u128 {
    let ended: Vec<Instant> = asked.iter().filter(|one| one.succeeded()).map(|one| one.ended).collect();
    let gaps = ended.windows(2).filter(|pair| pair[1] > killed).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default().as_millis()
}

async fn group(client: &Client) -> Value {
    client.get("/v1/admin/groups").await.expect(200).json()["groups"][0].clone()
}

/// Waits until all three are in sync, and `standby` is none but that.
async fn whole(client: &Client, standby: Option<&str>) {
    poll::until("three in sync", PATIENCE, async || {
        let group = group(client).await;
        let in_sync = group["in_sync"].as_array().map_or(0, Vec::len);
        let is_whole =
            in_sync == 3 && group["phase"] == "steady" && standby.is_none_or(|name| group["primary"] != name);
        if is_whole { Ok(()) } else { Err(group.to_string()) }
    })
    .await;
}

async fn holds(client: &Client, acknowledged: &BTreeSet<String>) {
    let exported = client.export("c", None).await;
    let found: BTreeSet<&str> = exported.iter().map(|entry| entry["key"].as_str().unwrap()).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|key| !found.contains(key.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes are lost: {lost:?}", lost.len(), acknowledged.len());
}
