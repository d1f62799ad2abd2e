//! The leader is killed: clients of the other coordinators notice nothing, and the catalog soon takes changes again. Then two of
//! three are killed: the last one serves searches and writes of entries, and refuses changes of the catalog.

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
        cluster.client_of(number).wait_until_active("c").await;
    }
    let leader = cluster.leader().await;
    let followers: Vec<u16> = (1..=3).filter(|number| *number != leader).collect();
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
    back.wait_until_active("made_after").await;
    let search = json!({"vector": [1, 7, 2], "all": true, "k": 50});
    let mut answers = Vec::new();
    for client in [&back, &survivor] {
        answers.push(client.post("/v1/collections/c/search", &search).await.expect(200).json()["hits"].clone());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].as_array().unwrap().len(), 50);
    one_that_hangs_is_not_waited_for(&cluster).await;
    the_last_one_serves_on(&mut cluster).await;
    // An agent that asks a dead coordinator goes to the next. One that was stopped finds that time has passed.
    let expected = [
        "\"target\":\"openraft::",
        "the coordinator cannot be reached",
        "not registered",
        "does not answer",
        r#""code":"no-leader""#,
    ];
    cluster.finish(&expected).await;
}

/// A leader that is stopped keeps its connections and answers nothing. Who had asked it asks the next one.
async fn one_that_hangs_is_not_waited_for(cluster: &Cluster) {
    let leader = cluster.leader().await;
    let follower = if leader == 1 { 2 } else { 1 };
    let name = format!("coordinator-{leader}");
    let pid = cluster.extra_pid(&name).unwrap_or(cluster.layout().coordinators[usize::from(leader - 1)].pid);
    let follower = cluster.client_of(follower);
    signal(pid, Signal::STOP);
    let stopped = Instant::now();
    let put = follower.request(Method::PUT, "/v1/collections/made_past_one").header("x-timeout-ms", "40000");
    let answer = put.json(&json!({"dimensions": 2})).send().await;
    let took = stopped.elapsed();
    signal(pid, Signal::CONT);
    assert!([200, 201].contains(&answer.status) && took < BREAK_MAX, "{took:?}: {}", answer.text());
    println!("a new collection was taken {:.1} s after the leader was stopped", took.as_secs_f64());
    cluster.client_of(leader).wait_until_active("made_past_one").await;
}

/// The leader is among those that are killed, so the last one neither leads nor finds who does.
async fn the_last_one_serves_on(cluster: &mut Cluster) {
    let leader = cluster.leader().await;
    let last = if leader == 1 { 2 } else { 1 };
    let killed: Vec<u16> = (1..=3).filter(|number| *number != last).collect();
    let client = cluster.client_of(last);
    client.wait_until_active("made_after").await;
    let stored = client.export("c", None).await.len();
    let layout = cluster.layout();
    for number in &killed {
        let name = format!("coordinator-{number}");
        let pid = cluster.extra_pid(&name).unwrap_or(layout.coordinators[usize::from(number - 1)].pid);
        cluster.kill(pid).await;
    }

    poll::until("the last one to know that it is alone", Duration::from_secs(20), async || {
        let info = info(&client).await;
        if info["leader"].is_null() { Ok(()) } else { Err(info.to_string()) }
    })
    .await;
    for collection in ["made_by_nobody", "c"] {
        let settings = json!({"dimensions": 3, "ttl_seconds": 7});
        let put = client.request(Method::PUT, &format!("/v1/collections/{collection}")).header("x-timeout-ms", "1000");
        put.json(&settings).send().await.expect_problem(503, "no-leader");
    }
    let drop = client.request(Method::DELETE, "/v1/collections/c").header("x-timeout-ms", "1000");
    drop.send().await.expect_problem(503, "no-leader");

    let path = |i: usize| format!("/v1/collections/c/namespaces/alone{i}/entries/k");
    for i in 0..30 {
        client.put(&path(i), &json!({"vector": [1, i, 3], "value": "by the last one"})).await.expect(201);
        let search = json!({"vector": [1, i, 3], "namespaces": [format!("alone{i}")]});
        let found = client.post("/v1/collections/c/search", &search).await.expect(200).json();
        assert_eq!(found["hits"][0]["value"], "by the last one", "{found}");
    }
    client.patch(&path(0), &json!({"value": "changed"})).await.expect(200);
    assert_eq!(client.get(&path(0)).await.expect(200).json()["value"], "changed");
    client.delete(&path(0)).await.expect(200);
    let all = json!({"vector": [1, 1, 1], "all": true, "k": 20});
    let found = client.post("/v1/collections/c/search", &all).await.expect(200).json();
    assert_eq!((&found["complete"], found["hits"].as_array().unwrap().len()), (&json!(true), 20));
    assert_eq!(client.export("c", None).await.len(), stored + 29);

    // With one more the catalog takes changes again.
    cluster.start_member(&format!("coordinator-{}", killed[0]));
    cluster.wait_ready(killed[0]).await;
    poll::until("a new collection to be taken", Duration::from_secs(60), async || {
        let answer = client.put("/v1/collections/made_by_two", &json!({"dimensions": 2})).await;
        if [200, 201].contains(&answer.status) { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    client.get("/v1/collections/made_by_nobody").await.expect_problem(404, "collection-not-found");
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
