//! What is known at a moment, by what was heard before it.

#![allow(clippy::unwrap_used)]
use super::*;
use atoll_core::failover::{Suspicion, suspicion};
use atoll_proto::Lsn;
use atoll_proto::group::{Incarnation, Position, Stamp};
use std::collections::BTreeSet;

fn disk(worker: u64) -> Disk {
    Disk { worker: WorkerId(worker), incarnation: Incarnation(1) }
}

/// Three members, all in sync, the first of them primary of generation 1.
fn record() -> GroupRecord {
    let all: BTreeSet<Disk> = (1..4).map(disk).collect();
    let founded = GroupRecord::founded(disk(1), (1..4).map(WorkerId).collect(), 2, CatalogVersion(5));
    GroupRecord { voters: all.clone(), listed: all, ..founded }
}

fn says(worker: u64, server: Server, streaming: &[u64]) -> Report {
    let position = Position { generation: Generation(1), lsn: Lsn(9) };
    Report {
        listed_at: Some(CatalogVersion(5)),
        streaming: streaming.iter().map(|worker| disk(*worker)).collect(),
        ..Report::bare(disk(worker), Generation(1), server, Some(position))
    }
}

fn follows(worker: u64) -> Report {
    says(worker, Server::Following { worker: WorkerId(1) }, &[])
}

/// A leader's look at a group, at times in milliseconds since it began.
struct Leader {
    began: Instant,
    seen: Seen,
    record: GroupRecord,
}

