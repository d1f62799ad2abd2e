//! Decides which of the work on graphs is begun now. Takes values and the time, returns values.
//!
//! - PostgreSQL builds or drops one index of a table at a time: whoever is second waits for the first, and would only hold a place.
//! - So builds go side by side on different tables, as many as there are places, those of the largest namespaces first.
//! - A build that is done but for others' transactions takes neither cores nor memory, and holds no place: concurrent builds of
//!   partial indexes wait for each other's snapshots at their ends, and a long one would keep every place taken by short ones.
//! - Dropping costs nothing, and holds no place.
//! - Each of them has a connection, waiting or not, and there are few: of those that coordinators leave on a server most.
//! - What failed is tried again later, each time twice as late, and holds nothing else up.

use crate::status::TableKey;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Builds at a time for each place, most of which only wait.
const CROWD: usize = 4;
/// Builds and drops at a time, whatever the places. With what the agent has open beside them that is fewer connections than the 20
/// that coordinators leave to others.
const BUILDS_MAX: usize = 8;
const DROPS_MAX: usize = 4;
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// A statement to carry out by itself, outside any transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The table.
    pub table: TableKey,
    /// Its schema.
    pub schema: String,
    /// The index.
    pub index: String,
    /// Whose graph it is.
    pub namespace: String,
    /// What is done.
    pub doing: Doing,
    /// The statement that does it.
    pub statement: String,
}

/// What is done to a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It is built, over so many rows.
    Build {
        /// Rows of the namespace, as counted last.
        rows: u64,
    },
    /// It is dropped.
    Drop,
}

/// What is under way, as far as it matters to what may be begun.
#[derive(Debug, Clone, Copy)]
pub struct UnderWay<'a> {
    /// Schema and table: it is nobody else's meanwhile.
    pub table: (&'a str, &'a TableKey),
    /// Whether it builds.
    pub builds: bool,
    /// Whether it only waits for others.
    pub waits: bool,
}

