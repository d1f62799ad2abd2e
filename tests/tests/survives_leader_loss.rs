//! The leader is killed: clients of the other coordinators notice nothing, and the catalog soon takes changes again.

#![allow(clippy::unwrap_used)]

use cluster_tests::poll;
use cluster_tests::processes::signal;
use cluster_tests::traffic::{Asked, Traffic, longest_gap};
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const GAP_MAX: Duration = Duration::from_secs(2);
/// The catalog's break after its leader died.
const BREAK_MAX: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_leader_loss() {
    let mut cluster = Cluster::start(ClusterOptions::new("survives_leader_loss").coordinators(3)).await;
    let first = cluster.client();
    first.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    for number in [2, 3] {
        wait_for_collection(&cluster.client_of(number), "c").await;
    }
    let (leader, followers) = roles(&cluster).await;
    let writer = Traffic::begin(cluster.client_of(followers[0]), |client, number| {
        let path = format!("/v1/collections/c/namespaces/n{}/entries/{number}", number % 30);
        client.request(Method::PUT, &path).json(&json!({"vector": [1, number, 1]}))
    });
    let searcher = Traffic::begin(cluster.client_of(followers[1]), |client, number| {
        client.request(Method::POST, "/v1/collections/c/search").json(&json!({"vector": [1, number, 2], "all": true}))
    });
    for traffic in [&writer, &searcher] {
        traffic.wait_for_successes(50, Duration::from_secs(60)).await;
    }

    let pid = cluster.layout().coordinators[usize::from(leader - 1)].pid;
    cluster.kill(pid).await;
    let killed = Instant::now();
    let survivor = cluster.client_of(followers[0]);
    poll::until("a new collection to be taken", BREAK_MAX, async || {
        let put = survivor.request(Method::PUT, "/v1/collections/made_after").header("x-timeout-ms", "9000");
        let answer = put.json(&json!({"dimensions": 2})).send().await;
        if [200, 201].contains(&answer.status) { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    println!("a new collection was taken {:.1} s after the leader was killed", killed.elapsed().as_secs_f64());
    assert!(killed.elapsed() < BREAK_MAX);
    for traffic in [&writer, &searcher] {
        traffic.wait_for_successes(50, Duration::from_secs(60)).await;
    }
    let written = writer.end().await;
    let number_written = written.len();
    nobody_noticed("writer", &written);
    nobody_noticed("searcher", &searcher.end().await);
    assert_eq!(survivor.export("c", None).await.len(), number_written);

    // The one that was killed catches up, without having been told anything.
    cluster.start_member(&format!("coordinator-{leader}"));
    cluster.wait_ready(leader).await;
    let back = cluster.client_of(leader);
    poll::until("the catalog to be caught up with", Duration::from_secs(20), async || {
        let (new, old) = (info(&back).await, info(&survivor).await);
        if new["catalog_version"] == old["catalog_version"] && new["leader"] == old["leader"] {
            Ok(())
        } else {
            Err(format!("{new} {old}"))
        }
    })
    .await;
    wait_for_collection(&back, "made_after").await;
    let search = json!({"vector": [1, 7, 2], "all": true, "k": 50});
    let mut answers = Vec::new();
    for client in [&back, &survivor] {
        answers.push(client.post("/v1/collections/c/search", &search).await.expect(200).json()["hits"].clone());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].as_array().unwrap().len(), 50);
    one_that_hangs_is_not_waited_for(&cluster).await;
    // An agent that asks the dead coordinator goes to the next. One that was stopped finds that time has passed.
    let expected =
        ["\"target\":\"openraft::", "the coordinator cannot be reached", "not registered", "does not answer"];
    cluster.finish(&expected).await;
}

/// A leader that is stopped keeps its connections and answers nothing. Who had asked it asks the next one.
async fn one_that_hangs_is_not_waited_for(cluster: &Cluster) {
    let (leader, followers) = roles(cluster).await;
    let name = format!("coordinator-{leader}");
    let pid = cluster.extra_pid(&name).unwrap_or(cluster.layout().coordinators[usize::from(leader - 1)].pid);
    let follower = cluster.client_of(followers[0]);
    signal(pid, Signal::STOP);
    let stopped = Instant::now();
    let put = follower.request(Method::PUT, "/v1/collections/made_past_one").header("x-timeout-ms", "40000");
    let answer = put.json(&json!({"dimensions": 2})).send().await;
    let took = stopped.elapsed();
    signal(pid, Signal::CONT);
    assert!([200, 201].contains(&answer.status) && took < BREAK_MAX, "{took:?}: {}", answer.text());
    println!("a new collection was taken {:.1} s after the leader was stopped", took.as_secs_f64());
    wait_for_collection(&cluster.client_of(leader), "made_past_one").await;
}

fn nobody_noticed(who: &str, asked: &[Asked]) {
    let failed: Vec<&Asked> = asked.iter().filter(|one| !one.succeeded()).take(3).collect();
    assert!(failed.is_empty(), "{who}: {failed:#?}");
    let gap = longest_gap(asked);
    println!("{who}: {} requests, longest gap {} ms", asked.len(), gap.as_millis());
    assert!(gap < GAP_MAX, "{who}: nothing succeeded for {gap:?}");
}

async fn info(client: &Client) -> Value {
    client.get("/v1/admin/cluster").await.expect(200).json()
}

/// The leader's number, and the others'.
async fn roles(cluster: &Cluster) -> (u16, Vec<u16>) {
    let layout = cluster.layout();
    let id = poll::until("a leader", Duration::from_secs(20), async || {
        let info = info(&cluster.client()).await;
        info["leader"].as_u64().ok_or_else(|| info.to_string())
    })
    .await;
    let leader = (1..).zip(&layout.coordinators).find(|(_, one)| one.id == id).map(|(number, _)| number).unwrap();
    (leader, (1..=3).filter(|number| *number != leader).collect())
}

async fn wait_for_collection(client: &Client, name: &str) {
    poll::until("the collection to be known", Duration::from_secs(20), async || {
        let answer = client.get(&format!("/v1/collections/{name}")).await;
        let active = answer.status == 200 && answer.json()["state"] == "active";
        if active { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}
