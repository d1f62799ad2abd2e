use super::super::record::Incarnation;
use super::super::stamp::{Stamp, Stamps};
use super::*;
use crate::{CatalogVersion, Generation, Lsn};

fn disk(worker: u64) -> Disk {
    Disk { worker: WorkerId(worker), incarnation: Incarnation(1) }
}

fn steady() -> GroupRecord {
    let voters: BTreeSet<Disk> = (1..=3).map(disk).collect();
    let founded = GroupRecord::founded(disk(1), (1..=3).map(WorkerId).collect(), 2, CatalogVersion(5));
    GroupRecord { voters: voters.clone(), listed: voters, generation: Generation(4), ..founded }
}

fn in_phase(phase: Phase) -> GroupRecord {
    GroupRecord { phase, ..steady() }
}

fn sight(worker: u64, server: Server, generation: u64) -> Sight {
    let position = Some(Position { generation: Generation(generation), lsn: Lsn(9) });
    let list = Some(steady().listed);
    Sight { disk: disk(worker), server, position, list, fit: Fit::GoesOn, restored: false, silent_ms: 0 }
}

#[test]
fn a_primary_serves_at_its_own_generation_while_it_hears_from_the_catalog() {
    let serves = sight(1, Server::Primary, 4);
    assert_eq!(act(&steady(), &serves), Act::Nothing);
    assert_eq!(act(&steady(), &Sight { silent_ms: LEASE_MS, ..serves.clone() }), Act::Nothing);
    assert_eq!(act(&steady(), &Sight { silent_ms: LEASE_MS + 1, ..serves.clone() }), Act::Stop);
    assert_eq!(act(&steady(), &sight(1, Server::Primary, 3)), Act::Stop);
    let listed = steady().listed;
    assert_eq!(act(&steady(), &Sight { list: None, ..serves }), Act::SetList { listed });
    let stopped = sight(1, Server::Stopped { standby: false }, 4);
    assert_eq!(act(&steady(), &stopped), Act::StartPrimary);
    assert_eq!(act(&steady(), &Sight { silent_ms: LEASE_MS + 1, ..stopped }), Act::Nothing);
}

#[test]
fn whoever_is_fenced_neither_serves_nor_receives() {
    let standby = Server::Following { worker: WorkerId(1) };
    for phase in [Phase::Fencing { wish: None }, Phase::Promoting { candidate: disk(3) }] {
        let known = in_phase(phase);
        assert_eq!(act(&known, &sight(1, Server::Primary, 3)), Act::Stop);
        assert_eq!(act(&known, &sight(1, Server::Primary, 4)), Act::Stop);
        assert_eq!(act(&known, &sight(2, standby, 3)), Act::Detach);
        assert_eq!(act(&known, &sight(2, Server::Stopped { standby: false }, 3)), Act::StartDetached);
        assert_eq!(act(&known, &sight(2, Server::Detached, 3)), Act::Nothing);
        assert_eq!(act(&known, &sight(2, Server::Unusable { can_rewind: true }, 3)), Act::Nothing);
    }
    let handing = in_phase(Phase::HandingOver { to: disk(2) });
    assert_eq!(act(&handing, &sight(1, Server::Primary, 4)), Act::Stop);
    assert_eq!(act(&handing, &sight(2, standby, 4)), Act::Nothing, "the others receive to the end");
}

#[test]
fn the_candidate_counts_nobody_until_it_is_active() {
    let known = in_phase(Phase::Promoting { candidate: disk(2) });
    assert_eq!(act(&known, &sight(2, Server::Following { worker: WorkerId(1) }, 3)), Act::Detach);
    assert_eq!(act(&known, &sight(2, Server::Detached, 3)), Act::Promote);
    let promoted = Sight { list: None, ..sight(2, Server::Primary, 3) };
    assert_eq!(act(&known, &promoted), Act::RecordGeneration);
    assert_eq!(act(&known, &Sight { list: None, ..sight(2, Server::Primary, 4) }), Act::Nothing);
    assert_eq!(act(&known, &sight(2, Server::Primary, 3)), Act::Stop, "an old primary is not what was promoted");
    let wiped = Disk { incarnation: Incarnation(2), ..disk(2) };
    assert_eq!(act(&known, &Sight { disk: wiped, ..sight(2, Server::Detached, 3) }), Act::Nothing);
}

