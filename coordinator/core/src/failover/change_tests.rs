#![allow(clippy::unwrap_used)]
use super::*;
use atoll_proto::group::{Incarnation, Stamp};

fn disk(worker: u64, incarnation: u64) -> Disk {
    Disk { worker: WorkerId(worker), incarnation: Incarnation(incarnation) }
}

fn set(workers: &[u64]) -> BTreeSet<Disk> {
    workers.iter().map(|worker| disk(*worker, 1)).collect()
}

/// Three workers in sync, the first is the primary.
fn record() -> GroupRecord {
    let founded = GroupRecord::founded(disk(1, 1), (1..=3).map(WorkerId).collect(), 2, CatalogVersion(1));
    GroupRecord { voters: set(&[1, 2, 3]), listed: set(&[1, 2, 3]), ..founded }
}

fn change(record: &GroupRecord, change: Change) -> Option<GroupRecord> {
    changed(record, record.changed_at, change, CatalogVersion(record.changed_at.0 + 1))
}

#[test]
fn answers_and_copies_always_meet() {
    for voters in 1..=7_u64 {
        for copies in 2..=4_u32 {
            let voters: Vec<u64> = (1..=voters).collect();
            let record = GroupRecord { copies, voters: set(&voters), ..record() };
            let answers = record.answers_needed();
            assert!(answers >= 1 && answers <= voters.len());
            assert!(voters.len() < copies as usize || answers + copies as usize > voters.len());
        }
    }
}

#[test]
fn what_was_decided_on_an_earlier_record_is_refused() {
    let record = record();
    let fence = Change::Fence { wish: None };
    assert!(changed(&record, CatalogVersion(0), fence.clone(), CatalogVersion(2)).is_none());
    let fenced = changed(&record, CatalogVersion(1), fence.clone(), CatalogVersion(2)).unwrap();
    assert_eq!((fenced.generation, fenced.changed_at), (Generation(2), CatalogVersion(2)));
    assert!(changed(&fenced, CatalogVersion(1), fence, CatalogVersion(3)).is_none());
}

#[test]
fn one_candidate_has_a_generation_and_activates_it() {
    let fenced = change(&record(), Change::Fence { wish: None }).unwrap();
    assert!(change(&fenced, Change::Activate).is_none());
    assert!(change(&fenced, Change::Promote { candidate: disk(2, 9) }).is_none(), "another disk is no voter");
    let promoting = change(&fenced, Change::Promote { candidate: disk(2, 1) }).unwrap();
    assert!(change(&promoting, Change::Promote { candidate: disk(3, 1) }).is_none());
    let active = change(&promoting, Change::Activate).unwrap();
    assert_eq!((active.primary, active.generation, active.phase), (disk(2, 1), Generation(2), Phase::Steady));
    assert_eq!(active.voters, set(&[1, 2, 3]), "a failover changes nothing of the in-sync set");
}

#[test]
fn nobody_leaves_whom_postgresql_may_count() {
    let held_by = set(&[1, 2, 3]);
    let leave = Change::Vote { voters: set(&[1, 2]), held_by: held_by.clone() };
    assert!(change(&record(), leave.clone()).is_none());
    let listed = change(&record(), Change::List { listed: set(&[1, 2]) }).unwrap();
    let left = change(&listed, leave).unwrap();
    assert_eq!((left.voters.clone(), left.answers_needed()), (set(&[1, 2]), 1));
    let not_held = Change::Vote { voters: set(&[1, 2]), held_by: set(&[1, 3]) };
    assert!(change(&listed, not_held).is_none(), "what the third acknowledged may be missing on the second");
    let fenced = change(&listed, Change::Fence { wish: None }).unwrap();
    assert_eq!(fenced.listed, fenced.voters, "a new primary counts all voters");
}

#[test]
fn a_set_that_can_acknowledge_grows_without_proof_and_one_that_cannot_needs_it() {
    let two = GroupRecord { voters: set(&[1, 2]), listed: set(&[1, 2]), ..record() };
    assert!(change(&two, Change::Vote { voters: set(&[1, 2, 3]), held_by: BTreeSet::new() }).is_some());
    let alone = GroupRecord { voters: set(&[1]), listed: set(&[1]), ..record() };
    assert!(change(&alone, Change::Vote { voters: set(&[1, 2]), held_by: set(&[1]) }).is_none());
    assert!(change(&alone, Change::Vote { voters: set(&[1, 2]), held_by: set(&[1, 2]) }).is_some());
    let twice = BTreeSet::from([disk(1, 1), disk(2, 1), disk(2, 2)]);
    assert!(change(&two, Change::Vote { voters: twice, held_by: set(&[1, 2]) }).is_none(), "one disk a worker");
    let stranger = Change::Vote { voters: set(&[1, 2, 9]), held_by: set(&[1, 2]) };
    assert!(change(&two, stranger).is_none());
}