impl Leader {
    fn new() -> Self {
        let began = Instant::now();
        Self { began, seen: Seen::new(began, Duration::from_secs(60)), record: record() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.began + Duration::from_millis(ms)
    }

    fn hears(&mut self, ms: u64, report: Report) {
        self.seen.note(report.disk.worker, report, self.at(ms));
    }

    fn looks(&mut self, ms: u64) -> Observed {
        let now = self.at(ms);
        self.seen.look(&self.record, now);
        self.seen.observed(&self.record, now)
    }

    /// Looks every 100 ms from one time to another, as a driver does.
    fn listens(&mut self, from: u64, to: u64) -> Observed {
        for ms in (from..to).step_by(100) {
            self.looks(ms);
        }
        self.looks(to)
    }
}

#[test]
fn answers_have_the_age_of_their_question_and_a_late_one_replaces_no_newer() {
    let mut leader = Leader::new();
    leader.hears(300, says(1, Server::Primary, &[2, 3]));
    leader.hears(100, says(1, Server::Stopped { standby: false }, &[]));
    let seen = leader.looks(500);
    let heard = &seen.heard[&WorkerId(1)];
    assert_eq!((heard.report.server, heard.age_ms), (Server::Primary, 200));
    assert_eq!((seen.evidence.word, seen.evidence.silent_ms), (Some(Word::Serves), 200));
}

#[test]
fn a_phase_lasts_since_its_record_was_first_seen() {
    let mut leader = Leader::new();
    assert!(leader.seen.look(&leader.record, leader.at(100)));
    assert!(!leader.seen.look(&leader.record, leader.at(300)));
    assert_eq!(leader.looks(400).phase_ms, 300);
    leader.record.changed_at = CatalogVersion(6);
    assert!(leader.seen.look(&leader.record, leader.at(500)));
    assert_eq!(leader.looks(600).phase_ms, 100);
}

#[test]
fn a_primary_that_was_never_heard_is_suspected_when_it_was_listened_for_long_enough() {
    let mut leader = Leader::new();
    let seen = leader.listens(0, 2_900);
    assert_eq!((seen.evidence.word, suspicion(&seen.evidence)), (None, None));
    assert_eq!(suspicion(&leader.looks(3_000).evidence), Some(Suspicion::Silent));
}

#[test]
fn who_was_away_does_not_hold_the_silence_against_others() {
    let mut leader = Leader::new();
    leader.hears(0, says(1, Server::Primary, &[2, 3]));
    leader.listens(0, 400);
    let seen = leader.looks(9_000);
    assert_eq!((seen.heard[&WorkerId(1)].age_ms, seen.evidence.silent_ms), (9_000, 0));
    assert_eq!(leader.listens(9_100, 9_500).evidence.silent_ms, 500);
}

#[test]
fn a_server_is_down_for_as_long_as_its_agent_has_said_so() {
    let mut leader = Leader::new();
    let down = says(1, Server::Stopped { standby: false }, &[]);
    for ms in [0, 200, 400] {
        leader.hears(ms, down.clone());
        leader.looks(ms);
    }
    assert_eq!(leader.looks(900).evidence.word, Some(Word::Down { for_ms: 400 }), "it has said nothing since");
    leader.hears(1_000, says(1, Server::Primary, &[]));
    assert_eq!(leader.looks(1_000).evidence.word, Some(Word::Serves));
    leader.hears(1_200, down);
    assert_eq!(leader.looks(1_200).evidence.word, Some(Word::Down { for_ms: 0 }));
}

#[test]
fn another_disk_or_generation_does_not_serve() {
    let wiped = Disk { incarnation: Incarnation(2), ..disk(1) };
    let older = Some(Position { generation: Generation(0), lsn: Lsn(9) });
    let serves = says(1, Server::Primary, &[2, 3]);
    for report in [Report { disk: wiped, ..serves.clone() }, Report { position: older, ..serves }] {
        let mut leader = Leader::new();
        leader.hears(0, report);
        assert_eq!(leader.looks(0).evidence.word, Some(Word::Down { for_ms: 0 }));
    }
}

#[test]
fn voters_are_absent_for_as_long_as_the_primary_has_said_so() {
    let mut leader = Leader::new();
    for (ms, streaming) in [(0, &[2][..]), (200, &[2]), (400, &[])] {
        leader.hears(ms, says(1, Server::Primary, streaming));
        leader.looks(ms);
    }
    let absent = |seen: Observed| seen.absent_ms.into_iter().map(|(disk, ms)| (disk.worker.0, ms)).collect::<Vec<_>>();
    assert_eq!(absent(leader.looks(500)), [(2, 0), (3, 400)]);
    leader.hears(600, says(1, Server::Primary, &[3]));
    assert_eq!(absent(leader.looks(600)), [(2, 200)]);
    leader.record = GroupRecord { primary: disk(2), generation: Generation(2), ..record() };
    assert_eq!(absent(leader.looks(700)), [], "another primary has not said anything yet");
}

#[test]
fn standbys_are_cut_off_that_the_primary_does_not_name() {
    let mut leader = Leader::new();
    leader.hears(0, says(1, Server::Primary, &[2]));
    leader.hears(0, follows(2));
    leader.hears(0, follows(3));
    let counts = |seen: &Observed| (seen.evidence.standbys_cut, seen.evidence.standbys_heard);
    assert_eq!(counts(&leader.looks(100)), (1, 2));
    leader.hears(200, says(1, Server::Primary, &[]));
    assert_eq!(counts(&leader.looks(200)), (2, 2));
    leader.hears(300, says(3, Server::Detached, &[]));
    assert_eq!(counts(&leader.looks(300)), (1, 1), "one that follows nobody says nothing of the primary");
    assert_eq!(counts(&leader.looks(2_000)), (0, 0));
}

#[test]
fn a_server_that_its_agent_can_not_ask_is_silent_though_the_agent_speaks() {
    let mut leader = Leader::new();
    for ms in (0..=1_400).step_by(200) {
        leader.hears(ms, Report { age_ms: ms, ..says(1, Server::Primary, &[2, 3]) });
        leader.looks(ms);
    }
    let seen = leader.looks(1_500);
    assert_eq!((seen.heard[&WorkerId(1)].age_ms, seen.evidence.silent_ms), (100, 1_500));
}

#[test]
fn a_primary_is_asked_itself_only_while_it_is_missed() {
    let mut leader = Leader::new();
    let misses = |leader: &Leader, ms| leader.seen.misses(&leader.record, leader.at(ms));
    assert!(misses(&leader, 0), "nobody has heard of it");
    leader.hears(0, says(1, Server::Primary, &[2, 3]));
    assert!(!misses(&leader, 299));
    assert!(misses(&leader, 300), "its agent has not seen it");
    leader.hears(400, says(1, Server::Primary, &[2, 3]));
    assert!(leader.seen.note_silence(WorkerId(1)));
    assert!(!leader.seen.note_silence(WorkerId(1)));
    assert!(misses(&leader, 400), "its agent gave no answer");
    leader.hears(500, says(1, Server::Primary, &[2]));
    for worker in [2, 3] {
        leader.hears(500, follows(worker));
    }
    assert!(!misses(&leader, 500));
    leader.hears(600, says(1, Server::Primary, &[]));
    assert!(misses(&leader, 600), "no standby has it");
}

#[test]
fn what_a_server_gives_itself_counts_until_it_answers_or_is_seen() {
    let mut leader = Leader::new();
    leader.looks(0);
    let failing = |leader: &mut Leader, ms| {
        let Evidence { failing_ms, refused_ms, .. } = leader.looks(ms).evidence;
        (failing_ms, refused_ms)
    };
    let knocks =
        |leader: &mut Leader, ms, knock| leader.seen.knocked(disk(1), knock, leader.began + Duration::from_millis(ms));
    knocks(&mut leader, 100, Knock::Silent);
    knocks(&mut leader, 200, Knock::Refused);
    assert_eq!(failing(&mut leader, 400), (300, 200));
    knocks(&mut leader, 400, Knock::Silent);
    assert_eq!(failing(&mut leader, 400), (300, 0));
    leader.seen.knocked(disk(2), Knock::Answered, leader.at(500));
    assert_eq!(failing(&mut leader, 500), (400, 0), "another server says nothing of it");
    knocks(&mut leader, 500, Knock::Answered);
    assert_eq!(failing(&mut leader, 600), (0, 0));
    knocks(&mut leader, 600, Knock::Refused);
    leader.hears(700, says(1, Server::Primary, &[2, 3]));
    assert_eq!(failing(&mut leader, 700), (0, 0));
}

#[test]
fn stamps_are_due_once_in_a_while_and_no_news() {
    let mut leader = Leader::new();
    assert!(!leader.looks(0).stamp_is_due && !leader.looks(59_999).stamp_is_due && leader.looks(60_000).stamp_is_due);
    let stamp = Stamp { incarnation: Incarnation(1), count: 0, lot: 9 };
    let stamps = BTreeMap::from([(WorkerId(1), stamp)]);
    leader.record = GroupRecord { stamps, ..record() };
    assert!(!leader.seen.look(&leader.record, leader.at(60_100)), "nothing that anybody has to be told");
    assert!(!leader.looks(120_000).stamp_is_due && leader.looks(120_100).stamp_is_due);
    leader.record = GroupRecord { changed_at: CatalogVersion(7), ..leader.record };
    assert!(leader.seen.look(&leader.record, leader.at(120_200)));
}
