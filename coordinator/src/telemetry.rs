//! Logs and metrics. Every metric's name is a constant here, and its label keys stand beside it in [`Metrics::new`].

use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Names of metrics.
pub mod names {
    /// Time to answer a search.
    pub const SEARCH_SECONDS: &str = "vector_search_duration_seconds";
    /// Hits given.
    pub const SEARCH_RESULTS: &str = "vector_search_results_total";
    /// Time of one shard's part.
    pub const SHARD_SECONDS: &str = "shard_query_latency_seconds";
    /// Recall of live searches, lately.
    pub const RECALL_ESTIMATE: &str = "recall_estimate";
    /// Live searches that were run again exactly.
    pub const RECALL_SAMPLES: &str = "recall_samples_total";
    /// Searches answered from the cache.
    pub const CACHE_HITS: &str = "cache_hits_total";
    /// Searches that might have been, and were not.
    pub const CACHE_MISSES: &str = "cache_misses_total";
    /// Bytes that cached answers take.
    pub const CACHE_BYTES: &str = "cache_bytes";
    /// Requests by route and status.
    pub const HTTP_REQUESTS: &str = "atoll_http_requests_total";
    /// Time to answer a request, by route.
    pub const HTTP_SECONDS: &str = "atoll_http_request_duration_seconds";
    /// Entries written, by outcome.
    pub const ENTRIES_WRITTEN: &str = "atoll_entries_written_total";
    /// Connections in use.
    pub const CONNECTIONS_ACTIVE: &str = "db_connections_active";
    /// Connections open and unused.
    pub const CONNECTIONS_IDLE: &str = "db_connections_idle";
    /// Most connections there may be.
    pub const CONNECTIONS_MAX: &str = "db_connections_max";
    /// Requests that wait for a connection.
    pub const CONNECTIONS_WAITING: &str = "db_connections_waiting";
    /// Rows of a shard.
    pub const SHARD_ROWS: &str = "shard_row_count";
    /// Bytes of a shard.
    pub const SHARD_BYTES: &str = "shard_size_bytes";
    /// Shards of a group.
    pub const GROUP_SHARDS: &str = "atoll_group_shards";
    /// Bytes of a group's shards.
    pub const GROUP_BYTES: &str = "atoll_group_size_bytes";
    /// What a group should hold, relative to the others.
    pub const GROUP_CAPACITY: &str = "atoll_group_capacity";
    /// Whether a group has a primary that serves.
    pub const GROUP_HAS_PRIMARY: &str = "atoll_group_has_primary";
    /// Workers of a group.
    pub const GROUP_MEMBERS: &str = "atoll_group_members";
    /// Those that are up and could take over.
    pub const GROUP_IN_SYNC: &str = "atoll_group_in_sync";
    /// How much a standby has not replayed.
    pub const LAG_BYTES: &str = "replication_lag_bytes";
    /// For how long it has not.
    pub const LAG_SECONDS: &str = "replication_lag_seconds";
    /// Changes of primaries.
    pub const FAILOVERS: &str = "atoll_failovers_total";
    /// How long a group had no primary.
    pub const WITHOUT_PRIMARY_SECONDS: &str = "atoll_without_primary_seconds";
    /// Moves under way.
    pub const MOVES_ACTIVE: &str = "atoll_moves_active";
    /// Whether a worker answers.
    pub const WORKER_UP: &str = "atoll_worker_up";
    /// Number of the catalog's last change.
    pub const CATALOG_VERSION: &str = "atoll_catalog_version";
    /// Whether this coordinator leads.
    pub const LEADER: &str = "atoll_raft_leader";
}

