//! A group in a world that breaks: leaders that were replaced and do not know, servers that crash and lose what was not flushed, disks
//! that are wiped, processes that stop and go on, links that are cut one way or both, messages that come late, twice or never, clients
//! with old views. Seeded: a seed is a history. The oracle looks at what was acknowledged, and tests prove that it notices rules
//! which are broken on purpose.

mod drivers;
mod faults;
mod oracle;
mod servers;
mod streaming;
mod world;

use world::{Broken, Happened, STUCK, World};

const SEEDS: u64 = 1_500;
/// Until a broken rule is noticed.
const BROKEN_SEEDS: u64 = 10_000;

#[test]
fn whatever_breaks_nothing_acknowledged_is_lost_and_it_heals() {
    let mut happened = Happened::default();
    for seed in 0..seeds() {
        match World::new(seed, None).run() {
            Ok(more) => happened.add(more),
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    println!("{} seeds: {happened:?}", seeds());
    // A simulation in which nothing happens proves nothing.
    let Happened {
        acknowledged,
        in_doubt,
        failovers,
        hand_overs,
        alone,
        joins,
        leaves,
        wiped,
        stamps,
        put_back,
        mended,
        slowest_heal_ms: _,
        needs_operator,
    } = happened;
    let enough = [(acknowledged, 50), (in_doubt, 5), (failovers, 1), (joins, 1)];
    assert!(needs_operator <= seeds() / 1_000, "{needs_operator}");
    assert!(stamps > seeds() && put_back > seeds() / 20, "{stamps} {put_back}");
    assert!(leaves > seeds() / 4 && alone > seeds() / 30, "{leaves} {alone}");
    assert!(enough.iter().all(|(seen, each)| *seen > each * seeds()), "{enough:?}");
    assert!(
        hand_overs > seeds() / 10 && wiped > seeds() / 10 && mended > seeds() / 10,
        "{hand_overs} {wiped} {mended}"
    );
}

#[test]
fn every_broken_rule_is_noticed() {
    let unnoticed: Vec<Broken> = Broken::ALL.into_iter().filter(|broken| !is_noticed(*broken)).collect();
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}

/// Not to heal is no proof: it has to be a write that is lost, or a second primary.
fn is_noticed(broken: Broken) -> bool {
    let unsafe_in = |seed| World::new(seed, Some(broken)).run().err().filter(|error| !error.starts_with(STUCK));
    let found = (0..BROKEN_SEEDS.max(seeds())).find_map(|seed| unsafe_in(seed).map(|error| (seed, error)));
    if let Some((seed, error)) = &found {
        println!("{broken:?}: seed {seed}: {error}");
    }
    found.is_some()
}

fn seeds() -> u64 {
    std::env::var("ATOLL_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}
