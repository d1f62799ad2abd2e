//! Configuration: a TOML file, then environment variables `ATOLL_AGENT__SECTION__KEY`, then flags. Unknown keys are
//! errors, because a misspelt setting that is silently ignored is found too late.

mod endpoint;
mod postgres;

pub use endpoint::Endpoint;
pub use postgres::PostgresSection;

use atoll_proto::agent::WorkerMode;
use atoll_proto::{GroupName, WorkerName};
use atoll_trust::{PeerFiles, PostgresTlsMode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All settings of an agent. Passwords are in files that it names, so it can be printed. What a setting's
/// comment says is what `docs/configuration.md` says of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The worker's name.
    #[schemars(with = "String")]
    pub name: WorkerName,
    /// Its group; by default one of its own, of the worker's name. Today one worker a group.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// `managed`: the agent initialises, configures, starts and stops the server; `external`: it only connects.
    #[schemars(with = "String")]
    pub mode: WorkerMode,
    /// Address of the agent's own HTTP.
    pub listen: SocketAddr,
    /// How coordinators reach the agent; by default `http://` and `listen`. Needed when it listens on every address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Internal URLs of coordinators, tried in turn.
    pub coordinators: Vec<String>,
    /// File with the secret that coordinators and agents share; of several lines the first is shown and each is taken.
    pub cluster_secret_file: PathBuf,
    /// File with the password that the role `atoll_rw` gets.
    pub postgres_password_file: PathBuf,
    /// Relative capacity for placement.
    #[serde(default = "default_capacity")]
    pub capacity: u32,
    /// Accept a pgvector older than 0.8.4, which can corrupt HNSW indexes.
    #[serde(default)]
    pub allow_old_pgvector: bool,
    /// Stop when standard input ends: whoever started the agent holds the other end.
    #[serde(default)]
    pub stop_on_stdin_eof: bool,
    /// Allow addresses beyond loopback without TLS, also of coordinators and of an external server.
    #[serde(default)]
    pub insecure: bool,
    /// File of the worker's identity; by default beside the data directory (managed), or beside the configuration (external).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// What the agent shows coordinators, and whom of them it trusts; without it nothing between them is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PeerFiles>,
    /// The PostgreSQL server.
    pub postgres: PostgresSection,
    /// Counting of rows and bytes.
    #[serde(default)]
    pub stats: StatsSection,
    /// Graphs of namespaces.
    #[serde(default)]
    pub graphs: GraphsSection,
    /// Moves of shards to this worker.
    #[serde(default)]
    pub moves: MovesSection,
}

/// `[stats]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatsSection {
    /// Seconds between two counts of rows and bytes, and between two readings of what PostgreSQL counts.
    #[serde(default = "default_interval")]
    pub interval_seconds: u64,
}

/// `[graphs]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphsSection {
    /// Builds of graphs that work at the same time, each on another table; 0 for half the machine's cores, at least one.
    #[serde(default)]
    pub builds_at_once: u32,
}

/// `[moves]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovesSection {
    /// Most MiB a second of a table that a move copies to this worker; 0 for as fast as it goes. It is for copies that begin from then on.
    /// A move copies up to two tables at once, and two moves may be under way.
    #[serde(default)]
    pub copy_mb_per_second: u32,
}

impl MovesSection {
    /// The same in bytes.
    pub fn copy_bytes_per_second(&self) -> u64 {
        u64::from(self.copy_mb_per_second) << 20
    }
}

impl Default for StatsSection {
    fn default() -> Self {
        Self { interval_seconds: default_interval() }
    }
}

/// What the command line says over file and environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--pg-bin`.
    pub bin: Option<PathBuf>,
    /// `--stop-on-stdin-eof`.
    pub stop_on_stdin_eof: bool,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// File or environment do not make a configuration.
    #[error("the configuration {} is not usable", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<config::ConfigError>,
    },
    /// A setting that the types alone cannot check.
    #[error("{key}: {detail}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// What is wrong with it and what to do.
        detail: String,
    },
}

