//! `atoll bench` from beginning to end: look, measure, clean up, report.

use super::args::{BenchArgs, BenchCommand, MeasureArgs};
use super::connection::Address;
use super::floor::Floor;
use super::html;
use super::import::{bulk, pair, prepare};
use super::load::{self, Length};
use super::machine::Machine;
use super::queries::{self, Query};
use super::report::{Point, Report};
use super::scenario::Scenario;
use super::scratch::{self, Scratch};
use super::stop::Stop;
use super::work::Builder;
use crate::cli::client::Client;
use crate::cli::error::CommandError;
use crate::cli::output::Output;
use crate::cli::path;
use atoll_core::filter;
use atoll_proto::admin::VersionInfo;
use atoll_proto::collection::CollectionInfo;
use atoll_proto::entry::{EntryPage, NamespacePage};
use atoll_proto::filter::Filter;
use atoll_proto::{CollectionName, Namespace, limits};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Pages of namespaces that are read, at most: five of so many are as good as five of all.
const NAMESPACE_PAGES: usize = 10;
/// The filter of `filtered` where none is named: of what `bench prepare` imports it keeps 5 %.
const USUAL_FILTER: &str = r#"{"must":[{"field":"metadata.mod20","eq":7}]}"#;

/// Measures, or prepares what will be measured.
pub(crate) async fn run(args: BenchArgs, client: &Client, output: &Output) -> Result<(), CommandError> {
    let args = match args.command {
        Some(BenchCommand::Prepare(args)) => return prepare(args, client, output).await,
        None => args.measure,
    };
    if args.quality.sweep && !args.scenarios().iter().all(|scenario| scenario.searches()) {
        return Err(CommandError::Usage("--sweep is for searches: own, five, all, filtered".to_owned()));
    }
    let stop = Stop::listen();
    let scratch = Scratch::new();
    let mut report = empty_report(&args, client).await?;
    let measured = measure(&args, client, &scratch, &stop, &mut report).await;
    let cleaned = scratch.clean(client, &args.collection.collection).await;
    report.ended_early = measured.is_err() || stop.came();
    if !report.results.is_empty() {
        show(&report, &args, output)?;
    }
    // Who stopped it knows.
    let measured = if stop.came() { Ok(()) } else { measured };
    measured.and(cleaned)
}

async fn empty_report(args: &MeasureArgs, client: &Client) -> Result<Report, CommandError> {
    let version: VersionInfo = client.get("/version").await?.parse()?;
    let filter = match &args.filter {
        Some(filter) => json!(filter),
        None => json!(usual_filter()),
    };
    Ok(Report {
        atoll: env!("CARGO_PKG_VERSION"),
        coordinator: version.version,
        date: format!("{:.0}", jiff::Timestamp::now()),
        machine: Machine::look(),
        arguments: json!({
            "url": client.base(),
            "collection": args.collection.collection,
            "scenarios": args.scenarios(),
            "clients": args.clients(),
            "seconds": if args.requests.is_none() { Some(args.seconds) } else { None },
            "requests": args.requests,
            "warm_up_seconds": args.warm_up,
            "k": args.k,
            "filter": filter,
            "queries": args.queries.as_ref().map_or_else(|| "sample".to_owned(), |path| path.display().to_string()),
            "base64": args.base64,
            "consistency": args.consistency,
            "floor": args.cluster.is_some(),
        }),
        ended_early: false,
        results: Vec::new(),
    })
}

