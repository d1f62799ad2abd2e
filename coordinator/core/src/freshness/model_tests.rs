//! A model of everything that bears on the rule: one primary whose commits are flushed before they are visible, two coordinators
//! with a cache each, an agent, writers and searchers, in any order of their steps. No answer from a cache may lack a write that its
//! coordinator sent and that can be seen by now, acknowledged or not, nor one that the search's token names.
#![allow(clippy::unwrap_used)]

use super::*;
use atoll_proto::{CatalogVersion, CollectionName, Generation, GroupId, Lsn, Namespace};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const COORDINATORS: usize = 2;
const NAMESPACES: [&str; 2] = ["a", "b"];
const GROUP: GroupId = GroupId(1);
/// How long a write may be carried out after it was given up.
const LATE_MS: u64 = 150_000;

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Step {
    BeginWrite,
    Flush,
    Show,
    Acknowledge,
    GiveUp,
    BeginSearch,
    FanOut,
    Keep,
    Look,
    Deliver,
    WriteElsewhere,
    Wait,
}

/// Searches and looks are more frequent than writes, as what goes wrong goes wrong between two writes.
fn step() -> impl Strategy<Value = (Step, u8, u8)> {
    let what = prop_oneof![
        2 => Just(Step::BeginWrite),
        3 => Just(Step::Flush),
        1 => Just(Step::Show),
        3 => Just(Step::Acknowledge),
        1 => Just(Step::GiveUp),
        6 => Just(Step::BeginSearch),
        6 => Just(Step::FanOut),
        6 => Just(Step::Keep),
        6 => Just(Step::Look),
        6 => Just(Step::Deliver),
        1 => Just(Step::WriteElsewhere),
        1 => Just(Step::Wait),
    ];
    (what, any::<u8>(), any::<u8>())
}

/// A write's way. Steps are taken in this order; a coordinator may give up at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Sent,
    Flushed,
    Visible,
}

struct Write {
    coordinator: usize,
    namespace: usize,
    stage: Stage,
    /// When its coordinator gave up.
    given_up_ms: Option<u64>,
    /// The token that acknowledged it.
    acknowledged: Option<SessionToken>,
}

/// Of one namespace, or of all.
type Scope = Option<usize>;

struct Search {
    coordinator: usize,
    scope: Scope,
    basis: Option<Basis>,
    /// The writes that its fan-out saw.
    saw: Option<BTreeSet<usize>>,
}

/// An agent's look at its server, which takes two steps, and then is on its way.
enum Look {
    Position(u64),
    Whole(Lsn),
}

struct Coordinator {
    marks: WriteMarks,
    known: KnownPositions,
    cache: BTreeMap<Scope, (Basis, BTreeSet<usize>)>,
}

#[derive(Default)]
struct World {
    now_ms: u64,
    flushed: u64,
    writes: Vec<Write>,
    searches: Vec<Search>,
    looks: Vec<Look>,
    coordinators: Vec<Coordinator>,
    hits: usize,
}

fn collection() -> CollectionName {
    CollectionName::parse("c").unwrap()
}

fn wanted(scope: Scope) -> MarkSet {
    match scope {
        Some(i) => MarkSet::of_namespaces(&collection(), &[Namespace::parse(NAMESPACES[i]).unwrap()]),
        None => MarkSet::of_collection(&collection()),
    }
}

fn position(lsn: u64) -> Position {
    Position { generation: Generation(1), lsn: Lsn(lsn) }
}

impl World {
    fn new() -> Self {
        let coordinator = || Coordinator {
            marks: WriteMarks::new(LATE_MS),
            known: KnownPositions::default(),
            cache: BTreeMap::new(),
        };
        Self { coordinators: (0..COORDINATORS).map(|_| coordinator()).collect(), ..Self::default() }
    }

    fn step(&mut self, (what, which, detail): (Step, u8, u8)) {
        let (which, detail) = (usize::from(which), usize::from(detail));
        let coordinator = which % COORDINATORS;
        match what {
            Step::BeginWrite => self.begin_write(coordinator, detail % NAMESPACES.len()),
            Step::Flush => self.advance(which, Stage::Sent, Stage::Flushed),
            Step::Show => self.advance(which, Stage::Flushed, Stage::Visible),
            Step::Acknowledge => self.acknowledge(which),
            Step::GiveUp => self.give_up(which),
            Step::BeginSearch => self.begin_search(coordinator, detail),
            Step::FanOut => self.fan_out(which),
            Step::Keep => self.finish(which),
            Step::Look => self.look(which),
            Step::Deliver => self.deliver(which, detail % COORDINATORS),
            Step::WriteElsewhere => self.flushed += 1,
            Step::Wait => self.wait([10, 1_000, LATE_MS - 1, LATE_MS + 1][which % 4]),
        }
    }

