//! A coordinator tells machines what it is and how it fares; it says no before it is swamped, and stops without breaking off what
//! is under way.

#![allow(clippy::unwrap_used)]

use cluster_tests::processes::{signal, wait_gone};
use cluster_tests::slow_import::SlowImport;
use cluster_tests::{Answer, Client, Cluster, ClusterOptions, poll};
use futures::future::join_all;
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const SEARCH: &str = "/v1/collections/points/search";
const PATIENCE: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(8);
const CONCURRENCY: usize = 4;
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describes_itself() {
    let options = ClusterOptions::new("describes_itself")
        .uncached()
        .environment("ATOLL__LIMITS__CONCURRENCY", CONCURRENCY.to_string())
        .environment("ATOLL__LIMITS__STREAMS", "1")
        .environment("ATOLL__SERVER__DRAIN_MS", DRAIN.as_millis().to_string());
    let mut cluster = Cluster::start(options).await;
    let client = cluster.client();
    client.put("/v1/collections/points", &json!({"dimensions": 2})).await.expect(201);

    routes_are_those_of_the_documentation(&client).await;
    service_endpoints_answer(&client).await;
    members_are_listed(&client).await;
    metrics_count_what_happened(&client).await;
    every_answer_names_its_request(&client).await;
    more_than_it_can_do_is_refused_at_once(&cluster, &client).await;
    one_stream_at_a_time_where_one_is_allowed(&client).await;
    what_is_under_way_is_finished_before_it_stops(&mut cluster).await;
    what_does_not_end_does_not_hold_it_up(&mut cluster).await;
    cluster.finish(&["requests under way did not finish in time", "import ended early", "not registered"]).await;
}

async fn routes_are_those_of_the_documentation(client: &Client) {
    let answer = client.get("/openapi.json").await.expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let api = answer.json();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"), "{}", api["openapi"]);
    assert_eq!(api["info"]["title"], "Atoll");
    let mut described = BTreeSet::new();
    let mut names = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{} {path}", method.to_uppercase());
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {operation}");
            assert!(operation["responses"]["200"].is_object(), "{what}: {operation}");
            let default = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert!(default.is_object() || !path.starts_with("/v1/"), "{what} hides how it fails: {operation}");
            let name = operation["operationId"].as_str().map(str::to_owned);
            assert!(names.insert(name.clone()), "{name:?} names two operations");
            described.insert(what);
        }
    }
    let mut documented = documented_routes();
    // What describes and what is no JSON is not described itself.
    for service in ["GET /metrics", "GET /openapi.json"] {
        assert!(documented.remove(service), "{service} is documented");
    }
    assert_eq!(described, documented);
    let mut references = BTreeSet::new();
    collect_references(&api, &mut references);
    assert!(!references.is_empty());
    references.retain(|reference| reference.strip_prefix('#').and_then(|pointer| api.pointer(pointer)).is_none());
    assert!(references.is_empty(), "these lead nowhere: {references:?}");
    // Each is there: asked for what nobody wrote, none of them is unknown.
    for route in described.iter().filter_map(|route| route.strip_prefix("GET ")) {
        let path = route.replace("{c}", "points").replace("{ns}", "n").replace("{key}", "k").replace("{id}", "1");
        let answer = client.get(&path).await;
        let nobody_made_it = ["entry-not-found", "move-not-found", "operation-not-found"];
        let known = answer.status == 200 || nobody_made_it.contains(&answer.code().as_str());
        assert!(known, "{path}: {}", answer.text());
    }
    let operand = &api["components"]["schemas"]["Clause"]["properties"]["eq"];
    assert!(operand.is_object() && operand.get("type").is_none(), "a scalar, or null, is compared with: {operand}");
}

