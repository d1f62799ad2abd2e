//! Which namespaces one import adds so many rows to that their graphs should go until it is over: see [`atoll_proto::load`].
//!
//! A row inserted into a graph costs about a millisecond, a row of a build about a third. What an import still brings is not known, so it pays
//! row by row until it has paid about half of what building the namespace's graph anew costs, and then has the graph dropped.
//! That is never much worse than the best choice would have been, and small imports leave graphs alone.

use atoll_proto::load::{LoadedTable, TOLD_FROM_ROWS};
use atoll_proto::{CollectionName, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// So few new rows are inserted row by row in any case.
const LOAD_FROM_ROWS: u64 = 2_000;
/// A load adds at least the namespace's rows divided by this.
const LOAD_DIVISOR: u64 = 4;
/// Most namespaces that are counted; beyond, those with few rows are forgotten.
const COUNTED_MAX: usize = 10_000;
/// Most namespaces that are told as loaded, of one shard: far more than may have graphs.
const LOADED_MAX: usize = 100;

/// What one import has changed so far.
#[derive(Debug, Clone, Default)]
pub struct Loads {
    /// Rows changed in each namespace.
    changed: BTreeMap<(ShardId, String), u64>,
    shards: BTreeMap<ShardId, Shard>,
}

#[derive(Debug, Clone, Default)]
struct Shard {
    changed: u64,
    loaded: BTreeSet<String>,
}

impl Loads {
    /// A batch was committed: so many of its rows changed what was stored, and `namespaces` says to which namespace each row of the
    /// batch belongs. `rows` tells how many rows a namespace has. True if a namespace has become a load.
    pub fn committed<'a>(
        &mut self,
        shard: ShardId,
        namespaces: impl Iterator<Item = &'a str>,
        changed: u64,
        rows: impl Fn(&str) -> u64,
    ) -> bool {
        let mut of_batch: BTreeMap<&str, u64> = BTreeMap::new();
        for namespace in namespaces {
            *of_batch.entry(namespace).or_default() += 1;
        }
        let batch_rows: u64 = of_batch.values().sum();
        let of_shard = self.shards.entry(shard).or_default();
        of_shard.changed += changed;
        let mut is_news = false;
        for (namespace, count) in of_batch {
            // Which rows changed is not known: they are taken to lie evenly.
            let share = (changed * count).div_ceil(batch_rows.max(1));
            let total = self.changed.entry((shard, namespace.to_owned())).or_default();
            *total += share;
            let is_load = *total >= LOAD_FROM_ROWS && *total >= rows(namespace) / LOAD_DIVISOR;
            if is_load && of_shard.loaded.len() < LOADED_MAX {
                is_news |= of_shard.loaded.insert(namespace.to_owned());
            }
        }
        self.forget_small();
        is_news
    }

    /// The tables of `shards` that the import writes to, each with the namespaces that it loads.
    pub fn loading(&self, collection: &CollectionName, shards: &BTreeSet<ShardId>) -> Vec<LoadedTable> {
        self.tables(collection, shards, |shard| !shard.loaded.is_empty())
    }

    /// The tables of `shards` that have to be counted when the import is over.
    pub fn ended(&self, collection: &CollectionName, shards: &BTreeSet<ShardId>) -> Vec<LoadedTable> {
        self.tables(collection, shards, |shard| shard.changed >= TOLD_FROM_ROWS)
    }

    /// Shards that it has changed anything in.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.shards.keys().copied()
    }

    fn tables(
        &self,
        collection: &CollectionName,
        shards: &BTreeSet<ShardId>,
        is_wanted: impl Fn(&Shard) -> bool,
    ) -> Vec<LoadedTable> {
        let wanted = self.shards.iter().filter(|(id, shard)| shards.contains(id) && is_wanted(shard));
        let table = |(id, shard): (&ShardId, &Shard)| LoadedTable {
            shard: *id,
            collection: collection.clone(),
            namespaces: shard.loaded.iter().cloned().collect(),
        };
        wanted.map(table).collect()
    }

    /// An import may have millions of namespaces: all are halved until few enough are left, so those with many rows stay.
    fn forget_small(&mut self) {
        while self.changed.len() > COUNTED_MAX {
            self.changed.retain(|_, rows| {
                *rows /= 2;
                *rows > 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const SHARD: ShardId = ShardId(3);

    fn add(loads: &mut Loads, namespaces: &[&str], changed: u64, rows: u64) -> bool {
        loads.committed(SHARD, namespaces.iter().copied(), changed, |_| rows)
    }

    fn loaded(loads: &Loads) -> Vec<String> {
        let shards = loads.shards().collect();
        loads.loading(&"c".parse().unwrap(), &shards).into_iter().flat_map(|table| table.namespaces).collect()
    }

    #[test]
    fn a_load_adds_much_and_much_of_what_is_there() {
        let mut loads = Loads::default();
        let batch = ["a"; 1_000];
        assert!(!add(&mut loads, &batch, 1_000, 0));
        assert!(add(&mut loads, &batch, 1_000, 0), "2,000 rows into a namespace that had none");
        assert!(!add(&mut loads, &batch, 1_000, 0), "told once");
        assert_eq!(loaded(&loads), ["a"]);

        let mut loads = Loads::default();
        let told = (1..=4).map(|_| add(&mut loads, &batch, 1_000, 16_000));
        assert_eq!(told.collect::<Vec<_>>(), [false, false, false, true], "a quarter of 16,000");
    }

    #[test]
    fn what_was_there_already_loads_nothing() {
        let mut loads = Loads::default();
        for _ in 0..100 {
            assert!(!add(&mut loads, &["a"; 1_000], 0, 0));
        }
        assert!(loads.ended(&"c".parse().unwrap(), &BTreeSet::from([SHARD])).is_empty(), "nothing to count anew");
    }

    #[test]
    fn what_changed_is_shared_out_over_the_batch() {
        let mut loads = Loads::default();
        let batch: Vec<&str> = (0..1_000).map(|n| if n % 4 == 0 { "few" } else { "many" }).collect();
        for _ in 0..3 {
            add(&mut loads, &batch, 1_000, 0);
        }
        assert_eq!(loaded(&loads), ["many"]);
        let elsewhere = loads.loading(&"c".parse().unwrap(), &BTreeSet::from([ShardId(9)]));
        assert!(elsewhere.is_empty());
        assert_eq!(loads.ended(&"c".parse().unwrap(), &BTreeSet::from([SHARD])).len(), 1);
    }

    proptest! {
        // Each takes a while: they must have more namespaces than are counted.
        #![proptest_config(ProptestConfig::with_cases(4))]

        #[test]
        fn memory_is_bounded_and_the_large_are_found(small in 10_000_usize..21_000, every in 2_usize..20) {
            let mut loads = Loads::default();
            let names: Vec<String> = (0..small).map(|n| format!("n{n}")).collect();
            for names in names.chunks(500) {
                let mut batch: Vec<&str> = names.iter().map(String::as_str).collect();
                batch.extend(["large"; 500].iter().take(10_000 / every));
                add(&mut loads, &batch, batch.len() as u64, 0);
                prop_assert!(loads.changed.len() <= COUNTED_MAX);
            }
            for _ in 0..4 {
                add(&mut loads, &["large"; 500], 500, 0);
            }
            prop_assert_eq!(loaded(&loads), ["large"]);
        }
    }
}
