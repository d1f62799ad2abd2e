//! What a round of answers is turned into.

#![allow(clippy::unwrap_used)]

use super::*;
use atoll_core::catalog::{Catalog, Command, testing};
use atoll_proto::agent::NamespaceRows;
use atoll_proto::group::{Disk, Incarnation, MemberSeen, Position as LogPosition, Report, Server};
use atoll_proto::{CatalogVersion, Generation, Lsn};

const WORKERS: [WorkerId; 2] = [WorkerId(2), WorkerId(3)];

/// Two workers that share four shards.
fn view() -> RoutingTable {
    let mut catalog = Catalog::default();
    catalog.apply(1, testing::init(4, 2));
    for WorkerId(number) in WORKERS {
        catalog.apply(number, Command::RegisterWorker(testing::worker(&format!("w{number}"))));
    }
    RoutingTable::new(Arc::new(catalog), None)
}

fn notes() -> CollectionName {
    "notes".parse().unwrap()
}

/// An agent that reports `rows` in every shard, whether its group owns it or not.
fn record(rows: u64, stats_age_seconds: Option<u64>, postgres_up: bool) -> AgentRecord {
    let tables = (0..4).map(|shard| TableStats {
        shard: Some(ShardId(shard)),
        collection: notes(),
        rows,
        bytes: 1,
        vector_index_bytes: 0,
        graphs: Vec::new(),
        shard_graph: false,
        large_namespaces: vec![NamespaceRows { namespace: "large".to_owned(), rows }],
    });
    let status = AgentStatus {
        name: "w".parse().unwrap(),
        worker: None,
        postgres_up,
        facts: None,
        postgres_pid: None,
        data_dir: None,
        applied: None,
        apply_error: None,
        bytes: 0,
        tables: tables.collect(),
        stats_age_seconds,
        builds: Vec::new(),
        counting: false,
        moves: Vec::new(),
        settled: postgres_up.then_some(Lsn(rows)),
        member: None,
    };
    AgentRecord { status: Some(status.into()), answered_at: Some(Instant::now()), error: None }
}

fn board(agents: BTreeMap<WorkerId, AgentRecord>) -> AgentBoard {
    let last = Arc::new(RwLock::new(Arc::new(Round::new(agents, &view()))));
    AgentBoard { last, _asking: Arc::new(Asking(tokio::spawn(async {}))) }
}

#[tokio::test]
async fn rows_are_those_of_the_owner() {
    let board =
        board(BTreeMap::from([(WORKERS[0], record(5_000, Some(1), true)), (WORKERS[1], record(7, None, true))]));
    for route in view().shards() {
        let expected = if route.group == GroupId(WORKERS[0].0) { 5_000 } else { 7 };
        assert_eq!(board.rows(Some(route.shard), &notes()), Some(expected));
    }
    assert_eq!(board.rows(None, &notes()), None);
}

#[tokio::test]
async fn small_namespaces_share_what_the_large_ones_leave() {
    let mut table = TableStats {
        shard: Some(ShardId(0)),
        collection: notes(),
        rows: 10_000,
        bytes: 1,
        vector_index_bytes: 0,
        graphs: Vec::new(),
        shard_graph: false,
        large_namespaces: vec![
            NamespaceRows { namespace: "large".to_owned(), rows: 5_000 },
            NamespaceRows { namespace: "below".to_owned(), rows: LARGE_NAMESPACE_ROWS - 1 },
        ],
    };
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<Namespace>>();
    let fifty: Vec<Namespace> = (0..50).map(|i| format!("small-{i}").parse().unwrap()).collect();
    let rows = |table: &TableStats, shard: Option<ShardId>, namespaces: &[Namespace]| {
        let tables = BTreeMap::from([((table.shard, notes()), table.clone())]);
        let last = Arc::new(RwLock::new(Arc::new(Round { tables, ..Round::default() })));
        let board = AgentBoard { last, _asking: Arc::new(Asking(tokio::spawn(async {}))) };
        board.rows_of(shard, &notes(), namespaces)
    };
    let shard = table.shard;
    assert_eq!(rows(&table, shard, &names(&["large"])), Some(5_000));
    assert_eq!(rows(&table, shard, &names(&["small"])), Some(LARGE_NAMESPACE_ROWS));
    assert_eq!(rows(&table, shard, &names(&["below", "small", "small"])), Some(2 * LARGE_NAMESPACE_ROWS));
    assert_eq!(rows(&table, shard, &fifty), Some(5_000), "they can't have more than the rest");
    assert_eq!(rows(&table, shard, &[fifty, names(&["large"])].concat()), Some(10_000));
    assert_eq!(rows(&table, None, &names(&["small"])), None);
    table.shard = None;
    assert_eq!(
        rows(&table, None, &names(&["small"])),
        Some(LARGE_NAMESPACE_ROWS),
        "a reference collection has no shard"
    );
}

