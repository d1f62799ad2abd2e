#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;

fn checked(filter: Value) -> Result<Expr, Vec<FieldError>> {
    check(&serde_json::from_value(filter).unwrap(), "/filter")
}

fn pointer_of_error(filter: Value) -> String {
    checked(filter).unwrap_err()[0].pointer.clone()
}

#[test]
fn the_documented_example_is_understood() {
    let expr = checked(json!({
        "must": [{"field": "metadata.lang", "eq": "en"}, {"field": "metadata.score", "range": {"gte": 2, "lt": 9}}],
        "should": [{"field": "tags", "any": ["a", "b"]}],
        "must_not": [{"field": "metadata.deleted", "exists": true}]
    }));
    let path = |name: &str| vec![name.to_owned()];
    assert_eq!(
        expr.unwrap(),
        Expr::All(vec![
            Expr::Test(Test::MetadataIs(path("lang"), json!("en"))),
            Expr::All(vec![
                Expr::Test(Test::MetadataNumber(path("score"), Comparison::GreaterOrEqual, "2".to_owned())),
                Expr::Test(Test::MetadataNumber(path("score"), Comparison::Less, "9".to_owned())),
            ]),
            Expr::Any(vec![Expr::Test(Test::TagsAny(vec!["a".to_owned(), "b".to_owned()]))]),
            Expr::Not(Box::new(Expr::Test(Test::MetadataExists(path("deleted"))))),
        ])
    );
}

#[test]
fn what_is_wrong_is_named_by_its_pointer() {
    assert_eq!(pointer_of_error(json!({"must": [{"eq": 1}]})), "/filter/must/0");
    assert_eq!(pointer_of_error(json!({"must": [{"field": "metadata.a"}]})), "/filter/must/0");
    assert_eq!(pointer_of_error(json!({"must": [{"field": "metadata.a", "eq": 1, "ne": 2}]})), "/filter/must/0");
    assert_eq!(pointer_of_error(json!({"must": [{"field": "value", "eq": 1}]})), "/filter/must/0/field");
    assert_eq!(pointer_of_error(json!({"must": [{"field": "metadata.", "eq": 1}]})), "/filter/must/0/field");
    assert_eq!(pointer_of_error(json!({"should": [{"field": "tags", "any": [1]}]})), "/filter/should/0/any");
    assert_eq!(pointer_of_error(json!({"must": [{"field": "key", "prefix": "a\u{0}"}]})), "/filter/must/0/prefix");
    assert_eq!(
        pointer_of_error(json!({"must": [{"field": "created_at", "range": {"gt": "x"}}]})),
        "/filter/must/0/range/gt"
    );
    assert_eq!(pointer_of_error(json!({"must": [{"field": "metadata.a", "eq": [1]}]})), "/filter/must/0/eq");
    assert_eq!(pointer_of_error(json!({"must": [{"field": "metadata.a", "in": []}]})), "/filter/must/0/in");
}

#[test]
fn limits_hold_at_n_and_n_plus_one() {
    let condition = json!({"field": "metadata.a", "eq": null});
    let with = |n: usize| json!({"must": vec![condition.clone(); n]});
    assert!(checked(with(64)).is_ok());
    assert!(checked(with(65)).is_err());
    let nested = |depth: usize| (1..depth).fold(with(1), |inner, _| json!({"must": [{"filter": inner}]}));
    assert!(checked(nested(5)).is_ok());
    assert!(checked(nested(6)).is_err());
    let values = |n: usize| json!({"must": [{"field": "key", "in": vec!["x"; n]}]});
    assert!(checked(values(1_000)).is_ok());
    assert!(checked(values(1_001)).is_err());
}

#[test]
fn times_are_of_the_years_that_rfc_3339_knows() {
    let with = |time: &str| checked(json!({"must": [{"field": "created_at", "range": {"gte": time}}]}));
    for good in ["0000-01-01T00:00:00Z", "9999-12-30T22:00:00Z", "2026-01-31T12:00:00+01:00"] {
        assert!(with(good).is_ok(), "{good}");
    }
    for bad in ["-000001-12-31T23:59:59Z", "-009999-01-02T02:00:00Z", "+010000-01-01T00:00:00Z", "2026-01-31"] {
        assert_eq!(with(bad).unwrap_err()[0].pointer, "/filter/must/0/range/gte", "{bad}");
    }
}
