//! Each kind of violation is found, and what is right is not taken for one.

use super::*;

const LATE: Duration = Duration::from_secs(10);

/// A history that is written down operation by operation, each a second after the other; those of one line overlap.
#[derive(Default)]
struct Told {
    history: Vec<Operation>,
    second: u64,
}

impl Told {
    fn add(mut self, session: u64, deed: Deed) -> Self {
        self.second += 2;
        let (invoked, ended) = (Duration::from_secs(self.second), Duration::from_secs(self.second + 1));
        self.history.push(Operation { session, invoked, ended, deed });
        self
    }

    fn later(mut self, by: Duration) -> Self {
        self.second += by.as_secs();
        self
    }

    /// The last operation began when the one before it did.
    fn overlapping(mut self) -> Self {
        let at = self.history.len() - 1;
        self.history[at].invoked = self.history[at - 1].invoked;
        self
    }

    fn writes(self, keys: &[&str], content: Option<u64>, outcome: Outcome) -> Self {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.add(1, Deed::Write(Write { keys, content, outcome }))
    }

    fn put(self, content: u64, version: i64) -> Self {
        self.writes(&["k"], Some(content), Outcome::Done(vec![version]))
    }

    fn doubtful_put(self, content: u64) -> Self {
        self.writes(&["k"], Some(content), Outcome::Unknown)
    }

    fn delete(self) -> Self {
        self.writes(&["k"], None, Outcome::Done(Vec::new()))
    }

    fn batch(self, content: u64) -> Self {
        self.writes(&["a", "b"], Some(content), Outcome::Done(vec![1, 1]))
    }

    fn reads(self, session: u64, promise: Promise, seen: &[(&str, Option<(u64, i64)>)]) -> Self {
        let seen = seen.iter().map(|(key, seen)| {
            let seen = seen.map(|(content, version)| Seen { content, version });
            ((*key).to_owned(), seen)
        });
        self.add(session, Deed::Read(Read { promise, seen: seen.collect() }))
    }

    fn ends_with(self, seen: Option<(u64, i64)>) -> Self {
        self.reads(9, Promise::Everything, &[("k", seen)])
    }

    fn kinds(self) -> Vec<Kind> {
        let terms = Terms { late: LATE, least: Least::default() };
        check(&self.history, &terms).into_iter().map(|found| found.kind).collect()
    }

    #[track_caller]
    fn passes(self) {
        assert_eq!(self.kinds(), []);
    }
}

fn told() -> Told {
    Told::default()
}

#[test]
fn an_acknowledged_write_that_is_gone_is_lost() {
    told().put(1, 1).ends_with(Some((1, 1))).passes();
    assert_eq!(told().put(1, 1).ends_with(None).kinds(), [Kind::Lost]);
    assert_eq!(told().put(1, 1).put(2, 2).ends_with(Some((1, 1))).kinds(), [Kind::Lost]);
    told().delete().put(1, 1).delete().ends_with(None).passes();
    assert_eq!(told().delete().put(1, 1).ends_with(None).kinds(), [Kind::Lost]);
}

#[test]
fn writes_at_the_same_time_may_end_either_way() {
    told().put(1, 2).put(2, 1).overlapping().ends_with(Some((1, 2))).passes();
    told().put(1, 1).put(2, 2).overlapping().ends_with(Some((2, 2))).passes();
    told().put(1, 1).delete().overlapping().ends_with(Some((1, 1))).passes();
    told().put(1, 1).ends_with(None).overlapping().passes();
}

#[test]
fn what_is_in_doubt_may_be_done_or_not_and_late_but_not_for_ever() {
    told().put(1, 1).doubtful_put(2).ends_with(Some((1, 1))).passes();
    told().put(1, 1).doubtful_put(2).ends_with(Some((2, 2))).passes();
    told().put(1, 1).doubtful_put(2).later(LATE).ends_with(Some((1, 1))).passes();
    told().doubtful_put(1).put(2, 2).ends_with(Some((1, 1))).passes();
    assert_eq!(told().doubtful_put(1).later(LATE).put(2, 2).ends_with(Some((1, 1))).kinds(), [Kind::Lost]);
    let deleted = |told: Told| told.writes(&["k"], None, Outcome::Unknown);
    deleted(told().put(1, 1)).ends_with(None).passes();
    assert_eq!(deleted(told()).later(LATE).put(1, 1).ends_with(None).kinds(), [Kind::Lost]);
}

#[test]
fn what_was_deleted_stays_deleted() {
    told().put(1, 1).delete().ends_with(None).passes();
    assert_eq!(told().put(1, 1).delete().ends_with(Some((1, 1))).kinds(), [Kind::Undeleted]);
    told().put(1, 1).delete().put(2, 1).ends_with(Some((2, 1))).passes();
}

#[test]
fn what_nobody_wrote_or_was_refused_is_seen_nowhere() {
    let something = |told: Told, seen| told.reads(2, Promise::Something, &[("k", Some(seen))]).kinds();
    assert_eq!(something(told().put(1, 1), (7, 1)), [Kind::Phantom]);
    assert_eq!(something(told(), (1, 1)), [Kind::Phantom]);
    let refused = told().writes(&["k"], Some(3), Outcome::Refused);
    assert_eq!(something(refused, (3, 1)), [Kind::RefusedYetDone]);
    assert_eq!(something(told().put(1, 1).put(2, 2), (1, 1)), [], "it promises nothing");
}

