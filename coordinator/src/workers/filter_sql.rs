//! A checked filter as a SQL condition. Only column names, operators and `$n` become text; every value is bound.

use super::statement::Statement;
use atoll_core::filter::{Comparison, Expr, Test, TimeField};
use atoll_core::search::filtered::RowPath;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// Appends the condition, in parentheses.
pub(super) fn push_condition(sql: &mut Statement, expr: &Expr) {
    push_on_path(sql, expr, RowPath::Any);
}

/// The same, such that only the indexes of the path answer a part of it: none answers what is said to be `is true`.
pub(super) fn push_on_path(sql: &mut Statement, expr: &Expr, path: RowPath) {
    match expr {
        Expr::All(parts) => push_joined(sql, parts, path, " and ", "true"),
        Expr::Any(parts) => push_joined(sql, parts, path, " or ", "false"),
        // A missing field makes a test null, not false: "not" must take it as false.
        Expr::Not(part) => {
            sql.push("(not coalesce(");
            push_on_path(sql, part, path);
            sql.push(", false))");
        }
        Expr::Test(test) => {
            sql.push("(");
            push_test(sql, test);
            let answered = match path {
                RowPath::Any => true,
                RowPath::Namespaces => !test.is_indexed(),
                RowPath::Filter => test.is_indexed(),
            };
            sql.push(if answered { ")" } else { ") is true" });
        }
    }
}

fn push_joined(sql: &mut Statement, parts: &[Expr], path: RowPath, with: &str, empty: &str) {
    sql.push("(");
    if parts.is_empty() {
        sql.push(empty);
    }
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            sql.push(with);
        }
        push_on_path(sql, part, path);
    }
    sql.push(")");
}

fn push_test(sql: &mut Statement, test: &Test) {
    match test {
        // Containment is what the GIN index on metadata answers.
        Test::MetadataIs(path, value) => {
            sql.push("metadata @> ").bind(nested(path, value.clone())).push("::jsonb");
        }
        Test::MetadataIn(path, values) => {
            let each: Vec<Value> = values.iter().map(|value| nested(path, value.clone())).collect();
            sql.push("metadata @> any(").bind(each).push("::jsonb[])");
        }
        Test::MetadataAny(path, values) => {
            let each: Vec<Value> = values.iter().map(|value| nested(path, json!([value]))).collect();
            sql.push("metadata @> any(").bind(each).push("::jsonb[])");
        }
        Test::MetadataAll(path, values) => {
            sql.push("metadata @> ").bind(nested(path, Value::Array(values.clone()))).push("::jsonb");
        }
        Test::MetadataExists(path) => {
            push_member(sql, path);
            sql.push(" is not null");
        }
        Test::MetadataNumber(path, comparison, number) => {
            // A cast of what is no number would fail the statement, so the type is looked at first.
            push_typed_case(sql, path, "number");
            sql.push("(");
            push_member(sql, path);
            sql.push(" #>> '{}')::numeric ")
                .push(operator(*comparison))
                .push(" ")
                .bind(number.clone())
                .push("::text::numeric else false end");
        }
        Test::MetadataText(path, comparison, text) => {
            push_typed_case(sql, path, "string");
            sql.push("(");
            push_member(sql, path);
            sql.push(" #>> '{}') collate \"C\" ")
                .push(operator(*comparison))
                .push(" ")
                .bind(text.clone())
                .push("::text else false end");
        }
        Test::MetadataPrefix(path, text) => {
            push_typed_case(sql, path, "string");
            sql.push("starts_with(");
            push_member(sql, path);
            sql.push(" #>> '{}', ").bind(text.clone()).push("::text) else false end");
        }
        Test::TagsAny(tags) => {
            sql.push("tags && ").bind(tags.clone()).push("::text[]");
        }
        Test::TagsAll(tags) => {
            sql.push("tags @> ").bind(tags.clone()).push("::text[]");
        }
        Test::TagsExist => {
            sql.push("cardinality(tags) > 0");
        }
        Test::TagsPrefix(text) => {
            sql.push("exists (select from unnest(tags) as tag where starts_with(tag, ");
            sql.bind(text.clone()).push("::text))");
        }
        Test::KeyIn(keys) => {
            sql.push("key = any(").bind(keys.clone()).push("::text[])");
        }
        Test::Key(comparison, text) => {
            sql.push("key ").push(operator(*comparison)).push(" ").bind(text.clone()).push("::text");
        }
        Test::KeyPrefix(text) => {
            sql.push("starts_with(key, ").bind(text.clone()).push("::text)");
        }
        Test::Time(field, comparison, micros) => {
            let column = match field {
                TimeField::Created => "created_at",
                TimeField::Updated => "updated_at",
            };
            sql.push(column).push(" ").push(operator(*comparison)).push(" ");
            sql.bind(system_time(*micros)).push("::timestamptz");
        }
    }
}

