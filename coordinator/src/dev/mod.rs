//! `atoll dev`: a whole cluster of real processes on this machine, to try and to develop with.
//!
//! It stays in the foreground, starts again what dies, and stops everything when it is stopped. Every process holds one
//! end of a pipe whose other end is ours: when we are killed, they see its end and stop.

mod cluster_file;
mod configuration;
mod folder;
mod member;
mod ports;
mod ready;
mod sample;
mod supervisor;
mod topology;

pub(crate) use cluster_file::{ClusterFile, WorkerEntry};
pub(crate) use sample::{rows as sample_rows, run as run_sample};

use crate::cli::{Client, CommandError, Output};
use folder::Folder;
use http::StatusCode;
use member::{Member, Programs};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use supervisor::{Died, Supervisor};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use topology::{COORDINATORS_MAX, Certificates, DEFAULT_PORT, PORT_MAX, Topology, WORKERS_MAX, Wanted};

/// How often process ids are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const AFTER_HELP: &str = "\
Examples:
  atoll dev                                   three workers, one coordinator
  atoll dev --sample                          the same, with 5,000 entries to search
  atoll dev --coordinators 3 --workers 5      on a folder of its own, with --data-dir and --port beside the first

When everything is up it prints `ready: URL`; what runs where stands in cluster.json in the folder. Ctrl-C stops the
cluster, and started again on the same folder it comes back with its data. A second Ctrl-C ends everything at once.

Ports: coordinators from --port on, their internal listeners 50 above, agents 100 above, PostgreSQL 200 above.
PostgreSQL with pgvector is found on this machine, or fetched once.";

/// What `atoll dev` takes. A flag left out takes the value of the folder's first start.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DevArgs {
    /// Workers: PostgreSQL servers, each with an agent. [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(WORKERS_MAX)))]
    workers: Option<u16>,
    /// Workers of a group: a primary and its standbys. [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=5))]
    replicas: Option<u16>,
    /// Coordinators. [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(COORDINATORS_MAX)))]
    coordinators: Option<u16>,
    /// Slots of the hash ring. [default: 12]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(atoll_proto::limits::SHARDS)))]
    shards: Option<u32>,
    /// Port of the first coordinator; the others follow from it. [default: 7700]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=i64::from(PORT_MAX)))]
    port: Option<u16>,
    /// Folder of the cluster. [default: /var/lib/atoll-dev for root, else ~/.local/share/atoll-dev]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Folder of PostgreSQL's programs.
    #[arg(long, value_name = "DIR", env = "ATOLL_PG_BIN")]
    pg_bin: Option<PathBuf>,
    /// Encrypt everything but PostgreSQL, with `ca.pem`, `cert.pem` and `key.pem` (for 127.0.0.1) of this folder.
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// Load 5,000 embedded WordNet entries, unless they are there, and search them once.
    #[arg(long)]
    sample: bool,
    /// Leave dead what dies.
    #[arg(long)]
    no_restart: bool,
    /// What the processes log, such as `debug` or `atoll=debug`.
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
}

/// What is to run, and where.
struct Cluster {
    folder: Folder,
    topology: Topology,
    programs: Programs,
    log_filter: Option<String>,
    /// API key to ask with, where an earlier run left a cluster that wants one.
    key: Option<String>,
}

impl Cluster {
    fn coordinator(&self, number: u16) -> Member {
        Member::coordinator(&self.folder, &self.programs, number, self.log_filter.as_deref())
    }

    fn agent(&self, number: u16) -> Member {
        Member::agent(&self.folder, &self.programs, number, self.log_filter.as_deref())
    }
}

/// Runs a cluster until it is told to stop.
pub(crate) async fn run(args: DevArgs, key: Option<String>, output: &Output) -> Result<(), CommandError> {
    let mut signals = Signals::listen()?;
    let cluster = tokio::select! {
        cluster = prepare(&args, key) => cluster?,
        () = signals.next() => return Ok(()),
    };
    let mut supervisor = Supervisor::new(!args.no_restart);
    let outcome = tokio::select! {
        outcome = live(&args, &cluster, &mut supervisor, output) => outcome,
        () = signals.next() => Ok(()),
    };
    eprintln!("stopping (again Ctrl-C: at once)");
    let orderly = tokio::select! {
        () = supervisor.stop() => true,
        () = signals.next() => false,
    };
    if orderly {
        eprintln!("stopped");
    } else {
        supervisor.kill().await;
        eprintln!("killed");
    }
    outcome
}

/// Everything that must be settled before the first process is started.
async fn prepare(args: &DevArgs, key: Option<String>) -> Result<Cluster, CommandError> {
    let programs = Programs::find()?;
    let path = match &args.data_dir {
        Some(path) => path.clone(),
        None => Folder::usual()?,
    };
    let folder = Folder::open(&path)?;
    let wanted = Wanted {
        workers: args.workers,
        replicas: args.replicas,
        coordinators: args.coordinators,
        shards: args.shards,
        port: args.port,
    };
    let kept = folder.topology()?;
    if let Some(kept) = &kept {
        let contradictions = kept.contradictions(&wanted);
        if !contradictions.is_empty() {
            return Err(CommandError::Usage(format!(
                "{} holds another cluster: {}. Leave the flags out, or make another cluster with --data-dir",
                folder.root().display(),
                contradictions.join("; ")
            )));
        }
    }
    let again = kept.is_some();
    let mut topology = kept.unwrap_or_else(|| Topology::new(&wanted, PathBuf::new()));
    let Topology { workers, replicas, .. } = topology;
    if !workers.is_multiple_of(replicas) {
        return Err(CommandError::Usage(format!("--workers {workers} make no whole groups of --replicas {replicas}")));
    }
    let tls = args.tls.as_deref().map(std::path::absolute).transpose();
    topology.tls = tls.map_err(|error| CommandError::Failed(format!("--tls: {error}")))?.map(Certificates);
    // First, because it takes no time; what is fetched below can take minutes.
    ports::wait_until_free(&folder, &topology, again).await?;
    if args.pg_bin.is_some() || !topology.pg_bin.is_dir() {
        let major = folder.data_major(&topology)?;
        topology.pg_bin = find_postgres(&programs.agent, args.pg_bin.as_deref(), major.as_deref()).await?;
    }
    folder.keep_topology(&topology)?;
    folder.secret(&folder.cluster_secret())?;
    folder.secret(&folder.postgres_password())?;
    configuration::write_all(&folder, &topology)?;
    // What it says of an earlier run is no longer true.
    if let Err(error) = std::fs::remove_file(folder.cluster_file())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(folder::failed("remove", &folder.cluster_file())(error));
    }
    Ok(Cluster { folder, topology, programs, log_filter: args.log_level.clone(), key })
}