#[test]
fn a_lost_disk_is_exchanged_where_nobody_can_be_spared() {
    let two = GroupRecord { voters: set(&[1, 2]), listed: set(&[1, 2]), ..record() };
    let listed = change(&two, Change::List { listed: set(&[1]) }).unwrap();
    let voters = BTreeSet::from([disk(1, 1), disk(2, 2)]);
    let exchanged = change(&listed, Change::Vote { voters: voters.clone(), held_by: voters.clone() }).unwrap();
    assert_eq!((exchanged.listed, exchanged.voters), (voters.clone(), voters));
}

#[test]
fn one_voter_mends_at_a_time() {
    let mending = change(&record(), Change::Mend { disk: Some(disk(2, 1)) }).unwrap();
    assert!(change(&mending, Change::Mend { disk: Some(disk(3, 1)) }).is_none());
    assert!(change(&record(), Change::Mend { disk: None }).is_none());
    assert!(change(&record(), Change::Mend { disk: Some(disk(1, 1)) }).is_none(), "not the primary");
    assert_eq!(change(&mending, Change::Fence { wish: None }).unwrap().mending, mending.mending);
    assert_eq!(change(&mending, Change::Mend { disk: None }).unwrap().mending, None);
    let fenced = change(&mending, Change::Fence { wish: None }).unwrap();
    let promoting = change(&fenced, Change::Promote { candidate: disk(2, 1) }).unwrap();
    assert_eq!(change(&promoting, Change::Activate).unwrap().mending, None, "it is the primary now");
}

#[test]
fn an_operator_goes_on_with_what_is_left() {
    let fenced = change(&record(), Change::Fence { wish: None }).unwrap();
    let accepted = change(&fenced, Change::AcceptLoss { survivor: disk(3, 1) }).unwrap();
    assert_eq!((accepted.voters.clone(), accepted.generation), (set(&[3]), Generation(3)));
    assert_eq!(accepted.phase, Phase::Promoting { candidate: disk(3, 1) });
    assert!(change(&fenced, Change::AcceptLoss { survivor: disk(9, 1) }).is_none());
}

#[test]
fn newer_stamps_of_voters_are_recorded_while_a_primary_serves() {
    let stamp = |incarnation, count| Stamp { incarnation: Incarnation(incarnation), count, lot: 10 - count };
    let stamps =
        |stamps: &[(u64, Stamp)]| stamps.iter().map(|(worker, stamp)| (WorkerId(*worker), *stamp)).collect::<Vec<_>>();
    let record = |stamped: &GroupRecord, new: &[(u64, Stamp)]| change(stamped, Change::Stamp { stamps: stamps(new) });
    let recorded =
        |record: &GroupRecord| record.stamps.iter().map(|(worker, stamp)| (worker.0, stamp.count)).collect::<Vec<_>>();
    let stamped = record(&self::record(), &[(1, stamp(1, 2)), (3, stamp(2, 1))]).unwrap();
    assert_eq!(recorded(&stamped), [(1, 2)], "the third has other data");
    let late = record(&stamped, &[(1, stamp(1, 1)), (2, stamp(1, 0))]).unwrap();
    assert_eq!(recorded(&late), [(1, 2), (2, 0)]);
    assert!(record(&late, &[(1, stamp(1, 2))]).is_none(), "nothing is new");
    let fenced = change(&late, Change::Fence { wish: None }).unwrap();
    assert!(record(&fenced, &[(1, stamp(1, 3))]).is_none());
    let accepted = change(&fenced, Change::AcceptLoss { survivor: disk(1, 1) }).unwrap();
    assert_eq!(accepted.stamp_of(disk(1, 1)), None, "it goes on as it is");
}

#[test]
fn a_switchover_goes_to_a_voter_and_only_forward() {
    assert!(change(&record(), Change::HandOver { to: disk(1, 1) }).is_none());
    assert!(change(&record(), Change::HandOver { to: disk(2, 2) }).is_none());
    let handing = change(&record(), Change::HandOver { to: disk(2, 1) }).unwrap();
    assert_eq!(handing.generation, Generation(1));
    assert!(change(&handing, Change::List { listed: set(&[1, 2]) }).is_none());
    assert!(change(&handing, Change::Fence { wish: Some(disk(2, 1)) }).is_some());
}
