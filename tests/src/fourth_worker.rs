//! A worker that joins a cluster of three: `w4`, alone in group `g4`; what that cluster holds, and clients that must not notice.

use crate::client::Client;
use crate::cluster::Cluster;
use crate::traffic::{Asked, Traffic};
use http::Method;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);

/// A configuration file like the first worker's, with a name, a group, ports and a folder of its own.
pub fn configuration(cluster: &Cluster) -> PathBuf {
    let folder = cluster.folder();
    let text =
        std::fs::read_to_string(folder.join("config/w1.toml")).expect("the cluster has its files, and takes more");
    let (agent, server) = (cluster.first_port() + 100, cluster.first_port() + 200);
    let mut changed = text;
    for (from, to) in [
        ("name = \"w1\"".to_owned(), "name = \"w4\"".to_owned()),
        ("group = \"g1\"".to_owned(), "group = \"g4\"".to_owned()),
        (format!("127.0.0.1:{agent}\""), format!("127.0.0.1:{}\"", agent + 3)),
        (format!("port = {server}"), format!("port = {}", server + 3)),
        ("/w1/postgres\"".to_owned(), "/w4/postgres\"".to_owned()),
    ] {
        assert!(changed.contains(&from), "no {from} in {changed}");
        changed = changed.replace(&from, &to);
    }
    std::fs::create_dir(folder.join("w4")).expect("the cluster has its files, and takes more");
    let path = folder.join("config/w4.toml");
    std::fs::write(&path, changed).expect("the cluster has its files, and takes more");
    path
}

/// Gives the first three something to share: many namespaces of a few entries each, so that no shard is without.
pub async fn fill(client: &Client) {
    client.put("/v1/collections/points", &json!({"dimensions": 2})).await.expect(201);
    let line = |i: u32| json!({"namespace": format!("n{}", i % 400), "key": i.to_string(), "vector": [1, i], "value": "v".repeat(200)});
    let lines: Vec<String> = (0..8_000).map(|i| line(i).to_string()).collect();
    let told = client.import("points", lines.join("\n")).await;
    assert_eq!((&told["done"], &told["written"]), (&json!(true), &json!(8_000)), "{told}");
}

/// A writer and a searcher of what [`fill`] made.
pub struct Clients([(&'static str, Traffic); 2]);

impl Clients {
    /// They begin.
    pub fn begin(client: &Client) -> Self {
        let writer = Traffic::begin(client.clone(), |client, number| {
            let path = format!("/v1/collections/points/namespaces/n{}/entries/w{}", number % 400, number % 2_000);
            client.request(Method::PUT, &path).json(&json!({"value": number.to_string(), "vector": [number, 1]}))
        });
        let searcher = Traffic::begin(client.clone(), |client, number| {
            let body = json!({"vector": [1, number % 100], "all": true, "exact": true, "k": 5});
            client.request(Method::POST, "/v1/collections/points/search").json(&body)
        });
        Self([("writer", writer), ("searcher", searcher)])
    }

    /// They go on for a little, and end; no request of theirs may have failed.
    pub async fn finish(self) {
        for (who, traffic) in self.0 {
            traffic.wait_for_successes(20, PATIENCE).await;
            let asked = traffic.end().await;
            let failed: Vec<&Asked> = asked.iter().filter(|asked| !asked.succeeded()).collect();
            let slowest = asked.iter().map(|asked| asked.ended - asked.sent).max();
            println!("{who}: {} requests, slowest {slowest:?}", asked.len());
            assert!(failed.is_empty(), "{who}: {} of {} failed: {:?}", failed.len(), asked.len(), failed[0]);
        }
    }
}
