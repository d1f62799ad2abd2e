//! A coordinator's configuration: file, then environment `ATOLL__SECTION__KEY`. Unknown keys are errors.

use crate::search::{CacheSettings, SearchSettings};
use crate::write::ImportSettings;
use atoll_proto::limits;
use atoll_trust::{PeerFiles, PostgresTlsMode, ServerFiles, TlsError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A day: what others wrote is missing for no longer.
const CACHE_TTL_SECONDS_MAX: u64 = 86_400;

/// More standbys cost every write more, and add little.
const REPLICAS_MAX: u32 = 5;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file, the environment or their contents.
    #[error("the configuration can't be read")]
    Read(#[from] ::config::ConfigError),
    /// A value makes no sense.
    #[error("{key}: {detail}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A secret's file can't be read.
    #[error("{key}: the file {} can't be read", path.display())]
    Secret {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Everything an operator may set. What a setting's comment says is what `docs/configuration.md` says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub server: Server,
    /// The cluster it belongs to.
    pub cluster: Cluster,
    /// How it connects to workers.
    pub postgres: Postgres,
    /// What it shows other coordinators and agents, and whom of them it trusts; without it nothing between them is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PeerFiles>,
    /// How much a request may do.
    #[serde(default)]
    pub limits: Limits,
    /// How much an import does at once.
    #[serde(default)]
    pub import: Import,
    /// How recall is watched over.
    #[serde(default)]
    pub search: SearchSettings,
    /// Answers that may be given again.
    #[serde(default)]
    pub cache: CacheSettings,
    /// How groups with standbys are looked after.
    #[serde(default)]
    pub failover: Failover,
}

/// Where a coordinator listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address for clients.
    pub listen: SocketAddr,
    /// Address for coordinators and agents.
    pub internal_listen: SocketAddr,
    /// What it shows clients; without it nothing between them is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerFiles>,
    /// How clients reach it; by default `http://`, or `https://`, and `listen`. Needed where `listen` is a wildcard or has port 0.
    #[serde(default)]
    pub advertise: Option<String>,
    /// How coordinators and agents reach it; by default `http://`, or `https://`, and `internal_listen`. Needed likewise.
    #[serde(default)]
    pub internal_advertise: Option<String>,
    /// Allow addresses beyond loopback without TLS.
    #[serde(default)]
    pub insecure: bool,
    /// How long it goes on serving when it was told to stop, while `/readyz` says that it is not ready, in milliseconds. A load balancer
    /// has to notice in this time, or clients meet connections that close under their requests; without one, 0.
    #[serde(default)]
    pub leave_ms: u64,
    /// How long requests under way may take to end when it stops, after `leave_ms`, in milliseconds.
    #[serde(default = "default_drain_ms")]
    pub drain_ms: u64,
}

/// The cluster a coordinator belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Folder of its identity, log and snapshots.
    pub data_dir: PathBuf,
    /// Make a new cluster if `data_dir` holds none; on exactly one coordinator.
    #[serde(default)]
    pub bootstrap: bool,
    /// Internal URLs of coordinators to join by, on all others.
    #[serde(default)]
    pub join: Vec<String>,
    /// Shards of a new cluster, 1 to 9,999.
    #[serde(default = "default_shards")]
    pub shards: u32,
    /// Groups of a new cluster to wait for before shards are placed.
    #[serde(default = "default_initial_groups")]
    pub initial_groups: u32,
    /// Workers that a group of a new cluster has: 1 to 5. Three survive the loss of one: see failover.md.
    #[serde(default = "default_replicas")]
    pub replicas: u32,
    /// File with the secret that coordinators and agents share; of several lines the first is shown and each is taken.
    pub secret_file: PathBuf,
}

/// How a coordinator connects to workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// File with the password of the role `atoll_rw`.
    pub password_file: PathBuf,
    /// Whether connections are encrypted: `off` or `verify-full`.
    #[serde(default)]
    pub tls: PostgresTlsMode,
    /// File of the authorities of the servers' certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Connections to each worker; 0 for twice its cores and one. Never more than this coordinator's share of what `max_connections` has
    /// beyond 20 (shared by all coordinators, by two at least).
    #[serde(default)]
    pub pool_size: usize,
    /// Most requests that wait for a connection to one worker.
    #[serde(default = "default_queue")]
    pub queue: usize,
}

