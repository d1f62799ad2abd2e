//! PostgreSQL's plan, from its JSON to lines like those of `explain` in psql.

use serde_json::Value;

/// What of a node is told below it, in this order, if the node has it.
const TOLD: [&str; 11] = [
    "Order By",
    "Index Cond",
    "Recheck Cond",
    "Filter",
    "Rows Removed by Filter",
    "Rows Removed by Index Recheck",
    "One-Time Filter",
    "Sort Key",
    "Presorted Key",
    "Sort Method",
    "Run Condition",
];

/// The lines of a plan.
pub(super) fn lines(plan: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    push_node(&plan["Plan"], 0, &mut lines);
    for time in ["Planning Time", "Execution Time"] {
        if let Some(ms) = plan[time].as_f64() {
            lines.push(format!("{time}: {ms:.3} ms"));
        }
    }
    lines
}

fn push_node(node: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "      ".repeat(depth);
    let arrow = if depth == 0 { "" } else { "->  " };
    lines.push(format!("{}{arrow}{}", indent.get(4..).unwrap_or_default(), head(node)));
    for name in TOLD {
        if let Some(value) = node.get(name).filter(|value| !is_nothing(value)) {
            lines.push(format!("{indent}  {name}: {}", text(value)));
        }
    }
    lines.extend(buffers(node).map(|buffers| format!("{indent}  Buffers: {buffers}")));
    for below in node["Plans"].as_array().into_iter().flatten() {
        push_node(below, depth + 1, lines);
    }
}

/// `Index Scan using i on t  (cost=… rows=…) (actual time=… rows=… loops=…)`.
fn head(node: &Value) -> String {
    let mut head = text(&node["Node Type"]);
    for (word, name) in [("using", "Index Name"), ("on", "Relation Name")] {
        if let Some(name) = node[name].as_str() {
            head.push_str(&format!(" {word} {name}"));
        }
    }
    let number = |name: &str| text(&node[name]);
    head.push_str(&format!(
        "  (cost={}..{} rows={})",
        number("Startup Cost"),
        number("Total Cost"),
        number("Plan Rows")
    ));
    if node["Actual Total Time"].is_number() {
        head.push_str(&format!(
            " (actual time={}..{} rows={} loops={})",
            number("Actual Startup Time"),
            number("Actual Total Time"),
            number("Actual Rows"),
            number("Actual Loops")
        ));
    }
    head
}

fn buffers(node: &Value) -> Option<String> {
    let part = |(word, name): (&str, &str)| {
        node[name].as_u64().filter(|blocks| *blocks > 0).map(|blocks| format!("{word}={blocks}"))
    };
    let parts: Vec<String> =
        [("hit", "Shared Hit Blocks"), ("read", "Shared Read Blocks")].into_iter().filter_map(part).collect();
    (!parts.is_empty()).then(|| format!("shared {}", parts.join(" ")))
}

/// PostgreSQL tells zeros where nothing was removed.
fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_u64() == Some(0)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => without_numbers(text),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Null => "?".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// The text with the first number of a vector in place of all: hundreds of them hide the rest.
fn without_numbers(text: &str) -> String {
    let vector = |text: &str| -> Option<String> {
        let (before, rest) = text.split_once("'[")?;
        let (numbers, after) = rest.split_once("]'")?;
        let (first, _) = numbers.split_once(',')?;
        Some(format!("{before}'[{first},...]'{after}"))
    };
    vector(text).unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_reads_as_in_psql() {
        let walk = json!({
            "Node Type": "Index Scan", "Index Name": "_hnsw_a", "Relation Name": "notes", "Startup Cost": 4.1, "Total Cost": 60.5,
            "Plan Rows": 1200, "Actual Startup Time": 0.1, "Actual Total Time": 0.2, "Actual Rows": 20, "Actual Loops": 1,
            "Order By": "(embedding <=> $1)", "Filter": "(expires_at IS NULL)", "Rows Removed by Filter": 0,
            "Shared Hit Blocks": 310, "Shared Read Blocks": 0
        });
        let sort = json!({"Node Type": "Sort", "Startup Cost": 1.0, "Total Cost": 2.0, "Plan Rows": 3, "Sort Key": ["a", "b"], "Plans": [walk]});
        let plan = json!({
            "Plan": {"Node Type": "Limit", "Startup Cost": 4.1, "Total Cost": 5.2, "Plan Rows": 20, "Plans": [sort]},
            "Planning Time": 0.25, "Execution Time": 0.5
        });
        assert_eq!(
            lines(&plan).join("\n"),
            "\
Limit  (cost=4.1..5.2 rows=20)
  ->  Sort  (cost=1.0..2.0 rows=3)
        Sort Key: a, b
        ->  Index Scan using _hnsw_a on notes  (cost=4.1..60.5 rows=1200) (actual time=0.1..0.2 rows=20 loops=1)
              Order By: (embedding <=> $1)
              Filter: (expires_at IS NULL)
              Buffers: shared hit=310
Planning Time: 0.250 ms
Execution Time: 0.500 ms"
        );
    }

    #[test]
    fn a_vector_is_shown_by_its_first_number() {
        let key = "((embedding <=> '[0.25,1,-2]'::vector) + '0'::double precision)";
        assert_eq!(without_numbers(key), "((embedding <=> '[0.25,...]'::vector) + '0'::double precision)");
        for as_it_is in ["namespace = 'a'", "'[1]'::vector", "'[", "]'['"] {
            assert_eq!(without_numbers(as_it_is), as_it_is);
        }
    }

    #[test]
    fn what_is_no_plan_is_no_trouble() {
        assert_eq!(lines(&json!(7)), ["?  (cost=?..? rows=?)"]);
    }
}
