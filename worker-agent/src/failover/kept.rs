//! What a member keeps on its disk, beside the data, before it acts by it or speaks of it.

use crate::identity::{IdentityError, write_whole};
use atoll_proto::WorkerId;
use atoll_proto::agent::PostgresAddress;
use atoll_proto::group::{Disk, GroupRecord, Incarnation, Stamp, Stamps};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// All that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// When this data was made or copied, in milliseconds since 1970: no other data of the worker has the same.
    pub incarnation: Incarnation,
    /// The newest record; none of a worker that was told none, which looks after its server alone.
    pub record: Option<GroupRecord>,
    /// Where the group's servers listen.
    pub servers: BTreeMap<WorkerId, PostgresAddress>,
    /// Whether the data is none that could be started, and if so whether pg_rewind may mend it.
    pub unusable: Option<Mendable>,
    /// By which the data is known; none that an earlier version kept.
    #[serde(default)]
    pub stamps: Option<Stamps>,
}

/// What may make unusable data whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mendable {
    /// pg_rewind, or a copy.
    ByRewind,
    /// A copy only.
    ByCopy,
}

impl Kept {
    /// Reads the file; none if there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| IdentityError::Damaged { path: path.to_owned(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::File { path: path.to_owned(), source }),
        }
    }

    /// Reads the file, or begins one for data that has none.
    pub fn load_or_make(path: &Path) -> Result<Self, IdentityError> {
        if let Some(kept) = Self::load(path)? {
            return Ok(kept);
        }
        let incarnation = newer(None);
        let stamps = Some(Stamps::first(incarnation, rand::random()));
        let kept = Self { incarnation, record: None, servers: BTreeMap::new(), unusable: None, stamps };
        kept.keep(path)?;
        Ok(kept)
    }

    /// Writes the file, whole or not at all.
    pub fn keep(&self, path: &Path) -> Result<(), IdentityError> {
        let text = serde_json::to_vec_pretty(self).expect("keys are numbers and strings");
        write_whole(path, &text).map_err(|source| IdentityError::File { path: path.to_owned(), source })
    }

    /// With a record that is newer, beside data with this stamp in it. Data that never belonged to the group is none of it, whatever it holds: it takes a copy.
    #[must_use]
    pub fn with(
        &self,
        worker: WorkerId,
        record: GroupRecord,
        servers: BTreeMap<WorkerId, PostgresAddress>,
        found: Option<Stamp>,
    ) -> Self {
        let me = Disk { worker, incarnation: self.incarnation };
        let is_stranger = self.record.is_none() && record.primary != me && !record.voters.contains(&me);
        let unusable = if is_stranger { Some(Mendable::ByCopy) } else { self.unusable };
        let lot = rand::random();
        let stamps =
            self.stamps.or_else(|| adopted(&record, me, found)).unwrap_or_else(|| Stamps::first(me.incarnation, lot));
        let stamps = stamps.after(&record, me, lot);
        Self { record: Some(record), servers, unusable, stamps: Some(stamps), ..self.clone() }
    }

    /// The stamp that it says; none of half data.
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamps.filter(|_| self.unusable.is_none()).map(|stamps| stamps.now)
    }

    /// Whether the data was put back to an earlier state, which has this stamp in it: it or what is kept beside it is not what the catalog has
    /// seen. Half data answers for nothing anyway.
    pub fn is_restored(&self, worker: WorkerId, found: Option<Stamp>) -> bool {
        let (None, Some(record)) = (self.unusable, &self.record) else { return false };
        let keeps = |stamp| self.stamps.is_some_and(|stamps| stamps.contain(stamp));
        let me = Disk { worker, incarnation: self.incarnation };
        let is_beside = self.stamps.is_some_and(|stamps| !record.tells_restored(me, &stamps));
        record.stamp_of(me).is_some() && !(is_beside && found.is_some_and(keeps))
    }

    /// As other data, that is still to be copied.
    #[must_use]
    pub fn anew(&self) -> Self {
        let incarnation = newer(Some(self.incarnation));
        let stamps = Some(Stamps::first(incarnation, rand::random()));
        Self { incarnation, unusable: Some(Mendable::ByCopy), stamps, ..self.clone() }
    }
}

