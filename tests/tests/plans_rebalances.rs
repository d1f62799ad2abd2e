//! A worker joins a cluster that has data: a plan says what to move to it, why and at what cost, and moves nothing. One that is
//! gone again gets nothing.

#![allow(clippy::unwrap_used)]

use cluster_tests::fourth_worker;
use cluster_tests::processes::signal;
use cluster_tests::{Client, Cluster, ClusterOptions, CommandLine, poll};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

const PLAN: &str = "/v1/admin/rebalance/plan";
const PATIENCE: Duration = Duration::from_secs(60);

/// Plans that a coordinator keeps.
const KEPT: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_say_what_to_move_and_why() {
    let mut cluster = Cluster::start(ClusterOptions::new("plans_rebalances")).await;
    let client = cluster.client();
    let atoll = CommandLine::new(client.base());
    fourth_worker::fill(&client).await;
    let even = counted_plan(&client, "count", 3).await;
    assert_eq!((&even["report"]["moves"], &even["report"]["imbalance_before"]), (&json!([]), &json!(0.0)), "{even}");
    atoll.run(&["rebalance", "plan", "--by", "count"]).await.expect(0).prints(&[
        "none: nothing is to do",
        "by number of shards",
        "unmoved: 12 shards of 3 groups within the threshold",
    ]);

    let config = fourth_worker::configuration(&cluster);
    cluster.start_by_config("w4", &config);
    for by in ["count", "rows", "bytes"] {
        let plan = counted_plan(&client, by, 4).await;
        the_fourth_gets_its_share(&plan);
    }
    plans_move_nothing_and_are_kept(&client).await;
    people_and_programs_read_it(&atoll).await;
    nonsense_is_refused(&client).await;

    // Whoever stops answering gets nothing more.
    signal(cluster.extra_pid("w4").unwrap(), Signal::TERM);
    cluster.wait_ended("w4").await;
    let without = poll::until("the fourth to be out of reach", PATIENCE, async || {
        let plan = plan(&client, "bytes").await;
        let fourth = group(&plan, "g4");
        if fourth["state"] == "unreachable" { Ok(plan) } else { Err(fourth.to_string()) }
    })
    .await;
    let moves = without["report"]["moves"].as_array().unwrap();
    assert!(moves.iter().all(|one| one["to"] != "g4"), "{without}");
    cluster.finish(&["the agent does not answer"]).await;
}

async fn plan(client: &Client, by: &str) -> Value {
    client.post(PLAN, &json!({"by": by})).await.expect(200).json()
}

/// A plan made when so many groups take part and all rows are counted.
async fn counted_plan(client: &Client, by: &str, groups: usize) -> Value {
    poll::until("the agents to have told of everything", PATIENCE, async || {
        let plan = plan(client, by).await;
        let told = plan["report"]["groups"].as_array().unwrap();
        let rows: u64 = told.iter().map(|group| group["before"]["rows"].as_u64().unwrap()).sum();
        let active = told.iter().filter(|group| group["state"] == "active").count();
        if active == groups && rows == 8_000 { Ok(plan) } else { Err(plan["report"]["groups"].to_string()) }
    })
    .await
}

fn group<'a>(plan: &'a Value, name: &str) -> &'a Value {
    plan["report"]["groups"].as_array().unwrap().iter().find(|group| group["group"] == name).unwrap()
}

fn the_fourth_gets_its_share(plan: &Value) {
    let report = &plan["report"];
    let moves = report["moves"].as_array().unwrap();
    assert_eq!(report["imbalance_before"], 1.0, "it held nothing: {report}");
    assert!(report["imbalance_after"].as_f64().unwrap() <= 0.2, "{report}");
    assert!((1..=6).contains(&moves.len()), "no more than it takes: {report}");
    for one in moves {
        let figure = |name: &str| one[name].as_f64().unwrap();
        assert!(figure("to_after") < figure("from_before") && figure("from_after") > figure("to_before"), "{one}");
    }
    assert!(moves[0]["detail"].as_str().unwrap().contains("g4 is 100 % below the mean"), "{report}");
    let fourth = group(plan, "g4");
    assert_eq!((&fourth["before"]["shards"], &fourth["obstacle"]), (&json!(0), &Value::Null), "{fourth}");
    let sum = |of: &str| moves.iter().map(|one| one[of].as_u64().unwrap()).sum::<u64>();
    let cost = &report["cost"];
    assert_eq!((&cost["rows"], &cost["bytes"]), (&json!(sum("rows")), &json!(sum("bytes"))), "{cost}");
    assert!(sum("rows") > 0 && sum("bytes") > 0 && cost["minutes"].as_f64().unwrap() > 0.0, "{cost}");
    let staying: u64 = report["stays"].as_array().unwrap().iter().map(|stay| stay["shards"].as_u64().unwrap()).sum();
    assert_eq!(staying + moves.len() as u64, 12, "of each shard something is said: {report}");
}

async fn plans_move_nothing_and_are_kept(client: &Client) {
    let shards = async || client.get("/v1/admin/shards").await.expect(200).json();
    let owners = |shards: &Value| -> Vec<Value> {
        shards["shards"].as_array().unwrap().iter().map(|shard| shard["group"].clone()).collect()
    };
    let before = owners(&shards().await);
    let first = plan(client, "bytes").await;
    let version = client.get("/v1/admin/cluster").await.expect(200).json()["catalog_version"].clone();
    assert_eq!(first["catalog_version"], version);
    let path = format!("{PLAN}/{}", first["plan_id"].as_str().unwrap());
    assert_eq!(client.get(&path).await.expect(200).json(), first);
    for _ in 1..KEPT {
        assert_ne!(plan(client, "rows").await["plan_id"], first["plan_id"]);
    }
    client.get(&path).await.expect(200);
    plan(client, "rows").await;
    client.get(&path).await.expect_problem(404, "operation-not-found");
    assert_eq!(owners(&shards().await), before);
}

async fn people_and_programs_read_it(atoll: &CommandLine) {
    let people = atoll.run(&["rebalance", "plan"]).await.expect(0);
    people.prints(&[
        "imbalance     100 % now",
        "20 % allowed",
        "GROUP",
        "OF MEAN",
        "g4",
        "WHY",
        "below the mean",
        "cost",
    ]);
    let programs = atoll.json(&["rebalance", "plan", "--by", "rows", "--threshold", "0.5"]).await;
    assert_eq!((&programs["report"]["by"], &programs["report"]["threshold"]), (&json!("rows"), &json!(0.5)));
    for usage in [["--threshold", "2"], ["--threshold", "none"], ["--by", "colour"]] {
        atoll.run(&[&["rebalance", "plan"][..], &usage].concat()).await.expect(2);
    }
}

async fn nonsense_is_refused(client: &Client) {
    for (body, pointer) in [
        (json!({"threshold": 0}), "/threshold"),
        (json!({"threshold": 1.5}), "/threshold"),
        (json!({"by": "colour"}), "/by"),
        (json!({"colour": 1}), "/colour"),
    ] {
        let problem = client.post(PLAN, &body).await.expect_problem(422, "validation-failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let usual = client.post(PLAN, &json!({})).await.expect(200).json();
    assert_eq!((&usual["report"]["by"], &usual["report"]["threshold"]), (&json!("bytes"), &json!(0.2)), "{usual}");
}
