//! How a search is, or was, carried out: what each shard is asked and why, where the time went, and what looks wrong.

use crate::object::FromObject;
use crate::search::{PlanSummary, SearchAnswer, SearchRequest};
use crate::{CatalogVersion, Generation, Namespace, ShardId};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Body of `POST …/search/explain`: a search, and how it is to be explained.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExplainRequest {
    /// The search.
    #[serde(flatten)]
    pub search: SearchRequest,
    /// Run it too. Otherwise it is only planned, and `candidates`, times and `answer` stay empty.
    #[cfg_attr(feature = "openapi", schema(required = false, default = false))]
    pub analyze: bool,
    /// Ask each server for PostgreSQL's plan of its statement: with `analyze` it runs once more for that, after the search.
    #[cfg_attr(feature = "openapi", schema(required = false, default = false))]
    pub pg_plan: bool,
}

/// Answer of `POST …/search/explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExplainAnswer {
    /// How it is searched, in short.
    pub plan: PlanSummary,
    /// The catalog that the plan went by.
    pub catalog_version: CatalogVersion,
    /// How it is searched, in full.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// What the search gave; null where it was only planned. What it explains stands beside it, not in it.
    pub answer: Option<SearchAnswer>,
}

/// How a search was carried out, or would be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// Each shard, by number.
    pub shards: Vec<ShardExplain>,
    /// Candidates of all shards into one order; null where the search was only planned.
    pub merge: Option<MergeExplain>,
    /// Looking up what only winners need; null where candidates brought it along, or nothing was asked for.
    pub fetch: Option<FetchExplain>,
    /// What somebody who looks after the cluster would want to know.
    pub warnings: Vec<SearchWarning>,
}

/// How one shard is searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShardExplain {
    /// The shard.
    pub shard: ShardId,
    /// The group that owns it.
    pub group: String,
    /// The worker that is asked, or has answered.
    pub worker: String,
    /// `primary` or `standby`.
    pub role: String,
    /// The placement's generation.
    pub generation: Generation,
    /// `exact`, `hnsw`, or `exact_fallback` when a graph gave too few.
    pub strategy: String,
    /// Why that one.
    pub why: String,
    /// `hnsw.ef_search`; null without a graph.
    pub ef: Option<u32>,
    /// How a scan gets at its rows: by the `namespaces` asked for, by the `filter`, or as `postgres` thinks best; null for a walk that was enough.
    pub rows_by: Option<String>,
    /// Candidates that the worker sends, at most.
    pub candidates_wanted: u32,
    /// Namespaces whose own graphs are walked.
    pub graphs: Vec<Namespace>,
    /// Rows asked for, as the agent last counted; null if not known yet.
    pub rows: Option<u64>,
    /// What the planner takes it to cost, in microseconds; null if it did not come to costs.
    pub cost_us: Option<f64>,
    /// Ways that were possible and cost more, cheapest first.
    pub rejected: Vec<RejectedWay>,
    /// What became of it; null where it was only planned, or the shard gave no answer.
    pub run: Option<ShardRun>,
    /// PostgreSQL's own plan, if asked for.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub pg_plan: Option<Value>,
}

/// A way to search a shard that was not taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RejectedWay {
    /// `exact` or `hnsw`.
    pub strategy: String,
    /// What it would have been.
    pub what: String,
    /// What the planner takes it to cost, in microseconds.
    pub cost_us: f64,
}

/// What one shard did. Times are milliseconds; offsets count from the start of the search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShardRun {
    /// When it was asked.
    pub started_ms: f64,
    /// How long a connection was waited for.
    pub queued_ms: f64,
    /// From being asked to its last row, the wait included.
    pub ms: f64,
    /// Candidates that came.
    pub candidates: u32,
    /// Candidates that became hits in the merge.
    pub hits: u32,
    /// Candidates that stood elsewhere in the shard's order than exact distances put them.
    pub moved: u32,
    /// Candidates that the graph had missed; null if nothing had to be looked at again.
    pub added_by_fallback: Option<u32>,
}

/// Merge and re-rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MergeExplain {
    /// When it began, in milliseconds from the start of the search.
    pub started_ms: f64,
    /// How long it took.
    pub ms: f64,
    /// Candidates of all shards.
    pub candidates: u32,
    /// Hits.
    pub hits: u32,
    /// Candidates that exact distances put elsewhere than their shard had.
    pub moved: u32,
    /// Over-fetch as used.
    pub overfetch: f64,
    /// Candidates that graphs had missed and exact scans after them found.
    pub added_by_fallback: u32,
}

