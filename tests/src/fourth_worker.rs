//! A worker that joins a cluster of three: `w4`, alone in group `g4`.

use crate::client::Client;
use crate::cluster::Cluster;
use serde_json::json;
use std::path::PathBuf;

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
