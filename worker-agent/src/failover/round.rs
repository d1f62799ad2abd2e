//! The member's task: it looks, decides by the newest record, and does one thing at a time. Whatever is cut off is begun again by the
//! next look.

use super::kept::{Kept, Mendable};
use super::member::{Member, TellError};
use crate::identity::IdentityError;
use crate::pg::connect::chain;
use crate::pg::replica::{Look, ReplicaError};
use crate::stop::Stop;
use crate::worker::Worker;
use atoll_proto::group::{Act, Disk, Fit, GroupRecord, Phase, Position, Report, Server, Sight, Stamp, act};
use atoll_proto::{Generation, Lsn};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After something that did not work.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A primary is not asked more often whether our log has diverged from its own.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// One that has not received for so long is compared with it again: it may wait for what is gone.
const COMPARE_AFTER: Duration = Duration::from_secs(5);
/// What it says of itself gets old meanwhile.
const COMPARED_WITHIN: Duration = Duration::from_secs(1);
/// A standby that does not receive looks this often where its primary is.
const FOLLOW_ON_EVERY: Duration = Duration::from_secs(1);
/// An agent before us may have changed the list just before it ended, and the server may be about to take it up.
const LIST_IS_IN_FORCE_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error(transparent)]
    Kept(#[from] IdentityError),
    #[error(transparent)]
    Told(#[from] TellError),
    #[error("the group has another primary meanwhile")]
    Outdated,
}

/// What the task remembers from one look to the next.
struct Rounds<'a> {
    member: &'a Member,
    worker: &'a Worker,
    began: Instant,
    /// The list that the server was first seen with, and up to where it had written then.
    barrier: Option<(BTreeSet<Disk>, Lsn)>,
    /// Whose log ours was compared with, where ours stood, what came out, and when.
    compared: Option<(Disk, Position, Fit, Instant)>,
    /// When a standby that does not receive looked last where its primary is.
    followed_on: Option<Instant>,
    /// When it was last seen to receive, or was compared.
    received: Instant,
    told: String,
    /// Whether the server ran when it looked last.
    runs: bool,
    /// Whether its data was put back, likewise.
    was_restored: bool,
}

impl Member {
    /// Acts by the record until `stop`. The server is left as it is then.
    pub async fn run(&self, worker: &Worker, mut stop: Stop) {
        let mut record = self.record.subscribe();
        let mut rounds = Rounds {
            member: self,
            worker,
            began: Instant::now(),
            barrier: None,
            compared: None,
            followed_on: None,
            received: Instant::now(),
            told: String::new(),
            runs: false,
            was_restored: false,
        };
        loop {
            let pause = tokio::select! {
                pause = rounds.round() => pause,
                () = stop.told() => return,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = record.changed() => {}
                // Of a primary that died others wait to hear.
                () = self.replica.steering.unwanted(), if rounds.runs => {}
                () = stop.told() => return,
            }
        }
    }
}

