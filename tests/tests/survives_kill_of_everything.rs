//! What was acknowledged is as it was acknowledged after every process was killed at once, three times over: entries made, changed
//! and deleted, one by one and in batches, and what an import said it had written.

#![allow(clippy::unwrap_used)]

use cluster_tests::client::Request;
use cluster_tests::poll;
use cluster_tests::slow_import::SlowImport;
use cluster_tests::traffic::{Asked, Traffic};
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const WRITERS: u64 = 4;
const ROUNDS: u64 = 3;
/// Acknowledged writes of a round that make its outcome mean something.
const ENOUGH: usize = 150;
const PATIENCE: Duration = Duration::from_secs(60);

/// What coordinators and agents say of servers that were killed and recover.
const EXPECTED: [&str; 10] = [
    "the agent does not answer",
    r#""code":"shard-unavailable""#,
    r#""code":"write-outcome-unknown""#,
    r#""code":"deadline-exceeded""#,
    "a shard's part of a batch was not written",
    "import ended early",
    "PostgreSQL died, starting it again",
    "desired state not applied",
    "the agent could not apply the desired state; will retry",
    "PostgreSQL does not serve",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_kill_of_everything() {
    let mut cluster = Cluster::start(ClusterOptions::new("survives_kill_of_everything")).await;
    let client = cluster.client();
    for collection in ["c", "imported"] {
        client.put(&format!("/v1/collections/{collection}"), &json!({"dimensions": 3})).await.expect(201);
    }
    let mut known = Known::default();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let begin = |number| {
            let writer = Writer { round, number };
            (writer, Traffic::begin(cluster.client(), move |client, step| writer.request(client, step)))
        };
        let writers: Vec<(Writer, Traffic)> = (0..WRITERS).map(begin).collect();
        let import = SlowImport::begin(&cluster.client(), "imported");
        for (_, traffic) in &writers {
            traffic.wait_for_successes(ENOUGH, PATIENCE).await;
        }
        let sent = send_until_some_is_written(&import, round).await;
        // In the middle of it.
        let (killed, written) = (Instant::now(), import.written());
        cluster.kill_everything().await;
        for (writer, traffic) in writers {
            // It was writing when everything was killed, and so it notices.
            traffic.wait_for_a_failure_since(killed, PATIENCE).await;
            let asked = traffic.end().await;
            acknowledged += asked.iter().filter(|one| one.succeeded()).count();
            known.learn(writer, &asked);
        }
        let last = import.end().await;
        assert!(last.is_err(), "an import that was cut off must not look whole: {last:?}");
        cluster.start_all().await;
        known.hold_against(&client.export("c", None).await);
        what_was_imported_is_there(&client, round, written, sent).await;
    }
    println!("{acknowledged} acknowledged writes outlived {ROUNDS} kills");
    cluster.finish(&EXPECTED).await;
}

/// One of those who write at the same time, each to entries of its own.
#[derive(Clone, Copy)]
struct Writer {
    round: u64,
    number: u64,
}

impl Writer {
    /// In turns: two entries are made by a batch, one is put, one patched, one deleted.
    fn request(self, client: &Client, step: u64) -> Request<'_> {
        let (turn, ids) = (step / 4, self.ids(step));
        let vector = [1.0 + turn as f32, self.number as f32, 0.5];
        let [first, second] = ids.map(|(namespace, key)| {
            (format!("/v1/collections/c/namespaces/{namespace}/entries/{key}"), namespace, key)
        });
        match step % 4 {
            0 => {
                let entry = |namespace: &str, key: &str| json!({"namespace": namespace, "key": key, "value": "made", "vector": vector});
                let entries = [entry(&first.1, &first.2), entry(&second.1, &second.2)];
                client.request(Method::POST, "/v1/collections/c/entries").json(&json!({"entries": entries}))
            }
            1 => client.request(Method::PUT, &first.0).json(&json!({"value": "put", "vector": vector})),
            2 => client.request(Method::PATCH, &first.0).json(&json!({"value": "patched"})),
            _ => client.request(Method::DELETE, &second.0),
        }
    }

    /// The two entries of a step: in many namespaces, so that every shard is written to.
    fn ids(self, step: u64) -> [(String, String); 2] {
        let Self { round, number } = self;
        let turn = step / 4;
        ["a", "b"].map(|which| (format!("r{round}-w{number}-{which}{}", turn % 20), turn.to_string()))
    }

    /// What a step makes of its entries, if it happens: their values, or nothing.
    fn effects(self, step: u64) -> Vec<((String, String), Option<&'static str>)> {
        let [first, second] = self.ids(step);
        match step % 4 {
            0 => vec![(first, Some("made")), (second, Some("made"))],
            1 => vec![(first, Some("put"))],
            2 => vec![(first, Some("patched"))],
            _ => vec![(second, None)],
        }
    }
}