/// Looking up what only winners need.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FetchExplain {
    /// When it began, in milliseconds from the start of the search.
    pub started_ms: f64,
    /// How long it took.
    pub ms: f64,
    /// Hits that came of it.
    pub hits: u32,
}

/// Something that looks wrong or unwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SearchWarning {
    /// What it is.
    pub code: WarningCode,
    /// Where; empty if it is about the search as a whole.
    pub shards: Vec<ShardId>,
    /// For people.
    pub detail: String,
}

/// What looks wrong or unwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// Rows were not counted yet.
    StatisticsMissing,
    /// Rows were counted long ago.
    StatisticsOld,
    /// A large namespace has no graph of its own.
    GraphMissing,
    /// A graph gave too few, and every row was looked at after it.
    FellBack,
    /// A filter keeps so few rows that looking at all of them is a waste.
    FilterSelective,
    /// Over-fetch is paid for and changes nothing.
    OverfetchIdle,
    /// One shard took much longer than the others.
    ShardSlow,
    /// A shard waited for a connection for most of its time.
    ConnectionsShort,
    /// Most of the time that the request had was used up.
    DeadlineClose,
    /// PostgreSQL did not take the graph that was to be walked.
    GraphNotWalked,
    /// PostgreSQL reads a whole table for some of its rows.
    SequentialScan,
    /// PostgreSQL's plan was asked for and could not be had.
    PlanMissing,
}

impl<'de> Deserialize<'de> for ExplainRequest {
    /// Takes the two switches off the members and leaves the others to the search. What serde would derive reads the body into
    /// memory first, and loses where in it a fault is.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RequestVisitor)
    }
}

struct RequestVisitor;

impl<'de> Visitor<'de> for RequestVisitor {
    type Value = ExplainRequest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<ExplainRequest, A::Error> {
        let (mut analyze, mut pg_plan) = (None, None);
        let others = Others { members, analyze: &mut analyze, pg_plan: &mut pg_plan };
        let search = SearchRequest::from_members(MapAccessDeserializer::new(others))?;
        Ok(ExplainRequest { search, analyze: analyze.unwrap_or(false), pg_plan: pg_plan.unwrap_or(false) })
    }
}

/// The members but the switches, which it keeps.
struct Others<'a, A> {
    members: A,
    analyze: &'a mut Option<bool>,
    pg_plan: &'a mut Option<bool>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Others<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.members.next_key::<String>()? {
            let (switch, word) = match name.as_str() {
                "analyze" => (&mut *self.analyze, "analyze"),
                "pg_plan" => (&mut *self.pg_plan, "pg_plan"),
                _ => return seed.deserialize(name.into_deserializer()).map(Some),
            };
            if switch.replace(self.members.next_value()?).is_some() {
                return Err(A::Error::duplicate_field(word));
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.members.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn parse(text: &str) -> Result<ExplainRequest, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_body_is_a_search_and_two_switches() {
        let bare = parse(r#"{"vector":[1,2],"all":true}"#).unwrap();
        assert_eq!((bare.analyze, bare.pg_plan, bare.search.k), (false, false, 10));
        let full = parse(r#"{"pg_plan":true,"vector":[1,2],"analyze":true,"prefix":"a","k":3}"#).unwrap();
        assert_eq!((full.analyze, full.pg_plan, full.search.k), (true, true, 3));
        assert_eq!(full.search.prefix.as_deref(), Some("a"));
        let sent = serde_json::to_value(&full).unwrap();
        assert_eq!((&sent["analyze"], &sent["k"]), (&json!(true), &json!(3)));
        assert_eq!(parse(&sent.to_string()).unwrap(), full);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for (bad, told) in [
            (r#"{"vector":[1],"all":true,"analyse":true}"#, "unknown field `analyse`"),
            (r#"{"vector":[1],"all":true,"analyze":1}"#, "expected a boolean"),
            (r#"{"vector":[1],"all":true,"analyze":true,"analyze":true}"#, "duplicate field `analyze`"),
            (r#"{"vector":[1],"k":"x"}"#, "expected u32"),
            (r#"[[1],true]"#, "expected an object"),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(told), "{bad}: {error}");
        }
    }
}