    fn begin_write(&mut self, coordinator: usize, namespace: usize) {
        self.coordinators[coordinator].marks.begin(&MarkSet::of_write(&collection(), [NAMESPACES[namespace]]));
        let (given_up_ms, acknowledged) = (None, None);
        self.writes.push(Write { coordinator, namespace, stage: Stage::Sent, given_up_ms, acknowledged });
    }

    /// The server takes a step of a write. One that nobody waits for any more is not begun for ever.
    fn advance(&mut self, which: usize, from: Stage, to: Stage) {
        let now_ms = self.now_ms;
        let lives = |write: &Write| write.given_up_ms.is_none_or(|at| now_ms < at + LATE_MS);
        let ready = |write: &Write| write.stage == from && lives(write);
        let ready: Vec<usize> = (0..self.writes.len()).filter(|i| ready(&self.writes[*i])).collect();
        let Some(write) = which.checked_rem(ready.len()).map(|place| &mut self.writes[ready[place]]) else { return };
        write.stage = to;
        self.flushed += u64::from(to == Stage::Flushed);
    }

    /// Whatever was flushed becomes visible before much time has passed, and what was given up in the time that it has.
    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        let now_ms = self.now_ms;
        let is_over = |write: &Write| write.given_up_ms.is_some_and(|at| now_ms >= at + LATE_MS);
        let flushed = self.writes.iter_mut().filter(|write| write.stage == Stage::Flushed);
        let shown = flushed.filter(|write| ms > LATE_MS / 2 || is_over(write));
        shown.for_each(|write| write.stage = Stage::Visible);
    }

    fn acknowledge(&mut self, which: usize) {
        let open = |write: &Write| {
            write.stage == Stage::Visible && write.acknowledged.is_none() && write.given_up_ms.is_none()
        };
        let open: Vec<usize> = (0..self.writes.len()).filter(|i| open(&self.writes[*i])).collect();
        let Some(write) = which.checked_rem(open.len()).map(|place| &mut self.writes[open[place]]) else { return };
        let mut token = SessionToken::default();
        token.add(GROUP, position(self.flushed), CatalogVersion(1));
        write.acknowledged = Some(token);
        let Coordinator { marks, known, .. } = &mut self.coordinators[write.coordinator];
        known.learn(GROUP, position(self.flushed));
        let touched = MarkSet::of_write(&collection(), [NAMESPACES[write.namespace]]);
        marks.end(&touched, WriteEnd::Known, self.now_ms);
    }

    fn give_up(&mut self, which: usize) {
        let open = |write: &Write| write.acknowledged.is_none() && write.given_up_ms.is_none();
        let open: Vec<usize> = (0..self.writes.len()).filter(|i| open(&self.writes[*i])).collect();
        let Some(write) = which.checked_rem(open.len()).map(|place| &mut self.writes[open[place]]) else { return };
        write.given_up_ms = Some(self.now_ms);
        let touched = MarkSet::of_write(&collection(), [NAMESPACES[write.namespace]]);
        self.coordinators[write.coordinator].marks.end(&touched, WriteEnd::Unknown, self.now_ms);
    }

    fn begin_search(&mut self, coordinator: usize, detail: usize) {
        let scope = [Some(0), Some(1), None, None][detail % 4];
        let in_scope = |write: &Write| scope.is_none_or(|namespace| write.namespace == namespace);
        let named: Vec<&Write> = self.writes.iter().filter(|write| write.acknowledged.is_some()).collect();
        // With the token of some write, or with none.
        let named = (detail / 4).checked_rem(named.len() + 1).and_then(|place| named.get(place).copied());
        let token = named.and_then(|write| write.acknowledged.clone()).unwrap_or_default();
        let Coordinator { marks, known, cache } = &self.coordinators[coordinator];
        if let Some((basis, saw)) = cache.get(&scope).filter(|(basis, _)| basis.holds(marks, &token)) {
            self.hits += 1;
            for (number, write) in self.writes.iter().enumerate() {
                let own = write.stage == Stage::Visible && write.coordinator == coordinator;
                let named = named.is_some_and(|named| std::ptr::eq(named, write));
                if in_scope(write) && (own || named) {
                    assert!(
                        saw.contains(&number),
                        "write {number} is missing, which is own {own}, named {named}: {basis:?}"
                    );
                }
            }
            return;
        }
        let sight = known.sight(CatalogVersion(1), [GROUP]);
        let basis = marks.quiet(&wanted(scope), self.now_ms).map(|seen| Basis { seen, sight });
        self.searches.push(Search { coordinator, scope, basis, saw: None });
    }

    fn fan_out(&mut self, which: usize) {
        let waiting: Vec<usize> = (0..self.searches.len()).filter(|i| self.searches[*i].saw.is_none()).collect();
        let Some(place) = which.checked_rem(waiting.len()) else { return };
        let visible = (0..self.writes.len()).filter(|i| self.writes[*i].stage == Stage::Visible);
        self.searches[waiting[place]].saw = Some(visible.collect());
    }

    fn finish(&mut self, which: usize) {
        let answered: Vec<usize> = (0..self.searches.len()).filter(|i| self.searches[*i].saw.is_some()).collect();
        let Some(place) = which.checked_rem(answered.len()) else { return };
        let Search { coordinator, scope, basis, saw } = self.searches.swap_remove(answered[place]);
        let Coordinator { marks, cache, .. } = &mut self.coordinators[coordinator];
        if let Some(basis) = basis.filter(|basis| marks.unchanged(&basis.seen)) {
            cache.insert(scope, (basis, saw.unwrap()));
        }
    }

    /// An agent reads the position, and in a later step whether a transaction that writes is under way.
    fn look(&mut self, which: usize) {
        let under_way = self.writes.iter().any(|write| write.stage == Stage::Flushed);
        let begun: Vec<usize> = (0..self.looks.len()).filter(|i| matches!(self.looks[*i], Look::Position(_))).collect();
        match which.checked_rem(begun.len() + 1).and_then(|place| begun.get(place)) {
            Some(place) => {
                let Look::Position(lsn) = self.looks[*place] else { return };
                self.looks[*place] = Look::Whole(if under_way { Lsn(lsn) } else { Lsn(lsn).next() });
            }
            None => self.looks.push(Look::Position(self.flushed)),
        }
    }

    /// What an agent saw arrives, as late as may be, and maybe twice.
    fn deliver(&mut self, which: usize, coordinator: usize) {
        let Some(Look::Whole(lsn)) = which.checked_rem(self.looks.len()).map(|place| &self.looks[place]) else {
            return;
        };
        let position = Position { generation: Generation(1), lsn: *lsn };
        self.coordinators[coordinator].known.learn(GROUP, position);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]
    #[test]
    fn no_answer_from_a_cache_is_too_old(steps in proptest::collection::vec(step(), 0..300)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
    }
}

