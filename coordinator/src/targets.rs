//! From a view of the catalog to the tables that a request touches, as far as it may touch them.
//!
//! A table is reached by a route, and a request gets routes of [`Target::route`] and [`Target::routes`] alone, which ask its grant: nobody
//! can forget to. Requests ask [`Target::permit`] besides, before they do anything: a batch with one foreign entry is
//! refused whole, and no answer out of the cache is given to who may not have it.

use crate::error::RequestError;
use crate::workers::knn::Scope;
use crate::workers::{ShardError, ShardTable, WorkerPool, Workers};
use atoll_core::access::{Grant, Touched};
use atoll_core::catalog::Collection;
use atoll_core::routing::{RoutingTable, ShardRoute, WorkerRoute};
use atoll_proto::collection::CollectionState;
use atoll_proto::moves::WRITE_PAUSE_MS_RANGE;
use atoll_proto::problem::ShardFailure;
use atoll_proto::{CollectionName, Distribution, GroupId, Namespace, ShardId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The latest view of the catalog.
pub type Views = watch::Receiver<Arc<RoutingTable>>;

/// How long a request waits for a shard that is being handed over; its own deadline may come first.
pub const HAND_OVER_WAIT: Duration = Duration::from_secs(5);
const _: () = assert!((*WRITE_PAUSE_MS_RANGE.end() as u128) < HAND_OVER_WAIT.as_millis());
/// Each step of a move shows in a view, and that is what requests wait for that find no table. A view may be late: it is looked this
/// often too.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// The same by a view that knows of no fence: it is late, or the table is back.
const LOOK_SOON: Duration = Duration::from_millis(20);
/// Times that a read follows a shard to another place.
const STALE_TRIES: usize = 3;

/// Where a table went that was not where it should be.
#[derive(Debug)]
pub enum Followed {
    /// The latest view has it here.
    Found(Place),
    /// Its shard is being moved, and may be back here.
    Waiting(Place),
    /// The latest view knows no such table.
    Lost,
    /// Its shard is still being moved, and the time is up.
    TimeUp,
}

/// One view, a collection of it that can be read and written, and what of it the request may touch.
#[derive(Debug, Clone)]
pub struct Target {
    /// The view that the whole request keeps to.
    pub view: Arc<RoutingTable>,
    /// The collection's name.
    pub name: CollectionName,
    /// The collection.
    pub collection: Arc<Collection>,
    /// What the request may touch.
    pub grant: Grant,
}

/// A collection's table in one shard, and the connections to it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The shard's route.
    pub route: ShardRoute,
    /// The table.
    pub table: ShardTable,
    /// Connections to the worker that is asked: the primary, or for some searches a standby.
    pub pool: Arc<WorkerPool>,
}

impl Target {
    /// Takes the latest view and looks the collection up in it, for a request that may touch what `grant` says.
    pub fn find(views: &Views, name: &CollectionName, grant: &Grant) -> Result<Self, RequestError> {
        let view = views.borrow().clone();
        let Some(collection) = view.collection(name).cloned() else {
            return Err(RequestError::CollectionNotFound(name.clone()));
        };
        if !view.is_placed() {
            let wanted = view.catalog.cluster.as_ref().map_or(1, |cluster| cluster.initial_groups);
            return Err(RequestError::NotPlaced { registered: view.catalog.full_groups().count(), wanted });
        }
        match collection.state {
            CollectionState::Active => Ok(Self { view, name: name.clone(), collection, grant: grant.clone() }),
            CollectionState::Creating => Err(RequestError::CollectionNotReady(name.clone())),
            CollectionState::Dropping => Err(RequestError::CollectionNotFound(name.clone())),
        }
    }

    /// Refuses what the request may not touch: the same for what exists and what does not.
    pub fn permit(&self, touched: Touched<'_>) -> Result<(), RequestError> {
        if self.grant.covers(touched) { Ok(()) } else { Err(RequestError::Foreign) }
    }