/// How much a request may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest body, in bytes, after decompression.
    pub body_bytes: usize,
    /// Most bytes that the bodies of requests under way have together (imports aside), those of writes that wait for a shard which is
    /// being handed over among them; more are answered 429.
    pub bodies_bytes: usize,
    /// Deadline of a request that names none, in milliseconds.
    pub deadline_ms: u64,
    /// Longest deadline that a request may name, in milliseconds. Streams have none: a statement of an import may run 300 s, of an
    /// export 4 h.
    pub deadline_ms_max: u64,
    /// Requests under way at once; more are answered 429.
    pub concurrency: usize,
    /// Imports and exports under way at once; more are answered 429.
    pub streams: usize,
    /// Longest silence of a client in milliseconds: before its headers are whole, within an import, while it reads an export.
    pub idle_ms: u64,
}

/// How groups with standbys are looked after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Failover {
    /// Time between two stamps, in seconds. A disk that was put back to a state of before the last two stamps is told from one that was not,
    /// and does not count; one that was put back by less is not. Each stamp is a change of the catalog for each group.
    pub stamp_seconds: u64,
}

/// How much an import does at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Import {
    /// Rows of an import's batch.
    pub batch_rows: usize,
    /// Bytes of NDJSON of an import's batch.
    pub batch_bytes: usize,
    /// Batches of an import under way at once.
    pub parallel: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: limits::BODY_BYTES,
            bodies_bytes: 512 * 1024 * 1024,
            deadline_ms: limits::DEADLINE_MS,
            deadline_ms_max: limits::DEADLINE_MS_MAX,
            concurrency: 512,
            streams: 16,
            idle_ms: limits::IDLE_MS,
        }
    }
}

impl Default for Failover {
    fn default() -> Self {
        Self { stamp_seconds: 60 }
    }
}

impl Default for Import {
    fn default() -> Self {
        Self { batch_rows: 1_000, batch_bytes: 8 * 1024 * 1024, parallel: 6 }
    }
}

fn default_drain_ms() -> u64 {
    10_000
}

fn default_shards() -> u32 {
    12
}

fn default_initial_groups() -> u32 {
    1
}

fn default_replicas() -> u32 {
    1
}

fn default_queue() -> usize {
    256
}

