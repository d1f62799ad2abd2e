//! The hash ring. Which shard a namespace belongs to is a promise to every cluster ever made: hasher, bytes and the number of
//! points are frozen by golden vectors below, and named in the catalog.

use atoll_proto::{Namespace, ShardId};
use hashring::HashRing;
use std::hash::{BuildHasher, Hash, Hasher};
use xxhash_rust::xxh3::Xxh3;

/// Name of hasher, bytes and points; stands in the catalog of each cluster.
pub const HASH_FUNCTION: &str = "xxh3-64/v1";
/// Points of each shard on the ring: 256 spread 100,000 namespaces over 12 shards with a deviation of 6 %.
pub const VNODES_PER_SHARD: u32 = 256;

/// Namespaces onto shards, the same for every coordinator and for ever.
#[derive(Clone)]
pub struct ShardRing {
    ring: HashRing<VirtualPoint, Xxh3Build>,
    shard_count: u32,
}

impl ShardRing {
    /// The ring of a cluster with `shard_count` shards, at least one.
    pub fn new(shard_count: u32) -> Self {
        let mut ring = HashRing::with_hasher(Xxh3Build);
        let points =
            (0..shard_count.max(1)).flat_map(|shard| (0..VNODES_PER_SHARD).map(move |i| VirtualPoint { shard, i }));
        ring.batch_add(points.collect());
        Self { ring, shard_count: shard_count.max(1) }
    }

    /// How many shards there are.
    pub fn shard_count(&self) -> u32 {
        self.shard_count
    }

    /// The shard of a namespace.
    pub fn shard_of(&self, namespace: &Namespace) -> ShardId {
        self.shard_of_bytes(namespace.as_str().as_bytes())
    }

    /// The shard of any bytes: for what must live somewhere without being a namespace.
    pub fn shard_of_bytes(&self, bytes: &[u8]) -> ShardId {
        let point = self.ring.get(&RoutingKey(bytes)).expect("a ring of at least one shard is never empty");
        ShardId(point.shard)
    }
}

impl std::fmt::Debug for ShardRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ShardRing({} shards, {HASH_FUNCTION})", self.shard_count)
    }
}

#[derive(Clone, Copy)]
struct VirtualPoint {
    shard: u32,
    i: u32,
}

impl Hash for VirtualPoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One write of explicit bytes: nothing here rests on how std hashes integers, tuples or strings.
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.shard.to_le_bytes());
        bytes[4..].copy_from_slice(&self.i.to_le_bytes());
        state.write(&bytes);
    }
}

struct RoutingKey<'a>(&'a [u8]);

impl Hash for RoutingKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

#[derive(Clone, Copy)]
struct Xxh3Build;

impl BuildHasher for Xxh3Build {
    type Hasher = Xxh3;
    fn build_hasher(&self) -> Xxh3 {
        Xxh3::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn shard(ring: &ShardRing, name: &str) -> u32 {
        ring.shard_of(&Namespace::parse(name).unwrap()).0
    }

    #[test]
    fn the_hash_is_the_specified_one() {
        assert_eq!(xxhash_rust::xxh3::xxh3_64(b"tenant-1"), 0x6201_1ddf_6cec_20c3);
        assert_eq!(Xxh3Build.hash_one(RoutingKey(b"tenant-1")), 0x6201_1ddf_6cec_20c3);
        let point = VirtualPoint { shard: 7, i: 3 };
        assert_eq!(Xxh3Build.hash_one(point), xxhash_rust::xxh3::xxh3_64(&[7, 0, 0, 0, 3, 0, 0, 0]));
    }

    /// These never change: a cluster's data lies where they say.
    #[test]
    fn golden_vectors() {
        let names =
            ["a", "b", "tenant-1", "tenant-2", "noun.animal", "noun.Tops", "verb.weather", "team-a:x", "user_42", "0"];
        let golden = |shards| names.map(|name| shard(&ShardRing::new(shards), name));
        assert_eq!(golden(12), GOLDEN_12);
        assert_eq!(golden(64), GOLDEN_64);
        assert_eq!(golden(1), [0; 10]);
    }

    const GOLDEN_12: [u32; 10] = [9, 1, 1, 0, 6, 9, 1, 7, 6, 7];
    const GOLDEN_64: [u32; 10] = [37, 1, 39, 0, 13, 14, 53, 7, 45, 51];

    #[test]
    fn namespaces_spread_evenly() {
        let ring = ShardRing::new(12);
        let mut counts = [0_u32; 12];
        for i in 0..20_000 {
            counts[shard(&ring, &format!("tenant-{i}")) as usize] += 1;
        }
        let mean = 20_000.0 / 12.0;
        for count in counts {
            assert!((f64::from(count) / mean - 1.0).abs() < 0.25, "{counts:?}");
        }
    }

    proptest! {
        #[test]
        fn routing_is_total_and_stable(name in "[A-Za-z0-9_.:-]{1,128}", shards in 1_u32..40) {
            let namespace = Namespace::parse(&name).unwrap();
            let first = ShardRing::new(shards).shard_of(&namespace);
            prop_assert!(first.0 < shards);
            prop_assert_eq!(first, ShardRing::new(shards).shard_of(&namespace));
        }

        #[test]
        fn one_more_shard_takes_from_others_and_shuffles_nothing(name in "[a-z]{1,20}", shards in 1_u32..40) {
            let namespace = Namespace::parse(&name).unwrap();
            let before = ShardRing::new(shards).shard_of(&namespace);
            let after = ShardRing::new(shards + 1).shard_of(&namespace);
            prop_assert!(after == before || after.0 == shards);
        }
    }
}
