//! Metrics of an agent. Every metric's name is a constant here.

use prometheus::{Encoder, Histogram, HistogramOpts, IntGauge, Registry, TextEncoder};

/// Names of metrics.
pub mod names {
    /// Time that builds of graphs took.
    pub const BUILD_SECONDS: &str = "hnsw_index_build_duration_seconds";
    /// Builds of graphs under way.
    pub const BUILDS_ACTIVE: &str = "hnsw_index_builds_active";
    /// Builds of graphs that others come before.
    pub const BUILDS_WAITING: &str = "hnsw_index_builds_waiting";
}

/// From a small namespace to hours.
const SECONDS: [f64; 12] = [0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1_800.0, 7_200.0, 28_800.0];

/// Every metric of an agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
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
            registry,
        }
    }

    /// Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
