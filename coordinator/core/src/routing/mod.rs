//! From a namespace to the schema and the server that hold it.
//!
//! namespace → shard by the consistent hash ring ([`ShardRing`]), shard → group by the catalog's placements. Groups are never
//! on the ring: a new group moves nothing by itself.

mod ring;
mod table;

pub use ring::{HASH_FUNCTION, ShardRing, VNODES_PER_SHARD};
pub use table::{RoutingTable, ShardRoute, Standbys, WorkerRoute};
