//! The command line against a cluster: what it prints for people and for programs, and how it ends.

#![allow(clippy::unwrap_used)]

use cluster_tests::processes::program;
use cluster_tests::wordnet;
use cluster_tests::{Cluster, ClusterOptions};
use serde_json::{Value, json};
use std::path::Path;
use tokio::process::Command;

/// What a run of the program left.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    #[track_caller]
    fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

async fn atoll(url: &str, arguments: &[&str]) -> Run {
    let mut command = Command::new(program("atoll"));
    command.env_remove("ATOLL_URL").arg("--url").arg(url).args(arguments).stdin(std::process::Stdio::null());
    let output = command.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_line() {
    let cluster = Cluster::start(ClusterOptions::new("command_line").workers(2)).await;
    let client = cluster.client();
    let url = client.base();
    what_the_cluster_is_made_of(url).await;
    collections(url).await;
    entries(url).await;
    sample_in_and_out(url, cluster.scratch()).await;
    how_it_ends(url).await;
    cluster.finish(&[]).await;
}

async fn what_the_cluster_is_made_of(url: &str) {
    let status = atoll(url, &["status"]).await.ended(0);
    for word in ["w1", "w2", "g1", "g2"] {
        assert!(status.out.contains(word), "{word} is not in: {}", status.out);
    }
    assert!(atoll(url, &["status", "--json"]).await.ended(0).json().is_object());
    assert_eq!(atoll(url, &["shard", "list", "--json"]).await.ended(0).json()["shards"].as_array().unwrap().len(), 12);
    assert_eq!(
        atoll(url, &["shard", "list", "--group", "g2", "--json"]).await.ended(0).json()["shards"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
    assert_eq!(atoll(url, &["group", "list", "--json"]).await.ended(0).json()["groups"].as_array().unwrap().len(), 2);
    assert_eq!(atoll(url, &["worker", "list", "--json"]).await.ended(0).json()["workers"].as_array().unwrap().len(), 2);
    assert_eq!(
        atoll(url, &["coordinator", "list", "--json"]).await.ended(0).json()["coordinators"].as_array().unwrap().len(),
        1
    );
    for command in ["shard", "group", "worker", "coordinator"] {
        assert!(atoll(url, &[command, "list"]).await.ended(0).out.lines().count() >= 2, "a table has a head and a row");
    }
    assert_eq!(atoll(url, &["doctor", "--json"]).await.ended(0).json(), json!({"findings": []}));
}

async fn collections(url: &str) {
    let create = ["collection", "create", "notes", "--dimensions", "3", "--metric", "l2"];
    atoll(url, &create).await.ended(0);
    atoll(url, &create).await.ended(0);
    let conflict = atoll(url, &["collection", "create", "notes", "--dimensions", "4"]).await.ended(1);
    assert!(conflict.err.contains("error:") && conflict.out.is_empty(), "{}", conflict.err);
    assert!(atoll(url, &["collection", "list"]).await.ended(0).out.contains("notes"));
    let shown = atoll(url, &["collection", "show", "notes", "--json"]).await.ended(0).json();
    assert_eq!((&shown["dimensions"], &shown["metric"], &shown["state"]), (&json!(3), &json!("l2"), &json!("active")));
}

async fn entries(url: &str) {
    let put = [
        "put",
        "team-a:n",
        "k 1/ü",
        "--collection",
        "notes",
        "--value",
        "buy milk",
        "--vector",
        "[1, 2, 3]",
        "--metadata",
        "{\"a\": 1}",
        "--tag",
        "todo",
    ];
    assert!(atoll(url, &put).await.ended(0).out.contains("created"));
    let put_json: Vec<&str> = put.iter().copied().chain(["--json"]).collect();
    assert_eq!(atoll(url, &put_json).await.ended(0).json()["results"][0]["status"], "unchanged");
    let absent: Vec<&str> = put.iter().copied().chain(["--if-absent"]).collect();
    assert!(atoll(url, &absent).await.ended(1).err.contains("Version mismatch"));
    let get = ["get", "team-a:n", "k 1/ü", "--collection", "notes"];
    let got = atoll(url, &get).await.ended(0);
    for word in ["k 1/ü", "buy milk", "todo"] {
        assert!(got.out.contains(word), "{word} is not in: {}", got.out);
    }
    let get_json: Vec<&str> = get.iter().copied().chain(["--json", "--include", "value,vector"]).collect();
    let got = atoll(url, &get_json).await.ended(0).json();
    assert_eq!(
        (&got["entries"][0]["value"], &got["entries"][0]["vector"]),
        (&json!("buy milk"), &json!([1.0, 2.0, 3.0]))
    );
    let found = atoll(url, &["search", "--collection", "notes", "--vector", "[1,2,3]", "--json"]).await.ended(0).json();
    assert_eq!(found["hits"][0]["key"], "k 1/ü");
    let located = atoll(url, &["namespace", "locate", "team-a:n", "--collection", "notes"]).await.ended(0);
    assert!(located.out.contains("team-a:n"), "{}", located.out);
    assert!(atoll(url, &["namespace", "list", "--collection", "notes"]).await.ended(0).out.contains("team-a:n"));
    assert!(
        atoll(url, &["namespace", "delete", "team-a:n", "--collection", "notes", "--yes"]).await.code != 2 || {
            atoll(url, &["namespace", "delete", "team-a:n", "--collection", "notes"]).await.ended(0);
            true
        }
    );
    atoll(url, &get).await.ended(1);
}

async fn sample_in_and_out(url: &str, scratch: &Path) {
    let folder = wordnet::sample_folder();
    let (entries, vectors) = (folder.join("wordnet.jsonl.gz"), folder.join("wordnet.f16bin"));
    let import = ["import", entries.to_str().unwrap(), "--vectors", vectors.to_str().unwrap(), "--json"];
    let done = atoll(url, &import).await.ended(0);
    let last: Value = serde_json::from_str(done.out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["done"], &last["written"], &last["failed"]), (&json!(true), &json!(5_000), &json!(0)), "{last}");

    let near = atoll(url, &["search", "--like", "noun.animal:n-01901828", "-k", "5"]).await.ended(0);
    assert!(near.out.contains("lynx") && near.out.contains("noun.artifact"), "fur of all kinds: {}", near.out);
    assert!(!near.out.contains("n-01901828"), "an entry is not its own neighbour: {}", near.out);
    let near = atoll(url, &["search", "--like", "noun.animal:n-01901828", "-k", "5", "--exact", "--json"])
        .await
        .ended(0)
        .json();
    assert_eq!(near["hits"].as_array().unwrap().len(), 5);

    let (whole, part) = (scratch.join("whole.jsonl"), scratch.join("again.jsonl"));
    atoll(url, &["export", "--output", whole.to_str().unwrap()]).await.ended(0);
    atoll(url, &["collection", "create", "copy", "--dimensions", "384"]).await.ended(0);
    atoll(url, &["import", whole.to_str().unwrap(), "--collection", "copy"]).await.ended(0);
    atoll(url, &["export", "--collection", "copy", "--output", part.to_str().unwrap()]).await.ended(0);
    let sorted = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&whole).len(), 5_000);
    assert!(sorted(&whole) == sorted(&part), "the copy of the copy is another one");
    let one = atoll(url, &["export", "--namespace", "noun.food"]).await.ended(0);
    assert!(one.out.lines().count() > 0);
    assert!(one.out.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["namespace"] == "noun.food"));
}

