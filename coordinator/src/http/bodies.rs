//! The memory that bodies of requests under way may take together. Writes that wait for a shard which is being handed over hold theirs,
//! so what waits is bounded in bytes too.

use crate::error::RequestError;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a permit stands for: their number is bounded, bytes may be more.
const PIECE_BYTES: usize = 1024;

/// The memory, in pieces.
#[derive(Debug, Clone)]
pub struct Bodies(Arc<Semaphore>);

/// A part of it, given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Held(Option<OwnedSemaphorePermit>);

impl Bodies {
    /// So many bytes in all.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes_max / PIECE_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    /// Makes `held` as large as a body of so many bytes needs; refused where others have taken too much.
    pub(super) fn hold(&self, held: &mut Held, bytes: usize) -> Result<(), RequestError> {
        let has = held.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(bytes.div_ceil(PIECE_BYTES).saturating_sub(has)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let taken = Arc::clone(&self.0).try_acquire_many_owned(more).map_err(|_| RequestError::Overloaded)?;
        match &mut held.0 {
            Some(permit) => permit.merge(taken),
            none => *none = Some(taken),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let bodies = Bodies::new(10 * PIECE_BYTES);
        let (mut one, mut other) = (Held::default(), Held::default());
        bodies.hold(&mut one, 6 * PIECE_BYTES - 1).unwrap();
        bodies.hold(&mut one, 6 * PIECE_BYTES).unwrap();
        assert!(bodies.hold(&mut other, 4 * PIECE_BYTES + 1).is_err(), "six pieces are held");
        bodies.hold(&mut other, 4 * PIECE_BYTES).unwrap();
        assert!(bodies.hold(&mut one, 6 * PIECE_BYTES + 1).is_err(), "it grew, and nothing is left");
        drop(one);
        bodies.hold(&mut other, 10 * PIECE_BYTES).unwrap();
    }
}