fn hits_after(steps: &[(Step, u8, u8)]) -> usize {
    let mut world = World::new();
    steps.iter().for_each(|step| world.step(*step));
    world.hits
}

#[test]
fn the_model_does_give_answers_from_the_cache() {
    use Step::{Acknowledge, BeginSearch, BeginWrite, Deliver, FanOut, Flush, Keep, Look, Show};
    let write = [(BeginWrite, 0, 0), (Flush, 0, 0), (Show, 0, 0), (Acknowledge, 0, 0)];
    let (search, again) = ([(BeginSearch, 0, 0), (FanOut, 0, 0), (Keep, 0, 0)], (BeginSearch, 0, 4));
    assert_eq!(hits_after(&[&search[..], &[again, again]].concat()), 2);
    assert_eq!(hits_after(&[&search[..], &write, &[again]].concat()), 0, "it was written to meanwhile");
    assert_eq!(hits_after(&[&write[..], &search, &[again]].concat()), 1);

    // With a token, through the other coordinator: only once an agent saw that the write was settled.
    let elsewhere = [(BeginSearch, 1, 0), (FanOut, 0, 0), (Keep, 0, 0), (BeginSearch, 1, 0)];
    assert_eq!(hits_after(&[&write[..], &elsewhere].concat()), 0);
    let looked = [(Look, 0, 0), (Look, 0, 0), (Deliver, 0, 1)];
    assert_eq!(hits_after(&[&write[..], &looked, &elsewhere].concat()), 1);
}

/// PostgreSQL flushes a commit and shows it later: who reads the position in between reads what the write's own reading will be.
#[test]
fn what_is_flushed_and_not_visible_is_not_taken_for_shown() {
    use Step::{Acknowledge, BeginSearch, BeginWrite, Deliver, FanOut, Flush, Keep, Look, Show};
    let write = [(BeginWrite, 0, 0), (Flush, 0, 0)];
    let looked = [(Look, 0, 0), (Look, 0, 0), (Deliver, 0, 1)];
    let search = [(BeginSearch, 1, 0), (FanOut, 0, 0), (Keep, 0, 0)];
    let acknowledged = [(Show, 0, 0), (Acknowledge, 0, 0)];
    assert_eq!(hits_after(&[&write[..], &looked, &search, &acknowledged, &[(BeginSearch, 1, 0)]].concat()), 0);
    // What was looked up after it was shown is as good as new.
    let all = [&write[..], &acknowledged, &looked, &search, &[(BeginSearch, 1, 0)]].concat();
    assert_eq!(hits_after(&all), 1);
}
