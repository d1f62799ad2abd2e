//! How much a filter lets through, judged by a sample of a table's rows.
//!
//! PostgreSQL's own estimate knows nothing of ranges inside metadata, nor that some values go with some namespaces. A few hundred rows
//! tell both, without asking anybody. What is estimated decides which way to the rows is taken, never which rows are right: so a
//! sample may be old, and [`holds`] may differ from the SQL condition in the last digit of a number.

use crate::filter::{Comparison, Expr, Test, TimeField};
use serde_json::{Map, Value};

/// Below this many sampled rows of what is asked for, those of the whole table have a say as well.
const FEW: usize = 32;
/// How many rows that say is worth.
const TABLE_WEIGHT: f64 = 4.0;
/// Comparisons that trying a filter may cost, about: it is done in every filtered search. Usual filters need a thousandth.
const COMPARISONS_MAX: usize = 1_000_000;

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
    others: Vec<String>,
}

impl Sample {
    /// Of these rows, and of others drawn with them of which the namespace alone is held: their metadata would take too much.
    pub fn new(rows: Vec<SampledRow>, others: Vec<String>) -> Self {
        Self { rows, others }
    }

    /// Bytes that it holds, about.
    pub fn bytes(&self) -> usize {
        let of_row = |row: &SampledRow| {
            let tags: usize = row.tags.iter().map(|tag| size_of::<String>() + tag.len()).sum();
            size_of::<SampledRow>() + row.namespace.len() + row.key.len() + tags + map_bytes(&row.metadata)
        };
        let others = self.others.iter().map(|namespace| size_of::<String>() + namespace.len());
        self.rows.iter().map(of_row).chain(others).sum()
    }

    /// Tries a filter, or none, on the rows; on few or none if it is huge.
    pub fn tried(&self, filter: Option<&Expr>) -> Tried<'_> {
        let values = filter.map_or(0, values);
        let mut comparisons = 0;
        let rows = self.rows.iter().take_while(|row| {
            comparisons += values * (1 + row.tags.len());
            comparisons <= COMPARISONS_MAX
        });
        let try_on = |row: &'_ SampledRow| TriedRow {
            matches: filter.is_none_or(|filter| holds(filter, row)),
            indexed: filter.and_then(|filter| indexed_part_holds(filter, row)),
        };
        let rows: Vec<_> = rows.map(|row| (row.namespace.as_str(), try_on(row))).collect();
        let untried = self.rows[rows.len()..].iter().map(|row| &row.namespace).chain(&self.others);
        Tried { untried: untried.map(String::as_str).collect(), rows }
    }
}

fn map_bytes(map: &Map<String, Value>) -> usize {
    map.iter().map(|(name, value)| size_of::<String>() + name.len() + value_bytes(value)).sum()
}

/// Bytes that a JSON value takes in memory, about.
fn value_bytes(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(value_bytes).sum(),
        Value::Object(map) => map_bytes(map),
    };
    size_of::<Value>() + inside
}

/// Rows of a sample, and what became of a filter on each.
#[derive(Debug, Clone)]
pub struct Tried<'a> {
    rows: Vec<(&'a str, TriedRow)>,
    /// Namespaces of the others.
    untried: Vec<&'a str>,
}

#[derive(Debug, Clone, Copy)]
struct TriedRow {
    matches: bool,
    /// Whether the part of the filter that indexes answer lets it through; none if there is no such part.
    indexed: Option<bool>,
}

impl Tried<'_> {
    /// Whether there are no rows at all to judge by.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.untried.is_empty()
    }

    /// Whether it was tried on no row, so that nothing is known of what matches.
    pub fn is_untried(&self) -> bool {
        self.rows.is_empty()
    }

    /// Share of the table's rows that are of these namespaces.
    pub fn asked(&self, asked: impl Fn(&str) -> bool) -> f64 {
        let namespaces = self.rows.iter().map(|(namespace, _)| namespace).chain(&self.untried);
        share(namespaces.map(|namespace| asked(namespace)), None)
    }

    /// Share of the rows of these namespaces that match; of one with few sampled rows, the whole table has a say as well.
    pub fn matching(&self, asked: impl Fn(&str) -> bool) -> f64 {
        let of_table = share(self.rows.iter().map(|(_, row)| row.matches), None);
        let here = self.rows.iter().filter(|(namespace, _)| asked(namespace));
        share(here.map(|(_, row)| row.matches), Some(of_table))
    }

    /// Share of the table's rows that indexes lead to; none if they answer no part of the filter.
    pub fn indexed(&self) -> Option<f64> {
        let (_, TriedRow { indexed: Some(_), .. }) = self.rows.first()? else { return None };
        Some(share(self.rows.iter().map(|(_, row)| row.indexed == Some(true)), None))
    }
}

/// Above 0 and below 1: none of a few hundred does not mean none at all.
fn share(rows: impl Iterator<Item = bool>, prior: Option<f64>) -> f64 {
    let (mut all, mut yes) = (0_usize, 0_usize);
    for row in rows {
        all += 1;
        yes += usize::from(row);
    }
    match prior {
        Some(prior) if all < FEW => (yes as f64 + prior * TABLE_WEIGHT) / (all as f64 + TABLE_WEIGHT),
        Some(_) | None => (yes as f64 + 0.5) / (all as f64 + 1.0),
    }
}

/// How many values a filter compares a field with.
fn values(filter: &Expr) -> usize {
    match filter {
        Expr::All(parts) | Expr::Any(parts) => parts.iter().map(values).sum(),
        Expr::Not(part) => values(part),
        Expr::Test(test) => match test {
            Test::MetadataIn(_, values) | Test::MetadataAny(_, values) | Test::MetadataAll(_, values) => values.len(),
            Test::TagsAny(values) | Test::TagsAll(values) | Test::KeyIn(values) => values.len(),
            Test::MetadataIs(..)
            | Test::MetadataExists(_)
            | Test::MetadataNumber(..)
            | Test::MetadataText(..)
            | Test::MetadataPrefix(..)
            | Test::TagsExist
            | Test::TagsPrefix(_)
            | Test::Key(..)
            | Test::KeyPrefix(_)
            | Test::Time(..) => 1,
        },
    }
}

/// Whether the part of a filter that the indexes on metadata and tags answer lets a row through; none if there is none. It lets
/// through all that the filter lets through.
fn indexed_part_holds(filter: &Expr, row: &SampledRow) -> Option<bool> {
    match filter {
        Expr::All(parts) => parts.iter().filter_map(|part| indexed_part_holds(part, row)).reduce(|a, b| a && b),
        Expr::Any(parts) => {
            parts.iter().map(|part| indexed_part_holds(part, row)).try_fold(false, |any, part| Some(any | part?))
        }
        Expr::Not(_) => None,
        Expr::Test(test) => test.is_indexed().then(|| test_holds(test, row)),
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
