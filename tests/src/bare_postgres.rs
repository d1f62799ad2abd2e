//! PostgreSQL servers as others have them: made, copied, promoted and killed by hand, with PostgreSQL's own programs.

use crate::processes::{self, kill_tree};
use crate::{Cluster, poll, sql};
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The superuser of all of them.
pub const USER: &str = "admin";
const PASSWORD: &str = "admin's";
const PATIENCE: Duration = Duration::from_secs(60);

/// A server. It is killed when this is dropped.
#[derive(Debug)]
pub struct BarePostgres {
    folder: PathBuf,
    bin: PathBuf,
    /// Who runs it: PostgreSQL refuses to run as root.
    account: (u32, u32),
    port: u16,
}

impl Drop for BarePostgres {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            kill_tree(pid);
        }
    }
}

impl BarePostgres {
    /// Makes one with an empty database `atoll`, by the same programs and as the same user as the first worker of the cluster.
    pub async fn make(cluster: &Cluster, name: &str, port: u16) -> Self {
        let this = Self::nothing_yet(cluster, name, port);
        let password_file = this.password_file();
        std::fs::write(&password_file, PASSWORD).expect("the folder is ours");
        std::fs::set_permissions(&password_file, Permissions::from_mode(0o600)).expect("the folder is ours");
        chown(&password_file, Some(this.account.0), Some(this.account.1)).expect("the folder is ours");
        let arguments = ["--username", USER, "--auth", "scram-sha-256", "--pwfile"].map(OsStr::new);
        this.run("initdb", &[&arguments[..], &[password_file.as_os_str(), OsStr::new("-D")]].concat());
        this.start();
        sql::rows(&this.dsn("postgres"), "create database atoll").await;
        this
    }

    /// Makes a standby of this one, which follows it.
    pub fn standby(&self, cluster: &Cluster, name: &str, port: u16) -> Self {
        let standby = Self::nothing_yet(cluster, name, port);
        let source = format!("{} application_name={name}", self.dsn("postgres"));
        let arguments = ["--checkpoint=fast", "--write-recovery-conf", "--dbname", &source, "-D"].map(OsStr::new);
        standby.run("pg_basebackup", &arguments);
        standby.start();
        standby
    }

    /// Its port, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file with its superuser's password.
    pub fn password_file(&self) -> PathBuf {
        self.folder.with_extension("password")
    }

    /// How to connect to one of its databases.
    pub fn dsn(&self, database: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user={USER} password='{}' dbname={database}",
            self.port,
            PASSWORD.replace('\'', "\\'")
        )
    }

    /// Starts it, and waits until it serves.
    pub fn start(&self) {
        let options = format!("-c port={} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''", self.port);
        let log = self.folder.with_extension("log");
        let [wait, log_flag, options_flag, start] = ["--wait", "--log", "--options", "start"].map(OsStr::new);
        let arguments = [start, wait, log_flag, log.as_os_str(), options_flag, OsStr::new(&options), OsStr::new("-D")];
        self.run("pg_ctl", &arguments);
    }

    /// Has a standby take over.
    pub fn promote(&self) {
        self.run("pg_ctl", &["promote", "--wait", "-D"].map(OsStr::new));
    }

    /// Kills it with all its processes.
    pub async fn kill(&self) {
        let killed = kill_tree(self.pid().expect("it runs"));
        processes::wait_gone(&killed).await;
        // The next one would take a process that nobody has waited for yet for one that runs.
        std::fs::remove_file(self.folder.join("postmaster.pid")).expect("a killed server leaves it behind");
    }

    /// Waits until a query gives this first column.
    pub async fn wait_for(&self, statement: &str, wanted: &str) {
        poll::until(statement, PATIENCE, async || match sql::try_rows(&self.dsn("atoll"), statement).await? {
            found if found == [wanted] => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await;
    }

    fn nothing_yet(cluster: &Cluster, name: &str, port: u16) -> Self {
        let worker = cluster.layout().workers.into_iter().next().expect("the cluster has a worker");
        let owner = std::fs::metadata(&worker.data_dir).expect("it has data");
        let account = (owner.uid(), owner.gid());
        let pid = cluster.postmaster(&worker).expect("its server runs");
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).expect("a process has a program");
        let bin = program.parent().expect("a program lies in a folder").to_owned();
        let folder = cluster.scratch().join(name);
        std::fs::create_dir(&folder).expect("the folder is ours");
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).expect("the folder is ours");
        let log = folder.with_extension("log");
        std::fs::write(&log, "").expect("the folder is ours");
        for path in [&folder, &log] {
            chown(path, Some(account.0), Some(account.1)).expect("the folder is ours");
        }
        Self { folder, bin, account, port }
    }

    fn pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.folder.join("postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        processes::runs(pid).then_some(pid)
    }

    /// Runs a program whose last argument is the data directory.
    fn run(&self, program: &str, arguments: &[&OsStr]) {
        let mut command = Command::new(self.bin.join(program));
        command.args(arguments).arg(&self.folder).current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
        let ours = std::fs::metadata("/proc/self").expect("stories need /proc").uid();
        if ours != self.account.0 {
            command.uid(self.account.0).gid(self.account.1);
        }
        // Not by pipes: a server that was started would hold them open.
        let said = std::fs::File::create(self.folder.with_extension("said")).expect("the folder is ours");
        command.stdout(said.try_clone().expect("a file can be shared")).stderr(said);
        let status = command.status().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(status.success(), "{program} ended with {status}: {}", self.said());
    }

    fn said(&self) -> String {
        let read = |end: &str| read(&self.folder.with_extension(end));
        format!("{}\n{}", read("said"), read("log"))
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
