//! Rebalancing: what to move is `atoll-core`'s to say, here plans are made, kept and carried out.
//!
//! - [`Rebalancer`] makes plans and keeps the last of them, on every coordinator.
//! - [`PlanRunner`] begins the moves of the plan that is being carried out, on the leader.
//! - [`Scheduler`] begins plans at the times of the schedule, on the leader.

mod planner;
mod runner;
mod scheduler;

pub use planner::{KeptPlan, Rebalancer};
pub use runner::PlanRunner;
pub use scheduler::Scheduler;
