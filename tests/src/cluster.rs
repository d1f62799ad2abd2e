//! A cluster of real processes, started by `atoll dev`, for one story alone. Its parts can be killed, stopped and started again.
//!
//! A story ends with [`Cluster::finish`], which looks through the logs and removes the folder. One that panics leaves the folder
//! behind and prints where it is.

use crate::certificates::Authority;
use crate::client::Client;
use crate::logs;
use crate::poll;
use crate::ports::PortRange;
use crate::processes::{self, program, signal};
use http::Method;
use rustix::process::Signal;
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long a cluster may take to come up: data directories on a busy machine take their time.
const START_PATIENCE: Duration = Duration::from_secs(240);
const LEADER_PATIENCE: Duration = Duration::from_secs(20);
const STOP_PATIENCE: Duration = Duration::from_secs(90);
const TAIL_LINES: usize = 25;

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The story's name, for its folder.
    pub story: &'static str,
    /// Workers of all groups.
    pub workers: u16,
    /// Workers of a group.
    pub replicas: u16,
    /// Coordinators.
    pub coordinators: u16,
    /// Shards.
    pub shards: u16,
    /// Whether `atoll dev` starts again what dies.
    pub restarts: bool,
    /// Whether everything but PostgreSQL is encrypted, by an authority of the cluster's own: see [`Cluster::certificates`].
    pub encrypted: bool,
    /// Environment of all processes.
    pub environment: Vec<(&'static str, String)>,
}

impl ClusterOptions {
    /// The usual: three workers, one coordinator, twelve shards.
    pub fn new(story: &'static str) -> Self {
        Self {
            story,
            workers: 3,
            replicas: 1,
            coordinators: 1,
            shards: 12,
            restarts: false,
            encrypted: false,
            environment: Vec::new(),
        }
    }

    /// With so many coordinators.
    pub fn coordinators(self, coordinators: u16) -> Self {
        Self { coordinators, ..self }
    }

    /// With so many workers.
    pub fn workers(self, workers: u16) -> Self {
        Self { workers, ..self }
    }

    /// With so many workers in each group.
    pub fn replicas(self, replicas: u16) -> Self {
        Self { replicas, ..self }
    }

    /// With whatever dies started again, as `atoll dev` does unless told otherwise.
    pub fn restarting(self) -> Self {
        Self { restarts: true, ..self }
    }

    /// With certificates for everything but PostgreSQL.
    pub fn encrypted(self) -> Self {
        Self { encrypted: true, ..self }
    }

    /// Without a cache of answers: every search asks the workers.
    pub fn uncached(self) -> Self {
        self.environment("ATOLL__CACHE__MAX_BYTES", "0")
    }

    /// With this in the environment of all processes.
    pub fn environment(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }
}

/// What runs where: `cluster.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Layout {
    /// Coordinators, in the order of their numbers.
    pub coordinators: Vec<CoordinatorPlace>,
    /// Workers, in the order of their names.
    pub workers: Vec<WorkerPlace>,
}

/// A coordinator's process.
#[derive(Debug, Clone, Deserialize)]
pub struct CoordinatorPlace {
    /// Its id in the catalog.
    pub id: u64,
    /// Its base URL.
    pub http: String,
    /// Its process.
    pub pid: u32,
}

/// A worker's processes.
#[derive(Debug, Clone, Deserialize)]
pub struct WorkerPlace {
    /// Its id in the catalog.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// How to connect to its database.
    pub dsn: String,
    /// The agent's process.
    pub agent_pid: u32,
    /// The postmaster's process.
    pub postgres_pid: u32,
    /// The server's data directory.
    pub data_dir: PathBuf,
}

impl WorkerPlace {
    /// How to connect to its database as the agent does, who may do everything.
    pub fn owner_dsn(&self) -> String {
        let mut file = self.data_dir.clone().into_os_string();
        file.push(".secret");
        let password = std::fs::read_to_string(&file).expect("the agent keeps its password beside the data");
        let (_, place) = self.dsn.split_once('@').expect("a user comes first");
        format!("postgresql://atoll_owner:{}@{place}", password.trim())
    }
}

/// A process that the story started itself.
#[derive(Debug)]
struct Extra {
    name: String,
    child: Child,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    ports: PortRange,
    root: PathBuf,
    dev: Option<Child>,
    extras: Vec<Extra>,
    finished: bool,
    /// Where members that the story starts have control groups of their names.
    control_groups: Option<PathBuf>,
}

