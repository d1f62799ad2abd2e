//! Connections to workers: one pool a server, bounded in connections and in those who wait, so that a server that hangs holds
//! up nobody but its own callers.
//!
//! A future that is dropped does not stop its statement: the backend goes on, and the connection's next user would wait for it.
//! So every checkout is a [`Connection`] guard: dropped with a statement under way, it cancels the statement on the server and
//! throws the connection away (a late cancel could hit the next user's statement).

use super::ShardError;
use atoll_core::routing::WorkerRoute;
use atoll_proto::WorkerId;
use atoll_proto::agent::{COORDINATOR_ROLE, PostgresAddress};
use deadpool_postgres::{
    ClientWrapper, Manager, ManagerConfig, Object, Pool, PoolError, QueueMode, RecyclingMethod, Timeouts,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::{Client, NoTls};

/// How coordinators connect to workers.
#[derive(Clone)]
pub struct WorkersSettings {
    /// Password of the coordinators' role.
    pub password: String,
    /// Connections to each worker; 0 for twice its cores and one more.
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
    settings: WorkersSettings,
    pools: RwLock<HashMap<WorkerId, Arc<WorkerPool>>>,
}

impl Workers {
    /// No pool yet: each is made when its worker is first asked.
    pub fn new(settings: WorkersSettings) -> Self {
        Self { settings, pools: RwLock::default() }
    }

    /// The pool of a worker, made anew if the worker's address has changed.
    pub fn pool(&self, route: &WorkerRoute) -> Arc<WorkerPool> {
        {
            let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(pool) = pools.get(&route.worker)
                && pool.address == route.postgres
            {
                return pool.clone();
            }
        }
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let pool = Arc::new(WorkerPool::new(route, &self.settings));
        pools.insert(route.worker, pool.clone());
        pool
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
}

/// Connections to one worker.
#[derive(Debug)]
pub struct WorkerPool {
    name: String,
    address: PostgresAddress,
    pool: Pool,
    waiting: AtomicUsize,
    queue: usize,
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
            .application_name("atoll")
            .connect_timeout(Duration::from_secs(2))
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(20))
            // The coordinator chooses the path of a statement, by its text: a cached generic plan must not choose another.
            .options(format!(
                "-c statement_timeout={} -c lock_timeout=10000 -c plan_cache_mode=force_custom_plan -c jit=off",
                settings.statement_timeout.as_millis()
            ));
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let size = match settings.pool_size {
            0 => route.cores as usize * 2 + 1,
            size => size,
        };
        // A few connections are left to agents, replication and people.
        let free = (route.max_connections as usize).saturating_sub(20).max(1);
        let pool = Pool::builder(manager)
            .max_size(size.clamp(2, free.max(2)))
            // The connection used last comes first: its backend has its caches warm.
            .queue_mode(QueueMode::Lifo)
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .build()
            .expect("only timeouts without a runtime make a pool fail to build");
        Self {
            name: route.name.clone(),
            address: route.postgres.clone(),
            pool,
            waiting: AtomicUsize::new(0),
            queue: settings.queue,
        }
    }

    /// The worker's name.
    pub fn worker(&self) -> &str {
        &self.name
    }

    fn gauge(&self) -> PoolGauge {
        let status = self.pool.status();
        let idle = status.available;
        PoolGauge { worker: self.name.clone(), active: status.size.saturating_sub(idle), idle, max: status.max_size }
    }

    /// Lends a connection, or says why not, before the deadline.
    pub async fn connection(&self, deadline: Instant) -> Result<Connection, ShardError> {
        let _place = self.queue_up()?;
        let timeouts = Timeouts {
            wait: Some(deadline.saturating_duration_since(Instant::now())),
            create: Some(deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(2))),
            recycle: None,
        };
        let worker = || self.name.clone();
        // Waiting and connecting share the time that is left.
        let got = timeout_at(deadline, self.pool.timeout_get(&timeouts)).await;
        let got = match got {
            Ok(got) => got,
            Err(elapsed) => return Err(ShardError::Unreachable { worker: worker(), source: Box::new(elapsed) }),
        };
        match got {
            Ok(object) => Ok(Connection { object: Some(object), worker: self.name.clone(), under_way: false }),
            Err(PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => {
                Err(ShardError::Overloaded { worker: worker() })
            }
            Err(PoolError::Backend(error)) => Err(ShardError::of_connecting(&self.name, error)),
            Err(error) => Err(ShardError::Unreachable { worker: worker(), source: Box::new(error) }),
        }
    }

    /// Runs statements on a connection until the deadline. On any failure the connection is thrown away, so a transaction
    /// left open in it is rolled back.
    pub async fn run<T>(
        &self,
        deadline: Instant,
        work: impl AsyncFnOnce(&ClientWrapper) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, ShardError> {
        let mut connection = self.connection(deadline).await?;
        let done = timeout_at(deadline, work(connection.start())).await;
        match done {
            Ok(Ok(value)) => {
                connection.finish();
                Ok(value)
            }
            Ok(Err(error)) => {
                let error = ShardError::of(&self.name, error);
                connection.discard();
                Err(error)
            }
            // The guard cancels what is under way.
            Err(_) => Err(ShardError::Deadline { worker: self.name.clone() }),
        }
    }

    fn queue_up(&self) -> Result<Place<'_>, ShardError> {
        let place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.queue {
            return Err(ShardError::Overloaded { worker: self.name.clone() });
        }
        Ok(place)
    }
}

/// A place in the queue of a pool, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A borrowed connection.
pub struct Connection {
    object: Option<Object>,
    worker: String,
    under_way: bool,
}

impl Connection {
    /// The worker's name.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// The client, from now on taken as busy until [`Self::finish`].
    pub fn start(&mut self) -> &ClientWrapper {
        self.under_way = true;
        self.object.as_ref().expect("only discard and drop take the object")
    }

    /// Every statement has been answered: the connection may be lent again.
    pub fn finish(&mut self) {
        self.under_way = false;
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

async fn cancel(client: &Client) {
    if let Err(error) = client.cancel_token().cancel_query(NoTls).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "cancel failed");
    }
}
