//! Moves of shards, driven by the leader: what to do next is `atoll-core`'s to say, here it is done. `docs/moves.md` is the protocol.
//!
//! - [`Mover`] drives every open move, on the leader.

mod drive;
mod mover;
mod pauses;

pub use mover::Mover;
