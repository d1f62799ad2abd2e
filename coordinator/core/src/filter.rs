//! Filters, checked and typed. A client's JSON becomes an [`Expr`] here, or a list of what is wrong with it; turning an `Expr`
//! into SQL can then no longer fail, and never sees a value that was not asked for by its operator.

use atoll_proto::filter::{Clause, Filter, Range};
use atoll_proto::limits;
use atoll_proto::problem::FieldError;
use serde_json::Value;

/// A condition on entries.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// Every one holds; holds if there is none.
    All(Vec<Expr>),
    /// At least one holds; never empty.
    Any(Vec<Expr>),
    /// It doesn't hold.
    Not(Box<Expr>),
    /// One field, one operator.
    Test(Test),
}

/// One field, one operator, operands of the types that the two allow.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// The metadata has this scalar at the path.
    MetadataIs(Path, Value),
    /// The metadata has one of these scalars at the path.
    MetadataIn(Path, Vec<Value>),
    /// The metadata has an array at the path that contains one of these scalars.
    MetadataAny(Path, Vec<Value>),
    /// The metadata has an array at the path that contains all of these scalars.
    MetadataAll(Path, Vec<Value>),
    /// The metadata has anything at the path, also a JSON null.
    MetadataExists(Path),
    /// The metadata has a number at the path that compares so with a decimal literal.
    MetadataNumber(Path, Comparison, String),
    /// The metadata has text at the path that compares so, byte by byte.
    MetadataText(Path, Comparison, String),
    /// The metadata has text at the path that begins so.
    MetadataPrefix(Path, String),
    /// The entry has one of these tags.
    TagsAny(Vec<String>),
    /// The entry has all of these tags.
    TagsAll(Vec<String>),
    /// The entry has a tag.
    TagsExist,
    /// The entry has a tag that begins so.
    TagsPrefix(String),
    /// The key is one of these.
    KeyIn(Vec<String>),
    /// The key compares so, byte by byte.
    Key(Comparison, String),
    /// The key begins so.
    KeyPrefix(String),
    /// The time compares so with microseconds since 1970.
    Time(TimeField, Comparison, i64),
}

impl Test {
    /// Whether one of the indexes on metadata and tags answers it.
    pub fn is_indexed(&self) -> bool {
        match self {
            Self::MetadataIs(..)
            | Self::MetadataIn(..)
            | Self::MetadataAny(..)
            | Self::MetadataAll(..)
            | Self::TagsAny(_)
            | Self::TagsAll(_) => true,
            Self::MetadataExists(_)
            | Self::MetadataNumber(..)
            | Self::MetadataText(..)
            | Self::MetadataPrefix(..)
            | Self::TagsExist
            | Self::TagsPrefix(_)
            | Self::KeyIn(_)
            | Self::Key(..)
            | Self::KeyPrefix(_)
            | Self::Time(..) => false,
        }
    }
}

/// Names of nested members, outermost first; never empty.
pub type Path = Vec<String>;

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
}

/// Times of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeField {
    /// When it was first written.
    Created,
    /// When it was last changed.
    Updated,
}

/// The year 0000 in microseconds since 1970: RFC 3339 knows none before it, and PostgreSQL not all of those.
const YEAR_ZERO: i64 = -62_167_219_200_000_000;

/// Checks a filter. `pointer` is where it stands in the request's body.
pub fn check(filter: &Filter, pointer: &str) -> Result<Expr, Vec<FieldError>> {
    let mut checker = Checker { conditions: 0, errors: Vec::new() };
    let expr = checker.filter(filter, pointer, 1);
    if checker.conditions > limits::FILTER_CONDITIONS {
        let detail = format!("{} conditions given, {} are allowed", checker.conditions, limits::FILTER_CONDITIONS);
        checker.errors.push(FieldError { pointer: pointer.to_owned(), detail });
    }
    if checker.errors.is_empty() { Ok(expr) } else { Err(checker.errors) }
}

struct Checker {
    conditions: usize,
    errors: Vec<FieldError>,
}

enum Field {
    Metadata(Path),
    Tags,
    Key,
    Time(TimeField),
}

impl Checker {
    fn filter(&mut self, filter: &Filter, pointer: &str, depth: usize) -> Expr {
        if depth > limits::FILTER_DEPTH {
            self.refuse(pointer, format!("filters are nested deeper than {}", limits::FILTER_DEPTH));
            return Expr::All(Vec::new());
        }
        let mut all = self.clauses(&filter.must, &format!("{pointer}/must"), depth);
        let any = self.clauses(&filter.should, &format!("{pointer}/should"), depth);
        if !any.is_empty() {
            all.push(Expr::Any(any));
        }
        let none = self.clauses(&filter.must_not, &format!("{pointer}/must_not"), depth);
        all.extend(none.into_iter().map(|expr| Expr::Not(Box::new(expr))));
        Expr::All(all)
    }

