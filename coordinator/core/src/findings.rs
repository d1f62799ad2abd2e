//! What is wrong or unwise with a cluster, judged by plain values: what one coordinator knows of it at one moment.

mod groups;

use atoll_proto::agent::PGVECTOR_MIN;
use atoll_proto::collection::CollectionState;
use atoll_proto::finding::{Finding, FindingCode, Severity};
use atoll_proto::search::Profile;
use std::collections::BTreeMap;

/// Agents count every ten seconds, and more seldom where tables are large.
const STATISTICS_AGE_SECONDS_MAX: u64 = 600;
/// A graph over a million rows takes its time.
const GRAPH_MISSING_SECONDS_MAX: u64 = 1_800;
/// A shard of so many times the rows of the mean is worth a word, from so many rows on.
const SKEW_FACTOR: f64 = 3.0;
const SKEW_FROM_ROWS: u64 = 50_000;
/// A cut-over that was given up so often is worth a word.
const STUCK_FROM_ATTEMPTS: u32 = 3;

/// What a coordinator knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Whether the catalog has a leader.
    pub has_leader: bool,
    /// Whether everybody who can reach the coordinator that is asked may do everything, from beyond its machine.
    pub open_to_all: bool,
    /// Groups that have registered, and groups to wait for.
    pub groups: (u32, u32),
    /// Shards that are placed, and all.
    pub placed: (u32, u32),
    /// Coordinators that were not reached lately: id and URL.
    pub coordinators_down: Vec<(u64, String)>,
    /// Every worker.
    pub workers: Vec<KnownWorker>,
    /// Groups that have standbys.
    pub replicated: Vec<KnownGroup>,
    /// Collections that are not active.
    pub unsettled: Vec<(String, CollectionState)>,
    /// Large namespaces that lack the graph that they should have.
    pub graphs_missing: Vec<MissingGraph>,
    /// Profiles whose promise is broken.
    pub promises_broken: Vec<BrokenPromise>,
    /// Rows of each shard.
    pub shard_rows: Vec<(u32, u64)>,
    /// Moves that are not over, or have left something.
    pub moves: Vec<KnownMove>,
}

/// What is known of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMove {
    /// Its id.
    pub id: u64,
    /// Its shard.
    pub shard: u32,
    /// Cut-overs that were given up.
    pub attempts: u32,
    /// Whether it is over.
    pub is_over: bool,
}

/// What is known of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownWorker {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Whether another is the primary there.
    pub is_standby: bool,
    /// Whether agent and server answer.
    pub up: bool,
    /// pgvector's version.
    pub pgvector: String,
    /// Why its server is not what it should be, by its agent.
    pub refusal: Option<String>,
    /// Seconds since its rows were counted; none before they were.
    pub statistics_age_seconds: Option<u64>,
}

/// What is known of a group that has standbys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownGroup {
    /// Its name.
    pub name: String,
    /// Whether it has a primary that serves.
    pub has_primary: bool,
    /// On how many workers a write is before it is acknowledged.
    pub copies: u32,
    /// Its workers.
    pub members: Vec<KnownMember>,
}

/// What is known of a worker of such a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownMember {
    /// Its name.
    pub name: String,
    /// Whether it counts among those that hold what is acknowledged.
    pub in_sync: bool,
    /// Whether agent and server answer.
    pub up: bool,
    /// Whether its data was put back to an earlier state.
    pub restored: bool,
}

/// A large namespace without the graph that it should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingGraph {
    /// Its collection.
    pub collection: String,
    /// The namespace.
    pub namespace: String,
    /// Its rows.
    pub rows: u64,
    /// For how long, as far as this coordinator saw.
    pub seconds: u64,
}

/// A profile that finds less than it promises.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokenPromise {
    /// The collection searched.
    pub collection: String,
    /// The profile.
    pub profile: Profile,
    /// Whether in searches with a filter; else in those without. Each kind is estimated for itself.
    pub filtered: bool,
    /// What it promises.
    pub promise: f64,
    /// What was seen.
    pub recall: f64,
}

/// Everything worth a word, the worst first.
pub fn findings(known: &Known) -> Vec<Finding> {
    let mut found = Vec::new();
    of_the_catalog(known, &mut found);
    for worker in &known.workers {
        of_a_worker(worker, &mut found);
    }
    for group in &known.replicated {
        groups::of_a_group(group, &mut found);
    }
    of_the_data(known, &mut found);
    for one in &known.moves {
        found.extend(of_a_move(one));
    }
    found.sort_by_key(|finding| finding.severity);
    found
}

