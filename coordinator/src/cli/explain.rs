//! An explanation as a tree with a waterfall: each shard with its bar on one time axis and what there is to say of it, then merge
//! and fetch, then warnings. Plain ASCII, and nothing cut, where standard output is no terminal.

use super::output::{one_line, or_dash, table};
use super::pg_plan;
use atoll_proto::ShardId;
use atoll_proto::explain::{Explanation, SearchWarning, ShardExplain};

/// Room for bars where there is no terminal to ask.
const BARS: usize = 40;
/// A bar of fewer columns says nothing.
const BARS_MIN: usize = 10;
/// A wait for a connection that is worth a word.
const QUEUED_MS: f64 = 0.5;

/// The marks that trees and bars are drawn with.
struct Marks {
    branch: &'static str,
    last: &'static str,
    waits: char,
    runs: char,
    idle: char,
}

const DRAWN: Marks = Marks { branch: "├ ", last: "└ ", waits: '░', runs: '█', idle: '·' };
const ASCII: Marks = Marks { branch: "|- ", last: "`- ", waits: '-', runs: '#', idle: '.' };

/// One row: what stands in its columns, when it happened, and what is told below it, at last PostgreSQL's plan.
struct Step {
    columns: [String; 7],
    span: Option<Span>,
    told: Vec<String>,
    pg_plan: Vec<String>,
}

/// A time in milliseconds from the start of the search; what is before `runs` was waiting.
struct Span {
    from: f64,
    runs: f64,
    until: f64,
}

/// Draws an explanation for a terminal of so many columns, or for a file.
pub(super) fn tree(explanation: &Explanation, width: Option<usize>) -> String {
    let marks = if width.is_some() { DRAWN } else { ASCII };
    let ran = explanation.merge.is_some();
    let mut steps: Vec<Step> = explanation.shards.iter().map(|shard| shard_step(shard, ran)).collect();
    steps.extend(merge_step(explanation));
    steps.extend(fetch_step(explanation));

    let columns = steps.iter().map(|step| step.columns.clone());
    let drawn = table(&["SHARD>", "WORKER", "STRATEGY", "EF>", "CANDIDATES>", "HITS>", "MS>"], columns);
    // The table cuts spaces off its lines' ends.
    let longest = drawn.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let bars = width.map_or(BARS, |width| width.saturating_sub(longest + 2).max(BARS_MIN));
    let end = steps.iter().filter_map(|step| step.span.as_ref()).map(|span| span.until).fold(0.0, f64::max);
    let mut lines = drawn.lines();
    let mut text = lines.next().unwrap_or_default().to_owned();
    if ran {
        let axis = format!("{end:.1} ms");
        text = format!("{text:<longest$}  0{axis:>room$}", room = bars - 1);
    }
    for (line, step) in lines.zip(&steps) {
        text.push('\n');
        match &step.span {
            Some(span) => text.push_str(&format!("{line:<longest$}  {}", bar(span, end, bars, &marks))),
            None => text.push_str(line),
        }
        for (i, told) in step.told.iter().enumerate() {
            let mark = if i + 1 == step.told.len() { marks.last } else { marks.branch };
            text.push('\n');
            text.push_str(&one_line(&format!("      {mark}{told}"), width));
        }
        for line in &step.pg_plan {
            text.push('\n');
            text.push_str(&one_line(&format!("          {line}"), width));
        }
    }
    for warning in &explanation.warnings {
        text.push('\n');
        text.push_str(&warned(warning));
    }
    text
}

fn shard_step(shard: &ShardExplain, ran: bool) -> Step {
    let candidates = match &shard.run {
        Some(run) => format!("{}/{}", run.candidates, shard.candidates_wanted),
        None => shard.candidates_wanted.to_string(),
    };
    let columns = [
        shard.shard.to_string(),
        format!("{}/{}", shard.group, shard.worker),
        shard.strategy.clone(),
        or_dash(shard.ef),
        candidates,
        or_dash(shard.run.map(|run| run.hits)),
        or_dash(shard.run.map(|run| format!("{:.1}", run.ms))),
    ];
    let span = shard.run.map(|run| Span {
        from: run.started_ms,
        runs: run.started_ms + run.queued_ms,
        until: run.started_ms + run.ms,
    });
    let pg_plan = shard.pg_plan.as_ref().map(pg_plan::lines).unwrap_or_default();
    Step { columns, span, told: shard_told(shard, ran), pg_plan }
}

