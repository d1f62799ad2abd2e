use super::super::testing::{disk, report, seen, set};
use super::*;
use atoll_proto::group::{Incarnation, Stamp};
use atoll_proto::{CatalogVersion, Generation};
use std::collections::BTreeSet;

/// Three workers in sync at generation 4, the first is the primary.
fn record(phase: Phase) -> GroupRecord {
    let founded = GroupRecord::founded(disk(1), (1..=3).map(WorkerId).collect(), 2, CatalogVersion(5));
    let generation = Generation(4);
    GroupRecord { voters: set(&[1, 2, 3]), listed: set(&[1, 2, 3]), generation, phase, ..founded }
}

fn follower(worker: u64) -> Report {
    report(worker, Server::Following { worker: WorkerId(1) }, (4, 90))
}

/// The primary, by which these are connected and have all, under the list of the record.
fn primary(streaming: &[u64]) -> Report {
    let (streaming, listed_at) = (set(streaming), Some(CatalogVersion(5)));
    Report { caught_up: streaming.clone(), streaming, listed_at, ..report(1, Server::Primary, (4, 99)) }
}

#[test]
fn a_primary_that_is_down_is_fenced_if_enough_others_would_answer() {
    let steady = record(Phase::Steady);
    let mut down = seen(&[follower(2), follower(3)]);
    down.evidence = Evidence { silent_ms: 9_000, ..down.evidence };
    assert_eq!(next_step(&steady, &down), Step::Record(Change::Fence { wish: None }));
    down.heard.remove(&WorkerId(3));
    assert_eq!(next_step(&steady, &down), Step::Wait);
    let two = GroupRecord { voters: set(&[1, 2]), ..steady };
    assert_eq!(next_step(&two, &down), Step::Record(Change::Fence { wish: None }));
    down.heard.insert(WorkerId(2), Heard { age_ms: 2_000, report: follower(2) });
    assert_eq!(next_step(&two, &down), Step::Wait);
}

#[test]
fn the_most_advanced_of_enough_is_promoted() {
    let fencing = record(Phase::Fencing { wish: Some(disk(2)) });
    let detached = |worker, at| report(worker, Server::Detached, at);
    let promote = |worker| Step::Record(Change::Promote { candidate: disk(worker) });
    let step = |reports: &[Report]| next_step(&fencing, &seen(reports));
    assert_eq!(step(&[detached(2, (3, 50))]), Step::Wait, "two have to answer");
    assert_eq!(step(&[detached(2, (3, 50)), detached(3, (3, 51))]), promote(3));
    assert_eq!(step(&[detached(2, (3, 50)), detached(3, (2, 99))]), promote(2), "the generation comes first");
    assert_eq!(step(&[detached(1, (3, 50)), detached(2, (3, 50))]), promote(2), "the one wished for among equals");
    assert_eq!(step(&[detached(1, (3, 50)), detached(3, (3, 50))]), promote(1));
    let earlier = Report { generation: Generation(3), ..detached(3, (3, 51)) };
    let receives = Report { server: Server::Following { worker: WorkerId(1) }, ..detached(3, (3, 51)) };
    let wiped = Report { disk: Disk { incarnation: Incarnation(2), ..disk(3) }, ..detached(3, (3, 51)) };
    let mends = Report { server: Server::Unusable { can_rewind: true }, position: None, ..detached(3, (3, 51)) };
    let restored = Report { restored: true, ..detached(3, (3, 51)) };
    for no_answer in [earlier, receives, wiped, mends, restored] {
        assert_eq!(step(&[detached(2, (3, 50)), no_answer.clone()]), Step::Wait, "{no_answer:?}");
    }
}

#[test]
fn a_candidate_is_activated_or_given_up() {
    let promoting = record(Phase::Promoting { candidate: disk(2) });
    let promoted = report(2, Server::Primary, (4, 60));
    assert_eq!(next_step(&promoting, &seen(&[promoted])), Step::Record(Change::Activate));
    let not_yet = report(2, Server::Primary, (3, 59));
    assert_eq!(next_step(&promoting, &seen(std::slice::from_ref(&not_yet))), Step::Wait);
    let again = Step::Record(Change::Fence { wish: None });
    let late = Observed { phase_ms: PROMOTING_MS, ..seen(&[not_yet]) };
    assert_eq!(next_step(&promoting, &late), again);
    let silent = Observed { phase_ms: CANDIDATE_SILENT_MS, ..seen(&[]) };
    assert_eq!(next_step(&promoting, &silent), again);
}

