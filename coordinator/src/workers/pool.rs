//! Connections to workers: one pool a server, bounded in connections and in those who wait, so that a server that hangs holds
//! up nobody but its own callers.
//!
//! A future that is dropped does not stop its statement: the backend goes on, and the connection's next user would wait for it.
//! So every checkout is a [`Connection`] guard: dropped with a statement under way, it cancels the statement on the server and
//! throws the connection away (a late cancel could hit the next user's statement).

use super::ShardError;
use super::member_load::MemberLoad;
use super::pace::Pace;
use super::session::{Session, Sessions};
use atoll_core::routing::WorkerRoute;
use atoll_proto::WorkerId;
use atoll_proto::agent::COORDINATOR_ROLE;
use atoll_trust::PostgresTls;
use deadpool::managed::{Object, Pool, PoolError, QueueMode};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Longest that connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// A connection is given up when the server has not taken what was sent for so long.
pub const UNSENT_TIME: Duration = Duration::from_secs(20);

/// How coordinators connect to workers.
#[derive(Clone)]
pub struct WorkersSettings {
    /// Password of the coordinators' role.
    pub password: String,
    /// Whether connections are encrypted, and whom to trust.
    pub tls: PostgresTls,
    /// Connections to each worker; 0 for twice its cores and one more. Never more than the coordinator's share of what the
    /// worker takes.
    pub pool_size: usize,
    /// Most requests that wait for a connection to a worker.
    pub queue: usize,
    /// Longest a statement may ever run, whatever a request says.
    pub statement_timeout: Duration,
}

impl std::fmt::Debug for WorkersSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkersSettings").field("pool_size", &self.pool_size).finish_non_exhaustive()
    }
}

/// The pools of all workers.
#[derive(Debug)]
pub struct Workers {
    settings: RwLock<WorkersSettings>,
    pools: RwLock<HashMap<WorkerId, Arc<WorkerPool>>>,
}

impl Workers {
    /// No pool yet: each is made when its worker is first asked.
    pub fn new(settings: WorkersSettings) -> Self {
        Self { settings: RwLock::new(settings), pools: RwLock::default() }
    }

