//! `atoll serve` and `atoll config`: the commands that read a coordinator's configuration.

use super::error::CommandError;
use super::output::Output;
use std::path::PathBuf;

/// What `atoll serve` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Configuration (TOML); `ATOLL__SECTION__KEY` in the environment wins over it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Stop when standard input ends: whoever started the coordinator holds the other end.
    #[arg(long)]
    stop_on_stdin_eof: bool,
}

/// What `atoll config` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs a coordinator until it is told to stop.
pub(crate) async fn serve(args: ServeArgs) -> Result<(), CommandError> {
    let options = atoll::serve::Options { stop_on_stdin_eof: args.stop_on_stdin_eof };
    atoll::serve::run(&args.config, options).await.map_err(|error| CommandError::failed(&error))
}

/// Prints the configuration that `serve` would use.
pub(crate) fn print_config(args: &ConfigArgs, output: &Output) -> Result<(), CommandError> {
    let config = atoll::config::Config::load(&args.config).map_err(|error| CommandError::failed(&error))?;
    let text = toml::to_string(&config).map_err(|error| CommandError::failed(&error))?;
    output.line(text.trim_end())
}
