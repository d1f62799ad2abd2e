//! A move in a world that breaks: leaders that were replaced and do not know, servers that crash and lose what was not flushed,
//! messages that come late, twice or never, writers with old views. Seeded: a seed is a history. The oracle looks at what was
//! acknowledged, and tests prove that it notices rules which are broken on purpose.

mod servers;
mod world;

use world::{Broken, World};

const SEEDS: u64 = 2_000;
/// Until a broken rule is noticed; most are in the first hundred.
const BROKEN_SEEDS: u64 = 50_000;

#[test]
fn whatever_breaks_nothing_is_lost_and_it_ends() {
    let (mut done, mut back) = (0, 0);
    for seed in 0..seeds() {
        match World::new(seed, None).run() {
            Ok(true) => done += 1,
            Ok(false) => back += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    // A simulation in which nothing happens proves nothing.
    assert!(done > seeds() / 4 && back > seeds() / 20, "{done} moves were done, {back} went back");
}

#[test]
fn every_broken_rule_is_noticed() {
    let mut unnoticed = Vec::new();
    for broken in Broken::ALL {
        let found = (0..BROKEN_SEEDS.max(seeds()))
            .find_map(|seed| World::new(seed, Some(broken)).run().err().map(|error| (seed, error)));
        match found {
            Some((seed, error)) => println!("{broken:?}: seed {seed}: {error}"),
            None => unnoticed.push(broken),
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}

fn seeds() -> u64 {
    std::env::var("ATOLL_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}