async fn how_it_ends(url: &str) {
    for missing in [
        vec!["collection", "show", "nothing"],
        vec!["collection", "drop", "nothing"],
        vec!["get", "n", "no-such-key"],
        vec!["search", "--like", "n:no-such-key"],
        vec!["import", "/nowhere/at-all.jsonl"],
        vec!["put", "n", "k", "--vector", "[1]"],
    ] {
        let run = atoll(url, &missing).await.ended(1);
        assert!(run.err.contains("error:"), "{missing:?}: {}", run.err);
    }
    for wrong in [
        vec![],
        vec!["nonsense"],
        vec!["search"],
        vec!["search", "--vector", "[1,2", "-k", "3"],
        vec!["collection", "create", "Bad-Name", "--dimensions", "3"],
        vec!["collection", "create", "x"],
        vec!["status", "--colour"],
        vec!["get", "bad namespace", "k"],
    ] {
        let run = atoll(url, &wrong).await.ended(2);
        assert!(run.out.is_empty() && !run.err.is_empty(), "{wrong:?}: {} {}", run.out, run.err);
    }
    let nobody = atoll("http://127.0.0.1:9", &["status"]).await.ended(1);
    assert!(nobody.err.contains("cannot connect") && nobody.err.contains("next:"), "{}", nobody.err);
    // For programs a problem is one JSON document too.
    let problem = atoll(url, &["collection", "show", "nothing", "--json"]).await.ended(1);
    let text = format!("{}{}", problem.out, problem.err);
    assert!(text.contains("collection-not-found"), "{text}");
    assert!(atoll(url, &["--help"]).await.ended(0).out.contains("Exit status"));
    atoll(url, &["collection", "drop", "copy"]).await.ended(0);
}