/// The routes in the code blocks of docs/api.md: methods, then the path they go with.
fn documented_routes() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut routes = BTreeSet::new();
    let blocks = text.split("```").skip(1).step_by(2);
    for line in blocks.flat_map(str::lines).filter(|line| METHODS.iter().any(|method| line.starts_with(method))) {
        let mut methods: Vec<&str> = Vec::new();
        let mut path_seen = false;
        for word in line.split_whitespace().filter(|word| *word != "|") {
            if METHODS.contains(&word) {
                if std::mem::take(&mut path_seen) {
                    methods.clear();
                }
                methods.push(word);
            } else if word.starts_with('/') {
                path_seen = true;
                let path = word.split('?').next().unwrap();
                routes.extend(methods.iter().map(|method| format!("{method} {path}")));
            } else {
                break;
            }
        }
    }
    routes
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn service_endpoints_answer(client: &Client) {
    assert_eq!(client.get("/healthz").await.expect(200).text(), "ok\n");
    assert_eq!(client.get("/readyz").await.expect(200).json(), json!({"ready": true, "reasons": []}));
    let version = client.get("/version").await.expect(200).json();
    assert_eq!(version, json!({"name": "atoll", "version": env!("CARGO_PKG_VERSION")}));
    assert_eq!(client.get("/v1/admin/cluster").await.expect(200).json()["build"], version["version"]);
    let refused = client.post("/healthz", &json!({})).await;
    assert_eq!(refused.header("allow").replace("HEAD", "").replace(',', ""), "GET", "{:?}", refused.headers);
    refused.expect_problem(405, "method-not-allowed");
}

async fn members_are_listed(client: &Client) {
    let list =
        async |path: &str, what: &str| client.get(path).await.expect(200).json()[what].as_array().unwrap().clone();
    let groups = list("/v1/admin/groups", "groups").await;
    let shards: u64 = groups.iter().map(|group| group["shards"].as_u64().unwrap()).sum();
    assert_eq!((groups.len(), shards), (3, 12), "{groups:?}");
    let of_one = list("/v1/admin/shards?group=g1", "shards").await;
    assert!(of_one.len() == 4 && of_one.iter().all(|shard| shard["group"] == "g1"), "{of_one:?}");
    let workers = list("/v1/admin/workers", "workers").await;
    assert_eq!(workers.len(), 3, "{workers:?}");
    for worker in workers {
        let known = (&worker["up"], &worker["mode"], &worker["role"]);
        assert_eq!(known, (&json!(true), &json!("managed"), &json!("primary")), "{worker}");
        assert!(["postgres", "pgvector"].iter().all(|what| worker[*what].as_str() > Some("")), "{worker}");
    }
    let cluster = client.get("/v1/admin/cluster").await.expect(200).json();
    assert_eq!((&cluster["leader"], &cluster["shard_count"]), (&cluster["answered_by"], &json!(12)), "{cluster}");
}

