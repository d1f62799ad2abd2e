//! What tests of decisions about a group begin from.

use super::{Evidence, Heard, Observed, Word};
use atoll_proto::group::{Disk, Incarnation, Position, Report, Server};
use atoll_proto::{Generation, Lsn, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

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
    let position = Position { generation: Generation(at.0), lsn: Lsn(at.1) };
    Report::bare(disk(worker), Generation(4), server, Some(position))
}

/// What a driver knows that heard this a moment ago, and nothing bad of the primary.
pub(super) fn seen(reports: &[Report]) -> Observed {
    let heard = reports.iter().map(|said| (said.disk.worker, Heard { report: said.clone(), age_ms: 100 }));
    let evidence = Evidence {
        word: Some(Word::Serves),
        silent_ms: 100,
        failing_ms: 0,
        refused_ms: 0,
        standbys_cut: 0,
        standbys_heard: 2,
    };
    Observed {
        heard: heard.collect(),
        phase_ms: 100,
        evidence,
        absent_ms: BTreeMap::new(),
        cut_ms: BTreeMap::new(),
        stamp_is_due: false,
    }
}
