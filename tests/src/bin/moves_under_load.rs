//! All shards of one group move to the others while three clients write to them and one searches: how long writes paused, by the
//! coordinator's word and as the clients saw it, how fast the bytes went, and whether anything failed, was lost or doubled.
//! Needs a cluster of `atoll dev` that holds the given entries.

use clap::Parser;
use cluster_tests::Client;
use cluster_tests::cluster::Layout;
use cluster_tests::moves::{begin, wait_for_phase, wait_over};
use cluster_tests::traffic::{Asked, Traffic, longest_gap};
use cluster_tests::wordnet::{self, Sample};
use http::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const COLLECTION: &str = "memory_entries";
const WRITERS: u64 = 3;
/// Keys that each writer writes to, in each namespace, by turns.
const KEYS: u64 = 20;

/// Moves all shards of a group away under load, and says what clients noticed.
#[derive(Debug, Parser)]
struct Arguments {
    /// `cluster.json` of the cluster.
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    /// The stored entries, a line each.
    #[arg(long, value_name = "FILE", default_value = "sample/wordnet.jsonl.gz")]
    entries: PathBuf,
    /// Their vectors (f16bin).
    #[arg(long, value_name = "FILE", default_value = "sample/wordnet.f16bin")]
    vectors: PathBuf,
    /// The group to empty.
    #[arg(long, default_value = "g1")]
    group: String,
}

/// A namespace of the group, with its shard.
struct Place {
    namespace: String,
    shard: u64,
}

/// One move as this program saw it.
struct Moved {
    shard: u64,
    to: String,
    bytes: u64,
    began: Instant,
    took: Duration,
    told: Value,
}

/// What became of one write.
struct Written {
    shard: u64,
    asked: Asked,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    let entries = wordnet::read(&arguments.entries, &arguments.vectors);
    let layout: Layout = serde_json::from_slice(&std::fs::read(&arguments.cluster)?)?;
    let client = Client::new(&layout.coordinators.first().ok_or("cluster.json names no coordinator")?.http);
    let places = Arc::new(places(&client, &entries, &arguments.group).await);
    if places.is_empty() {
        return Err(format!("no namespace lies on group {}", arguments.group).into());
    }
    let before: BTreeSet<(String, String)> = exported(&client, &places).await.iter().map(id).collect();
    println!("{} namespaces with {} entries lie on {}", places.len(), before.len(), arguments.group);

