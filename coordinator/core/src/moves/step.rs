//! What to do next about a move, by its record and by what this driver has seen since the phase began.
//!
//! A driver that knows nothing (a new leader) may always begin a phase's work anew: every order can be given again. Read top to
//! bottom, [`next_step`] is the protocol.

use super::job::{Advance, Cleanup, MoveJob};
use atoll_proto::moves::{MovePhase, MoveReport, MoveWork, TableSum};

/// A copy that answers a marker within this time is close behind, in milliseconds.
const CLOSE_BEHIND_MS: u64 = 500;
/// A copy that is not close behind after so long will never be, in milliseconds.
const CATCH_UP_MS_MAX: u64 = 60 * 60 * 1_000;
/// Pauses before a fence is tried again grow up to this, in milliseconds.
const BACK_OFF_MS_MAX: u64 = 10_000;
/// Verifications, or fences, that are given up before the move is given up.
const ATTEMPTS_MAX: u32 = 20;
/// Failures in a row, of any order, before the move is given up.
const FAILURES_MAX: u32 = 60;
/// The same in milliseconds: of a host that says nothing each takes long.
const FAILING_MS_MAX: u64 = 5 * 60 * 1_000;
/// What one of them adds to that at most: an order that has got far counts as any other.
const FAILED_MS_MAX: u64 = 30_000;
/// Failures in a row before what a dead server holds is left for later.
const CLEANUP_FAILURES_MAX: u32 = 30;
/// Failures in a row before the other server is asked to clean up.
const FAILURES_OF_A_TURN: u32 = 3;
/// Failures in a row of a target that is to step back, while writers find no table, before the shard goes back to the source without it.
const STEP_BACK_FAILURES_MAX: u32 = 3;
/// Searches that were under way at the switch may read the old copy for so long, in milliseconds.
const DROP_AFTER_MS: u64 = 3_000;

/// One of the two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The group that owns the shard until the switch.
    Source,
    /// The group that owns it from then on.
    Target,
}

/// What a driver has seen since the phase began. All of it may be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Orders that are done.
    pub done: Vec<MoveWork>,
    /// The marker written last.
    pub marker: Option<u64>,
    /// How long it took until the target had that marker, in milliseconds.
    pub arrived_after_ms: Option<u64>,
    /// The source's sums, as of the marker.
    pub source_sums: Option<Vec<TableSum>>,
    /// The target's sums, as of the marker; none if it could not stop there.
    pub target_sums: Option<Vec<TableSum>>,
    /// PostgreSQL's number of the subscription.
    pub subscription: Option<u32>,
    /// How long the phase has taken, in milliseconds.
    pub phase_ms: u64,
    /// Failures in a row.
    pub failures: u32,
    /// How long these took together, in milliseconds.
    pub failing_ms: u64,
    /// Whether the marker had not arrived when it was first looked for.
    pub late: bool,
    /// What failed last.
    pub last_failure: Option<String>,
    /// Whether it is its turn, and all collections are settled.
    pub may_begin: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Give an order.
    Order(Side, MoveWork),
    /// Begin a phase.
    Record(MovePhase, Advance),
    /// Note that something is gone.
    Cleaned(Cleanup),
    /// Look again after so long, in milliseconds.
    Wait {
        /// How long.
        ms: u64,
    },
    /// Nothing is left to do.
    End,
}

impl Observed {
    /// Notes what became of an order that took so long.
    pub fn note(&mut self, work: MoveWork, report: MoveReport, took_ms: u64) {
        let MoveReport { done, marker, sums, waits, held_ms: _, subscription } = report;
        self.last_failure = waits.or(self.last_failure.take());
        (self.failures, self.failing_ms) = (0, 0);
        if !done {
            self.late |= matches!(work, MoveWork::Await { .. });
            return;
        }
        match work {
            MoveWork::Mark | MoveWork::Fence { .. } => {
                (self.marker, self.arrived_after_ms, self.late) = (marker, None, false);
            }
            // The time of one order is that of the marker only if it was the first.
            MoveWork::Await { .. } => self.arrived_after_ms = Some(if self.late { u64::MAX } else { took_ms }),
            MoveWork::Sum => (self.marker, self.source_sums) = (marker, sums),
            MoveWork::SumAt { .. } => self.target_sums = sums,
            MoveWork::Receive => self.subscription = subscription,
            MoveWork::Feed
            | MoveWork::Copied
            | MoveWork::Index
            | MoveWork::Warm
            | MoveWork::Hold
            | MoveWork::Retire
            | MoveWork::TakeOver { .. }
            | MoveWork::Restore
            | MoveWork::StepBack
            | MoveWork::RemoveSubscription
            | MoveWork::DropCopy
            | MoveWork::RemoveFeed
            | MoveWork::DropRetired => {}
        }
        self.done.push(work);
    }

    /// Notes that an order failed, or may have, after so long.
    pub fn failed(&mut self, work: MoveWork, reason: String, took_ms: u64) {
        if work == MoveWork::Warm {
            // A cold copy is as good, and only slower at first.
            return self.done.push(work);
        }
        self.failures += 1;
        self.failing_ms += took_ms.min(FAILED_MS_MAX);
        self.late |= matches!(work, MoveWork::Await { .. });
        self.last_failure = Some(reason);
    }