    fn clauses(&mut self, clauses: &[Clause], pointer: &str, depth: usize) -> Vec<Expr> {
        let each = clauses.iter().enumerate();
        each.map(|(i, clause)| self.clause(clause, &format!("{pointer}/{i}"), depth)).collect()
    }

    fn clause(&mut self, clause: &Clause, pointer: &str, depth: usize) -> Expr {
        let Clause { filter, field, eq, ne, one_of, not_in, range, exists, any, all, prefix } = clause;
        let operators = [
            eq.is_some(),
            ne.is_some(),
            one_of.is_some(),
            not_in.is_some(),
            range.is_some(),
            exists.is_some(),
            any.is_some(),
            all.is_some(),
            prefix.is_some(),
        ];
        let operators = operators.into_iter().filter(|given| *given).count();
        if let Some(filter) = filter {
            if field.is_some() || operators > 0 {
                self.refuse(pointer, "a nested filter stands alone, without field and operator");
            }
            return self.filter(filter, &format!("{pointer}/filter"), depth + 1);
        }
        self.conditions += 1;
        let Some(field) = field else {
            return self.refused(pointer, "a condition needs a field");
        };
        if operators != 1 {
            return self.refused(
                pointer,
                "a condition needs exactly one of eq, ne, in, not_in, range, exists, any, all, prefix",
            );
        }
        let Some(field) = parse_field(field) else {
            let detail = "field must be metadata.<path>, tags, key, created_at or updated_at";
            return self.refused(&format!("{pointer}/field"), detail);
        };
        let at = |operator: &str| format!("{pointer}/{operator}");
        if let Some(value) = eq {
            return self.equal(&field, std::slice::from_ref(value), &at("eq"));
        }
        if let Some(value) = ne {
            return negated(self.equal(&field, std::slice::from_ref(value), &at("ne")));
        }
        if let Some(values) = one_of {
            return self.equal(&field, values, &at("in"));
        }
        if let Some(values) = not_in {
            return negated(self.equal(&field, values, &at("not_in")));
        }
        if let Some(range) = range {
            return self.range(&field, range, &at("range"));
        }
        if let Some(wanted) = exists {
            let expr = match field {
                Field::Metadata(path) => Expr::Test(Test::MetadataExists(path)),
                Field::Tags => Expr::Test(Test::TagsExist),
                Field::Key | Field::Time(_) => Expr::All(Vec::new()),
            };
            return if *wanted { expr } else { negated(expr) };
        }
        if let Some(values) = any {
            return self.contains(&field, values, &at("any"), Test::MetadataAny, Test::TagsAny);
        }
        if let Some(values) = all {
            return self.contains(&field, values, &at("all"), Test::MetadataAll, Test::TagsAll);
        }
        let text = prefix.clone().unwrap_or_default();
        self.prefix(field, text, &at("prefix"))
    }

    /// `eq` and `in`, and, negated by the caller, `ne` and `not_in`.
    fn equal(&mut self, field: &Field, values: &[Value], pointer: &str) -> Expr {
        if !self.count_fits(values, pointer) {
            return Expr::All(Vec::new());
        }
        match field {
            Field::Metadata(path) => {
                for value in values {
                    self.scalar(value, pointer);
                }
                match values {
                    [value] => Expr::Test(Test::MetadataIs(path.clone(), value.clone())),
                    _ => Expr::Test(Test::MetadataIn(path.clone(), values.to_vec())),
                }
            }
            Field::Tags => Expr::Test(Test::TagsAny(self.texts(values, pointer))),
            Field::Key => Expr::Test(Test::KeyIn(self.texts(values, pointer))),
            Field::Time(time) => {
                let each = values.iter();
                Expr::Any(each.map(|value| self.time(*time, Comparison::Equal, value, pointer)).collect())
            }
        }
    }

    fn range(&mut self, field: &Field, range: &Range, pointer: &str) -> Expr {
        let Range { gt, gte, lt, lte } = range;
        let bounds = [
            ("gt", Comparison::Greater, gt),
            ("gte", Comparison::GreaterOrEqual, gte),
            ("lt", Comparison::Less, lt),
            ("lte", Comparison::LessOrEqual, lte),
        ];
        let mut all = Vec::new();
        for (name, comparison, bound) in bounds {
            if let Some(bound) = bound {
                all.push(self.bound(field, comparison, bound, &format!("{pointer}/{name}")));
            }
        }
        if all.is_empty() {
            return self.refused(pointer, "a range needs at least one of gt, gte, lt, lte");
        }
        Expr::All(all)
    }

