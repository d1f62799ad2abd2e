//! A write that is to be on a standby too, and is not, is never acknowledged; what asks for less does not wait.

#![allow(clippy::unwrap_used)]

use cluster_tests::client::Request;
use cluster_tests::entries::entry_path;
use cluster_tests::{Answer, Client, Cluster, ClusterOptions, poll, sql};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_millis(1_500);
/// Beyond the deadline, on a busy machine.
const SPARE: Duration = Duration::from_secs(5);
const STORED: &[&str] = &["put", "again", "gone", "patched", "keyed"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_copies() {
    let options = ClusterOptions { workers: 1, shards: 1, ..ClusterOptions::new("waits_for_copies") };
    let cluster = Cluster::start(options).await;
    let client = cluster.client();
    let owner = cluster.layout().workers[0].owner_dsn();
    for (collection, durability) in [("careful", "quorum"), ("quick", "local"), ("scratch", "ephemeral")] {
        let settings = json!({"dimensions": null, "durability": durability});
        client.put(&format!("/v1/collections/{collection}"), &settings).await.expect(201);
        client.wait_until_active(collection).await;
    }
    for key in STORED {
        client.put(&entry_path("careful", "n", key), &json!({"value": "before"})).await.expect(201);
    }
    let keyed = || {
        let path = entry_path("careful", "n", "keyed");
        write(&client, Method::PUT, &path).json(&json!({"value": "once"})).header("Idempotency-Key", "k1")
    };
    keyed().send().await.expect(200);

    count_standbys(&owner, "ANY 1 (nobody)").await;
    nothing_is_acknowledged(&client).await;
    // The key's own claim is waited for first: so far nothing of the write itself was tried.
    in_time(keyed()).await.expect_problem(504, "deadline-exceeded");
    what_is_cancelled_by_others_is_in_doubt(&client, &owner).await;
    less_is_acknowledged_at_once(&client).await;
    // The agent's own work goes on as well.
    client.put("/v1/collections/later", &json!({"dimensions": null, "durability": "local"})).await.expect(201);
    client.wait_until_active("later").await;

    an_import_waits(&client, &owner).await;
    assert_eq!(keyed().send().await.expect(200).json()["results"][0]["version"], 2, "it happened once");
    for key in STORED {
        client.put(&entry_path("careful", "n", key), &json!({"value": "after"})).await;
        let answer = client.get(&entry_path("careful", "n", key)).await.expect(200).json();
        assert_eq!(answer["value"], "after");
    }
    for collection in ["quick", "scratch"] {
        client.get(&entry_path(collection, "n", "k")).await.expect(200);
    }
    cluster.finish(&["outcome of the write is unknown", "the deadline passed", "gave no answer"]).await;
}

/// Every way to write to a collection of `quorum` ends at its deadline, also where there is nothing to change.
async fn nothing_is_acknowledged(client: &Client) {
    let entry = |key: &str, value: &str| json!({"namespace": "n", "key": key, "value": value});
    let entries = "/v1/collections/careful/entries";
    let delete = "/v1/collections/careful/entries/delete";
    let writes = [
        (Method::PUT, entry_path("careful", "n", "new"), json!({"value": "x"})),
        (Method::PUT, entry_path("careful", "n", "put"), json!({"value": "changed"})),
        (Method::PUT, entry_path("careful", "n", "again"), json!({"value": "before"})),
        (Method::PATCH, entry_path("careful", "n", "patched"), json!({"metadata": {"changed": true}})),
        (Method::PATCH, entry_path("careful", "n", "again"), json!({"value": "before"})),
        (Method::DELETE, entry_path("careful", "n", "gone"), Value::Null),
        (Method::DELETE, entry_path("careful", "n", "gone"), Value::Null),
        (Method::POST, entries.to_owned(), json!({"entries": [entry("again", "before"), entry("more", "x")]})),
        (Method::POST, entries.to_owned(), json!({"entries": [entry("again", "before")], "mode": "update_only"})),
        (Method::POST, delete.to_owned(), json!({"ids": [{"namespace": "n", "key": "never"}]})),
        (Method::POST, delete.to_owned(), json!({"namespace": "none"})),
    ];
    for (method, path, body) in writes {
        let told = format!("{method} {path} {body}");
        let request = write(client, method, &path);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = in_time(request).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (504, "write-outcome-unknown"),
            "{told}: {}",
            answer.text()
        );
    }
}

