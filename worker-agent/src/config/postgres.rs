//! The PostgreSQL server, in an agent's configuration.

use super::{ConfigError, Endpoint, refuse};
use atoll_trust::PostgresTlsMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;

/// `[postgres]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSection {
    /// Data directory, absolute. Managed only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// TCP port. Needed, but where `endpoints` say it.
    #[serde(default)]
    pub port: u16,
    /// Address to listen on (managed), host to connect to (external).
    #[serde(default = "default_host")]
    pub host: String,
    /// Host under which coordinators reach the server; by default `host`. Needed when it listens on every address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise_host: Option<String>,
    /// Instead of `host` and `port`: servers such as `db1.example.com:5432` that hold the same data by replication which is looked after
    /// elsewhere. The agent finds the one that takes writes, and follows it when it changes; coordinators connect where it listens. External only.
    #[schemars(with = "Vec<String>")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Folder of PostgreSQL's programs; without it one is looked for, or fetched. Managed only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bin: Option<PathBuf>,
    /// Shared buffers in MiB; 0 for a quarter of the server's share of memory, 128 MiB to 8 GiB. Managed only.
    #[serde(default)]
    pub shared_buffers_mb: u32,
    /// Managed servers that share the machine's memory, this one included. Managed only.
    #[serde(default = "default_servers_on_machine")]
    pub servers_on_machine: u32,
    /// False only for tests: such a server is refused as a worker. Managed only.
    #[serde(default = "default_true")]
    pub fsync: bool,
    /// Database of the worker.
    #[serde(default = "default_database")]
    pub database: String,
    /// User to connect as. External only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with that user's password. External only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whether connections to the server are encrypted, and those to the servers that shards move here from: `off` or `verify-full`. A
    /// managed server then takes no others.
    #[serde(default)]
    pub tls: PostgresTlsMode,
    /// File of the authorities of the servers' certificates. An external server has to find it under the same path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// File of the server's certificate, for the host that coordinators are told. Managed only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// File of the certificate's key. Managed only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl PostgresSection {
    /// Where the server is, or one of several is.
    pub fn places(&self) -> Vec<Endpoint> {
        match self.endpoints.is_empty() {
            true => vec![Endpoint { host: self.host.clone(), port: self.port }],
            false => self.endpoints.clone(),
        }
    }

    /// One way or the other says where the server is.
    pub(super) fn check_place(&self) -> Result<(), ConfigError> {
        if self.endpoints.is_empty() {
            return match self.port {
                0 => refuse("postgres.port", "must be a fixed port, because coordinators keep it"),
                _ => Ok(()),
            };
        }
        for (key, given) in [
            ("postgres.host", self.host != default_host()),
            ("postgres.port", self.port != 0),
            ("postgres.advertise_host", self.advertise_host.is_some()),
        ] {
            if given {
                return refuse(key, "postgres.endpoints say where servers are, to coordinators too; leave it out");
            }
        }
        let mut seen = HashSet::new();
        match self.endpoints.iter().find(|endpoint| !seen.insert(*endpoint)) {
            Some(twice) => refuse("postgres.endpoints", &format!("{twice} is there twice")),
            None => Ok(()),
        }
    }

    /// Which files go with `postgres.tls`: a managed server needs its own certificate too.
    pub(super) fn check_tls(&self, managed: bool) -> Result<(), ConfigError> {
        let PostgresSection { tls, ca_file, cert_file, key_file, .. } = self;
        for (key, given, of_server) in [
            ("postgres.ca_file", ca_file.is_some(), false),
            ("postgres.cert_file", cert_file.is_some(), true),
            ("postgres.key_file", key_file.is_some(), true),
        ] {
            match (tls, given) {
                (PostgresTlsMode::Off, true) => {
                    return refuse(key, "is of no use without postgres.tls = \"verify-full\"");
                }
                (PostgresTlsMode::VerifyFull, true) if of_server && !managed => {
                    return refuse(key, "an external server has its certificate already; leave it out");
                }
                (PostgresTlsMode::VerifyFull, false) if managed || !of_server => {
                    return refuse(key, "is needed for postgres.tls = \"verify-full\"");
                }
                (PostgresTlsMode::VerifyFull | PostgresTlsMode::Off, _) => {}
            }
        }
        Ok(())
    }
}

fn default_host() -> String {
    "127.0.0.1".to_owned()
}

fn default_true() -> bool {
    true
}

fn default_database() -> String {
    "atoll".to_owned()
}

fn default_servers_on_machine() -> u32 {
    1
}
