//! Drives one group: tells its members the record, remembers what they say, and proposes what the core says is next.

use super::knock::{Knock, knock};
use super::seen::Seen;
use crate::agents::AgentClient;
use crate::internal_client::CallError;
use crate::raft::{CatalogNode, ProposeError, Proposed};
use atoll_core::catalog::{Catalog, Command, Group, Outcome};
use atoll_core::failover::{Change, Step, next_step};
use atoll_proto::group::{Disk, GroupRecord, Phase, Report, ToldGroup};
use atoll_proto::{CatalogVersion, GroupId, WorkerId};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Members are told the record this often, and at once when it has changed.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// While there is no primary, or it may be down, each of these is a part of how long writers wait.
const TELL_SOON: Duration = Duration::from_millis(20);
/// For a sign of life of a server.
const KNOCK_WITHIN: Duration = Duration::from_millis(300);
/// Between two questions for one.
const KNOCK_EVERY: Duration = Duration::from_millis(100);
/// For a member's answer. The next question does not wait for it.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// For the catalog to take note.
const PROPOSE_WITHIN: Duration = Duration::from_secs(2);
/// Before something is proposed again that was not done.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a call came to.
enum Ended {
    /// A member's answer to what it was told at that time.
    Told(WorkerId, Instant, Result<Report, CallError>),
    /// What a server itself gave as a sign of life, when it was asked at that time.
    Knocked(Disk, Instant, Knock),
    /// A change that was proposed.
    Proposed(Change, Result<Proposed, ProposeError>),
}

/// What this driver knows beyond the catalog.
struct Driver {
    node: CatalogNode,
    agents: AgentClient,
    id: GroupId,
    seen: Seen,
    calls: JoinSet<Ended>,
    /// The record that members were told last, and when.
    told: Option<(CatalogVersion, Instant)>,
    /// Whether the primary is being asked for a sign of life, and when it may be next.
    knocking: bool,
    knock_at: Instant,
    /// Whether a change is on its way. Members are told and heard meanwhile: a primary waits for it.
    proposing: bool,
    /// Nothing is proposed before.
    patient_until: Instant,
}

/// Goes on until the group is gone, or there are no more views.
pub(super) async fn drive(node: CatalogNode, agents: AgentClient, id: GroupId, stamp_every: Duration) {
    let mut views = node.watch();
    let now = Instant::now();
    let mut driver = Driver {
        node,
        agents,
        id,
        seen: Seen::new(now, stamp_every),
        calls: JoinSet::new(),
        told: None,
        knocking: false,
        knock_at: now,
        proposing: false,
        patient_until: now,
    };
    loop {
        let catalog = views.borrow_and_update().catalog.clone();
        let Some((group, record)) = catalog.groups.get(&id).and_then(|group| Some((group, group.record.as_ref()?)))
        else {
            return;
        };
        driver.look(group, record);
        let tell_at = driver.tell(&catalog, record);
        let knock_at = driver.knock(&catalog, record);
        driver.propose_next(record);
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            Some(ended) = driver.calls.join_next() => match ended {
                Ok(ended) => driver.ended(group, ended),
                Err(error) => {
                    tracing::error!(group = %group.name, error = &error as &dyn std::error::Error, "a call met a bug; will begin anew");
                    return;
                }
            },
            () = sleep_until(knock_at.unwrap_or(tell_at).min(tell_at)) => {}
        }
    }
}

impl Driver {
    fn look(&mut self, group: &Group, record: &GroupRecord) {
        if self.seen.look(record, Instant::now()) {
            let GroupRecord { phase, generation, primary, .. } = record;
            let (phase, primary) = (phase.name(), primary.worker);
            tracing::info!(group = %group.name, phase, %generation, %primary, in_sync = ?group.in_sync, "group");
        }
    }

