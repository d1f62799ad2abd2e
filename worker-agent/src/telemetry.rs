//! Metrics of an agent. Every metric's name is a constant here. What PostgreSQL counts (`postgres`) is no state of the agent: it is read
//! whole at an interval, and what could not be read is not told.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, Histogram, HistogramOpts, IntGauge, Registry, TextEncoder};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Names of metrics.
pub mod names {
    /// Time that builds of graphs took.
    pub const BUILD_SECONDS: &str = "hnsw_index_build_duration_seconds";
    /// Builds of graphs under way.
    pub const BUILDS_ACTIVE: &str = "hnsw_index_builds_active";
    /// Builds of graphs that others come before.
    pub const BUILDS_WAITING: &str = "hnsw_index_builds_waiting";
}

/// What PostgreSQL says of itself: `pg/vitals/` reads it, from columns of these names.
pub(crate) mod postgres {
    use super::{PgMetric, counter, gauge, largest};

    pub(crate) const UP: PgMetric = gauge("postgres_up", "Whether PostgreSQL serves.", &[]);
    pub(crate) const STARTED_AT: PgMetric = gauge("postgres_started_at_seconds", "When it started, since 1970.", &[]);
    pub(crate) const DISK_BYTES: PgMetric = gauge("postgres_disk_bytes", "Size of the file system of its data.", &[]);
    pub(crate) const DISK_FREE_BYTES: PgMetric = gauge("postgres_disk_free_bytes", "What is free of it.", &[]);

    pub(crate) const BLOCKS_HIT: PgMetric =
        counter("postgres_blocks_hit_total", "Blocks found in shared buffers.", &["database"]);
    pub(crate) const BLOCKS_READ: PgMetric =
        counter("postgres_blocks_read_total", "Blocks not found in shared buffers.", &["database"]);
    pub(crate) const COMMITS: PgMetric = counter("postgres_commits_total", "Transactions committed.", &["database"]);
    pub(crate) const ROLLBACKS: PgMetric =
        counter("postgres_rollbacks_total", "Transactions rolled back.", &["database"]);
    pub(crate) const ROWS_WRITTEN: PgMetric =
        counter("postgres_rows_written_total", "Rows inserted, updated and deleted.", &["database"]);
    pub(crate) const DEADLOCKS: PgMetric = counter("postgres_deadlocks_total", "Deadlocks found.", &["database"]);
    pub(crate) const TEMP_FILES: PgMetric =
        counter("postgres_temp_files_total", "Temporary files of statements.", &["database"]);
    pub(crate) const TEMP_BYTES: PgMetric =
        counter("postgres_temp_bytes_total", "Written to temporary files.", &["database"]);

    pub(crate) const CONNECTIONS: PgMetric = gauge("postgres_connections", "Connections of clients.", &["state"]);
    pub(crate) const CONNECTIONS_MAX: PgMetric = gauge("postgres_connections_max", "max_connections.", &[]);
    pub(crate) const OLDEST_TRANSACTION: PgMetric =
        gauge("postgres_oldest_transaction_seconds", "Age of the oldest transaction of a client.", &[]);
    pub(crate) const LOCKS_WAITING: PgMetric = gauge("postgres_locks_waiting", "Locks that are waited for.", &[]);
    pub(crate) const LOCK_WAIT: PgMetric = gauge("postgres_lock_wait_seconds", "Longest wait for a lock.", &[]);

    pub(crate) const DATABASE_BYTES: PgMetric = gauge("postgres_database_bytes", "Size of the worker's database.", &[]);
    pub(crate) const TRANSACTION_ID_AGE: PgMetric =
        gauge("postgres_transaction_id_age", "Age of the oldest transaction id not frozen.", &[]);
    pub(crate) const MULTIXACT_ID_AGE: PgMetric =
        gauge("postgres_multixact_id_age", "Age of the oldest multixact id not frozen.", &[]);
    pub(crate) const WAL_BYTES: PgMetric = counter("postgres_wal_bytes_total", "Written to the log.", &[]);
    pub(crate) const WAL_FILES_BYTES: PgMetric = gauge("postgres_wal_files_bytes", "Size of the log's files.", &[]);
    pub(crate) const CHECKPOINTS: PgMetric = counter("postgres_checkpoints_total", "Checkpoints.", &["reason"]);
    pub(crate) const CHECKPOINT_SECONDS: PgMetric =
        counter("postgres_checkpoint_seconds_total", "Time that checkpoints took.", &["phase"]);

    pub(crate) const SCANS: PgMetric = counter("postgres_scans_total", "Scans begun.", &["kind", "method"]);
    pub(crate) const RELATION_BYTES: PgMetric =
        gauge("postgres_relation_bytes", "Size of tables and indexes.", &["kind", "method"]);
    pub(crate) const LIVE_ROWS: PgMetric = gauge("postgres_live_rows", "Rows, about.", &["kind"]);
    pub(crate) const DEAD_ROWS: PgMetric = gauge("postgres_dead_rows", "Dead rows not vacuumed yet, about.", &["kind"]);
    pub(crate) const VACUUM_DUE_TABLES: PgMetric =
        gauge("postgres_vacuum_due_tables", "Tables that autovacuum should vacuum.", &["kind"]);
    pub(crate) const VACUUM_AGE: PgMetric =
        largest("postgres_vacuum_age_seconds", "Time since the last vacuum of a table that is due.", &["kind"]);