async fn measure(
    args: &MeasureArgs,
    client: &Client,
    scratch: &Scratch,
    stop: &Stop,
    report: &mut Report,
) -> Result<(), CommandError> {
    let collection = &args.collection.collection;
    let info: CollectionInfo = client.get(&path::collection(collection, "")).await?.parse()?;
    let mut queries = queries::read(pair(&args.queries, &args.vectors), args.query_limit as usize)?;
    check_dimensions(&queries, &info)?;
    let namespaces = namespaces(client, collection).await?;
    keep_those_with_entries(&mut queries, &namespaces, collection)?;
    let scenarios = scenarios(args, client, &queries).await?;
    let address = Address::of(client)?;
    let filter = args.filter.clone().unwrap_or_else(usual_filter);
    let checked_filter = filter::check(&filter, "/filter").map_err(|errors| {
        let details: Vec<String> = errors.into_iter().map(|error| error.detail).collect();
        CommandError::Usage(format!("--filter: {}", details.join("; ")))
    })?;
    let floor = match &args.cluster {
        Some(file) => Some(Floor::open(file, client, &info).await?),
        None => None,
    };
    let mut builder = Builder {
        client,
        collection,
        queries: &queries,
        namespaces: &namespaces,
        scratch,
        stop,
        floor,
        filter,
        checked_filter: Arc::new(checked_filter),
        k: args.k,
        recall_queries: args.recall_queries as usize,
        base64: args.base64,
        consistency: args.consistency,
        truths: HashMap::new(),
        written: Arc::default(),
    };
    let (qualities, clients) = (args.quality.all(), args.clients());
    let bar = progress(qualities.len() * scenarios.len() * clients.len());
    for quality in qualities {
        for scenario in &scenarios {
            if stop.came() {
                break;
            }
            bar.set_message(format!("{}, {}", scenario.name(), quality.name()));
            if *scenario == Scenario::Bulk {
                let files = pair(&args.entries, &args.entry_vectors);
                let imported = bulk(files, args.bulk_rows, client, collection, scratch, stop).await?;
                report.results.push(Point::import(imported));
                bar.inc(clients.len() as u64);
                continue;
            }
            let mut work = Arc::new(builder.build(*scenario, quality).await?);
            for clients in clients.iter().take_while(|_| !stop.came()) {
                bar.set_message(format!("{}, {}, {clients} at once", scenario.name(), quality.name()));
                let warm_up = Length::Time(Duration::from_secs_f64(args.warm_up));
                load::run(&work, &address, *clients, warm_up, stop).await;
                work = Arc::new(builder.build(*scenario, quality).await?);
                let measured = load::run(&work, &address, *clients, length(args), stop).await;
                let quality = asks_for_quality(*scenario).then(|| quality.name());
                report.results.push(Point::new(*scenario, quality, *clients, &measured));
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn length(args: &MeasureArgs) -> Length {
    match args.requests {
        Some(requests) => Length::Requests(requests),
        None => Length::Time(Duration::from_secs_f64(args.seconds)),
    }
}

fn usual_filter() -> Filter {
    serde_json::from_str(USUAL_FILTER).expect("the filter above is one")
}

fn asks_for_quality(scenario: Scenario) -> bool {
    !matches!(scenario, Scenario::Get | Scenario::Upsert | Scenario::Bulk)
}

fn check_dimensions(queries: &[Query], info: &CollectionInfo) -> Result<(), CommandError> {
    let given = queries.first().map(|query| query.vector.dimensions() as u32);
    if info.settings.dimensions == given {
        return Ok(());
    }
    Err(CommandError::Failed(format!(
        "the queries have {} numbers each, collection {} {}",
        given.unwrap_or_default(),
        info.name,
        info.settings.dimensions.map_or_else(|| "takes none".to_owned(), |numbers| format!("takes {numbers}")),
    )))
}

/// The namespaces that hold entries, in byte order, without those of benchmarks.
async fn namespaces(client: &Client, collection: &CollectionName) -> Result<Vec<Namespace>, CommandError> {
    let mut namespaces = Vec::new();
    let mut cursor = None;
    for _ in 0..NAMESPACE_PAGES {
        let query = path::query(&[("limit", Some(limits::LIST_PAGE.to_string())), ("cursor", cursor)]);
        let page: NamespacePage =
            client.get(&path::collection(collection, &format!("/namespaces{query}"))).await?.parse()?;
        for name in page.namespaces.iter().filter(|name| !name.starts_with(scratch::PREFIX)) {
            namespaces.push(Namespace::parse(name).map_err(|error| CommandError::failed(&error))?);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    namespaces.sort();
    Ok(namespaces)
}

fn keep_those_with_entries(
    queries: &mut Vec<Query>,
    namespaces: &[Namespace],
    collection: &CollectionName,
) -> Result<(), CommandError> {
    queries.retain(|query| namespaces.binary_search(&query.namespace).is_ok());
    if queries.is_empty() {
        return Err(CommandError::Failed(format!(
            "no namespace of the queries holds entries of collection {collection}: import some, for instance with atoll bench prepare"
        )));
    }
    Ok(())
}

/// What is measured. `filtered` needs entries that its filter speaks of: left out where nobody named it, else told.
async fn scenarios(args: &MeasureArgs, client: &Client, queries: &[Query]) -> Result<Vec<Scenario>, CommandError> {
    let mut scenarios = args.scenarios();
    if args.filter.is_some() || !scenarios.contains(&Scenario::Filtered) {
        return Ok(scenarios);
    }
    let list = json!({"namespace": queries[0].namespace, "limit": 1, "include": ["metadata"]});
    let page: EntryPage =
        client.post(&path::collection(&args.collection.collection, "/entries/list"), &list).await?.parse()?;
    let first = page.entries.first().and_then(|entry| entry.metadata.as_ref());
    if first.is_some_and(|metadata| metadata.has_member("mod20")) {
        return Ok(scenarios);
    }
    let why = "entries have no metadata.mod20 to filter by: import them with atoll bench prepare, or name a --filter";
    if args.scenarios.contains(&Scenario::Filtered) {
        return Err(CommandError::Failed(why.to_owned()));
    }
    eprintln!("filtered is left out: {why}");
    scenarios.retain(|scenario| *scenario != Scenario::Filtered);
    Ok(scenarios)
}

fn progress(points: usize) -> ProgressBar {
    let bar = ProgressBar::new(points as u64);
    let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len}  {msg}  {elapsed}");
    bar.set_style(style.expect("the template above is well-formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn show(report: &Report, args: &MeasureArgs, output: &Output) -> Result<(), CommandError> {
    if let Some(file) = &args.html {
        let failed = |source| CommandError::File { doing: "write", path: file.clone(), source };
        std::fs::write(file, html::page(report)).map_err(failed)?;
        eprintln!("report: {}", file.display());
    }
    if output.json {
        let text = serde_json::to_string(report).expect("a report has text keys only, so it serialises");
        return output.line(text);
    }
    eprintln!("{}; atoll {}, {}", report.machine.line(), report.coordinator, report.date);
    output.line(report.table())?;
    for line in report.failures() {
        eprintln!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_usual_filter_is_one() {
        assert!(filter::check(&usual_filter(), "/filter").is_ok());
    }

    #[test]
    fn queries_without_entries_are_left_out_and_told_if_none_is_left() {
        let names = ["a", "b", "a"].map(|name| Namespace::parse(name).unwrap());
        let vector = atoll_proto::Vector::new(vec![1.0]).unwrap();
        let mut queries = names.clone().map(|namespace| Query { namespace, vector: vector.clone() }).to_vec();
        let collection = "c".parse().unwrap();
        let own = names[0].clone();
        keep_those_with_entries(&mut queries, std::slice::from_ref(&own), &collection).unwrap();
        assert_eq!(queries.len(), 2);
        let error = keep_those_with_entries(&mut queries, &[], &collection).unwrap_err();
        assert!(error.to_string().contains("atoll bench prepare"));
    }
}
