//! Whether an answer is new enough: one from the cache, by what is known of the writes since it was made, and one of a standby
//! ([`Wanted`]).
//!
//! **The rule.** An answer is made by a fan-out, and remembers two things from just before that began: the [`WriteMarks`] of
//! what it looked at ([`Seen`]), and up to which position each group asked was known to show all writes ([`Sight`]). It is kept only if
//! its marks were quiet then and are unchanged now, and given only while
//!
//! 1. its marks are unchanged: no write that could change it was sent by this coordinator since before its fan-out;
//! 2. it shows all that the request's [`SessionToken`] names: no write of this session, through whichever coordinator, is missing.
//!
//! Whatever else could make it another answer is in the key that it is kept under: the catalog's version and the whole request.
//!
//! So an answer is never older than any write that was acknowledged by the same coordinator before the request came, nor than any
//! write named by the token. What others wrote through other coordinators may be missing for as long as an answer is kept.
//!
//! Everything here is in the memory of one coordinator, the answers too: a crash takes all of it, and leaves nothing to be wrong.

mod marks;
mod session;
mod shown;
mod sight;

pub use marks::{MarkSet, Seen, WriteEnd, WriteMarks};
pub use session::{BadToken, Position, SessionToken};
pub use shown::{LogSpan, Shown, Wanted};
pub use sight::{KnownPositions, Sight};

/// What an answer was made from, remembered from just before its fan-out began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// The marks of what it looked at, which were quiet.
    pub seen: Seen,
    /// What it shows for certain.
    pub sight: Sight,
}

impl Basis {
    /// Whether an answer made from it may be given to a request with this token.
    pub fn holds(&self, marks: &WriteMarks, token: &SessionToken) -> bool {
        marks.unchanged(&self.seen) && self.sight.shows(token)
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.seen.bytes() + size_of_val(&*self.sight.groups)
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod model_tests;