    fn bound(&mut self, field: &Field, comparison: Comparison, bound: &Value, pointer: &str) -> Expr {
        match (field, bound) {
            (Field::Metadata(path), Value::Number(number)) => {
                Expr::Test(Test::MetadataNumber(path.clone(), comparison, number.to_string()))
            }
            (Field::Metadata(path), Value::String(text)) => {
                self.no_nul(text, pointer);
                Expr::Test(Test::MetadataText(path.clone(), comparison, text.clone()))
            }
            (Field::Key, Value::String(text)) => {
                self.no_nul(text, pointer);
                Expr::Test(Test::Key(comparison, text.clone()))
            }
            (Field::Time(time), bound) => self.time(*time, comparison, bound, pointer),
            (Field::Tags, _) => self.refused(pointer, "tags have no range"),
            (Field::Metadata(_), _) => self.refused(pointer, "a bound is a number or text"),
            (Field::Key, _) => self.refused(pointer, "a bound of key is text"),
        }
    }

    fn time(&mut self, field: TimeField, comparison: Comparison, value: &Value, pointer: &str) -> Expr {
        let parsed = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        match parsed.map(|time| time.as_microsecond()) {
            Some(micros) if micros >= YEAR_ZERO => Expr::Test(Test::Time(field, comparison, micros)),
            Some(_) | None => {
                let detail = "a time is RFC 3339 text such as 2026-01-31T12:00:00Z, from 0000-01-01 to 9999-12-30";
                self.refused(pointer, detail)
            }
        }
    }

    fn contains(
        &mut self,
        field: &Field,
        values: &[Value],
        pointer: &str,
        of_metadata: fn(Path, Vec<Value>) -> Test,
        of_tags: fn(Vec<String>) -> Test,
    ) -> Expr {
        if !self.count_fits(values, pointer) {
            return Expr::All(Vec::new());
        }
        match field {
            Field::Metadata(path) => {
                for value in values {
                    self.scalar(value, pointer);
                }
                Expr::Test(of_metadata(path.clone(), values.to_vec()))
            }
            Field::Tags => Expr::Test(of_tags(self.texts(values, pointer))),
            Field::Key | Field::Time(_) => {
                self.refused(pointer, "any and all are for tags and for arrays in the metadata")
            }
        }
    }

    fn prefix(&mut self, field: Field, text: String, pointer: &str) -> Expr {
        self.no_nul(&text, pointer);
        match field {
            Field::Metadata(path) => Expr::Test(Test::MetadataPrefix(path, text)),
            Field::Tags => Expr::Test(Test::TagsPrefix(text)),
            Field::Key => Expr::Test(Test::KeyPrefix(text)),
            Field::Time(_) => self.refused(pointer, "times have no prefix"),
        }
    }

    fn count_fits(&mut self, values: &[Value], pointer: &str) -> bool {
        let fits = (1..=limits::FILTER_VALUES).contains(&values.len());
        if !fits {
            self.refuse(pointer, format!("1 to {} values are allowed, {} given", limits::FILTER_VALUES, values.len()));
        }
        fits
    }

    fn scalar(&mut self, value: &Value, pointer: &str) {
        match value {
            Value::Array(_) | Value::Object(_) => {
                self.refuse(pointer, "only text, numbers, true, false and null compare")
            }
            Value::String(text) => self.no_nul(text, pointer),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn texts(&mut self, values: &[Value], pointer: &str) -> Vec<String> {
        let mut texts = Vec::with_capacity(values.len());
        for value in values {
            match value.as_str() {
                Some(text) => {
                    self.no_nul(text, pointer);
                    texts.push(text.to_owned());
                }
                None => self.refuse(pointer, "text expected"),
            }
        }
        texts
    }

    fn no_nul(&mut self, text: &str, pointer: &str) {
        if text.contains('\0') {
            self.refuse(pointer, "text must not contain NUL");
        }
    }

    fn refuse(&mut self, pointer: &str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: pointer.to_owned(), detail: detail.into() });
    }

    fn refused(&mut self, pointer: &str, detail: &str) -> Expr {
        self.refuse(pointer, detail);
        Expr::All(Vec::new())
    }
}

fn negated(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

fn parse_field(field: &str) -> Option<Field> {
    match field {
        "tags" => Some(Field::Tags),
        "key" => Some(Field::Key),
        "created_at" => Some(Field::Time(TimeField::Created)),
        "updated_at" => Some(Field::Time(TimeField::Updated)),
        _ => {
            let path: Path = field.strip_prefix("metadata.")?.split('.').map(str::to_owned).collect();
            let valid = path.iter().all(|name| !name.is_empty() && !name.contains('\0'));
            valid.then_some(Field::Metadata(path))
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
