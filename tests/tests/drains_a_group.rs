//! A group is drained and removed while clients write and search: no request fails. Its agent is told to stop and does not come back
//! by itself, only with an empty data directory; then a schedule gives it shards.

#![allow(clippy::unwrap_used)]

use cluster_tests::moves::{GRAPH_SENT_AWAY, wait_nothing_left};
use cluster_tests::{Client, Cluster, ClusterOptions, CommandLine, fourth_worker, poll};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);
const REMOVED: &str = "was removed from the cluster with group g3";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_emptied_removed_and_does_not_come_back() {
    let mut cluster = Cluster::start(ClusterOptions::new("drains").uncached()).await;
    let client = cluster.client();
    let atoll = CommandLine::new(client.base());
    fourth_worker::fill(&client).await;
    cluster.start_by_config("w4", &fourth_worker::configuration(&cluster));
    groups_when(&client, |groups| groups.len() == 4 && groups.iter().all(|group| group["members"][0]["up"] == true))
        .await;

    let clients = fourth_worker::Clients::begin(&client);
    what_is_refused_before(&client, &atoll).await;

    let run = atoll.run(&["group", "drain", "g3", "--max-parallel-moves", "2"]).await.expect(0);
    run.prints(&["g3 is draining", "done: ", "group g3 holds nothing: `atoll group remove g3`"]);
    wait_nothing_left(&cluster, &client).await;
    let held = groups_when(&client, |groups| groups.len() == 4).await;
    let shards = |name: &str| held.iter().find(|group| group["group"] == name).unwrap()["shards"].as_u64().unwrap();
    assert_eq!((shards("g3"), shards("g1") + shards("g2") + shards("g4")), (0, 12), "{held:?}");
    assert_eq!(held.iter().filter(|group| group["state"] == "draining").count(), 1);
    atoll.run(&["rebalance", "plan"]).await.expect(0).prints(&["none: nothing is to do", "draining"]);

    atoll.run(&["group", "remove", "g3"]).await.expect(0).prints(&["stop the agent of w3"]);
    it_is_gone(&client, &atoll).await;
    clients.finish().await;

    // It runs on, and is started again.
    told(&cluster, 1).await;
    let place = cluster.layout().workers.into_iter().find(|worker| worker.name == "w3").unwrap();
    cluster.kill_worker(&place).await;
    cluster.start_member("w3");
    told(&cluster, 2).await;
    it_is_gone(&client, &atoll).await;

    // With an empty data directory it is a new worker, to which the schedule gives shards.
    let atoll_policy = ["rebalance", "policy", "--enable", "--schedule", "* * * * *", "--by", "count"];
    atoll.run(&atoll_policy).await.expect(0).prints(&["* * * * * (UTC), next at 20", "number of shards"]);
    let mut again = place.clone();
    (again.agent_pid, again.postgres_pid) = (cluster.extra_pid("w3").unwrap(), cluster.postmaster(&place).unwrap());
    cluster.kill_worker(&again).await;
    std::fs::remove_dir_all(&place.data_dir).unwrap();
    cluster.start_member("w3");
    groups_when(&client, |groups| groups.iter().any(|group| group["group"] == "g3" && group["state"] == "active"))
        .await;
    by_schedule(&client, &atoll).await;
    // Its server is killed twice, and started again before the system has cleared it away.
    cluster.finish(&[GRAPH_SENT_AWAY, REMOVED, "PostgreSQL died, starting it again"]).await;
}