/// Every metric of a coordinator.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// [`names::SEARCH_SECONDS`] by `scope`.
    pub search_seconds: HistogramVec,
    /// [`names::SEARCH_RESULTS`] by `scope`.
    pub search_results: IntCounterVec,
    /// [`names::SHARD_SECONDS`] by `shard_id` and `query_type`.
    pub shard_seconds: HistogramVec,
    /// [`names::RECALL_ESTIMATE`] by `collection` and `profile`.
    pub recall_estimate: GaugeVec,
    /// [`names::RECALL_SAMPLES`] by `collection` and `profile`.
    pub recall_samples: IntCounterVec,
    /// [`names::CACHE_HITS`].
    pub cache_hits: IntCounter,
    /// [`names::CACHE_MISSES`].
    pub cache_misses: IntCounter,
    /// [`names::CACHE_BYTES`].
    pub cache_bytes: IntGauge,
    /// [`names::HTTP_REQUESTS`] by `method`, `route` and `status`.
    pub http_requests: IntCounterVec,
    /// [`names::HTTP_SECONDS`] by `method` and `route`.
    pub http_seconds: HistogramVec,
    /// [`names::ENTRIES_WRITTEN`] by `outcome`.
    pub entries_written: IntCounterVec,
    /// [`names::CONNECTIONS_ACTIVE`] by `worker`.
    pub connections_active: IntGaugeVec,
    /// [`names::CONNECTIONS_IDLE`] by `worker`.
    pub connections_idle: IntGaugeVec,
    /// [`names::CONNECTIONS_MAX`] by `worker`.
    pub connections_max: IntGaugeVec,
    /// [`names::CONNECTIONS_WAITING`] by `worker`.
    pub connections_waiting: IntGaugeVec,
    /// [`names::SHARD_ROWS`] by `shard_id`.
    pub shard_rows: IntGaugeVec,
    /// [`names::SHARD_BYTES`] by `shard_id`.
    pub shard_bytes: IntGaugeVec,
    /// [`names::GROUP_SHARDS`] by `group`.
    pub group_shards: IntGaugeVec,
    /// [`names::GROUP_BYTES`] by `group`.
    pub group_bytes: IntGaugeVec,
    /// [`names::GROUP_CAPACITY`] by `group`.
    pub group_capacity: IntGaugeVec,
    /// [`names::GROUP_HAS_PRIMARY`] by `group`.
    pub group_has_primary: IntGaugeVec,
    /// [`names::GROUP_MEMBERS`] by `group`.
    pub group_members: IntGaugeVec,
    /// [`names::GROUP_IN_SYNC`] by `group`.
    pub group_in_sync: IntGaugeVec,
    /// [`names::LAG_BYTES`] by `group` and `worker`.
    pub lag_bytes: IntGaugeVec,
    /// [`names::LAG_SECONDS`] by `group` and `worker`.
    pub lag_seconds: GaugeVec,
    /// [`names::FAILOVERS`] by `group` and `kind`.
    pub failovers: IntCounterVec,
    /// [`names::WITHOUT_PRIMARY_SECONDS`] by `group` and `kind`.
    pub without_primary_seconds: HistogramVec,
    /// [`names::MOVES_ACTIVE`].
    pub moves_active: IntGauge,
    /// [`names::WORKER_UP`] by `worker`.
    pub worker_up: IntGaugeVec,
    /// [`names::CATALOG_VERSION`].
    pub catalog_version: IntGauge,
    /// [`names::LEADER`].
    pub leader: IntGauge,
}

const SECONDS: [f64; 15] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 10.0];

