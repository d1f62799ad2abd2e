//! Beside writers and searchers that never rest, a search shows every write that was acknowledged before it began: by the coordinator that
//! took it, or by any other that is shown the writer's token. And the cache has its share of the answers.

#![allow(clippy::unwrap_used)]

use cluster_tests::entries::entry_path;
use cluster_tests::{Client, Cluster, ClusterOptions, poll};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

const NAMESPACES: usize = 4;
const WRITES: u64 = 60;
/// Searches between two writes of a namespace: the first misses, others may hit.
const SEARCHES_BETWEEN: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// What writers have been told last, by namespace: the number they wrote, and the token.
#[derive(Default)]
struct Told {
    last: Mutex<BTreeMap<usize, (u64, String)>>,
    done: AtomicBool,
    hits: AtomicUsize,
}

impl Told {
    fn last(&self) -> BTreeMap<usize, (u64, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_its_own_writes() {
    // Longer than the story: nothing becomes right by itself.
    let options = ClusterOptions::new("reads_its_own_writes").workers(2).coordinators(2);
    let cluster = Cluster::start(options.environment("ATOLL__CACHE__TTL_SECONDS", "3600")).await;
    let (first, second) = (cluster.client_of(1), cluster.client_of(2));
    first.put("/v1/collections/c", &json!({"dimensions": 2})).await.expect(201);
    second.wait_until_active("c").await;
    tokens_come_and_go(&first).await;

    let told = Arc::new(Told::default());
    let mut searchers = JoinSet::new();
    for number in 0..3 {
        searchers.spawn(search_always(first.clone(), told.clone(), number, false));
        searchers.spawn(search_always(second.clone(), told.clone(), number, true));
    }
    let mut writers = JoinSet::new();
    for namespace in 0..NAMESPACES {
        writers.spawn(write_and_look(first.clone(), told.clone(), namespace));
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    told.done.store(true, Ordering::Relaxed);
    while let Some(searcher) = searchers.join_next().await {
        searcher.unwrap();
    }
    assert!(told.hits.load(Ordering::Relaxed) > 100, "the cache had no part in it: {:?}", told.hits);
    a_session_is_served_from_the_cache_too(&second, &told).await;
    without_a_token_the_time_to_live_bounds_it(&cluster).await;
    cluster.finish(&["\"target\":\"openraft::"]).await;
}

/// Writes number after number, and looks for each through the same coordinator, without a token.
async fn write_and_look(client: Client, told: Arc<Told>, namespace: usize) {
    for number in 1..=WRITES {
        let path = entry_path("c", &name(namespace), "k");
        let body = json!({"vector": [1, 0.5], "value": number.to_string()});
        let answer = client.put(&path, &body).await.json();
        let token = answer["session"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned();
        told.last.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace, (number, token));
        for _ in 0..SEARCHES_BETWEEN {
            look(&client, &told, Some(namespace), None).await;
        }
    }
}

/// Searches one namespace after the other, and all of them; with the writers' tokens, and without so that there are answers in the
/// cache that nobody's token had a say in.
async fn search_always(client: Client, told: Arc<Told>, mut turn: usize, elsewhere: bool) {
    while !told.done.load(Ordering::Relaxed) {
        turn += 1;
        let namespace = Some(turn % (NAMESPACES + 1)).filter(|namespace| *namespace < NAMESPACES);
        match elsewhere {
            false => look(&client, &told, namespace, None).await,
            true if turn.is_multiple_of(3) => drop(search(&client, &told, namespace, None).await),
            true => look(&client, &told, namespace, Some(turn % NAMESPACES)).await,
        }
    }
}

/// Everything that was told before must be found: of all namespaces, or with a token of the namespace it is of.
async fn look(client: &Client, told: &Told, namespace: Option<usize>, token_of: Option<usize>) {
    let mut before = told.last();
    let token = token_of.and_then(|of| before.get(&of).map(|(_, token)| token.clone()));
    before.retain(|one, _| namespace.is_none_or(|namespace| namespace == *one));
    if let Some(of) = token_of {
        before.retain(|one, _| *one == of);
    }
    let answer = search(client, told, namespace, token.as_deref()).await;
    for (namespace, (number, _)) in before {
        let found = found(&answer, namespace);
        assert!(
            found >= Some(number),
            "{number} was told, {found:?} is found in {namespace}, token {token:?}: {answer}"
        );
    }
}

async fn search(client: &Client, told: &Told, namespace: Option<usize>, token: Option<&str>) -> Value {
    // Versions count the writes. Whoever wants more of an entry that is written all the time may be told that it changed meanwhile.
    let mut body = json!({"vector": [1, 0], "k": 10, "include": []});
    match namespace {
        Some(namespace) => body["namespaces"] = json!([name(namespace)]),
        None => body["all"] = json!(true),
    }
    let mut request = client.request(Method::POST, "/v1/collections/c/search").json(&body);
    if let Some(token) = token {
        request = request.header("x-session-token", token);
    }
    let answer = request.send().await.expect(200).json();
    assert_eq!(answer["session"], json!(token), "a search gives back the token it was sent");
    told.hits.fetch_add(usize::from(answer["cache"] == "hit"), Ordering::Relaxed);
    answer
}

fn name(namespace: usize) -> String {
    format!("n{namespace}")
}

fn found(answer: &Value, namespace: usize) -> Option<u64> {
    let hits = answer["hits"].as_array().unwrap();
    let hit = hits.iter().find(|hit| hit["namespace"] == json!(name(namespace)))?;
    hit["version"].as_u64()
}

/// When nothing is written any more, agents say so, and a session that has written last has its answers from the cache as well.
async fn a_session_is_served_from_the_cache_too(second: &Client, told: &Told) {
    for (namespace, (number, token)) in told.last() {
        poll::until("a session's answer from the cache", PATIENCE, async || {
            let answer = search(second, told, Some(namespace), Some(&token)).await;
            assert_eq!(found(&answer, namespace), Some(number), "{answer}");
            if answer["cache"] == "hit" { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
    }
}

/// What others wrote through other coordinators may be missing, but not with a token, and not without the cache.
async fn without_a_token_the_time_to_live_bounds_it(cluster: &Cluster) {
    let (first, second, told) = (cluster.client_of(1), cluster.client_of(2), Told::default());
    poll::until("an answer in the cache", PATIENCE, async || {
        let answer = search(&second, &told, Some(0), None).await;
        if answer["cache"] == "hit" { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
    let body = json!({"vector": [1, 0.5], "value": "1000"});
    let written = first.put(&entry_path("c", &name(0), "k"), &body).await.expect(200).json();
    let old = search(&second, &told, Some(0), None).await;
    assert_eq!((&old["cache"], found(&old, 0)), (&json!("hit"), Some(WRITES)), "it does not know better");
    let token = written["session"].as_str().unwrap();
    let new = search(&second, &told, Some(0), Some(token)).await;
    assert_eq!((&new["cache"], found(&new, 0)), (&json!("miss"), Some(WRITES + 1)));
    let bypass = json!({"vector": [1, 0], "namespaces": [name(0)], "include": [], "cache": "bypass"});
    let new = second.post("/v1/collections/c/search", &bypass).await.expect(200).json();
    assert_eq!(found(&new, 0), Some(WRITES + 1));
}

/// Writes of every kind tell a token, in the header and where there is room for it in the body, and take the one that was sent along.
async fn tokens_come_and_go(client: &Client) {
    let header = "x-session-token";
    let put = |namespace: &str, sent: &str| {
        let request = client.request(Method::PUT, &entry_path("c", namespace, "token"));
        let request = if sent.is_empty() { request } else { request.header(header, sent) };
        request.json(&json!({"vector": [1, 0], "value": "0"})).send()
    };
    let mut tokens = BTreeMap::new();
    // Enough for both groups to be among them.
    for namespace in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let answer = put(namespace, "").await.expect(201);
        assert_eq!(answer.json()["session"], answer.header(header));
        let group =
            client.get(&format!("/v1/collections/c/namespaces/{namespace}")).await.expect(200).json()["group"].clone();
        tokens.insert(group.to_string(), (namespace, answer.header(header).to_owned()));
    }
    let ((_, one), (namespace, two)) = (&tokens["\"g1\""], &tokens["\"g2\""]);
    let both = put(namespace, one).await.expect(200).header(header).to_owned();
    assert!(both.len() > one.len() && both.len() > two.len(), "{both} names both groups");

    let path = entry_path("c", "a", "token");
    for (method, path, body) in [
        (Method::GET, path.clone(), Value::Null),
        (
            Method::POST,
            "/v1/collections/c/entries/get".to_owned(),
            json!({"ids": [{"namespace": "a", "key": "token"}]}),
        ),
        (Method::POST, "/v1/collections/c/entries/count".to_owned(), json!({"namespace": "a"})),
    ] {
        let answer = client.request(method, &path).header(header, &both).json(&body).send().await.expect(200);
        assert_eq!(answer.header(header), both, "{path}");
    }
    let line = "{\"namespace\":\"a\",\"key\":\"imported\",\"vector\":[1,0],\"value\":\"0\"}\n";
    let imported = client.import("c", line).await;
    assert!(imported["session"].is_string(), "{imported}");
    for (path, body) in [
        (entry_path("c", "a", "imported"), Value::Null),
        (format!("/v1/collections/c/namespaces/{namespace}"), Value::Null),
    ] {
        let deleted = client.request(Method::DELETE, &path).header(header, one).json(&body).send().await.expect(200);
        assert!(!deleted.header(header).is_empty(), "{path}");
    }
    for wrong in ["x", "AQ", "not a token", &both[..both.len() - 2]] {
        for path in [path.as_str(), "/v1/collections", "/v1/collections/c/export"] {
            let refused = client.request(Method::GET, path).header(header, wrong).send().await;
            refused.expect_problem(400, "bad-session-token");
        }
    }
    for namespace in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        client.delete(&format!("/v1/collections/c/namespaces/{namespace}")).await.expect(200);
    }
}