    /// Tells all members, if it is time; gives when it is next.
    fn tell(&mut self, catalog: &Catalog, record: &GroupRecord) -> Instant {
        let now = Instant::now();
        let is_calm = !self.seen.is_deciding(record, now);
        let every = if is_calm { TELL_EVERY } else { TELL_SOON };
        if let Some((version, at)) = self.told
            && version == record.changed_at
            && now < at + every
        {
            return at + every;
        }
        self.told = Some((record.changed_at, now));
        let member = |worker: &WorkerId| Some((*worker, catalog.workers.get(worker)?));
        let servers = record.workers.iter().filter_map(member);
        let servers = servers.map(|(id, worker)| (id, worker.postgres.clone())).collect();
        let told = ToldGroup {
            cluster_id: self.node.cluster_id().to_owned(),
            worker: record.primary.worker,
            record: record.clone(),
            servers,
            confirmed: self.node.is_confirmed_leader(),
        };
        for (id, worker) in record.workers.iter().filter_map(member) {
            let (agents, agent_url) = (self.agents.clone(), worker.agent_url.clone());
            let told = ToldGroup { worker: id, ..told.clone() };
            self.calls.spawn(async move {
                let answer = agents.put_group(&agent_url, &told, now + ANSWER_WITHIN).await;
                Ended::Told(id, now, answer)
            });
        }
        now + every
    }

    /// Asks the primary itself for a sign of life, while it is missed; gives when it is next.
    fn knock(&mut self, catalog: &Catalog, record: &GroupRecord) -> Option<Instant> {
        let now = Instant::now();
        let worker = catalog.workers.get(&record.primary.worker)?;
        if record.phase != Phase::Steady || self.knocking || !self.seen.misses(record, now) {
            return None;
        }
        if now >= self.knock_at {
            (self.knocking, self.knock_at) = (true, now + KNOCK_EVERY);
            let (disk, address, names) = (record.primary, worker.postgres.clone(), self.node.client().names().clone());
            self.calls.spawn(async move { Ended::Knocked(disk, now, knock(&names, &address, KNOCK_WITHIN).await) });
        }
        Some(self.knock_at)
    }

    fn propose_next(&mut self, record: &GroupRecord) {
        let now = Instant::now();
        if self.proposing || now < self.patient_until {
            return;
        }
        let Step::Record(change) = next_step(record, &self.seen.observed(record, now)) else { return };
        self.proposing = true;
        let command = Command::ChangeGroup { id: self.id, decided_at: record.changed_at, change: change.clone() };
        let node = self.node.clone();
        self.calls.spawn(async move { Ended::Proposed(change, node.propose(command, now + PROPOSE_WITHIN).await) });
    }

    fn ended(&mut self, group: &Group, ended: Ended) {
        match ended {
            Ended::Told(worker, at, Ok(report)) => {
                self.seen.note(worker, report, at);
            }
            Ended::Told(worker, _, Err(error)) => {
                if self.seen.note_silence(worker) {
                    let reason = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::info!(group = %group.name, %worker, %error, reason, "a member does not say how it is; will retry");
                }
            }
            Ended::Knocked(disk, at, knocked) => {
                self.knocking = false;
                self.seen.knocked(disk, knocked, at);
            }
            Ended::Proposed(change, proposed) => {
                self.proposing = false;
                match proposed {
                    Ok(Proposed { outcome: Outcome::Done, .. }) if matches!(change, Change::Stamp { .. }) => return,
                    Ok(Proposed { outcome: Outcome::Done, .. }) => {
                        tracing::info!(group = %group.name, ?change, "group changed");
                        return;
                    }
                    // The record changed meanwhile; the next look shows how.
                    Ok(_) => tracing::debug!(group = %group.name, ?change, "a group's change came too late"),
                    Err(error) => {
                        tracing::warn!(group = %group.name, ?change, %error, "a group's change could not be recorded; will retry");
                    }
                }
                self.patient_until = Instant::now() + AGAIN_AFTER;
            }
        }
    }
}
