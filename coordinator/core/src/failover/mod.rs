//! Failover of a group: which worker is its primary, and who says so. What the catalog keeps ([`GroupRecord`]) and which change may
//! follow which, what the leader's driver does next ([`next_step`]), what each member does by the record it knows ([`act`]), and when a
//! primary is suspected ([`suspicion()`]). Decisions only, and not wired yet. `docs/failover.md` is the protocol.

mod in_sync;
mod member;
mod record;
#[cfg(test)]
#[path = "tests/mod.rs"]
mod simulation;
mod step;
mod suspicion;

pub use member::{Act, LEASE_MS, Server, Sight, act, takes};
pub use record::{Change, Disk, GroupRecord, Incarnation, Phase, Position};
pub use step::{Heard, Observed, Report, Step, next_step};
pub use suspicion::{Evidence, Suspicion, Word, suspicion};
