//! How often groups changed their primary and how long they had none, as this coordinator saw it: for those who look at metrics.

use crate::agents::AgentBoard;
use crate::raft::CatalogNode;
use crate::telemetry::Metrics;
use atoll_core::catalog::Group;
use atoll_core::routing::RoutingTable;
use atoll_proto::group::Phase;
use atoll_proto::{Generation, GroupId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two looks at whom agents say to serve; agents are asked once a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Goes on in a task; dropping it ends it.
pub struct Gaps(JoinHandle<()>);

impl Gaps {
    /// Starts it.
    pub fn start(node: CatalogNode, board: AgentBoard, metrics: Metrics) -> Self {
        Self(tokio::spawn(watch(node, board, metrics)))
    }
}

impl Drop for Gaps {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is remembered of a group.
#[derive(Debug)]
struct Watched {
    /// The generation that was active last.
    active: Generation,
    /// When its primary was last known to serve.
    served_at: Instant,
    /// Since when there has been none, and whether somebody wanted that.
    gap: Option<(Instant, bool)>,
}

/// A gap that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    lasted: Duration,
    planned: bool,
}

impl Watched {
    fn new(active: Generation, now: Instant) -> Self {
        Self { active, served_at: now, gap: None }
    }

    /// Takes in how the group stands, and whether its primary is heard to serve.
    fn look(&mut self, active: Generation, phase: Phase, is_served: bool, now: Instant) -> Option<Ended> {
        match phase {
            Phase::Steady => {}
            // It served up to now.
            Phase::HandingOver { .. } => self.gap = self.gap.or(Some((now, true))),
            Phase::Fencing { .. } | Phase::Promoting { .. } => self.gap = self.gap.or(Some((self.served_at, false))),
        }
        if active == self.active {
            if is_served {
                self.served_at = now;
            }
            return None;
        }
        // Views may be skipped, so it may have been all over in between.
        let (since, planned) = self.gap.take().unwrap_or((self.served_at, false));
        (self.active, self.served_at) = (active, now);
        Some(Ended { lasted: now.saturating_duration_since(since), planned })
    }
}

async fn watch(node: CatalogNode, board: AgentBoard, metrics: Metrics) {
    let mut views = node.watch();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched: BTreeMap<GroupId, Watched> = BTreeMap::new();
    loop {
        let view = views.borrow_and_update().clone();
        look(&view, &board, &metrics, &mut watched);
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            _ = looks.tick() => {}
        }
    }
}

fn look(view: &RoutingTable, board: &AgentBoard, metrics: &Metrics, watched: &mut BTreeMap<GroupId, Watched>) {
    let now = Instant::now();
    watched.retain(|id, _| view.catalog.groups.contains_key(id));
    let replicated =
        |(id, group): (&GroupId, &'_ Group)| Some((*id, group.name.clone(), group.generation, group.record.clone()?));
    for (id, name, active, record) in view.catalog.groups.iter().filter_map(replicated) {
        let before = watched.entry(id).or_insert_with(|| Watched::new(active, now));
        if let Some(Ended { lasted, planned }) = before.look(active, record.phase, board.has_primary(&record), now) {
            let kind = if planned { "planned" } else { "lost" };
            metrics.failovers.with_label_values(&[name.as_str(), kind]).inc();
            metrics.without_primary_seconds.with_label_values(&[name.as_str(), kind]).observe(lasted.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::WorkerId;
    use atoll_proto::group::{Disk, Incarnation};

    const OTHER: Disk = Disk { worker: WorkerId(2), incarnation: Incarnation(1) };

    /// A group that is looked at, at milliseconds since it was first.
    fn looks(at: &[(u64, u64, Phase, bool)]) -> Vec<(u64, bool)> {
        let began = Instant::now();
        let mut watched = Watched::new(Generation(1), began);
        let look = |(ms, active, phase, is_served): &(u64, u64, Phase, bool)| {
            let ended = watched.look(Generation(*active), *phase, *is_served, began + Duration::from_millis(*ms))?;
            Some((u64::try_from(ended.lasted.as_millis()).unwrap(), ended.planned))
        };
        at.iter().filter_map(look).collect()
    }

    #[test]
    fn a_lost_primary_is_missed_since_it_was_last_heard_to_serve() {
        let fencing = Phase::Fencing { wish: None };
        let promoting = Phase::Promoting { candidate: OTHER };
        let steady = Phase::Steady;
        let ended = looks(&[
            (500, 1, steady, true),
            (1_000, 1, steady, false),
            (3_400, 1, fencing, false),
            (3_600, 1, promoting, false),
            (4_000, 2, steady, false),
            (4_500, 2, steady, true),
        ]);
        assert_eq!(ended, [(3_500, false)]);
    }

    #[test]
    fn a_planned_one_since_the_primary_began_to_stop() {
        let handing = Phase::HandingOver { to: OTHER };
        let fencing = Phase::Fencing { wish: Some(OTHER) };
        let ended = looks(&[
            (500, 1, Phase::Steady, true),
            (900, 1, handing, true),
            (1_500, 1, fencing, false),
            (2_000, 2, Phase::Steady, false),
        ]);
        assert_eq!(ended, [(1_100, true)]);
    }

    #[test]
    fn a_primary_that_is_only_not_heard_of_is_no_failover() {
        assert_eq!(looks(&[(500, 1, Phase::Steady, false), (9_000, 1, Phase::Steady, true)]), []);
        assert_eq!(
            looks(&[(500, 1, Phase::Steady, true), (800, 2, Phase::Steady, false)]),
            [(300, false)],
            "views were skipped"
        );
    }
}
