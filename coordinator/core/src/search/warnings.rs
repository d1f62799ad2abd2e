//! What somebody who looks after the cluster would want to know of a search: statistics that are missing or old, graphs that
//! should be there, work that is paid for and changes nothing, time lost. Takes values, returns values.

use super::filtered::RowPath;
use atoll_proto::agent::{GRAPH_FROM_ROWS, GRAPHS_MAX};
use atoll_proto::explain::{SearchWarning, ShardExplain, ShardRun, WarningCode};
use atoll_proto::{Namespace, ShardId};

/// Agents count every ten seconds unless told otherwise.
const OLD_SECONDS: u64 = 120;
/// Over-fetch that nobody asked for is not worth a warning.
const USUAL_OVERFETCH: f64 = 2.0;
/// A filter that keeps less than this share is selective, among so many rows at least.
const SELECTIVE_SHARE: f64 = 0.01;
const SELECTIVE_FROM_ROWS: u64 = 1_000;
/// A shard is slow beside the others by this factor, if it takes as long as is felt.
const SLOW_FACTOR: f64 = 3.0;
const SLOW_FROM_MS: f64 = 5.0;
/// Share of the deadline that is close to all of it.
const CLOSE_SHARE: f64 = 0.8;
/// Namespaces that one warning names.
const NAMED_MAX: usize = 5;

/// What agents have told of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableKnown {
    /// Its rows.
    pub rows: u64,
    /// How long ago it was counted; none if nobody knows.
    pub counted_seconds_ago: Option<u64>,
    /// Its large namespaces, with their rows.
    pub large: Vec<(Namespace, u64)>,
    /// How many of its namespaces have a graph of their own.
    pub graphs: usize,
}

/// What a search's warnings are drawn from.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// Its shards.
    pub shards: &'a [ShardEvidence<'a>],
    /// Whether it has a filter.
    pub filtered: bool,
    /// Whether it asked for every row to be looked at.
    pub exact: bool,
    /// Its over-fetch.
    pub overfetch: f64,
    /// The time it had, in milliseconds.
    pub deadline_ms: f64,
    /// The time it took, in milliseconds; none if it was only planned.
    pub total_ms: Option<f64>,
}

/// One shard of a search.
#[derive(Debug, Clone)]
pub struct ShardEvidence<'a> {
    /// How it was searched.
    pub explained: &'a ShardExplain,
    /// What is known of its table.
    pub known: Option<&'a TableKnown>,
    /// Large namespaces asked for that have no graph, where they should have one, with their rows.
    pub without_graph: Vec<(Namespace, u64)>,
}

/// What looks wrong, one warning for each kind.
pub fn warnings(evidence: &Evidence<'_>) -> Vec<SearchWarning> {
    let all = [
        statistics_missing(evidence),
        statistics_old(evidence),
        graph_missing(evidence),
        fell_back(evidence),
        filter_selective(evidence),
        overfetch_idle(evidence),
        shard_slow(evidence),
        connections_short(evidence),
        deadline_close(evidence),
    ];
    all.into_iter().flatten().collect()
}

/// A warning about the shards that `applies` to; none if there are none.
fn about(
    evidence: &Evidence<'_>,
    code: WarningCode,
    detail: &str,
    applies: impl Fn(&ShardEvidence<'_>) -> bool,
) -> Option<SearchWarning> {
    let shards: Vec<ShardId> =
        evidence.shards.iter().filter(|shard| applies(shard)).map(|shard| shard.explained.shard).collect();
    (!shards.is_empty()).then(|| SearchWarning { code, shards, detail: detail.to_owned() })
}

fn statistics_missing(evidence: &Evidence<'_>) -> Option<SearchWarning> {
    let detail = "rows were not counted yet, so every row is looked at; agents count soon after they start";
    about(evidence, WarningCode::StatisticsMissing, detail, |shard| shard.explained.rows.is_none())
}

fn statistics_old(evidence: &Evidence<'_>) -> Option<SearchWarning> {
    let age = |shard: &ShardEvidence<'_>| shard.known.and_then(|known| known.counted_seconds_ago);
    let oldest = evidence.shards.iter().filter_map(age).max()?;
    let detail = format!("rows were last counted up to {oldest} s ago: is the agent running, and its server?");
    about(evidence, WarningCode::StatisticsOld, &detail, |shard| age(shard).is_some_and(|age| age > OLD_SECONDS))
}

fn graph_missing(evidence: &Evidence<'_>) -> Option<SearchWarning> {
    if evidence.exact {
        return None;
    }
    let missing = |shard: &ShardEvidence<'_>| {
        shard.without_graph.iter().filter(|(_, rows)| *rows >= GRAPH_FROM_ROWS).cloned().collect::<Vec<_>>()
    };
    let full = |shard: &ShardEvidence<'_>| shard.known.is_some_and(|known| known.graphs >= GRAPHS_MAX);
    let mut named: Vec<(Namespace, u64)> = evidence.shards.iter().flat_map(missing).collect();
    named.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let more = named.len().saturating_sub(NAMED_MAX);
    let names: Vec<String> =
        named.iter().take(NAMED_MAX).map(|(namespace, rows)| format!("{namespace} ({rows} rows)")).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let why = match evidence.shards.iter().any(|shard| full(shard) && !missing(shard).is_empty()) {
        true => format!("a table has at most {GRAPHS_MAX} graphs, which the largest namespaces get"),
        false => "it is built when a namespace has stopped growing fast".to_owned(),
    };
    let detail = format!("no graph of their own yet: {}{more}; {why}", names.join(", "));
    about(evidence, WarningCode::GraphMissing, &detail, |shard| !missing(shard).is_empty())
}