fn of_a_move(of: &KnownMove) -> Option<Finding> {
    let KnownMove { id, shard, attempts, is_over } = of;
    let subject = format!("move {id}");
    if *is_over {
        return Some(Finding {
            severity: Severity::Warning,
            code: FindingCode::MoveLeftThings,
            subject,
            detail: format!("move {id} of shard {shard} is over, and a server that did not answer holds what it made"),
            action: "bring the worker back: what is left goes by itself then".to_owned(),
        });
    }
    (*attempts >= STUCK_FROM_ATTEMPTS).then(|| Finding {
        severity: Severity::Warning,
        code: FindingCode::MoveStuck,
        subject,
        detail: format!(
            "move {id} of shard {shard} has given its cut-over up {attempts} times: something holds its tables"
        ),
        action: format!("end long transactions on the source, wait for a quieter hour, or: atoll move cancel {id}"),
    })
}

fn of_the_catalog(known: &Known, found: &mut Vec<Finding>) {
    if !known.has_leader {
        found.push(Finding {
            severity: Severity::Error,
            code: FindingCode::NoLeader,
            subject: "catalog".to_owned(),
            detail: "the catalog has no leader: nothing that changes it can be done, searches and writes go on"
                .to_owned(),
            action: "start coordinators until a majority of the voters is up".to_owned(),
        });
    }
    if known.open_to_all {
        found.push(Finding {
            severity: Severity::Warning,
            code: FindingCode::OpenToAll,
            subject: "public API".to_owned(),
            detail:
                "everybody who can reach this coordinator may read, write and change the cluster: no key is asked for"
                    .to_owned(),
            action: "let the network keep others out, or make keys".to_owned(),
        });
    }
    for (id, url) in &known.coordinators_down {
        found.push(Finding {
            severity: Severity::Error,
            code: FindingCode::CoordinatorDown,
            subject: format!("coordinator {id}"),
            detail: format!("coordinator {id} at {url} is down"),
            action:
                "start it again and see its log; if its disk is lost: atoll coordinator remove ID, then join a new one"
                    .to_owned(),
        });
    }
    let ((registered, wanted), (placed, shards)) = (known.groups, known.placed);
    // Later a group may have been removed. Without a catalog nothing is known of shards.
    if registered < wanted && (placed < shards || shards == 0) {
        found.push(Finding {
            severity: Severity::Error,
            code: FindingCode::NotPlaced,
            subject: "shards".to_owned(),
            detail: format!("shards are placed once {wanted} groups are registered, {registered} are so far"),
            action: "start the agents that are missing and see their logs: wrong secret, wrong coordinator address?"
                .to_owned(),
        });
    } else if placed != shards {
        found.push(Finding {
            severity: Severity::Error,
            code: FindingCode::NotPlaced,
            subject: "shards".to_owned(),
            detail: format!("{placed} of {shards} shards are placed"),
            action: "wait a moment; if it stays so, see the leader's log".to_owned(),
        });
    }
    for (name, state) in &known.unsettled {
        let doing = match state {
            CollectionState::Active => "being changed",
            CollectionState::Creating => "being made",
            CollectionState::Dropping => "being dropped",
        };
        found.push(Finding {
            severity: Severity::Warning,
            code: FindingCode::CollectionUnsettled,
            subject: format!("collection {name}"),
            detail: format!("the tables of collection {name} are still {doing}"),
            action: "every worker must take part: if it stays so, see which worker is down and its agent's log"
                .to_owned(),
        });
    }
}

