//! The command line does what the API does: tables for people, the API's JSON for programs, exit codes for scripts.

#![allow(clippy::unwrap_used)]

use cluster_tests::command_line::argument;
use cluster_tests::poll;
use cluster_tests::wordnet::{self, Sample};
use cluster_tests::{Cluster, ClusterOptions, CommandLine};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// A small dog: its neighbours are small dogs.
const EXAMPLE: &str = "noun.animal:n-02110627";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_do_what_they_say() {
    let cluster = Cluster::start(ClusterOptions::new("command_line")).await;
    let atoll = CommandLine::new(cluster.client().base());
    let folder = cluster.scratch();

    shows_what_the_cluster_is_made_of(&atoll).await;
    collections_come_and_go(&atoll).await;
    entries_are_written_and_read(&atoll, folder).await;
    the_sample_goes_in_is_found_and_comes_out_again(&atoll, folder).await;
    namespaces_are_listed_and_deleted(&atoll).await;
    one_command_brings_the_sample(&atoll).await;
    exit_codes_tell_bad_usage_from_failure(&atoll).await;
    cluster.finish(&[]).await;
}

async fn shows_what_the_cluster_is_made_of(atoll: &CommandLine) {
    let status = atoll.run(&["status"]).await.expect(0);
    status.prints(&["12 of 12 shards placed", "ready         yes", "leader        1", "g1", "g2", "g3", "w1", "w3"]);
    let status = atoll.json(&["status"]).await;
    assert_eq!(status["readiness"]["ready"], true, "{status}");
    assert_eq!(
        (status["workers"].as_array().unwrap().len(), status["shards"].as_array().unwrap().len()),
        (3, 12),
        "{status}"
    );
    assert_eq!(status["cluster"]["coordinators"][0]["role"], "voter", "{status}");

    for (command, part) in [("group", "g2"), ("worker", "w2"), ("coordinator", "leader"), ("shard", "s0011_g1")] {
        atoll.run(&[command, "list"]).await.expect(0).prints(&[part]);
    }
    for (command, list, members) in
        [("group", "groups", 3), ("worker", "workers", 3), ("coordinator", "coordinators", 1)]
    {
        let listed = atoll.json(&[command, "list"]).await;
        assert_eq!(listed[list].as_array().unwrap().len(), members, "{listed}");
    }
    let of_group = atoll.json(&["shard", "list", "--group", "g1"]).await;
    let of_group = of_group["shards"].as_array().unwrap().clone();
    assert_eq!(of_group.len(), 4, "{of_group:?}");
    assert!(of_group.iter().all(|shard| shard["group"] == "g1"), "{of_group:?}");

    // What an agent said before it had registered is known for a second or so.
    let is_well = async || match atoll.run(&["doctor"]).await {
        run if run.code == 0 => Ok(run),
        run => Err(run.err),
    };
    poll::until("the doctor to find nothing", Duration::from_secs(10), is_well).await.complains(&["nothing is wrong"]);
    assert_eq!(atoll.json(&["doctor"]).await, json!({"findings": []}));
    atoll.run(&["--version"]).await.expect(0).prints(&["atoll "]);
    // A flag goes before the environment.
    let elsewhere = CommandLine::new("http://127.0.0.1:1");
    let url = atoll.url();
    elsewhere.run(&["--url", url, "status"]).await.expect(0).prints(&["ready         yes"]);
    elsewhere.run(&["status", "--url", url]).await.expect(0).prints(&["ready         yes"]);
}

async fn collections_come_and_go(atoll: &CommandLine) {
    let create = ["collection", "create", "notes", "--dimensions", "3", "--metric", "l2", "--vector-type", "float16"];
    atoll.run(&create).await.expect(0).prints(&["collection notes is active"]);
    atoll.run(&create).await.expect(0).prints(&["collection notes is active"]);
    let other = atoll.run(&["collection", "create", "notes", "--dimensions", "4"]).await.expect(1);
    other.complains(&["error:", "request id:", "next:", "atoll collection show"]);
    let made = atoll.json(&["collection", "create", "words", "--no-vectors", "--durability", "local"]).await;
    assert_eq!((&made["name"], &made["dimensions"], &made["state"]), (&json!("words"), &json!(null), &json!("active")));

    atoll.run(&["collection", "list"]).await.expect(0).prints(&["memory_entries", "notes", "words", "float16"]);
    let list = atoll.json(&["collection", "list"]).await;
    let names: Vec<&Value> = list["collections"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["memory_entries", "notes", "words"]);
    atoll.run(&["collection", "show", "notes"]).await.expect(0).prints(&["notes", "l2", "float16", "active"]);
    let shown = atoll.json(&["collection", "show", "notes"]).await;
    assert_eq!((&shown["dimensions"], &shown["metric"]), (&json!(3), &json!("l2")));

    atoll.run(&["collection", "drop", "words"]).await.expect(0).prints(&["collection words is dropped"]);
    let gone = atoll.run(&["collection", "show", "words"]).await.expect(1);
    gone.complains(&["Collection not found", "next: see which there are: atoll collection list"]);
    let gone = atoll.run(&["collection", "show", "words", "--json"]).await.expect(1);
    let problem: Value = serde_json::from_str(&gone.err).unwrap();
    assert_eq!((gone.out.as_str(), &problem["code"]), ("", &json!("collection-not-found")));
}