impl Cluster {
    /// Starts a cluster and waits until it is ready.
    pub async fn start(options: ClusterOptions) -> Self {
        let ports = PortRange::take();
        // Named after the user too: nobody can remove what another user's failed story left behind.
        let user = rustix::process::geteuid().as_raw();
        let root = PathBuf::from(format!("/tmp/cluster-tests-{user}-{}-{}", options.story, ports.first()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
        // Passable, because PostgreSQL may run as another user.
        std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).expect("the folder is ours");
        let mut cluster =
            Self { options, ports, root, dev: None, extras: Vec::new(), finished: false, control_groups: None };
        if cluster.options.encrypted {
            let (authority, folder) = (Authority::new("cluster"), cluster.certificates());
            authority.certify(&["127.0.0.1"], &folder);
            authority.write(&folder.join("ca.pem"));
        }
        let pauses = cluster.pauses();
        std::fs::create_dir(&pauses).expect("the folder is ours");
        cluster.options.environment.push(("ATOLL_PAUSE_DIR", pauses.display().to_string()));
        cluster.start_all().await;
        cluster
    }

    /// Starts everything, again after [`Cluster::kill_everything`], and waits until it is ready.
    pub async fn start_all(&mut self) {
        assert!(self.dev.is_none() && self.extras.is_empty(), "everything must be dead before it is started again");
        let out = self.root.join("dev.out");
        let seen = std::fs::metadata(&out).map_or(0, |file| file.len());
        let mut command = Command::new(program("atoll"));
        command.args(["dev", "--data-dir"]).arg(self.folder());
        command.args((!self.options.restarts).then_some("--no-restart"));
        if self.options.encrypted {
            command.arg("--tls").arg(self.certificates());
        }
        for (flag, value) in [
            ("--port", self.ports.first()),
            ("--workers", self.options.workers),
            ("--replicas", self.options.replicas),
            ("--coordinators", self.options.coordinators),
            ("--shards", self.options.shards),
        ] {
            command.arg(flag).arg(value.to_string());
        }
        command.envs(self.options.environment.iter().map(|(name, value)| (*name, value.as_str())));
        let log = append(&self.root.join("dev.err"));
        command.stdin(Stdio::null()).stdout(append(&out)).stderr(log);
        self.dev = Some(command.spawn().expect("atoll dev can be started"));
        let dev = self.dev.as_mut().expect("just started");
        poll::until("atoll dev to be ready", START_PATIENCE, async || {
            let text = std::fs::read_to_string(&out).unwrap_or_default();
            if text.get(seen as usize..).is_some_and(|new| new.contains("ready: ")) {
                return Ok(());
            }
            if let Ok(Some(status)) = dev.try_wait() {
                panic!("atoll dev ended ({status}): {}", read_tail(&self.root.join("dev.err")));
            }
            Err(read_tail(&self.root.join("dev.err")))
        })
        .await;
    }

    /// The folder given to `atoll dev`.
    pub fn folder(&self) -> PathBuf {
        self.root.join("cluster")
    }

    /// Where a story puts a file for each step of a move that it holds: see the agent's `pauses.rs`.
    pub fn pauses(&self) -> PathBuf {
        self.root.join("pauses")
    }

    /// What an encrypted cluster was started with: `ca.pem`, `cert.pem` and `key.pem`.
    pub fn certificates(&self) -> PathBuf {
        self.root.join("certificates")
    }

    /// A folder of the story's own, removed with the cluster.
    pub fn scratch(&self) -> &Path {
        &self.root
    }

    /// The first port of the cluster's range.
    pub fn first_port(&self) -> u16 {
        self.ports.first()
    }

    /// What runs where, as last written.
    pub fn layout(&self) -> Layout {
        let path = self.folder().join("cluster.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A client of the first coordinator.
    pub fn client(&self) -> Client {
        self.client_of(1)
    }

    /// A client of a coordinator, counted from 1.
    pub fn client_of(&self, coordinator: u16) -> Client {
        let scheme = if self.options.encrypted { "https" } else { "http" };
        self.client_at(&format!("{scheme}://127.0.0.1:{}", self.ports.first() + coordinator - 1))
    }

    fn client_at(&self, base: &str) -> Client {
        match self.options.encrypted {
            true => Client::trusting(base, &self.certificates().join("ca.pem"), None),
            false => Client::new(base),
        }
    }

    /// The number of the coordinator that leads, as soon as one of those that run knows it.
    pub async fn leader(&self) -> u16 {
        let coordinators = self.layout().coordinators;
        poll::until("a leader", LEADER_PATIENCE, async || {
            for coordinator in &coordinators {
                let client = self.client_at(&coordinator.http);
                let Ok(answer) = client.request(Method::GET, "/v1/admin/cluster").try_send().await else { continue };
                let leader = answer.json()["leader"].as_u64();
                let found = (1..).zip(&coordinators).find(|(_, one)| Some(one.id) == leader);
                if let Some((number, _)) = found {
                    return Ok(number);
                }
            }
            Err("nobody knows one".to_owned())
        })
        .await
    }

    /// Kills a process with SIGKILL and waits until it is gone.
    pub async fn kill(&mut self, pid: u32) {
        signal(pid, Signal::KILL);
        self.reap_and_wait(&[pid]).await;
    }

    /// Kills a PostgreSQL server with all its backends.
    pub async fn kill_postgres(&mut self, postmaster: u32) {
        let pids = processes::kill_tree(postmaster);
        self.reap_and_wait(&pids).await;
    }

    /// Kills processes and PostgreSQL servers at once.
    pub async fn kill_together(&mut self, pids: &[u32], postmasters: &[u32]) {
        pids.iter().for_each(|pid| signal(*pid, Signal::KILL));
        let killed = postmasters.iter().flat_map(|pid| processes::kill_tree(*pid));
        self.reap_and_wait(&pids.iter().copied().chain(killed).collect::<Vec<_>>()).await;
    }

    /// Kills a worker: its agent first, which would start the server again.
    pub async fn kill_worker(&mut self, worker: &WorkerPlace) {
        self.kill(worker.agent_pid).await;
        self.kill_postgres(worker.postgres_pid).await;
    }

    /// Kills every process at once, `atoll dev` too.
    pub async fn kill_everything(&mut self) {
        let layout = self.layout();
        let mut pids: Vec<u32> =
            layout.workers.iter().flat_map(|worker| processes::tree(worker.postgres_pid)).collect();
        pids.extend(layout.workers.iter().map(|worker| worker.agent_pid));
        pids.extend(layout.coordinators.iter().map(|coordinator| coordinator.pid));
        pids.extend(self.extras.iter().map(|extra| extra.child.id()));
        pids.extend(self.dev.iter().map(Child::id));
        for pid in &pids {
            signal(*pid, Signal::KILL);
        }
        if let Some(mut dev) = self.dev.take() {
            let _ = dev.wait();
        }
        self.reap_and_wait(&pids).await;
        self.extras.clear();
    }

    /// Starts a coordinator or an agent of the cluster again, by the configuration that `atoll dev` wrote: `coordinator-2`, `w1`.
    pub fn start_member(&mut self, name: &str) -> u32 {
        let config = self.folder().join("config").join(format!("{name}.toml"));
        self.start_by_config(name, &config)
    }

    /// Starts a coordinator (named `coordinator-…`) or an agent by a configuration file.
    pub fn start_by_config(&mut self, name: &str, config: &Path) -> u32 {
        let program = program(if name.starts_with("coordinator") { "atoll" } else { "atoll-agent" });
        let mut command = match &self.control_groups {
            // It joins before it becomes the program, so that all it ever does is done in the group.
            Some(groups) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(groups.join(name)).arg(program);
                shell
            }
            None => Command::new(program),
        };
        if name.starts_with("coordinator") {
            command.arg("serve");
        }
        let log = self.folder().join("logs").join(format!("{name}.log"));
        command.arg("--config").arg(config).arg("--stop-on-stdin-eof");
        command.envs(self.options.environment.iter().map(|(name, value)| (*name, value.as_str())));
        command.stdin(Stdio::piped()).stdout(append(&log)).stderr(append(&log));
        let child = command.spawn().expect("a member of the cluster can be started");
        let pid = child.id();
        self.extras.push(Extra { name: name.to_owned(), child });
        pid
    }

    /// From now on members that the story starts are started in control groups: those of their names in this folder.
    pub fn start_in_control_groups(&mut self, folder: &Path) {
        self.control_groups = Some(folder.to_owned());
    }

    /// The process of a member that the story started itself.
    pub fn extra_pid(&self, name: &str) -> Option<u32> {
        self.extras.iter().rev().find(|extra| extra.name == name).map(|extra| extra.child.id())
    }

    /// Waits until a member that the story started itself has ended in an orderly way.
    pub async fn wait_ended(&mut self, name: &str) {
        let status = self.wait_end(name).await;
        assert!(status.success(), "{name} ended with {status}");
    }

    /// Waits until a member that the story started itself has ended, and tells how.
    pub async fn wait_end(&mut self, name: &str) -> ExitStatus {
        let place = self.extras.iter().rposition(|extra| extra.name == name).expect("the story started it");
        let mut extra = self.extras.remove(place);
        wait_for(&mut extra.child, name).await
    }

    /// The postmaster that runs on a worker's data directory.
    pub fn postmaster(&self, worker: &WorkerPlace) -> Option<u32> {
        let text = std::fs::read_to_string(worker.data_dir.join("postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        processes::runs(pid).then_some(pid)
    }

    /// Waits until a coordinator says that it is ready.
    pub async fn wait_ready(&self, coordinator: u16) {
        let client = self.client_of(coordinator);
        poll::until("the coordinator to be ready", START_PATIENCE, async || {
            match client.request(Method::GET, "/readyz").try_send().await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(error),
            }
        })
        .await;
    }

    /// Stops everything in an orderly way, looks through the logs and removes the folder. `allowed` are parts of lines at WARN or
    /// ERROR that the story expects.
    pub async fn finish(mut self, allowed: &[&str]) {
        // What is logged while everything stops is not looked at, except for panics.
        let unlisted = logs::unlisted(&self.folder().join("logs"), allowed);
        for extra in &mut self.extras {
            signal(extra.child.id(), Signal::TERM);
        }
        let mut ended = Vec::new();
        for extra in &mut self.extras {
            ended.push((extra.name.clone(), wait_for(&mut extra.child, &extra.name).await));
        }
        self.extras.clear();
        if let Some(dev) = &mut self.dev {
            signal(dev.id(), Signal::TERM);
            ended.push(("atoll dev".to_owned(), wait_for(dev, "atoll dev").await));
        }
        self.dev = None;
        let panics = logs::panics(&self.folder().join("logs"));
        assert!(panics.is_empty(), "panics in {}: {panics:#?}", self.root.display());
        assert!(unlisted.is_empty(), "unlisted log lines, whole logs in {}: {unlisted:#?}", self.root.display());
        ended.retain(|(_, status)| !status.success());
        assert!(ended.is_empty(), "told to stop, these failed: {ended:?}");
        let left = self.processes_left();
        assert!(left.is_empty(), "processes still run after an orderly stop: {left:?}");
        self.finished = true;
        let _ = std::fs::remove_dir_all(&self.root);
    }

    /// Members of the cluster and their servers that run, whoever started them. What they started themselves goes with them.
    fn processes_left(&self) -> Vec<u32> {
        processes::with_arguments_in(&self.root, &["atoll", "atoll-agent", "postgres"])
    }

    /// Waits until processes are gone; those that we started ourselves must be waited for, else they stay as zombies.
    async fn reap_and_wait(&mut self, pids: &[u32]) {
        for extra in &mut self.extras {
            if pids.contains(&extra.child.id()) {
                let _ = extra.child.wait();
            }
        }
        self.extras.retain(|extra| !pids.contains(&extra.child.id()));
        processes::wait_gone(pids).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        eprintln!("the cluster's folder stays: {}", self.root.display());
        eprintln!("--- dev.err\n{}", read_tail(&self.root.join("dev.err")));
        eprintln!("{}", logs::tails(&self.folder().join("logs"), TAIL_LINES));
        for pid in self.processes_left() {
            processes::kill_tree(pid);
        }
        for child in self.dev.iter_mut().chain(self.extras.iter_mut().map(|extra| &mut extra.child)) {
            let _ = child.wait();
        }
    }
}

async fn wait_for(child: &mut Child, name: &str) -> ExitStatus {
    poll::until(&format!("{name} to stop"), STOP_PATIENCE, async || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err("it runs".to_owned()),
        Err(error) => Err(error.to_string()),
    })
    .await
}

fn append(path: &Path) -> File {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
