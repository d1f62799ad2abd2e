//! A member as others see it: takes records, and says how it stands.

use super::kept::{Kept, Mendable};
use super::lags::Lags;
use super::stamp;
use crate::identity::{IdentityError, Membership};
use crate::pg::replica::{Look, Replica, ReplicaError};
use atoll_proto::group::{Disk, GroupRecord, Incarnation, MemberSeen, Report, Server, Stamp, ToldGroup, takes};
use atoll_proto::{CatalogVersion, Generation, WorkerId};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// For a look that knows the record that was told just now. One that comes later is in the next answer.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// Why a member gives no report.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// Somebody else is meant.
    #[error("another cluster or another worker is meant")]
    NotOurs,
    /// The record cannot be kept, so it is not taken.
    #[error("the record cannot be kept")]
    Kept(#[from] IdentityError),
    /// Nor is it where nobody can tell which data this is.
    #[error("the stamp in the data directory cannot be read")]
    Stamp(#[source] ReplicaError),
    /// Copied data would not be known again.
    #[error("the data directory cannot be stamped")]
    Unstamped(#[source] ReplicaError),
    /// Nobody has looked yet, or the server can't be asked.
    #[error("it is not known yet how the server stands")]
    NotSeen(#[source] Option<ReplicaError>),
}

/// A report, the entry of the record that was known when its look began, and when it was made.
#[derive(Debug, Clone)]
struct Seen {
    known: CatalogVersion,
    report: Report,
    at: Instant,
}

impl Seen {
    /// The report, as old as it is.
    fn told(&self) -> Report {
        let age_ms = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Report { age_ms, ..self.report.clone() }
    }
}

/// The member, by its managed server.
#[derive(Debug)]
pub struct Member {
    pub(super) replica: Replica,
    file: PathBuf,
    kept: Mutex<Kept>,
    /// The record, for those who wait for another.
    pub(super) record: watch::Sender<Option<GroupRecord>>,
    seen: watch::Sender<Option<Seen>>,
    heard: Mutex<Option<Instant>>,
    /// Of a primary: how far its standbys lie behind.
    lags: Mutex<Lags>,
    /// Whether its agent was told to stop.
    pub(super) leaving: AtomicBool,
    /// Whether it was told already that stamps can't be kept.
    is_unstamped: AtomicBool,
}

impl Member {
    /// With what was kept in `file`.
    pub fn new(replica: Replica, file: PathBuf, kept: Kept) -> Self {
        let record = watch::Sender::new(kept.record.clone());
        let (seen, heard, lags) = (watch::Sender::new(None), Mutex::default(), Mutex::default());
        let (leaving, is_unstamped) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { replica, file, kept: Mutex::new(kept), record, seen, heard, lags, leaving, is_unstamped }
    }

    /// Whether it was told a record ever.
    pub fn has_record(&self) -> bool {
        self.kept().record.is_some()
    }

    /// Takes a record if it is newer, on disk first, and says how the server stands. `ours` is the worker's place in its cluster.
    pub async fn tell(self: &Arc<Self>, told: ToldGroup, ours: Option<Membership>) -> Result<Report, TellError> {
        let is_ours = |ours: &Membership| ours.cluster_id == told.cluster_id && ours.worker == told.worker;
        if !ours.as_ref().is_some_and(is_ours) {
            return Err(TellError::NotOurs);
        }
        let member = Arc::clone(self);
        let taking = tokio::task::spawn_blocking(move || member.take(told));
        let known = taking.await.map_err(|_| TellError::NotSeen(None))??;
        let mut seen = self.seen.subscribe();
        let new_enough = seen.wait_for(|seen| seen.as_ref().is_some_and(|seen| seen.known >= known));
        // An older report is true as well: it promises no more than what was known then.
        let _ = tokio::time::timeout(LOOK_PATIENCE, new_enough).await;
        self.last_seen()
    }

    /// How the server stands, by the newest record; looked at now where there is none.
    pub async fn report(&self, worker: WorkerId) -> Result<Report, TellError> {
        if self.has_record() {
            return self.last_seen();
        }
        let look = self.replica.look().await.map_err(|error| TellError::NotSeen(Some(error)))?;
        let disk = Disk { worker, incarnation: self.incarnation() };
        Ok(Report::bare(disk, Generation(0), look.server, look.position))
    }

    /// Takes what a look by this record has seen.
    pub(super) fn saw(&self, known: &GroupRecord, report: Report) {
        self.seen.send_replace(Some(Seen { known: known.changed_at, report, at: Instant::now() }));
    }

    pub(super) fn last_seen(&self) -> Result<Report, TellError> {
        self.seen.borrow().as_ref().map(Seen::told).ok_or(TellError::NotSeen(None))
    }

    /// How it stands, for who shows it to people; none while it is not known, or where there is no group.
    pub fn shown(&self) -> Option<MemberSeen> {
        let report = self.last_seen().ok()?;
        let lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner).at(Instant::now());
        Some(MemberSeen { report, lags })
    }

    /// Takes in how far standbys are, of who looked just now.
    pub(super) fn note_lags(&self, found: Option<&Look>) {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        match found.and_then(|found| Some((found.position?, found))) {
            Some((written, Look { server: Server::Primary, streaming, .. })) => {
                let replayed = streaming.iter().map(|(disk, reached)| (*disk, reached.replayed));
                lags.note(Instant::now(), written.lsn, replayed);
            }
            Some(_) | None => *lags = Lags::default(),
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    fn take(&self, told: ToldGroup) -> Result<CatalogVersion, TellError> {
        let mut kept = self.kept();
        let known = kept.record.as_ref();
        let me = Disk { worker: told.worker, incarnation: kept.incarnation };
        let is_newer = takes(known, &told.record, me);
        let is_old = known.is_some_and(|known| told.record.changed_at < known.changed_at);
        let stamps_alone = is_newer && known.is_some_and(|known| known.changed_at == told.record.changed_at);
        // A server that was moved to another address is told with the same record.
        if is_newer || (!is_old && kept.servers != told.servers) {
            let found = stamp::read(&self.replica).map_err(TellError::Stamp)?;
            // Of a record that is not newer only the addresses are: its stamps may be of before.
            let record = if is_newer { told.record } else { kept.record.clone().unwrap_or(told.record) };
            let newer = kept.with(told.worker, record, told.servers, found);
            match newer.keep(&self.file) {
                Ok(()) => {
                    *kept = newer;
                    self.replica.steering.take();
                }
                // What was known is still so. On a full disk all but the stamps goes on.
                Err(error) if stamps_alone && !newer.is_restored(me.worker, found) => self.unstamped(&error),
                Err(error) => return Err(error.into()),
            }
        }
        if let Err(error) = stamp::renew(&self.replica, &kept, told.worker) {
            self.unstamped(&error);
        }
        if told.confirmed && !is_old {
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        let record = kept.record.clone();
        let at = record.as_ref().map_or(CatalogVersion(0), |record| record.changed_at);
        if *self.record.borrow() != record {
            self.record.send_replace(record);
        }
        Ok(at)
    }

    fn unstamped(&self, error: &(dyn std::error::Error + 'static)) {
        if !self.is_unstamped.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error,
                "the data cannot be stamped; if it is put back to an earlier state, that may not be found"
            );
        }
    }

    /// How long ago it heard from the catalog; since `began` where it has not.
    pub(super) fn silent(&self, began: Option<Instant>) -> Duration {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.or(began).map_or(Duration::MAX, |at| at.elapsed())
    }

    /// What is kept, and the stamp in the data, which nobody renews in between.
    pub(super) fn now(&self) -> (Kept, Result<Option<Stamp>, ReplicaError>) {
        let kept = self.kept();
        (kept.clone(), stamp::read(&self.replica))
    }

    /// Says durably that the data can't be started, and what may mend it.
    pub(super) fn is_unusable(&self, mendable: Mendable) -> Result<(), IdentityError> {
        self.change(|kept| Kept { unusable: Some(mendable), ..kept.clone() }).map(|_| ())
    }

    /// Says durably that the data is whole, and this worker's: it brought along what its source said of itself.
    pub(super) fn is_whole(&self) -> Result<(), TellError> {
        let mut kept = self.kept();
        let whole = Kept { unusable: None, ..kept.clone() };
        if let Some(stamp) = whole.stamp() {
            stamp::put(&self.replica, stamp).map_err(TellError::Unstamped)?;
        }
        whole.keep(&self.file)?;
        *kept = whole;
        Ok(())
    }

    /// Says durably that the data is other data, which is still to be copied.
    pub(super) fn begin_anew(&self) -> Result<Incarnation, IdentityError> {
        self.change(Kept::anew)
    }

    fn change(&self, change: impl FnOnce(&Kept) -> Kept) -> Result<Incarnation, IdentityError> {
        let mut kept = self.kept();
        let changed = change(&kept);
        if changed != *kept {
            changed.keep(&self.file)?;
            *kept = changed;
        }
        Ok(kept.incarnation)
    }

    /// Which of all the data that the worker had this is.
    pub fn incarnation(&self) -> Incarnation {
        self.kept().incarnation
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic cannot leave it half changed: it is replaced whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
