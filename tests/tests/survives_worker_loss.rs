//! A worker that is gone or hangs takes its own shards away and nothing else; when it is back, all is well by itself.

#![allow(clippy::unwrap_used)]

use atoll_proto::Metric;
use cluster_tests::cluster::WorkerPlace;
use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::poll;
use cluster_tests::processes::signal_tree;
use cluster_tests::wordnet::{self, Sample};
use cluster_tests::{Client, Cluster, ClusterOptions, oracle};
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const SEARCH: &str = "/v1/collections/memory_entries/search";
const ENTRIES: &str = "/v1/collections/memory_entries/entries";
/// What an answer may take beyond its deadline on a busy machine.
const GRACE: Duration = Duration::from_millis(700);

/// What coordinators say of requests that failed for a worker that is gone.
const FAILED: [&str; 7] = [
    "a search goes on without a shard",
    "a shard's part of a batch was not written",
    r#""code":"shard-unavailable""#,
    r#""code":"overloaded""#,
    r#""code":"deadline-exceeded""#,
    r#""code":"write-outcome-unknown""#,
    "export ended early",
];

/// Which shards a group owns, and a namespace on each group.
struct Places {
    shards: BTreeMap<String, BTreeSet<u64>>,
    group_of: BTreeMap<String, String>,
}

impl Places {
    async fn read(client: &Client, entries: &[Sample]) -> Self {
        let mut shards: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for shard in client.get("/v1/admin/shards").await.expect(200).json()["shards"].as_array().unwrap() {
            let group = shard["group"].as_str().unwrap().to_owned();
            shards.entry(group).or_default().insert(shard["shard"].as_u64().unwrap());
        }
        let mut group_of = BTreeMap::new();
        for namespace in entries.iter().map(|entry| entry.namespace.clone()).collect::<BTreeSet<_>>() {
            let shown =
                client.get(&format!("/v1/collections/memory_entries/namespaces/{namespace}")).await.expect(200).json();
            group_of.insert(namespace, shown["group"].as_str().unwrap().to_owned());
        }
        Self { shards, group_of }
    }

