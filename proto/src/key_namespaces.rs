//! The namespaces that an API key is for.

use crate::{NameError, Namespace};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Most patterns of a key.
pub const KEY_NAMESPACES_MAX: usize = 64;
/// Stands behind the beginning of a name. No namespace has it in its name.
const ANY_END: char = '*';

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It would be for every namespace.
    #[error("* alone is every namespace: leave namespaces out for a key to all")]
    Everything,
    /// What stands before the `*`, or the whole, can't be (the beginning of) a namespace.
    #[error("a namespace, or the beginning of some with * behind it, is expected: {0}")]
    Name(NameError),
}

/// One namespace, or all that begin alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NamespacePattern {
    /// This one.
    One(Namespace),
    /// Those that begin with this; written with `*` behind it.
    Prefix(Namespace),
}

impl NamespacePattern {
    /// Takes `team-a`, or `team-a:*`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        match text.strip_suffix(ANY_END) {
            Some("") => Err(PatternError::Everything),
            Some(prefix) => Namespace::parse(prefix).map(Self::Prefix).map_err(PatternError::Name),
            None => Namespace::parse(text).map(Self::One).map_err(PatternError::Name),
        }
    }

    /// Whether a namespace of this name is meant.
    pub fn holds(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one.as_str() == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }

    /// Whether all are meant that begin with `prefix`.
    pub fn holds_prefix(&self, prefix: &str) -> bool {
        match self {
            // Others than this one may begin so.
            Self::One(_) => false,
            Self::Prefix(own) => prefix.starts_with(own.as_str()),
        }
    }

    /// The name, or its beginning.
    pub fn name(&self) -> &Namespace {
        match self {
            Self::One(name) | Self::Prefix(name) => name,
        }
    }

    fn holds_pattern(&self, other: &Self) -> bool {
        match other {
            Self::One(name) => self.holds(name.as_str()),
            Self::Prefix(prefix) => self.holds_prefix(prefix.as_str()),
        }
    }
}

impl TryFrom<String> for NamespacePattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::parse(&text)
    }
}

impl std::str::FromStr for NamespacePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl From<NamespacePattern> for String {
    fn from(pattern: NamespacePattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for NamespacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => write!(f, "{name}"),
            Self::Prefix(prefix) => write!(f, "{prefix}{ANY_END}"),
        }
    }
}

/// The namespaces that a key is for: all, or those of some patterns. In the order of their names, none twice and none that another one
/// includes, so that the same namespaces are always told by the same list. A clone shares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<NamespacePattern>", into = "Vec<NamespacePattern>")]
pub struct KeyNamespaces(Arc<[NamespacePattern]>);

/// There are too many patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has at most {KEY_NAMESPACES_MAX} namespaces or beginnings of some, {0} given")]
pub struct TooManyPatterns(usize);

impl KeyNamespaces {
    /// Whether it is for every namespace, those too that come later.
    pub fn are_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a namespace of this name is among them.
    pub fn hold(&self, name: &str) -> bool {
        self.are_all() || self.0.iter().any(|pattern| pattern.holds(name))
    }

    /// Whether every namespace that begins with `prefix` is among them.
    pub fn hold_prefix(&self, prefix: &str) -> bool {
        self.are_all() || self.0.iter().any(|pattern| pattern.holds_prefix(prefix))
    }

    /// What they are told by; empty for all.
    pub fn patterns(&self) -> &[NamespacePattern] {
        &self.0
    }
}