/// Stamps of data that a program of an earlier version looked after meanwhile, which keeps none: by the one in the data.
fn adopted(record: &GroupRecord, me: Disk, found: Option<Stamp>) -> Option<Stamps> {
    let now = found.filter(|found| found.incarnation == me.incarnation)?;
    let before = record.stamp_of(me).filter(|recorded| recorded.count + 1 == now.count);
    Some(Stamps { now, before })
}

/// The time, or the next number where a clock that was set back would give an older one.
fn newer(than: Option<Incarnation>) -> Incarnation {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Incarnation(than.map_or(now, |than| now.max(than.0 + 1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::CatalogVersion;

    #[test]
    fn what_is_kept_is_read_again_and_strangers_take_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w1.group");
        assert_eq!(Kept::load(&path).unwrap(), None);
        let kept = Kept::load_or_make(&path).unwrap();
        let workers = [WorkerId(1), WorkerId(2)].into();
        let founder = Disk { worker: WorkerId(1), incarnation: kept.incarnation };
        let record = GroupRecord::founded(founder, workers, 2, CatalogVersion(5));
        let address = PostgresAddress { host: "h".to_owned(), port: 1, database: "atoll".to_owned() };
        let servers = BTreeMap::from([(WorkerId(1), address)]);
        let first = kept.with(WorkerId(1), record.clone(), servers.clone(), None);
        assert_eq!(first.unusable, None);
        first.keep(&path).unwrap();
        assert_eq!(Kept::load_or_make(&path).unwrap(), first);
        let second = kept.with(WorkerId(2), record.clone(), servers.clone(), None);
        assert_eq!(second.unusable, Some(Mendable::ByCopy));
        assert!(second.anew().incarnation > second.incarnation);
        let whole = Kept { unusable: None, ..second };
        assert_eq!(whole.with(WorkerId(2), record, servers, None).unusable, None, "it belongs by now");
    }

    #[test]
    fn data_was_restored_if_it_or_what_is_kept_beside_it_is_not_what_was_recorded() {
        let me = Disk { worker: WorkerId(1), incarnation: Incarnation(7) };
        let founded = GroupRecord::founded(me, [me.worker].into(), 2, CatalogVersion(5));
        let record = |stamp| GroupRecord { stamps: [(me.worker, stamp)].into(), ..founded.clone() };
        let kept = Kept {
            incarnation: me.incarnation,
            record: None,
            servers: BTreeMap::new(),
            unusable: None,
            stamps: Some(Stamps::first(me.incarnation, 1)),
        };
        let told = |kept: &Kept, stamp| kept.with(me.worker, record(stamp), BTreeMap::new(), None);
        let first = kept.stamp().unwrap();
        let next = told(&kept, first);
        let second = next.stamp().unwrap();
        for found in [first, second] {
            assert!(!next.is_restored(me.worker, Some(found)), "it is written later");
        }
        let third = told(&next, second);
        let is_restored = |kept: &Kept, found| told(kept, second).is_restored(me.worker, found);
        assert!(third.is_restored(me.worker, Some(first)), "data of before beside what is kept now");
        assert!(third.is_restored(me.worker, None), "other data");
        assert!(
            is_restored(&kept, Some(first)) && is_restored(&kept, third.stamp()),
            "both, and what is beside it alone"
        );
        let by_earlier_version = |found| {
            let kept = Kept { stamps: None, ..kept.clone() };
            kept.with(me.worker, record(second), BTreeMap::new(), found).is_restored(me.worker, found)
        };
        assert!(!by_earlier_version(Some(second)) && !by_earlier_version(third.stamp()));
        assert!(by_earlier_version(Some(first)) && by_earlier_version(None));
        let half = Kept { unusable: Some(Mendable::ByRewind), ..kept.clone() };
        assert!(!is_restored(&half, None) && half.stamp().is_none());
        let copied = kept.anew();
        assert!(copied.stamps.is_some_and(|stamps| stamps.now.incarnation == copied.incarnation));
    }
}
