//! Who goes away in the middle of a search leaves nothing behind: its statement ends on the worker, and the connections are there
//! for the next ones.

#![allow(clippy::unwrap_used)]

use cluster_tests::wordnet;
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

const SEARCH: &str = "/v1/collections/memory_entries/search";
/// Connections of the coordinator to the worker, whatever the machine.
const CONNECTIONS: usize = 8;
/// Searches that are left at once: more than that.
const LEFT: usize = 12;
/// A search would wait for so long.
const DEADLINE_MS: &str = "60000";
/// Much less than that; usually it takes a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Backends of coordinators that wait for a lock.
const WAITING: &str =
    "select count(*) from pg_stat_activity where application_name = 'atoll' and wait_event_type = 'Lock'";

/// Sees and stops a worker's tables behind the coordinator's back.
struct Server(tokio_postgres::Client);

impl Server {
    async fn connect(dsn: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("set idle_in_transaction_session_timeout = 0").await.unwrap();
        Self(client)
    }

    /// Waits until so many backends wait for a lock; says how long it took.
    async fn wait_for_waiting(&self, expected: std::ops::RangeInclusive<i64>) -> Duration {
        let started = Instant::now();
        loop {
            let waiting: i64 = self.0.query_one(WAITING, &[]).await.unwrap().get(0);
            if expected.contains(&waiting) {
                return started.elapsed();
            }
            assert!(started.elapsed() < PATIENCE, "{waiting} backends wait, and not {expected:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_for_clients_that_leave() {
    let entries: Vec<_> = wordnet::sample().into_iter().take(400).collect();
    let options = ClusterOptions::new("stops_for_clients_that_leave").workers(1);
    let cluster = Cluster::start(options.environment("ATOLL__POSTGRES__POOL_SIZE", CONNECTIONS.to_string())).await;
    let client = cluster.client();
    assert_eq!(client.import("memory_entries", wordnet::ndjson(&entries)).await["written"], 400);
    let search = |namespace: &str| json!({"vector": entries[0].vector, "namespaces": [namespace], "cache": "bypass"});
    let locked = entries[0].namespace.as_str();
    let schema = schema_of(&client, locked).await;
    let mut open = None;
    for entry in &entries {
        if schema_of(&client, &entry.namespace).await != schema {
            open = Some(entry.namespace.as_str());
            break;
        }
    }
    let dsn = cluster.layout().workers[0].dsn.clone();
    let (holder, observer) = (Server::connect(&dsn).await, Server::connect(&dsn).await);
    let lock = format!("begin; lock table \"{schema}\".memory_entries in access exclusive mode");
    holder.0.batch_execute(&lock).await.unwrap();

    let searches: Vec<_> = (0..LEFT)
        .map(|_| {
            let (client, body) = (Client::new(client.base()), search(locked));
            tokio::spawn(async move {
                client.request(Method::POST, SEARCH).header("X-Timeout-Ms", DEADLINE_MS).json(&body).send().await
            })
        })
        .collect();
    observer.wait_for_waiting(CONNECTIONS as i64..=CONNECTIONS as i64).await;
    for search in &searches {
        search.abort();
    }
    let freed = observer.wait_for_waiting(0..=0).await;
    println!("the last backend was free {} ms after its client had left", freed.as_millis());

    // While the lock is still held: connections are free for others, and those that come back are not held up by what was left.
    let answer = client.post(SEARCH, &search(open.unwrap())).await.expect(200).json();
    assert_eq!(answer["complete"], true);
    holder.0.batch_execute("commit").await.unwrap();
    for _ in 0..LEFT {
        assert_eq!(client.post(SEARCH, &search(locked)).await.expect(200).json()["complete"], true);
    }
    drop((holder, observer));
    cluster.finish(&[]).await;
}

async fn schema_of(client: &Client, namespace: &str) -> String {
    let path = format!("/v1/collections/memory_entries/namespaces/{namespace}");
    client.get(&path).await.expect(200).json()["schema"].as_str().unwrap().to_owned()
}