impl Rounds<'_> {
    /// Looks and acts once; tells how long to wait before the next time.
    async fn round(&mut self) -> Duration {
        let (kept, found) = self.member.now();
        let (Some(known), Some(ours)) = (&kept.record, self.worker.membership()) else { return LOOK_EVERY };
        let me = Disk { worker: ours.worker, incarnation: kept.incarnation };
        match self.look_and_act(&kept, found, known, me).await {
            Ok(Act::Nothing) => {
                self.told.clear();
                LOOK_EVERY
            }
            Ok(done) => {
                tracing::info!(act = ?done, generation = known.generation.0, "the group's record is followed");
                Duration::ZERO
            }
            Err(error) => {
                let text = chain(&error);
                if self.told != text {
                    tracing::warn!(error = text, "the group's record cannot be followed yet");
                    self.told = text;
                }
                // What only takes a moment is looked at again soon.
                if matches!(error, RoundError::Replica(ReplicaError::NotYet(_) | ReplicaError::Postgres(_))) {
                    LOOK_EVERY
                } else {
                    AGAIN_AFTER
                }
            }
        }
    }

    async fn look_and_act(
        &mut self,
        kept: &Kept,
        stamp: Result<Option<Stamp>, ReplicaError>,
        known: &GroupRecord,
        me: Disk,
    ) -> Result<Act, RoundError> {
        let (stamp, unread) = match stamp {
            Ok(stamp) => (stamp, None),
            Err(error) => (None, Some(error)),
        };
        let found = match kept.unusable {
            Some(mendable) => Err(Server::Unusable { can_rewind: mendable == Mendable::ByRewind }),
            None => Ok(self.member.replica.look().await?),
        };
        let runs = !matches!(found, Err(_) | Ok(Look { server: Server::Stopped { .. }, .. }));
        self.runs = runs;
        let silent = self.member.silent(runs.then_some(self.began));
        let mut sight = Sight {
            disk: me,
            server: found.as_ref().map_or_else(|server| *server, |found| found.server),
            position: found.as_ref().ok().and_then(|found| found.position),
            list: found.as_ref().ok().and_then(|found| found.list.clone()),
            fit: Fit::GoesOn,
            restored: unread.is_none() && kept.is_restored(me.worker, stamp),
            silent_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
        };
        if sight.restored && !self.was_restored {
            tracing::warn!(
                "this data was put back to an earlier state and lacks what it has confirmed since: it counts for nothing, and is copied anew \
                 when another worker serves"
            );
        }
        self.was_restored = sight.restored;
        let mut next = act(known, &sight);
        if let Some(error) = unread {
            // It may be other data than is known. What ends something does no harm to any.
            if matches!(next, Act::Stop | Act::Detach) {
                self.carry_out(&next, kept, known, me, &sight).await?;
            }
            return Err(error.into());
        }
        let is_active = known.phase == Phase::Steady
            && known.primary == me
            && sight.server == Server::Primary
            && sight.position.is_some_and(|position| position.generation == known.generation);
        self.worker.status.answered(runs);
        self.worker.hold_still(!is_active || next == Act::Stop);
        // A stamp is told when it is in both places.
        let stamp = stamp.filter(|stamp| kept.stamp() == Some(*stamp));
        if let Ok(found) = &found {
            sight.fit = if matches!(next, Act::Follow { .. } | Act::BaseBackup { .. }) {
                // This much is known, also where the primary can't be asked: then nothing is given up for it.
                self.say(known, &sight, Some(found), stamp);
                let compared = timeout(COMPARED_WITHIN, self.compare(kept, known, found)).await;
                compared.map_err(|_| ReplicaError::NotYet("the primary does not tell what its log holds"))??
            } else if self.follows_in_vain(found) {
                // Where the primary can't be asked, that is why nothing is received.
                let compared = timeout(COMPARED_WITHIN, self.compare(kept, known, found)).await;
                self.received = Instant::now();
                compared.ok().and_then(Result::ok).unwrap_or(Fit::GoesOn)
            } else {
                Fit::GoesOn
            };
            next = act(known, &sight);
        }
        self.say(known, &sight, found.as_ref().ok(), stamp);
        self.carry_out(&next, kept, known, me, &sight).await?;
        if let (Act::Nothing, Ok(Look { server: Server::Following { worker }, connected: false, .. })) = (&next, &found)
            && self.followed_on.is_none_or(|at| at.elapsed() >= FOLLOW_ON_EVERY)
        {
            self.followed_on = Some(Instant::now());
            self.member.replica.follow_on(me, *worker, &kept.servers).await?;
        }
        Ok(next)
    }

    /// Has coordinators told how it stands.
    fn say(&mut self, known: &GroupRecord, sight: &Sight, found: Option<&Look>, stamp: Option<Stamp>) {
        let report = Report { stamp, ..self.report(known, sight, found) };
        self.member.note_lags(found);
        self.member.saw(known, report);
    }

    fn report(&mut self, known: &GroupRecord, sight: &Sight, found: Option<&Look>) -> Report {
        let cut = found.is_some_and(|found| matches!(found.server, Server::Following { .. }) && !found.connected);
        let found = found.filter(|found| found.server == Server::Primary);
        let in_force = sight.list.as_ref().filter(|_| found.is_some());
        let lsn = sight.position.map_or(Lsn(0), |position| position.lsn);
        match in_force {
            Some(list) if self.began.elapsed() > LIST_IS_IN_FORCE_AFTER => {
                if self.barrier.as_ref().is_none_or(|(before, _)| before != list) {
                    self.barrier = Some((list.clone(), lsn));
                }
            }
            Some(_) | None => self.barrier = None,
        }
        let barrier = self.barrier.as_ref().filter(|(list, _)| *list == known.listed).map(|(_, lsn)| *lsn);
        let streaming = found.map(|found| &found.streaming);
        let those = |flushed: &dyn Fn(Lsn) -> bool| {
            let all = streaming.into_iter().flatten();
            all.filter(|(_, reached)| flushed(reached.flushed)).map(|(disk, _)| *disk).collect()
        };
        Report {
            disk: sight.disk,
            generation: known.generation,
            server: sight.server,
            position: sight.position,
            diverged: sight.fit != Fit::GoesOn,
            listed_at: barrier.map(|_| known.changed_at),
            streaming: those(&|_| true),
            caught_up: those(&|lsn| barrier.is_some_and(|barrier| lsn >= barrier)),
            age_ms: 0,
            cut,
            leaving: self.member.is_leaving(),
            stamp: None,
            restored: sight.restored,
        }
    }

    /// Whether a standby has received nothing for a while, each time anew after that.
    fn follows_in_vain(&mut self, found: &Look) -> bool {
        let is_well = found.connected || !matches!(found.server, Server::Following { .. });
        if is_well {
            self.received = Instant::now();
        }
        !is_well && self.received.elapsed() >= COMPARE_AFTER
    }

    /// How our log stands to the primary's. Not known is not well: then nothing is followed yet.
    async fn compare(&mut self, kept: &Kept, known: &GroupRecord, found: &Look) -> Result<Fit, RoundError> {
        let position = found.position.unwrap_or(Position { generation: Generation(0), lsn: Lsn(0) });
        if let Some((primary, at, fit, when)) = self.compared
            && (primary, at) == (known.primary, position)
            && when.elapsed() < COMPARE_EVERY
        {
            return Ok(fit);
        }
        let address = kept.servers.get(&known.primary.worker);
        let address = address.ok_or(ReplicaError::NotYet("nobody has said where the primary listens"))?;
        let fit = self.member.replica.compare(found, address).await?;
        self.compared = Some((known.primary, position, fit, Instant::now()));
        Ok(fit)
    }

    async fn carry_out(
        &self,
        next: &Act,
        kept: &Kept,
        known: &GroupRecord,
        me: Disk,
        sight: &Sight,
    ) -> Result<(), RoundError> {
        let replica = &self.member.replica;
        match next {
            Act::Nothing => {}
            Act::Stop => {
                if let (Phase::HandingOver { .. }, Server::Primary) = (known.phase, sight.server) {
                    // Whatever has not ended is cut off, as it would be anyway.
                    let _ = replica.retire(me, &known.listed, known.copies).await;
                }
                replica.stop().await;
            }
            Act::StartPrimary => replica.start_primary(),
            Act::StartDetached => replica.start_detached()?,
            Act::Detach => replica.detach().await?,
            Act::Follow { worker } => replica.follow(me, *worker, &kept.servers).await?,
            Act::Promote => replica.promote().await?,
            Act::RecordGeneration => replica.record(known.generation).await?,
            Act::SetList { .. } => replica.count(me, known, sight.list.is_none()).await?,
            Act::Rewind { from } => {
                self.member.is_unusable(Mendable::ByRewind)?;
                self.say_unusable(known, me, true);
                let mended = self.while_primary(known, replica.rewind(me, from.worker, &kept.servers)).await;
                if let Err(RoundError::Replica(ReplicaError::Program { .. } | ReplicaError::NotYet(_))) = mended {
                    self.member.is_unusable(Mendable::ByCopy)?;
                }
                mended?;
                self.member.is_whole()?;
            }
            Act::BaseBackup { from } => {
                let me = Disk { incarnation: self.member.begin_anew()?, ..me };
                self.say_unusable(known, me, false);
                self.while_primary(known, replica.copy(me, from.worker, &kept.servers)).await?;
                self.member.is_whole()?;
            }
        }
        Ok(())
    }

    /// Half data takes long to be whole again, and is told of from the beginning.
    fn say_unusable(&self, known: &GroupRecord, disk: Disk, can_rewind: bool) {
        let server = Server::Unusable { can_rewind };
        self.member.saw(known, Report::bare(disk, known.generation, server, None));
    }

    /// Does it as long as the group's primary is the one that it is done by.
    async fn while_primary(
        &self,
        known: &GroupRecord,
        doing: impl Future<Output = Result<(), ReplicaError>>,
    ) -> Result<(), RoundError> {
        let mut record = self.member.record.subscribe();
        let other = record.wait_for(|now| now.as_ref().is_some_and(|now| now.generation != known.generation));
        tokio::select! {
            done = doing => Ok(done?),
            _ = other => Err(RoundError::Outdated),
        }
    }
}
