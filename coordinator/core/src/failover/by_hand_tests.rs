use super::super::testing::{disk, report, set};
use super::*;
use atoll_proto::group::{Incarnation, Lag, Position};
use atoll_proto::{CatalogVersion, Generation, Lsn};

/// Four workers, three of them in sync at generation 4, the first is the primary.
fn record(phase: Phase) -> GroupRecord {
    let founded = GroupRecord::founded(disk(1), (1..=4).map(WorkerId).collect(), 2, CatalogVersion(5));
    let generation = Generation(4);
    GroupRecord { voters: set(&[1, 2, 3]), listed: set(&[1, 2, 3]), generation, phase, ..founded }
}

fn seen(worker: u64, server: Server, lsn: u64) -> MemberSeen {
    MemberSeen { report: report(worker, server, (4, lsn)), lags: BTreeMap::new() }
}

fn follower(worker: u64) -> MemberSeen {
    seen(worker, Server::Following { worker: WorkerId(1) }, 90)
}

/// A primary whose standbys lie so many bytes behind.
fn primary(lags: &[(u64, u64)]) -> MemberSeen {
    let mut primary = seen(1, Server::Primary, 99);
    primary.report.streaming = lags.iter().map(|(worker, _)| disk(*worker)).collect();
    primary.lags = lags.iter().map(|(worker, bytes)| (WorkerId(*worker), Lag { bytes: *bytes, ms: 0 })).collect();
    primary
}

fn lately(members: &[MemberSeen]) -> Lately {
    members.iter().map(|seen| (seen.report.disk.worker, seen.clone())).collect()
}

/// All of them well.
fn well() -> Lately {
    lately(&[primary(&[(2, 300), (3, 200), (4, 0)]), follower(2), follower(3), follower(4)])
}

fn hands_over(worker: u64) -> Change {
    Change::HandOver { to: disk(worker) }
}

#[test]
fn the_one_named_takes_over_or_who_has_the_least_to_replay() {
    let steady = record(Phase::Steady);
    assert_eq!(switchover(&steady, &well(), Some(WorkerId(2))), Ok(hands_over(2)));
    assert_eq!(switchover(&steady, &well(), None), Ok(hands_over(3)), "the fourth is not in sync");
    let equal = lately(&[primary(&[(2, 5), (3, 5)]), follower(2), follower(3)]);
    assert_eq!(switchover(&steady, &equal, None), Ok(hands_over(2)));
}

#[test]
fn who_cannot_take_over_is_refused_with_the_reason() {
    let steady = record(Phase::Steady);
    let to = |worker| switchover(&steady, &well(), Some(WorkerId(worker)));
    assert_eq!(to(9), Err(NotByHand::NoMember(WorkerId(9))));
    assert_eq!(to(1), Err(NotByHand::IsPrimary(WorkerId(1))));
    assert_eq!(to(4), Err(NotByHand::NotInSync(WorkerId(4))));
    let fencing = Phase::Fencing { wish: None };
    assert_eq!(switchover(&record(fencing), &well(), None), Err(NotByHand::Changing(fencing)));
    let far = BEHIND_BYTES_MAX + 1;
    let behind = lately(&[primary(&[(2, far), (3, BEHIND_BYTES_MAX)]), follower(2), follower(3)]);
    assert_eq!(switchover(&steady, &behind, Some(WorkerId(2))), Err(NotByHand::Behind(WorkerId(2), far)));
    assert_eq!(switchover(&steady, &behind, Some(WorkerId(3))), Ok(hands_over(3)));
}

#[test]
fn both_sides_have_to_say_that_it_follows() {
    let steady = record(Phase::Steady);
    let to_two = |members: &[MemberSeen]| switchover(&steady, &lately(members), Some(WorkerId(2)));
    let not_following = Err(NotByHand::NotFollowing(WorkerId(2)));
    let streams = primary(&[(2, 0)]);
    assert_eq!(to_two(&[streams.clone(), follower(2)]), Ok(hands_over(2)));
    assert_eq!(to_two(std::slice::from_ref(&streams)), not_following, "it does not answer");
    assert_eq!(to_two(&[streams.clone(), seen(2, Server::Detached, 90)]), not_following);
    assert_eq!(to_two(&[primary(&[]), follower(2)]), not_following, "the primary does not know it");
    let mut other = follower(2);
    other.report.disk.incarnation = Incarnation(2);
    assert_eq!(to_two(&[streams.clone(), other]), not_following, "its data is lost");
    assert_eq!(switchover(&steady, &lately(&[streams]), None), Err(NotByHand::NobodyFollows));
}

