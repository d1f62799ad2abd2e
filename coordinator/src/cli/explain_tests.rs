#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::{Value, json};

fn explanation(value: Value) -> Explanation {
    serde_json::from_value(value).unwrap()
}

fn walked() -> Value {
    json!({
        "shard":3,"group":"g1","worker":"w1","role":"primary","generation":1,"strategy":"hnsw",
        "why":"large namespaces have graphs of their own","ef":40,"candidates_wanted":20,
        "graphs":["noun.animal","noun.artifact"],"rows":4100,"cost_us":420.0,
        "rejected":[{"strategy":"exact","what":"look at every row","cost_us":3075.0}],
        "run":{"started_ms":0.5,"queued_ms":2.0,"ms":4.5,"candidates":20,"hits":7,"moved":2,"added_by_fallback":null},
        "pg_plan":null
    })
}

fn scanned() -> Value {
    json!({
        "shard":11,"group":"g2","worker":"w2","role":"primary","generation":1,"strategy":"exact","why":"few rows","ef":null,
        "candidates_wanted":28,"graphs":[],"rows":120,"cost_us":90.0,"rejected":[],
        "run":{"started_ms":0.5,"queued_ms":0.0,"ms":1.0,"candidates":28,"hits":3,"moved":0,"added_by_fallback":null},
        "pg_plan":null
    })
}

fn ran() -> Explanation {
    explanation(json!({
        "shards":[walked(), scanned()],
        "merge":{"started_ms":5.0,"ms":0.1,"candidates":48,"hits":10,"moved":2,"overfetch":2.0,"added_by_fallback":0},
        "fetch":{"started_ms":5.1,"ms":4.9,"hits":10},
        "warnings":[{"code":"graph_missing","shards":[3,11],"detail":"no graph of their own yet: a (1200 rows)"},
                    {"code":"deadline_close","shards":[],"detail":"took 10 ms of the 11 ms it had"}]
    }))
}

#[test]
fn a_search_that_ran_is_a_tree_with_a_waterfall() {
    assert_eq!(
        tree(&ran(), None),
        "\
SHARD  WORKER  STRATEGY  EF  CANDIDATES  HITS   MS  0                                10.0 ms
    3  g1/w1   hnsw      40       20/20     7  4.5  ..--------###########...................
      |- large namespaces have graphs of their own; 4100 rows; should take 0.4 ms; rather than exact (3.1 ms)
      |- walks noun.animal, noun.artifact
      |- exact distances moved 2 of 20
      `- waited 2.0 ms for a connection
   11  g2/w2   exact      -       28/28     3  1.0  ..#####.................................
      `- few rows; 120 rows; should take 0.1 ms
merge                                48    10  0.1  ....................#...................
      `- exact distances moved 2 of 48 candidates
fetch                                 -    10  4.9  ....................####################
warning: graph_missing on shards 3, 11: no graph of their own yet: a (1200 rows)
warning: deadline_close: took 10 ms of the 11 ms it had"
    );
}

#[test]
fn a_terminal_is_filled_and_not_exceeded() {
    for width in [70, 80, 120] {
        let shown = tree(&ran(), Some(width));
        let tree = shown.lines().filter(|line| !line.starts_with("warning"));
        let longest = tree.map(|line| line.chars().count()).max().unwrap();
        assert_eq!(longest, width, "{shown}");
        assert!(shown.contains("░░") && shown.contains("├ large namespaces"), "{shown}");
    }
}

#[test]
fn a_plan_alone_has_no_times() {
    let mut shards = [walked(), scanned()];
    shards.iter_mut().for_each(|shard| shard["run"] = Value::Null);
    shards[1]["pg_plan"] =
        json!({"Plan": {"Node Type": "Limit", "Startup Cost": 0.5, "Total Cost": 8.0, "Plan Rows": 28}});
    let planned = explanation(json!({"shards":shards,"merge":null,"fetch":null,"warnings":[]}));
    assert_eq!(
        tree(&planned, None),
        "\
SHARD  WORKER  STRATEGY  EF  CANDIDATES  HITS  MS
    3  g1/w1   hnsw      40          20     -   -
      |- large namespaces have graphs of their own; 4100 rows; should take 0.4 ms; rather than exact (3.1 ms)
      `- walks noun.animal, noun.artifact
   11  g2/w2   exact      -          28     -   -
      `- few rows; 120 rows; should take 0.1 ms
          Limit  (cost=0.5..8.0 rows=28)"
    );
}

#[test]
fn a_shard_that_gave_no_answer_is_told_and_a_fallback_too() {
    let mut shards = [walked(), scanned()];
    shards[0]["run"] = Value::Null;
    shards[1]["run"]["added_by_fallback"] = json!(4);
    let mut partly = ran();
    partly.shards = shards.map(|shard| serde_json::from_value(shard).unwrap()).into();
    let shown = tree(&partly, None);
    assert!(shown.contains("`- gave no answer\n"), "{shown}");
    assert!(shown.contains("`- the exact scan after the walk added 4\n"), "{shown}");
}