    /// Connects with another password from now on. Connections that are in use go on, and are given up when they come back.
    pub fn change_password(&self, password: &str) {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        if settings.password != password {
            password.clone_into(&mut settings.password);
            self.pools.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The pool of a worker, made anew if the worker's address changed, or what its size depends on.
    pub fn pool(&self, route: &WorkerRoute) -> Arc<WorkerPool> {
        {
            let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(pool) = pools.get(&route.worker).filter(|pool| pool.fits(route)) {
                return pool.clone();
            }
        }
        // Held as long as the pool is made, so that none is made with a password of before.
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        // Another request may have made it since.
        if let Some(pool) = pools.get(&route.worker).filter(|pool| pool.fits(route)) {
            return pool.clone();
        }
        let pool = Arc::new(WorkerPool::new(route, &settings));
        let before = pools.insert(route.worker, pool.clone());
        // The server of before is not the worker's any more.
        if let Some(before) = before.filter(|before| before.route.postgres != route.postgres) {
            before.superseded.notify_waiters();
        }
        pool
    }

    /// Gives up the connections to all other workers: those that nobody uses now, the others when they come back.
    pub fn keep_only(&self, stays: impl Fn(WorkerId) -> bool) {
        let is_left_over = |pools: &HashMap<WorkerId, Arc<WorkerPool>>| pools.keys().any(|worker| !stays(*worker));
        if is_left_over(&self.pools.read().unwrap_or_else(PoisonError::into_inner)) {
            self.pools.write().unwrap_or_else(PoisonError::into_inner).retain(|worker, _| stays(*worker));
        }
    }

    /// Nobody waits for this worker any longer: another one has taken its place. What is under way ends without its answer, and what has
    /// not been sent is not sent. What is asked of it from now on is.
    pub fn supersede(&self, worker: WorkerId) {
        if let Some(pool) = self.pools.read().unwrap_or_else(PoisonError::into_inner).get(&worker) {
            pool.superseded.notify_waiters();
        }
    }

    /// Whether requests wait for a connection to any worker: no time for what nobody waits for.
    pub fn have_waiters(&self) -> bool {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.values().any(|pool| pool.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Whether some worker would come in time to one statement more, of a request that has so long and needs no other.
    pub fn have_room(&self, time: Duration) -> bool {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + time;
        pools.is_empty() || pools.values().any(|pool| pool.has_room(1, deadline, 1))
    }

    /// How many connections there are, for metrics.
    pub fn gauges(&self) -> Vec<PoolGauge> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.values().map(|pool| pool.gauge()).collect()
    }
}

/// Connections to one worker, counted.
#[derive(Debug, Clone)]
pub struct PoolGauge {
    /// The worker.
    pub worker: String,
    /// In use.
    pub active: usize,
    /// Open and unused.
    pub idle: usize,
    /// Most there may be.
    pub max: usize,
    /// Requests that wait for one.
    pub waiting: usize,
}

/// Connections to one worker.
#[derive(Debug)]
pub struct WorkerPool {
    route: WorkerRoute,
    pool: Pool<Sessions>,
    /// A place for each connection: waiting for one and connecting are told apart by it.
    places: Arc<Semaphore>,
    /// Places of exports, which hold a connection for as long as their client likes.
    exports: Semaphore,
    waiting: AtomicUsize,
    queue: usize,
    size: usize,
    pace: Arc<Pace>,
    /// Tells all who wait for the worker that another has taken its place.
    superseded: Notify,
    pub(super) member_load: MemberLoad,
}

impl WorkerPool {
    fn new(route: &WorkerRoute, settings: &WorkersSettings) -> Self {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&route.postgres.host)
            .port(route.postgres.port)
            .dbname(&route.postgres.database)
            .user(COORDINATOR_ROLE)
            .password(&settings.password)
            .ssl_mode(settings.tls.ssl_mode())
            .application_name("atoll")
            .connect_timeout(CONNECT_TIME)
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(UNSENT_TIME)
            .options(session_options(settings.statement_timeout));
        let size = match settings.pool_size {
            0 => route.cores as usize * 2 + 1,
            size => size,
        };
        let size = size.min(route.connections as usize).max(2);
        let pool = Pool::builder(Sessions::new(config, settings.tls.clone()))
            .max_size(size)
            // The connection used last comes first: its backend has its caches warm.
            .queue_mode(QueueMode::Lifo)
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("only timeouts without a runtime make a pool fail to build");
        Self {
            route: route.clone(),
            pool,
            places: Arc::new(Semaphore::new(size)),
            exports: Semaphore::new(size.div_ceil(3)),
            waiting: AtomicUsize::new(0),
            queue: settings.queue,
            size,
            pace: Arc::new(Pace::new()),
            superseded: Notify::new(),
            member_load: MemberLoad::new(),
        }
    }

    /// Whether it is as it would be made for this route.
    fn fits(&self, route: &WorkerRoute) -> bool {
        let WorkerRoute { postgres, connections, cores, .. } = &self.route;
        *postgres == route.postgres && *connections == route.connections && *cores == route.cores
    }

    /// The worker's name.
    pub fn worker(&self) -> &str {
        &self.route.name
    }

    /// Its id.
    pub fn worker_id(&self) -> WorkerId {
        self.route.worker
    }

    /// Requests that hold a connection, or wait for one.
    pub(super) fn under_way(&self) -> usize {
        self.size.saturating_sub(self.places.available_permits()) + self.waiting.load(Ordering::Relaxed)
    }

    fn gauge(&self) -> PoolGauge {
        let status = self.pool.status();
        let idle = status.available;
        PoolGauge {
            worker: self.route.name.clone(),
            active: status.size.saturating_sub(idle),
            idle,
            max: status.max_size,
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// Lends a connection, or says why not, before the deadline.
    pub async fn connection(&self, deadline: Instant) -> Result<Connection, ShardError> {
        let place = self.place(deadline).await?;
        let worker = || self.route.name.clone();
        // With a place there is nothing to wait for but the server.
        let connecting = timeout_at(deadline.min(Instant::now() + CONNECT_TIME), self.pool.get());
        let object = match connecting.await {
            Ok(Ok(object)) => object,
            Ok(Err(PoolError::Backend(error))) => return Err(ShardError::of_connecting(self.worker(), error)),
            Ok(Err(error)) => return Err(ShardError::Unreachable { worker: worker(), source: Box::new(error) }),
            Err(elapsed) => return Err(ShardError::Unreachable { worker: worker(), source: Box::new(elapsed) }),
        };
        let pace = self.pace.clone();
        Ok(Connection { object: Some(object), worker: worker(), under_way: false, pace, _place: place })
    }

    /// Waits for a place among those that have a connection.
    async fn place(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, ShardError> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let _queued = self.queue_up()?;
        let before = self.pace.answers();
        match timeout_at(deadline, self.places.clone().acquire_owned()).await {
            Ok(place) => Ok(place.expect("nobody closes the places")),
            // Nobody before us got an answer either: the server hangs, or can't be connected to.
            Err(elapsed) if self.pace.answers() == before => {
                Err(ShardError::Unreachable { worker: self.route.name.clone(), source: Box::new(elapsed) })
            }
            Err(_) => Err(ShardError::Overloaded { worker: self.route.name.clone() }),
        }
    }

    /// Whether so many statements more would be begun in time for their answers, by a search that asks in so many rounds.
    pub fn has_room(&self, statements: usize, deadline: Instant, rounds: u32) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        self.pace.has_room(statements, self.waiting.load(Ordering::Relaxed), self.size, left, rounds)
    }

    /// Whether its server has answered nobody for a while.
    pub fn hangs(&self) -> bool {
        self.pace.is_silent()
    }

    /// A search was answered, and held its connection for so long.
    pub(super) fn note_search(&self, held: Duration) {
        self.pace.held(held);
    }

    /// Waits for a place among the exports. They are bounded well below the connections: a few slow clients must not hold all.
    pub async fn export_place(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, ShardError> {
        match timeout_at(deadline, self.exports.acquire()).await {
            Ok(place) => Ok(place.expect("nobody closes the places")),
            Err(_) => Err(ShardError::Overloaded { worker: self.route.name.clone() }),
        }
    }

    /// Runs statements on a connection until the deadline. On any failure the connection is thrown away, so a transaction
    /// left open in it is rolled back. A commit that the server no longer waits for is a failure, whatever its answer says.
    pub async fn run<T>(
        &self,
        deadline: Instant,
        work: impl AsyncFnOnce(&Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, ShardError> {
        // Told also when this is not polled yet.
        let mut superseded = pin!(self.superseded.notified());
        let mut connection = tokio::select! {
            biased;
            connection = self.connection(deadline) => connection?,
            () = &mut superseded => {
                let (worker, source) = (self.route.name.clone(), Box::new(Replaced));
                return Err(ShardError::Unreachable { worker, source });
            }
        };
        let session = connection.start();
        let done = tokio::select! {
            biased;
            done = timeout_at(deadline, work(session)) => done,
            // The guard cancels what is under way.
            () = superseded => return Err(ShardError::Superseded { worker: self.route.name.clone() }),
        };
        let in_doubt = session.is_in_doubt();
        match done {
            Ok(_) if in_doubt => {
                connection.discard();
                Err(ShardError::InDoubt { worker: self.route.name.clone() })
            }
            Ok(Ok(value)) => {
                connection.finish();
                Ok(value)
            }
            Ok(Err(error)) => {
                connection.discard();
                Err(self.failed(error))
            }
            // The guard cancels what is under way.
            Err(_) => Err(ShardError::Deadline { worker: self.route.name.clone() }),
        }
    }

    /// What a failed statement means, for its caller and for the pool.
    pub(super) fn failed(&self, error: tokio_postgres::Error) -> ShardError {
        if error.code().is_some() {
            self.pace.answered();
        }
        let error = ShardError::of(self.worker(), error);
        if matches!(error, ShardError::Stale { .. }) {
            // What other connections have prepared may be as outdated.
            self.pool.manager().forget_statements();
        }
        error
    }

    fn queue_up(&self) -> Result<Queued<'_>, ShardError> {
        let place = Queued(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.queue {
            return Err(ShardError::Overloaded { worker: self.route.name.clone() });
        }
        Ok(place)
    }
}

/// Why nobody waits for a connection any longer.
#[derive(Debug, thiserror::Error)]
#[error("another server took its place as primary")]
struct Replaced;

/// What every session is opened with. The coordinator chooses the path of a statement, by its text: a cached generic plan must not
/// choose another. Nor does a statement start processes: that takes some milliseconds, more than a usual scan, and the fan-out keeps
/// the cores of a worker busy by itself. Warnings have to come, whatever the role's own settings say: see `doubt.rs`.
pub(super) fn session_options(statement_timeout: Duration) -> String {
    format!(
        "-c statement_timeout={} -c plan_cache_mode=force_custom_plan -c jit=off -c max_parallel_workers_per_gather=0 \
         -c client_min_messages=warning",
        statement_timeout.as_millis()
    )
}

/// A place in the queue of a pool, given back when dropped.
struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A borrowed connection.
pub struct Connection {
    object: Option<Object<Sessions>>,
    worker: String,
    under_way: bool,
    pace: Arc<Pace>,
    /// Given back last, when the object is back in its pool.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// The client, from now on taken as busy until [`Self::finish`].
    pub fn start(&mut self) -> &Session {
        self.under_way = true;
        self.object.as_ref().expect("only discard and drop take the object")
    }

    /// Every statement has been answered: the connection may be lent again.
    pub fn finish(&mut self) {
        self.under_way = false;
        self.pace.answered();
    }

    /// Throws the connection away; the server rolls back what was open.
    pub fn discard(mut self) {
        self.under_way = false;
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.under_way {
            return;
        }
        let Some(object) = self.object.take() else { return };
        let client = Object::take(object);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let worker = std::mem::take(&mut self.worker);
        runtime.spawn(async move {
            let cancel = cancel(&client);
            if tokio::time::timeout(Duration::from_secs(2), cancel).await.is_err() {
                tracing::warn!(worker, "a statement could not be cancelled in time");
            }
        });
    }
}

async fn cancel(session: &Session) {
    if let Err(error) = session.cancel_token().cancel_query(session.tls()).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "cancel failed");
    }
}