    pub(crate) const SLOTS: PgMetric = gauge("postgres_slots", "Replication slots.", &["purpose"]);
    pub(crate) const SLOTS_INACTIVE: PgMetric =
        gauge("postgres_slots_inactive", "Replication slots that nobody reads.", &["purpose"]);
    pub(crate) const SLOT_RETAINED: PgMetric =
        gauge("postgres_slot_retained_bytes", "Most of the log that a slot keeps.", &["purpose"]);
    pub(crate) const SENDERS: PgMetric = gauge("postgres_senders", "Connections that replicate.", &["purpose"]);
    pub(crate) const LAG_BYTES: PgMetric =
        gauge("postgres_replication_lag_bytes", "Most that one of them is behind.", &["purpose"]);
    pub(crate) const LAG_SECONDS: PgMetric =
        gauge("postgres_replication_lag_seconds", "Longest that one of them is behind.", &["purpose"]);
}

/// A metric that is read from PostgreSQL.
#[derive(Debug)]
pub struct PgMetric {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Its labels' names.
    pub labels: &'static [&'static str],
    /// What its values are.
    pub kind: PgKind,
}

/// What the values of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PgKind {
    /// Counts up; those of several objects add up.
    Counter,
    /// Goes up and down; those of several objects add up.
    Gauge,
    /// Goes up and down; of several objects the largest counts.
    Largest,
}

/// One value of a metric.
#[derive(Debug, Clone)]
pub struct PgSample {
    /// The metric.
    pub metric: &'static PgMetric,
    /// Values of its labels, in their order.
    pub labels: Vec<String>,
    /// The value.
    pub value: f64,
}

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> PgMetric {
    PgMetric { name, help, labels, kind: PgKind::Counter }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> PgMetric {
    PgMetric { name, help, labels, kind: PgKind::Gauge }
}

const fn largest(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> PgMetric {
    PgMetric { name, help, labels, kind: PgKind::Largest }
}

/// From a small namespace to hours.
const SECONDS: [f64; 12] = [0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1_800.0, 7_200.0, 28_800.0];

/// Every metric of an agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What was read last.
    postgres: Mutex<Vec<PgSample>>,
    /// [`names::BUILD_SECONDS`].
    pub build_seconds: Histogram,
    /// [`names::BUILDS_ACTIVE`].
    pub builds_active: IntGauge,
    /// [`names::BUILDS_WAITING`].
    pub builds_waiting: IntGauge,
}

impl Metrics {
    /// Registers them.
    pub fn new() -> Self {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help).expect("constant names are valid");
            registry.register(Box::new(metric.clone())).expect("every name is registered once");
            metric
        };
        let histogram = |name: &str, help: &str| {
            let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let metric = Histogram::with_opts(opts).expect("constant names and buckets are valid");
            registry.register(Box::new(metric.clone())).expect("every name is registered once");
            metric
        };
        Self {
            build_seconds: histogram(names::BUILD_SECONDS, "Time that builds of graphs took."),
            builds_active: gauge(names::BUILDS_ACTIVE, "Builds of graphs under way."),
            builds_waiting: gauge(names::BUILDS_WAITING, "Builds of graphs that others come before."),
            postgres: Mutex::default(),
            registry,
        }
    }

    /// Takes what was read from PostgreSQL, in place of all that was read before.
    pub fn postgres(&self, samples: Vec<PgSample>) {
        *self.postgres.lock().unwrap_or_else(PoisonError::into_inner) = samples;
    }

    /// Prometheus' text format.
    pub fn render(&self) -> String {
        let mut families = self.registry.gather();
        families.extend(families_of(&self.postgres.lock().unwrap_or_else(PoisonError::into_inner)));
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

/// The same in the words of Prometheus' library, by name.
fn families_of(samples: &[PgSample]) -> Vec<MetricFamily> {
    let mut by_name: BTreeMap<&str, MetricFamily> = BTreeMap::new();
    for PgSample { metric: PgMetric { name, help, labels: label_names, kind }, labels, value } in samples {
        let label = |(name, value): (&&str, &String)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone());
            pair
        };
        let mut told = Metric::from_label(label_names.iter().zip(labels).map(label).collect());
        let type_ = match kind {
            PgKind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(*value);
                told.set_counter(counter);
                MetricType::COUNTER
            }
            PgKind::Gauge | PgKind::Largest => {
                let mut gauge = Gauge::default();
                gauge.set_value(*value);
                told.set_gauge(gauge);
                MetricType::GAUGE
            }
        };
        let family = by_name.entry(name).or_default();
        family.set_name((*name).to_owned());
        family.set_help((*help).to_owned());
        family.set_field_type(type_);
        family.mut_metric().push(told);
    }
    by_name.into_values().collect()
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
