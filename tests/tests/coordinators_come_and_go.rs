//! A coordinator joins a running cluster and serves; one leaves, even the leader, and the rest goes on.

#![allow(clippy::unwrap_used)]

use cluster_tests::poll;
use cluster_tests::{Client, Cluster, ClusterOptions};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_come_and_go() {
    let mut cluster = Cluster::start(ClusterOptions::new("coordinators_come_and_go").coordinators(3).workers(2)).await;
    let first = cluster.client();
    first.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    first.put("/v1/collections/c/namespaces/n/entries/k", &json!({"vector": [1, 2, 3]})).await.expect(201);

    let config = configuration_of_a_fourth(&cluster);
    cluster.start_by_config("coordinator-4", &config);
    cluster.wait_ready(4).await;
    let fourth = cluster.client_of(4);
    let joined = poll::until("the fourth to be a voter", PATIENCE, async || {
        let list = coordinators(&first).await;
        let own = list.iter().find(|one| one["http"] == fourth.base()).cloned();
        match own {
            Some(own) if own["role"] == "voter" && own["up"] == true && list.len() == 4 => Ok(own),
            _ => Err(json!(list).to_string()),
        }
    })
    .await;
    serves(&fourth, "made_by_the_fourth").await;

    // It leaves, and is no member any more.
    let id = joined["id"].as_u64().unwrap();
    first.delete(&format!("/v1/admin/coordinators/{id}")).await.expect(200);
    poll::until("three to be left", PATIENCE, async || {
        let list = coordinators(&first).await;
        let left = list.len() == 3 && list.iter().all(|one| one["role"] == "voter" && one["id"] != id);
        if left { Ok(()) } else { Err(json!(list).to_string()) }
    })
    .await;
    serves(&first, "made_by_three").await;
    first.delete("/v1/admin/coordinators/4711").await.expect_problem(404, "operation-not-found");

    // The leader leaves too; asked of another.
    let number = cluster.leader().await;
    let leader = cluster.layout().coordinators[usize::from(number - 1)].id;
    let other = cluster.client_of(if number == 1 { 2 } else { 1 });
    other.delete(&format!("/v1/admin/coordinators/{leader}")).await.expect(200);
    poll::until("two to be left with a leader", PATIENCE, async || {
        let info = other.get("/v1/admin/cluster").await.expect(200).json();
        let left = info["coordinators"].as_array().unwrap().len() == 2;
        if left && info["leader"].is_u64() && info["leader"] != leader { Ok(()) } else { Err(info.to_string()) }
    })
    .await;
    serves(&other, "made_by_two").await;
    cluster.finish(&["\"target\":\"openraft::"]).await;
}

/// The second one's, with ports and a folder of its own.
fn configuration_of_a_fourth(cluster: &Cluster) -> std::path::PathBuf {
    let folder = cluster.folder();
    let text = std::fs::read_to_string(folder.join("config/coordinator-2.toml")).unwrap();
    let port = cluster.first_port();
    let mut text = text
        .replace(&format!("listen = \"127.0.0.1:{}\"", port + 1), &format!("listen = \"127.0.0.1:{}\"", port + 3))
        .replace(
            &format!("internal_listen = \"127.0.0.1:{}\"", port + 51),
            &format!("internal_listen = \"127.0.0.1:{}\"", port + 53),
        )
        .replace("/coordinator-2\"", "/coordinator-4\"");
    let join: Vec<&str> = text.lines().filter(|line| line.starts_with("join")).collect();
    let all = format!("join = [\"http://127.0.0.1:{}\", \"http://127.0.0.1:{}\"]", port + 50, port + 51);
    text = text.replace(join[0], &all);
    assert!(text.contains(&format!(":{}\"", port + 3)) && text.contains(&format!(":{}\"", port + 53)), "{text}");
    let path = folder.join("config/coordinator-4.toml");
    std::fs::write(&path, text).unwrap();
    path
}

async fn coordinators(client: &Client) -> Vec<Value> {
    client.get("/v1/admin/cluster").await.expect(200).json()["coordinators"].as_array().unwrap().clone()
}

/// It reads, writes, searches, and takes changes of the catalog.
async fn serves(client: &Client, collection: &str) {
    let search = json!({"vector": [1, 2, 3], "all": true});
    let found = client.post("/v1/collections/c/search", &search).await.expect(200).json();
    assert!(!found["hits"].as_array().unwrap().is_empty(), "{found}");
    let path = format!("/v1/collections/c/namespaces/n/entries/{collection}");
    client.put(&path, &json!({"vector": [3, 2, 1]})).await.expect(201);
    client.get(&path).await.expect(200);
    poll::until("a collection to be taken", PATIENCE, async || {
        let answer = client.put(&format!("/v1/collections/{collection}"), &json!({"dimensions": 2})).await;
        if [200, 201].contains(&answer.status) { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    client
        .put(&format!("/v1/collections/{collection}/namespaces/n/entries/k"), &json!({"vector": [1, 2]}))
        .await
        .expect(201);
}
