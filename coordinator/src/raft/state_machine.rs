//! The replicated catalog in memory. Applying does no I/O: durable are the log and the snapshot. After every batch that
//! changed the catalog a new routing table is published, and only then the index that was reached, so whoever waits for
//! an index finds its change in the view.

use super::snapshot_file::{ReadSnapshotError, SnapshotContent, SnapshotFile};
use super::types::{Entry, LogId, SnapshotMeta, StorageError, StoredMembership, TypeConfig, stop_process};
use atoll_core::catalog::{Catalog, FORMAT, Outcome};
use atoll_core::routing::RoutingTable;
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// What was applied so far.
#[derive(Clone, Default)]
struct Applied {
    catalog: Arc<Catalog>,
    last: Option<LogId>,
    membership: StoredMembership,
}

/// The state machine that Raft drives.
pub(super) struct StateMachine {
    applied: Applied,
    snapshots: Arc<SnapshotFile>,
    view: watch::Sender<Arc<RoutingTable>>,
    index: watch::Sender<u64>,
}

/// What the rest of the coordinator sees of the state machine.
#[derive(Clone)]
pub(super) struct AppliedView {
    /// The routing table of the last applied change.
    pub(super) view: watch::Receiver<Arc<RoutingTable>>,
    /// Index of the last applied log entry.
    pub(super) index: watch::Receiver<u64>,
}

/// Writes a snapshot of the moment it was made at.
pub(super) struct SnapshotBuilder {
    applied: Applied,
    snapshots: Arc<SnapshotFile>,
}

impl StateMachine {
    /// Starts from the snapshot, or from an empty catalog. Raft then replays the committed log.
    pub(super) fn open(snapshot: PathBuf) -> Result<(Self, AppliedView), ReadSnapshotError> {
        let (snapshots, content) = SnapshotFile::open(snapshot)?;
        let applied = match content {
            Some(SnapshotContent { meta, catalog, .. }) => {
                Applied { catalog: Arc::new(catalog), last: meta.last_log_id, membership: meta.last_membership }
            }
            None => Applied::default(),
        };
        let (view, view_seen) = watch::channel(Arc::new(RoutingTable::new(applied.catalog.clone(), None)));
        let (index, index_seen) = watch::channel(applied.last.map_or(0, |last| last.index));
        let machine = Self { applied, snapshots: Arc::new(snapshots), view, index };
        Ok((machine, AppliedView { view: view_seen, index: index_seen }))
    }

    /// The last log entry that the state contains.
    pub(super) fn last_applied(&self) -> Option<LogId> {
        self.applied.last
    }

    fn publish(&self) {
        let before = self.view.borrow().clone();
        if before.version != self.applied.catalog.version {
            self.view.send_replace(Arc::new(RoutingTable::new(self.applied.catalog.clone(), Some(&before))));
        }
        self.index.send_replace(self.applied.last.map_or(0, |last| last.index));
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut outcomes = Vec::new();
        for entry in entries {
            let outcome = match entry.payload {
                EntryPayload::Blank => Outcome::Unchanged,
                EntryPayload::Normal(envelope) => {
                    if envelope.format > FORMAT {
                        // The other coordinators act on it; going on without it would make this one another cluster.
                        let found = format!("format {}, this program knows {FORMAT}", envelope.format);
                        stop_process("the raft log holds a command of a newer program; upgrade this one", &found);
                    }
                    Arc::make_mut(&mut self.applied.catalog).apply(entry.log_id.index, envelope.command)
                }
                EntryPayload::Membership(membership) => {
                    self.applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Outcome::Unchanged
                }
            };
            self.applied.last = Some(entry.log_id);
            outcomes.push(outcome);
        }
        self.publish();
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { applied: self.applied.clone(), snapshots: self.snapshots.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<Vec<u8>>) -> Result<(), StorageError> {
        let content = match SnapshotContent::decode(&snapshot) {
            Ok(content) => content,
            Err(error @ ReadSnapshotError::Newer { .. }) => {
                stop_process("the leader's snapshot is of a newer program; upgrade this one", &error)
            }
            Err(error @ (ReadSnapshotError::Unreadable(_) | ReadSnapshotError::Io { .. })) => {
                return Err(StorageIOError::read_snapshot(Some(meta.signature()), &error).into());
            }
        };
        write_snapshot(self.snapshots.clone(), meta.clone(), *snapshot).await?;
        self.applied = Applied {
            catalog: Arc::new(content.catalog),
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        Ok(self.snapshots.current().map(|(meta, bytes)| Snapshot { meta, snapshot: Box::new(bytes) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let Applied { catalog, last, membership } = self.applied.clone();
        // Named by what it contains alone, so the same log gives the same bytes everywhere.
        let snapshot_id = last.map_or_else(|| "empty".to_owned(), |last| format!("{}-{}", last.leader_id, last.index));
        let meta = SnapshotMeta { last_log_id: last, last_membership: membership, snapshot_id };
        let bytes = SnapshotContent::new(meta.clone(), Arc::unwrap_or_clone(catalog)).encode();
        write_snapshot(self.snapshots.clone(), meta.clone(), bytes.clone()).await?;
        Ok(Snapshot { meta, snapshot: Box::new(bytes) })
    }
}

/// Writes off the runtime's threads, because it waits for the disk. A failure ends the process, as in the log.
async fn write_snapshot(file: Arc<SnapshotFile>, meta: SnapshotMeta, bytes: Vec<u8>) -> Result<(), StorageError> {
    let signature = meta.signature();
    let written = tokio::task::spawn_blocking(move || file.replace(meta, bytes)).await;
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => stop_process("the snapshot could not be written", &error),
        // Only when the runtime is going down.
        Err(error) => Err(StorageIOError::write_snapshot(Some(signature), &error).into()),
    }
}
