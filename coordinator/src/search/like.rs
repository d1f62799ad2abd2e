//! The vector of a stored entry, to search by.

use super::members::{First, Members};
use crate::error::RequestError;
use crate::targets::{Place, Target};
use crate::workers::{Workers, read};
use atoll_proto::Vector;
use atoll_proto::entry::{EntryId, Include};
use tokio::time::Instant;

/// Looks the entry up.
pub(super) async fn vector_of(
    members: &Members<'_>,
    workers: &Workers,
    target: &Target,
    id: &EntryId,
    deadline: Instant,
) -> Result<Vector, RequestError> {
    let place = target.place(workers, target.route(&id.namespace)?);
    let ids = std::slice::from_ref(id);
    let look_up = |place: Place, watch| async move {
        read::get_logged(&place.pool, &place.table, ids, None, &[Include::Vector], watch, deadline).await
    };
    let (place, found) = members.read(&place, First::Anyone, deadline, look_up).await;
    let entries = found.map_err(|error| place.read_error(error))?;
    let vector = entries.into_iter().next().and_then(|entry| entry.vector);
    vector.ok_or(RequestError::EntryNotFound)
}