impl Config {
    /// Reads file and environment, and checks what they say.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let source = ::config::Config::builder()
            .add_source(::config::File::from(file).format(::config::FileFormat::Toml))
            .add_source(
                ::config::Environment::with_prefix("ATOLL")
                    .prefix_separator("__")
                    .separator("__")
                    .try_parsing(true)
                    .list_separator(",")
                    .with_list_parse_key("cluster.join"),
            )
            .build()?;
        let config: Self = source.try_deserialize()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let Self { server, cluster, postgres, tls, limits, import, search, cache, failover } = self;
        let wrong = |key, detail: &str| Err(ConfigError::Value { key, detail: detail.to_owned() });
        for (key, listen, encrypted, how) in [
            ("server.listen", server.listen, server.tls.is_some(), "server.tls"),
            ("server.internal_listen", server.internal_listen, tls.is_some(), "tls"),
        ] {
            if !listen.ip().is_loopback() && !encrypted && !server.insecure {
                let detail = format!(
                    "beyond loopback everybody could read and write; set up [{how}], or set server.insecure = true if the network \
                     keeps them out"
                );
                return wrong(key, &detail);
            }
        }
        let (public, internal) = (scheme(server.tls.is_some()), scheme(tls.is_some()));
        for (key, url, scheme, section) in [
            ("server.advertise", self.http_url(), public, "server.tls"),
            ("server.internal_advertise", self.internal_url(), internal, "tls"),
        ] {
            if let Err(detail) = leads_here(&url, scheme, section) {
                return wrong(key, &detail);
            }
        }
        match (postgres.tls, &postgres.ca_file) {
            (PostgresTlsMode::VerifyFull, None) => {
                return wrong("postgres.ca_file", "verify-full needs the authorities to verify by");
            }
            (PostgresTlsMode::Off, Some(_)) => {
                return wrong("postgres.ca_file", "is of no use without postgres.tls = \"verify-full\"");
            }
            (PostgresTlsMode::VerifyFull, Some(_)) | (PostgresTlsMode::Off, None) => {}
        }
        if cluster.bootstrap != cluster.join.is_empty() {
            return wrong(
                "cluster.join",
                "give either cluster.bootstrap = true, on the first coordinator, or cluster.join, on the others; a first one \
                 that lost its data joins like the others: replace bootstrap by join",
            );
        }
        if let Some(detail) = cluster.join.iter().find_map(|url| leads_here(url, internal, "tls").err()) {
            return wrong("cluster.join", &detail);
        }
        if !(1..=limits::SHARDS).contains(&cluster.shards) {
            return wrong("cluster.shards", "must be 1 to 9999");
        }
        if cluster.initial_groups == 0 || cluster.initial_groups > cluster.shards {
            return wrong("cluster.initial_groups", "must be at least 1 and at most cluster.shards");
        }
        if !(1..=REPLICAS_MAX).contains(&cluster.replicas) {
            return wrong("cluster.replicas", "must be 1 to 5");
        }
        if limits.deadline_ms > limits.deadline_ms_max {
            return wrong("limits.deadline_ms", "must be at most limits.deadline_ms_max");
        }
        if cache.ttl_seconds > CACHE_TTL_SECONDS_MAX {
            return wrong("cache.ttl_seconds", "must be at most 86400, a day");
        }
        if !(0.0..=1.0).contains(&search.recheck_share) {
            return wrong("search.recheck_share", "must be 0 to 1");
        }
        let at_least_one = [
            ("postgres.queue", postgres.queue),
            ("limits.body_bytes", limits.body_bytes),
            ("limits.bodies_bytes", limits.bodies_bytes),
            ("limits.deadline_ms", limits.deadline_ms as usize),
            ("limits.concurrency", limits.concurrency),
            ("limits.streams", limits.streams),
            ("limits.idle_ms", limits.idle_ms as usize),
            ("import.batch_rows", import.batch_rows),
            ("import.batch_bytes", import.batch_bytes),
            ("import.parallel", import.parallel),
            ("search.calibration.queries_per_minute", search.calibration.queries_per_minute as usize),
            ("cache.ttl_seconds", cache.ttl_seconds as usize),
            ("failover.stamp_seconds", failover.stamp_seconds as usize),
        ];
        match at_least_one.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => wrong(key, "must be at least 1"),
            None => Ok(()),
        }
    }

    /// How clients reach this coordinator.
    pub fn http_url(&self) -> String {
        let Server { advertise, tls, listen, .. } = &self.server;
        advertise.clone().unwrap_or_else(|| format!("{}://{listen}", scheme(tls.is_some())))
    }

    /// How coordinators and agents reach this coordinator.
    pub fn internal_url(&self) -> String {
        let Server { internal_advertise, internal_listen, .. } = &self.server;
        internal_advertise.clone().unwrap_or_else(|| format!("{}://{internal_listen}", scheme(self.tls.is_some())))
    }

    /// The host that coordinators and agents dial to reach this coordinator.
    pub fn internal_host(&self) -> String {
        let url = self.internal_url().parse::<http::Uri>().ok();
        url.and_then(|url| url.host().map(str::to_owned)).unwrap_or_default()
    }

    /// The secret that coordinators and agents share.
    pub fn cluster_secret(&self) -> Result<String, ConfigError> {
        secret("cluster.secret_file", &self.cluster.secret_file)
    }

    /// The password of the role `atoll_rw`.
    pub fn postgres_password(&self) -> Result<String, ConfigError> {
        secret("postgres.password_file", &self.postgres.password_file)
    }

    /// Settings of imports.
    pub fn import_settings(&self) -> ImportSettings {
        let Import { batch_rows, batch_bytes, parallel } = self.import;
        ImportSettings { batch_rows, batch_bytes, parallel, line_bytes: limits::IMPORT_LINE_BYTES }
    }

    /// Longest that any statement may run.
    pub fn statement_timeout(&self) -> Duration {
        Duration::from_millis(self.limits.deadline_ms_max)
    }
}

fn scheme(encrypted: bool) -> &'static str {
    if encrypted { "https" } else { "http" }
}

/// Whether a base URL can lead another machine to where it is meant to: the right scheme, a host that is one, a port that is one.
/// If not, what to write; `section` is what decides on the scheme.
fn leads_here(given: &str, scheme: &str, section: &str) -> Result<(), String> {
    let Ok(url) = given.parse::<http::Uri>() else {
        return Err(format!("{given:?} is no URL like {scheme}://10.0.0.1:7750"));
    };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let anywhere = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    if host.is_empty() || anywhere || url.port_u16() == Some(0) {
        return Err(format!("others can't reach {given:?}; say how they do, as in {scheme}://10.0.0.1:7750"));
    }
    match (url.scheme_str(), scheme) {
        (Some(one), wanted) if one == wanted => Ok(()),
        (_, "https") => Err(format!("[{section}] has everything there encrypted: write https:// in {given:?}")),
        (_, _) => Err(format!("write http:// in {given:?}, or set up [{section}]")),
    }
}

fn secret(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Secret { key, path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(key, path = %path.display(), mode = format!("{mode:o}"), "secret file is open to others, make it 0600");
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(ConfigError::Value { key, detail: format!("the file {} is empty", path.display()) });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