    /// A namespace that lies on the group, or on any other.
    fn namespace(&self, group: &str, on_it: bool) -> &str {
        let found = self.group_of.iter().find(|(_, owner)| (*owner == group) == on_it);
        found.map(|(namespace, _)| namespace.as_str()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_worker_loss() {
    let entries: Vec<Sample> = wordnet::sample().into_iter().take(800).collect();
    let mut cluster = Cluster::start(ClusterOptions::new("survives_worker_loss").uncached()).await;
    let client = cluster.client();
    assert_eq!(client.import("memory_entries", wordnet::ndjson(&entries)).await["written"], 800);
    let places = Places::read(&client, &entries).await;
    let layout = cluster.layout();

    let gone = &layout.workers[1];
    cluster.kill_worker(gone).await;
    the_rest_goes_on(&client, &entries, &places, &gone.group).await;
    it_is_told_who_is_gone(&client, gone).await;
    cluster.start_member(&gone.name);
    all_is_well_again(&client, &entries).await;

    let hangs = &layout.workers[2];
    signal_tree(hangs.postgres_pid, Signal::STOP);
    a_hang_ends_at_the_deadline(&client, &entries, &places, &hangs.group).await;
    signal_tree(hangs.postgres_pid, Signal::CONT);
    all_is_well_again(&client, &entries).await;
    assert_eq!(cluster.layout().coordinators[0].pid, layout.coordinators[0].pid, "no coordinator was started again");
    cluster.finish(&[&FAILED[..], &WORKER_LOSS].concat()).await;
}

#[track_caller]
fn failed_shards(answer: &Value) -> BTreeSet<u64> {
    answer["failures"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"))
        .iter()
        .map(|f| f["shard"].as_u64().unwrap())
        .collect()
}

async fn the_rest_goes_on(client: &Client, entries: &[Sample], places: &Places, group: &str) {
    let lost = &places.shards[group];
    let query = &entries[11].vector;
    let all = json!({"vector": query, "all": true, "exact": true, "include": []});
    let problem = client.post(SEARCH, &all).await.expect_problem(503, "shard-unavailable");
    assert_eq!(&failed_shards(&problem), lost, "{problem}");
    assert!(problem["failures"].as_array().unwrap().iter().all(|failure| failure["group"] == group), "{problem}");
    let text = problem.to_string().to_lowercase();
    for secret in ["select", "postgres", "127.0.0.1", "connection refused"] {
        assert!(!text.contains(secret), "a problem shows {secret}: {text}");
    }

    // Who accepts a part is told which.
    let mut partial = all.clone();
    partial["partial"] = json!({"allow": true, "min_coverage": 0.1});
    let answer = client.post(SEARCH, &partial).await.expect(200).json();
    assert_eq!((&answer["complete"], &answer["coverage"]["shards"]["total"]), (&json!(false), &json!(12)));
    assert_eq!(answer["coverage"]["shards"]["failed"], lost.len());
    assert_eq!(answer["coverage"]["shards"]["ok"], 12 - lost.len());
    assert_eq!(&failed_shards(&answer["coverage"]), lost);
    let truth = oracle::nearest(Metric::Cosine, query, entries, 10, |entry| places.group_of[&entry.namespace] != group);
    let keys: Vec<&str> = answer["hits"].as_array().unwrap().iter().map(|hit| hit["key"].as_str().unwrap()).collect();
    assert_eq!(keys, truth.iter().map(|one| one.key.as_str()).collect::<Vec<_>>());
    partial["partial"] = json!({"allow": true, "min_coverage": 0.9});
    client.post(SEARCH, &partial).await.expect_problem(503, "shard-unavailable");

    let (there, lost_one) = (places.namespace(group, false), places.namespace(group, true));
    let own = |namespace: &str| json!({"vector": query, "namespaces": [namespace]});
    client.post(SEARCH, &own(there)).await.expect(200);
    client.post(SEARCH, &own(lost_one)).await.expect_problem(503, "shard-unavailable");

    let put = |namespace: &str| format!("/v1/collections/memory_entries/namespaces/{namespace}/entries/new");
    let body = json!({"vector": query, "value": "written while a worker was gone"});
    client.put(&put(there), &body).await.expect(201);
    let started = Instant::now();
    let refused = client.put(&put(lost_one), &body).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "shard-unavailable"), "{}", refused.text());
    assert!(started.elapsed() < Duration::from_secs(2) + GRACE);
    let entry = |namespace: &str| json!({"namespace": namespace, "key": "batch", "vector": query});
    let answer = client.post(ENTRIES, &json!({"entries": [entry(lost_one), entry(there)]})).await.expect(207).json();
    assert_eq!(
        (&answer["results"][0]["status"], &answer["results"][1]["status"]),
        (&json!("failed"), &json!("created"))
    );
    assert_eq!(answer["results"][0]["problem"]["code"], "shard-unavailable");
    client.post(ENTRIES, &json!({"entries": [entry(lost_one)]})).await.expect_problem(503, "shard-unavailable");
    for key in ["new", "batch"] {
        let path = format!("/v1/collections/memory_entries/namespaces/{there}/entries/{key}");
        assert_eq!(client.delete(&path).await.expect(200).json(), json!({"deleted": 1}));
    }
    // Never a part where the whole was asked for.
    let delete = json!({"namespace": lost_one});
    client.post(&format!("{ENTRIES}/delete"), &delete).await.expect_problem(503, "shard-unavailable");
    let export = client.export("memory_entries", None).await;
    assert_eq!(export.last().unwrap()["problem"]["code"], "shard-unavailable", "an export in part says so");
}

async fn it_is_told_who_is_gone(client: &Client, gone: &WorkerPlace) {
    poll::until("readiness to name the group", Duration::from_secs(15), async || {
        let answer = client.get("/readyz").await;
        if answer.status == 503 && answer.text().contains(&gone.group) { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    let workers = client.get("/v1/admin/workers").await.expect(200).json();
    for worker in workers["workers"].as_array().unwrap() {
        assert_eq!(worker["up"], worker["worker"] != json!(gone.name), "{worker}");
    }
    let findings = client.get("/v1/admin/findings").await.expect(200).json();
    let worst = &findings["findings"][0];
    let told = (&worst["severity"], &worst["code"], &worst["subject"]);
    assert_eq!(told, (&json!("error"), &json!("worker-down"), &json!(format!("worker {}", gone.name))), "{findings}");
    client.get("/healthz").await.expect(200);
}

async fn all_is_well_again(client: &Client, entries: &[Sample]) {
    let query = &entries[11].vector;
    let truth = oracle::nearest(Metric::Cosine, query, entries, 10, |_| true);
    let body = json!({"vector": query, "all": true, "exact": true, "include": []});
    let answer = poll::until("all shards to answer", Duration::from_secs(40), async || {
        let answer = client.post(SEARCH, &body).await;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await;
    let keys: Vec<&str> = answer["hits"].as_array().unwrap().iter().map(|hit| hit["key"].as_str().unwrap()).collect();
    assert_eq!(keys, truth.iter().map(|one| one.key.as_str()).collect::<Vec<_>>());
    assert_eq!(client.export("memory_entries", None).await.len(), entries.len());
    poll::until("the coordinator to be ready", Duration::from_secs(20), async || {
        let answer = client.get("/readyz").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    poll::until("nothing to be wrong", Duration::from_secs(20), async || {
        let findings = client.get("/v1/admin/findings").await.expect(200).json();
        if findings == json!({"findings": []}) { Ok(()) } else { Err(findings.to_string()) }
    })
    .await;
}

async fn a_hang_ends_at_the_deadline(client: &Client, entries: &[Sample], places: &Places, group: &str) {
    let query = &entries[23].vector;
    let (there, hanging) = (places.namespace(group, false), places.namespace(group, true));
    let all = json!({"vector": query, "all": true, "include": []});
    let own = json!({"vector": query, "namespaces": [there], "include": []});
    // More searches than there are connections to the worker that hangs.
    let searches = (0..12).map(|_| async {
        let started = Instant::now();
        let answer = client.request(Method::POST, SEARCH).header("x-timeout-ms", "1500").json(&all).send().await;
        (answer, started.elapsed())
    });
    let healthy = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let started = Instant::now();
            client.post(SEARCH, &own).await.expect(200);
            slowest = slowest.max(started.elapsed());
        }
        slowest
    };
    let (answers, slowest) = tokio::join!(futures::future::join_all(searches), healthy);
    assert!(slowest < Duration::from_secs(1), "a search elsewhere took {slowest:?}");
    for (answer, took) in answers {
        // Whether a search had a connection and waited for an answer, or waited for a connection.
        assert_eq!((answer.status, answer.code().as_str()), (503, "shard-unavailable"), "{}", answer.text());
        assert_eq!(&failed_shards(&answer.json()), &places.shards[group], "{}", answer.text());
        assert!(took < Duration::from_millis(1_500) + GRACE, "took {took:?}");
    }
    // A part within the deadline, for those who accept it: with what has to be fetched after the shards have answered.
    for include in [json!([]), json!(["value", "metadata", "tags"])] {
        let partial = json!({"vector": query, "all": true, "include": include, "partial": {"allow": true}});
        let started = Instant::now();
        let asked = client.request(Method::POST, SEARCH).header("x-timeout-ms", "1000").json(&partial);
        let answer = asked.send().await.expect(200).json();
        assert!(started.elapsed() < Duration::from_secs(1) + GRACE, "took {:?}", started.elapsed());
        assert_eq!(&failed_shards(&answer["coverage"]), &places.shards[group]);
        let hits = answer["hits"].as_array().unwrap();
        assert_eq!((&answer["complete"], hits.len()), (&json!(false), 10));
        assert!(hits.iter().all(|hit| hit["value"].is_string() == (include != json!([]))), "{answer}");
    }

    let started = Instant::now();
    let path = format!("/v1/collections/memory_entries/namespaces/{hanging}/entries/{}", entries[0].key);
    let answer = client.request(Method::GET, &path).header("x-timeout-ms", "1000").send().await;
    assert!([503, 504].contains(&answer.status), "{}", answer.text());
    assert!(started.elapsed() < Duration::from_secs(1) + GRACE, "took {:?}", started.elapsed());
}