#[test]
fn whoever_is_gone_leaves_postgresql_first_and_the_catalog_when_the_others_hold_all() {
    let steady = record(Phase::Steady);
    let gone = |says: Report| Observed { absent_ms: BTreeMap::from([(disk(3), 1_500)]), ..seen(&[says, follower(2)]) };
    assert_eq!(next_step(&steady, &gone(primary(&[2, 3]))), Step::Wait, "it came back");
    let list = Step::Record(Change::List { listed: set(&[1, 2]) });
    assert_eq!(next_step(&steady, &gone(primary(&[2]))), list);
    let listed = GroupRecord { listed: set(&[1, 2]), ..steady };
    let behind = Report { caught_up: BTreeSet::new(), ..primary(&[2]) };
    let elsewhere = Report { listed_at: Some(CatalogVersion(4)), ..primary(&[2]) };
    assert_eq!(next_step(&listed, &gone(behind)), Step::Wait);
    assert_eq!(next_step(&listed, &gone(elsewhere)), Step::Wait);
    let held_by = set(&[1, 2]);
    assert_eq!(
        next_step(&listed, &gone(primary(&[2]))),
        Step::Record(Change::Vote { voters: held_by.clone(), held_by })
    );
    let back = Step::Record(Change::List { listed: set(&[1, 2, 3]) });
    assert_eq!(next_step(&listed, &seen(&[primary(&[2, 3]), follower(2)])), back);
    let two = GroupRecord { voters: set(&[1, 3]), listed: set(&[1, 3]), ..listed };
    assert_eq!(next_step(&two, &gone(primary(&[]))), Step::Wait, "there is nobody to spare");
}

#[test]
fn a_standby_that_has_all_joins() {
    let two = GroupRecord { voters: set(&[1, 2]), listed: set(&[1, 2]), ..record(Phase::Steady) };
    let (voters, held_by) = (set(&[1, 2, 3]), set(&[1, 2, 3]));
    let joins = Step::Record(Change::Vote { voters, held_by });
    assert_eq!(next_step(&two, &seen(&[primary(&[2, 3]), follower(3)])), joins);
    let behind = Report { caught_up: set(&[2]), ..primary(&[2, 3]) };
    assert_eq!(next_step(&two, &seen(&[behind, follower(3)])), Step::Wait);
    // Whom the primary takes for a standby is none before it says so itself.
    let copies = Report { server: Server::Unusable { can_rewind: false }, position: None, ..follower(3) };
    let replaced = Report { disk: Disk { incarnation: Incarnation(2), ..disk(3) }, ..follower(3) };
    let hangs = Report { age_ms: 2_000, ..follower(3) };
    for said in [copies, replaced, hangs] {
        assert_eq!(next_step(&two, &seen(&[primary(&[2, 3]), said.clone()])), Step::Wait, "{said:?}");
    }
}

#[test]
fn a_voter_mends_when_the_others_are_enough() {
    let steady = record(Phase::Steady);
    let diverged = Report { diverged: true, ..report(3, Server::Detached, (3, 80)) };
    let all = [primary(&[2]), follower(2), diverged.clone()];
    assert_eq!(next_step(&steady, &seen(&all)), Step::Record(Change::Mend { disk: Some(disk(3)) }));
    assert_eq!(next_step(&steady, &seen(&[primary(&[2]), diverged.clone()])), Step::Wait);
    let mending = GroupRecord { mending: Some(disk(3)), ..steady };
    assert_eq!(next_step(&mending, &seen(&all)), Step::Wait);
    let done = seen(&[primary(&[2, 3]), follower(2), follower(3)]);
    assert_eq!(next_step(&mending, &done), Step::Record(Change::Mend { disk: None }));
    let anew = Report { disk: Disk { incarnation: Incarnation(2), ..disk(3) }, ..follower(3) };
    let lost = seen(&[primary(&[2]), follower(2), anew]);
    assert_eq!(next_step(&mending, &lost), Step::Record(Change::Mend { disk: None }), "it could not be mended");
}

#[test]
fn stamps_are_recorded_when_that_is_due_and_they_are_new() {
    let stamp = |count| Stamp { incarnation: Incarnation(1), count, lot: 9 };
    let (one, two) = (Some(stamp(1)), Some(stamp(2)));
    let stamped = GroupRecord { stamps: BTreeMap::from([(WorkerId(1), stamp(1))]), ..record(Phase::Steady) };
    let keeps = |stamp, report| Report { stamp, ..report };
    let heard = |first, third| seen(&[keeps(first, primary(&[2, 3])), follower(2), keeps(one, third)]);
    let due = |seen: Observed| Observed { stamp_is_due: true, ..seen };
    let stamps = |stamps: &[(u64, u64)]| {
        let stamps = stamps.iter().map(|(worker, count)| (WorkerId(*worker), stamp(*count))).collect();
        Step::Record(Change::Stamp { stamps })
    };
    assert_eq!(next_step(&stamped, &due(heard(two, follower(3)))), stamps(&[(1, 2), (3, 1)]));
    assert_eq!(next_step(&stamped, &heard(two, follower(3))), Step::Wait);
    assert_eq!(next_step(&stamped, &due(heard(one, follower(3)))), stamps(&[(3, 1)]));
    let wiped = Report { disk: Disk { incarnation: Incarnation(2), ..disk(3) }, ..follower(3) };
    let restored = Report { restored: true, ..follower(3) };
    for said in [wiped, restored] {
        assert_eq!(next_step(&stamped, &due(heard(one, said.clone()))), Step::Wait, "{said:?}");
    }
}

