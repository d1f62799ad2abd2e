//! A fourth worker joins a cluster with data and gets its share, while clients write and search: no request fails. Carrying a plan
//! out can be paused, resumed and cancelled, and afterwards nothing is left to do.

#![allow(clippy::unwrap_used)]

use cluster_tests::moves::{GRAPH_SENT_AWAY, wait_nothing_left};
use cluster_tests::{Client, Cluster, ClusterOptions, CommandLine, fourth_worker, poll};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_worker_gets_its_share() {
    let mut cluster = Cluster::start(ClusterOptions::new("rebalances").uncached()).await;
    let client = cluster.client();
    let atoll = CommandLine::new(client.base());
    fourth_worker::fill(&client).await;
    assert_eq!(steer(&client, "status").await["state"], "none");
    client.post("/v1/admin/rebalance/resume", &json!({})).await.expect_problem(404, "operation-not-found");
    cluster.start_by_config("w4", &fourth_worker::configuration(&cluster));
    let plan = plan_when(&client, |plan| plan["report"]["moves"].as_array().unwrap().len() >= 2).await;
    let older = plan["plan_id"].clone();

    let clients = fourth_worker::Clients::begin(&client);
    what_cannot_be_applied(&client, &older).await;

    // Begun by the API, held after its first move, and cancelled.
    let plan = plan_when(&client, |_| true).await;
    apply(&client, &plan["plan_id"]).await.expect(200);
    apply(&client, &older).await.expect_problem(409, "move-in-progress");
    steer(&client, "pause").await;
    let held = status_when(&client, |status| status["counts"]["under_way"] == 0).await;
    assert!(held["state"] == "paused" && held["counts"]["waiting"].as_u64().unwrap() > 0, "{held}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(steer(&client, "status").await, held, "a pause holds");
    atoll.run(&["rebalance", "status"]).await.expect(0).prints(&["paused", "waiting", "g4"]);
    atoll.run(&["rebalance", "resume"]).await.expect(0).prints(&["running"]);
    status_when(&client, |status| status["counts"]["under_way"] == 1).await;
    atoll.run(&["rebalance", "cancel"]).await.expect(0);
    let cancelled = status_when(&client, |status| status["state"] == "cancelled").await;
    println!("cancelled: {}", cancelled["counts"]);
    apply(&client, &older).await.expect_problem(409, "stale-plan");

    // The rest by the command.
    let left = plan_when(&client, |plan| !plan["report"]["moves"].as_array().unwrap().is_empty()).await;
    assert!(
        left["report"]["moves"].as_array().unwrap().len()
            >= 2 - cancelled["counts"]["moved"].as_u64().unwrap() as usize
    );
    atoll.run(&["rebalance", "apply"]).await.expect(2);
    let run = atoll.run(&["rebalance", "apply", "--yes", "--max-parallel-moves", "2"]).await.expect(0);
    run.prints(&["done: ", "moved", "g4"]);
    plan_when(&client, |plan| plan["report"]["moves"] == json!([]) && of(plan, "g4") > 0).await;
    atoll.run(&["rebalance", "apply", "--yes"]).await.expect(0).prints(&["none: nothing is to do"]);

    clients.finish().await;
    wait_nothing_left(&cluster, &client).await;
    cluster.finish(&[GRAPH_SENT_AWAY]).await;
}

async fn what_cannot_be_applied(client: &Client, plan_id: &Value) {
    let body = json!({"plan_id": plan_id, "max_parallel_moves": 3});
    let problem = client.post("/v1/admin/rebalance/apply", &body).await.expect_problem(422, "validation-failed");
    assert_eq!(problem["errors"][0]["pointer"], "/max_parallel_moves", "{problem}");
    apply(client, &json!("unknown")).await.expect_problem(404, "operation-not-found");
}

async fn apply(client: &Client, plan_id: &Value) -> cluster_tests::client::Answer {
    client.post("/v1/admin/rebalance/apply", &json!({"plan_id": plan_id, "max_parallel_moves": 1})).await
}

async fn steer(client: &Client, what: &str) -> Value {
    let path = format!("/v1/admin/rebalance/{what}");
    match what {
        "status" => client.get(&path).await.expect(200).json(),
        _ => client.post(&path, &json!({})).await.expect(200).json(),
    }
}

async fn status_when(client: &Client, is_so: impl Fn(&Value) -> bool) -> Value {
    poll::until("the rebalance to get there", PATIENCE, async || {
        let status = steer(client, "status").await;
        if is_so(&status) { Ok(status) } else { Err(status.to_string()) }
    })
    .await
}

/// A plan made when four groups take part and all that was written is counted.
async fn plan_when(client: &Client, is_so: impl Fn(&Value) -> bool) -> Value {
    poll::until("such a plan", PATIENCE, async || {
        let plan = client.post("/v1/admin/rebalance/plan", &json!({})).await.expect(200).json();
        let told = plan["report"]["groups"].as_array().unwrap();
        let rows: u64 = told.iter().map(|group| group["before"]["rows"].as_u64().unwrap()).sum();
        let active = told.iter().filter(|group| group["state"] == "active").count();
        if active == 4 && rows >= 8_000 && is_so(&plan) { Ok(plan) } else { Err(plan["report"].to_string()) }
    })
    .await
}

fn of(plan: &Value, name: &str) -> u64 {
    let groups = plan["report"]["groups"].as_array().unwrap();
    groups.iter().find(|group| group["group"] == name).unwrap()["before"]["shards"].as_u64().unwrap()
}
