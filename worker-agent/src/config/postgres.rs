//! The PostgreSQL server, in an agent's configuration.

use super::{ConfigError, refuse};
use atoll_trust::PostgresTlsMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[postgres]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSection {
    /// Data directory, absolute. Managed only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// TCP port.
    pub port: u16,
    /// Address to listen on (managed), host to connect to (external).
    #[serde(default = "default_host")]
    pub host: String,
    /// Host under which coordinators reach the server; by default `host`. Needed when it listens on every address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise_host: Option<String>,
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
