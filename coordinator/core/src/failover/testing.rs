//! What tests of decisions about a group begin from.

use atoll_proto::group::{Disk, Incarnation, Position, Report, Server};
use atoll_proto::{Generation, Lsn, WorkerId};
use std::collections::BTreeSet;

/// A worker's first disk.
pub(super) fn disk(worker: u64) -> Disk {
    Disk { worker: WorkerId(worker), incarnation: Incarnation(1) }
}

/// The first disks of these workers.
pub(super) fn set(workers: &[u64]) -> BTreeSet<Disk> {
    workers.iter().copied().map(disk).collect()
}

/// What a worker says that has promised generation 4, and whose log goes to this generation and LSN.
pub(super) fn report(worker: u64, server: Server, at: (u64, u64)) -> Report {
    Report {
        disk: disk(worker),
        generation: Generation(4),
        server,
        position: Some(Position { generation: Generation(at.0), lsn: Lsn(at.1) }),
        diverged: false,
        listed_at: None,
        streaming: BTreeSet::new(),
        caught_up: BTreeSet::new(),
        age_ms: 0,
        cut: false,
        leaving: false,
    }
}
