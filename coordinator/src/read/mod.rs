//! Reading entries: by id, listed, counted, exported, and the namespaces there are.

mod cursor;
mod export;
mod namespaces;

use crate::error::RequestError;
use crate::next_primary::NextPrimary;
use crate::targets::{Place, Target, Views};
use crate::workers::read::{self, After, ListPage};
use crate::workers::{ShardError, Workers};
use atoll_core::access::Grant;
use atoll_core::filter;
use atoll_core::routing::ShardRoute;
use atoll_proto::entry::{CountEntries, Entry, EntryId, EntryPage, GetEntries, ListEntries, ListOrder};
use atoll_proto::{CollectionName, Namespace, ShardId, limits};
pub use cursor::CursorKey;
pub use export::Export;
use futures::future::try_join_all;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::time::Instant;

/// Answers reads.
#[derive(Clone)]
pub struct Reader {
    views: Views,
    workers: Arc<Workers>,
    cursors: CursorKey,
    next_primary: NextPrimary,
}

/// Where a namespace lies, and how many entries it holds.
#[derive(Debug, Clone)]
pub struct Located {
    /// The way to its shard.
    pub route: ShardRoute,
    /// The shard that its table belongs to; none for a reference collection.
    pub table: Option<ShardId>,
    /// Its entries.
    pub count: u64,
}

impl Reader {
    /// Reads by the latest of `views`; signs cursors with a key that all coordinators share.
    pub fn new(views: Views, workers: Arc<Workers>, cursors: CursorKey, next_primary: NextPrimary) -> Self {
        Self { views, workers, cursors, next_primary }
    }

    /// The entries of the ids that exist, in the order asked.
    pub async fn get(
        &self,
        collection: &CollectionName,
        request: &GetEntries,
        grant: &Grant,
        deadline: Instant,
    ) -> Result<Vec<Entry>, RequestError> {
        let count = request.ids.len();
        if count == 0 || count > limits::BATCH_ENTRIES {
            let detail = format!("1 to {} ids, {count} given", limits::BATCH_ENTRIES);
            return Err(RequestError::invalid("/ids", detail));
        }
        let target = Target::find(&self.views, collection, grant)?;
        let mut by_shard: BTreeMap<ShardId, (Place, Vec<EntryId>)> = BTreeMap::new();
        for id in &request.ids {
            let route = target.route(&id.namespace)?;
            let part = by_shard.entry(route.shard).or_insert_with(|| (target.place(&self.workers, route), Vec::new()));
            part.1.push(id.clone());
        }
        let gets = by_shard.into_values().map(|(place, ids)| async move {
            let ids = &ids;
            self.read(&place, deadline, |place: Place| async move {
                read::get(&place.pool, &place.table, ids, None, &request.include, deadline).await
            })
            .await
        });
        let entries = try_join_all(gets).await?.into_iter().flatten();
        let mut found: HashMap<(String, String), Entry> =
            entries.map(|entry| ((entry.namespace.clone(), entry.key.clone()), entry)).collect();
        let asked = request.ids.iter().map(|id| (id.namespace.to_string(), id.key.to_string()));
        Ok(asked.filter_map(|id| found.remove(&id)).collect())
    }

    /// A page of a namespace.
    pub async fn list(
        &self,
        collection: &CollectionName,
        request: &ListEntries,
        grant: &Grant,
        deadline: Instant,
    ) -> Result<EntryPage, RequestError> {
        if !(1..=limits::LIST_PAGE).contains(&request.limit) {
            let detail = format!("limit must be 1 to {}, {} given", limits::LIST_PAGE, request.limit);
            return Err(RequestError::invalid("/limit", detail));
        }
        let target = Target::find(&self.views, collection, grant)?;
        target.permit_each(std::iter::once(&request.namespace))?;
        let filter = check_filter(request.filter.as_ref())?;
        // A cursor belongs to one list: collection, namespace, filter and order.
        let list = serde_json::json!([collection, request.namespace, request.filter, request.order]).to_string();
        let after: Option<After> = match &request.cursor {
            Some(cursor) => Some(self.cursors.open(&list, cursor).ok_or(RequestError::BadCursor)?),
            None => None,
        };
        let place = target.place(&self.workers, target.route(&request.namespace)?);
        let page = &ListPage {
            namespace: request.namespace.as_str(),
            filter: filter.as_ref(),
            order: request.order,
            after: after.as_ref(),
            // One more than asked tells whether there is a next page.
            limit: request.limit + 1,
            include: &request.include,
        };
        let mut entries = self
            .read(&place, deadline, |place: Place| async move {
                read::list(&place.pool, &place.table, page, deadline).await
            })
            .await?;
        let more = entries.len() > request.limit as usize;
        entries.truncate(request.limit as usize);
        let next_cursor = match entries.last() {
            Some(last) if more => Some(self.cursors.seal(&list, &after_of(last, request.order))),
            Some(_) | None => None,
        };
        Ok(EntryPage { entries, next_cursor })
    }

    /// How many entries of a namespace match.
    pub async fn count(
        &self,
        collection: &CollectionName,
        request: &CountEntries,
        grant: &Grant,
        deadline: Instant,
    ) -> Result<u64, RequestError> {
        let target = Target::find(&self.views, collection, grant)?;
        target.permit_each(std::iter::once(&request.namespace))?;
        let filter = check_filter(request.filter.as_ref())?;
        self.count_in(&target, &request.namespace, filter.as_ref(), deadline).await
    }

    async fn count_in(
        &self,
        target: &Target,
        namespace: &Namespace,
        filter: Option<&filter::Expr>,
        deadline: Instant,
    ) -> Result<u64, RequestError> {
        let place = target.place(&self.workers, target.route(namespace)?);
        self.read(&place, deadline, |place: Place| async move {
            read::count(&place.pool, &place.table, namespace.as_str(), filter, deadline).await
        })
        .await
    }

    /// Where a namespace lies and how many entries it holds.
    pub async fn namespace(
        &self,
        collection: &CollectionName,
        namespace: &Namespace,
        grant: &Grant,
        deadline: Instant,
    ) -> Result<Located, RequestError> {
        let target = Target::find(&self.views, collection, grant)?;
        let count = self.count_in(&target, namespace, None, deadline).await?;
        let route = target.route(namespace)?.clone();
        Ok(Located { table: target.table_of(&route), route, count })
    }

    async fn read<T, F: Future<Output = Result<T, ShardError>>>(
        &self,
        place: &Place,
        deadline: Instant,
        read: impl Fn(Place) -> F,
    ) -> Result<T, RequestError> {
        let (place, done) = self.next_primary.read_at(place, deadline, read).await;
        done.map_err(|error| place.read_error(error))
    }
}

fn check_filter(filter: Option<&atoll_proto::filter::Filter>) -> Result<Option<filter::Expr>, RequestError> {
    match filter {
        Some(filter) => filter::check(filter, "/filter").map(Some).map_err(RequestError::Invalid),
        None => Ok(None),
    }
}

fn after_of(entry: &Entry, order: ListOrder) -> After {
    let micros = |time: &str| time.parse::<jiff::Timestamp>().map_or(0, |time| time.as_microsecond());
    let micros = match order {
        ListOrder::KeyAsc | ListOrder::KeyDesc => 0,
        ListOrder::CreatedAsc | ListOrder::CreatedDesc => micros(&entry.created_at),
        ListOrder::UpdatedAsc | ListOrder::UpdatedDesc => micros(&entry.updated_at),
    };
    After { key: entry.key.clone(), micros }
}
