//! The memory that bodies of requests under way may take together, streams aside. Writes that wait for a shard which is being handed
//! over hold theirs, so what waits is bounded in bytes too.

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
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

/// Why a body is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoBody {
    /// It is larger than bodies may be.
    TooLarge,
    /// Others have taken too much memory.
    Overloaded,
    /// The client went away, or what it sent cannot be decompressed.
    BrokeOff,
}

impl Bodies {
    /// So many bytes in all.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes_max.div_ceil(PIECE_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    /// Reads a body of `bytes_max` at most. What has come counts, not what was announced.
    pub(super) async fn read(&self, body: Body, bytes_max: usize) -> Result<(Bytes, Held), NoBody> {
        let (mut pieces, mut held, mut bytes) = (Vec::new(), Held::default(), 0);
        let mut stream = body.into_data_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|_| NoBody::BrokeOff)?;
            bytes += piece.len();
            if bytes > bytes_max {
                return Err(NoBody::TooLarge);
            }
            self.hold(&mut held, bytes)?;
            pieces.push(piece);
        }
        let whole = match pieces.len() {
            0 | 1 => pieces.pop().unwrap_or_default(),
            _ => Bytes::from(pieces.concat()),
        };
        Ok((whole, held))
    }

    /// Makes `held` as large as so many bytes need.
    fn hold(&self, held: &mut Held, bytes: usize) -> Result<(), NoBody> {
        let has = held.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(bytes.div_ceil(PIECE_BYTES).saturating_sub(has)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let taken = Arc::clone(&self.0).try_acquire_many_owned(more).map_err(|_| NoBody::Overloaded)?;
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
        Bodies::new(1_500).hold(&mut Held::default(), 1_500).unwrap();
    }
}
