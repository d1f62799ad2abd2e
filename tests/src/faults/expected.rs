//! What may come of a cell: how the move ends, who may notice, and for how long at most. All of it follows from the protocol
//! (`docs/moves.md`); what the protocol promises is demanded.

use super::cell::{Cell, Deed, Fault, Moment, Victim};
use serde_json::Value;
use std::time::Duration;

/// Where nothing is broken that requests need: a fence makes writes wait, 3 s at most, and a request has 2 s.
const QUIET: Duration = Duration::from_secs(5);
/// A client that asks a coordinator that is stopped turns to another after 4 s.
const TURNED: Duration = Duration::from_secs(12);
/// Another leader is there in a second or two, and goes on with the fence or gives it up.
const LED_ANEW: Duration = Duration::from_secs(15);
/// What was killed is back in some seconds, longer if it was killed often; what was stopped goes on after 8 s, and a client may have waited
/// for it just then. A fence that meets it is given up sooner.
const BACK: Duration = Duration::from_secs(25);
/// Requests of one client that a coordinator takes with it: the one under way, and one that finds nobody before the client turns.
const TAKEN_ALONG: usize = 2;

/// How a move has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is done.
    Done,
    /// It is cancelled.
    Cancelled,
    /// It failed, because the copy was found to be another.
    FoundUnequal,
    /// It is done; or it failed, because the target was not back in time.
    DoneOrTargetLost,
}

/// Who may see requests fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Witnesses {
    /// Nobody: nothing is broken that requests need.
    Nobody,
    /// Who asked the coordinator that was broken, until it asked another.
    WhoAskedIt,
    /// Everybody, for a while.
    Everybody,
}

/// The longest that a client may be without a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gaps {
    pub(super) writes: Duration,
    pub(super) searches: Duration,
}

impl End {
    /// Whether a move that tells this has ended so.
    pub(super) fn is_told_by(self, told: &Value) -> bool {
        let failed =
            |why: &str| told["phase"] == "failed" && told["error"].as_str().is_some_and(|told| told.contains(why));
        let done = told["phase"] == "done" && told["error"].is_null();
        match self {
            Self::Done => done,
            Self::Cancelled => told["phase"] == "cancelled" && told["error"].is_null(),
            Self::FoundUnequal => failed("verification failed"),
            Self::DoneOrTargetLost => done || failed("the target was lost in the cut-over"),
        }
    }
}

impl Witnesses {
    /// Requests of one client that may fail; none where any number may.
    pub(super) fn failures_max(self) -> Option<usize> {
        match self {
            Self::Nobody => Some(0),
            Self::WhoAskedIt => Some(TAKEN_ALONG),
            Self::Everybody => None,
        }
    }
}

impl Cell {
    /// How the move has to end. What is broken comes back well before a move gives up what fails (60 times in a row, or for five minutes),
    /// so it gets where it was going. There is one impatient place: a target that has to step back while writers find no table is asked
    /// three times only, for some seconds, and then the shard goes back without it.
    pub(super) fn end(self) -> End {
        match (self.deed, self.moment) {
            (Deed::Meddle, _) => End::FoundUnequal,
            // The switch is the commit point.
            (Deed::Cancel, Moment::Switched | Moment::Cleaning) => End::Done,
            (Deed::Cancel, _) | (Deed::Break(..), Moment::Cancelling) => End::Cancelled,
            (Deed::Break(Victim::TargetAgent, _), Moment::Locked | Moment::Retiring | Moment::Retired | Moment::TakenOver)
            // Later its own name is on its disk, its agent can still say so, and nothing more is asked of it before the switch.
            | (Deed::Break(Victim::TargetPostgres, _), Moment::Locked | Moment::Retiring | Moment::Retired) => {
                End::DoneOrTargetLost
            }
            // Before the lock each order is given again. A source that is broken under the lock or after it is waited for, as it alone
            // has the shard's tables, or is not needed any more. A leader has a successor in every moment.
            (Deed::Break(..), _) => End::Done,
        }
    }