impl Default for KeyNamespaces {
    /// All.
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl TryFrom<Vec<NamespacePattern>> for KeyNamespaces {
    type Error = TooManyPatterns;

    fn try_from(given: Vec<NamespacePattern>) -> Result<Self, TooManyPatterns> {
        if given.len() > KEY_NAMESPACES_MAX {
            return Err(TooManyPatterns(given.len()));
        }
        let mut sorted = given;
        // A beginning comes before the name that is the same, and so before all that it includes.
        sorted.sort_by_key(|pattern| (pattern.name().clone(), matches!(pattern, NamespacePattern::One(_))));
        let mut kept: Vec<NamespacePattern> = Vec::with_capacity(sorted.len());
        for pattern in sorted {
            if !kept.iter().any(|other| other.holds_pattern(&pattern)) {
                kept.push(pattern);
            }
        }
        Ok(Self(kept.into()))
    }
}

impl From<KeyNamespaces> for Vec<NamespacePattern> {
    fn from(namespaces: KeyNamespaces) -> Self {
        namespaces.0.to_vec()
    }
}

impl fmt::Display for KeyNamespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.are_all() {
            return f.write_str("all");
        }
        let patterns: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&patterns.join(", "))
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for KeyNamespaces {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
        let pattern = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9_.:-]{1,128}\\*?$"));
        ArrayBuilder::new().items(pattern).max_items(Some(KEY_NAMESPACES_MAX)).into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for KeyNamespaces {
    fn name() -> std::borrow::Cow<'static, str> {
        "KeyNamespaces".into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn namespaces(patterns: &[&str]) -> KeyNamespaces {
        let patterns: Vec<NamespacePattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        patterns.try_into().unwrap()
    }

    #[test]
    fn a_pattern_is_a_name_or_its_beginning() {
        let longest = "a".repeat(128);
        for good in ["a", "a*", "team-a:*", "A.b_c:-", &longest, &format!("{longest}*")] {
            assert_eq!(NamespacePattern::parse(good).unwrap().to_string(), good);
        }
        assert_eq!(NamespacePattern::parse("*"), Err(PatternError::Everything));
        let too_long = format!("{longest}a");
        for bad in [
            "",
            "**",
            "a**",
            "*a",
            "a*b",
            "a b",
            "a%",
            "\u{e4}",
            "\u{e4}*",
            "a\u{202e}*",
            "a\0",
            &too_long,
            &format!("{too_long}*"),
        ] {
            assert!(matches!(NamespacePattern::parse(bad), Err(PatternError::Name(_))), "{bad:?}");
        }
    }

    #[test]
    fn what_is_among_them() {
        // (patterns, name, whether the namespace is among them, whether all that begin so are)
        for (patterns, name, one, all) in [
            (&[][..], "a", true, true),
            (&[], "", true, true),
            (&["a"], "a", true, false),
            (&["a"], "ab", false, false),
            (&["a"], "A", false, false),
            (&["a*"], "a", true, true),
            (&["a*"], "ab", true, true),
            (&["a*"], "", false, false),
            (&["a*"], "b", false, false),
            (&["ab*"], "a", false, false),
            (&["ab*"], "abc", true, true),
            (&["a:*"], "a", false, false),
            (&["a:*"], "a:", true, true),
            (&["b", "a:*"], "b", true, false),
            (&["b", "a:*"], "a:x", true, true),
            // What stands for any text elsewhere stands for itself here.
            (&["a.*"], "ab", false, false),
            (&["a_*"], "ab", false, false),
        ] {
            let namespaces = namespaces(patterns);
            assert_eq!(namespaces.hold(name), one, "{patterns:?} {name}");
            assert_eq!(namespaces.hold_prefix(name), all, "{patterns:?} {name}*");
        }
    }

    #[test]
    fn the_same_namespaces_are_told_alike() {
        let text = |patterns: &[&str]| serde_json::to_string(&namespaces(patterns)).unwrap();
        assert_eq!(text(&["b", "a*", "a", "b", "ab*", "abc"]), r#"["a*","b"]"#);
        assert_eq!(text(&["a-b", "a"]), r#"["a","a-b"]"#);
        assert_eq!(text(&[]), "[]");
        assert_eq!(namespaces(&["b", "a*"]).to_string(), "a*, b");
        assert_eq!(serde_json::from_str::<KeyNamespaces>("[]").unwrap(), KeyNamespaces::default());
    }

    #[test]
    fn there_is_an_end_to_them() {
        let named = |count: usize| {
            let patterns = (0..count).map(|i| NamespacePattern::parse(&format!("n{i}")).unwrap());
            KeyNamespaces::try_from(patterns.collect::<Vec<_>>())
        };
        assert!(named(KEY_NAMESPACES_MAX).is_ok());
        assert!(named(KEY_NAMESPACES_MAX + 1).is_err());
        assert!(serde_json::from_str::<KeyNamespaces>(r#"["*"]"#).is_err());
    }
}
