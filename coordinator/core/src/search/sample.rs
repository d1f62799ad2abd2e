//! How much a filter lets through, judged by a sample of a table's rows.
//!
//! PostgreSQL's own estimate knows nothing of ranges inside metadata, nor that some values go with some namespaces. A few hundred rows
//! tell both, without asking anybody. What is estimated decides which way to the rows is taken, never which rows are right: so a
//! sample may be old, and [`holds`] may differ from the SQL condition in the last digit of a number.

use super::filtered::Matching;
use crate::filter::{Comparison, Expr, Test, TimeField};
use serde_json::{Map, Value};

/// Most rows a filter is tried on, for each of its figures: this is done in every filtered search.
const TRIED_MAX: usize = 256;
/// Below this many tried rows of the namespaces asked for, those of the whole table have a say as well.
const TRIED_FEW: usize = 32;
/// How many rows that say is worth.
const TABLE_WEIGHT: f64 = 4.0;

/// What a filter can ask of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledRow {
    /// Its namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// Its metadata.
    pub metadata: Map<String, Value>,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was first written, in microseconds since 1970.
    pub created_micros: i64,
    /// When it was last changed, in microseconds since 1970.
    pub updated_micros: i64,
}

/// Rows of one table, drawn at random, in random order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    rows: Vec<SampledRow>,
}

impl Sample {
    /// Of these rows.
    pub fn new(rows: Vec<SampledRow>) -> Self {
        Self { rows }
    }

    /// What a filter lets through of the rows of the namespaces that `asked` speaks of; none if there is nothing to judge by.
    pub fn matching(&self, filter: &Expr, table_rows: u64, asked: impl Fn(&str) -> bool) -> Option<Matching> {
        if self.rows.is_empty() {
            return None;
        }
        let in_table = |expr: &Expr| tried(self.rows.iter(), expr);
        let mut asked_for = tried(self.rows.iter().filter(|row| asked(&row.namespace)), filter);
        if asked_for.rows < TRIED_FEW {
            asked_for = asked_for.with_prior(in_table(filter).share());
        }
        let indexed_rows = indexed(filter).map(|part| (in_table(&part).share() * table_rows as f64).ceil());
        Some(Matching { share: asked_for.share(), indexed_rows })
    }
}

/// Of so many rows, how many a filter let through.
#[derive(Debug, Clone, Copy)]
struct Tried {
    rows: usize,
    matching: f64,
    weight: f64,
}

fn tried<'a>(rows: impl Iterator<Item = &'a SampledRow>, filter: &Expr) -> Tried {
    let (mut all, mut matching) = (0, 0);
    for row in rows.take(TRIED_MAX) {
        all += 1;
        matching += usize::from(holds(filter, row));
    }
    // None of 256 does not mean none at all.
    Tried { rows: all, matching: matching as f64 + 0.5, weight: all as f64 + 1.0 }
}

impl Tried {
    fn with_prior(self, share: f64) -> Self {
        let Self { rows, matching, weight } = self;
        Self { rows, matching: matching - 0.5 + share * TABLE_WEIGHT, weight: weight - 1.0 + TABLE_WEIGHT }
    }

    fn share(self) -> f64 {
        self.matching / self.weight
    }
}

/// The part of a filter that the indexes on metadata and tags answer; none if there is none. It lets through all that the
/// filter lets through.
pub fn indexed(filter: &Expr) -> Option<Expr> {
    match filter {
        Expr::All(parts) => {
            let parts: Vec<Expr> = parts.iter().filter_map(indexed).collect();
            (!parts.is_empty()).then_some(Expr::All(parts))
        }
        Expr::Any(parts) => parts.iter().map(indexed).collect::<Option<Vec<Expr>>>().map(Expr::Any),
        Expr::Not(_) => None,
        Expr::Test(test) => test.is_indexed().then(|| filter.clone()),
    }
}

/// Whether a filter lets a row through.
pub fn holds(filter: &Expr, row: &SampledRow) -> bool {
    match filter {
        Expr::All(parts) => parts.iter().all(|part| holds(part, row)),
        Expr::Any(parts) => parts.iter().any(|part| holds(part, row)),
        Expr::Not(part) => !holds(part, row),
        Expr::Test(test) => test_holds(test, row),
    }
}

fn test_holds(test: &Test, row: &SampledRow) -> bool {
    let member = |path: &[String]| member(&row.metadata, path);
    let text = |path: &[String]| member(path).and_then(Value::as_str);
    let has = |path: &[String], value: &Value| {
        member(path).and_then(Value::as_array).is_some_and(|array| array.iter().any(|one| is_same(one, value)))
    };
    match test {
        Test::MetadataIs(path, value) => member(path).is_some_and(|found| is_same(found, value)),
        Test::MetadataIn(path, values) => {
            member(path).is_some_and(|found| values.iter().any(|value| is_same(found, value)))
        }
        Test::MetadataAny(path, values) => values.iter().any(|value| has(path, value)),
        Test::MetadataAll(path, values) => values.iter().all(|value| has(path, value)),
        Test::MetadataExists(path) => member(path).is_some(),
        Test::MetadataNumber(path, comparison, number) => {
            let (found, bound) = (member(path).and_then(Value::as_f64), number.parse::<f64>());
            matches!((found, bound), (Some(found), Ok(bound)) if compares(found.partial_cmp(&bound), *comparison))
        }
        Test::MetadataText(path, comparison, bound) => {
            text(path).is_some_and(|found| compares(Some(found.as_bytes().cmp(bound.as_bytes())), *comparison))
        }
        Test::MetadataPrefix(path, prefix) => text(path).is_some_and(|found| found.starts_with(prefix.as_str())),
        Test::TagsAny(tags) => tags.iter().any(|tag| row.tags.contains(tag)),
        Test::TagsAll(tags) => tags.iter().all(|tag| row.tags.contains(tag)),
        Test::TagsExist => !row.tags.is_empty(),
        Test::TagsPrefix(prefix) => row.tags.iter().any(|tag| tag.starts_with(prefix.as_str())),
        Test::KeyIn(keys) => keys.contains(&row.key),
        Test::Key(comparison, bound) => compares(Some(row.key.as_bytes().cmp(bound.as_bytes())), *comparison),
        Test::KeyPrefix(prefix) => row.key.starts_with(prefix.as_str()),
        Test::Time(field, comparison, bound) => {
            let micros = match field {
                TimeField::Created => row.created_micros,
                TimeField::Updated => row.updated_micros,
            };
            compares(Some(micros.cmp(bound)), *comparison)
        }
    }
}

/// What is at the path, by names alone.
fn member<'a>(metadata: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, inner) = path.split_first()?;
    inner.iter().try_fold(metadata.get(first)?, |value, name| value.as_object()?.get(name))
}

/// Numbers are the same whatever their form.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn compares(order: Option<std::cmp::Ordering>, comparison: Comparison) -> bool {
    let Some(order) = order else { return false };
    match comparison {
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Equal => order.is_eq(),
    }
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
