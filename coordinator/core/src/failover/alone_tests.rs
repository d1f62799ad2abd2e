use super::super::testing::{self, disk, report, set};
use super::super::{Change, Observed, Step, next_step};
use super::*;
use atoll_proto::group::{Phase, Report, Server};
use atoll_proto::{CatalogVersion, Generation, WorkerId};

fn record(workers: u64, copies: u32, voters: &[u64]) -> GroupRecord {
    let founded = GroupRecord::founded(disk(1), (1..=workers).map(WorkerId).collect(), copies, CatalogVersion(5));
    GroupRecord { voters: set(voters), listed: set(voters), generation: Generation(4), ..founded }
}

fn primary(streaming: &[u64]) -> Report {
    Report { streaming: set(streaming), ..report(1, Server::Primary, (4, 99)) }
}

fn follower(worker: u64, lsn: u64) -> Report {
    report(worker, Server::Following { worker: WorkerId(1) }, (4, lsn))
}

fn seen(reports: &[Report], cut: &[(u64, u64)]) -> Observed {
    let cut_ms = cut.iter().map(|(worker, ms)| (disk(*worker), *ms)).collect();
    Observed { cut_ms, ..testing::seen(reports) }
}

#[test]
fn a_primary_that_all_standbys_lost_is_fenced_with_a_wish_for_the_most_advanced_of_them() {
    let three = record(3, 2, &[1, 2, 3]);
    let reports = [primary(&[2, 3]), follower(2, 90), follower(3, 91)];
    let fence = Step::Record(Change::Fence { wish: Some(disk(3)) });
    assert_eq!(next_step(&three, &seen(&reports, &[(2, CUT_MS), (3, CUT_MS)])), fence);
    assert_eq!(next_step(&three, &seen(&reports, &[(2, CUT_MS), (3, CUT_MS - 1)])), Step::Wait, "it may connect again");
    assert_eq!(next_step(&three, &seen(&reports, &[(2, CUT_MS)])), Step::Wait, "the other confirms");
    assert_eq!(
        next_step(&three, &seen(&[primary(&[]), follower(2, 90), follower(3, 91)], &[])),
        Step::Wait,
        "never connected"
    );
    let without_one = [primary(&[]), follower(2, 90)];
    assert_eq!(next_step(&three, &seen(&without_one, &[(2, CUT_MS)])), Step::Wait, "the other may have more");
    let two = record(3, 2, &[1, 2]);
    let step = |reports: &[Report]| next_step(&two, &seen(reports, &[(2, CUT_MS)]));
    assert_eq!(step(&without_one), Step::Wait, "it could acknowledge nothing either");
    assert_eq!(
        step(&[primary(&[]), follower(2, 90), follower(3, 10)]),
        Step::Record(Change::Fence { wish: Some(disk(2)) })
    );
    let hangs = Report { age_ms: 2_000, ..primary(&[]) };
    assert_eq!(step(&[hangs, follower(2, 90), follower(3, 10)]), Step::Wait, "its word is old");
}

#[test]
fn of_five_a_primary_is_alone_with_one_standby_left() {
    let five = record(5, 3, &[1, 2, 3, 4, 5]);
    let reports = [primary(&[2, 3, 4, 5]), follower(2, 95), follower(3, 90), follower(4, 91), follower(5, 91)];
    let step = |cut: &[u64]| {
        next_step(&five, &seen(&reports, &cut.iter().map(|worker| (*worker, CUT_MS)).collect::<Vec<_>>()))
    };
    assert_eq!(step(&[3, 4]), Step::Wait, "two confirm");
    assert_eq!(step(&[3, 4, 5]), Step::Record(Change::Fence { wish: Some(disk(2)) }), "who is not cut off has most");
}

#[test]
fn a_primary_that_does_not_serve_is_judged_by_other_evidence() {
    let three = record(3, 2, &[1, 2, 3]);
    let stopped = report(1, Server::Stopped { standby: false }, (4, 99));
    let reports = [stopped, follower(2, 90), follower(3, 91)];
    assert_eq!(instead(&three, &seen(&reports, &[(2, 9_000), (3, 9_000)])), None);
    let fencing = GroupRecord { phase: Phase::Fencing { wish: None }, ..three };
    assert_eq!(next_step(&fencing, &seen(&reports, &[(2, 9_000), (3, 9_000)])), Step::Wait);
}
