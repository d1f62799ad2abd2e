//! What happens to a move, and when.

use clap::ValueEnum;
use std::fmt;

/// A moment of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Moment {
    /// The source can be subscribed to, the target has nothing yet.
    Preparing,
    /// Some rows are copied.
    Copying,
    /// The first index is there, others are not.
    Indexing,
    /// A marker is awaited.
    CatchingUp,
    /// The target waits for the marker at which both sides are summed up.
    Verifying,
    /// The source holds its lock, and nobody was told.
    Locked,
    /// The source was told to rename, and has not.
    Retiring,
    /// The source is renamed, and nobody was told.
    Retired,
    /// The target has its own name, and nobody was told.
    TakenOver,
    /// The leader is about to make the target the owner.
    BeforeSwitch,
    /// The target owns the shard, nothing is cleaned up.
    Switched,
    /// The feed is about to be removed.
    Cleaning,
    /// The move was cancelled, and the feed is about to be removed.
    Cancelling,
}

/// A part of the cluster that a move needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Victim {
    /// The coordinator that leads.
    Leader,
    /// PostgreSQL of the group that gives the shard away.
    SourcePostgres,
    /// Its agent.
    SourceAgent,
    /// PostgreSQL of the group that takes it over.
    TargetPostgres,
    /// Its agent.
    TargetAgent,
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// SIGKILL, to a server with all its children.
    Kill,
    /// SIGSTOP, and SIGCONT eight seconds later.
    Stop,
}

/// What happens in the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A process is killed or stopped.
    Break(Victim, Fault),
    /// Somebody cancels the move.
    Cancel,
    /// Somebody alters a row of the copy.
    Meddle,
}

/// A moment, and what happens in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// When.
    pub moment: Moment,
    /// What.
    pub deed: Deed,
}

impl Moment {
    /// The step that is held meanwhile, by the name that agents and leaders know it by; a copy is made slow instead.
    pub(super) fn step(self) -> &'static str {
        match self {
            Self::Preparing => "before-receive",
            Self::Copying => "subscribe",
            Self::Indexing => "index",
            Self::CatchingUp => "before-await",
            Self::Verifying => "before-sum",
            Self::Locked => "after-fence",
            Self::Retiring => "before-retire",
            Self::Retired => "after-retire",
            Self::TakenOver => "after-take_over",
            Self::BeforeSwitch => "record-switching",
            Self::Switched => "record-cleaning",
            Self::Cleaning | Self::Cancelling => "before-remove_feed",
        }
    }

    /// Whether the target owns the shard.
    pub fn is_past_switch(self) -> bool {
        matches!(self, Self::Switched | Self::Cleaning)
    }

    /// Whether writers wait: from the lock on, until the target owns the shard.
    pub(super) fn is_in_cut_over(self) -> bool {
        matches!(self, Self::Locked | Self::Retiring | Self::Retired | Self::TakenOver | Self::BeforeSwitch)
    }
}

impl Cell {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for moment in Moment::value_variants() {
            for victim in Victim::value_variants() {
                for fault in Fault::value_variants() {
                    all.push(Self { moment: *moment, deed: Deed::Break(*victim, *fault) });
                }
            }
            if *moment != Moment::Cancelling {
                all.push(Self { moment: *moment, deed: Deed::Cancel });
            }
        }
        all.push(Self { moment: Moment::CatchingUp, deed: Deed::Meddle });
        all
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = name(self.moment);
        match self.deed {
            Deed::Break(victim, fault) => write!(f, "{moment:<14}{:<6}{:<16}", name(fault), name(victim)),
            Deed::Cancel => write!(f, "{moment:<14}{:<22}", "cancel"),
            Deed::Meddle => write!(f, "{moment:<14}{:<22}", "meddle"),
        }
    }
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is left out").get_name().to_owned()
}
