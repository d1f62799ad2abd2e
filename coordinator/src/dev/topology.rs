//! What a development cluster is made of, and how a second start on the same folder agrees with the first.

use crate::cli::Trusted;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Number of the file's format.
const FORMAT: u32 = 1;
/// Ports of coordinators' internal listeners, of agents and of PostgreSQL servers begin this far above the first port.
const INTERNAL_OFFSET: u16 = 50;
const AGENT_OFFSET: u16 = 100;
const POSTGRES_OFFSET: u16 = 200;
/// Port of the first coordinator, also where commands look for one.
pub(super) const DEFAULT_PORT: u16 = 7700;
/// Most coordinators and workers, so that the ranges above do not overlap.
pub(super) const COORDINATORS_MAX: u16 = INTERNAL_OFFSET;
pub(super) const WORKERS_MAX: u16 = POSTGRES_OFFSET - AGENT_OFFSET;
/// The first port at most.
pub(super) const PORT_MAX: u16 = u16::MAX - POSTGRES_OFFSET - WORKERS_MAX;

/// What a cluster is made of. Kept with its data: all of it is in the catalog or in data directories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Topology {
    format: u32,
    /// Workers of all groups.
    pub(super) workers: u16,
    /// Workers of a group.
    #[serde(default = "alone")]
    pub(super) replicas: u16,
    /// Coordinators.
    pub(super) coordinators: u16,
    /// Slots of the hash ring.
    pub(super) shards: u32,
    /// Port of the first coordinator; all others follow from it. Fixed, because the catalog keeps addresses.
    pub(super) port: u16,
    /// PostgreSQL's programs, as found at the first start: data directories belong to one major version.
    pub(super) pg_bin: PathBuf,
    /// Certificates for everything but PostgreSQL, if this start has any.
    #[serde(skip)]
    pub(super) tls: Option<Certificates>,
}

/// `--tls`: a folder with `ca.pem`, and with `cert.pem` and `key.pem` for 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificates(pub(super) PathBuf);

impl Certificates {
    pub(super) fn ca_file(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    pub(super) fn cert_file(&self) -> PathBuf {
        self.0.join("cert.pem")
    }

    pub(super) fn key_file(&self) -> PathBuf {
        self.0.join("key.pem")
    }
}

/// What the command line asks for; none where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// `--workers`.
    pub(super) workers: Option<u16>,
    /// `--replicas`.
    pub(super) replicas: Option<u16>,
    /// `--coordinators`.
    pub(super) coordinators: Option<u16>,
    /// `--shards`.
    pub(super) shards: Option<u32>,
    /// `--port`.
    pub(super) port: Option<u16>,
}

fn alone() -> u16 {
    1
}

impl Topology {
    /// A new cluster: what is wanted, else the usual.
    pub(super) fn new(wanted: &Wanted, pg_bin: PathBuf) -> Self {
        Self {
            format: FORMAT,
            workers: wanted.workers.unwrap_or(3),
            replicas: wanted.replicas.unwrap_or(1),
            coordinators: wanted.coordinators.unwrap_or(1),
            shards: wanted.shards.unwrap_or(12),
            port: wanted.port.unwrap_or(DEFAULT_PORT),
            pg_bin,
            tls: None,
        }
    }

