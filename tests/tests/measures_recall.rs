//! How good answers are: measured when asked, calibrated beside the traffic until searches go by it, and estimated from live ones.

#![allow(clippy::unwrap_used)]

use cluster_tests::command_line::CommandLine;
use cluster_tests::wordnet::{self, Sample};
use cluster_tests::{Client, Cluster, ClusterOptions, poll};
use serde_json::{Value, json};
use std::time::Duration;

const RECALL: &str = "/v1/collections/memory_entries/recall";
const SEARCH: &str = "/v1/collections/memory_entries/search";
const LARGE: &str = "large";
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measures_recall() {
    let options = ClusterOptions { shards: 2, ..ClusterOptions::new("measures_recall").workers(1).uncached() }
        .environment("ATOLL__SEARCH__CALIBRATION__QUERIES_PER_MINUTE", "6000")
        .environment("ATOLL__SEARCH__RECHECK_SHARE", "1");
    let cluster = Cluster::start(options).await;
    let client = cluster.client();
    let entries = stored(&client).await;

    scanned_namespaces_are_found_whole(&client).await;
    bad_requests_are_refused(&client).await;
    nothing_stored_is_no_error(&client).await;
    searches_go_by_what_was_measured(&client, &entries).await;
    live_searches_are_estimated(&client, &entries).await;
    the_command_line_shows_it(&CommandLine::new(client.base())).await;
    cluster.finish(&[]).await;
}

/// One namespace that gets a graph, and small ones.
async fn stored(client: &Client) -> Vec<Sample> {
    let name = |i: usize| if i < 2_400 { LARGE.to_owned() } else { format!("small-{}", i % 3) };
    let entries: Vec<Sample> = wordnet::sample()
        .into_iter()
        .take(2_700)
        .enumerate()
        .map(|(i, entry)| Sample { namespace: name(i), ..entry })
        .collect();
    let done = client.import("memory_entries", wordnet::ndjson(&entries)).await;
    assert_eq!(done["written"], 2_700, "{done}");
    entries
}

async fn scanned_namespaces_are_found_whole(client: &Client) {
    let body = json!({"sample": 20, "namespaces": ["small-0", "small-2"], "profiles": ["speed", "accuracy"]});
    let answer = client.post(RECALL, &body).await.expect(200).json();
    assert_eq!((&answer["sampled"], &answer["k"]), (&json!(20), &json!(10)), "{answer}");
    for (found, profile) in answer["profiles"].as_array().unwrap().iter().zip(["speed", "accuracy"]) {
        assert_eq!(
            (&found["profile"], &found["recall"], &found["worst"], &found["ef"]),
            (&json!(profile), &json!(1.0), &json!(1.0), &Value::Null),
            "{answer}"
        );
        let ms = |field: &str| found[field].as_f64().unwrap();
        assert!(0.0 < ms("p50_ms") && ms("p50_ms") <= ms("p95_ms") && ms("exact_p50_ms") > 0.0, "{answer}");
    }
    // More than there is: each entry once.
    let body = json!({"sample": 1_000, "namespaces": ["small-1"], "profiles": ["auto"], "k": 3, "scope": "all"});
    let answer = client.post(RECALL, &body).await.expect(200).json();
    assert_eq!(answer["sampled"], 100, "{answer}");
    assert!(answer["profiles"][0]["recall"].as_f64() > Some(0.9), "{answer}");
}