    /// Who may notice. Agents are not in the way of requests, the leader is as any coordinator, and the target has nothing to do with
    /// them until it owns the shard; but in the cut-over writers wait for all of them.
    pub(super) fn witnesses(self) -> Witnesses {
        let Deed::Break(victim, _) = self.deed else { return Witnesses::Nobody };
        match (victim, self.moment) {
            (Victim::SourceAgent | Victim::TargetAgent, moment) if !moment.is_in_cut_over() => Witnesses::Nobody,
            (Victim::TargetPostgres, moment) if !moment.is_in_cut_over() && !moment.is_past_switch() => {
                Witnesses::Nobody
            }
            // A record later than the switch, so that coordinators know it.
            (Victim::SourcePostgres, Moment::Cleaning) => Witnesses::Nobody,
            (Victim::Leader, Moment::Cleaning) => Witnesses::WhoAskedIt,
            (Victim::Leader, moment) if !moment.is_in_cut_over() && !moment.is_past_switch() => Witnesses::WhoAskedIt,
            (
                Victim::Leader
                | Victim::SourcePostgres
                | Victim::SourceAgent
                | Victim::TargetPostgres
                | Victim::TargetAgent,
                _,
            ) => Witnesses::Everybody,
        }
    }

    /// The longest gaps. Far more than was ever seen on two slow cores, and less than what hangs until something is given up.
    pub(super) fn longest_gaps(self) -> Gaps {
        let writes = match (self.deed, self.witnesses()) {
            (Deed::Cancel | Deed::Meddle, _) | (_, Witnesses::Nobody) => QUIET,
            (Deed::Break(_, Fault::Kill), Witnesses::WhoAskedIt) => QUIET,
            (Deed::Break(_, Fault::Stop), Witnesses::WhoAskedIt) => TURNED,
            (Deed::Break(Victim::Leader, _), Witnesses::Everybody) => LED_ANEW,
            (Deed::Break(..), Witnesses::Everybody) => BACK,
        };
        let searches = match (self.deed, self.moment) {
            // Reads go on under the lock.
            (Deed::Break(Victim::SourceAgent | Victim::TargetAgent | Victim::TargetPostgres, _), Moment::Locked) => {
                QUIET
            }
            _ => writes,
        };
        Gaps { writes, searches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use serde_json::json;

    const BEFORE_LOCK: [Moment; 5] =
        [Moment::Preparing, Moment::Copying, Moment::Indexing, Moment::CatchingUp, Moment::Verifying];

    fn broken(moment: Moment, victim: Victim, fault: Fault) -> Cell {
        Cell { moment, deed: Deed::Break(victim, fault) }
    }

    fn breaks(wanted: impl Fn(Moment, Victim) -> bool) -> impl Iterator<Item = Cell> {
        Cell::all()
            .into_iter()
            .filter(move |cell| matches!(cell.deed, Deed::Break(victim, _) if wanted(cell.moment, victim)))
    }

    #[test]
    fn a_leader_that_is_lost_costs_no_move() {
        let mut leaders = breaks(|moment, victim| victim == Victim::Leader && moment != Moment::Cancelling);
        assert!(leaders.all(|cell| cell.end() == End::Done));
    }

    #[test]
    fn before_the_lock_whatever_comes_back_is_waited_for() {
        assert!(breaks(|moment, _| BEFORE_LOCK.contains(&moment)).all(|cell| cell.end() == End::Done));
    }

    #[test]
    fn only_a_target_in_the_cut_over_is_given_up() {
        let given_up: Vec<String> = Cell::all()
            .into_iter()
            .filter(|cell| cell.end() == End::DoneOrTargetLost)
            .map(|cell| cell.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let mut expected = Vec::new();
        for moment in ["locked", "retiring", "retired"] {
            for victim in ["target-postgres", "target-agent"] {
                expected.extend(["kill", "stop"].map(|fault| format!("{moment} {fault} {victim}")));
            }
        }
        expected.extend(["kill", "stop"].map(|fault| format!("taken-over {fault} target-agent")));
        assert_eq!(given_up, expected);
    }

    #[test]
    fn what_is_cancelled_or_altered_ends_so() {
        for moment in Moment::value_variants().iter().copied().filter(|moment| *moment != Moment::Cancelling) {
            let end = if moment.is_past_switch() { End::Done } else { End::Cancelled };
            assert_eq!(Cell { moment, deed: Deed::Cancel }.end(), end);
        }
        assert!(breaks(|moment, _| moment == Moment::Cancelling).all(|cell| cell.end() == End::Cancelled));
        assert_eq!(Cell { moment: Moment::CatchingUp, deed: Deed::Meddle }.end(), End::FoundUnequal);
    }

    #[test]
    fn an_end_is_told_by_phase_and_reason() {
        let told = |phase: &str, error: Option<&str>| json!({"phase": phase, "error": error});
        let lost =
            told("failed", Some("the target was lost in the cut-over, and writers could not wait for it: refused"));
        let hangs = told("failed", Some("an agent does not do its part"));
        let unequal = told("failed", Some("verification failed: table t differs"));
        let (done, cancelled) = (told("done", None), told("cancelled", None));
        let all = [&done, &cancelled, &lost, &hangs, &unequal];
        let tellers = |end: End| all.map(|told| end.is_told_by(told));
        assert_eq!(tellers(End::Done), [true, false, false, false, false]);
        assert_eq!(tellers(End::Cancelled), [false, true, false, false, false]);
        assert_eq!(tellers(End::DoneOrTargetLost), [true, false, true, false, false]);
        assert_eq!(tellers(End::FoundUnequal), [false, false, false, false, true]);
        assert!(!End::Cancelled.is_told_by(&json!({"phase": "cancelled", "error": "why?"})));
    }

    #[test]
    fn agents_are_noticed_in_the_cut_over_only() {
        let agents = || breaks(|_, victim| matches!(victim, Victim::SourceAgent | Victim::TargetAgent));
        assert!(agents().all(|cell| (cell.witnesses() == Witnesses::Nobody) != cell.moment.is_in_cut_over()));
        assert!(Cell::all().into_iter().filter(|cell| !matches!(cell.deed, Deed::Break(..))).all(|cell| {
            cell.witnesses() == Witnesses::Nobody && cell.longest_gaps() == Gaps { writes: QUIET, searches: QUIET }
        }));
    }

    #[test]
    fn servers_are_noticed_by_those_whom_they_serve() {
        let noticed = |moment, victim| broken(moment, victim, Fault::Kill).witnesses();
        for moment in BEFORE_LOCK {
            assert_eq!(noticed(moment, Victim::SourcePostgres), Witnesses::Everybody);
            assert_eq!(noticed(moment, Victim::TargetPostgres), Witnesses::Nobody);
            assert_eq!(noticed(moment, Victim::Leader), Witnesses::WhoAskedIt);
        }
        for moment in [Moment::Switched, Moment::Cleaning] {
            assert_eq!(noticed(moment, Victim::TargetPostgres), Witnesses::Everybody);
        }
        assert_eq!(noticed(Moment::Cleaning, Victim::SourcePostgres), Witnesses::Nobody);
        assert_eq!(noticed(Moment::Retired, Victim::Leader), Witnesses::Everybody);
        assert_eq!(Witnesses::Everybody.failures_max(), None);
        assert!(Witnesses::Nobody.failures_max() < Witnesses::WhoAskedIt.failures_max());
    }

    #[test]
    fn gaps_follow_the_fault_and_are_shorter_than_a_hang() {
        let gaps = |moment, victim, fault| broken(moment, victim, fault).longest_gaps();
        let same = |gap| Gaps { writes: gap, searches: gap };
        assert_eq!(gaps(Moment::Copying, Victim::SourceAgent, Fault::Stop), same(QUIET));
        assert_eq!(gaps(Moment::Copying, Victim::SourcePostgres, Fault::Kill), same(BACK));
        assert_eq!(gaps(Moment::Switched, Victim::TargetPostgres, Fault::Stop), same(BACK));
        assert_eq!(gaps(Moment::Copying, Victim::Leader, Fault::Kill), same(QUIET));
        assert_eq!(gaps(Moment::Copying, Victim::Leader, Fault::Stop), same(TURNED));
        assert_eq!(gaps(Moment::Retired, Victim::Leader, Fault::Stop), same(LED_ANEW));
        let locked = gaps(Moment::Locked, Victim::TargetAgent, Fault::Stop);
        assert_eq!(locked, Gaps { writes: BACK, searches: QUIET });
        let hang = Duration::from_secs(30);
        assert!(Cell::all().into_iter().map(Cell::longest_gaps).all(|gaps| gaps.writes < hang && gaps.searches < hang));
    }
}