    fn has(&self, work: MoveWork) -> bool {
        self.done.contains(&work)
    }
}

/// What to do next about a move.
pub fn next_step(job: &MoveJob, seen: &Observed) -> Step {
    if job.phase.may_be_cancelled() && (seen.failures >= FAILURES_MAX || seen.failing_ms >= FAILING_MS_MAX) {
        return give_up(seen.last_failure.clone().unwrap_or_else(|| "an agent does not do its part".to_owned()));
    }
    match job.phase {
        MovePhase::Planned if seen.may_begin => begin(MovePhase::Preparing),
        MovePhase::Planned => Step::Wait { ms: 200 },
        MovePhase::Preparing => {
            let work = [(Side::Source, MoveWork::Feed), (Side::Target, MoveWork::Receive)];
            let brings = Advance { subscription: seen.subscription, ..Advance::default() };
            first_not_done(seen, &work).unwrap_or(Step::Record(MovePhase::Copying, brings))
        }
        MovePhase::Copying => {
            first_not_done(seen, &[(Side::Target, MoveWork::Copied)]).unwrap_or_else(|| begin(MovePhase::Indexing))
        }
        MovePhase::Indexing => {
            let work = [(Side::Target, MoveWork::Index), (Side::Target, MoveWork::Warm)];
            first_not_done(seen, &work).unwrap_or_else(|| begin(MovePhase::CatchingUp))
        }
        MovePhase::CatchingUp => catching_up(job, seen),
        MovePhase::Verifying => verifying(seen),
        MovePhase::Fencing => fencing(job, seen),
        MovePhase::Switching => begin(MovePhase::Cleaning),
        MovePhase::Cleaning if seen.failures >= CLEANUP_FAILURES_MAX => begin(MovePhase::Done),
        MovePhase::Cleaning => cleaning(job, seen).unwrap_or_else(|| begin(MovePhase::Done)),
        MovePhase::Done => cleaning(job, seen).unwrap_or(Step::End),
        MovePhase::Cancelling => cancelling(job, seen),
        MovePhase::Cancelled | MovePhase::Failed => going_back(job, seen).unwrap_or(Step::End),
    }
}

fn begin(phase: MovePhase) -> Step {
    Step::Record(phase, Advance::default())
}

fn give_up(error: String) -> Step {
    Step::Record(MovePhase::Cancelling, Advance { error: Some(error), ..Advance::default() })
}

fn first_not_done(seen: &Observed, work: &[(Side, MoveWork)]) -> Option<Step> {
    work.iter().find(|(_, work)| !seen.has(*work)).map(|(side, work)| Step::Order(*side, *work))
}

fn catching_up(job: &MoveJob, seen: &Observed) -> Step {
    if job.may_be_retired() {
        if seen.failures >= STEP_BACK_FAILURES_MAX && !seen.has(MoveWork::StepBack) {
            let why = seen.last_failure.as_deref().unwrap_or("no answer");
            return give_up(format!("the target was lost in the cut-over, and writers could not wait for it: {why}"));
        }
        // The source last: from then on writes go to it again, and what they write has to find the copy under its name.
        let work = [(Side::Target, MoveWork::StepBack), (Side::Source, MoveWork::Restore)];
        return first_not_done(seen, &work).unwrap_or(Step::Cleaned(Cleanup::Retired));
    }
    if job.attempts >= ATTEMPTS_MAX {
        let (attempts, pause_ms) = (job.attempts, job.max_write_pause_ms);
        return give_up(match job.verified {
            false => format!("verification was given up {attempts} times: something holds the tables"),
            true => format!(
                "the cut-over was given up {attempts} times: something holds the tables, or writes would wait longer than {pause_ms} ms"
            ),
        });
    }
    if seen.phase_ms > CATCH_UP_MS_MAX {
        return give_up("the copy does not catch up; see the target's PostgreSQL log".to_owned());
    }
    let pause_ms = match job.attempts {
        0 => 0,
        attempts => (100 << attempts.min(10)).min(BACK_OFF_MS_MAX),
    };
    if seen.phase_ms < pause_ms {
        return Step::Wait { ms: pause_ms - seen.phase_ms };
    }
    match (seen.marker, seen.arrived_after_ms) {
        (None, _) => Step::Order(Side::Source, MoveWork::Mark),
        (Some(marker), None) => Step::Order(Side::Target, MoveWork::Await { marker }),
        (Some(_), Some(ms)) if ms > CLOSE_BEHIND_MS => Step::Order(Side::Source, MoveWork::Mark),
        (Some(_), Some(_)) if job.verified => begin(MovePhase::Fencing),
        (Some(_), Some(_)) => begin(MovePhase::Verifying),
    }
}