#[test]
fn a_primary_that_does_not_serve_is_left_to_the_leader() {
    let steady = record(Phase::Steady);
    let lost = Err(NotByHand::PrimaryLost(WorkerId(1)));
    let others = [follower(2), follower(3)];
    assert_eq!(switchover(&steady, &lately(&others), None), lost);
    let mut old = primary(&[(2, 0)]);
    old.report.position = Some(Position { generation: Generation(3), lsn: Lsn(99) });
    assert_eq!(switchover(&steady, &lately(&[old, follower(2)]), None), lost);
}

#[test]
fn loss_is_accepted_where_nobody_can_find_out_what_was_acknowledged() {
    let steady = record(Phase::Steady);
    let survives = |lately: &[MemberSeen]| acceptance(&steady, &self::lately(lately), WorkerId(2));
    let accepted = Ok(Change::AcceptLoss { survivor: disk(2) });
    assert_eq!(survives(&[follower(2)]), accepted);
    assert_eq!(survives(&[follower(2), follower(4)]), accepted, "the fourth has no vote");
    assert_eq!(survives(&[follower(2), follower(3)]), Err(NotByHand::EnoughAnswer));
    assert_eq!(survives(&[primary(&[]), follower(2)]), Err(NotByHand::PrimaryThere(WorkerId(1))));
    assert_eq!(survives(&[]), Err(NotByHand::NotUsable(WorkerId(2))));
    assert_eq!(survives(&[seen(2, Server::Unusable { can_rewind: true }, 1)]), Err(NotByHand::NotUsable(WorkerId(2))));
    assert_eq!(acceptance(&steady, &well(), WorkerId(9)), Err(NotByHand::NoMember(WorkerId(9))));
}

#[test]
fn a_primary_that_is_left_alone_may_forget_the_others() {
    let steady = record(Phase::Steady);
    let alone = |lately: &[MemberSeen]| acceptance(&steady, &self::lately(lately), WorkerId(1));
    let accepted = Ok(Change::AcceptLoss { survivor: disk(1) });
    assert_eq!(alone(&[primary(&[])]), accepted);
    assert_eq!(alone(&[primary(&[]), follower(4)]), accepted, "the fourth has no vote yet, and cannot take its place");
    assert_eq!(alone(&[primary(&[]), follower(2)]), Err(NotByHand::EnoughAnswer));
}

#[test]
fn the_most_that_is_left_survives() {
    let steady = record(Phase::Steady);
    let further = seen(4, Server::Detached, 91);
    let left = lately(&[follower(2), further]);
    assert_eq!(acceptance(&steady, &left, WorkerId(2)), Err(NotByHand::HasLess(WorkerId(4))));
    assert_eq!(acceptance(&steady, &left, WorkerId(4)), Ok(Change::AcceptLoss { survivor: disk(4) }));
}

#[test]
fn who_was_restored_answers_for_nothing_and_may_survive() {
    let steady = record(Phase::Steady);
    let restored = |seen: MemberSeen| MemberSeen { report: Report { restored: true, ..seen.report }, ..seen };
    let left =
        |lsn| lately(&[restored(seen(1, Server::Detached, lsn)), restored(follower(2)), seen(3, Server::Detached, 89)]);
    let survives = |lsn, worker| acceptance(&steady, &left(lsn), WorkerId(worker));
    assert_eq!(survives(80, 2), Ok(Change::AcceptLoss { survivor: disk(2) }));
    assert_eq!(survives(99, 1), Ok(Change::AcceptLoss { survivor: disk(1) }));
    assert_eq!(survives(99, 3), Err(NotByHand::HasLess(WorkerId(1))));
}

#[test]
fn a_primary_that_waits_for_others_while_one_is_looked_for_may_be_the_survivor() {
    let fencing = record(Phase::Fencing { wish: None });
    let left = lately(&[seen(1, Server::Detached, 99)]);
    assert_eq!(acceptance(&fencing, &left, WorkerId(1)), Ok(Change::AcceptLoss { survivor: disk(1) }));
}
