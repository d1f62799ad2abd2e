//! Failover of groups, driven by the leader: what to do next is `atoll-core`'s to say, here it is done. Members are told the record and
//! answer how they are; when something follows from that, the record changes. `docs/failover.md` is the protocol.
//!
//! - [`Failover`] drives every group that has a record, on the leader.

mod driver;
mod drivers;
mod seen;

pub use drivers::Failover;