#[test]
fn a_standby_follows_and_gives_its_data_up_only_when_it_may() {
    let known = steady();
    let follows = sight(2, Server::Following { worker: WorkerId(1) }, 4);
    assert_eq!(act(&known, &follows), Act::Nothing);
    assert_eq!(act(&known, &sight(2, Server::Following { worker: WorkerId(3) }, 4)), Act::Detach);
    assert_eq!(act(&known, &sight(2, Server::Detached, 4)), Act::Follow { worker: WorkerId(1) });
    assert_eq!(act(&known, &Sight { fit: Fit::Diverged, ..follows }), Act::Detach);
    let diverged = Sight { fit: Fit::Diverged, ..sight(2, Server::Detached, 3) };
    assert_eq!(act(&known, &diverged), Act::Nothing);
    let mends = GroupRecord { mending: Some(disk(2)), ..steady() };
    assert_eq!(act(&mends, &diverged), Act::Rewind { from: disk(1) });
    let left = GroupRecord { voters: [1, 3].map(disk).into(), ..steady() };
    assert_eq!(act(&left, &diverged), Act::Rewind { from: disk(1) });
    assert_eq!(
        act(&known, &Sight { fit: Fit::Behind, ..sight(2, Server::Following { worker: WorkerId(1) }, 4) }),
        Act::Detach
    );
    let behind = Sight { fit: Fit::Behind, ..sight(2, Server::Detached, 4) };
    assert_eq!(act(&known, &behind), Act::Nothing);
    assert_eq!(act(&mends, &behind), Act::BaseBackup { from: disk(1) });
    assert_eq!(act(&left, &behind), Act::BaseBackup { from: disk(1) });
    let broken = |can_rewind| sight(2, Server::Unusable { can_rewind }, 0);
    assert_eq!(act(&known, &broken(true)), Act::Rewind { from: disk(1) });
    assert_eq!(act(&known, &broken(false)), Act::BaseBackup { from: disk(1) });
    assert_eq!(act(&known, &sight(2, Server::Primary, 4)), Act::Stop);
}

#[test]
fn restored_data_does_nothing_until_it_can_be_copied_anew() {
    let restored = |worker, server| Sight { restored: true, ..sight(worker, server, 4) };
    assert_eq!(act(&steady(), &restored(1, Server::Primary)), Act::Stop);
    assert_eq!(act(&steady(), &restored(1, Server::Stopped { standby: false })), Act::StartDetached);
    assert_eq!(act(&steady(), &restored(1, Server::Detached)), Act::Nothing);
    let promoting = in_phase(Phase::Promoting { candidate: disk(2) });
    assert_eq!(act(&promoting, &restored(2, Server::Detached)), Act::Nothing);
    assert_eq!(act(&steady(), &restored(2, Server::Following { worker: WorkerId(1) })), Act::Detach);
    assert_eq!(act(&steady(), &restored(2, Server::Detached)), Act::BaseBackup { from: disk(1) });
}

#[test]
fn older_records_are_refused() {
    let newer = GroupRecord { changed_at: CatalogVersion(6), ..steady() };
    let takes = |known: Option<&GroupRecord>, told: &GroupRecord| takes(known, told, disk(2));
    assert!(takes(None, &steady()) && takes(Some(&steady()), &newer));
    assert!(!takes(Some(&newer), &steady()) && !takes(Some(&newer), &newer));
    let stamped = |worker, count| {
        let stamp = Stamp { count, ..Stamps::first(Incarnation(1), 9).now };
        GroupRecord { stamps: [(WorkerId(worker), stamp)].into(), ..newer.clone() }
    };
    assert!(takes(Some(&newer), &stamped(2, 1)) && takes(Some(&stamped(2, 1)), &stamped(2, 2)));
    assert!(
        !takes(Some(&stamped(2, 2)), &stamped(2, 1)) && !takes(Some(&stamped(2, 2)), &newer),
        "its own are of before"
    );
    assert!(!takes(Some(&newer), &stamped(3, 1)), "another's");
    assert!(!takes(Some(&newer), &GroupRecord { changed_at: CatalogVersion(5), ..stamped(2, 1) }));
}
