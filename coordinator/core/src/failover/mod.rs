//! Failover of a group: which worker is its primary, and who says so. Which change of the catalog's record may follow which ([`changed`]),
//! what the leader's driver does next ([`next_step`]), when a primary is suspected ([`suspicion()`]), and what operators may have done
//! ([`switchover`], [`acceptance`]). What each member does by the record
//! is in [`atoll_proto::group`]. Decisions only. `docs/failover.md` is the protocol.

mod alone;
mod by_hand;
mod change;
mod cut_off;
mod in_sync;
#[cfg(test)]
#[path = "tests/mod.rs"]
mod simulation;
mod step;
mod suspicion;
#[cfg(test)]
mod testing;

pub use by_hand::{BEHIND_BYTES_MAX, Lately, NotByHand, acceptance, serves, switchover};
pub use change::{Change, changed};
pub use cut_off::CutOff;
pub use step::{Heard, Observed, Step, next_step};
pub use suspicion::{Evidence, Suspicion, Word, suspicion};
