//! What a member keeps on its disk, beside the data, before it acts by it or speaks of it.

use crate::identity::{IdentityError, write_whole};
use atoll_proto::WorkerId;
use atoll_proto::agent::PostgresAddress;
use atoll_proto::group::{Disk, GroupRecord, Incarnation};
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
        let kept = Self { incarnation: newer(None), record: None, servers: BTreeMap::new(), unusable: None };
        kept.keep(path)?;
        Ok(kept)
    }

    /// Writes the file, whole or not at all.
    pub fn keep(&self, path: &Path) -> Result<(), IdentityError> {
        let text = serde_json::to_vec_pretty(self).expect("keys are numbers and strings");
        write_whole(path, &text).map_err(|source| IdentityError::File { path: path.to_owned(), source })
    }

    /// With a record that is newer. Data that never belonged to the group is none of it, whatever it holds: it takes a copy.
    #[must_use]
    pub fn with(&self, worker: WorkerId, record: GroupRecord, servers: BTreeMap<WorkerId, PostgresAddress>) -> Self {
        let me = Disk { worker, incarnation: self.incarnation };
        let is_stranger = self.record.is_none() && record.primary != me && !record.voters.contains(&me);
        let unusable = if is_stranger { Some(Mendable::ByCopy) } else { self.unusable };
        Self { record: Some(record), servers, unusable, ..self.clone() }
    }

    /// As other data, that is still to be copied.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { incarnation: newer(Some(self.incarnation)), unusable: Some(Mendable::ByCopy), ..self.clone() }
    }
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
        let first = kept.with(WorkerId(1), record.clone(), servers.clone());
        assert_eq!(first.unusable, None);
        first.keep(&path).unwrap();
        assert_eq!(Kept::load_or_make(&path).unwrap(), first);
        let second = kept.with(WorkerId(2), record.clone(), servers.clone());
        assert_eq!(second.unusable, Some(Mendable::ByCopy));
        assert!(second.anew().incarnation > second.incarnation);
        let whole = Kept { unusable: None, ..second };
        assert_eq!(whole.with(WorkerId(2), record, servers).unusable, None, "it belongs by now");
    }
}
