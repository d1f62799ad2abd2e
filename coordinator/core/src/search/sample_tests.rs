#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::{any, prop_assert, proptest};
use serde_json::json;

fn filter(json: Value) -> Expr {
    crate::filter::check(&serde_json::from_value(json).unwrap(), "/filter").unwrap()
}

fn row(namespace: &str, key: &str, metadata: Value, tags: &[&str]) -> SampledRow {
    SampledRow {
        namespace: namespace.to_owned(),
        key: key.to_owned(),
        metadata: metadata.as_object().unwrap().clone(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        created_micros: 1_000_000,
        updated_micros: 2_000_000,
    }
}

#[test]
fn a_filter_means_here_what_it_means_in_sql() {
    let row = row("n", "key-5", json!({"a": {"b": 2.0}, "l": ["x", 1], "t": "mid", "z": null}), &["red", "blue"]);
    let clauses = [
        (true, json!({"field": "metadata.a.b", "eq": 2})),
        (false, json!({"field": "metadata.a", "eq": 2})),
        (true, json!({"field": "metadata.a.b", "in": [1, 2]})),
        (true, json!({"field": "metadata.a.b", "range": {"gt": 1.5, "lte": 2}})),
        (false, json!({"field": "metadata.t", "range": {"gt": 1}})),
        (true, json!({"field": "metadata.t", "range": {"gte": "mid", "lt": "mie"}})),
        (true, json!({"field": "metadata.t", "prefix": "mi"})),
        (true, json!({"field": "metadata.l", "any": [7, 1]})),
        (false, json!({"field": "metadata.l", "all": ["x", 7]})),
        (false, json!({"field": "metadata.l", "eq": "x"})),
        (true, json!({"field": "metadata.z", "exists": true})),
        (true, json!({"field": "metadata.nothing", "ne": 3})),
        (false, json!({"field": "metadata.l.0", "exists": true})),
        (true, json!({"field": "tags", "any": ["green", "red"]})),
        (false, json!({"field": "tags", "all": ["green", "red"]})),
        (true, json!({"field": "tags", "prefix": "bl"})),
        (true, json!({"field": "tags", "exists": true})),
        (true, json!({"field": "key", "in": ["key-5"]})),
        (false, json!({"field": "key", "range": {"gt": "key-5"}})),
        (true, json!({"field": "key", "prefix": "key"})),
        (true, json!({"field": "created_at", "range": {"lte": "1970-01-01T00:00:01Z"}})),
        (false, json!({"field": "updated_at", "range": {"lt": "1970-01-01T00:00:02Z"}})),
    ];
    for (wanted, clause) in clauses {
        assert_eq!(holds(&filter(json!({"must": [clause]})), &row), wanted, "{clause}");
        assert_eq!(holds(&filter(json!({"must_not": [clause]})), &row), !wanted, "not {clause}");
    }
    assert!(holds(&filter(json!({})), &row));
}

#[test]
fn indexes_answer_a_part_of_a_filter_that_lets_through_no_less() {
    let tag = json!({"field": "tags", "any": ["a"]});
    let (metadata, key) = (json!({"field": "metadata.a", "eq": 1}), json!({"field": "key", "prefix": "a"}));
    let both = indexed(&filter(json!({"must": [tag, key], "must_not": [metadata]})));
    assert_eq!(both, indexed(&filter(json!({"must": [tag]}))), "the key and what is negated are left out");
    assert!(indexed(&filter(json!({"should": [tag, metadata]}))).is_some());
    assert_eq!(indexed(&filter(json!({"should": [tag, key]}))), None);
    assert_eq!(indexed(&filter(json!({}))), None);
}

#[test]
fn shares_are_those_of_the_namespaces_asked_for() {
    let rows = (0..400).map(|i| {
        let namespace = if i % 2 == 0 { "even" } else { "odd" };
        row(namespace, "k", json!({"even": i % 2 == 0, "tenth": i % 10 == 0}), &[])
    });
    let sample = Sample::new(rows.collect());
    let even = filter(json!({"must": [{"field": "metadata.even", "eq": true}]}));
    let of = |namespace: &'static str| sample.matching(&even, 4_000, move |asked| asked == namespace).unwrap();
    assert!(of("even").share > 0.99 && of("odd").share < 0.01);
    let indexed_rows = of("odd").indexed_rows.unwrap();
    assert!((1_900.0..=2_100.0).contains(&indexed_rows), "of the whole table: {indexed_rows}");
    // Of a namespace without sampled rows the table's share is taken.
    let unknown = of("nobody").share;
    assert!((0.4..=0.6).contains(&unknown), "{unknown}");
    assert!(Sample::default().matching(&even, 4_000, |_| true).is_none());
}

proptest! {
    #[test]
    fn a_share_is_a_share(matches in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..400)) {
        let rows = matches.iter().map(|(here, hit)| {
            row(if *here { "here" } else { "there" }, "k", json!({"hit": hit}), if *hit { &["hit"] } else { &[] })
        });
        let sample = Sample::new(rows.collect());
        for clause in [json!({"field": "metadata.hit", "eq": true}), json!({"field": "tags", "exists": true})] {
            let matching = sample.matching(&filter(json!({"must": [clause]})), 10_000, |name| name == "here").unwrap();
            prop_assert!(matching.share > 0.0 && matching.share < 1.0);
            prop_assert!(matching.indexed_rows.is_none_or(|rows| rows > 0.0 && rows <= 10_000.0));
        }
    }
}