async fn metrics_count_what_happened(client: &Client) {
    let entries: Vec<Value> = (0..100)
        .map(|i| json!({"namespace": format!("n{}", i % 10), "key": i.to_string(), "vector": [1, i]}))
        .collect();
    client.post("/v1/collections/points/entries", &json!({"entries": entries})).await.expect(200);
    let before = Metrics::read(client).await;
    for _ in 0..3 {
        client.post(SEARCH, &json!({"vector": [1, 1], "k": 4, "all": true})).await.expect(200);
        client.post(SEARCH, &json!({"vector": [1, 1], "k": 2, "namespaces": ["n1"]})).await.expect(200);
    }
    for wrong in ["/v1/nothing/1", "/v1/nothing/2", "/nothing"] {
        client.get(wrong).await.expect(404);
    }
    let after = Metrics::read(client).await;
    let grown = |name: &str, labels: &[&str]| after.sum(name, labels) - before.sum(name, labels);
    assert_eq!(grown("vector_search_duration_seconds_count", &[]), 6.0, "{}", after.text);
    assert!(grown("vector_search_duration_seconds_sum", &[]) > 0.0, "{}", after.text);
    assert_eq!(grown("vector_search_results_total", &[]), 18.0, "{}", after.text);
    // Twelve shards, three times; one shard, three times.
    assert_eq!(grown("shard_query_latency_seconds_count", &["shard_id", "query_type"]), 39.0, "{}", after.text);
    let route = r#"route="/v1/collections/{c}/search""#;
    assert_eq!(grown("atoll_http_requests_total", &[route, r#"status="200""#]), 6.0, "{}", after.text);
    assert_eq!(grown("atoll_http_request_duration_seconds_count", &[route]), 6.0, "{}", after.text);
    // However many wrong paths are tried, they are one line.
    assert_eq!(grown("atoll_http_requests_total", &[r#"route="none""#, r#"status="404""#]), 3.0, "{}", after.text);
    assert_eq!(after.count("atoll_http_requests_total", &[r#"route="none""#]), 1, "{}", after.text);
    assert_eq!(after.sum("atoll_entries_written_total", &[r#"outcome="created""#]), 100.0, "{}", after.text);
    assert_eq!(after.count("db_connections_max", &["worker"]), 3, "{}", after.text);
    for name in ["db_connections_active", "db_connections_idle"] {
        assert!(after.count(name, &["worker"]) == 3 && after.sum(name, &[]) >= 0.0, "{name}: {}", after.text);
    }
    assert!(after.sum("db_connections_idle", &[]) >= 1.0, "{}", after.text);
    assert_eq!(after.sum("atoll_worker_up", &[]), 3.0, "{}", after.text);
    assert_eq!(after.sum("atoll_raft_leader", &[]), 1.0, "{}", after.text);
    let version = client.get("/v1/admin/cluster").await.json()["catalog_version"].as_f64().unwrap();
    assert_eq!(after.sum("atoll_catalog_version", &[]), version, "{}", after.text);
    assert_eq!(after.count("shard_size_bytes", &["shard_id"]), 12, "{}", after.text);
    // Agents count now and then.
    poll::until("rows and bytes to be counted", PATIENCE, async || {
        let now = Metrics::read(client).await;
        let (rows, bytes) = (now.sum("shard_row_count", &["shard_id"]), now.sum("shard_size_bytes", &["shard_id"]));
        if rows == 100.0 && bytes > 0.0 { Ok(()) } else { Err(format!("{rows} rows, {bytes} bytes")) }
    })
    .await;
}

/// Prometheus' text, taken apart.
struct Metrics {
    text: String,
    values: BTreeMap<String, f64>,
}

impl Metrics {
    async fn read(client: &Client) -> Self {
        let answer = client.get("/metrics").await.expect(200);
        assert!(answer.header("content-type").starts_with("text/plain"), "{:?}", answer.headers);
        let text = answer.text();
        let mut values = BTreeMap::new();
        let mut told = BTreeSet::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                told.extend(comment.split_whitespace().nth(1).map(str::to_owned));
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(told.contains(name) || base.is_some_and(|base| told.contains(base)), "no help: {line}");
            assert!(values.insert(series.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
        Self { text, values }
    }

    /// Series of a name that have all of these in their labels.
    fn of<'a>(&'a self, name: &'a str, labels: &'a [&str]) -> impl Iterator<Item = f64> + 'a {
        let wanted = move |series: &str| {
            series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label))
        };
        self.values.iter().filter(move |(series, _)| wanted(series)).map(|(_, value)| *value)
    }

    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.of(name, labels).sum()
    }

    fn count(&self, name: &str, labels: &[&str]) -> usize {
        self.of(name, labels).count()
    }
}

async fn every_answer_names_its_request(client: &Client) {
    let longest = "r".repeat(128);
    let ids = ["a-7", longest.as_str()];
    for (path, status) in [("/healthz", 200), ("/v1/collections", 200), ("/v1/collections/none", 404), ("/none", 404)] {
        for id in ids {
            let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            let request = client.request(Method::GET, path).header("X-Request-Id", id).header("traceparent", trace);
            let answer = request.send().await.expect(status);
            assert_eq!((answer.header("x-request-id"), answer.header("traceparent")), (id, trace), "{path}");
            if status != 200 {
                assert_eq!((&answer.json()["request_id"], &answer.json()["instance"]), (&json!(id), &json!(path)));
            }
        }
        let too_long = "r".repeat(129);
        let mut given = BTreeSet::new();
        for id in [None, None, Some(too_long.as_str()), Some("")] {
            let mut request = client.request(Method::GET, path);
            if let Some(id) = id {
                request = request.header("X-Request-Id", id);
            }
            let answer = request.send().await.expect(status);
            let own = answer.header("x-request-id").to_owned();
            assert!(own.len() == 32 && own.bytes().all(|byte| byte.is_ascii_hexdigit()), "{path}: {own}");
            assert!(given.insert(own), "{path}: an id was given twice");
            assert_eq!(answer.header("traceparent"), "", "{path}");
        }
    }
}

async fn more_than_it_can_do_is_refused_at_once(cluster: &Cluster, client: &Client) {
    let refused = r#"status="429""#;
    let before = Metrics::read(client).await.sum("atoll_http_requests_total", &[refused]);
    let held = HeldTable::hold(cluster, client, "n1").await;
    let slow: Vec<JoinHandle<Answer>> = (0..CONCURRENCY).map(|_| search_slowly(client, "n1")).collect();
    held.wait_for_waiting(CONCURRENCY).await;

    let asked = Instant::now();
    let burst = join_all((0..20).map(|_| async {
        let answer = client.post(SEARCH, &json!({"vector": [1, 1], "namespaces": ["n2"]})).await;
        assert_eq!(answer.header("retry-after"), "1", "{:?}", answer.headers);
        let problem = answer.expect_problem(429, "overloaded");
        assert_eq!(problem["retryable"], true, "{problem}");
    }));
    burst.await;
    assert!(asked.elapsed() < Duration::from_secs(2), "a refusal took {:?}", asked.elapsed());
    for service in ["/healthz", "/readyz", "/metrics", "/version", "/openapi.json"] {
        client.get(service).await.expect(200);
    }
    held.release().await;
    for answer in join_all(slow).await {
        assert_eq!(answer.unwrap().expect(200).json()["hits"].as_array().unwrap().len(), 10);
    }
    client.post(SEARCH, &json!({"vector": [1, 1], "namespaces": ["n2"]})).await.expect(200);
    let after = Metrics::read(client).await.sum("atoll_http_requests_total", &[refused]);
    assert_eq!(after - before, 20.0);
}

async fn one_stream_at_a_time_where_one_is_allowed(client: &Client) {
    let first = SlowImport::begin(client, "points");
    first.send(lines(0..10)).await;
    first.answered().await;
    for (method, path) in [(Method::POST, "import"), (Method::GET, "export")] {
        let path = format!("/v1/collections/points/{path}");
        let answer = client.request(method, &path).body("application/x-ndjson", "").send().await;
        assert_eq!(answer.header("retry-after"), "1", "{:?}", answer.headers);
        answer.expect_problem(429, "overloaded");
    }
    // Streams do not take the places of other requests.
    client.post(SEARCH, &json!({"vector": [1, 1], "namespaces": ["n2"]})).await.expect(200);
    assert_eq!(first.end().await.unwrap()["written"], 10);
    let second = client.import("points", lines(10..20)).await;
    assert_eq!((&second["done"], &second["written"]), (&json!(true), &json!(10)), "{second}");
    assert_eq!(client.export("points", Some("import")).await.len(), 20);
}

async fn what_is_under_way_is_finished_before_it_stops(cluster: &mut Cluster) {
    // Clients of their own: an idle connection must hold nobody up, a busy one must not be cut.
    let client = cluster.client();
    client.get("/healthz").await.expect(200);
    let import = SlowImport::begin(&cluster.client(), "points");
    import.send(lines(20..1_520)).await;
    wait_for_count(&client, 1_020).await;
    let held = HeldTable::hold(cluster, &client, "n1").await;
    let search = search_slowly(&client, "n1");
    held.wait_for_waiting(1).await;

    let pid = cluster.layout().coordinators[0].pid;
    signal(pid, Signal::TERM);
    wait_refused(cluster).await;
    held.release().await;
    assert_eq!(search.await.unwrap().expect(200).json()["hits"].as_array().unwrap().len(), 10);
    import.send(lines(1_520..2_000)).await;
    let done = import.end().await.unwrap();
    assert_eq!(
        (&done["done"], &done["written"], &done["problem"]),
        (&json!(true), &json!(1_980), &Value::Null),
        "{done}"
    );
    let finished = Instant::now();
    wait_gone(&[pid]).await;
    assert!(finished.elapsed() < DRAIN, "nothing was under way any more, still it took {:?}", finished.elapsed());
    let told = poll::until("atoll dev to tell of the end", PATIENCE, async || {
        let text = std::fs::read_to_string(cluster.scratch().join("dev.err")).unwrap();
        let line = text.lines().find(|line| line.starts_with("coordinator-1 ended")).map(str::to_owned);
        line.ok_or(text)
    });
    let told = told.await;
    assert!(told.contains("exit status: 0"), "{told}");

    cluster.start_member("coordinator-1");
    cluster.wait_ready(1).await;
    assert_eq!(count(&cluster.client()).await, 2_000);
}

async fn what_does_not_end_does_not_hold_it_up(cluster: &mut Cluster) {
    let import = SlowImport::begin(&cluster.client(), "points");
    import.send(lines(2_000..2_010)).await;
    import.answered().await;
    let pid = cluster.extra_pid("coordinator-1").unwrap();
    let told = Instant::now();
    signal(pid, Signal::TERM);
    cluster.wait_ended("coordinator-1").await;
    let took = told.elapsed();
    assert!(took >= DRAIN && took < DRAIN + Duration::from_secs(10), "it took {took:?}");
    let last = import.end().await;
    assert!(last.is_err(), "an import that was cut off must not look whole: {last:?}");
    cluster.start_member("coordinator-1");
    cluster.wait_ready(1).await;
    let count = count(&cluster.client()).await;
    assert!((2_000..=2_010).contains(&count), "{count}");
}

/// A search that may wait long.
fn search_slowly(client: &Client, namespace: &str) -> JoinHandle<Answer> {
    let client = client.clone();
    let body = json!({"vector": [1, 1], "namespaces": [namespace]});
    tokio::spawn(async move {
        client.request(Method::POST, SEARCH).header("X-Timeout-Ms", "50000").json(&body).send().await
    })
}

/// Until new connections are refused: the coordinator is stopping.
async fn wait_refused(cluster: &Cluster) {
    poll::until("new connections to be refused", DRAIN / 2, async || {
        match tokio::net::TcpStream::connect(("127.0.0.1", cluster.first_port())).await {
            Ok(_) => Err("one was taken".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
}

async fn count(client: &Client) -> u64 {
    let path = "/v1/collections/points/entries/count";
    let answer = client.post(path, &json!({"namespace": "import"})).await.expect(200).json();
    answer["count"].as_u64().unwrap()
}

async fn wait_for_count(client: &Client, least: u64) {
    poll::until("rows of an import under way", PATIENCE, async || match count(client).await {
        enough if enough >= least => Ok(()),
        few => Err(format!("{few} of {least}")),
    })
    .await;
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    let line = |i: u32| format!("{}\n", json!({"namespace": "import", "key": i.to_string(), "vector": [1, i]}));
    numbers.map(line).collect()
}

/// The table of a namespace, locked so that whoever wants it waits.
struct HeldTable {
    server: tokio_postgres::Client,
}

impl HeldTable {
    async fn hold(cluster: &Cluster, client: &Client, namespace: &str) -> Self {
        let place = client.get(&format!("/v1/collections/points/namespaces/{namespace}")).await.expect(200).json();
        let workers = cluster.layout().workers;
        let worker = workers.iter().find(|worker| place["group"] == worker.group).unwrap();
        let (server, connection) = tokio_postgres::connect(&worker.dsn, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let schema = place["schema"].as_str().unwrap();
        let lock = format!("begin; lock table \"{schema}\".\"points\" in access exclusive mode");
        server.batch_execute(&lock).await.unwrap();
        Self { server }
    }

    async fn wait_for_waiting(&self, statements: usize) {
        let waiting = "select count(*) from pg_locks where not granted and relation is not null";
        poll::until("statements to wait for the table", PATIENCE, async || {
            match self.server.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) {
                enough if enough >= statements as i64 => Ok(()),
                few => Err(format!("{few} of {statements}")),
            }
        })
        .await;
    }

    async fn release(self) {
        self.server.batch_execute("rollback").await.unwrap();
    }
}
