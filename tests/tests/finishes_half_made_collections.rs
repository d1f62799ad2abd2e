//! A collection whose making was cut off is made in the end, by itself, once on each shard.

#![allow(clippy::unwrap_used)]

use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::{Client, Cluster, ClusterOptions, poll, sql};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const MANY: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finishes_half_made_collections() {
    let mut cluster = Cluster::start(ClusterOptions::new("finishes_half_made_collections").coordinators(3)).await;
    a_group_that_is_down_is_named(&mut cluster).await;
    killed_in_the_middle(&mut cluster).await;
    let failed = [
        "\"target\":\"openraft::",
        r#""code":"shard-unavailable""#,
        r#""code":"deadline-exceeded""#,
        r#""code":"write-outcome-unknown""#,
        // Agents tell a coordinator anew where they are, now and then: also one that was killed.
        "not registered",
    ];
    cluster.finish(&[&failed[..], &WORKER_LOSS].concat()).await;
}

async fn a_group_that_is_down_is_named(cluster: &mut Cluster) {
    let client = cluster.client();
    let down = cluster.layout().workers[2].clone();
    cluster.kill_worker(&down).await;
    let put = || {
        client
            .request(Method::PUT, "/v1/collections/half")
            .header("x-timeout-ms", "2500")
            .json(&json!({"dimensions": 3}))
    };
    let problem = put().send().await.expect_problem(503, "shard-unavailable");
    assert!(problem["detail"].as_str().unwrap().contains(&down.group), "{problem}");
    assert_eq!(problem["retryable"], true);
    for other in cluster.layout().workers.iter().filter(|worker| worker.group != down.group) {
        assert!(!problem["detail"].as_str().unwrap().contains(&other.group), "{problem}");
    }
    assert_eq!(client.get("/v1/collections/half").await.expect(200).json()["state"], "creating");
    let search = json!({"vector": [1, 2, 3], "all": true});
    client.post("/v1/collections/half/search", &search).await.expect_problem(503, "shard-unavailable");

    cluster.start_member(&down.name);
    client.wait_until_active("half").await;
    put().send().await.expect(200);
    works(&client, "half").await;
    assert_eq!(tables(cluster, "half").await, placements(&client).await, "a table in each shard, once");
}

async fn killed_in_the_middle(cluster: &mut Cluster) {
    let layout = cluster.layout();
    let leader = cluster.leader().await;
    let asked_of = if leader == 1 { 2 } else { 1 };
    let survivor = cluster.client_of(asked_of);
    let maker = survivor.clone();
    let making = tokio::spawn(async move {
        let mut made = Vec::new();
        for i in 0..MANY {
            let name = format!("many_{i}");
            let put = maker.request(Method::PUT, &format!("/v1/collections/{name}")).header("x-timeout-ms", "4000");
            let answer = put.json(&json!({"dimensions": 3})).send().await;
            assert!([200, 201, 503, 504].contains(&answer.status), "{}", answer.text());
            if answer.status < 300 {
                made.push(name);
            }
        }
        made
    });
    poll::until("a few collections to be made", PATIENCE, async || {
        let known = names(&survivor).await;
        if known.len() >= 5 { Ok(()) } else { Err(format!("{known:?}")) }
    })
    .await;
    // Agents of two workers, their servers left alone, and the one who drives it all.
    for worker in &layout.workers[..2] {
        cluster.kill(worker.agent_pid).await;
    }
    cluster.kill(layout.coordinators[usize::from(leader - 1)].pid).await;
    for worker in &layout.workers[..2] {
        cluster.start_member(&worker.name);
    }
    cluster.start_member(&format!("coordinator-{leader}"));
    let acknowledged = making.await.unwrap();
    assert!(!acknowledged.is_empty());

    let known = names(&survivor).await;
    for name in &acknowledged {
        assert!(known.contains(name), "{name} was acknowledged and is not there: {known:?}");
    }
    let placements = placements(&survivor).await;
    for name in &known {
        survivor.wait_until_active(name).await;
        assert_eq!(&tables(cluster, name).await, &placements, "{name}: a table in each shard, once");
    }
    println!("{} of {MANY} acknowledged, {} there", acknowledged.len(), known.len());
    for name in known.iter().filter(|name| name.starts_with("many_")) {
        works(&survivor, name).await;
    }
    cluster.wait_ready(leader).await;
}

async fn names(client: &Client) -> Vec<String> {
    let list = client.get("/v1/collections").await.expect(200).json();
    list["collections"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// An entry for each shard, most likely, and all of them found.
async fn works(client: &Client, collection: &str) {
    let entries: Vec<Value> =
        (0..40).map(|i| json!({"namespace": format!("n{i}"), "key": "k", "vector": [1, i, 2]})).collect();
    let written = poll::until("the collection to be written to", PATIENCE, async || {
        let answer = client.post(&format!("/v1/collections/{collection}/entries"), &json!({"entries": entries})).await;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(written["written"], 40);
    let body = json!({"vector": [1, 3, 2], "all": true, "k": 100});
    let found = client.post(&format!("/v1/collections/{collection}/search"), &body).await.expect(200).json();
    assert_eq!(found["hits"].as_array().unwrap().len(), 40);
}

/// Schemas by group, as the catalog has them.
async fn placements(client: &Client) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for shard in client.get("/v1/admin/shards").await.expect(200).json()["shards"].as_array().unwrap() {
        let text = |field: &str| shard[field].as_str().unwrap().to_owned();
        found.entry(text("group")).or_default().push(text("schema"));
    }
    found.values_mut().for_each(|schemas| schemas.sort());
    found
}

/// Schemas of shards that hold the collection's table, by group, as PostgreSQL has them.
async fn tables(cluster: &Cluster, collection: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for worker in cluster.layout().workers {
        let text = format!(
            "select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where c.relname = '{collection}' and c.relkind = 'r' and n.nspname ~ '^s[0-9]+_g[0-9]+$' order by 1"
        );
        found.insert(worker.group, sql::rows(&worker.dsn, &text).await);
    }
    found
}