/// The agent knows where to look, and fetches PostgreSQL if there is none; what it says meanwhile goes to the user. Data that
/// is there needs its own major version.
async fn find_postgres(agent: &Path, given: Option<&Path>, major: Option<&str>) -> Result<PathBuf, CommandError> {
    let mut command = Command::new(agent);
    command.arg("pg").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    if let Some(given) = given {
        command.arg("--pg-bin").arg(given);
    }
    if let Some(major) = major {
        command.arg("--major").arg(major);
    }
    let output = command.output().await.map_err(folder::failed("run", agent))?;
    let bin = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || bin.is_empty() {
        return Err(CommandError::Failed(
            "there is no PostgreSQL with a usable pgvector: install one, or name its folder with --pg-bin".to_owned(),
        ));
    }
    Ok(PathBuf::from(bin))
}

/// Brings the cluster up and looks after it. Ends by an error only; being told to stop is seen to outside.
async fn live(
    args: &DevArgs,
    cluster: &Cluster,
    supervisor: &mut Supervisor,
    output: &Output,
) -> Result<(), CommandError> {
    let topology = &cluster.topology;
    eprintln!(
        "starting {} coordinator(s) and {} worker(s) in {}",
        topology.coordinators,
        topology.workers,
        cluster.folder.root().display()
    );
    let mut file = ready::bring_up(cluster, supervisor).await?;
    let url = topology.client_url(1);
    // The address that commands take by themselves need not be said.
    let atoll = match &topology.tls {
        None if topology.port == DEFAULT_PORT => "atoll".to_owned(),
        None => format!("atoll --url {url}"),
        Some(certificates) => format!("atoll --url {url} --ca-file {}", certificates.ca_file().display()),
    };
    let client = Client::trusting(&url, None, &topology.trusted())?.with_key(cluster.key.clone())?;
    if args.sample {
        sample::load(&client).await?;
        sample::show_example(&client, &atoll).await?;
    }
    eprintln!("{}", next_steps(cluster, &url, &atoll, args.sample));
    if client.get_any("/v1/collections").await.is_ok_and(|answer| answer.status == StatusCode::UNAUTHORIZED) {
        eprintln!("{}", asks_for_keys(cluster, &atoll));
    }
    refresh(cluster, supervisor, &mut file)?;
    output.line(format_args!("ready: {url}"))?;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            died = supervisor.death() => tell(&died),
            _ = looks.tick() => refresh(cluster, supervisor, &mut file)?,
        }
    }
}

/// Brings `cluster.json` up to date, and says what runs again.
fn refresh(cluster: &Cluster, supervisor: &Supervisor, file: &mut ClusterFile) -> Result<(), CommandError> {
    let changed = file.refresh(supervisor);
    if changed.is_empty() {
        return Ok(());
    }
    for (name, pid) in changed {
        eprintln!("{name} runs again (pid {pid})");
    }
    file.write(&cluster.folder)
}

fn tell(died: &Died) {
    match died.again_in {
        Some(wait) => eprintln!("{} {}: starting it again in {:.1} s", died.name, died.how, wait.as_secs_f64()),
        None => eprintln!("{} {}: it stays so (--no-restart)", died.name, died.how),
    }
}

fn next_steps(cluster: &Cluster, url: &str, atoll: &str, sample: bool) -> String {
    let folder = cluster.folder.root().display();
    let mut lines = vec!["\ntry next, in another terminal:".to_owned()];
    if sample {
        lines.push(format!("  {atoll} {}", sample::example_command()));
        lines.push(format!("  curl -s {url}/v1/collections/memory_entries/namespaces"));
    } else {
        lines.push(format!("  {atoll} import FILE.jsonl.gz        (or start with --sample to have entries)"));
        lines.push(format!("  curl -s {url}/v1/collections"));
    }
    lines.push(format!("  {atoll} status"));
    lines.push(format!("logs: {}    what runs where: {folder}/cluster.json", cluster.folder.logs().display()));
    lines.push("Ctrl-C stops the cluster; started again on the same folder, it comes back with its data\n".to_owned());
    lines.join("\n")
}

/// What to say where an earlier run left keys, and we were given none that is valid.
fn asks_for_keys(cluster: &Cluster, atoll: &str) -> String {
    let secret = cluster.folder.cluster_secret();
    format!(
        "this cluster asks for API keys: commands send the one of --key-file FILE, or of ATOLL_KEY\n\
         if all admin keys are lost: {atoll} key recover --internal-url {} --secret-file {}\n",
        cluster.topology.internal_url(1),
        secret.display()
    )
}

/// The signals that mean: stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, CommandError> {
        let listen = |kind| {
            signal(kind).map_err(|error| CommandError::Failed(format!("signals cannot be listened for: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