fn fell_back(evidence: &Evidence<'_>) -> Option<SearchWarning> {
    let detail = "a graph gave fewer than k, so every row was looked at after it";
    about(evidence, WarningCode::FellBack, detail, |shard| {
        shard.explained.run.is_some_and(|run| run.added_by_fallback.is_some())
    })
}

fn filter_selective(evidence: &Evidence<'_>) -> Option<SearchWarning> {
    let detail = "every row was looked at, and the filter keeps less than 1 % of them: a tag, a key, or an equality of metadata \
                  can be found by an index";
    let keeps_little = |shard: &ShardEvidence<'_>| {
        let (Some(run), Some(rows)) = (shard.explained.run, shard.explained.rows) else { return false };
        // An index that leads to the matching rows is all that can be wished for.
        let looked_at_all = shard.explained.rows_by.as_deref() == Some(RowPath::Namespaces.word());
        let all_matches = run.candidates < shard.explained.candidates_wanted;
        looked_at_all
            && all_matches
            && rows >= SELECTIVE_FROM_ROWS
            && f64::from(run.candidates) < rows as f64 * SELECTIVE_SHARE
    };
    match evidence.filtered {
        true => about(evidence, WarningCode::FilterSelective, detail, keeps_little),
        false => None,
    }
}

fn overfetch_idle(evidence: &Evidence<'_>) -> Option<SearchWarning> {
    let detail = format!(
        "over-fetch of {} brings nothing where every row is looked at, or where ef is less than the candidates wanted",
        evidence.overfetch
    );
    if evidence.overfetch <= USUAL_OVERFETCH {
        return None;
    }
    about(evidence, WarningCode::OverfetchIdle, &detail, |shard| {
        let ShardExplain { ef, candidates_wanted, .. } = shard.explained;
        ef.is_none_or(|ef| ef < *candidates_wanted)
    })
}

fn shard_slow(evidence: &Evidence<'_>) -> Option<SearchWarning> {
    let mut times: Vec<f64> = runs(evidence).map(|run| run.ms).collect();
    if times.len() < 3 {
        return None;
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let limit = (median * SLOW_FACTOR).max(SLOW_FROM_MS);
    let detail =
        format!("took more than {SLOW_FACTOR} times the median of {median:.1} ms; the whole search waits for it");
    about(evidence, WarningCode::ShardSlow, &detail, |shard| shard.explained.run.is_some_and(|run| run.ms > limit))
}

fn connections_short(evidence: &Evidence<'_>) -> Option<SearchWarning> {
    let detail = "a connection was waited for longer than the statement ran: the worker has more to do than it can";
    about(evidence, WarningCode::ConnectionsShort, detail, |shard| {
        shard.explained.run.is_some_and(|run| run.queued_ms > SLOW_FROM_MS && run.queued_ms > run.ms / 2.0)
    })
}

fn deadline_close(evidence: &Evidence<'_>) -> Option<SearchWarning> {
    let total_ms = evidence.total_ms?;
    if total_ms <= evidence.deadline_ms * CLOSE_SHARE {
        return None;
    }
    let detail = format!("took {total_ms:.0} ms of the {:.0} ms it had", evidence.deadline_ms);
    Some(SearchWarning { code: WarningCode::DeadlineClose, shards: Vec::new(), detail })
}

fn runs<'a>(evidence: &'a Evidence<'_>) -> impl Iterator<Item = ShardRun> + 'a {
    evidence.shards.iter().filter_map(|shard| shard.explained.run)
}

#[cfg(test)]
#[path = "warnings_tests.rs"]
mod tests;
