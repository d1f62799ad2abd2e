//! The agent's part in moves of shards: orders of the leader come in, and are carried out one after the other for each move. What is
//! held between two orders (a lock, a snapshot) is held here, and let go when this agent dies or it takes too long.

mod mover;
mod source;
mod target;
mod troubles;

pub use mover::{MoveError, Mover};