    /// Reads what was kept; the error is for people.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let topology: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if topology.format != FORMAT {
            return Err(format!("it has format {}, this version knows {FORMAT}", topology.format));
        }
        Ok(topology)
    }

    /// Says how the command line contradicts what is there: one text for each flag.
    pub(super) fn contradictions(&self, wanted: &Wanted) -> Vec<String> {
        let Wanted { workers, replicas, coordinators, shards, port } = wanted;
        let pairs = [
            ("--workers", workers.map(u32::from), u32::from(self.workers)),
            ("--replicas", replicas.map(u32::from), u32::from(self.replicas)),
            ("--coordinators", coordinators.map(u32::from), u32::from(self.coordinators)),
            ("--shards", *shards, self.shards),
            ("--port", port.map(u32::from), u32::from(self.port)),
        ];
        let mut found = Vec::new();
        for (flag, asked, there) in pairs {
            if let Some(asked) = asked
                && asked != there
            {
                found.push(format!("{flag} {asked}, but it was made with {flag} {there}"));
            }
        }
        found
    }

    /// Numbers of the coordinators, from 1.
    pub(super) fn coordinators(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.coordinators
    }

    /// Numbers of the workers, from 1.
    pub(super) fn workers(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.workers
    }

    /// How many groups the workers make.
    pub(super) fn groups(&self) -> u16 {
        self.workers / self.replicas
    }

    /// The name of a worker's group: neighbours make one.
    pub(super) fn group_name(&self, worker: u16) -> String {
        format!("g{}", (worker - 1) / self.replicas + 1)
    }

    /// Where a coordinator listens for clients.
    pub(super) fn client_port(&self, coordinator: u16) -> u16 {
        self.port + coordinator - 1
    }

    /// Where a coordinator listens for coordinators and agents.
    pub(super) fn internal_port(&self, coordinator: u16) -> u16 {
        self.port + INTERNAL_OFFSET + coordinator - 1
    }

    /// Where a worker's agent listens.
    pub(super) fn agent_port(&self, worker: u16) -> u16 {
        self.port + AGENT_OFFSET + worker - 1
    }

    /// Where a worker's PostgreSQL listens.
    pub(super) fn postgres_port(&self, worker: u16) -> u16 {
        self.port + POSTGRES_OFFSET + worker - 1
    }

    /// A coordinator's base URL for clients.
    pub(super) fn client_url(&self, coordinator: u16) -> String {
        self.url(self.client_port(coordinator))
    }

    /// A coordinator's base URL for coordinators and agents.
    pub(super) fn internal_url(&self, coordinator: u16) -> String {
        self.url(self.internal_port(coordinator))
    }

    /// An agent's base URL.
    pub(super) fn agent_url(&self, worker: u16) -> String {
        self.url(self.agent_port(worker))
    }

    /// Whom `dev` itself trusts, and what it shows to agents.
    pub(super) fn trusted(&self) -> Trusted {
        let Some(certificates) = &self.tls else { return Trusted::default() };
        let shown = (certificates.cert_file(), certificates.key_file());
        Trusted { ca_file: Some(certificates.ca_file()), shown: Some(shown) }
    }

    fn url(&self, port: u16) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{port}")
    }
}

/// A coordinator's name, for its folder, its configuration and its log.
pub(super) fn coordinator_name(coordinator: u16) -> String {
    format!("coordinator-{coordinator}")
}

/// A worker's name, also in the catalog.
pub(super) fn worker_name(worker: u16) -> String {
    format!("w{worker}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_second_start_may_repeat_or_leave_out_flags_but_not_contradict() {
        let first = Wanted { workers: Some(2), shards: Some(8), ..Wanted::default() };
        let topology = Topology::new(&first, "/pg".into());
        let kept = Topology::parse(&serde_json::to_string(&topology).unwrap()).unwrap();
        assert_eq!(kept, topology);
        assert!(kept.contradictions(&Wanted::default()).is_empty());
        assert!(kept.contradictions(&first).is_empty());
        let other = Wanted { workers: Some(3), port: Some(7701), coordinators: Some(1), ..Wanted::default() };
        assert_eq!(
            kept.contradictions(&other),
            ["--workers 3, but it was made with --workers 2", "--port 7701, but it was made with --port 7700"]
        );
    }

    #[test]
    fn another_format_is_refused() {
        let topology = Topology { format: 2, ..Topology::new(&Wanted::default(), "/pg".into()) };
        assert!(Topology::parse(&serde_json::to_string(&topology).unwrap()).unwrap_err().contains("format 2"));
    }

    #[test]
    fn no_port_is_given_twice_at_the_limits() {
        let wanted = Wanted {
            workers: Some(WORKERS_MAX),
            coordinators: Some(COORDINATORS_MAX),
            port: Some(PORT_MAX),
            ..Wanted::default()
        };
        let topology = Topology::new(&wanted, "/pg".into());
        let mut ports = BTreeSet::new();
        for coordinator in topology.coordinators() {
            assert!(ports.insert(topology.client_port(coordinator)));
            assert!(ports.insert(topology.internal_port(coordinator)));
        }
        for worker in topology.workers() {
            assert!(ports.insert(topology.agent_port(worker)));
            assert!(ports.insert(topology.postgres_port(worker)));
        }
    }
}
