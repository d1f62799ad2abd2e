//! Settling: when a collection is made, changed or dropped, the agents are told, and when every server that matters
//! matches, the catalog is told so.
//!
//! - [`decide()`] says which agents to tell and what is settled; no I/O.
//! - [`Settler`] does it, on the leader.
//! - [`wait_settled`] waits for it, on any coordinator.

mod decide;
mod settler;
mod wait;

pub use decide::{SettlePlan, decide, groups_that_matter};
pub use settler::Settler;
pub use wait::{SettleWait, wait_settled};