fn of_a_worker(worker: &KnownWorker, found: &mut Vec<Finding>) {
    let KnownWorker { name, group, is_standby, up, pgvector, refusal, statistics_age_seconds } = worker;
    let subject = || format!("worker {name}");
    if !up {
        let (severity, meaning) = match is_standby {
            false => (Severity::Error, "its shards cannot be reached"),
            true => (Severity::Warning, "the others go on"),
        };
        found.push(Finding {
            severity,
            code: FindingCode::WorkerDown,
            subject: subject(),
            detail: format!("worker {name} of group {group} is down: {meaning}"),
            action: "see the logs of its agent and of its PostgreSQL; an agent that starts again starts its server"
                .to_owned(),
        });
    }
    if let Some(refusal) = refusal {
        found.push(Finding {
            severity: Severity::Error,
            code: FindingCode::WorkerRefuses,
            subject: subject(),
            detail: format!("worker {name} is not what it should be: {refusal}"),
            action: "do what it says; its agent tries again by itself".to_owned(),
        });
    }
    if version(pgvector).is_none_or(|version| version < PGVECTOR_MIN) {
        let (major, minor, patch) = PGVECTOR_MIN;
        found.push(Finding {
            severity: Severity::Error,
            code: FindingCode::PgvectorOld,
            subject: subject(),
            detail: format!(
                "worker {name} has pgvector {pgvector}, which is not known to be {major}.{minor}.{patch} or newer: before \
                 that, vacuum can corrupt HNSW indexes"
            ),
            action: "install a newer pgvector there, then: alter extension vector update; reindex the vector indexes".to_owned(),
        });
    }
    // Of a worker that is down nothing newer can be known.
    if let Some(age) = statistics_age_seconds.filter(|age| *up && *age > STATISTICS_AGE_SECONDS_MAX) {
        found.push(Finding {
            severity: Severity::Warning,
            code: FindingCode::StatisticsStale,
            subject: subject(),
            detail: format!("rows of worker {name} were last counted {age} s ago: searches are planned by old figures"),
            action: "see its agent's log; something may hold locks on its tables, or its disk be too slow to count"
                .to_owned(),
        });
    }
}

fn of_the_data(known: &Known, found: &mut Vec<Finding>) {
    for BrokenPromise { collection, profile, filtered, promise, recall } in &known.promises_broken {
        let profile = profile.word();
        // Only searches without a filter are calibrated by.
        let (kind, remedy) = match filtered {
            false => ("searches", "it is being calibrated anew; meanwhile ask for more"),
            true => ("searches with a filter", "ask for more"),
        };
        found.push(Finding {
            severity: Severity::Warning,
            code: FindingCode::RecallBelowPromise,
            subject: format!("collection {collection}"),
            detail: format!(
                "{kind} by {profile} lately found {recall:.3} of the true hits, {promise:.2} is promised"
            ),
            action: format!(
                "{remedy} (profile accuracy, exact). If it stays so: atoll recall, and an index profile of higher density"
            ),
        });
    }
    found.extend(missing_graphs(&known.graphs_missing));
    if let Some(finding) = skew(&known.shard_rows) {
        found.push(finding);
    }
}

/// One finding a collection: what keeps one graph from being built mostly keeps the others too.
fn missing_graphs(missing: &[MissingGraph]) -> Vec<Finding> {
    let mut by_collection: BTreeMap<&str, Vec<&MissingGraph>> = BTreeMap::new();
    for graph in missing.iter().filter(|graph| graph.seconds >= GRAPH_MISSING_SECONDS_MAX) {
        by_collection.entry(&graph.collection).or_default().push(graph);
    }
    let finding = |(collection, graphs): (&str, Vec<&MissingGraph>)| {
        let MissingGraph { namespace, rows, seconds, .. } = graphs.iter().max_by_key(|graph| graph.rows)?;
        let minutes = seconds / 60;
        let detail = match graphs.len() {
            1 => format!(
                "{namespace} has {rows} rows and no whole graph for {minutes} min: its searches look at every row"
            ),
            count => format!(
                "{count} large namespaces have no whole graph, {namespace} with {rows} rows for {minutes} min: their searches \
                 look at every row"
            ),
        };
        Some(Finding {
            severity: Severity::Warning,
            code: FindingCode::GraphMissing,
            subject: format!("collection {collection}"),
            detail,
            action: "see its agent's log, and GET /v1/admin/builds: the build fails, or waits for old transactions"
                .to_owned(),
        })
    };
    by_collection.into_iter().filter_map(finding).collect()
}

fn skew(shard_rows: &[(u32, u64)]) -> Option<Finding> {
    let (shard, rows) = *shard_rows.iter().max_by_key(|(_, rows)| *rows)?;
    let mean = shard_rows.iter().map(|(_, rows)| *rows as f64).sum::<f64>() / shard_rows.len() as f64;
    (rows >= SKEW_FROM_ROWS && rows as f64 > mean * SKEW_FACTOR).then(|| Finding {
        severity: Severity::Info,
        code: FindingCode::ShardSkew,
        subject: format!("shard {shard}"),
        detail: format!("shard {shard} has {rows} rows, the mean is {mean:.0}"),
        action: "a namespace lies on one shard whole: spread what one large namespace holds over several".to_owned(),
    })
}

/// The first three numbers of a version; none if it has no such form.
fn version(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next().unwrap_or(Some(0))?))
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
