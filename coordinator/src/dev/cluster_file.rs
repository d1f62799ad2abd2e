//! `cluster.json`: what runs where, for tests and tools. Its shape is a contract.

use super::folder::{Folder, write_whole};
use super::ports::postmaster;
use super::supervisor::Supervisor;
use super::topology::{Topology, coordinator_name, worker_name};
use crate::cli::CommandError;
use atoll_proto::agent::COORDINATOR_ROLE;
use atoll_proto::{CoordinatorId, WorkerId};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterFile {
    coordinators: Vec<CoordinatorEntry>,
    pub(crate) workers: Vec<WorkerEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CoordinatorEntry {
    id: CoordinatorId,
    http: String,
    pid: u32,
}

/// A worker, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerEntry {
    id: WorkerId,
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) dsn: String,
    agent_pid: u32,
    postgres_pid: u32,
    data_dir: PathBuf,
}

impl ClusterFile {
    /// What is known before the processes are looked at: ids are those of the catalog.
    pub(super) fn new(
        folder: &Folder,
        topology: &Topology,
        password: &str,
        coordinators: &[CoordinatorId],
        workers: &[WorkerId],
    ) -> Self {
        let coordinators = topology.coordinators().zip(coordinators).map(|(number, id)| CoordinatorEntry {
            id: *id,
            http: topology.client_url(number),
            pid: 0,
        });
        let workers = topology.workers().zip(workers).map(|(number, id)| WorkerEntry {
            id: *id,
            name: worker_name(number),
            group: topology.group_name(number),
            dsn: format!(
                "postgresql://{COORDINATOR_ROLE}:{password}@127.0.0.1:{}/atoll",
                topology.postgres_port(number)
            ),
            agent_pid: 0,
            postgres_pid: 0,
            data_dir: folder.postgres_data(number),
        });
        Self { coordinators: coordinators.collect(), workers: workers.collect() }
    }

    /// Takes over the process ids of what runs; what is dead keeps its last one. Gives the names of what runs under a new
    /// id, with that id.
    pub(super) fn refresh(&mut self, supervisor: &Supervisor) -> Vec<(String, u32)> {
        let mut changed = Vec::new();
        let mut take = |name: String, old: &mut u32, new: Option<u32>| {
            if let Some(new) = new
                && *old != new
            {
                *old = new;
                changed.push((name, new));
            }
        };
        for (place, coordinator) in (1..).zip(&mut self.coordinators) {
            let name = coordinator_name(place);
            let pid = supervisor.pid(&name);
            take(name, &mut coordinator.pid, pid);
        }
        for worker in &mut self.workers {
            take(worker.name.clone(), &mut worker.agent_pid, supervisor.pid(&worker.name));
            let server = postmaster(&worker.data_dir);
            take(format!("PostgreSQL of {}", worker.name), &mut worker.postgres_pid, server);
        }
        changed
    }

    /// Whether every process has been seen.
    pub(super) fn is_complete(&self) -> bool {
        self.coordinators.iter().all(|coordinator| coordinator.pid != 0)
            && self.workers.iter().all(|worker| worker.agent_pid != 0 && worker.postgres_pid != 0)
    }

    /// Writes it, readable for its owner alone: the DSNs hold a password.
    pub(super) fn write(&self, folder: &Folder) -> Result<(), CommandError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| CommandError::Failed(format!("the folder's name is no text: {error}")))?;
        write_whole(&folder.cluster_file(), &text, 0o600)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dev::topology::Wanted;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn the_file_has_the_shape_that_tests_rely_on() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        let topology = Topology::new(&Wanted { workers: Some(1), ..Wanted::default() }, "/pg".into());
        let mut file = ClusterFile::new(&folder, &topology, "secret", &[CoordinatorId(1)], &[WorkerId(7)]);
        let data_dir = folder.postgres_data(1);
        std::fs::create_dir_all(&data_dir).unwrap();
        std::fs::write(data_dir.join("postmaster.pid"), "4711\n/x\n").unwrap();
        let changed = file.refresh(&Supervisor::new(true));
        assert_eq!(changed, [("PostgreSQL of w1".to_owned(), 4711)]);
        assert!(!file.is_complete());
        file.write(&folder).unwrap();
        let path = folder.cluster_file();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "coordinators": [{"id": 1, "http": "http://127.0.0.1:7700", "pid": 0}],
                "workers": [{"id": 7, "name": "w1", "group": "g1", "dsn": "postgresql://atoll_rw:secret@127.0.0.1:7900/atoll",
                             "agent_pid": 0, "postgres_pid": 4711, "data_dir": data_dir.to_str().unwrap()}],
            })
        );
    }
}
