//! Graphs on their way, for people: in `atoll status`, and while `atoll import` waits for them.

use super::client::Client;
use super::error::CommandError;
use super::output::count;
use atoll_proto::CollectionName;
use atoll_proto::admin::BuildList;
use atoll_proto::build::{BuildState, GraphBuild};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

const ASK_EVERY: Duration = Duration::from_millis(500);
/// Failed tries end the wait when no other graph has been built for so long.
const FAILED_PATIENCE: Duration = Duration::from_secs(30);
/// Agents that do not answer end it after so long: an agent that starts again is back by then.
const SILENT_PATIENCE: Duration = Duration::from_secs(30);
/// Longest that counting what was imported may take.
const COUNT_PATIENCE: Duration = Duration::from_secs(600);

/// One line on all builds; none if there is nothing to build.
pub(super) fn summary(builds: &[GraphBuild]) -> Option<String> {
    let of = |state| builds.iter().filter(move |build| build.state == state);
    let building = of(BuildState::Building).count() as u64;
    let mut parts = Vec::new();
    if building > 0 {
        parts.push(format!("building {}, {:.0} %", count(building, "graph"), 100.0 * share(of(BuildState::Building))));
    }
    for (state, word) in [
        (BuildState::Waiting, "waiting"),
        (BuildState::Loading, "when its import ends"),
        (BuildState::Growing, "when it stops growing"),
        (BuildState::Failed, "failed, tried again later"),
    ] {
        match of(state).count() {
            0 => {}
            number => parts.push(format!("{number} {word}")),
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What builds wait for that only an operator can end, a line each.
pub(super) fn waits(builds: &[GraphBuild]) -> Vec<String> {
    let line = |build: &GraphBuild| {
        let waits = build.waits_for.as_ref()?;
        let age = waits.seconds.map_or_else(|| "of unknown age".to_owned(), |seconds| format!("{seconds} s old"));
        Some(format!(
            "{} of {}: {} (pid {}, {age}, {})",
            build.namespace,
            build.collection,
            build.phase.as_deref().unwrap_or("waiting for a transaction"),
            waits.pid,
            if waits.application.is_empty() { "nameless" } else { &waits.application },
        ))
    };
    builds.iter().filter_map(line).collect()
}

/// The share of all rows of these builds that their graphs hold.
fn share<'a>(builds: impl Iterator<Item = &'a GraphBuild>) -> f64 {
    let (done, all) = builds.fold((0.0, 0.0), |(done, all), build| {
        let rows = build.rows.max(1) as f64;
        (done + build.progress.unwrap_or(0.0) * rows, all + rows)
    });
    if all > 0.0 { done / all } else { 1.0 }
}

/// Waits until agents that were asked after `imported` have counted what was imported; gives the graphs of the collection that are
/// on their way then. An error if some agent does not answer for a while, or they do not come to an end.
pub(super) async fn known_since(
    client: &Client,
    collection: &CollectionName,
    imported: Instant,
) -> Result<Vec<GraphBuild>, CommandError> {
    let begun = Instant::now();
    let mut all_answered_at = begun;
    loop {
        let list: BuildList = client.get("/v1/admin/builds").await?.parse()?;
        if list.silent.is_empty() {
            all_answered_at = Instant::now();
        }
        if let Some(why) = hopeless(&list, all_answered_at.elapsed(), begun.elapsed()) {
            return Err(CommandError::Failed(why));
        }
        if let Some(builds) = settled(list, collection, imported.elapsed()) {
            return Ok(builds);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Why waiting has no end, if some agent has not answered for so long, or it has taken so long.
fn hopeless(list: &BuildList, silent_for: Duration, waited: Duration) -> Option<String> {
    if silent_for >= SILENT_PATIENCE {
        return Some(format!("it is not known which graphs are built: no answer from {}", list.silent.join(", ")));
    }
    (waited >= COUNT_PATIENCE).then(|| "what was imported is still not counted; see the logs of the agents".to_owned())
}

/// The collection's builds, if every agent told of them after the import and nothing is counted any more.
fn settled(list: BuildList, collection: &CollectionName, imported_ago: Duration) -> Option<Vec<GraphBuild>> {
    let is_newer = list.asked_ms_ago.is_some_and(|asked| u128::from(asked) < imported_ago.as_millis());
    if !is_newer || list.counting || !list.silent.is_empty() {
        return None;
    }
    Some(list.builds.into_iter().filter(|build| build.collection == *collection).collect())
}

/// Waits until the collection has no graph on its way; an error if only failed ones are left.
pub(super) async fn wait(client: &Client, collection: &CollectionName, imported: Instant) -> Result<(), CommandError> {
    let bar = ProgressBar::new(1_000);
    let style = ProgressStyle::with_template("{bar:40} {percent} % {msg}").expect("the template is well-formed");
    bar.set_style(style);
    let mut most_rows = 0;
    let mut worked_at = Instant::now();
    let outcome = loop {
        let builds = match known_since(client, collection, imported).await {
            Ok(builds) if builds.is_empty() => break Ok(()),
            Ok(builds) => builds,
            Err(error) => break Err(error),
        };
        if builds.iter().any(|build| build.state != BuildState::Failed) {
            worked_at = Instant::now();
        } else if worked_at.elapsed() >= FAILED_PATIENCE {
            let failed = count(builds.len() as u64, "graph");
            break Err(CommandError::Failed(format!("{failed} could not be built; see the logs of the agents")));
        }
        let rows = |build: &GraphBuild| (build.rows as f64 * (1.0 - build.progress.unwrap_or(0.0))) as u64;
        let rows_left: u64 = builds.iter().map(rows).sum();
        most_rows = most_rows.max(rows_left);
        bar.set_position(1_000 - (1_000 * rows_left).checked_div(most_rows).unwrap_or(0));
        let waits = waits(&builds).into_iter().next().map(|wait| format!("; {wait}")).unwrap_or_default();
        bar.set_message(summary(&builds).unwrap_or_default() + &waits);
        tokio::time::sleep(ASK_EVERY).await;
    };
    bar.finish_and_clear();
    outcome
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::build::WaitsFor;

    fn build(state: BuildState, rows: u64, progress: Option<f64>) -> GraphBuild {
        GraphBuild {
            shard: None,
            collection: "c".parse().unwrap(),
            namespace: "n".to_owned(),
            rows,
            state,
            phase: progress.map(|_| "waiting for old snapshots".to_owned()),
            progress,
            seconds: None,
            waits_for: None,
        }
    }

    #[test]
    fn a_summary_counts_what_is_there() {
        assert_eq!(summary(&[]), None);
        let mut builds =
            vec![build(BuildState::Building, 3_000, Some(0.5)), build(BuildState::Building, 1_000, Some(0.1))];
        assert_eq!(summary(&builds).unwrap(), "building 2 graphs, 40 %");
        builds.extend([build(BuildState::Waiting, 1, None), build(BuildState::Failed, 1, None)]);
        assert_eq!(summary(&builds).unwrap(), "building 2 graphs, 40 %, 1 waiting, 1 failed, tried again later");
    }

    #[test]
    fn who_holds_a_build_up_is_named() {
        let mut one = build(BuildState::Building, 1, Some(1.0));
        one.waits_for = Some(WaitsFor { pid: 7, seconds: Some(45), application: "pg_dump".to_owned() });
        assert_eq!(waits(&[one]), ["n of c: waiting for old snapshots (pid 7, 45 s old, pg_dump)"]);
    }

    #[test]
    fn what_agents_said_before_the_import_ended_is_not_believed() {
        let list = |asked_ms_ago, counting| BuildList {
            builds: vec![build(BuildState::Waiting, 1, None)],
            counting,
            asked_ms_ago,
            silent: Vec::new(),
        };
        let (collection, ago) = ("c".parse().unwrap(), Duration::from_millis(500));
        assert_eq!(settled(list(None, false), &collection, ago), None);
        assert_eq!(settled(list(Some(500), false), &collection, ago), None);
        assert_eq!(settled(list(Some(499), true), &collection, ago), None);
        assert_eq!(settled(list(Some(499), false), &collection, ago).unwrap().len(), 1);
        assert_eq!(settled(list(Some(499), false), &"d".parse().unwrap(), ago).unwrap(), []);
        let silent = BuildList { silent: vec!["w2".to_owned()], ..list(Some(499), false) };
        assert_eq!(settled(silent, &collection, ago), None, "nobody knows what w2 builds");
    }

    #[test]
    fn waiting_ends_when_an_agent_stays_silent_or_it_takes_too_long() {
        let silent = vec!["w2".to_owned(), "w5".to_owned()];
        let list = BuildList { builds: Vec::new(), counting: true, asked_ms_ago: Some(90_000), silent };
        let second = Duration::from_secs(1);
        assert_eq!(hopeless(&list, SILENT_PATIENCE - second, SILENT_PATIENCE), None);
        let why = hopeless(&list, SILENT_PATIENCE, SILENT_PATIENCE).unwrap();
        assert!(why.ends_with("no answer from w2, w5"), "{why}");
        assert!(hopeless(&list, second, COUNT_PATIENCE).unwrap().contains("not counted"));
    }
}
