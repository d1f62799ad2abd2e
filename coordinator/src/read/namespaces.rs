//! The namespaces that there are.

use super::Reader;
use crate::error::RequestError;
use crate::targets::{Place, Target};
use crate::workers::read::{self, After};
use atoll_core::access::{Grant, Touched};
use atoll_proto::entry::NamespacePage;
use atoll_proto::{CollectionName, Namespace, limits};
use futures::future::try_join_all;
use tokio::time::Instant;

impl Reader {
    /// A page of the namespaces that hold entries, of all shards, in byte order: of those alone that the request may touch.
    pub async fn namespaces(
        &self,
        collection: &CollectionName,
        prefix: &str,
        limit: u32,
        cursor: Option<&str>,
        grant: &Grant,
        deadline: Instant,
    ) -> Result<NamespacePage, RequestError> {
        if !(1..=limits::LIST_PAGE).contains(&limit) {
            return Err(RequestError::invalid("/limit", format!("limit must be 1 to {}", limits::LIST_PAGE)));
        }
        if !prefix.is_empty() && Namespace::parse(prefix).is_err() {
            return Err(RequestError::invalid("/prefix", "a prefix is up to 128 of A-Z a-z 0-9 _ . : -"));
        }
        let target = Target::find(&self.views, collection, grant)?;
        let list = serde_json::json!([collection, "namespaces", prefix]).to_string();
        let after: Option<After> = match cursor {
            Some(cursor) => Some(self.cursors.open(&list, cursor).ok_or(RequestError::BadCursor)?),
            None => None,
        };
        let after = after.map(|after| after.key);
        // One more than asked tells whether there is a next page.
        let wanted = limit + 1;
        let mut namespaces: Vec<String> = Vec::new();
        for touched in grant.within(prefix) {
            namespaces.extend(self.namespaces_in(&target, touched, after.as_deref(), wanted, deadline).await?);
            if namespaces.len() >= wanted as usize {
                break;
            }
        }
        let more = namespaces.len() > limit as usize;
        namespaces.truncate(limit as usize);
        let next_cursor = match namespaces.last() {
            Some(last) if more => Some(self.cursors.seal(&list, &After { key: last.clone(), micros: 0 })),
            Some(_) | None => None,
        };
        Ok(NamespacePage { namespaces, next_cursor })
    }

    /// The first of them after `after`, sorted.
    async fn namespaces_in(
        &self,
        target: &Target,
        touched: Touched<'_>,
        after: Option<&str>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Vec<String>, RequestError> {
        let reads = target.routes(touched)?.iter().map(|route| async move {
            let place = target.place(&self.workers, route);
            self.read(&place, deadline, |place: Place| async move {
                read::namespaces(&place.pool, &place.table, touched, after, limit, deadline).await
            })
            .await
        });
        let mut namespaces: Vec<String> = try_join_all(reads).await?.into_iter().flatten().collect();
        namespaces.sort_unstable();
        Ok(namespaces)
    }
}
