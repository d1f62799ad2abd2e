//! Reads PostgreSQL's plan of a shard's statement, as `explain (format json)` gives it: did the server do what the coordinator
//! meant? A walk of a graph is an index scan that orders: nothing else in a statement of ours is.

use atoll_proto::ShardId;
use atoll_proto::explain::{SearchWarning, WarningCode};
use serde_json::Value;

/// A table of fewer rows is read as fast from end to end as by an index.
const SEQUENTIAL_SCAN_ROWS: u64 = 1_000;

/// What the coordinator meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meant {
    /// The shard.
    pub shard: ShardId,
    /// Graphs to be walked.
    pub walks: usize,
    /// Whether every row of the table is asked for.
    pub whole_table: bool,
    /// Rows of the table; none if unknown.
    pub table_rows: Option<u64>,
}

/// Where a plan differs from what was meant.
pub fn warnings(meant: Meant, plan: &Value) -> Vec<SearchWarning> {
    let mut seen = Seen::default();
    seen.node(&plan["Plan"]);
    let mut warnings = Vec::new();
    let mut warn = |code, detail| warnings.push(SearchWarning { code, shards: vec![meant.shard], detail });
    if seen.walks < meant.walks {
        let others = match seen.other_indexes.is_empty() {
            true => "sorts rows".to_owned(),
            false => format!("sorts what {} gives", seen.other_indexes.join(", ")),
        };
        let detail = format!("PostgreSQL walks {} of {} graphs and {others} instead", seen.walks, meant.walks);
        warn(WarningCode::GraphNotWalked, detail);
    }
    let large = meant.table_rows.is_some_and(|rows| rows >= SEQUENTIAL_SCAN_ROWS);
    if !meant.whole_table && large && !seen.sequential_scans.is_empty() {
        let tables = seen.sequential_scans.join(", ");
        warn(WarningCode::SequentialScan, format!("PostgreSQL reads {tables} from end to end for some of its rows"));
    }
    warnings
}

#[derive(Default)]
struct Seen {
    walks: usize,
    other_indexes: Vec<String>,
    sequential_scans: Vec<String>,
}

impl Seen {
    fn node(&mut self, node: &Value) {
        let text = |name: &str| node[name].as_str().unwrap_or_default();
        if let Some(index) = node["Index Name"].as_str() {
            match node["Order By"].is_string() {
                true => self.walks += 1,
                false => push_new(&mut self.other_indexes, index),
            }
        }
        if text("Node Type") == "Seq Scan" {
            push_new(&mut self.sequential_scans, text("Relation Name"));
        }
        // Plans are as deep as their statements, and these are ours.
        node["Plans"].as_array().into_iter().flatten().for_each(|below| self.node(below));
    }
}

fn push_new(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const MEANT: Meant = Meant { shard: ShardId(3), walks: 1, whole_table: false, table_rows: Some(5_000) };

    fn codes(meant: Meant, plan: &Value) -> Vec<WarningCode> {
        warnings(meant, plan).into_iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn a_walk_that_was_meant_is_looked_for_among_all_nodes() {
        let walk = json!({"Node Type": "Index Scan", "Index Name": "_hnsw_a", "Order By": "(embedding <=> $1)"});
        let rest = json!({"Node Type": "Sort", "Plans": [{"Node Type": "Index Scan", "Index Name": "t_pkey"}]});
        let plan = json!({"Plan": {"Node Type": "Limit", "Plans": [{"Node Type": "Append", "Plans": [walk, rest]}]}});
        assert_eq!(codes(MEANT, &plan), []);
        let of_two = warnings(Meant { walks: 2, ..MEANT }, &plan);
        assert_eq!(of_two[0].detail, "PostgreSQL walks 1 of 2 graphs and sorts what t_pkey gives instead");
        assert_eq!(of_two[0].shards, [ShardId(3)]);
    }

    #[test]
    fn a_table_is_read_from_end_to_end_only_for_all_of_it() {
        let plan = json!({"Plan": {"Node Type": "Sort", "Plans": [{"Node Type": "Seq Scan", "Relation Name": "t"}]}});
        let exact = Meant { walks: 0, ..MEANT };
        assert_eq!(codes(exact, &plan), [WarningCode::SequentialScan]);
        assert_eq!(codes(Meant { whole_table: true, ..exact }, &plan), []);
        assert_eq!(codes(Meant { table_rows: Some(10), ..exact }, &plan), []);
        assert_eq!(codes(MEANT, &plan), [WarningCode::GraphNotWalked, WarningCode::SequentialScan]);
    }

    #[test]
    fn what_is_no_plan_shows_no_walk() {
        assert_eq!(codes(MEANT, &Value::Null), [WarningCode::GraphNotWalked]);
        assert_eq!(codes(Meant { walks: 0, ..MEANT }, &json!({"Plan": 7})), []);
    }
}
