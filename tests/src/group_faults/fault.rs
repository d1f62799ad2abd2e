//! What is done to a group.

use std::fmt;
use std::time::Duration;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupFault {
    /// Processes are killed or stopped.
    Break(Victim, Blow),
    /// The primary is cut off from others.
    Cut(Cut),
    /// Both standbys die, the primary takes writes that nobody acknowledges, and dies. The standbys come back without it, then it does.
    Unacknowledged,
    /// Every worker and every coordinator is stopped in an orderly way and started again, one after the other.
    RollingRestart,
}

/// Whose processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// Of the group's primary.
    Primary(Part),
    /// Of a standby.
    Standby(Part),
    /// The coordinator that leads.
    Leader,
    /// That one, and all of the primary.
    LeaderAndPrimary,
}

/// Which processes of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// PostgreSQL's, all of them.
    Server,
    /// The agent's.
    Agent,
    /// Both.
    Host,
}

/// What is done to processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL. They are started again when another has taken over.
    Kill,
    /// SIGSTOP, and SIGCONT when another has taken over.
    Stop,
}

/// From whom the primary is cut off: which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Those from coordinators and to them.
    Coordinators,
    /// Those from coordinators.
    FromCoordinators,
    /// Those to coordinators.
    ToCoordinators,
    /// Those from standbys and to them.
    Standbys,
    /// Those from standbys.
    FromStandbys,
    /// Those to standbys.
    ToStandbys,
    /// All.
    Everybody,
}

/// How long writers may wait, by what is wanted of the product. It depends on the machine too, so it is told and does not fail a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// The longest gap of any trial.
    pub worst: Duration,
    /// The median of the trials' longest gaps.
    pub median: Duration,
}

/// When a process dies.
const DIES: Bar = Bar { worst: Duration::from_secs(2), median: Duration::from_secs(1) };
/// When a host falls silent.
const SILENT: Bar = Bar { worst: Duration::from_secs(5), median: Duration::from_secs(3) };

impl GroupFault {
    /// All of them. The restart comes first: what is started by the trials can be cut off, see `wires`.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::RollingRestart];
        let parts = [Part::Server, Part::Agent, Part::Host];
        for blow in [Blow::Kill, Blow::Stop] {
            all.extend(parts.map(|part| Self::Break(Victim::Primary(part), blow)));
            all.extend([Part::Server, Part::Agent].map(|part| Self::Break(Victim::Standby(part), blow)));
            all.extend([Victim::Leader, Victim::LeaderAndPrimary].map(|victim| Self::Break(victim, blow)));
        }
        all.push(Self::Unacknowledged);
        let both = [Cut::Coordinators, Cut::Standbys, Cut::Everybody];
        let one_way = [Cut::FromCoordinators, Cut::ToCoordinators, Cut::FromStandbys, Cut::ToStandbys];
        all.extend(both.into_iter().chain(one_way).map(Self::Cut));
        all
    }

    /// Whether another member has to take over before it ends. A server that dies alone is started again by its agent, maybe before anybody
    /// takes over.
    pub fn needs_failover(self) -> bool {
        match self {
            Self::Break(Victim::Primary(Part::Server), Blow::Kill)
            | Self::Break(Victim::Standby(_) | Victim::Leader, _)
            | Self::RollingRestart => false,
            Self::Break(Victim::Primary(_) | Victim::LeaderAndPrimary, _) | Self::Cut(_) | Self::Unacknowledged => true,
        }
    }

    /// How long writers may wait; none where nothing is wanted.
    pub fn bar(self) -> Option<Bar> {
        match self {
            // Two at once: another leader has to be found before another primary.
            Self::Break(Victim::LeaderAndPrimary, _) | Self::Break(Victim::Leader, Blow::Stop) => None,
            Self::Break(_, Blow::Kill) => Some(DIES),
            Self::Break(_, Blow::Stop) | Self::Cut(_) => Some(SILENT),
            Self::Unacknowledged | Self::RollingRestart => None,
        }
    }
}

impl fmt::Display for GroupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Part| match part {
            Part::Server => "server",
            Part::Agent => "agent",
            Part::Host => "host",
        };
        let name = match self {
            Self::Break(victim, blow) => {
                let victim = match victim {
                    Victim::Primary(of) => format!("primary-{}", part(of)),
                    Victim::Standby(of) => format!("standby-{}", part(of)),
                    Victim::Leader => "leader".to_owned(),
                    Victim::LeaderAndPrimary => "leader-and-primary".to_owned(),
                };
                format!("{}-{victim}", if *blow == Blow::Kill { "kill" } else { "stop" })
            }
            Self::Cut(Cut::Coordinators) => "cut-coordinators".to_owned(),
            Self::Cut(Cut::FromCoordinators) => "cut-from-coordinators".to_owned(),
            Self::Cut(Cut::ToCoordinators) => "cut-to-coordinators".to_owned(),
            Self::Cut(Cut::Standbys) => "cut-standbys".to_owned(),
            Self::Cut(Cut::FromStandbys) => "cut-from-standbys".to_owned(),
            Self::Cut(Cut::ToStandbys) => "cut-to-standbys".to_owned(),
            Self::Cut(Cut::Everybody) => "cut-everybody".to_owned(),
            Self::Unacknowledged => "unacknowledged-writes".to_owned(),
            Self::RollingRestart => "rolling-restart".to_owned(),
        };
        f.pad(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_faults_have_the_same_name() {
        let all = GroupFault::all();
        let names: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.contains("stop-leader-and-primary") && names.contains("kill-standby-agent"), "{names:?}");
    }
}