async fn entries_are_written_and_read(atoll: &CommandLine, folder: &Path) {
    let vector = folder.join("vector.json");
    std::fs::write(&vector, "[0.5, -1, 2]").unwrap();
    let put = |value: &'static str| {
        let arguments =
            ["put", "team:a", "k/1 é", "--collection", "notes", "--value", value, "--tag", "x", "--tag", "y"];
        arguments.map(str::to_owned).to_vec()
    };
    let with_vector = ["--metadata", r#"{"lang":"en"}"#, "--vector-file", argument(&vector)];
    let first = put("buy milk");
    let first: Vec<&str> = first.iter().map(String::as_str).chain(with_vector).collect();
    atoll.run(&first).await.expect(0).prints(&["created: k/1 é at version 1"]);
    atoll.run(&first).await.expect(0).prints(&["unchanged: k/1 é at version 1"]);
    let second = put("buy bread");
    let second: Vec<&str> = second.iter().map(String::as_str).chain(["--vector", "[-1, 0, 0]"]).collect();
    let at = |version: &'static str| second.iter().copied().chain(["--if-version", version]).collect::<Vec<&str>>();
    atoll.run(&at("7")).await.expect(1).complains(&["next: see what is stored: atoll get NAMESPACE KEY"]);
    atoll.run(&at("1")).await.expect(0).prints(&["updated: k/1 é at version 2"]);
    let absent = ["put", "team:a", "k/1 é", "--collection", "notes", "--vector", "[1, 1, 1]", "--if-absent"];
    atoll.run(&absent).await.expect(1).complains(&["error:"]);
    let piped = ["put", "team:a", "k2", "--collection", "notes", "--value-file", "-", "--vector", "[1, 1, 1]"];
    atoll.run_with_input(&piped, "from\nstandard input").await.expect(0).prints(&["created: k2 at version 1"]);

    let get = ["get", "team:a", "k/1 é", "k2", "--collection", "notes"];
    let shown = atoll.run(&get).await.expect(0);
    shown.prints(&["value      buy bread", "tags       x, y", "from\n           standard input", "version    2"]);
    let get = ["get", "team:a", "k/1 é", "k2", "--collection", "notes", "--include", "value,vector"];
    let shown = atoll.json(&get).await;
    let entries = shown["entries"].as_array().unwrap();
    assert_eq!(
        (&entries[0]["value"], &entries[0]["vector"]),
        (&json!("buy bread"), &json!([-1.0, 0.0, 0.0])),
        "{shown}"
    );
    assert_eq!((&entries[1]["value"], &entries[1]["tags"]), (&json!("from\nstandard input"), &json!(null)), "{shown}");
    let missing = atoll.run(&["get", "team:a", "k2", "nothing", "--collection", "notes"]).await.expect(1);
    missing.prints(&["from\n"]).complains(&["namespace team:a has no entry nothing"]);

    let near =
        ["search", "--vector", "[0.9, 1, 1]", "--collection", "notes", "--prefix", "team:", "-k", "1", "--exact"];
    let found = atoll.json(&near).await;
    assert_eq!((&found["hits"][0]["key"], found["hits"].as_array().unwrap().len()), (&json!("k2"), 1), "{found}");
}