async fn bad_requests_are_refused(client: &Client) {
    for (body, pointers) in [
        (
            json!({"sample": 0, "k": 1_001, "namespaces": [], "profiles": []}),
            &["/sample", "/k", "/namespaces", "/profiles"][..],
        ),
        (json!({"sample": 1_001}), &["/sample"]),
        (json!({"profiles": ["speed", "speed"]}), &["/profiles"]),
        (json!({"profiles": ["fast"]}), &["/profiles/0"]),
        (json!({"scope": "five"}), &["/scope"]),
        (json!({"colour": 1}), &["/colour"]),
    ] {
        let problem = client.post(RECALL, &body).await.expect_problem(422, "validation-failed");
        let named: Vec<&Value> = problem["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
        assert_eq!(named, pointers, "{body}: {problem}");
    }
    client.post("/v1/collections/none/recall", &json!({})).await.expect_problem(404, "collection-not-found");
    client.get("/v1/collections/none/recall").await.expect_problem(404, "collection-not-found");
    client.put("/v1/collections/words", &json!({})).await.expect(201);
    client.post("/v1/collections/words/recall", &json!({})).await.expect_problem(422, "validation-failed");
}

async fn nothing_stored_is_no_error(client: &Client) {
    let answer = client.post(RECALL, &json!({"namespaces": ["nobody"]})).await.expect(200).json();
    assert_eq!(answer["sampled"], 0, "{answer}");
    let profiles = answer["profiles"].as_array().unwrap();
    assert!(profiles.len() == 3 && profiles.iter().all(|found| found["recall"].is_null()), "{answer}");
}

async fn searches_go_by_what_was_measured(client: &Client, entries: &[Sample]) {
    let tier = poll::until("a tier to be believed", PATIENCE, async || {
        let table = client.get(RECALL).await.expect(200).json();
        let believed = table["tiers"].as_array().unwrap().iter().find(|tier| tier["believed"] == true).cloned();
        believed.ok_or(table.to_string())
    })
    .await;
    assert_eq!((&tier["walks_from"], &tier["walks_until"], &tier["rows_until"]), (&json!(1), &json!(2), &json!(3_000)));
    let points = tier["points"].as_array().unwrap();
    let highest = points.last().unwrap();
    assert!(highest["recall"].as_f64() > Some(0.95) && highest["ms"].as_f64() > Some(0.0), "{tier}");
    // Measuring goes on until the tier is known well enough, and the best ef may change until then.
    poll::until("searches to take the measured ef", PATIENCE, async || {
        let table = client.get(RECALL).await.expect(200).json();
        for profile in ["speed", "balanced", "accuracy"] {
            let body = json!({"vector": entries[3].vector, "namespaces": [LARGE], "profile": profile, "include": []});
            let answer = client.post(SEARCH, &body).await.expect(200).json();
            let (taken, measured) = (&answer["plan"]["ef"], &table["tiers"][0]["ef"][profile]);
            if taken != measured {
                return Err(format!("{profile}: {taken} is not {measured}"));
            }
        }
        Ok(())
    })
    .await;
    let body = json!({"sample": 30, "namespaces": [LARGE], "profiles": ["accuracy"]});
    let answer = client.post(RECALL, &body).await.expect(200).json();
    let found = &answer["profiles"][0];
    assert!(found["recall"].as_f64() > Some(0.95) && found["ef"].is_u64(), "{answer}");
}

async fn live_searches_are_estimated(client: &Client, entries: &[Sample]) {
    let body = json!({"vector": entries[5].vector, "namespaces": [LARGE], "include": []});
    poll::until("a live search to be run again", PATIENCE, async || {
        client.post(SEARCH, &body).await.expect(200);
        let metrics = client.get("/metrics").await.expect(200).text();
        let series = ["recall_estimate{collection=\"memory_entries\",profile=\"balanced\"}", "recall_samples_total{"];
        if series.iter().all(|series| metrics.contains(series)) { Ok(()) } else { Err("no metric yet".to_owned()) }
    })
    .await;
    let table = client.get(RECALL).await.expect(200).json();
    let estimate = &table["estimates"][0];
    assert_eq!((&estimate["profile"], &estimate["promise"]), (&json!("balanced"), &json!(0.98)), "{table}");
    assert_eq!(client.get("/v1/admin/findings").await.expect(200).json(), json!({"findings": []}));
}

async fn the_command_line_shows_it(atoll: &CommandLine) {
    let shown = atoll.run(&["recall", "--sample", "5", "--namespace", "small-0"]).await.expect(0);
    shown.prints(&["PROFILE", "speed", "balanced", "accuracy", "1.0000"]).complains(&["5 entries searched for, k 10"]);
    let measured = atoll.json(&["recall", "--sample", "5", "--all", "--profile", "speed"]).await;
    assert_eq!((&measured["sampled"], &measured["profiles"][0]["profile"]), (&json!(5), &json!("speed")));
    atoll.run(&["recall", "--table"]).await.expect(0).prints(&["GRAPH ROWS", "0-2999", "balanced: recall"]);
}
