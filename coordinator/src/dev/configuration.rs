//! The configurations that `dev` writes for its coordinators and agents.

use super::folder::{Folder, write_whole};
use super::topology::{Certificates, Topology, coordinator_name, worker_name};
use crate::cli::CommandError;
use atoll_trust::{PeerFiles, ServerFiles};
use serde::Serialize;
use std::path::PathBuf;

const STATS_INTERVAL_SECONDS: u64 = 5;
const CAPACITY: u32 = 100;

#[derive(Debug, Serialize)]
struct CoordinatorFile {
    server: ServerSection,
    cluster: ClusterSection,
    postgres: PasswordSection,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<PeerFiles>,
}

#[derive(Debug, Serialize)]
struct ServerSection {
    listen: String,
    internal_listen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<ServerFiles>,
}

#[derive(Debug, Serialize)]
struct ClusterSection {
    data_dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    bootstrap: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join: Option<Vec<String>>,
    shards: u32,
    initial_groups: u16,
    replicas: u16,
    secret_file: PathBuf,
}

#[derive(Debug, Serialize)]
struct PasswordSection {
    password_file: PathBuf,
}

#[derive(Debug, Serialize)]
struct AgentFile {
    name: String,
    group: String,
    mode: &'static str,
    listen: String,
    coordinators: Vec<String>,
    cluster_secret_file: PathBuf,
    postgres_password_file: PathBuf,
    capacity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<PeerFiles>,
    postgres: PostgresSection,
    stats: StatsSection,
}

#[derive(Debug, Serialize)]
struct PostgresSection {
    data_dir: PathBuf,
    port: u16,
    host: &'static str,
    bin: PathBuf,
    servers_on_machine: u16,
}

#[derive(Debug, Serialize)]
struct StatsSection {
    interval_seconds: u64,
}

/// Writes all of them. They are written anew at each start: edits are for clusters of one's own.
pub(super) fn write_all(folder: &Folder, topology: &Topology) -> Result<(), CommandError> {
    for coordinator in topology.coordinators() {
        let text = toml::to_string(&coordinator_file(folder, topology, coordinator));
        write(folder, &coordinator_name(coordinator), text)?;
    }
    for worker in topology.workers() {
        folder.make(&worker_name(worker))?;
        let text = toml::to_string(&agent_file(folder, topology, worker));
        write(folder, &worker_name(worker), text)?;
    }
    Ok(())
}

fn write(folder: &Folder, name: &str, text: Result<String, toml::ser::Error>) -> Result<(), CommandError> {
    let text = text.map_err(|error| {
        CommandError::Failed(format!("{} does not fit a configuration: {error}", folder.root().display()))
    })?;
    write_whole(&folder.config_of(name), text.trim_end(), 0o644)
}

fn coordinator_file(folder: &Folder, topology: &Topology, coordinator: u16) -> CoordinatorFile {
    let first = coordinator == 1;
    let others = topology.coordinators().filter(|other| *other != coordinator);
    CoordinatorFile {
        server: ServerSection {
            listen: format!("127.0.0.1:{}", topology.client_port(coordinator)),
            internal_listen: format!("127.0.0.1:{}", topology.internal_port(coordinator)),
            tls: topology.tls.as_ref().map(|tls| ServerFiles { cert_file: tls.cert_file(), key_file: tls.key_file() }),
        },
        cluster: ClusterSection {
            data_dir: folder.root().join(coordinator_name(coordinator)),
            bootstrap: first.then_some(true),
            join: (!first).then(|| others.map(|other| topology.internal_url(other)).collect()),
            shards: topology.shards,
            initial_groups: topology.groups(),
            replicas: topology.replicas,
            secret_file: folder.cluster_secret(),
        },
        postgres: PasswordSection { password_file: folder.postgres_password() },
        tls: topology.tls.as_ref().map(peer_files),
    }
}

fn peer_files(tls: &Certificates) -> PeerFiles {
    PeerFiles { ca_file: tls.ca_file(), cert_file: tls.cert_file(), key_file: tls.key_file() }
}

fn agent_file(folder: &Folder, topology: &Topology, worker: u16) -> AgentFile {
    AgentFile {
        name: worker_name(worker),
        group: topology.group_name(worker),
        mode: "managed",
        listen: format!("127.0.0.1:{}", topology.agent_port(worker)),
        coordinators: topology.coordinators().map(|coordinator| topology.internal_url(coordinator)).collect(),
        cluster_secret_file: folder.cluster_secret(),
        postgres_password_file: folder.postgres_password(),
        capacity: CAPACITY,
        tls: topology.tls.as_ref().map(peer_files),
        postgres: PostgresSection {
            data_dir: folder.postgres_data(worker),
            port: topology.postgres_port(worker),
            host: "127.0.0.1",
            bin: topology.pg_bin.clone(),
            servers_on_machine: topology.workers,
        },
        stats: StatsSection { interval_seconds: STATS_INTERVAL_SECONDS },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dev::topology::Wanted;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_bootstraps_and_the_others_join() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let folder = Folder::open(&parent.path().join("dev \"1\"")).unwrap();
        let wanted = Wanted { coordinators: Some(3), workers: Some(2), ..Wanted::default() };
        write_all(&folder, &Topology::new(&wanted, "/pg/bin".into())).unwrap();
        let read = |name: &str| {
            toml::from_str::<toml::Table>(&std::fs::read_to_string(folder.config_of(name)).unwrap()).unwrap()
        };
        let first = read("coordinator-1");
        assert_eq!(first["cluster"]["bootstrap"].as_bool(), Some(true));
        assert!(first["cluster"].get("join").is_none());
        assert_eq!(first["cluster"]["initial_groups"].as_integer(), Some(2));
        let second = read("coordinator-2");
        assert!(second["cluster"].get("bootstrap").is_none());
        assert_eq!(second["cluster"]["join"][0].as_str(), Some("http://127.0.0.1:7750"));
        assert_eq!(second["server"]["listen"].as_str(), Some("127.0.0.1:7701"));
        let agent = read("w2");
        assert_eq!(agent["group"].as_str(), Some("g2"));
        assert_eq!(agent["postgres"]["port"].as_integer(), Some(7901));
        assert_eq!(agent["postgres"]["servers_on_machine"].as_integer(), Some(2));
        assert_eq!(agent["postgres"]["data_dir"].as_str(), folder.root().join("w2/postgres").to_str());
        assert_eq!(agent["coordinators"].as_array().unwrap().len(), 3);
    }
}
