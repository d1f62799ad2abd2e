//! What clients asked for and were told, when, and whether servers that keep their promises can have answered so. Pure: who asks and who
//! breaks things is elsewhere.
//!
//! Each write has a number of its own, which is what it leaves in its entries. So whatever is read names the write that it is of, and
//! there is no doubt about what came first where one write was over before the other began.

mod check;
#[cfg(test)]
mod check_tests;
mod key;
mod violation;

pub use check::{Least, Terms, check};
pub use violation::{Kind, Violation};

use std::collections::BTreeMap;
use std::time::Duration;

/// One operation of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The session that it belongs to: one client, one operation after the other, with the token of the one before.
    pub session: u64,
    /// When it was sent, since the history began.
    pub invoked: Duration,
    /// When the answer came, or was given up.
    pub ended: Duration,
    /// What it was.
    pub deed: Deed,
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// It changed entries: one, or those of a batch, which all get the same content.
    Write(Write),
    /// It looked at entries.
    Read(Read),
}

/// A write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The entries. Entries of a batch are written by batches of the same entries only.
    pub keys: Vec<String>,
    /// What they shall hold: the write's number; or nothing, they are deleted.
    pub content: Option<u64>,
    /// What the client was told.
    pub outcome: Outcome,
}

/// What a writer was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done; the versions of its entries, where they have one, in the order of its keys.
    Done(Vec<i64>),
    /// It was not done, and will not be.
    Refused,
    /// Nobody knows. It may be done later, but not for ever: see [`Terms::late`].
    Unknown,
}

/// A look at some entries, all at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// What it promises to show.
    pub promise: Promise,
    /// What it showed; none for an entry that was looked for and not there.
    pub seen: BTreeMap<String, Option<Seen>>,
}

/// What a read promises to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Everything that was acknowledged before it: nothing is broken any more.
    Everything,
    /// What its session wrote and saw before.
    Session,
    /// What somebody wrote.
    Something,
}

/// What an entry was seen to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The number of the write that it is of.
    pub content: u64,
    /// Its version.
    pub version: i64,
}
