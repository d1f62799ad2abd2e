//! A group of three answers from any of its members: `eventual` searches from all of them, without one failure while the primary's
//! server and agent are killed and another takes over; `session` searches from standbys, each showing what the session wrote and
//! never less than it has shown before.

#![allow(clippy::unwrap_used)]

use cluster_tests::client::Request;
use cluster_tests::entries::entry_path;
use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::standbys::{self, PRIMARY_LOSS, group, whole};
use cluster_tests::traffic::Traffic;
use cluster_tests::{Client, Cluster, ClusterOptions, poll, sql};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const SEARCH: &str = "/v1/collections/c/search";
const TOKEN: &str = "x-session-token";
const ENTRIES: usize = 60;
const SESSIONS: usize = 2;
/// Answers, of each who asks, that make their order mean something.
const ENOUGH: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// What sessions go by, and what they have seen.
#[derive(Default)]
struct Sessions {
    done: AtomicBool,
    /// Searches that showed what they had to.
    held: AtomicUsize,
    /// Those of them that a standby answered.
    by_standbys: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_from_standbys() {
    let options = ClusterOptions::new("reads_from_standbys").workers(3).replicas(3).coordinators(2);
    let mut cluster = Cluster::start(options).await;
    let clients = [cluster.client_of(1), cluster.client_of(2)];
    clients[0].put("/v1/collections/c", &json!({"dimensions": 2})).await.expect(201);
    clients[1].wait_until_active("c").await;
    whole(&clients[0]).await;
    let entries: Vec<Value> = (0..ENTRIES)
        .map(|i| json!({"namespace": format!("n{}", i % 7), "key": i.to_string(), "value": "v", "vector": [1, i]}))
        .collect();
    clients[0].post("/v1/collections/c/entries", &json!({"entries": entries})).await.expect(200);

    all_members_answer(&cluster, &clients[0]).await;
    standbys_that_lag_answer_no_session(&cluster, &clients[0]).await;

    let sessions = Arc::new(Sessions::default());
    let mut tasks = JoinSet::new();
    for number in 0..SESSIONS {
        tasks.spawn(write_and_look(clients.clone(), sessions.clone(), number));
        tasks.spawn(only_look(clients.clone(), sessions.clone(), number));
    }
    let begin = |client: &Client| Traffic::begin(client.clone(), search_anywhere);
    let traffic: Vec<Traffic> = clients.iter().map(begin).collect();
    for one in &traffic {
        one.wait_for_successes(ENOUGH, PATIENCE).await;
    }
    held(&sessions, ENOUGH).await;
    let by_standbys = sessions.by_standbys.load(Ordering::Relaxed);
    assert!(by_standbys > ENOUGH / 2, "{by_standbys} searches of sessions were answered by standbys");

    let primary = standbys::primary(&clients[0], "g1").await;
    let lost = cluster.layout().workers.into_iter().find(|worker| worker.name == primary).unwrap();
    cluster.kill_worker(&lost).await;
    for one in &traffic {
        one.wait_for_successes(ENOUGH, PATIENCE).await;
    }
    poll::until("another primary", PATIENCE, async || {
        let group = group(&clients[0], "g1").await;
        if group["primary"] != primary && group["phase"] == "steady" { Ok(()) } else { Err(group.to_string()) }
    })
    .await;
    held(&sessions, ENOUGH).await;
    cluster.start_member(&lost.name);
    whole(&clients[0]).await;
    assert_ne!(standbys::primary(&clients[0], "g1").await, lost.name);
    held(&sessions, ENOUGH).await;

    for (number, one) in (1..).zip(traffic) {
        let asked = one.end().await;
        let failed: Vec<_> = asked.iter().filter(|one| !one.succeeded()).collect();
        println!("coordinator {number}: {} eventual searches, {} failed", asked.len(), failed.len());
        assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), asked.len(), failed.first());
    }
    sessions.done.store(true, Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let (held, by_standbys) = (sessions.held.load(Ordering::Relaxed), sessions.by_standbys.load(Ordering::Relaxed));
    println!("{held} searches of sessions held, {by_standbys} answered by standbys");
    let lost = [r#""code":"shard-unavailable""#, "\"target\":\"openraft::"];
    cluster.finish(&[&lost[..], &PRIMARY_LOSS, &WORKER_LOSS].concat()).await;
}

/// `eventual` searches are answered by each member, `primary` ones by the primary alone.
async fn all_members_answer(cluster: &Cluster, client: &Client) {
    let primary = standbys::primary(client, "g1").await;
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..ENOUGH {
        let answer = search_anywhere(client, number as u64).send().await.expect(200).json();
        assert_eq!(answer["hits"].as_array().unwrap().len(), 10, "{answer}");
        for shard in answer["explain"]["shards"].as_array().unwrap() {
            let (worker, role) = (shard["worker"].as_str().unwrap(), shard["role"].as_str().unwrap());
            assert_eq!(role == "primary", worker == primary, "{shard}");
            *answered.entry(worker.to_owned()).or_default() += 1;
        }
        let body = json!({"vector": [1, 0], "all": true, "explain": true});
        let answer = client.post(SEARCH, &body).await.expect(200).json();
        let shards = answer["explain"]["shards"].as_array().unwrap().iter();
        assert!(shards.into_iter().all(|shard| shard["worker"] == primary.as_str()), "{answer}");
    }
    println!("shards answered: {answered:?}, the primary is {primary}");
    assert_eq!(answered.len(), 3, "{answered:?}");
    let by_standbys: usize = answered.iter().filter(|(worker, _)| **worker != primary).map(|(_, count)| count).sum();
    assert!(by_standbys * 8 > answered.values().sum(), "standbys have their share: {answered:?}");
    for standby in standbys(cluster, &primary) {
        // The server's own word for it, which it gives some seconds later.
        let scans = "select sum(coalesce(idx_scan, 0) + coalesce(seq_scan, 0)) from pg_stat_user_tables \
                     where relname = 'c' and pg_is_in_recovery()";
        poll::until("a standby to count scans", PATIENCE, async || {
            let scans = sql::rows(&standby, scans).await;
            if scans.first().is_some_and(|sum| sum != "0") { Ok(()) } else { Err(format!("{scans:?}")) }
        })
        .await;
    }
}

/// While no standby replays, they show what was there before to who takes that, and the primary answers sessions.
async fn standbys_that_lag_answer_no_session(cluster: &Cluster, client: &Client) {
    let (path, namespaces) = (entry_path("c", "lag", "k"), json!(["lag"]));
    let search = |consistency: &str, token: Option<String>| {
        let body = json!({
            "vector": [1, 0], "namespaces": namespaces, "include": [], "consistency": consistency, "explain": true,
        });
        let request = with_token(client.request(Method::POST, SEARCH).json(&body), &token);
        async move {
            let answer = request.send().await.expect(200).json();
            let role = answer["explain"]["shards"][0]["role"].as_str().unwrap().to_owned();
            (answer["hits"][0]["version"].as_u64(), role)
        }
    };
    let before = client.put(&path, &json!({"vector": [1, 1]})).await.expect(201).header(TOKEN).to_owned();
    poll::until("a standby to answer a session", PATIENCE, async || {
        let (version, role) = search("session", Some(before.clone())).await;
        assert_eq!(version, Some(1));
        if role == "standby" { Ok(()) } else { Err(role) }
    })
    .await;
    let primary = standbys::primary(client, "g1").await;
    let standbys = standbys(cluster, &primary);
    for standby in &standbys {
        sql::rows(standby, "select pg_wal_replay_pause()").await;
        poll::until("replay to pause", PATIENCE, async || {
            let state = sql::rows(standby, "select pg_get_wal_replay_pause_state()").await;
            if state == ["paused"] { Ok(()) } else { Err(format!("{state:?}")) }
        })
        .await;
    }
    let token = client.put(&path, &json!({"vector": [1, 2]})).await.expect(200).header(TOKEN).to_owned();
    for _ in 0..3 {
        assert_eq!(search("session", Some(token.clone())).await, (Some(2), "primary".to_owned()));
        assert_eq!(search("session", Some(before.clone())).await, (Some(1), "standby".to_owned()), "it wants no more");
    }
    poll::until("a standby to show what was", PATIENCE, async || {
        let (version, role) = search("eventual", Some(token.clone())).await;
        assert_eq!(version, Some(if role == "standby" { 1 } else { 2 }));
        if role == "standby" { Ok(()) } else { Err(role) }
    })
    .await;
    for standby in &standbys {
        sql::rows(standby, "select pg_wal_replay_resume()").await;
    }
    poll::until("a standby to answer the session again", PATIENCE, async || {
        let (version, role) = search("session", Some(token.clone())).await;
        assert_eq!(version, Some(2));
        if role == "standby" { Ok(()) } else { Err(role) }
    })
    .await;
}

fn search_anywhere(client: &Client, number: u64) -> Request<'_> {
    let body = json!({
        "vector": [1, number % 90], "all": true, "k": 10, "include": ["value"], "consistency": "eventual", "explain": true,
    });
    client.request(Method::POST, SEARCH).json(&body)
}