#[tokio::test]
async fn up_needs_the_agent_and_its_server() {
    let silent = AgentRecord {
        error: Some(Arc::new(CallError::Deadline { url: "http://a".to_owned() })),
        ..record(1, None, true)
    };
    let one_is_up = |one: AgentRecord| {
        let board = board(BTreeMap::from([(WORKERS[0], one)]));
        (board.is_up(WORKERS[0]), board.was_up_lately(WORKERS[0]))
    };
    assert_eq!(one_is_up(record(1, None, true)), (true, true));
    assert_eq!(one_is_up(record(1, None, false)), (false, false), "the agent says that its server is down");
    assert_eq!(one_is_up(silent.clone()), (false, true), "one missed round");
    let long_ago = Instant::now().checked_sub(LATELY + Duration::from_secs(1));
    assert_eq!(one_is_up(AgentRecord { answered_at: long_ago, ..silent.clone() }), (false, false));
    let board = board(BTreeMap::from([(WORKERS[0], silent)]));
    assert!(board.status(WORKERS[0]).is_some(), "the last answer is kept");
    assert!(!board.is_up(WORKERS[1]) && !board.was_up_lately(WORKERS[1]), "nobody has asked it yet");
}

#[test]
fn positions_are_those_that_primaries_said_in_this_round() {
    let silent =
        AgentRecord { error: Some(Arc::new(CallError::Deadline { url: String::new() })), ..record(7, None, true) };
    let agents = BTreeMap::from([(WORKERS[0], record(5_000, None, true)), (WORKERS[1], silent)]);
    let position = Position { generation: Generation(1), lsn: Lsn(5_000) };
    assert_eq!(positions(&agents, &view()), [(GroupId(WORKERS[0].0), position)]);
}

/// A primary of the first generation whose standby lies 7 bytes behind, as its agent saw it so long ago.
fn primary(age_ms: u64) -> AgentRecord {
    let disk = Disk { worker: WORKERS[0], incarnation: Incarnation(1) };
    let position = LogPosition { generation: Generation(1), lsn: Lsn(9) };
    let report = Report { age_ms, ..Report::bare(disk, Generation(1), Server::Primary, Some(position)) };
    let member = Some(MemberSeen { report, lags: BTreeMap::from([(WORKERS[1], Lag { bytes: 7, ms: 0 })]) });
    let before = record(0, None, true);
    let status = before.status.map(|status| AgentStatus { member, ..(*status).clone() }.into());
    AgentRecord { status, ..before }
}

#[tokio::test]
async fn a_primary_serves_while_its_agent_has_just_seen_it() {
    let disk = |incarnation| Disk { worker: WORKERS[0], incarnation: Incarnation(incarnation) };
    let group = |disk| GroupRecord::founded(disk, WORKERS.into(), 2, CatalogVersion(2));
    let board = |record| board(BTreeMap::from([(WORKERS[0], record)]));
    let well = board(primary(0));
    assert!(well.has_primary(&group(disk(1))) && well.is_up_in_sync(&group(disk(1)), WORKERS[0]));
    assert_eq!(well.lags(WORKERS[0])[&WORKERS[1]].bytes, 7);
    assert!(!well.has_primary(&group(disk(2))) && !well.is_up_in_sync(&group(disk(2)), WORKERS[0]), "other data");
    let fencing = GroupRecord { phase: Phase::Fencing { wish: None }, ..group(disk(1)) };
    assert!(!well.has_primary(&fencing));
    let hung = board(primary(SEEN_MS_MAX));
    assert!(!hung.has_primary(&group(disk(1))) && hung.lags(WORKERS[0]).is_empty());
    let error = Some(Arc::new(CallError::Deadline { url: String::new() }));
    let silent = board(AgentRecord { error, ..primary(0) });
    assert!(!silent.has_primary(&group(disk(1))) && silent.heard_seconds_ago(WORKERS[0]) == Some(0));
}
