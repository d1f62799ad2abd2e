//! What was measured, for people and for programs.

use super::load::Measured;
use super::machine::Machine;
use super::scenario::Scenario;
use super::tally::{Recall, Summary};
use crate::cli::output::table;
use serde::Serialize;
use serde_json::Value;

/// Everything that was measured in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    /// Version of this program.
    pub(super) atoll: &'static str,
    /// Version of the coordinator.
    pub(super) coordinator: String,
    /// When it began, RFC 3339.
    pub(super) date: String,
    pub(super) machine: Machine,
    /// What was asked for, as far as it bears on the figures.
    pub(super) arguments: Value,
    /// Whether it was ended before everything was measured.
    pub(super) ended_early: bool,
    pub(super) results: Vec<Point>,
}

/// One scenario with so many clients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Point {
    pub(super) scenario: Scenario,
    /// Recall against speed, as asked for; none where nothing is searched.
    pub(super) quality: Option<String>,
    pub(super) clients: u32,
    pub(super) http: Summary,
    /// The median of what searches took inside the coordinator, as their answers said.
    pub(super) inside_p50_ms: Option<f64>,
    pub(super) recall: Option<Recall>,
    /// The same SQL straight at the workers.
    pub(super) floor: Option<Summary>,
    /// Median over HTTP by that of the floor.
    pub(super) ratio: Option<f64>,
}

/// The figures, as words in rows under a header. A title that ends in `>` stands over numbers.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) header: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Point {
    /// What was seen of a scenario.
    pub(super) fn new(scenario: Scenario, quality: Option<String>, clients: u32, measured: &Measured) -> Self {
        let http = measured.http.tally.summary(measured.http.elapsed);
        let floor = measured.floor.as_ref().map(|floor| floor.tally.summary(floor.elapsed));
        let median = |summary: &Summary| summary.latency.as_ref().map(|latency| latency.p50_ms);
        let ratio = floor.as_ref().and_then(median).zip(median(&http)).map(|(floor, http)| http / floor);
        let (recall, inside_p50_ms) = (measured.http.tally.recall(), measured.http.tally.inside_p50_ms());
        Self { scenario, quality, clients, http, inside_p50_ms, recall, floor, ratio }
    }

    /// An import: rows in place of requests.
    pub(super) fn import(http: Summary) -> Self {
        let (scenario, quality, inside_p50_ms) = (Scenario::Bulk, None, None);
        Self { scenario, quality, clients: 1, http, inside_p50_ms, recall: None, floor: None, ratio: None }
    }
}

impl Report {
    /// The figures as text.
    pub(super) fn table(&self) -> String {
        let Cells { header, rows } = self.cells();
        table(&header, rows)
    }

    /// One row for each point; columns that nothing has are left out.
    pub(super) fn cells(&self) -> Cells {
        let has_floor = self.results.iter().any(|point| point.floor.is_some());
        let has_recall = self.results.iter().any(|point| point.recall.is_some());
        let mut header = vec!["SCENARIO", "QUALITY", "CLIENTS>", "REQ/S>", "P50 MS>", "P95>", "P99>", "MAX>"];
        header.extend(["ERRORS>", "429>"]);
        if has_recall {
            header.extend(["RECALL>", "SHORT>"]);
        }
        if has_floor {
            header.extend(["SQL/S>", "SQL P50>", "SQL P95>", "RATIO>"]);
        }
        let rows = self.results.iter().map(|point| {
            let mut row = vec![
                point.scenario.name().to_owned(),
                point.quality.clone().unwrap_or_else(none),
                point.clients.to_string(),
            ];
            row.extend(rate_and_latency(&point.http));
            row.extend([point.http.error_count().to_string(), point.http.too_many_requests.to_string()]);
            if has_recall {
                row.push(point.recall.map_or_else(none, |recall| format!("{:.4}", recall.mean)));
                row.push(point.recall.map_or_else(none, |recall| recall.short.to_string()));
            }
            if has_floor {
                match &point.floor {
                    Some(floor) => row.extend(rate_and_latency(floor).into_iter().take(3)),
                    None => row.extend([none(), none(), none()]),
                }
                row.push(point.ratio.map_or_else(none, |ratio| format!("{ratio:.2}")));
            }
            row
        });
        Cells { rows: rows.collect(), header }
    }