async fn what_is_refused_before(client: &Client, atoll: &CommandLine) {
    client.post("/v1/admin/groups/g9/drain", &json!({})).await.expect_problem(404, "group-not-found");
    atoll.run(&["group", "remove", "g3"]).await.expect(1).complains(&["atoll group drain g3"]);
    let marked = atoll.run(&["group", "drain", "g3", "--no-apply"]).await.expect(0);
    marked.prints(&["draining", "`atoll rebalance plan` shows what is to move"]);
    client.delete("/v1/admin/groups/g3").await.expect_problem(409, "group-in-use");
    let other = client.get("/v1/admin/shards?group=g1").await.expect(200).json()["shards"][0]["shard"].clone();
    let to_it = client.post("/v1/admin/moves", &json!({"shard": other, "to": "g3"})).await;
    let problem = to_it.expect_problem(422, "validation-failed");
    assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("atoll group activate g3"), "{problem}");
    let plan = client.post("/v1/admin/rebalance/plan", &json!({"threshold": 1})).await.expect(200).json();
    let metrics = client.get("/metrics").await.expect(200).text();
    for series in ["atoll_group_capacity{group=\"g3\"} 0", "atoll_group_shards{group=\"g3\"} 4", "atoll_moves_active 0"]
    {
        assert!(metrics.lines().any(|line| line == series), "no {series} in {metrics}");
    }
    let drains = plan["report"]["moves"].as_array().unwrap().iter().filter(|one| one["reason"] == "drain").count();
    assert_eq!(drains, 4, "{plan}");
    atoll.run(&["group", "activate", "g3"]).await.expect(0).prints(&["active"]);
    client.delete("/v1/admin/groups/g3").await.expect_problem(409, "group-in-use");
}

/// Nobody speaks of it any more, and all is well.
async fn it_is_gone(client: &Client, atoll: &CommandLine) {
    client.delete("/v1/admin/groups/g3").await.expect_problem(404, "group-not-found");
    let workers = client.get("/v1/admin/workers").await.expect(200).json();
    let names: Vec<&Value> = workers["workers"].as_array().unwrap().iter().map(|worker| &worker["worker"]).collect();
    assert_eq!(names, ["w1", "w2", "w4"]);
    client.get("/readyz").await.expect(200);
    let status = atoll.run(&["status"]).await.expect(0);
    assert!(status.prints(&["ready         yes"]).out.contains("12 of 12 shards placed") && !status.out.contains("w3"));
    let metrics = client.get("/metrics").await.expect(200).text();
    assert!(metrics.contains(r#"worker="w4""#) && !metrics.contains(r#"worker="w3""#), "{metrics}");
    assert!(
        metrics.contains(r#"atoll_group_size_bytes{group="g4"}"#) && !metrics.contains(r#"group="g3""#),
        "{metrics}"
    );
    assert_eq!(client.get("/v1/admin/findings").await.expect(200).json(), json!({"findings": []}));
}

/// Waits until the agent has said so often that it should be stopped.
async fn told(cluster: &Cluster, times: usize) {
    let path = cluster.folder().join("logs/w3.log");
    poll::until("the removed worker to be told", PATIENCE, async || {
        let log = std::fs::read_to_string(&path).unwrap();
        let lines = log.lines().filter(|line| line.contains(REMOVED) && line.contains("stop its agent"));
        if lines.count() >= times { Ok(()) } else { Err(log.lines().last().unwrap_or_default().to_owned()) }
    })
    .await;
}

async fn by_schedule(client: &Client, atoll: &CommandLine) {
    let before = client.get("/v1/admin/rebalance/status").await.expect(200).json();
    let begun = poll::until("the schedule to begin a run", PATIENCE, async || {
        let status = client.get("/v1/admin/rebalance/status").await.expect(200).json();
        let moved = status["counts"]["moved"].as_u64().unwrap() > 0;
        if status["plan_id"] != before["plan_id"] && moved { Ok(status) } else { Err(status["counts"].to_string()) }
    })
    .await;
    assert!(begun["moves"].as_array().unwrap().iter().all(|one| one["to"] == "g3"), "{begun}");
    atoll.run(&["rebalance", "policy", "--disable"]).await.expect(0).prints(&["off: "]);
    let ended = atoll.run(&["rebalance", "status", "--wait"]).await.expect(0);
    ended.prints(&["done: 3 of 3 moves done"]);
}

async fn groups_when(client: &Client, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    poll::until("the groups to be so", PATIENCE, async || {
        let groups = client.get("/v1/admin/groups").await.expect(200).json();
        let list = groups["groups"].as_array().unwrap().clone();
        if is_so(&list) { Ok(list) } else { Err(groups.to_string()) }
    })
    .await
}