async fn the_sample_goes_in_is_found_and_comes_out_again(atoll: &CommandLine, folder: &Path) {
    let sample = wordnet::sample_folder();
    let (entries, vectors) = (sample.join("wordnet.jsonl.gz"), sample.join("wordnet.f16bin"));
    let import = ["import", argument(&entries), "--vectors", argument(&vectors)];
    let half = atoll.run(&[&import[..], &["--limit", "2500"]].concat()).await.expect(0);
    half.prints(&["2500 rows written"]);
    let rest = atoll.run(&[&import[..], &["--skip", "2500", "--json"]].concat()).await.expect(0).json();
    assert_eq!((&rest["done"], &rest["written"], &rest["failed"]), (&json!(true), &json!(2500), &json!(0)), "{rest}");
    let wrong = ["import", argument(&entries), "--vectors", argument(&vectors), "--collection", "notes"];
    atoll.run(&wrong).await.expect(1).complains(&["vectors of 384 numbers, collection notes takes 3"]);

    let search = ["search", "--like", EXAMPLE, "-k", "5", "--namespace", "noun.animal", "--exact"];
    let people = atoll.run(&search).await.expect(0);
    let lines: Vec<&str> = people.out.lines().collect();
    assert_eq!(lines.len(), 6, "a header and five hits: {}", people.out);
    assert!(lines[0].contains("SCORE") && lines[1..].iter().all(|line| line.contains("noun.animal")), "{}", people.out);
    assert!(lines[1..].iter().any(|line| line.contains("dog")), "{}", people.out);
    people.complains(&["5 hits", "1 of 1 shard answered"]);
    let programs = atoll.json(&search).await;
    for (line, hit) in lines[1..].iter().zip(programs["hits"].as_array().unwrap()) {
        assert!(line.contains(hit["key"].as_str().unwrap()), "{line}: {hit}");
    }
    assert!(!people.out.contains("n-02110627"), "what is searched by is left out: {}", people.out);
    let everywhere = atoll.run(&["search", "--like", EXAMPLE, "-k", "3", "--explain"]).await.expect(0);
    everywhere
        .prints(&["STRATEGY", "g1", "g2", "g3", "merge", "##"])
        .complains(&["3 hits", "12 of 12 shards answered"]);
    let planned = ["search", "--like", EXAMPLE, "--explain", "--plan-only", "--pg-plan"];
    let plans = atoll.run(&planned).await.expect(0);
    plans.prints(&["STRATEGY", "g1", "Limit  (cost="]);
    assert!(!plans.out.contains("SCORE") && !plans.out.contains("merge"), "nothing was searched: {}", plans.out);
    let planned = atoll.json(&planned).await;
    assert_eq!((planned["shards"].as_array().unwrap().len(), &planned["answer"]), (12, &Value::Null), "{planned}");

    let fur = atoll.run(&["search", "--like", "noun.animal:n-01901828", "-k", "5"]).await.expect(0);
    fur.prints(&["lynx", "noun.animal", "noun.artifact"]);

    let whole = folder.join("all.jsonl");
    let exported = atoll.run(&["export", "--output", argument(&whole)]).await.expect(0);
    exported.complains(&["5000 entries exported"]);
    let expected = by_id(&wordnet::sample());
    assert_eq!(exported_by_id(&std::fs::read_to_string(&whole).unwrap()), expected, "what was stored comes out");
    let printed = atoll.run(&["export", "--namespace", "noun.animal"]).await.expect(0);
    let animals = expected.iter().filter(|((namespace, _), _)| namespace == "noun.animal");
    let animals: BTreeMap<_, _> = animals.map(|(id, value)| (id.clone(), value.clone())).collect();
    assert_eq!(exported_by_id(&printed.out), animals);

    // What comes out goes in again elsewhere: from a file, and gzipped through standard input.
    for (name, from_file) in [("copy_of_file", true), ("copy_of_pipe", false)] {
        atoll.run(&["collection", "create", name, "--dimensions", "384"]).await.expect(0);
        let run = if from_file {
            atoll.run(&["import", argument(&whole), "--collection", name]).await
        } else {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(&std::fs::read(&whole).unwrap()).unwrap();
            atoll.run_with_input(&["import", "-", "--collection", name], packed.finish().unwrap()).await
        };
        run.expect(0).prints(&["5000 rows written"]);
        let copy = atoll.run(&["export", "--collection", name]).await.expect(0);
        assert_eq!(exported_by_id(&copy.out), expected, "{name}");
    }

    let partly = folder.join("partly.jsonl");
    std::fs::write(
        &partly,
        "{\"namespace\":\"p\",\"key\":\"1\",\"vector\":[1,2,3]}\n{\"namespace\":\"p\",\"key\":\"2\"}\n",
    )
    .unwrap();
    let run = atoll.run(&["import", argument(&partly), "--collection", "notes"]).await.expect(1);
    run.prints(&["1 row written"]).complains(&["entry 2:", "1 row failed"]);
    let run = atoll.run(&["import", argument(&folder.join("none.jsonl"))]).await.expect(1);
    run.complains(&["cannot read", "none.jsonl"]);
}