    /// Refuses namespaces that the request may not touch, if there is one among them.
    pub fn permit_each<'a>(&self, mut namespaces: impl Iterator<Item = &'a Namespace>) -> Result<(), RequestError> {
        if self.grant.namespaces().is_none() {
            return Ok(());
        }
        namespaces.try_for_each(|namespace| self.permit(Touched::Namespace(namespace)))
    }

    /// Refuses a search that the request may not make. Its namespaces are never left out silently.
    pub fn permit_scope(&self, scope: &Scope) -> Result<(), RequestError> {
        match scope {
            Scope::Namespaces(namespaces) => self.permit_each(namespaces.iter()),
            Scope::Prefix(prefix) => self.permit(Touched::Prefix(prefix)),
            Scope::All => self.permit(Touched::All),
        }
    }

    /// Where a namespace's rows lie, if the request may touch them.
    pub fn route(&self, namespace: &Namespace) -> Result<&ShardRoute, RequestError> {
        self.permit(Touched::Namespace(namespace))?;
        let route = match self.collection.settings.distribution {
            Distribution::Hash => self.view.route(namespace),
            Distribution::Reference => self.view.reference(),
        };
        Ok(route.expect("find refuses a view without placements"))
    }

    /// Where rows of the collection lie that a request looks at for `touched`, if it may: every shard, but for one namespace; or the one
    /// copy that is read of a reference collection.
    pub fn routes(&self, touched: Touched<'_>) -> Result<&[ShardRoute], RequestError> {
        self.permit(touched)?;
        Ok(match (self.collection.settings.distribution, touched) {
            (Distribution::Hash, Touched::Namespace(name)) => self.view.route(name).map_or(&[], std::slice::from_ref),
            (Distribution::Hash, Touched::Prefix(_) | Touched::All) => self.view.shards(),
            (Distribution::Reference, _) => self.view.reference().map_or(&[], std::slice::from_ref),
        })
    }

    /// Groups that hold rows of these namespaces.
    pub fn groups_of(&self, scope: &Scope) -> Result<BTreeSet<GroupId>, RequestError> {
        let routes = match scope {
            Scope::Namespaces(namespaces) => {
                return namespaces.iter().map(|namespace| Ok(self.route(namespace)?.group)).collect();
            }
            Scope::Prefix(prefix) => self.routes(Touched::Prefix(prefix))?,
            Scope::All => self.routes(Touched::All)?,
        };
        Ok(routes.iter().map(|route| route.group).collect())
    }

    /// The table behind a route, as agents name it: that of a shard, or of a reference collection, which belongs to none.
    pub fn table_of(&self, route: &ShardRoute) -> Option<ShardId> {
        match self.collection.settings.distribution {
            Distribution::Hash => Some(route.shard),
            Distribution::Reference => None,
        }
    }

    /// The collection's table behind a route.
    pub fn place(&self, workers: &Workers, route: &ShardRoute) -> Place {
        Place {
            route: route.clone(),
            table: ShardTable::new(route, &self.name, &self.collection.settings),
            pool: workers.pool(&route.primary),
        }
    }
}

impl Place {
    /// The same table on a member of its group.
    pub fn on(&self, workers: &Workers, member: &WorkerRoute) -> Self {
        Self { pool: workers.pool(member), ..self.clone() }
    }

    /// Whether it is the primary's.
    pub fn is_primary(&self) -> bool {
        self.pool.worker_id() == self.route.primary.worker
    }

    /// The same table by the latest view; none if that view knows no such place.
    pub fn latest(&self, views: &Views, workers: &Workers) -> Option<Self> {
        // It was reached by a route that was asked for, and the latest one leads to the same rows.
        let latest = Target::find(views, self.table.collection(), &Grant::everything()).ok()?;
        match latest.collection.settings.distribution {
            Distribution::Hash => Some(latest.place(workers, latest.view.shard(self.route.shard)?)),
            Distribution::Reference => {
                let copies = latest.view.copies();
                let own = copies.iter().find(|copy| copy.group == self.route.group)?;
                Some(latest.place(workers, own))
            }
        }
    }