/// What each entry may be: its value, or nothing. After an answer that was lost, what it was and what it should have become.
#[derive(Default)]
struct Known(BTreeMap<(String, String), BTreeSet<Option<&'static str>>>);

impl Known {
    fn learn(&mut self, writer: Writer, asked: &[Asked]) {
        for one in asked {
            for (place, (id, value)) in writer.effects(one.number).into_iter().enumerate() {
                let may_be = self.0.entry(id).or_insert_with(|| BTreeSet::from([None]));
                if one.wrote(place) {
                    may_be.clear();
                }
                may_be.insert(value);
            }
        }
    }

    fn hold_against(&self, stored: &[Value]) {
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
        let mut found = BTreeMap::new();
        for entry in stored {
            let id = (text(entry, "namespace"), text(entry, "key"));
            assert!(self.0.contains_key(&id), "nobody wrote {entry}");
            assert!(found.insert(id, text(entry, "value")).is_none(), "twice: {entry}");
        }
        for (id, may_be) in &self.0 {
            let found = found.get(id).map(String::as_str);
            assert!(may_be.contains(&found), "{id:?} is {found:?}, it may be {may_be:?}");
        }
    }
}

#[test]
fn of_a_batch_that_was_written_in_part_only_that_part_is_known() {
    let writer = Writer { round: 0, number: 0 };
    let (now, body) = (Instant::now(), r#"{"results":[{"status":"created"},{"status":"failed"}]}"#.to_owned());
    let batch = Asked { number: 0, sent: now, ended: now, outcome: Ok(207), body };
    let mut known = Known::default();
    known.learn(writer, &[batch]);
    let [first, second] = writer.ids(0);
    assert_eq!(known.0[&first], BTreeSet::from([Some("made")]));
    assert_eq!(known.0[&second], BTreeSet::from([None, Some("made")]));
}

/// Sends lines until the coordinator says that some are written, and then more, to be under way; gives how many were sent.
async fn send_until_some_is_written(import: &SlowImport, round: u64) -> u64 {
    let mut sent = 0;
    let mut send = async |more| {
        import.send(lines(round, sent..sent + more)).await;
        sent += more;
        sent
    };
    poll::until("an import to write", PATIENCE, async || {
        let sent = send(250).await;
        if import.written() > 0 { Ok(()) } else { Err(format!("{sent} lines sent")) }
    })
    .await;
    send(5_000).await
}

/// A namespace lies in one shard: its lines make batches soon.
fn lines(round: u64, numbers: std::ops::Range<u64>) -> String {
    let line = |i: u64| {
        format!(
            "{}\n",
            json!({"namespace": format!("r{round}"), "key": i.to_string(), "value": "imported", "vector": [1, i, 2]})
        )
    };
    numbers.map(line).collect()
}

async fn what_was_imported_is_there(client: &Client, round: u64, written: u64, sent: u64) {
    let count = async || {
        let body = json!({"namespace": format!("r{round}")});
        let answer = client.post("/v1/collections/imported/entries/count", &body).await.expect(200).json();
        answer["count"].as_u64().unwrap()
    };
    let there = count().await;
    assert!((written..=sent).contains(&there), "{there} entries, {written} said to be written, {sent} sent");
    println!("of an import {written} entries were said to be written, {there} are there");
    // Sending it again is safe.
    assert_eq!(client.import("imported", lines(round, 0..sent)).await["written"], sent);
    assert_eq!(count().await, sent);
}