async fn namespaces_are_listed_and_deleted(atoll: &CommandLine) {
    let list = atoll.run(&["namespace", "list", "--prefix", "noun.a"]).await.expect(0);
    let listed: Vec<&str> = list.out.lines().collect();
    assert!(listed.contains(&"noun.animal") && listed.iter().all(|name| name.starts_with("noun.a")), "{listed:?}");
    assert!(listed.is_sorted(), "{listed:?}");
    let first = atoll.run(&["namespace", "list", "--limit", "2"]).await.expect(0);
    first.complains(&["2 namespaces"]);
    assert_eq!(first.out.lines().count(), 2, "{}", first.out);

    let shown = atoll.json(&["namespace", "show", "noun.animal"]).await;
    let stored = wordnet::sample().iter().filter(|entry| entry.namespace == "noun.animal").count();
    assert_eq!(shown["count"], json!(stored), "{shown}");
    let located = atoll.json(&["namespace", "locate", "noun.animal"]).await;
    assert_eq!((&located["shard"], &located["schema"]), (&shown["shard"], &shown["schema"]));
    let schema = shown["schema"].as_str().unwrap();
    atoll.run(&["namespace", "locate", "noun.animal"]).await.expect(0).prints(&[schema]);
    atoll.run(&["namespace", "locate", "nobody.wrote.here"]).await.expect(0).prints(&["nobody.wrote.here"]);

    let deleted = atoll.run(&["namespace", "delete", "noun.animal"]).await.expect(0);
    deleted.prints(&[&format!("{stored} entries of namespace noun.animal deleted")]);
    atoll.run(&["namespace", "delete", "noun.animal"]).await.expect(0).prints(&["0 entries"]);
}

async fn one_command_brings_the_sample(atoll: &CommandLine) {
    atoll.run(&["collection", "drop", "memory_entries"]).await.expect(0);
    atoll.run(&["collection", "create", "memory_entries", "--dimensions", "384"]).await.expect(0);
    let first = atoll.run(&["sample"]).await.expect(0);
    first.prints(&["$ atoll search --like", "lynx", "5 hits"]).complains(&["5000 entries written"]);
    let again = atoll.json(&["sample"]).await;
    assert_eq!(again["hits"].as_array().unwrap().len(), 5, "{again}");
    atoll.run(&["sample"]).await.expect(0).complains(&["is there already"]);
}

async fn exit_codes_tell_bad_usage_from_failure(atoll: &CommandLine) {
    for usage in [
        &["search"][..],
        &["nonsense"],
        &["status", "--colour"],
        &["collection", "create", "Bad-Name", "--dimensions", "3"],
        &["get", "bad namespace", "k"],
        &["search", "--like", EXAMPLE, "-k", "0"],
        &["search", "--like", EXAMPLE, "--filter", "{"],
        &["collection", "create", "no_vectors_said"],
        &["status", "--timeout-ms", "60001"],
    ] {
        let run = atoll.run(usage).await.expect(2);
        assert_eq!(run.out, "", "{usage:?}");
        assert!(run.err.starts_with("error:"), "{usage:?}: {}", run.err);
    }
    let run = atoll.run(&["search", "--like", "noun.animal:nothing"]).await.expect(1);
    run.complains(&["error:", "request id:"]);
    let run = atoll.run(&["search", "--vector", "[1, 2]"]).await.expect(1);
    run.complains(&["/vector", "384"]);
    for missing in [&["collection", "drop", "nothing"][..], &["put", "n", "k", "--vector", "[1]"]] {
        let run = atoll.run(missing).await.expect(1);
        assert!(run.out.is_empty() && run.err.starts_with("error:"), "{missing:?}: {}{}", run.out, run.err);
    }
    let nothing = atoll.run(&[]).await.expect(2);
    assert!(nothing.out.is_empty() && nothing.err.contains("Usage:"), "{}{}", nothing.out, nothing.err);
    atoll.run(&["--help"]).await.expect(0).prints(&["Exit status"]);
    let run = atoll.run(&["coordinator", "remove", "1"]).await.expect(1);
    run.complains(&["error:"]);
    let nobody = CommandLine::new("http://127.0.0.1:1");
    nobody.run(&["status"]).await.expect(1).complains(&["cannot connect to http://127.0.0.1:1", "atoll dev"]);
}

/// What matters of an entry, by its id: half-precision vectors come back as they were given.
type Entries = BTreeMap<(String, String), (String, Value, Vec<f32>)>;

fn by_id(entries: &[Sample]) -> Entries {
    let one = |entry: &Sample| {
        // The file has no tags.
        let kept = (entry.value.clone(), json!([entry.metadata, []]), entry.vector.clone());
        ((entry.namespace.clone(), entry.key.clone()), kept)
    };
    entries.iter().map(one).collect()
}

fn exported_by_id(lines: &str) -> Entries {
    let one = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| entry[field].as_str().unwrap().to_owned();
        let vector = entry["vector"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect();
        ((text("namespace"), text("key")), (text("value"), json!([entry["metadata"], entry["tags"]]), vector))
    };
    lines.lines().map(one).collect()
}
