//! What a history shows that must not be.

use std::fmt;

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub kind: Kind,
    /// Of which entry, or of what there was too little.
    pub subject: String,
    /// What was seen.
    pub told: String,
}

/// Promises that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An acknowledged write is not there, and nothing came after it.
    Lost,
    /// An entry that was deleted is back.
    Undeleted,
    /// An entry holds what nobody wrote.
    Phantom,
    /// An entry holds what was told not to have been written.
    RefusedYetDone,
    /// A batch is there in part.
    HalfBatch,
    /// A write was done more than once: the versions of an entry grew by more than there were writes.
    Doubled,
    /// Versions of an entry do not follow the order of its writes.
    Order,
    /// A session does not see what it wrote.
    OwnWriteUnseen,
    /// A session sees an entry older than it saw it before.
    WentBack,
    /// So little happened that nothing follows from it.
    TooLittle,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Undeleted => "deleted and back",
            Self::Phantom => "never written",
            Self::RefusedYetDone => "refused and done",
            Self::HalfBatch => "half a batch",
            Self::Doubled => "done more than once",
            Self::Order => "versions out of order",
            Self::OwnWriteUnseen => "own write unseen",
            Self::WentBack => "session went back",
            Self::TooLittle => "too little happened",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind, self.subject, self.told)
    }
}
