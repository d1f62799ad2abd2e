//! How much of the truth searches find: held-out queries in their own, in five and in all namespaces, by every profile, against
//! brute force in double precision. Needs a cluster that holds just the given entries.

use atoll_proto::Metric;
use clap::Parser;
use cluster_tests::Client;
use cluster_tests::cluster::Layout;
use cluster_tests::oracle::{self, Neighbour};
use cluster_tests::wordnet::{self, Sample};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;

/// Measures recall and says whether an answer was short, or an exact one not the true one.
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
    /// Only the first so many were stored.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Queries, a line each, with a namespace.
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Their vectors (f16bin).
    #[arg(long, value_name = "FILE")]
    query_vectors: PathBuf,
    /// How many of the queries to ask.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Hits.
    #[arg(short, long, default_value_t = 10)]
    k: usize,
    /// Collection to search; must be cosine.
    #[arg(long, default_value = "memory_entries")]
    collection: String,
}

/// What was found of one kind of search.
#[derive(Debug, Default)]
struct Tally {
    recall: f64,
    searches: usize,
    short: usize,
    other_order: usize,
}

const SCOPES: [&str; 3] = ["own", "five", "all"];
const PROFILES: [&str; 4] = ["exact", "accuracy", "balanced", "speed"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut entries = wordnet::read(&arguments.entries, &arguments.vectors);
    entries.truncate(arguments.limit.unwrap_or(entries.len()));
    let queries = wordnet::read(&arguments.queries, &arguments.query_vectors);
    let namespaces: Vec<&str> =
        entries.iter().map(|entry| entry.namespace.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    let cluster: Layout = serde_json::from_slice(&std::fs::read(&arguments.cluster)?)?;
    let client = Client::new(&cluster.coordinators.first().ok_or("cluster.json names no coordinator")?.http);

    println!("{} entries, {} queries, recall@{}", entries.len(), arguments.count.min(queries.len()), arguments.k);
    println!("{:<8}{:<10}{:>10}{:>8}{:>22}", "scope", "profile", "recall", "short", "not the true order");
    for scope in SCOPES {
        let mut tallies: [Tally; PROFILES.len()] = Default::default();
        for (i, query) in queries.iter().take(arguments.count).enumerate() {
            let places = places(scope, query, i, &namespaces);
            let holds =
                |entry: &Sample| places.as_ref().is_none_or(|places| places.contains(&entry.namespace.as_str()));
            let truth = oracle::nearest(Metric::Cosine, &query.vector, &entries, arguments.k, holds);
            for (profile, tally) in PROFILES.iter().zip(&mut tallies) {
                let answer = search(&client, &arguments, query, places.as_deref(), profile).await;
                tally.add(&truth, &answer);
            }
        }
        for (profile, Tally { recall, searches, short, other_order }) in PROFILES.iter().zip(&tallies) {
            let recall = recall / *searches as f64;
            println!("{scope:<8}{profile:<10}{recall:>10.4}{short:>8}{other_order:>22}");
        }
    }
    Ok(())
}

/// Namespaces to look in; none for all.
fn places<'a>(scope: &str, query: &'a Sample, i: usize, namespaces: &[&'a str]) -> Option<Vec<&'a str>> {
    match scope {
        "own" => Some(vec![&query.namespace]),
        // Its own and four others, by turns.
        "five" => {
            let others = (0..namespaces.len()).map(|n| namespaces[(i + n * 7) % namespaces.len()]);
            let mut places = vec![query.namespace.as_str()];
            places.extend(others.filter(|other| *other != query.namespace).take(4));
            Some(places)
        }
        _ => None,
    }
}

async fn search(
    client: &Client,
    arguments: &Arguments,
    query: &Sample,
    places: Option<&[&str]>,
    profile: &str,
) -> Vec<(String, String)> {
    let mut body = json!({"vector": query.vector, "k": arguments.k, "include": [], "cache": "bypass"});
    match places {
        Some(places) => body["namespaces"] = json!(places),
        None => body["all"] = json!(true),
    }
    match profile {
        "exact" => body["exact"] = json!(true),
        profile => body["profile"] = json!(profile),
    }
    let path = format!("/v1/collections/{}/search", arguments.collection);
    let answer = client.post(&path, &body).await.expect(200).json();
    let text = |hit: &Value, field: &str| hit[field].as_str().unwrap_or_default().to_owned();
    let hits = answer["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
    hits.iter().map(|hit| (text(hit, "namespace"), text(hit, "key"))).collect()
}

impl Tally {
    fn add(&mut self, truth: &[Neighbour], found: &[(String, String)]) {
        let is = |one: &Neighbour, id: &(String, String)| one.namespace == id.0 && one.key == id.1;
        let hits = truth.iter().filter(|one| found.iter().any(|id| is(one, id))).count();
        self.recall += hits as f64 / truth.len().max(1) as f64;
        self.searches += 1;
        self.short += usize::from(found.len() < truth.len());
        let same = found.len() == truth.len() && truth.iter().zip(found).all(|(one, id)| is(one, id));
        self.other_order += usize::from(!same);
    }
}
