//! `atoll serve` and `atoll config`: the commands that read a coordinator's configuration.

use super::error::CommandError;
use super::output::Output;
use atoll::config::Config;
use schemars::schema_for;
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
    #[arg(long, value_name = "FILE", required_unless_present = "schema")]
    config: Option<PathBuf>,
    /// Print what there is to set, as JSON Schema, and read no file.
    #[arg(long)]
    schema: bool,
}

/// Runs a coordinator until it is told to stop.
pub(crate) async fn serve(args: ServeArgs) -> Result<(), CommandError> {
    let options = atoll::serve::Options { stop_on_stdin_eof: args.stop_on_stdin_eof };
    atoll::serve::run(&args.config, options).await.map_err(|error| CommandError::failed(&error))
}

/// Prints the configuration that `serve` would use, or what there is to set.
pub(crate) fn print_config(args: &ConfigArgs, output: &Output) -> Result<(), CommandError> {
    let text = match &args.config {
        Some(file) if !args.schema => {
            let config = Config::load(file).map_err(|error| CommandError::failed(&error))?;
            toml::to_string(&config).map_err(|error| CommandError::failed(&error))?
        }
        Some(_) | None => {
            serde_json::to_string_pretty(&schema_for!(Config)).map_err(|error| CommandError::failed(&error))?
        }
    };
    output.line(text.trim_end())
}