    /// Where a table that is not here any more may be found: by another place in the latest view, or, while its shard is being
    /// moved, after a little wait for one. A move that is turned round leaves the table where it was.
    pub async fn followed(&self, views: &Views, workers: &Workers, until: Instant) -> Followed {
        let mut views = views.clone();
        let (shard, schema) = (self.route.shard, &self.route.schema);
        let elsewhere = |view: &RoutingTable| view.shard(shard).is_none_or(|route| route.schema != *schema);
        let view = views.borrow_and_update().clone();
        if elsewhere(&view) || !view.is_moving(shard) {
            return self.latest(&views, workers).map_or(Followed::Lost, Followed::Found);
        }
        let standing = |view: &RoutingTable| {
            let (id, job) = view.catalog.move_of(shard)?;
            Some((id, job.changed_at, job.may_fence()))
        };
        let before = standing(&view);
        let is_fenced = before.is_some_and(|(_, _, may_fence)| may_fence);
        let again_at = until.min(Instant::now() + if is_fenced { LOOK_AGAIN_AFTER } else { LOOK_SOON });
        let changed = views.wait_for(|view| elsewhere(view) || standing(view) != before);
        let seen = timeout_at(again_at, changed).await.map(|view| view.map(|view| elsewhere(&view)));
        let moved = match seen {
            Ok(Ok(elsewhere)) => elsewhere,
            // There will be no new view: the coordinator is going down.
            Ok(Err(_)) => {
                sleep_until(again_at).await;
                false
            }
            Err(_) => false,
        };
        if !moved && Instant::now() >= until {
            return Followed::TimeUp;
        }
        match self.latest(&views, workers) {
            Some(place) if moved => Followed::Found(place),
            Some(place) => Followed::Waiting(place),
            None => Followed::Lost,
        }
    }

    /// The shard's failure, as an answer names it.
    pub fn failure(&self, error: &ShardError) -> ShardFailure {
        ShardFailure {
            shard: self.route.shard,
            group: self.route.group_name.to_string(),
            reason: error.reason().to_owned(),
        }
    }

    /// The failure of a request that needed just this shard to read.
    pub fn read_error(&self, error: ShardError) -> RequestError {
        RequestError::Shards { failures: vec![self.failure(&error)], total: 1, cause: Box::new(error) }
    }

    /// The failure of a request that needed just this shard to write.
    pub fn write_error(&self, error: ShardError) -> RequestError {
        match error.outcome_unknown() {
            true => RequestError::OutcomeUnknown { cause: Box::new(error) },
            false => self.read_error(error),
        }
    }
}

/// Reads at a place, and once more by the latest view where that may help: the shard may have moved since the view was taken, or
/// its server been started again. Says which place answered.
pub async fn read_at<T, F: Future<Output = Result<T, ShardError>>>(
    views: &Views,
    workers: &Workers,
    place: &Place,
    read: impl Fn(Place) -> F,
) -> (Place, Result<T, ShardError>) {
    let done = read(place.clone()).await;
    if matches!(done, Err(ShardError::Stale { .. })) {
        return read_where_it_went(views, workers, place.clone(), read, done).await;
    }
    if let Err(error) = &done
        && let Some(latest) = place.latest(views, workers)
        && (worth_a_second_try(error) || latest.pool.worker_id() != place.pool.worker_id())
    {
        let done = read(latest.clone()).await;
        return (latest, done);
    }
    (place.clone(), done)
}

/// Follows a shard that is not where it was: tries once where the latest view has it, and as long as it is being moved.
async fn read_where_it_went<T, F: Future<Output = Result<T, ShardError>>>(
    views: &Views,
    workers: &Workers,
    mut place: Place,
    read: impl Fn(Place) -> F,
    mut done: Result<T, ShardError>,
) -> (Place, Result<T, ShardError>) {
    let until = Instant::now() + HAND_OVER_WAIT;
    let mut tries = 0;
    while tries < STALE_TRIES && matches!(done, Err(ShardError::Stale { .. })) {
        place = match place.followed(views, workers, until).await {
            Followed::Found(found) => {
                tries += 1;
                found
            }
            Followed::Waiting(same) => same,
            Followed::Lost | Followed::TimeUp => break,
        };
        done = read(place.clone()).await;
    }
    (place, done)
}

/// Whether a read that failed so may be tried again at once: nothing happened, or nothing that matters to a read.
fn worth_a_second_try(error: &ShardError) -> bool {
    match error {
        ShardError::Broken { .. }
        | ShardError::Superseded { .. }
        | ShardError::Stale { .. }
        | ShardError::Conflict { .. } => true,
        ShardError::Unreachable { .. }
        | ShardError::Deadline { .. }
        | ShardError::InDoubt { .. }
        | ShardError::TimedOut { .. }
        | ShardError::Fenced { .. }
        | ShardError::Overloaded { .. }
        | ShardError::Refused { .. }
        | ShardError::Malformed { .. } => false,
    }
}
