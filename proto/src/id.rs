//! Identities handed out by the catalog. Each is a newtype, so that one cannot pass for another; all start at 1
//! (0 means "unset" and is never handed out), except shards, which are the slots of the ring and start at 0.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A slot of the hash ring: the unit of placement.
    ShardId,
    u32
);
number!(
    /// A coordinator, and its node in Raft. Never reused, also not after its disk was lost.
    CoordinatorId,
    u64
);
number!(
    /// A PostgreSQL server and its agent.
    WorkerId,
    u64
);
number!(
    /// Workers that hold the same data.
    GroupId,
    u64
);
number!(
    /// A collection. A name used again after a drop gets a new id.
    CollectionId,
    u64
);
number!(
    /// Fencing number of a placement or of a group. Only grows.
    Generation,
    u64
);
number!(
    /// Number of the last change of the catalog: the index of its entry in the Raft log.
    CatalogVersion,
    u64
);
number!(
    /// A move of a shard: the index of the log entry that began it.
    MoveId,
    u64
);