/// Which of `works` may be begun, by their places in it. `places` is how many builds may work at once.
pub fn next(
    works: &[Work],
    under_way: &[UnderWay<'_>],
    failures: &Failures,
    places: usize,
    now: Instant,
) -> Vec<usize> {
    let mut taken: BTreeSet<(&str, &TableKey)> = under_way.iter().map(|one| one.table).collect();
    let building = under_way.iter().filter(|one| one.builds).count();
    let working = under_way.iter().filter(|one| one.builds && !one.waits).count();
    let crowd = places.saturating_mul(CROWD).min(BUILDS_MAX);
    let mut builds_left = places.saturating_sub(working).min(crowd.saturating_sub(building));
    let mut drops_left = DROPS_MAX.saturating_sub(under_way.len() - building);
    let mut order: Vec<usize> = (0..works.len()).collect();
    order.sort_by_key(|place| match works[*place].doing {
        Doing::Drop => (0, 0),
        Doing::Build { rows } => (1, u64::MAX - rows),
    });
    let mut begun = Vec::new();
    for place in order {
        let work = &works[place];
        let left = match work.doing {
            Doing::Build { .. } => &mut builds_left,
            Doing::Drop => &mut drops_left,
        };
        let table = (work.schema.as_str(), &work.table);
        if *left > 0 && !taken.contains(&table) && !failures.holds_back(work, now) {
            *left -= 1;
            taken.insert(table);
            begun.push(place);
        }
    }
    begun
}

/// Whether a build, of which this share is done, has to make way for imports that load these namespaces: until a graph of theirs is
/// gone each row is inserted into it, and its drop needs the lock of the table. `works` is what is to be done. One of another
/// namespace that is past half stays, or imports one after the other would have it begin again and again.
pub fn makes_way(build: &Work, share: f64, loading: &HashMap<TableKey, BTreeSet<String>>, works: &[Work]) -> bool {
    let Some(loaded) = loading.get(&build.table) else { return false };
    let is_waiting_drop =
        |work: &Work| work.doing == Doing::Drop && work.table == build.table && loaded.contains(&work.namespace);
    loaded.contains(&build.namespace) || (share <= 0.5 && works.iter().any(is_waiting_drop))
}

/// What failed lately.
#[derive(Debug, Default)]
pub struct Failures(HashMap<Attempt, Failure>);

/// Schema, index, and whether it was built: what a failed build left is dropped with success, and that is not its success.
type Attempt = (String, String, bool);

#[derive(Debug, Clone, Copy)]
struct Failure {
    times: u32,
    until: Instant,
}

impl Failures {
    /// It failed.
    pub fn note(&mut self, work: &Work, now: Instant) {
        self.0.retain(|_, failure| failure.until + RETRY_MAX > now);
        let failure = self.0.entry(attempt(work)).or_insert(Failure { times: 0, until: now });
        failure.until = now + RETRY_MIN.saturating_mul(1 << failure.times.min(16)).min(RETRY_MAX);
        failure.times += 1;
    }

    /// It succeeded.
    pub fn forget(&mut self, work: &Work) {
        self.0.remove(&attempt(work));
    }

    /// Whether it failed and it is too early to try again.
    pub fn holds_back(&self, work: &Work, now: Instant) -> bool {
        self.0.get(&attempt(work)).is_some_and(|failure| failure.until > now)
    }
}

fn attempt(work: &Work) -> Attempt {
    (work.schema.clone(), work.index.clone(), matches!(work.doing, Doing::Build { .. }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::ShardId;

    fn work(shard: u32, namespace: &str, doing: Doing) -> Work {
        Work {
            table: (Some(ShardId(shard)), "c".parse().unwrap()),
            schema: format!("s{shard:04}_g1"),
            index: format!("_ns_1_{namespace}"),
            namespace: namespace.to_owned(),
            doing,
            statement: String::new(),
        }
    }

    fn build(shard: u32, namespace: &str, rows: u64) -> Work {
        work(shard, namespace, Doing::Build { rows })
    }

    fn under_way(work: &Work, waits: bool) -> UnderWay<'_> {
        let builds = matches!(work.doing, Doing::Build { .. });
        UnderWay { table: (&work.schema, &work.table), builds, waits }
    }

    fn begun(works: &[Work], under_way: &[UnderWay<'_>], places: usize) -> Vec<String> {
        let chosen = next(works, under_way, &Failures::default(), places, Instant::now());
        chosen.into_iter().map(|place| works[place].namespace.clone()).collect()
    }

    #[test]
    fn the_largest_are_built_first_and_one_at_a_time_of_a_table() {
        let works = [build(1, "a", 9), build(1, "b", 10), build(2, "c", 3), build(3, "d", 8)];
        assert_eq!(begun(&works, &[], 2), ["b", "d"]);
        let running = build(3, "x", 1);
        assert_eq!(begun(&works, &[under_way(&running, false)], 2), ["b"]);
        assert_eq!(begun(&works, &[under_way(&running, false)], 3), ["b", "c"]);
    }

    #[test]
    fn a_build_that_waits_holds_its_table_and_no_place() {
        let works = [build(1, "a", 9), build(2, "b", 10)];
        let waiting = build(1, "x", 1);
        assert_eq!(begun(&works, &[under_way(&waiting, true)], 1), ["b"]);
        let crowd: Vec<Work> = (10..14).map(|shard| build(shard, "x", 1)).collect();
        let crowd: Vec<UnderWay<'_>> = crowd.iter().map(|work| under_way(work, true)).collect();
        assert!(begun(&works, &crowd, 1).is_empty(), "connections are limited too");
    }

    #[test]
    fn connections_are_few_however_many_places_there_are() {
        let shards = || (0..100).map(|shard| build(shard, "a", 9));
        let works: Vec<Work> = shards().chain((100..200).map(|shard| work(shard, "b", Doing::Drop))).collect();
        assert_eq!(begun(&works, &[], 32).len(), BUILDS_MAX + DROPS_MAX);
        let waiting: Vec<Work> = (200..206).map(|shard| build(shard, "x", 1)).collect();
        let waiting: Vec<UnderWay<'_>> = waiting.iter().map(|work| under_way(work, true)).collect();
        let builds: Vec<Work> = shards().collect();
        assert_eq!(begun(&builds, &waiting, 32).len(), BUILDS_MAX - waiting.len());
    }

    #[test]
    fn a_build_makes_way_for_the_load_of_its_own_namespace_and_early_on_for_the_drop_of_another() {
        let (loading, drop) =
            (HashMap::from([(build(1, "a", 1).table, BTreeSet::from(["a".to_owned()]))]), Doing::Drop);
        let (waiting, of_another) = ([work(1, "a", drop)], [work(1, "c", drop)]);
        let makes_way = |build: Work, share, works| super::makes_way(&build, share, &loading, works);
        assert!(makes_way(build(1, "a", 9), 1.0, &[]));
        assert!(makes_way(build(1, "b", 9), 0.5, &waiting));
        assert!(!makes_way(build(1, "b", 9), 0.6, &waiting), "nearly done");
        assert!(!makes_way(build(1, "b", 9), 0.1, &[]), "nothing to drop");
        assert!(!makes_way(build(1, "b", 9), 0.1, &of_another), "nobody loads what is dropped");
        assert!(!makes_way(build(2, "b", 9), 0.1, &waiting), "another table");
    }

    #[test]
    fn dropping_needs_no_place_but_its_table() {
        let works = [build(1, "a", 9), work(1, "b", Doing::Drop), work(2, "c", Doing::Drop)];
        let running = build(3, "x", 1);
        assert_eq!(begun(&works, &[under_way(&running, false)], 1), ["b", "c"]);
    }

    #[test]
    fn what_failed_waits_longer_each_time_and_holds_nothing_up() {
        let (works, now) = ([build(1, "bad", 10), build(1, "good", 9)], Instant::now());
        let mut failures = Failures::default();
        let first = |failures: &Failures, at| next(&works, &[], failures, 1, at);
        failures.note(&works[0], now);
        assert_eq!(first(&failures, now), [1]);
        assert_eq!(first(&failures, now + RETRY_MIN), [0]);
        failures.note(&works[0], now);
        assert_eq!(first(&failures, now + RETRY_MIN), [1]);
        for _ in 0..100 {
            failures.note(&works[0], now);
        }
        assert_eq!(first(&failures, now + RETRY_MAX), [0]);
        failures.forget(&works[0]);
        assert_eq!(first(&failures, now), [0]);
    }
}
