//! The stamp in the data directory itself. What is put in its place by hand, such as a backup, brings its own along, or none.

use super::kept::Kept;
use crate::pg::init;
use crate::pg::replica::{Replica, ReplicaError};
use atoll_proto::WorkerId;
use atoll_proto::group::Stamp;
use std::io;

/// Reads the stamp in the data; none of data that was never stamped, or not by us. Not to be able to read it says nothing of that.
pub(super) fn read(replica: &Replica) -> Result<Option<Stamp>, ReplicaError> {
    let path = replica.layout.stamp();
    match std::fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(init::at(&path)(error).into()),
    }
}

/// Brings the data's stamp up to date, where it is the data that is known beside it.
pub(super) fn renew(replica: &Replica, kept: &Kept, worker: WorkerId) -> Result<(), ReplicaError> {
    let Some(stamp) = kept.stamp() else { return Ok(()) };
    let found = read(replica)?;
    match found != Some(stamp) && !kept.is_restored(worker, found) {
        true => put(replica, stamp),
        false => Ok(()),
    }
}

/// Stamps the data, whatever it brought along.
pub(super) fn put(replica: &Replica, stamp: Stamp) -> Result<(), ReplicaError> {
    replica.write(replica.layout.stamp(), &serde_json::to_string(&stamp).expect("numbers always serialise"))
}