#[test]
fn a_batch_is_there_as_a_whole_or_not_at_all() {
    let sees = |told: Told, a, b| told.reads(2, Promise::Something, &[("a", a), ("b", b)]).kinds();
    assert_eq!(sees(told().batch(1), Some((1, 1)), Some((1, 1))), []);
    assert_eq!(sees(told().batch(1), None, None), []);
    assert_eq!(sees(told().batch(1), Some((1, 1)), None), [Kind::HalfBatch]);
    assert_eq!(sees(told().batch(1).batch(2), Some((1, 1)), Some((2, 1))), [Kind::Order, Kind::Order, Kind::HalfBatch]);
    let in_doubt = told().writes(&["a", "b"], Some(1), Outcome::Unknown);
    assert_eq!(sees(in_doubt, None, Some((1, 1))), [Kind::HalfBatch]);
    let alone = told().batch(1).reads(2, Promise::Something, &[("a", Some((1, 1)))]);
    alone.passes();
}

#[test]
fn versions_follow_the_order_of_writes() {
    assert_eq!(told().put(1, 1).put(2, 1).kinds(), [Kind::Order], "two primaries");
    assert_eq!(told().put(1, 2).put(2, 1).kinds(), [Kind::Order]);
    assert_eq!(told().put(1, 1).put(2, 1).overlapping().kinds(), [Kind::Order], "at the same time too");
    told().put(1, 2).put(2, 1).overlapping().passes();
    told().put(1, 4).delete().put(2, 1).passes();
    told().put(1, 4).writes(&["k"], None, Outcome::Unknown).put(2, 1).passes();
    assert_eq!(told().delete().put(1, 4).put(2, 1).kinds(), [Kind::Order]);
    let seen = told().put(1, 1).reads(2, Promise::Something, &[("k", Some((1, 2)))]);
    assert_eq!(seen.kinds(), [Kind::Order], "another version than was told");
}

#[test]
fn a_write_makes_one_version() {
    assert_eq!(told().put(1, 1).put(2, 3).kinds(), [Kind::Doubled]);
    assert_eq!(told().put(1, 1).doubtful_put(2).put(3, 4).kinds(), [Kind::Doubled], "a doubtful one counts once");
    told().put(1, 1).doubtful_put(2).put(3, 3).passes();
    told().put(1, 1).doubtful_put(2).put(3, 2).passes();
    told().doubtful_put(1).put(2, 2).put(3, 3).passes();
    told().put(1, 1).put(2, 3).put(3, 2).overlapping().passes();
    told().put(1, 1).delete().put(2, 3).passes();
    assert_eq!(told().put(1, 9).delete().put(2, 1).put(3, 3).kinds(), [Kind::Doubled], "in its second life");
    assert_eq!(told().put(1, 1).put(2, 2).put(3, 4).kinds(), [Kind::Doubled]);
}

#[test]
fn a_session_sees_what_it_wrote() {
    let own = |told: Told, seen| told.reads(1, Promise::Session, &[("k", seen)]).kinds();
    assert_eq!(own(told().put(1, 1).put(2, 2), Some((2, 2))), []);
    assert_eq!(own(told().put(1, 1).put(2, 2), Some((1, 1))), [Kind::OwnWriteUnseen]);
    assert_eq!(own(told().put(1, 1), None), [Kind::OwnWriteUnseen]);
    assert_eq!(own(told().put(1, 1).delete(), Some((1, 1))), [Kind::OwnWriteUnseen]);
    assert_eq!(own(told().put(1, 1).doubtful_put(2), Some((1, 1))), []);
    assert_eq!(own(told().doubtful_put(1).put(2, 2), Some((1, 3))), [], "it may have come late");
    let others = told().put(1, 1).put(2, 2).reads(2, Promise::Session, &[("k", Some((1, 1)))]);
    others.passes();
}

#[test]
fn a_session_does_not_go_back() {
    let twice = |told: Told, first, second| {
        told.reads(2, Promise::Session, &[("k", first)]).reads(2, Promise::Session, &[("k", second)]).kinds()
    };
    assert_eq!(twice(told().put(1, 1).put(2, 2), Some((1, 1)), Some((2, 2))), []);
    assert_eq!(twice(told().put(1, 1).put(2, 2), Some((2, 2)), Some((1, 1))), [Kind::WentBack]);
    assert_eq!(twice(told().put(1, 1), Some((1, 1)), None), [Kind::WentBack]);
    assert_eq!(twice(told().put(1, 1).delete(), Some((1, 1)), None), []);
    assert_eq!(twice(told().put(1, 1).doubtful_put(2), Some((2, 2)), Some((1, 1))), [], "it was never acknowledged");
    let at_once = told().put(1, 2).put(2, 1).overlapping();
    assert_eq!(twice(at_once, Some((1, 2)), Some((2, 1))), [Kind::WentBack], "by version");
}

#[test]
fn too_little_proves_nothing() {
    let least = Least { upserts: 1, deletes: 1, batches: 1, session_reads: 1, other_reads: 1, seen_at_last: 1 };
    let terms = Terms { late: LATE, least };
    let kinds = |told: Told| check(&told.history, &terms).into_iter().map(|found| found.kind).collect::<Vec<_>>();
    assert_eq!(kinds(told()), [Kind::TooLittle; 6]);
    let doubtful = told().doubtful_put(1).reads(2, Promise::Everything, &[("k", None)]);
    assert_eq!(kinds(doubtful), [Kind::TooLittle; 6], "nothing of it was acknowledged");
    let enough = told().put(1, 1).delete().batch(2).reads(2, Promise::Session, &[]).reads(2, Promise::Something, &[]);
    assert_eq!(kinds(enough.reads(2, Promise::Everything, &[("a", Some((2, 1))), ("b", Some((2, 1)))])), []);
}
