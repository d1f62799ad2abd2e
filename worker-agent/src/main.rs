//! `atoll-agent`: runs one worker's agent, prints its configuration, or finds a PostgreSQL.

use anyhow::{Context, anyhow};
use atoll_agent::config::{Config, Overrides};
use atoll_agent::pg::account::Account;
use atoll_agent::pg::find::Wanted;
use atoll_agent::pg::version::PgvectorVersion;
use atoll_agent::{agent, logging};
use clap::{Args, Parser, Subcommand};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Looks after one PostgreSQL server of an Atoll cluster.
#[derive(Debug, Parser)]
#[command(name = "atoll-agent", version)]
struct CommandLine {
    /// What to log, such as `info` or `atoll_agent=debug`.
    #[arg(long, global = true, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    #[command(flatten)]
    run: RunArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of PostgreSQL's programs; wins over the configuration and ATOLL_PG_BIN.
    #[arg(long, global = true, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Stop, and stop PostgreSQL, when standard input ends.
    #[arg(long, global = true)]
    stop_on_stdin_eof: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the configuration in effect. Passwords are in files that it names.
    Config {
        /// Print what there is to set, as JSON Schema, and read no file.
        #[arg(long)]
        schema: bool,
    },
    /// Print the folder of a PostgreSQL with a safe pgvector; fetch one if there is none.
    Pg {
        /// Only one of this major version, because there is data of it.
        #[arg(long, value_name = "N")]
        major: Option<u32>,
        /// Only look, fetch nothing.
        #[arg(long)]
        no_fetch: bool,
        /// Take a pgvector that can corrupt HNSW indexes.
        #[arg(long)]
        allow_old_pgvector: bool,
    },
}

fn main() -> ExitCode {
    match start(CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atoll-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(line: CommandLine) -> anyhow::Result<()> {
    logging::start(&line.log).with_context(|| format!("{:?} is no log filter", line.log))?;
    match line.command {
        None => run(load(line.run)?),
        Some(Command::Config { schema: true }) => {
            println!("{}", serde_json::to_string_pretty(&schemars::schema_for!(Config))?);
            Ok(())
        }
        Some(Command::Config { schema: false }) => {
            print!("{}", toml::to_string(&load(line.run)?)?);
            Ok(())
        }
        Some(Command::Pg { major, no_fetch, allow_old_pgvector }) => {
            let account = Account::for_server()?;
            let mut wanted = Wanted { bin: line.run.pg_bin, major, fetch: !no_fetch, ..Wanted::safe(account) };
            if allow_old_pgvector {
                wanted.pgvector_min = PgvectorVersion::ANY;
            }
            println!("{}", wanted.find()?.bin.display());
            Ok(())
        }
    }
}

fn load(arguments: RunArguments) -> anyhow::Result<Config> {
    let path = arguments.config.ok_or_else(|| anyhow!("--config FILE is needed"))?;
    let overrides = Overrides { bin: arguments.pg_bin, stop_on_stdin_eof: arguments.stop_on_stdin_eof };
    Ok(Config::load(&path, &overrides)?)
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("no threads to run on")?;
    let stop_on_stdin_eof = config.stop_on_stdin_eof;
    let outcome = runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stdin_ended = stdin_end(stop_on_stdin_eof);
        let stopped = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = stdin_ended => {}
            }
        };
        anyhow::Ok(agent::run(config, stopped).await?)
    });
    // A fetch or an initdb that was cut off may still block a thread; it is safe to leave, the next start does it again.
    runtime.shutdown_background();
    outcome
}

/// Completes when standard input ends, or never if nobody wants to know.
async fn stdin_end(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let (ended, end) = oneshot::channel();
    // A thread of its own: a blocked read cannot be cancelled, and must not keep the runtime from stopping.
    std::thread::spawn(move || {
        let mut bytes = [0_u8; 256];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        // Nobody waits any more: the agent stops already.
        let _ = ended.send(());
    });
    let _ = end.await;
}
