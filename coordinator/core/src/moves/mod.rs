//! Moves of shards between groups: what the catalog keeps of each ([`MoveJob`]), which phase may follow which, and what the leader's
//! driver does next ([`next_step`]). `docs/moves.md` is the protocol.

mod job;
#[cfg(test)]
#[path = "tests/mod.rs"]
mod simulation;
mod step;

pub use job::{Advance, Cleanup, MoveJob};
pub use step::{Observed, Side, Step, next_step};