    /// What failed, by code: a line for each point with failures.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for point in &self.results {
            for (side, summary) in [("HTTP", Some(&point.http)), ("SQL", point.floor.as_ref())] {
                let errors = summary.into_iter().flat_map(|summary| &summary.errors);
                let codes: Vec<String> = errors.map(|(code, count)| format!("{code} {count}")).collect();
                if !codes.is_empty() {
                    let (scenario, clients) = (point.scenario.name(), point.clients);
                    lines.push(format!("{scenario}, {clients} at once, {side}: {}", codes.join(", ")));
                }
            }
        }
        lines
    }
}

fn rate_and_latency(summary: &Summary) -> Vec<String> {
    let mut cells = vec![format!("{:.0}", summary.per_second)];
    match &summary.latency {
        Some(latency) => {
            let times = [latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms];
            cells.extend(times.map(|ms| format!("{ms:.3}")));
        }
        None => cells.extend([none(), none(), none(), none()]),
    }
    cells
}

fn none() -> String {
    "-".to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::load::Seen;
    use super::super::tally::Tally;
    use super::super::truth::Score;
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn seen(ms: std::ops::RangeInclusive<u64>) -> Seen {
        let mut tally = Tally::new();
        ms.for_each(|ms| tally.answered(Duration::from_millis(ms)));
        tally.scored(Score { recall: 0.95, short: false });
        Seen { tally, elapsed: Duration::from_secs(10) }
    }

    /// A report with a search with a floor, a write without one, and an import.
    pub(in super::super) fn report() -> Report {
        let both = Measured { http: seen(1..=100), floor: Some(seen(1..=50)) };
        let mut failing = Measured { http: seen(1..=10), floor: None };
        let failure = super::super::connection::Failure::Problem("shard-unavailable".to_owned());
        failing.http.tally.failed(failure, Duration::ZERO);
        let import = Summary { requests: 5_000, per_second: 20_000.0, ..Tally::new().summary(Duration::from_secs(1)) };
        Report {
            atoll: "0.1.0",
            coordinator: "0.1.0".to_owned(),
            date: "2026-01-02T03:04:05Z".to_owned(),
            machine: Machine { os: "X".to_owned(), architecture: "y", processor: None, cores: 2, memory_bytes: None },
            arguments: json!({"k": 10}),
            ended_early: false,
            results: vec![
                Point::new(Scenario::Own, Some("auto".to_owned()), 1, &both),
                Point::new(Scenario::Own, Some("auto".to_owned()), 8, &both),
                Point::new(Scenario::Upsert, None, 8, &failing),
                Point::import(import),
            ],
        }
    }

    #[test]
    fn a_table_has_a_row_for_each_point() {
        let table = report().table();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 5, "{table}");
        assert_eq!(&lines[1][..4], ["own", "auto", "1", "10"], "{table}");
        assert_eq!(lines[1].last(), Some(&"2.00"), "{table}");
        assert!(lines[1].contains(&"0.9500"), "{table}");
        assert_eq!(&lines[4][..4], ["bulk", "-", "1", "20000"], "{table}");
    }

    #[test]
    fn what_failed_is_told_by_its_code() {
        assert_eq!(report().failures(), ["upsert, 8 at once, HTTP: shard-unavailable 1"]);
    }

    #[test]
    fn programs_get_every_field() {
        let value = serde_json::to_value(report()).unwrap_or_default();
        let point = &value["results"][0];
        assert_eq!((&point["scenario"], &point["clients"]), (&json!("own"), &json!(1)));
        assert_eq!(point["http"]["requests"], 100);
        assert_eq!(point["recall"]["answers"], 1);
        assert!(point["floor"]["latency"]["p50_ms"].is_number(), "{point}");
        assert_eq!(value["results"][3]["http"]["latency"], Value::Null);
    }
}