#[test]
fn whoever_was_restored_neither_serves_nor_answers() {
    let steady = record(Phase::Steady);
    let restored = |report| Report { restored: true, ..report };
    let joins = seen(&[restored(primary(&[2, 3])), follower(2), follower(3)]);
    let two = GroupRecord { voters: set(&[1, 2]), listed: set(&[1, 2]), ..steady.clone() };
    assert_eq!(next_step(&two, &joins), Step::Wait, "what it says of others is not what they have");
    let mut down = seen(&[follower(2), restored(report(3, Server::Detached, (4, 90)))]);
    down.evidence = Evidence { silent_ms: 9_000, ..down.evidence };
    assert_eq!(next_step(&steady, &down), Step::Wait, "one is not enough");
}

#[test]
fn a_switchover_waits_for_the_whole_log_and_not_for_ever() {
    let handing = record(Phase::HandingOver { to: disk(2) });
    let fence = Step::Record(Change::Fence { wish: Some(disk(2)) });
    let stopped = report(1, Server::Detached, (4, 99));
    let has = |lsn| report(2, Server::Following { worker: WorkerId(1) }, (4, lsn));
    assert_eq!(next_step(&handing, &seen(&[primary(&[2]), has(99)])), Step::Wait);
    assert_eq!(next_step(&handing, &seen(&[stopped.clone(), has(98)])), Step::Wait);
    assert_eq!(next_step(&handing, &seen(&[stopped.clone(), has(99)])), fence);
    let without_wish = Step::Record(Change::Fence { wish: None });
    let late = Observed { phase_ms: HAND_OVER_MS, ..seen(&[stopped, has(98)]) };
    assert_eq!(next_step(&handing, &late), without_wish, "what only the primary has may be a local write");
}

#[test]
fn a_primary_that_leaves_hands_over_to_the_most_advanced_that_stays() {
    let steady = record(Phase::Steady);
    let leaving = |report: Report| Report { leaving: true, ..report };
    let further = report(3, Server::Following { worker: WorkerId(1) }, (4, 91));
    let to = |worker| Step::Record(Change::HandOver { to: disk(worker) });
    let step = |reports: &[Report]| next_step(&steady, &seen(reports));
    assert_eq!(step(&[leaving(primary(&[2, 3])), follower(2), further.clone()]), to(3));
    assert_eq!(step(&[leaving(primary(&[2, 3])), follower(2), follower(3)]), to(2));
    assert_eq!(step(&[primary(&[2, 3]), leaving(follower(2)), further.clone()]), Step::Wait, "a standby may go");
    assert_eq!(step(&[leaving(primary(&[2, 3])), follower(2), leaving(further.clone())]), to(2));
    assert_eq!(step(&[leaving(primary(&[2])), further]), Step::Wait, "nobody follows and is heard");
}

#[test]
fn the_one_wished_for_has_a_moment_to_answer() {
    let fencing = record(Phase::Fencing { wish: Some(disk(2)) });
    let detached = |worker| report(worker, Server::Detached, (4, 99));
    let promote = |worker| Step::Record(Change::Promote { candidate: disk(worker) });
    let late = [detached(1), detached(3), follower(2)];
    assert_eq!(next_step(&fencing, &seen(&late)), Step::Wait);
    assert_eq!(next_step(&fencing, &Observed { phase_ms: WISH_MS, ..seen(&late) }), promote(1));
    assert_eq!(next_step(&fencing, &seen(&[detached(1), detached(3)])), promote(1), "it is not there");
    assert_eq!(next_step(&fencing, &seen(&[detached(1), detached(2)])), promote(2));
}

#[test]
fn where_another_is_wished_for_the_others_decide_without_the_old_primary_if_they_are_enough() {
    let fencing = record(Phase::Fencing { wish: Some(disk(2)) });
    let detached = |worker, lsn| report(worker, Server::Detached, (4, lsn));
    let promote = |worker| Step::Record(Change::Promote { candidate: disk(worker) });
    let alone = detached(1, 99);
    assert_eq!(next_step(&fencing, &seen(&[alone.clone(), detached(2, 90), detached(3, 90)])), promote(2));
    assert_eq!(next_step(&fencing, &seen(&[alone.clone(), detached(2, 90), detached(3, 91)])), promote(3));
    let late = [alone.clone(), detached(2, 90), follower(3)];
    assert_eq!(next_step(&fencing, &seen(&late)), Step::Wait, "it may yet be enough without the old primary");
    assert_eq!(next_step(&fencing, &Observed { phase_ms: WISH_MS, ..seen(&late) }), promote(1), "all that is there");
    let nobody = record(Phase::Fencing { wish: None });
    assert_eq!(next_step(&nobody, &seen(&[alone, detached(2, 90), detached(3, 90)])), promote(1));
}