impl Metrics {
    /// Registers them.
    pub fn new() -> Self {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str, labels: &[&str]| {
            let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let metric = HistogramVec::new(opts, labels).expect("constant names and labels are valid");
            registry.register(Box::new(metric.clone())).expect("every name is registered once");
            metric
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let metric =
                IntCounterVec::new(Opts::new(name, help), labels).expect("constant names and labels are valid");
            registry.register(Box::new(metric.clone())).expect("every name is registered once");
            metric
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect("constant names and labels are valid");
            registry.register(Box::new(metric.clone())).expect("every name is registered once");
            metric
        };
        let real_gauge = |name: &str, help: &str, labels: &[&str]| {
            let metric = GaugeVec::new(Opts::new(name, help), labels).expect("constant names and labels are valid");
            registry.register(Box::new(metric.clone())).expect("every name is registered once");
            metric
        };
        let plain_counter = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help).expect("constant names are valid");
            registry.register(Box::new(metric.clone())).expect("every name is registered once");
            metric
        };
        let plain_gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help).expect("constant names are valid");
            registry.register(Box::new(metric.clone())).expect("every name is registered once");
            metric
        };
        Self {
            search_seconds: histogram(names::SEARCH_SECONDS, "Time to answer a search.", &["scope"]),
            search_results: counter(names::SEARCH_RESULTS, "Hits given.", &["scope"]),
            shard_seconds: histogram(names::SHARD_SECONDS, "Time of one shard's part.", &["shard_id", "query_type"]),
            recall_estimate: real_gauge(
                names::RECALL_ESTIMATE,
                "Recall of live searches, lately.",
                &["collection", "profile"],
            ),
            recall_samples: counter(
                names::RECALL_SAMPLES,
                "Live searches that were run again exactly.",
                &["collection", "profile"],
            ),
            cache_hits: plain_counter(names::CACHE_HITS, "Searches answered from the cache."),
            cache_misses: plain_counter(names::CACHE_MISSES, "Searches that the cache had no good answer to."),
            cache_bytes: plain_gauge(names::CACHE_BYTES, "Bytes that cached answers take."),
            http_requests: counter(names::HTTP_REQUESTS, "Requests answered.", &["method", "route", "status"]),
            http_seconds: histogram(names::HTTP_SECONDS, "Time to answer a request.", &["method", "route"]),
            entries_written: counter(names::ENTRIES_WRITTEN, "Entries written, by outcome.", &["outcome"]),
            connections_active: gauge(names::CONNECTIONS_ACTIVE, "Connections in use.", &["worker"]),
            connections_idle: gauge(names::CONNECTIONS_IDLE, "Connections open and unused.", &["worker"]),
            connections_max: gauge(names::CONNECTIONS_MAX, "Most connections there may be.", &["worker"]),
            connections_waiting: gauge(names::CONNECTIONS_WAITING, "Requests that wait for a connection.", &["worker"]),
            shard_rows: gauge(names::SHARD_ROWS, "Rows of a shard.", &["shard_id"]),
            shard_bytes: gauge(names::SHARD_BYTES, "Bytes of a shard.", &["shard_id"]),
            group_shards: gauge(names::GROUP_SHARDS, "Shards of a group.", &["group"]),
            group_bytes: gauge(names::GROUP_BYTES, "Bytes of a group's shards.", &["group"]),
            group_capacity: gauge(
                names::GROUP_CAPACITY,
                "What a group should hold, relative to the others.",
                &["group"],
            ),
            group_has_primary: gauge(
                names::GROUP_HAS_PRIMARY,
                "Whether a group with standbys has a primary that serves.",
                &["group"],
            ),
            group_members: gauge(names::GROUP_MEMBERS, "Workers of a group with standbys.", &["group"]),
            group_in_sync: gauge(names::GROUP_IN_SYNC, "Those of them that are up and could take over.", &["group"]),
            lag_bytes: gauge(
                names::LAG_BYTES,
                "What of its primary's log a standby has not replayed.",
                &["group", "worker"],
            ),
            lag_seconds: real_gauge(
                names::LAG_SECONDS,
                "For how long the oldest of that has been there.",
                &["group", "worker"],
            ),
            failovers: counter(names::FAILOVERS, "Changes of a group's primary.", &["group", "kind"]),
            without_primary_seconds: histogram(
                names::WITHOUT_PRIMARY_SECONDS,
                "How long a group had no primary.",
                &["group", "kind"],
            ),
            moves_active: plain_gauge(names::MOVES_ACTIVE, "Moves of shards under way."),
            worker_up: gauge(names::WORKER_UP, "Whether a worker answers.", &["worker"]),
            catalog_version: plain_gauge(names::CATALOG_VERSION, "Number of the catalog's last change."),
            leader: plain_gauge(names::LEADER, "Whether this coordinator leads."),
            registry,
        }
    }

    /// Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics could not be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// An error with its causes, for the log.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The filter that was asked for, and what is noted of operators with it: only who names `audit` silences that.
fn with_audit(asked: &str) -> String {
    if asked.contains("audit") { asked.to_owned() } else { format!("{asked},audit=info") }
}

/// Starts logging to stderr: for people on a terminal, JSON otherwise. `RUST_LOG` filters, `info` by default.
pub fn start_logging() {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let wanted = if asked.is_empty() { None } else { EnvFilter::try_new(with_audit(&asked)).ok() };
    let filter = wanted.unwrap_or_else(|| EnvFilter::new("info,openraft=warn,deadpool=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process keeps the first one's logger.
    let _ = match std::io::stderr().is_terminal() {
        true => builder.try_init(),
        false => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
}