fn verifying(seen: &Observed) -> Step {
    if seen.failures > 0 {
        // Both sides have to look at one marker: every marker of this try has to have arrived before the next.
        return begin(MovePhase::CatchingUp);
    }
    if !seen.has(MoveWork::Hold) {
        return Step::Order(Side::Target, MoveWork::Hold);
    }
    let (Some(marker), Some(source)) = (seen.marker, &seen.source_sums) else {
        return Step::Order(Side::Source, MoveWork::Sum);
    };
    let Some(target) = &seen.target_sums else {
        return Step::Order(Side::Target, MoveWork::SumAt { marker });
    };
    match difference(source, target) {
        None => {
            let rows = Some(source.iter().map(|table| table.rows).sum());
            Step::Record(MovePhase::Fencing, Advance { rows, ..Advance::default() })
        }
        Some(difference) => give_up(difference),
    }
}

/// What differs between two sides, for people.
fn difference(source: &[TableSum], target: &[TableSum]) -> Option<String> {
    let (mut source, mut target) = (source.to_vec(), target.to_vec());
    source.sort();
    target.sort();
    if source == target {
        return None;
    }
    let differs =
        source.iter().find(|one| !target.contains(one)).or(target.iter().find(|one| !source.contains(one)))?;
    let rows = |sums: &[TableSum]| {
        let found = sums.iter().find(|one| one.table == differs.table);
        found.map_or_else(|| "no table".to_owned(), |one| format!("{} rows", one.rows))
    };
    let (theirs, ours) = (rows(&source), rows(&target));
    Some(format!("verification failed: table {} differs ({theirs} on the source, {ours} on the target)", differs.table))
}

fn fencing(job: &MoveJob, seen: &Observed) -> Step {
    if seen.failures > 0 || seen.phase_ms > u64::from(job.max_write_pause_ms) {
        // Recorded before any name is put back: an entry that would switch is refused from then on.
        return begin(MovePhase::CatchingUp);
    }
    let Some(marker) = seen.marker else {
        return Step::Order(Side::Source, MoveWork::Fence { pause_ms: job.max_write_pause_ms });
    };
    let work = [
        (Side::Target, MoveWork::Await { marker }),
        (Side::Source, MoveWork::Retire),
        (Side::Target, MoveWork::TakeOver { marker }),
    ];
    first_not_done(seen, &work).unwrap_or_else(|| begin(MovePhase::Switching))
}

fn cleaning(job: &MoveJob, seen: &Observed) -> Option<Step> {
    let on_target = [(Cleanup::Subscription, MoveWork::RemoveSubscription)];
    let on_source = [(Cleanup::Feed, MoveWork::RemoveFeed), (Cleanup::Retired, MoveWork::DropRetired)];
    let step = first_to_go(job, seen, &on_target, &on_source)?;
    if step == Step::Order(Side::Source, MoveWork::DropRetired) && seen.phase_ms < DROP_AFTER_MS {
        return Some(Step::Wait { ms: DROP_AFTER_MS - seen.phase_ms });
    }
    Some(step)
}

fn cancelling(job: &MoveJob, seen: &Observed) -> Step {
    let over = match &job.error {
        Some(_) => MovePhase::Failed,
        None => MovePhase::Cancelled,
    };
    if !job.may_be_retired() && seen.failures >= CLEANUP_FAILURES_MAX {
        // A server does not answer. What it holds stays on the record, and nobody else waits for it.
        return begin(over);
    }
    going_back(job, seen).unwrap_or_else(|| begin(over))
}

fn going_back(job: &MoveJob, seen: &Observed) -> Option<Step> {
    if job.may_be_retired() {
        return Some(gone(seen, Cleanup::Retired, Side::Source, MoveWork::Restore));
    }
    // The subscription before the feed: as long as it is there, it makes slots.
    let on_target = [(Cleanup::Subscription, MoveWork::RemoveSubscription), (Cleanup::Copy, MoveWork::DropCopy)];
    first_to_go(job, seen, &on_target, &[(Cleanup::Feed, MoveWork::RemoveFeed)])
}

/// What to remove next: of the target, and then of the source; by turns when one does not answer, so that it holds up only its own.
fn first_to_go(
    job: &MoveJob,
    seen: &Observed,
    on_target: &[(Cleanup, MoveWork)],
    on_source: &[(Cleanup, MoveWork)],
) -> Option<Step> {
    let first = |side: Side, wanted: &[(Cleanup, MoveWork)]| {
        let (cleanup, work) = wanted.iter().find(|(cleanup, _)| job.cleanups.contains(cleanup))?;
        Some(gone(seen, *cleanup, side, *work))
    };
    let (target, source) = (first(Side::Target, on_target), first(Side::Source, on_source));
    if let Some(done) = [&target, &source].into_iter().flatten().find(|step| matches!(step, Step::Cleaned(_))) {
        return Some(done.clone());
    }
    match (seen.failures / FAILURES_OF_A_TURN).is_multiple_of(2) {
        true => target.or(source),
        false => source.or(target),
    }
}

fn gone(seen: &Observed, cleanup: Cleanup, side: Side, work: MoveWork) -> Step {
    match seen.has(work) {
        true => Step::Cleaned(cleanup),
        false => Step::Order(side, work),
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
