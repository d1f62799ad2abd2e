//! A search finds what was stored: exactly where it promises so, and nearly always where it promises speed.

#![allow(clippy::unwrap_used)]

use atoll_proto::Metric;
use cluster_tests::oracle::{self, Neighbour};
use cluster_tests::poll;
use cluster_tests::seeded::Seeded;
use cluster_tests::wordnet::{self, Sample};
use cluster_tests::{Client, Cluster, ClusterOptions};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const SEARCH: &str = "/v1/collections/memory_entries/search";
const QUERIES: usize = 40;
const K: usize = 10;

/// What is looked for: a stored entry, or a vector near one.
#[derive(Clone)]
struct Query {
    vector: Vec<f32>,
    like: Option<(String, String)>,
    namespace: String,
}

/// Where it is looked for.
#[derive(Clone)]
enum Scope {
    Namespaces(Vec<String>),
    Prefix(&'static str),
    All,
}

impl Scope {
    fn holds(&self, entry: &Sample) -> bool {
        match self {
            Self::Namespaces(namespaces) => namespaces.contains(&entry.namespace),
            Self::Prefix(prefix) => entry.namespace.starts_with(prefix),
            Self::All => true,
        }
    }

    fn write(&self, body: &mut Value) {
        match self {
            Self::Namespaces(namespaces) => body["namespaces"] = json!(namespaces),
            Self::Prefix(prefix) => body["prefix"] = json!(prefix),
            Self::All => body["all"] = json!(true),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_what_it_stored() {
    let entries = wordnet::full().unwrap_or_else(wordnet::sample);
    // Few shards, so that each holds enough for its graph to be used.
    let options = ClusterOptions { shards: 3, ..ClusterOptions::new("finds_what_it_stored") };
    let cluster = Cluster::start(options).await;
    let client = cluster.client();
    // A graph over each shard: the sample's namespaces are too small for graphs of their own.
    let settings = json!({"dimensions": 384, "index": {"scope": "both"}});
    client.put("/v1/collections/memory_entries", &settings).await.expect(200);
    let done = client.import("memory_entries", wordnet::ndjson(&entries)).await;
    assert_eq!((done["done"].as_bool(), done["written"].as_u64()), (Some(true), Some(entries.len() as u64)), "{done}");
    wait_for_graphs(&client, &entries[0]).await;

    answers_are_exact_or_nearly_so(&client, &entries).await;
    filters_let_through_what_they_say(&client, &entries).await;
    thresholds_exclusions_and_groups(&client, &entries).await;
    likes_and_groups(&client, &entries).await;
    large_and_empty_answers(&client, &entries).await;
    forms_of_an_answer(&client, &entries).await;
    ties_have_one_order(&client).await;
    other_metrics(&client).await;
    cluster.finish(&[]).await;
}

/// Until the coordinators know how many rows there are, everything is looked at exactly.
async fn wait_for_graphs(client: &Client, entry: &Sample) {
    poll::until("large shards to be searched by their graph", Duration::from_secs(60), async || {
        let body = json!({"vector": entry.vector, "all": true, "profile": "speed"});
        let answer = client.post(SEARCH, &body).await.expect(200).json();
        let strategies = &answer["plan"]["strategies"];
        if strategies["hnsw"].as_u64() >= Some(2) { Ok(()) } else { Err(strategies.to_string()) }
    })
    .await;
}

async fn answers_are_exact_or_nearly_so(client: &Client, entries: &[Sample]) {
    let queries = queries(entries);
    let namespaces: Vec<String> =
        entries.iter().map(|entry| entry.namespace.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    for profile in ["exact", "accuracy", "speed"] {
        let mut recalls = Vec::new();
        for place in ["own", "five", "prefix", "all"] {
            let found = stream::iter(queries.iter().enumerate()).map(|(i, query)| {
                let scope = match place {
                    "own" => Scope::Namespaces(vec![query.namespace.clone()]),
                    "five" => {
                        Scope::Namespaces((0..5).map(|n| namespaces[(i + n * 7) % namespaces.len()].clone()).collect())
                    }
                    "prefix" => Scope::Prefix("noun.a"),
                    _ => Scope::All,
                };
                recall(client, entries, query, scope, profile)
            });
            let found: Vec<f64> = found.buffer_unordered(4).collect().await;
            let mean = found.iter().sum::<f64>() / found.len() as f64;
            recalls.push((place, mean));
        }
        let least = match profile {
            "exact" => 1.0,
            "accuracy" => 0.99,
            _ => 0.95,
        };
        println!("{profile}: recall@{K} {recalls:.4?}");
        assert!(
            recalls.iter().all(|(_, recall)| *recall >= least),
            "{profile}: recall@{K} {recalls:?}, {least} promised"
        );
    }
}

/// Half of them entries that are stored, half of them vectors near one.
fn queries(entries: &[Sample]) -> Vec<Query> {
    let mut chance = Seeded::new(7);
    (0..QUERIES)
        .map(|i| {
            let entry = &entries[chance.below(entries.len())];
            let namespace = entry.namespace.clone();
            if i % 2 == 0 {
                let like = Some((entry.namespace.clone(), entry.key.clone()));
                return Query { vector: entry.vector.clone(), like, namespace };
            }
            let vector = entry.vector.iter().map(|x| x + 0.02 * chance.unit()).collect();
            Query { vector, like: None, namespace }
        })
        .collect()
}

/// The share of the true neighbours that was found; for `exact` the answer must be the true one.
async fn recall(client: &Client, entries: &[Sample], query: &Query, scope: Scope, profile: &str) -> f64 {
    let mut body = json!({"k": K, "include": []});
    scope.write(&mut body);
    match &query.like {
        Some((namespace, key)) => body["like"] = json!({"namespace": namespace, "key": key}),
        None => body["vector"] = json!(query.vector),
    }
    match profile {
        "exact" => body["exact"] = json!(true),
        profile => body["profile"] = json!(profile),
    }
    let answer = client.post(SEARCH, &body).await.expect(200).json();
    let itself = |entry: &Sample| {
        query.like.as_ref().is_some_and(|(namespace, key)| *namespace == entry.namespace && *key == entry.key)
    };
    let truth =
        oracle::nearest(Metric::Cosine, &query.vector, entries, K, |entry| scope.holds(entry) && !itself(entry));
    assert_eq!(answer["complete"], true, "{answer}");
    assert_eq!(hits(&answer).len(), truth.len(), "short of hits: {answer}");
    if profile == "exact" {
        assert_same(&answer, &truth);
    }
    let found: BTreeSet<(String, String)> = ids(&answer).into_iter().collect();
    let hit = truth.iter().filter(|one| found.contains(&(one.namespace.clone(), one.key.clone()))).count();
    if truth.is_empty() { 1.0 } else { hit as f64 / truth.len() as f64 }
}

async fn filters_let_through_what_they_say(client: &Client, entries: &[Sample]) {
    let query = &entries[17].vector;
    let offset = |entry: &Sample| entry.metadata["offset"].as_u64().unwrap();
    let first_lemma = entries[5].metadata["lemmas"][0].clone();
    type Wanted<'a> = Box<dyn Fn(&Sample) -> bool + 'a>;
    let cases: Vec<(Value, Wanted<'_>)> = vec![
        (json!({"must": [{"field": "metadata.pos", "eq": "v"}]}), Box::new(|e| e.metadata["pos"] == "v")),
        (json!({"must": [{"field": "tags", "any": ["v", "r"]}]}), Box::new(|e| e.tags[0] == "v" || e.tags[0] == "r")),
        (json!({"must": [{"field": "tags", "all": ["n", "v"]}]}), Box::new(|_| false)),
        (
            json!({"must": [{"field": "metadata.offset", "range": {"gte": 1_000_000, "lt": 2_000_000}}]}),
            Box::new(|e| (1_000_000..2_000_000).contains(&offset(e))),
        ),
        (json!({"must": [{"field": "key", "prefix": "n-02"}]}), Box::new(|e| e.key.starts_with("n-02"))),
        (
            json!({"must_not": [{"field": "metadata.pos", "in": ["n", "v"]}]}),
            Box::new(|e| e.tags[0] != "n" && e.tags[0] != "v"),
        ),
        (json!({"must": [{"field": "metadata.nothing", "exists": true}]}), Box::new(|_| false)),
        (json!({"must_not": [{"field": "metadata.nothing", "exists": true}]}), Box::new(|_| true)),
        (json!({"must": [{"field": "metadata.lemmas", "any": [first_lemma]}]}), {
            let lemma = first_lemma.clone();
            Box::new(move |e| e.metadata["lemmas"].as_array().unwrap().contains(&lemma))
        }),
        (
            json!({"must": [{"field": "metadata.offset", "eq": offset(&entries[9])}]}),
            Box::new(|e| offset(e) == offset(&entries[9])),
        ),
        (
            json!({"should": [{"field": "metadata.pos", "eq": "r"},
                              {"filter": {"must": [{"field": "metadata.pos", "ne": "n"}, {"field": "key", "range": {"lt": "v-01"}}]}}]}),
            Box::new(|e| e.tags[0] == "r" || (e.tags[0] != "n" && e.key.as_str() < "v-01")),
        ),
    ];
    for (filter, wanted) in cases {
        let matches = entries.iter().filter(|entry| wanted(entry)).count();
        let truth = oracle::nearest(Metric::Cosine, query, entries, K, &wanted);
        let exact = json!({"vector": query, "all": true, "filter": filter, "exact": true, "include": []});
        assert_same(&client.post(SEARCH, &exact).await.expect(200).json(), &truth);
        // By the graph, and by a scan where too few match of what it finds: never short.
        let walked = json!({"vector": query, "all": true, "filter": filter, "ef": 40, "include": ["metadata", "tags"]});
        let answer = client.post(SEARCH, &walked).await.expect(200).json();
        let strategies = &answer["plan"]["strategies"];
        let by_graph = strategies["hnsw"].as_u64().unwrap() + strategies["exact_fallback"].as_u64().unwrap();
        assert!(by_graph >= 2, "{filter}: not by the graph of large shards: {strategies}");
        assert_eq!(hits(&answer).len(), K.min(matches), "{filter}: {answer}");
        let short = if matches < K { json!("fewer_matches") } else { Value::Null };
        assert_eq!(answer["short_reason"], short, "{filter}");
        for (namespace, key) in ids(&answer) {
            let entry = entries.iter().find(|entry| entry.namespace == namespace && entry.key == key).unwrap();
            assert!(wanted(entry), "{filter} let {namespace} {key} through");
        }
    }
}

async fn thresholds_exclusions_and_groups(client: &Client, entries: &[Sample]) {
    let query = &entries[40].vector;
    let all = oracle::nearest(Metric::Cosine, query, entries, entries.len(), |_| true);

    // Between the fourth and the fifth.
    let min_score = 1.0 - (all[3].distance + all[4].distance) / 2.0;
    let body = json!({"vector": query, "all": true, "min_score": min_score, "include": []});
    let answer = client.post(SEARCH, &body).await.expect(200).json();
    assert_same(&answer, &all[..4]);
    assert_eq!(answer["short_reason"], "min_score");

    let left_out = [all[0].namespace.clone(), all[2].namespace.clone()];
    let truth = oracle::nearest(Metric::Cosine, query, entries, K, |e| !left_out.contains(&e.namespace));
    let body = json!({"vector": query, "all": true, "exclude": left_out, "exact": true, "include": []});
    assert_same(&client.post(SEARCH, &body).await.expect(200).json(), &truth);

    for most in [1, 2] {
        let mut truth: Vec<Neighbour> = Vec::new();
        for one in &all {
            if truth.len() < K && truth.iter().filter(|taken| taken.namespace == one.namespace).count() < most {
                truth.push(one.clone());
            }
        }
        let body = json!({"vector": query, "all": true, "group_by_namespace": most, "include": []});
        assert_same(&client.post(SEARCH, &body).await.expect(200).json(), &truth);
    }

    // Far from the query, so that a walk of the graph over a shard would meet none of them: one namespace alone, and two.
    let far = &all[all.len() - 1].namespace;
    let other = all.iter().rev().map(|one| &one.namespace).find(|namespace| *namespace != far).unwrap();
    for namespaces in [vec![far], vec![far, other]] {
        let mut truth: Vec<Neighbour> = Vec::new();
        for namespace in &namespaces {
            truth.extend(all.iter().filter(|one| one.namespace == **namespace).take(30).cloned());
        }
        truth.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        let body = json!({"vector": query, "namespaces": namespaces, "group_by_namespace": 30, "k": 60, "include": []});
        assert_same(&client.post(SEARCH, &body).await.expect(200).json(), &truth);
    }
}

/// The entry that is searched by takes up nobody's place: not among the candidates, not in its namespace.
async fn likes_and_groups(client: &Client, entries: &[Sample]) {
    for entry in [&entries[40], &entries[77]] {
        let itself = |one: &Sample| one.namespace == entry.namespace && one.key == entry.key;
        let all = oracle::nearest(Metric::Cosine, &entry.vector, entries, entries.len(), |one| !itself(one));
        for most in [1, 2] {
            let mut truth: Vec<Neighbour> = Vec::new();
            for one in &all {
                if truth.len() < K && truth.iter().filter(|taken| taken.namespace == one.namespace).count() < most {
                    truth.push(one.clone());
                }
            }
            let like = json!({"namespace": entry.namespace, "key": entry.key});
            let body = json!({"like": like, "all": true, "group_by_namespace": most, "include": []});
            assert_same(&client.post(SEARCH, &body).await.expect(200).json(), &truth);
        }
    }
}

async fn large_and_empty_answers(client: &Client, entries: &[Sample]) {
    let query = &entries[99].vector;
    let truth = oracle::nearest(Metric::Cosine, query, entries, 1_000, |_| true);
    let body = json!({"vector": query, "all": true, "k": 1_000, "exact": true, "include": []});
    assert_same(&client.post(SEARCH, &body).await.expect(200).json(), &truth);
    let body = json!({"vector": query, "all": true, "k": 1_000, "profile": "speed", "include": []});
    let answer = client.post(SEARCH, &body).await.expect(200).json();
    assert_eq!((hits(&answer).len(), &answer["short_reason"]), (1_000, &Value::Null));

    for scope in [json!({"namespaces": ["nobody", "no-one"]}), json!({"prefix": "nothing-begins-so"})] {
        let mut body = json!({"vector": query});
        body.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        let answer = client.post(SEARCH, &body).await.expect(200).json();
        assert_eq!(answer["hits"], json!([]));
        assert_eq!((&answer["complete"], &answer["short_reason"]), (&json!(true), &json!("fewer_matches")));
    }
    let body = json!({"like": {"namespace": "nobody", "key": "k"}, "all": true});
    client.post(SEARCH, &body).await.expect_problem(404, "entry-not-found");
    // A stored entry can be looked for where it does not lie itself.
    let entry = &entries[99];
    let body = json!({"like": {"namespace": entry.namespace, "key": entry.key}, "prefix": "verb.", "exact": true, "include": []});
    let truth = oracle::nearest(Metric::Cosine, query, entries, K, |e| e.namespace.starts_with("verb."));
    assert_same(&client.post(SEARCH, &body).await.expect(200).json(), &truth);
}

async fn forms_of_an_answer(client: &Client, entries: &[Sample]) {
    let entry = &entries[3];
    let find =
        |include: Value| json!({"vector": entry.vector, "namespaces": [entry.namespace], "k": 1, "include": include});
    let all = client.post(SEARCH, &find(json!(["value", "metadata", "tags", "vector"]))).await.expect(200).json();
    let hit = &hits(&all)[0];
    assert_eq!((&hit["namespace"], &hit["key"]), (&json!(entry.namespace), &json!(entry.key)));
    assert_eq!((&hit["value"], &hit["tags"]), (&json!(entry.value), &json!(entry.tags)));
    assert_eq!(hit["metadata"], Value::Object(entry.metadata.clone()));
    let vector: Vec<f32> = serde_json::from_value(hit["vector"].clone()).unwrap();
    assert_eq!(vector, entry.vector);
    assert_eq!(hit["version"], 1);
    assert!((hit["score"].as_f64().unwrap() + hit["distance"].as_f64().unwrap() - 1.0).abs() < 1e-12);
    for (field, others) in [("value", ["metadata", "tags", "vector"]), ("tags", ["value", "metadata", "vector"])] {
        let answer = client.post(SEARCH, &find(json!([field]))).await.expect(200).json();
        assert_eq!(hits(&answer)[0][field], hit[field]);
        for other in others {
            assert_eq!(hits(&answer)[0].get(other), Some(&Value::Null), "{other} must be there, and null");
        }
    }
    let often =
        json!({"vector": entry.vector, "namespaces": [entry.namespace], "k": 1, "include": vec!["tags"; 1_700]});
    let answer = client.post(SEARCH, &often).await.expect(200).json();
    assert_eq!((&hits(&answer)[0]["tags"], &hits(&answer)[0]["value"]), (&hit["tags"], &Value::Null));
    // Both forms of a vector are one.
    let bytes: Vec<u8> = entry.vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let b64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let body = json!({"vector": {"b64": b64}, "namespaces": [entry.namespace], "k": 1});
    assert_eq!(ids(&client.post(SEARCH, &body).await.expect(200).json()), ids(&all));

    let body = json!({"vector": entry.vector, "all": true, "explain": true, "profile": "speed"});
    let explained = client.post(SEARCH, &body).await.expect(200).json();
    let shards = explained["explain"]["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 3);
    let mut efs = Vec::new();
    for (i, shard) in shards.iter().enumerate() {
        assert_eq!(shard["shard"], json!(i), "{shard}");
        // Of three graphs each needs to find less than one alone, and the nearest the most.
        match shard["ef"].as_u64() {
            Some(ef) => {
                assert!(shard["strategy"] == "hnsw" && ef >= 10, "{shard}");
                efs.push(ef);
            }
            None => assert_eq!(shard["strategy"], "exact", "{shard}"),
        }
        assert!(shard["generation"].as_u64() >= Some(1) && shard["run"]["ms"].is_f64(), "{shard}");
    }
    // Together no more than if it were shared out equally, but for rounding each up by less than a third.
    assert!(efs.iter().sum::<u64>() <= 29 * efs.len() as u64 * 4 / 3, "{efs:?}");
    let came = |what: &str| shards.iter().map(|shard| shard["run"][what].as_u64().unwrap()).sum::<u64>();
    let merge = &explained["explain"]["merge"];
    assert_eq!((merge["candidates"].as_u64(), merge["hits"].as_u64()), (Some(came("candidates")), Some(came("hits"))));
    assert_eq!((&explained["plan"]["candidates"], came("hits")), (&merge["candidates"], 10), "{explained}");
    let walked = shards.iter().filter(|shard| shard["strategy"] == "hnsw").count();
    assert_eq!(explained["plan"]["strategies"]["hnsw"], json!(walked));
    assert!(walked >= 2, "{explained}");
    assert_eq!(all["explain"], Value::Null);
    assert_eq!(explained["plan"]["profile"], "speed");
    let body = json!({"vector": entry.vector, "all": true, "profile": "speed", "target_recall": 0.99, "ef": 77});
    let plan = client.post(SEARCH, &body).await.expect(200).json()["plan"].clone();
    assert_eq!((&plan["ef"], &plan["profile"]), (&json!(77), &Value::Null), "ef is stronger than both");

    let searches = json!({"searches": [
        find(json!([])), {"vector": [1.0], "all": true}, {"like": {"namespace": "nobody", "key": "k"}, "all": true}, find(json!(["value"])),
    ]});
    let answer = client.post(&format!("{SEARCH}/batch"), &searches).await.expect(200).json();
    let answers = answer["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 4);
    assert_eq!(ids(&answers[0]["answer"]), ids(&all));
    assert_eq!(answers[1]["problem"]["errors"][0]["pointer"], "/vector", "{answer}");
    assert_eq!(answers[2]["problem"]["code"], "entry-not-found");
    assert_eq!(answers[3]["answer"]["hits"][0]["value"], json!(entry.value));
}

async fn ties_have_one_order(client: &Client) {
    client.put("/v1/collections/ties", &json!({"dimensions": 3})).await.expect(201);
    let mut entries = Vec::new();
    for namespace in ["t-9", "t-1", "t-5"] {
        for key in ["b", "a", "ä", "B"] {
            entries.push(json!({"namespace": namespace, "key": key, "vector": [0.5, 0.25, 1.0]}));
        }
    }
    client.post("/v1/collections/ties/entries", &json!({"entries": entries})).await.expect(200);
    let mut wanted: Vec<(String, String)> = entries
        .iter()
        .map(|entry| (entry["namespace"].as_str().unwrap().to_owned(), entry["key"].as_str().unwrap().to_owned()))
        .collect();
    wanted.sort();
    for (exact, vector) in [(true, [1.0, 0.5, 2.0]), (false, [0.1, 0.9, 0.3])] {
        for k in [12, 5] {
            let body = json!({"vector": vector, "all": true, "k": k, "exact": exact});
            let answer = client.post("/v1/collections/ties/search", &body).await.expect(200).json();
            assert_eq!(ids(&answer), wanted[..k], "ties go by namespace and key, in byte order");
        }
    }
}

async fn other_metrics(client: &Client) {
    let mut chance = Seeded::new(3);
    for (name, metric, vector_type) in
        [("by_l2", Metric::L2, "float32"), ("by_dot", Metric::Dot, "float32"), ("halves", Metric::Cosine, "float16")]
    {
        let settings = json!({"dimensions": 16, "metric": metric, "vector_type": vector_type});
        client.put(&format!("/v1/collections/{name}"), &settings).await.expect(201);
        let entries: Vec<Sample> = (0..300)
            .map(|i| {
                let vector = chance.vector(16).into_iter();
                // What a half float holds, so that the oracle knows what is stored.
                let vector = vector.map(|x| half::f16::from_f32(x).to_f32()).collect();
                Sample {
                    namespace: format!("n{}", i % 7),
                    key: format!("k{i}"),
                    value: String::new(),
                    metadata: Default::default(),
                    tags: vec![],
                    vector,
                }
            })
            .collect();
        let done = client.import(name, wordnet::ndjson(&entries)).await;
        assert_eq!(done["written"], 300, "{done}");
        for _ in 0..5 {
            let query = chance.vector(16);
            let body = json!({"vector": query, "all": true, "k": 20});
            let answer = client.post(&format!("/v1/collections/{name}/search"), &body).await.expect(200).json();
            let truth = oracle::nearest(metric, &query, &entries, 20, |_| true);
            assert_same(&answer, &truth);
            for hit in hits(&answer) {
                let (score, distance) = (hit["score"].as_f64().unwrap(), hit["distance"].as_f64().unwrap());
                let wanted = match metric {
                    Metric::Cosine => 1.0 - distance,
                    Metric::Dot => -distance,
                    Metric::L2 => 1.0 / (1.0 + distance),
                };
                assert!((score - wanted).abs() < 1e-9, "{hit}");
            }
            // A hit of just the least score is one.
            let mut body = body;
            body["min_score"] = hits(&answer)[7]["score"].clone();
            let cut = client.post(&format!("/v1/collections/{name}/search"), &body).await.expect(200).json();
            assert_eq!(ids(&cut), ids(&answer)[..8], "{}", body["min_score"]);
        }
    }
}

fn hits(answer: &Value) -> &Vec<Value> {
    answer["hits"].as_array().unwrap_or_else(|| panic!("no hits: {answer}"))
}

fn ids(answer: &Value) -> Vec<(String, String)> {
    let text = |hit: &Value, field: &str| hit[field].as_str().unwrap().to_owned();
    hits(answer).iter().map(|hit| (text(hit, "namespace"), text(hit, "key"))).collect()
}

#[track_caller]
fn assert_same(answer: &Value, truth: &[Neighbour]) {
    let wanted: Vec<(String, String)> = truth.iter().map(|one| (one.namespace.clone(), one.key.clone())).collect();
    assert_eq!(ids(answer), wanted);
    for (hit, one) in hits(answer).iter().zip(truth) {
        let distance = hit["distance"].as_f64().unwrap();
        assert!((distance - one.distance).abs() < 1e-6, "{distance} is not {}", one.distance);
    }
}