fn push_typed_case(sql: &mut Statement, path: &[String], json_type: &str) {
    sql.push("case when jsonb_typeof(");
    push_member(sql, path);
    sql.push(") = '").push(json_type).push("' then ");
}

/// What is at the path. By names alone: `#>` would take a number as a position in an array.
fn push_member(sql: &mut Statement, path: &[String]) {
    sql.push("(metadata");
    for name in path {
        sql.push(" -> ").bind(name.clone()).push("::text");
    }
    sql.push(")");
}

/// `{"a": {"b": value}}` for the path a.b.
fn nested(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |inner, name| json!({ name: inner }))
}

fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Equal => "=",
    }
}

fn system_time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros >= 0 { SystemTime::UNIX_EPOCH + distance } else { SystemTime::UNIX_EPOCH - distance }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn text_of(expr: &Expr) -> String {
        let mut sql = Statement::new("");
        push_condition(&mut sql, expr);
        sql.text
    }

    #[test]
    fn text_is_as_expected() {
        let filter = json!({
            "must": [{"field": "metadata.a.b", "eq": "x'; drop table y; --"}],
            "should": [{"field": "tags", "any": ["q"]}, {"field": "key", "prefix": "p"}],
            "must_not": [{"field": "metadata.c.0", "exists": true}]
        });
        let expr = atoll_core::filter::check(&serde_json::from_value(filter).unwrap(), "").unwrap();
        assert_eq!(
            text_of(&expr),
            "((metadata @> $1::jsonb) and ((tags && $2::text[]) or (starts_with(key, $3::text))) and \
             (not coalesce(((metadata -> $4::text -> $5::text) is not null), false)))"
        );
    }

    fn hostile() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            Just("'".to_owned()),
            Just("$1) or true --".to_owned()),
            Just("\\'; --".to_owned())
        ]
        .prop_map(|text| text.replace('\0', ""))
    }

    proptest! {
        /// The text depends on the shape of a filter alone, never on its values.
        #[test]
        fn values_never_become_syntax(a in hostile(), b in hostile(), path in hostile()) {
            let path: String = path.replace('.', "");
            let path = if path.is_empty() { "p".to_owned() } else { path };
            let with = |path: &str, a: &str, b: &str| {
                let filter = json!({
                    "must": [
                        {"field": format!("metadata.{path}"), "eq": a}, {"field": format!("metadata.{path}"), "in": [a, b]},
                        {"field": format!("metadata.{path}"), "range": {"gt": a, "lte": b}}, {"field": "key", "ne": b},
                        {"field": format!("metadata.{path}"), "any": [a]}, {"field": format!("metadata.{path}"), "all": [a, b]}
                    ],
                    "should": [{"field": "tags", "all": [a, b]}, {"field": "tags", "prefix": a}],
                    "must_not": [{"field": format!("metadata.{path}"), "prefix": b}, {"field": "key", "range": {"lt": a}}]
                });
                text_of(&atoll_core::filter::check(&serde_json::from_value(filter).unwrap(), "").unwrap())
            };
            prop_assert_eq!(with(&path, &a, &b), with("p", "x", "y"));
        }
    }
}
