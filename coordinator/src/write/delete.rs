//! Deletes of many entries: by ids, by filter, and whole namespaces. Never on partial coverage: if a shard gives no answer, the
//! request fails and says so; what other shards deleted stays deleted, and sending it again is safe.

use super::reference::Matching;
use super::{WriteTerms, Writer, joined, outcome, with_retries};
use crate::error::RequestError;
use crate::targets::{Place, Target};
use crate::workers::delete;
use atoll_core::filter::{self, Expr};
use atoll_core::freshness::MarkSet;
use atoll_proto::entry::{DeleteEntries, EntryId};
use atoll_proto::{CollectionName, Namespace, ShardId, limits};
use futures::future::join_all;
use std::collections::BTreeMap;

impl Writer {
    /// Deletes by ids or by filter; says how many there were.
    pub async fn delete_entries(
        &self,
        collection: &CollectionName,
        request: DeleteEntries,
        terms: &WriteTerms,
    ) -> Result<u64, RequestError> {
        let target = Target::find(&self.views, collection, &terms.grant)?;
        let named = request.ids.iter().flatten().map(|id| &id.namespace).chain(&request.namespace);
        target.permit_each(named)?;
        match request {
            DeleteEntries { ids: Some(ids), namespace: None, filter: None, limit: None } => {
                let count = ids.len();
                if count == 0 || count > limits::BATCH_ENTRIES {
                    let detail = format!("1 to {} ids, {count} given", limits::BATCH_ENTRIES);
                    return Err(RequestError::invalid("/ids", detail));
                }
                self.claim(&target, terms).await?;
                self.delete_ids(&target, ids, terms).await
            }
            DeleteEntries { ids: None, namespace: Some(namespace), filter, limit } => {
                let limit = limit.unwrap_or(limits::DELETE_ENTRIES);
                if !(1..=limits::DELETE_ENTRIES).contains(&limit) {
                    let detail = format!("limit must be 1 to {}, {limit} given", limits::DELETE_ENTRIES);
                    return Err(RequestError::invalid("/limit", detail));
                }
                let filter = match &filter {
                    Some(filter) => Some(filter::check(filter, "/filter").map_err(RequestError::Invalid)?),
                    None => None,
                };
                self.claim(&target, terms).await?;
                self.delete_matching(&target, &namespace, filter.as_ref(), Some(limit), terms).await
            }
            DeleteEntries { .. } => {
                Err(RequestError::invalid("", "give either ids, or a namespace with an optional filter and limit"))
            }
        }
    }

    /// Deletes every entry of a namespace; says how many there were.
    pub async fn delete_namespace(
        &self,
        collection: &CollectionName,
        namespace: &Namespace,
        terms: &WriteTerms,
    ) -> Result<u64, RequestError> {
        let target = Target::find(&self.views, collection, &terms.grant)?;
        target.permit_each(std::iter::once(namespace))?;
        self.claim(&target, terms).await?;
        self.delete_matching(&target, namespace, None, None, terms).await
    }

    async fn delete_matching(
        &self,
        target: &Target,
        namespace: &Namespace,
        filter: Option<&Expr>,
        limit: Option<u32>,
        terms: &WriteTerms,
    ) -> Result<u64, RequestError> {
        let place = target.place(&self.workers, target.route(namespace)?);
        let touched = MarkSet::of_write(&target.name, [namespace.as_str()]);
        if let Some(copies) = self.copies(target, terms.deadline).await? {
            // By ids, so that every copy loses the same entries.
            let Matching { first, all } = copies.matching(namespace, filter, limit, terms.deadline).await?;
            let ids = &first;
            let write = |place: Place| async move {
                delete::by_ids(&place.pool, &place.table, ids, terms.ticket(), terms.deadline).await
            };
            let done = with_retries(self, terms.of_part(), touched, &place, write).await;
            let deleted = outcome(done.map_err(|error| place.write_error(error))?)?;
            copies.spread(&all, terms.deadline).await?;
            return Ok(deleted);
        }
        let write = |place: Place| async move {
            delete::by_filter(&place.pool, &place.table, namespace, filter, limit, terms.ticket(), terms.deadline).await
        };
        let done = with_retries(self, terms.of_part(), touched, &place, write).await;
        outcome(done.map_err(|error| place.write_error(error))?)
    }

    async fn delete_ids(&self, target: &Target, ids: Vec<EntryId>, terms: &WriteTerms) -> Result<u64, RequestError> {
        let copies = self.copies(target, terms.deadline).await?;
        let copied = if copies.is_some() { ids.clone() } else { Vec::new() };
        let mut by_shard: BTreeMap<ShardId, (Place, Vec<EntryId>)> = BTreeMap::new();
        for id in ids {
            let route = target.route(&id.namespace)?;
            let part = by_shard.entry(route.shard).or_insert_with(|| (target.place(&self.workers, route), Vec::new()));
            part.1.push(id);
        }
        let total = by_shard.len();
        let deletes = by_shard.into_values().map(|(place, ids)| async move {
            let ids = &ids;
            let touched = MarkSet::of_write(&target.name, ids.iter().map(|id| id.namespace.as_str()));
            let write = |place: Place| async move {
                delete::by_ids(&place.pool, &place.table, ids, terms.ticket(), terms.deadline).await
            };
            let done = with_retries(self, terms.of_part(), touched, &place, write).await;
            done.map_err(|error| place.write_error(error)).and_then(outcome)
        });
        let mut deleted = 0;
        let mut errors = Vec::new();
        for done in join_all(deletes).await {
            match done {
                Ok(count) => deleted += count,
                Err(error) => errors.push(error),
            }
        }
        if let Some(error) = joined(errors, total) {
            return Err(error);
        }
        if let Some(copies) = copies {
            copies.spread(&copied, terms.deadline).await?;
        }
        Ok(deleted)
    }
}
