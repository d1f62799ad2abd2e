//! Rebalancing: what to move is `atoll-core`'s to say, here plans are made, kept and carried out.
//!
//! - [`Rebalancer`] makes plans and keeps the last of them, on every coordinator.
//! - [`PlanRunner`] begins the moves of the plan that is being carried out, on the leader.

mod planner;
mod runner;

pub use planner::{KeptPlan, Rebalancer};
pub use runner::PlanRunner;
