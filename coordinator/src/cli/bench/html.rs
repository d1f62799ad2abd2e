//! The report as one page: tables and plots, with nothing to fetch.

use super::axis::{Axis, Scale};
use super::plot::{Line, Plot, Point as Dot, Style, escape};
use super::quality::Quality;
use super::report::{Point, Report};
use super::scenario::Scenario;
use super::tally::Summary;

const STYLE: &str = include_str!("report.css");
const MS: Axis = Axis { label: "milliseconds", scale: Scale::Log };
const CLIENTS: Axis = Axis { label: "clients", scale: Scale::Log };

/// The page.
pub(super) fn page(report: &Report) -> String {
    let plots: String = plots(report).iter().map(|plot| format!("<figure>\n{}</figure>\n", plot.svg())).collect();
    let ended =
        if report.ended_early { "<p class=\"warning\">Ended before everything was measured.</p>\n" } else { "" };
    let failures: String = report.failures().iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
    let failures = if failures.is_empty() { failures } else { format!("<h2>Failures</h2>\n<ul>\n{failures}</ul>\n") };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>atoll bench</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>atoll bench</h1>\n\
         <p>{date} · atoll {coordinator} at {url} · collection {collection} · k {k}<br>{machine}</p>\n{ended}\
         {plots_title}<div class=\"plots\">\n{plots}</div>\n<h2>Figures</h2>\n{table}{failures}\
         <p class=\"remark\">Milliseconds from sending a request to the last byte of its answer; each client sends its next request \
         when it has the answer. SQL: the same statements sent straight to the workers, by turns with the requests; of several shards unmerged, and \
         without fetching the winners.</p>\n\
         </body>\n</html>\n",
        date = escape(&report.date),
        coordinator = escape(&report.coordinator),
        url = escape(report.arguments["url"].as_str().unwrap_or_default()),
        collection = escape(report.arguments["collection"].as_str().unwrap_or_default()),
        k = report.arguments["k"],
        machine = escape(&report.machine.line()),
        plots_title = if plots.is_empty() { "" } else { "<h2>Plots</h2>\n" },
        table = table(report),
    )
}

fn table(report: &Report) -> String {
    let text = report.cells();
    let row = |cells: &[String], tag: &str| {
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let header: Vec<String> = text.header.iter().map(|title| title.trim_end_matches('>').to_owned()).collect();
    let body: String = text.rows.iter().map(|cells| row(cells, "td")).collect();
    format!("<div class=\"wide\"><table>\n{}{body}</table></div>\n", row(&header, "th"))
}

fn plots(report: &Report) -> Vec<Plot> {
    let mut plots = Vec::new();
    plots.extend(recall_against_latency(report));
    // A sweep has many qualities: one of them stands for the rest of the plots.
    let first = report.results.iter().find_map(|point| point.quality.clone());
    let of_one: Vec<&Point> =
        report.results.iter().filter(|point| point.quality.is_none() || point.quality == first).collect();
    let scenarios = scenarios(&of_one);
    if of_one.iter().any(|point| point.clients > 1 && point.http.latency.is_some()) {
        plots.push(latency_against_clients(&of_one, &scenarios));
        plots.push(throughput_against_clients(&of_one, &scenarios));
    }
    plots.extend(scenarios.iter().map(|scenario| percentiles(&of_one, *scenario)));
    plots
}

/// Those with latencies, each once, in order.
fn scenarios(points: &[&Point]) -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for point in points.iter().filter(|point| point.http.latency.is_some()) {
        if !scenarios.contains(&point.scenario) {
            scenarios.push(point.scenario);
        }
    }
    scenarios
}

/// The curve that a sweep is for; none without one.
fn recall_against_latency(report: &Report) -> Option<Plot> {
    let all: Vec<&Point> = report.results.iter().collect();
    let mut lines = Vec::new();
    for (colour, scenario) in scenarios(&all).into_iter().enumerate() {
        let of_scenario = || all.iter().filter(move |point| point.scenario == scenario);
        let fewest = of_scenario().map(|point| point.clients).min();
        for (is_ef, style, name) in [(true, Style::Full, "ef"), (false, Style::Points, "profiles")] {
            let dots: Vec<Dot> = of_scenario()
                .filter(|point| Some(point.clients) == fewest)
                .filter_map(|point| {
                    let (quality, recall) = (point.quality.as_deref()?, point.recall?);
                    let ms = point.http.latency.as_ref()?.p50_ms;
                    (Quality::is_ef(quality) == is_ef).then(|| dot(ms, recall.mean, Some(quality)))
                })
                .collect();
            if !dots.is_empty() {
                lines.push(Line { name: format!("{}, {name}", scenario.name()), colour, style, points: dots });
            }
        }
    }
    let swept = lines.iter().any(|line| line.points.len() > 1);
    swept.then(|| Plot {
        title: "Recall against latency".to_owned(),
        x: Axis { label: "median, milliseconds", scale: Scale::Log },
        y: Axis { label: "recall", scale: Scale::Linear },
        lines,
    })
}