fn shard_told(shard: &ShardExplain, ran: bool) -> Vec<String> {
    let mut told = vec![planned(shard)];
    if !shard.graphs.is_empty() {
        let names: Vec<&str> = shard.graphs.iter().map(|namespace| namespace.as_str()).collect();
        told.push(format!("walks {}", names.join(", ")));
    }
    match &shard.run {
        Some(run) => {
            if let Some(added) = run.added_by_fallback {
                told.push(format!("the exact scan after the walk added {added}"));
            }
            if run.moved > 0 {
                told.push(format!("exact distances moved {} of {}", run.moved, run.candidates));
            }
            if run.queued_ms >= QUEUED_MS {
                told.push(format!("waited {:.1} ms for a connection", run.queued_ms));
            }
        }
        None if ran => told.push("gave no answer".to_owned()),
        None => {}
    }
    told
}

/// Why it is searched so, what it should cost, and what else would have cost.
fn planned(shard: &ShardExplain) -> String {
    let ms = |us: f64| format!("{:.1} ms", us / 1_000.0);
    let mut text = shard.why.clone();
    if let Some(rows) = shard.rows {
        text.push_str(&format!("; {rows} rows"));
    }
    if let Some(cost_us) = shard.cost_us {
        text.push_str(&format!("; should take {}", ms(cost_us)));
    }
    let rejected: Vec<String> =
        shard.rejected.iter().map(|way| format!("{} ({})", way.strategy, ms(way.cost_us))).collect();
    if !rejected.is_empty() {
        text.push_str(&format!("; rather than {}", rejected.join(", ")));
    }
    text
}

fn merge_step(explanation: &Explanation) -> Option<Step> {
    let merge = explanation.merge?;
    let mut told = Vec::new();
    if merge.moved > 0 {
        told.push(format!("exact distances moved {} of {} candidates", merge.moved, merge.candidates));
    }
    Some(Step {
        columns: after("merge", merge.candidates.to_string(), merge.hits, merge.ms),
        span: Some(Span { from: merge.started_ms, runs: merge.started_ms, until: merge.started_ms + merge.ms }),
        told,
        pg_plan: Vec::new(),
    })
}

fn fetch_step(explanation: &Explanation) -> Option<Step> {
    let fetch = explanation.fetch?;
    Some(Step {
        columns: after("fetch", "-".to_owned(), fetch.hits, fetch.ms),
        span: Some(Span { from: fetch.started_ms, runs: fetch.started_ms, until: fetch.started_ms + fetch.ms }),
        told: Vec::new(),
        pg_plan: Vec::new(),
    })
}

/// The columns of what comes after the shards.
fn after(name: &str, candidates: String, hits: u32, ms: f64) -> [String; 7] {
    let none = String::new;
    [name.to_owned(), none(), none(), none(), candidates, hits.to_string(), format!("{ms:.1}")]
}

/// A bar of `columns`, of which `end` is the last; what happened fills one column at least.
fn bar(span: &Span, end: f64, columns: usize, marks: &Marks) -> String {
    let scale = if end > 0.0 { columns as f64 / end } else { 0.0 };
    let column = |ms: f64| ((ms * scale) as usize).min(columns - 1);
    let (from, runs, until) = (column(span.from), column(span.runs), column(span.until));
    let mark = |at: usize| match at {
        _ if at < from || at > until => marks.idle,
        _ if at < runs => marks.waits,
        _ => marks.runs,
    };
    (0..columns).map(mark).collect()
}

fn warned(warning: &SearchWarning) -> String {
    let code = serde_json::to_value(warning.code).ok();
    let code = code.as_ref().and_then(|code| code.as_str()).unwrap_or_default();
    let shards: Vec<String> = warning.shards.iter().map(ShardId::to_string).collect();
    let on = match shards.len() {
        0 => String::new(),
        1 => format!(" on shard {}", shards[0]),
        _ => format!(" on shards {}", shards.join(", ")),
    };
    format!("warning: {code}{on}: {}", warning.detail)
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
