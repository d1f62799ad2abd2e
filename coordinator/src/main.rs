//! The binary `atoll`: a coordinator, a whole cluster for development, and the commands that talk to one.

mod cli;
mod dev;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = cli.output();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the asynchronous runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    // On the heap: the future of `serve` is large.
    let outcome = runtime.block_on(Box::pin(cli.run(&output)));
    // Without waiting: a thread that still reads a terminal or a pipe would hold the exit up for ever.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(&output);
            error.exit_code()
        }
    }
}