/// Writes an entry time after time, and looks for it by the token that this gives, through the other coordinator.
async fn write_and_look(clients: [Client; 2], sessions: Arc<Sessions>, number: usize) {
    let (mut shown, mut token, mut turn) = (0, None, number);
    while !sessions.done.load(Ordering::Relaxed) {
        turn += 1;
        let body = json!({"vector": [number + 1, turn]});
        let path = entry_path("c", &name(number), "k");
        let written = with_token(clients[turn % 2].request(Method::PUT, &path).json(&body), &token);
        let Ok(answer) = written.try_send().await else { continue };
        if matches!(answer.status, 200 | 201) {
            shown = answer.json()["results"][0]["version"].as_u64().unwrap_or_else(|| panic!("{}", answer.text()));
            token = Some(answer.header(TOKEN).to_owned());
        }
        look(&clients[(turn + 1) % 2], &sessions, number, &mut shown, &mut token).await;
    }
}

/// Looks for what the other session of this number writes.
async fn only_look(clients: [Client; 2], sessions: Arc<Sessions>, number: usize) {
    let (mut shown, mut token, mut turn) = (0, None, number);
    while !sessions.done.load(Ordering::Relaxed) {
        turn += 1;
        look(&clients[turn % 2], &sessions, number, &mut shown, &mut token).await;
    }
}