fn latency_against_clients(points: &[&Point], scenarios: &[Scenario]) -> Plot {
    let median = |summary: &Summary| summary.latency.as_ref().map(|latency| latency.p50_ms);
    let lines = against_clients(points, scenarios, median);
    Plot { title: "Latency against clients (median)".to_owned(), x: CLIENTS, y: MS, lines }
}

fn throughput_against_clients(points: &[&Point], scenarios: &[Scenario]) -> Plot {
    let lines = against_clients(points, scenarios, |summary| Some(summary.per_second));
    let y = Axis { label: "requests per second", scale: Scale::Log };
    Plot { title: "Throughput against clients".to_owned(), x: CLIENTS, y, lines }
}

fn against_clients(points: &[&Point], scenarios: &[Scenario], of: impl Fn(&Summary) -> Option<f64>) -> Vec<Line> {
    let mut lines = Vec::new();
    for (colour, scenario) in scenarios.iter().enumerate() {
        let of_scenario = || points.iter().filter(|point| point.scenario == *scenario);
        let line = |name: String, style: Style, side: &dyn Fn(&Point) -> Option<f64>| {
            let dots = of_scenario().filter_map(|point| Some(dot(f64::from(point.clients), side(point)?, None)));
            Line { name, colour, style, points: dots.collect() }
        };
        lines.push(line(scenario.name().to_owned(), Style::Full, &|point| of(&point.http)));
        let floor = line(format!("{}, SQL", scenario.name()), Style::Dashed, &|point| of(point.floor.as_ref()?));
        if !floor.points.is_empty() {
            lines.push(floor);
        }
    }
    lines
}

fn percentiles(points: &[&Point], scenario: Scenario) -> Plot {
    let mut lines = Vec::new();
    for (colour, point) in points.iter().filter(|point| point.scenario == scenario).enumerate() {
        let clients = if point.clients == 1 { "1 client".to_owned() } else { format!("{} clients", point.clients) };
        let sides = [
            (Some(&point.http), Style::Full, clients.clone()),
            (point.floor.as_ref(), Style::Dashed, format!("{clients}, SQL")),
        ];
        for (summary, style, name) in sides {
            if let Some(latency) = summary.and_then(|summary| summary.latency.as_ref()) {
                let dots = latency.curve.iter().map(|(percentile, ms)| dot(*percentile, *ms, None)).collect();
                lines.push(Line { name, colour, style, points: dots });
            }
        }
    }
    let x = Axis { label: "percentile", scale: Scale::Nines };
    Plot { title: format!("{}: percentiles", scenario.name()), x, y: MS, lines }
}

fn dot(x: f64, y: f64, label: Option<&str>) -> Dot {
    Dot { x, y, label: label.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    fn titles(report: &Report) -> Vec<String> {
        plots(report).into_iter().map(|plot| plot.title).collect()
    }

    #[test]
    fn a_page_has_its_plots_and_needs_nothing_else() {
        let page = page(&report());
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("NaN"), "{page}");
        assert!(page.contains("shard-unavailable 1") && page.contains("prefers-color-scheme"), "{page}");
        assert_eq!(
            titles(&report()),
            [
                "Latency against clients (median)",
                "Throughput against clients",
                "own: percentiles",
                "upsert: percentiles"
            ]
        );
    }

    #[test]
    fn a_sweep_shows_recall_against_latency() {
        let mut report = report();
        report.results.retain(|point| point.scenario == Scenario::Own && point.clients == 1);
        for quality in ["ef 10", "ef 20", "speed"] {
            let point = Point { quality: Some(quality.to_owned()), ..report.results[0].clone() };
            report.results.push(point);
        }
        report.results.remove(0);
        assert_eq!(titles(&report), ["Recall against latency", "own: percentiles"]);
        let plots = plots(&report);
        let lines: Vec<(&str, usize)> =
            plots[0].lines.iter().map(|line| (line.name.as_str(), line.points.len())).collect();
        assert_eq!(lines, [("own, ef", 2), ("own, profiles", 1)]);
    }
}
