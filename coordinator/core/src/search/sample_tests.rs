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
    let part = |filter_json: Value| {
        let row = row("n", "other", json!({"a": 1}), &["a"]);
        indexed_part_holds(&filter(filter_json), &row)
    };
    let (tag, no_tag) = (json!({"field": "tags", "any": ["a"]}), json!({"field": "tags", "any": ["b"]}));
    let (metadata, key) = (json!({"field": "metadata.a", "eq": 1}), json!({"field": "key", "prefix": "a"}));
    let both = json!({"must": [tag, key], "must_not": [metadata]});
    assert_eq!(part(both), Some(true), "the key and what is negated are left out");
    assert_eq!(part(json!({"must": [tag, no_tag]})), Some(false));
    assert_eq!(part(json!({"should": [no_tag, metadata]})), Some(true));
    assert_eq!(part(json!({"should": [tag, key]})), None);
    assert_eq!(part(json!({})), None);
}

#[test]
fn shares_are_those_of_the_namespaces_asked_for() {
    let rows = (0..400).map(|i| {
        let namespace = if i % 2 == 0 { "even" } else { "odd" };
        row(namespace, "k", json!({"even": i % 2 == 0, "tenth": i % 10 == 0}), &[])
    });
    let sample = Sample::new(rows.collect(), Vec::new());
    let even = filter(json!({"must": [{"field": "metadata.even", "eq": true}]}));
    let tried = sample.tried(Some(&even));
    let of = |namespace: &'static str| tried.matching(move |asked| asked == namespace);
    assert!(of("even") > 0.99 && of("odd") < 0.01);
    let indexed = tried.indexed().unwrap();
    assert!((0.47..=0.53).contains(&indexed), "of the whole table: {indexed}");
    let asked = tried.asked(|name| name == "odd");
    assert!((0.47..=0.53).contains(&asked), "{asked}");
    // Of a namespace without sampled rows the table's share is taken.
    let unknown = of("nobody");
    assert!((0.4..=0.6).contains(&unknown), "{unknown}");
    assert!(tried.asked(|name| name == "nobody") < 0.01);
    assert!(Sample::default().tried(Some(&even)).is_empty());
    assert_eq!(sample.tried(None).indexed(), None);
}

#[test]
fn rows_whose_metadata_is_not_held_count_by_their_namespace() {
    let small = (0..100).map(|i| row("small", "k", json!({"even": i % 2 == 0}), &[]));
    let sample = Sample::new(small.collect(), vec!["large".to_owned(); 300]);
    let even = filter(json!({"must": [{"field": "metadata.even", "eq": true}]}));
    for tried in [sample.tried(None), sample.tried(Some(&even))] {
        let asked = ["small", "large"].map(|asked| tried.asked(|name| name == asked));
        assert!((0.24..=0.26).contains(&asked[0]) && (0.74..=0.76).contains(&asked[1]), "{asked:?}");
    }
    let matching = sample.tried(Some(&even)).matching(|name| name == "large");
    assert!((0.45..=0.55).contains(&matching), "by the others: {matching}");
    let large = Sample::new(Vec::new(), vec!["large".to_owned(); 300]);
    let tried = large.tried(Some(&even));
    assert!(tried.is_untried() && !tried.is_empty() && tried.asked(|name| name == "large") > 0.99);
}

#[test]
fn a_huge_filter_is_tried_on_few_rows_or_none() {
    let sample = Sample::new((0..600).map(|_| row("n", "k", json!({}), &["a", "b", "c"])).collect(), Vec::new());
    let tried_on = |values: usize, times: usize| {
        let tags: Vec<String> = (0..values).map(|i| format!("t{i}")).collect();
        let clauses: Vec<Value> = (0..times).map(|_| json!({"field": "tags", "any": tags})).collect();
        let filter = filter(json!({"must": clauses}));
        let tried = sample.tried(Some(&filter));
        assert!(tried.asked(|name| name == "n") > 0.99, "all rows tell that");
        tried.rows.len()
    };
    assert_eq!(tried_on(1, 1), 600);
    assert_eq!(tried_on(1_000, 1), 250);
    assert_eq!(tried_on(1_000, 64), 3);
}

proptest! {
    #[test]
    fn a_share_is_a_share(matches in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..400)) {
        let rows = matches.iter().map(|(here, hit)| {
            row(if *here { "here" } else { "there" }, "k", json!({"hit": hit}), if *hit { &["hit"] } else { &[] })
        });
        let sample = Sample::new(rows.collect(), Vec::new());
        for clause in [json!({"field": "metadata.hit", "eq": true}), json!({"field": "tags", "exists": true})] {
            let filter = filter(json!({"must": [clause]}));
            let tried = sample.tried(Some(&filter));
            let here = |name: &str| name == "here";
            for share in [Some(tried.matching(here)), Some(tried.asked(here)), tried.indexed()].into_iter().flatten() {
                prop_assert!(share > 0.0 && share < 1.0);
            }
        }
    }
}