/// What is found is no older than what this session wrote or was shown before. An entry's version counts the writes.
async fn look(client: &Client, sessions: &Sessions, number: usize, shown: &mut u64, token: &mut Option<String>) {
    let body = json!({
        "vector": [1, 0], "namespaces": [name(number)], "include": [], "consistency": "session", "explain": true,
    });
    let request = with_token(client.request(Method::POST, SEARCH).json(&body), token);
    // Nobody may be there to answer a session for a while.
    let Ok(answer) = request.try_send().await else { return };
    if answer.status != 200 {
        assert!(answer.status >= 500, "{}", answer.text());
        return;
    }
    let (answer, told) = (answer.json(), answer.header(TOKEN).to_owned());
    assert_eq!(answer["session"], told.as_str());
    let found = answer["hits"][0]["version"].as_u64().unwrap_or_default();
    assert!(found >= *shown, "{found} is found, {shown} was shown; token {token:?}: {answer}");
    (*shown, *token) = (found, Some(told));
    sessions.held.fetch_add(1, Ordering::Relaxed);
    let by_standby = answer["explain"]["shards"][0]["role"] == "standby";
    sessions.by_standbys.fetch_add(usize::from(by_standby), Ordering::Relaxed);
}

fn with_token<'a>(request: Request<'a>, token: &Option<String>) -> Request<'a> {
    match token {
        Some(token) => request.header(TOKEN, token),
        None => request,
    }
}

fn name(number: usize) -> String {
    format!("session-{number}")
}

/// Waits until so many more searches of sessions have shown what they had to.
async fn held(sessions: &Sessions, more: usize) {
    let wanted = sessions.held.load(Ordering::Relaxed) + more * SESSIONS * 2;
    poll::until("sessions to be answered", PATIENCE, async || match sessions.held.load(Ordering::Relaxed) {
        enough if enough >= wanted => Ok(()),
        few => Err(format!("{few} of {wanted}")),
    })
    .await;
}

/// How to connect to the standbys as the owner, whose password is the primary's: they are copies of it.
fn standbys(cluster: &Cluster, primary: &str) -> Vec<String> {
    let workers = cluster.layout().workers;
    let owner = workers.iter().find(|worker| worker.name == primary).unwrap().owner_dsn();
    let (user, _) = owner.split_once('@').unwrap();
    let at = |dsn: &str| format!("{user}@{}", dsn.split_once('@').unwrap().1);
    workers.iter().filter(|worker| worker.name != primary).map(|worker| at(&worker.dsn)).collect()
}
