//! Every worker and every coordinator of a group of three is restarted, one after the other, in an orderly way, as for an upgrade. Writers,
//! searchers and readers go on meanwhile, behind what a load balancer does. Of requests that have time to wait not one fails, and nothing
//! acknowledged is lost.

#![allow(clippy::unwrap_used)]

use cluster_tests::balanced::Balanced;
use cluster_tests::client::{Client, Request};
use cluster_tests::group_faults::{agent, coordinator, coordinator_name, restart};
use cluster_tests::standbys::{PRIMARY_LOSS, holds, primary, whole};
use cluster_tests::traffic::{Asked, Traffic, longest_gap};
use cluster_tests::{Cluster, ClusterOptions};
use http::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const COORDINATORS: u16 = 3;
const WRITERS: u64 = 3;
/// Longer than a switchover takes.
const TIMEOUT_MS: &str = "15000";
/// For the balancer to notice.
const LEAVE_MS: &str = "2000";
/// Requests of each client between two restarts.
const ENOUGH: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// What is said of members that stop and are not there for a moment.
const EXPECTED: [&str; 6] = [
    "\"target\":\"openraft::",
    "the agent does not answer",
    "PostgreSQL does not serve",
    "desired state not applied",
    "the agent could not apply the desired state; will retry",
    "no coordinator answers",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_in_turn() {
    let options = ClusterOptions::new("restarts_in_turn").coordinators(COORDINATORS).workers(3).replicas(3);
    let mut cluster = Cluster::start(options.environment("ATOLL__SERVER__LEAVE_MS", LEAVE_MS)).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    whole(&client).await;
    let balanced = Arc::new(Balanced::before(&cluster, COORDINATORS));
    let mut clients: Vec<(String, Traffic)> = Vec::new();
    for writer in 0..WRITERS {
        let traffic = begin(&balanced, move |client, number| write(client, writer, number));
        clients.push((format!("writer {writer}"), traffic));
    }
    clients.push(("searcher of primaries".to_owned(), begin(&balanced, |client, _| search(client, "primary"))));
    clients.push(("searcher of anyone".to_owned(), begin(&balanced, |client, _| search(client, "eventual"))));
    clients.push(("reader".to_owned(), begin(&balanced, |client, _| read(client))));
    all_go_on(&clients).await;

    let mut handed_over = false;
    for worker in cluster.layout().workers {
        handed_over |= primary(&client, "g1").await == worker.name;
        let pid = agent(&cluster, &worker);
        restart(&mut cluster, &worker.name, pid).await;
        whole(&client).await;
        all_go_on(&clients).await;
    }
    assert!(handed_over, "one of them was the primary");
    for number in 1..=COORDINATORS {
        let pid = coordinator(&cluster, number);
        restart(&mut cluster, &coordinator_name(number), pid).await;
        cluster.wait_ready(number).await;
        whole(&client).await;
        all_go_on(&clients).await;
    }

    let mut acknowledged = BTreeSet::new();
    for (place, (who, traffic)) in clients.into_iter().enumerate() {
        let asked = traffic.end().await;
        let failed: Vec<&Asked> = asked.iter().filter(|one| !one.succeeded()).collect();
        assert!(failed.is_empty(), "{who}: {} of {} failed: {failed:?}", failed.len(), asked.len());
        println!(
            "{who}: {} requests, none failed, {} ms the longest wait",
            asked.len(),
            longest_gap(&asked).as_millis()
        );
        if (place as u64) < WRITERS {
            acknowledged.extend(asked.iter().map(|one| key(place as u64, one.number)));
        }
    }
    holds(&client, "c", &acknowledged).await;
    println!("{} acknowledged writes outlived it all", acknowledged.len());
    let expected: Vec<&str> = EXPECTED.into_iter().chain(PRIMARY_LOSS).collect();
    cluster.finish(&expected).await;
}

fn begin<F>(balanced: &Arc<Balanced>, make: F) -> Traffic
where
    F: for<'a> Fn(&'a Client, u64) -> Request<'a> + Copy + Send + Sync + 'static,
{
    let balanced = Arc::clone(balanced);
    Traffic::of(move |number| {
        let balanced = Arc::clone(&balanced);
        async move { balanced.send(|client| make(client, number).header("x-timeout-ms", TIMEOUT_MS)).await }
    })
}

async fn all_go_on(clients: &[(String, Traffic)]) {
    for (_, traffic) in clients {
        traffic.wait_for_successes(ENOUGH, PATIENCE).await;
    }
}

fn key(writer: u64, number: u64) -> String {
    format!("{writer}-{number}")
}

fn write(client: &Client, writer: u64, number: u64) -> Request<'_> {
    let path = format!("/v1/collections/c/namespaces/n{writer}/entries/{}", key(writer, number));
    // Without a key one that was under way when its primary stopped could be in doubt.
    let request = client.request(Method::PUT, &path).header("idempotency-key", key(writer, number));
    request.json(&json!({"vector": [writer + 1, number, 1]}))
}

fn search<'a>(client: &'a Client, consistency: &str) -> Request<'a> {
    let body = json!({"vector": [1, 2, 3], "k": 5, "all": true, "consistency": consistency, "cache": "bypass"});
    client.request(Method::POST, "/v1/collections/c/search").json(&body)
}

fn read(client: &Client) -> Request<'_> {
    let body = json!({"ids": [{"namespace": "n0", "key": key(0, 0)}]});
    client.request(Method::POST, "/v1/collections/c/entries/get").json(&body)
}
