//! What the stories need: a folder that PostgreSQL's user may enter, the real agent as a process, and a coordinator that
//! only registers.
#![allow(dead_code, reason = "each story uses a part of it")]
#![allow(clippy::unwrap_used)]

pub(crate) mod coordinator;
pub(crate) mod request;

use atoll_agent::pg::connect::Target;
use atoll_agent::secret::Secret;
use atoll_proto::agent::{
    AgentStatus, COORDINATOR_ROLE, DESIRED_PATH, DesiredCollection, DesiredShard, DesiredState, STATUS_PATH,
};
use atoll_proto::{
    CatalogVersion, CollectionId, CollectionName, CollectionSettings, Generation, GroupId, ShardId, WorkerId,
};
use coordinator::FakeCoordinator;
use rustix::process::{Pid, Signal};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const SECRET: &str = "cluster-secret-of-the-test";
pub(crate) const PASSWORD: &str = "pass'word \\ of the test";
pub(crate) const CLUSTER: &str = "cluster-a";
pub(crate) const WORKER: WorkerId = WorkerId(11);
pub(crate) const GROUP: GroupId = GroupId(21);
const DEADLINE: Duration = Duration::from_secs(90);

/// A worker's folder, ports and configuration; the agent is started on it, perhaps several times.
pub(crate) struct Place {
    folder: PathBuf,
    pub(crate) agent_port: u16,
    pub(crate) postgres_port: u16,
    pub(crate) coordinator: FakeCoordinator,
    /// Lines added to `[postgres]`.
    pub(crate) postgres_lines: String,
    /// The coordinator that agents ask first: by itself one that is not there.
    pub(crate) first_coordinator_port: u16,
}

impl Place {
    pub(crate) async fn new(name: &str) -> Self {
        let folder = PathBuf::from(format!("/tmp/atoll-agent-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (file, text) in [("cluster.secret", SECRET), ("postgres.password", PASSWORD)] {
            let path = folder.join(file);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self {
            folder,
            agent_port: free_port(),
            postgres_port: free_port(),
            coordinator: FakeCoordinator::start().await,
            postgres_lines: String::new(),
            first_coordinator_port: 1,
        }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("w1")
    }

    pub(crate) fn start(&self) -> RunningAgent {
        let server =
            format!("data_dir = \"{}\"\nshared_buffers_mb = 16\n{}", self.data_dir().display(), self.postgres_lines);
        self.start_mode("managed", &server)
    }

    pub(crate) fn start_external(&self) -> RunningAgent {
        let password_file = self.folder.join("w1.secret");
        let server = format!("user = \"atoll_owner\"\npassword_file = \"{}\"\n", password_file.display());
        self.start_mode("external", &server)
    }

    fn start_mode(&self, mode: &str, server: &str) -> RunningAgent {
        let Self { folder, agent_port, postgres_port, .. } = self;
        let path = folder.join(format!("{mode}.toml"));
        let text = format!(
            "name = \"w1\"\nmode = \"{mode}\"\nlisten = \"127.0.0.1:{agent_port}\"\n\
             coordinators = [\"http://127.0.0.1:{first}\", \"http://127.0.0.1:{coordinator}\"]\n\
             cluster_secret_file = \"{folder}/cluster.secret\"\npostgres_password_file = \"{folder}/postgres.password\"\n\
             [postgres]\nport = {postgres_port}\n{server}\n[stats]\ninterval_seconds = 1\n",
            first = self.first_coordinator_port,
            coordinator = self.coordinator.port,
            folder = folder.display(),
        );
        std::fs::write(&path, text).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(folder.join("agent.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_atoll-agent"));
        command.arg("--config").arg(&path).arg("--stop-on-stdin-eof").arg("--log").arg("atoll_agent=debug,info");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        RunningAgent { child, url: format!("http://127.0.0.1:{agent_port}") }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default()
    }

    /// How the agent itself connects.
    pub(crate) fn owner(&self) -> Target {
        let file = self.folder.join("w1.secret");
        Target {
            host: "127.0.0.1".to_owned(),
            address: None,
            port: self.postgres_port,
            user: "atoll_owner".to_owned(),
            password: Some(atoll_trust::Kept::new(move || Secret::read(&file)).unwrap()),
            database: "atoll".to_owned(),
            first_database: None,
            tls: atoll_trust::PostgresTls::off(),
        }
    }

    /// Connects as coordinators do.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.postgres_port).dbname("atoll");
        config.user(COORDINATOR_ROLE).password(PASSWORD);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Waits until `look` finds what it looks for in the status.
    pub(crate) async fn until<T>(
        &self,
        agent: &RunningAgent,
        what: &str,
        look: impl Fn(&AgentStatus) -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < DEADLINE {
            if let Some(status) = agent.status().await {
                if let Some(found) = look(&status) {
                    return found;
                }
                last = Some(status);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not seen: {what}\nlast status: {last:#?}\nlog:\n{}", self.log());
    }

    pub(crate) async fn until_applied(&self, agent: &RunningAgent, version: u64) -> AgentStatus {
        let what = format!("version {version} applied");
        self.until(agent, &what, |status| (status.applied == Some(CatalogVersion(version))).then(|| status.clone()))
            .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A server that outlived its agent, as in the story of the killed agent or after a failure.
        let pid = std::fs::read_to_string(self.data_dir().join("postmaster.pid")).ok();
        if let Some(pid) = pid.and_then(|text| text.lines().next()?.trim().parse::<u32>().ok()) {
            let ours = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.data_dir());
            if ours {
                signal(pid, Signal::QUIT);
                let begun = Instant::now();
                while std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok() && begun.elapsed() < DEADLINE {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The agent's process. Its standard input ends when this is dropped, and then it stops.
pub(crate) struct RunningAgent {
    child: Child,
    pub(crate) url: String,
}

impl RunningAgent {
    pub(crate) async fn status(&self) -> Option<AgentStatus> {
        let (code, body) = request::send("GET", &format!("{}{STATUS_PATH}", self.url), Some(SECRET), None).await?;
        (code == 200).then(|| serde_json::from_slice(&body).unwrap())
    }

    /// Status code and body of the answer to a desired state.
    pub(crate) async fn put(&self, desired: &DesiredState) -> (u16, serde_json::Value) {
        let body = serde_json::to_vec(desired).unwrap();
        let url = format!("{}{DESIRED_PATH}", self.url);
        let (code, body) = request::send("PUT", &url, Some(SECRET), Some(body)).await.unwrap();
        (code, serde_json::from_slice(&body).unwrap())
    }

    pub(crate) fn stop(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Waits for the end of an agent that ends by itself.
    pub(crate) fn ended(mut self) -> std::process::ExitStatus {
        // Waiting would end its standard input.
        let stdin = self.child.stdin.take();
        let status = self.child.wait().unwrap();
        drop(stdin);
        status
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

pub(crate) fn collection(id: u64, name: &str) -> DesiredCollection {
    let settings = CollectionSettings { dimensions: Some(3), ..CollectionSettings::memory_entries() };
    DesiredCollection { id: CollectionId(id), name: CollectionName::parse(name).unwrap(), settings }
}

pub(crate) fn desired(
    version: u64,
    collections: Vec<DesiredCollection>,
    dropping: Vec<DesiredCollection>,
) -> DesiredState {
    DesiredState {
        cluster_id: CLUSTER.to_owned(),
        catalog_version: CatalogVersion(version),
        group: GROUP,
        shards: (0..3).map(|shard| DesiredShard { shard: ShardId(shard), generation: Generation(1) }).collect(),
        collections,
        dropping,
        moves: Vec::new(),
    }
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
