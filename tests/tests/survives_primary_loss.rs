//! A group of three loses its primary, server and agent at once, under writers: another member takes over by itself with all that was
//! acknowledged, and the lost one comes back as a standby. Then the new primary is lost, and the first takes over again. Writes are held
//! meanwhile: none fails but those that were under way, and under an `Idempotency-Key` not even those.

#![allow(clippy::unwrap_used)]

use cluster_tests::client::Request;
use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::standbys::{self, PRIMARY_LOSS, holds, whole};
use cluster_tests::traffic::{Asked, Traffic};
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const WRITERS: u64 = 3;
/// The writer that sends an `Idempotency-Key`.
const CAREFUL: u64 = 0;
/// Acknowledged writes, of each writer, that make a loss mean something.
const ENOUGH: usize = 60;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_primary_loss() {
    let options = ClusterOptions::new("survives_primary_loss").workers(3).replicas(3);
    let mut cluster = Cluster::start(options).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    whole(&client).await;

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
        let primary = standbys::primary(&client, "g1").await;
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
        assert_ne!(standbys::primary(&client, "g1").await, primary);
        holds(&client, "c", &acknowledged).await;
        cluster.start_member(&lost.name);
        whole(&client).await;
        assert_ne!(standbys::primary(&client, "g1").await, lost.name);
        holds(&client, "c", &acknowledged).await;
        primaries.push(primary);
    }
    assert_ne!(primaries[0], primaries[1]);
    println!("{} acknowledged writes outlived two primaries", acknowledged.len());
    cluster.finish(&[&PRIMARY_LOSS[..], &WORKER_LOSS].concat()).await;
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