/// PostgreSQL takes a cancelled wait for a success, with a warning.
async fn what_is_cancelled_by_others_is_in_doubt(client: &Client, owner: &str) {
    let entry = json!({"entries": [{"namespace": "n", "key": "cancelled", "value": "x"}]});
    let path = "/v1/collections/careful/entries";
    for stop in ["pg_cancel_backend", "pg_terminate_backend"] {
        let request = client.request(Method::POST, path).json(&entry).header("X-Timeout-Ms", "30000");
        let began = Instant::now();
        let call = format!("{stop}(pid)");
        let (answer, ()) = tokio::join!(request.send(), for_those_who_wait(owner, &call));
        answer.expect_problem(504, "write-outcome-unknown");
        assert!(began.elapsed() < Duration::from_secs(25), "{stop}: told by the warning, not by the deadline");
    }
}

/// An import counts no row as written that waits, and goes on when it need not wait any more.
async fn an_import_waits(client: &Client, owner: &str) {
    let waited = async {
        for_those_who_wait(owner, "pid").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let waits = sql::rows(owner, &waiting("pid")).await;
        count_standbys(owner, "").await;
        waits.len()
    };
    let lines = r#"{"namespace":"n","key":"imported","value":"x"}"#;
    let (last, waits) = tokio::join!(client.import("careful", lines), waited);
    assert_eq!((&last["written"], waits), (&json!(1), 1), "{last}");
    client.get(&entry_path("careful", "n", "imported")).await.expect(200);
}

/// Waits until a commit waits for standbys, and calls something for it.
async fn for_those_who_wait(owner: &str, call: &str) {
    poll::until("a commit to wait", Duration::from_secs(20), async || {
        let called = sql::rows(owner, &waiting(call)).await;
        if called.is_empty() { Err("nobody waits".to_owned()) } else { Ok(()) }
    })
    .await;
}

fn waiting(call: &str) -> String {
    format!("select {call} from pg_stat_activity where wait_event = 'SyncRep'")
}

async fn less_is_acknowledged_at_once(client: &Client) {
    for collection in ["quick", "scratch"] {
        let path = entry_path(collection, "n", "k");
        let put = || write(client, Method::PUT, &path).json(&json!({"value": "x"}));
        in_time(put()).await.expect(201);
        in_time(put()).await.expect(200);
        in_time(put().header("Idempotency-Key", format!("k-{collection}"))).await.expect(200);
        in_time(put().header("Idempotency-Key", format!("k-{collection}"))).await.expect(200);
    }
}

fn write<'a>(client: &'a Client, method: Method, path: &str) -> Request<'a> {
    client.request(method, path).header("X-Timeout-Ms", DEADLINE.as_millis().to_string())
}

async fn in_time(request: Request<'_>) -> Answer {
    let began = Instant::now();
    let answer = request.send().await;
    assert!(began.elapsed() < DEADLINE + SPARE, "it took {:?}: {}", began.elapsed(), answer.text());
    answer
}

/// Sets whom the server waits for, and waits until it does.
async fn count_standbys(owner: &str, names: &str) {
    // Its own commits must not wait: `alter system` writes a file and no log.
    sql::rows(owner, &format!("alter system set synchronous_standby_names = '{names}'")).await;
    sql::rows(owner, "select pg_reload_conf()").await;
    poll::until("the server to count standbys", Duration::from_secs(10), async || {
        let now = sql::rows(owner, "select current_setting('synchronous_standby_names')").await;
        if now == [names] { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
}
