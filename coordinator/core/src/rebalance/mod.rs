//! Where shards should lie: the first placement, before there is any data, and plans that move shards between groups, by measured
//! loads. Decided here, never done. [`RebalanceRun`] is a plan that is being carried out, as the catalog keeps it; [`due`] says when one
//! is begun by itself.

mod balance;
mod cost;
mod first_placement;
mod fullness;
mod plan;
mod policy;
mod report;
mod run;
mod schedule;
mod situation;

pub use first_placement::first_placement;
pub use plan::{Plan, ShardMove, plan};
pub use policy::Policy;
pub use run::{FAILURES_MAX, Fate, RebalanceRun, RunMove, Scheduled, Wish};
pub use schedule::{Due, LATE_SECONDS_MAX, Schedule, ScheduleError, due};
pub use situation::{GroupKnown, ShardKnown, ShardSize, Situation, Standing};
