//! openraft's own suite on our log and state machine, and restarts.

#![allow(clippy::unwrap_used)]

use super::log_store::LogStore;
use super::log_writer::{FORMAT_KEY, META};
use super::state_machine::StateMachine;
use super::types::{Entry, LogId, StorageError, TypeConfig, Vote};
use atoll_core::catalog::{Command, CommandEnvelope};
use atoll_proto::CoordinatorId;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use tempfile::TempDir;

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = LogStore::open(&dir.path().join("raft.redb")).unwrap();
        let (machine, _) = StateMachine::open(dir.path().join("catalog.json")).unwrap();
        Ok((dir, log, machine))
    }
}

#[test]
fn openraft_suite_passes() {
    Suite::test_all(OnDisk).unwrap();
}

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn entry(index: u64, command: Command) -> Entry {
    Entry { log_id: log_id(index), payload: EntryPayload::Normal(CommandEnvelope::new(command)) }
}

fn init() -> Command {
    Command::InitCluster {
        cluster_id: "c".to_owned(),
        shard_count: 12,
        initial_groups: 1,
        replicas: 1,
        coordinator: CoordinatorId(1),
        http: "http://h".to_owned(),
        internal: "http://i".to_owned(),
    }
}

fn add(number: u64) -> Command {
    Command::AddCoordinator { http: format!("http://h{number}"), internal: format!("http://i{number}") }
}

#[tokio::test]
async fn everything_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft.redb");
    {
        let (mut log, writer) = LogStore::open(&path).unwrap();
        assert!(log.is_pristine());
        log.save_vote(&Vote::new_committed(3, 1)).await.unwrap();
        let entries: Vec<_> = (1..=9).map(|index| entry(index, add(index))).collect();
        log.blocking_append(entries).await.unwrap();
        log.truncate(log_id(8)).await.unwrap();
        log.purge(log_id(2)).await.unwrap();
        log.save_committed(Some(log_id(5))).await.unwrap();
        drop(log);
        writer.join().unwrap();
    }
    let (mut log, _) = LogStore::open(&path).unwrap();
    assert!(!log.is_pristine());
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(3, 1)));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(5)));
    assert_eq!(log.purged(), Some(log_id(2)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(2)), Some(log_id(7))));
    let entries = log.try_get_log_entries(0..100).await.unwrap();
    assert_eq!(entries, (3..=7).map(|index| entry(index, add(index))).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft.redb");
    let _first = LogStore::open(&path).unwrap();
    let error = LogStore::open(&path).err().unwrap();
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[tokio::test]
async fn a_log_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft.redb");
    {
        let (mut log, writer) = LogStore::open(&path).unwrap();
        let mut newer = entry(1, add(1));
        let EntryPayload::Normal(envelope) = &mut newer.payload else { panic!("made as normal") };
        envelope.format = atoll_core::catalog::FORMAT + 1;
        log.blocking_append([newer]).await.unwrap();
        drop(log);
        writer.join().unwrap();
    }
    let error = LogStore::open(&path).err().unwrap();
    let newer = format!("newer program (command format {}", atoll_core::catalog::FORMAT + 1);
    assert!(error.to_string().contains(&newer), "{error}");
}

#[test]
fn a_format_that_cannot_be_read_is_no_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft.redb");
    for (format, complaint) in [(&b"?"[..], "unreadable at format"), (b"2", "newer program (log format 2")] {
        {
            let database = redb::Database::create(&path).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(META).unwrap().insert(FORMAT_KEY, format).unwrap();
            transaction.commit().unwrap();
        }
        let error = LogStore::open(&path).err().unwrap();
        assert!(error.to_string().contains(complaint), "{error}");
    }
}

#[tokio::test]
async fn the_same_log_gives_the_same_snapshot_bytes_with_and_without_a_snapshot_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let commands = || std::iter::once(init()).chain((2..20).map(add)).zip(1..).map(|(command, at)| entry(at, command));

    let (mut at_once, _) = StateMachine::open(dir.path().join("at-once.json")).unwrap();
    at_once.apply(commands()).await.unwrap();
    let expected = at_once.get_snapshot_builder().await.build_snapshot().await.unwrap();

    let restarted = dir.path().join("restarted.json");
    {
        let (mut machine, _) = StateMachine::open(restarted.clone()).unwrap();
        machine.apply(commands().take(7)).await.unwrap();
        machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        machine.apply(commands().skip(7).take(3)).await.unwrap();
    }
    let (mut machine, applied) = StateMachine::open(restarted.clone()).unwrap();
    assert_eq!(*applied.index.borrow(), 7);
    assert_eq!(applied.view.borrow().version.0, 7);
    machine.apply(commands().skip(7)).await.unwrap();
    assert_eq!(applied.view.borrow().version.0, 19);
    let snapshot = machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(String::from_utf8(*snapshot.snapshot), String::from_utf8(*expected.snapshot));
    assert_eq!(std::fs::read(restarted).unwrap(), std::fs::read(dir.path().join("at-once.json")).unwrap());
}

#[tokio::test]
async fn an_older_snapshot_does_not_replace_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, _) = StateMachine::open(dir.path().join("catalog.json")).unwrap();
    machine.apply([entry(1, init())]).await.unwrap();
    let mut slow = machine.get_snapshot_builder().await;
    machine.apply([entry(2, add(2))]).await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    slow.build_snapshot().await.unwrap();
    let current = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(log_id(2)));
}