impl Config {
    /// Reads `path`, then the environment, then lays `overrides` over them and checks the whole.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let environment = config::Environment::with_prefix("ATOLL_AGENT")
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("coordinators")
            .with_list_parse_key("postgres.endpoints");
        let mut config: Self = config::Config::builder()
            .add_source(config::File::from(path).format(config::FileFormat::Toml))
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|source| ConfigError::Load { path: path.to_owned(), source: Box::new(source) })?;
        if let Some(bin) = &overrides.bin {
            config.postgres.bin = Some(bin.clone());
        }
        config.stop_on_stdin_eof |= overrides.stop_on_stdin_eof;
        if config.mode == WorkerMode::External && config.identity_file.is_none() {
            config.identity_file = Some(path.with_extension("identity"));
        }
        config.make_paths_absolute().map_err(|error| refusal("config", &error.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what the types alone cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let may_leave = self.insecure || self.tls.is_some();
        if !self.listen.ip().is_loopback() && !may_leave {
            return refuse("listen", ONLY_LOOPBACK);
        }
        if self.listen.ip().is_unspecified() && self.advertise.is_none() {
            return refuse("advertise", "needed when the agent listens on every address");
        }
        if self.coordinators.is_empty() {
            return refuse("coordinators", "name at least one coordinator's internal listener");
        }
        for url in &self.coordinators {
            let host = self.host_of("coordinators", url)?;
            if !is_this_machine(&host) && !may_leave {
                return refuse("coordinators", ONLY_LOOPBACK);
            }
        }
        self.host_of("advertise", &self.agent_url())?;
        if self.capacity == 0 {
            return refuse("capacity", "must be at least 1");
        }
        self.postgres.check_place()?;
        if self.stats.interval_seconds == 0 {
            return refuse("stats.interval_seconds", "must be at least 1");
        }
        match self.mode {
            WorkerMode::Managed => self.validate_managed(),
            WorkerMode::External => self.validate_external(),
        }
    }

    /// Base URL that coordinators are told.
    pub fn agent_url(&self) -> String {
        let own = || format!("{}://{}", self.scheme(), self.listen);
        self.advertise.clone().unwrap_or_else(own).trim_end_matches('/').to_owned()
    }

    /// The host that coordinators dial to reach the agent.
    pub fn agent_host(&self) -> String {
        let url = self.agent_url().parse::<http::Uri>().ok();
        url.and_then(|url| url.host().map(str::to_owned)).unwrap_or_default()
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The host of a URL with the right scheme.
    fn host_of(&self, key: &'static str, url: &str) -> Result<String, ConfigError> {
        let wanted = self.scheme();
        let uri = url.parse::<http::Uri>().ok();
        let (given, host) = uri.as_ref().map_or((None, None), |uri| (uri.scheme_str(), uri.host()));
        match (given, host) {
            (Some(scheme), Some(host)) if scheme == wanted => Ok(host.to_owned()),
            (Some("http"), Some(_)) => {
                Err(refusal(key, &format!("[tls] has everything encrypted: write https:// in {url:?}")))
            }
            (Some("https"), Some(_)) => Err(refusal(key, &format!("write http:// in {url:?}, or set up [tls]"))),
            (_, _) => Err(refusal(key, &format!("{url:?} is no URL like {wanted}://127.0.0.1:7750"))),
        }
    }

    /// Host that coordinators are told of a server that the agent itself reaches at `host`.
    pub fn advertised<'a>(&'a self, host: &'a str) -> &'a str {
        self.postgres.advertise_host.as_deref().unwrap_or(host)
    }

    /// The data directory of a managed server.
    pub fn data_dir(&self) -> Option<&Path> {
        self.postgres.data_dir.as_deref()
    }

    /// Time between two counts of rows and bytes.
    pub fn stats_interval(&self) -> Duration {
        Duration::from_secs(self.stats.interval_seconds)
    }

    /// Builds of graphs that may work at the same time on a machine with so many cores.
    pub fn builds_at_once(&self, cores: u32) -> u32 {
        match self.graphs.builds_at_once {
            0 => (cores / 2).max(1),
            given => given,
        }
    }

    /// Relative ones are meant from where the agent was started. The data directory is checked instead: who writes it down
    /// relative has hardly thought of where that is.
    fn make_paths_absolute(&mut self) -> io::Result<()> {
        let PostgresSection { bin, password_file, ca_file, cert_file, key_file, .. } = &mut self.postgres;
        let always = [&mut self.cluster_secret_file, &mut self.postgres_password_file];
        let sometimes = [&mut self.identity_file, bin, password_file, ca_file, cert_file, key_file];
        let peers = self.tls.iter_mut().flat_map(|tls| [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file]);
        for path in always.into_iter().chain(sometimes.into_iter().flatten()).chain(peers) {
            *path = std::path::absolute(&*path)?;
        }
        Ok(())
    }

    fn validate_managed(&self) -> Result<(), ConfigError> {
        match &self.postgres.data_dir {
            None => return refuse("postgres.data_dir", "a managed server needs one"),
            Some(path) if !path.is_absolute() => return refuse("postgres.data_dir", "must be an absolute path"),
            Some(path) if path.file_name().is_none() => return refuse("postgres.data_dir", "must name a folder"),
            Some(_) => {}
        }
        if !self.postgres.endpoints.is_empty() {
            return refuse("postgres.endpoints", "a managed server is one; `cluster.replicas` gives it standbys");
        }
        if self.postgres.servers_on_machine == 0 {
            return refuse("postgres.servers_on_machine", "must be at least 1");
        }
        if self.postgres.user.is_some() || self.postgres.password_file.is_some() {
            return refuse("postgres.user", "a managed server has its own owner; leave user and password_file out");
        }
        let Ok(address) = self.postgres.host.parse::<IpAddr>() else {
            return refuse("postgres.host", "a managed server listens on an IP address");
        };
        self.postgres.check_tls(true)?;
        let encrypted = self.postgres.tls == PostgresTlsMode::VerifyFull;
        if !address.is_loopback() && !encrypted && !self.insecure {
            return refuse("postgres.host", ONLY_LOOPBACK);
        }
        if address.is_unspecified() && self.postgres.advertise_host.is_none() {
            return refuse("postgres.advertise_host", "needed when the server listens on every address");
        }
        Ok(())
    }

    fn validate_external(&self) -> Result<(), ConfigError> {
        if self.postgres.user.is_none() {
            return refuse("postgres.user", "an external server needs a user to connect as");
        }
        self.postgres.check_tls(false)?;
        let encrypted = self.postgres.tls == PostgresTlsMode::VerifyFull;
        let key = if self.postgres.endpoints.is_empty() { "postgres.host" } else { "postgres.endpoints" };
        for Endpoint { host, .. } in self.postgres.places() {
            if encrypted && host.starts_with('/') {
                return refuse(key, "no certificate is for a socket: name a host, or leave postgres.tls out");
            }
            if !is_this_machine(&host) && !encrypted && !self.insecure {
                return refuse(key, ONLY_LOOPBACK);
            }
        }
        if self.postgres.data_dir.is_some() || self.postgres.bin.is_some() {
            return refuse(
                "postgres.data_dir",
                "an external server is looked after elsewhere; leave data_dir and bin out",
            );
        }
        Ok(())
    }
}

const ONLY_LOOPBACK: &str = "only a loopback address, because nothing is encrypted there: set up TLS, or `insecure = true` if the network keeps others out";

fn refuse(key: &'static str, detail: &str) -> Result<(), ConfigError> {
    Err(refusal(key, detail))
}

fn refusal(key: &'static str, detail: &str) -> ConfigError {
    ConfigError::Setting { key, detail: detail.to_owned() }
}

/// Whether what is sent to `host` (an address, a name, or the folder of a socket) stays on this machine.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.starts_with('/') || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn default_capacity() -> u32 {
    100
}

fn default_interval() -> u64 {
    10
}

#[cfg(test)]
mod tests;