    let vectors = Arc::new(entries.iter().step_by(37).map(|entry| entry.vector.clone()).collect::<Vec<_>>());
    let writers: Vec<Traffic> =
        (0..WRITERS).map(|writer| write(&client, writer, places.clone(), vectors.clone())).collect();
    let searcher = search(&client, places.clone(), vectors);
    for traffic in writers.iter().chain([&searcher]) {
        traffic.wait_for_successes(50, Duration::from_secs(60)).await;
    }
    let moved = move_away(&client, &arguments.group).await;
    for traffic in writers.iter().chain([&searcher]) {
        traffic.wait_for_successes(50, Duration::from_secs(60)).await;
    }
    let searched = searcher.end().await;
    let mut written = Vec::new();
    let mut last: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (writer, traffic) in (0..).zip(writers) {
        for asked in traffic.end().await {
            let place = &places[asked.number as usize % places.len()];
            last.insert((place.namespace.clone(), key(writer, asked.number, places.len())), asked.number);
            written.push(Written { shard: place.shard, asked });
        }
    }
    show(&moved, &written);
    let mut faults = noticed("search", &searched);
    let writes: Vec<Asked> = written.into_iter().map(|written| written.asked).collect();
    faults.extend(noticed("write", &writes));
    faults.extend(moved.iter().filter(|moved| moved.told["phase"] != "done").map(|moved| moved.told.to_string()));
    faults.extend(differences(&before, &last, &exported(&client, &places).await));
    faults.iter().for_each(|fault| println!("FAULT: {fault}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn places(client: &Client, entries: &[Sample], group: &str) -> Vec<Place> {
    let namespaces: BTreeSet<&str> = entries.iter().map(|entry| entry.namespace.as_str()).collect();
    let mut places = Vec::new();
    for namespace in namespaces {
        let shown =
            client.get(&format!("/v1/collections/{COLLECTION}/namespaces/{namespace}")).await.expect(200).json();
        if shown["group"] == group {
            places.push(Place { namespace: namespace.to_owned(), shard: shown["shard"].as_u64().unwrap_or_default() });
        }
    }
    places
}

/// Every entry of these namespaces, as exports give it.
async fn exported(client: &Client, places: &[Place]) -> Vec<(String, Value)> {
    let mut exported = Vec::new();
    for Place { namespace, .. } in places {
        let entries = client.export(COLLECTION, Some(namespace)).await;
        exported.extend(entries.into_iter().map(|entry| (namespace.clone(), entry)));
    }
    exported
}

fn id((namespace, entry): &(String, Value)) -> (String, String) {
    (namespace.clone(), entry["key"].as_str().unwrap_or_default().to_owned())
}

fn key(writer: u64, number: u64, places: usize) -> String {
    format!("moved-{writer}-{}", number / places as u64 % KEYS)
}

fn write(client: &Client, writer: u64, places: Arc<Vec<Place>>, vectors: Arc<Vec<Vec<f32>>>) -> Traffic {
    Traffic::begin(client.clone(), move |client, number| {
        let namespace = &places[number as usize % places.len()].namespace;
        let key = key(writer, number, places.len());
        let path = format!("/v1/collections/{COLLECTION}/namespaces/{namespace}/entries/{key}");
        let vector = &vectors[number as usize % vectors.len()];
        client.request(Method::PUT, &path).json(&json!({"value": number.to_string(), "vector": vector}))
    })
}

fn search(client: &Client, places: Arc<Vec<Place>>, vectors: Arc<Vec<Vec<f32>>>) -> Traffic {
    Traffic::begin(client.clone(), move |client, number| {
        let namespace = &places[number as usize % places.len()].namespace;
        let body = json!({"namespaces": [namespace], "vector": vectors[number as usize % vectors.len()], "k": 10});
        client.request(Method::POST, &format!("/v1/collections/{COLLECTION}/search")).json(&body)
    })
}

/// One shard after the other, to the other groups by turns.
async fn move_away(client: &Client, group: &str) -> Vec<Moved> {
    let shards = client.get("/v1/admin/shards").await.expect(200).json();
    let list = shards["shards"].as_array().cloned().unwrap_or_default();
    let others: BTreeSet<&str> =
        list.iter().filter_map(|shard| shard["group"].as_str()).filter(|of| *of != group).collect();
    let mut moved = Vec::new();
    for (shard, to) in list.iter().filter(|shard| shard["group"] == group).zip(others.iter().cycle()) {
        let number = shard["shard"].as_u64().expect("a shard has a number");
        let began = Instant::now();
        let id = begin(client, number, to).await;
        // From then on it is the target's; what is left is cleaned up.
        wait_for_phase(client, id, &["cleaning", "done", "cancelled", "failed"]).await;
        let took = began.elapsed();
        let told = wait_over(client, id).await;
        let bytes = shard["bytes"].as_u64().unwrap_or_default();
        moved.push(Moved { shard: number, to: (*to).to_owned(), bytes, began, took, told });
    }
    moved
}

fn show(moved: &[Moved], written: &[Written]) {
    println!("{:<7}{:<6}{:>8}{:>8}{:>8}{:>12}{:>16}", "SHARD", "TO", "MB", "S", "MB/S", "PAUSE MS", "SLOWEST WRITE");
    for one in moved {
        let (megabytes, seconds) = (one.bytes as f64 / 1e6, one.took.as_secs_f64());
        let during = written.iter().filter(|written| {
            let sent = written.asked.sent;
            written.shard == one.shard && sent >= one.began && sent <= one.began + one.took
        });
        let slowest = during.map(|written| written.asked.ended - written.asked.sent).max().unwrap_or_default();
        let pause = one.told["write_pause_ms"].to_string();
        let rate = megabytes / seconds;
        let slowest = slowest.as_millis();
        println!("{:<7}{:<6}{megabytes:>8.1}{seconds:>8.1}{rate:>8.1}{pause:>12}{slowest:>16}", one.shard, one.to);
    }
    let bytes: u64 = moved.iter().map(|one| one.bytes).sum();
    let seconds: f64 = moved.iter().map(|one| one.took.as_secs_f64()).sum();
    let mut pauses: Vec<u64> = moved.iter().filter_map(|one| one.told["write_pause_ms"].as_u64()).collect();
    pauses.sort_unstable();
    let middle = pauses.get(pauses.len() / 2);
    println!(
        "{:.1} MB/s in all; the middle pause {middle:?} ms, the longest {:?} ms",
        bytes as f64 / 1e6 / seconds,
        pauses.last()
    );
}

/// Tells how the clients of a kind fared; gives what failed.
fn noticed(kind: &str, asked: &[Asked]) -> Vec<String> {
    let slowest = asked.iter().map(|asked| asked.ended - asked.sent).max().unwrap_or_default();
    println!("{}: {} requests, slowest {slowest:.1?}, longest gap {:.1?}", kind, asked.len(), longest_gap(asked));
    let failed = asked.iter().filter(|asked| !asked.succeeded());
    failed.map(|asked| format!("a {kind} failed: {:?} {}", asked.outcome, asked.body)).collect()
}

/// What is not as it was before, or as it was written last.
fn differences(
    before: &BTreeSet<(String, String)>,
    last: &BTreeMap<(String, String), u64>,
    after: &[(String, Value)],
) -> Vec<String> {
    let mut differences = Vec::new();
    let mut seen = BTreeSet::new();
    for one in after {
        let id = id(one);
        let value = &one.1["value"];
        match last.get(&id) {
            Some(number) if value.as_str() != Some(&number.to_string()) => {
                differences.push(format!("{id:?} holds {value} instead of {number}"));
            }
            None if !before.contains(&id) => differences.push(format!("nobody wrote {id:?}")),
            Some(_) | None => {}
        }
        if let Some(twice) = seen.replace(id) {
            differences.push(format!("{twice:?} is there twice"));
        }
    }
    let lost = before.iter().chain(last.keys()).filter(|id| !seen.contains(*id));
    differences.extend(lost.map(|id| format!("{id:?} is lost")));
    differences
}
