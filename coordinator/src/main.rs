//! The binary `atoll`: a coordinator, a whole cluster for development, and the commands that talk to one.

mod cli;
mod dev;

use clap::Parser;
use std::process::ExitCode;

/// Small allocations of many sizes, made and freed by other threads: searches are answered 3 to 5 % sooner than with the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = cli.output();
    let runtime = match runtime(cli.serves()) {
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

/// A coordinator has half of the machine's cores, unless `TOKIO_WORKER_THREADS` says otherwise: searching is the work of
/// PostgreSQL, and another thread that is woken for each packet costs a search more than it gains. Other commands have one thread.
fn runtime(serves: bool) -> std::io::Result<tokio::runtime::Runtime> {
    if !serves {
        return tokio::runtime::Builder::new_current_thread().enable_all().build();
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        builder.worker_threads((cores / 2).max(1));
    }
    builder.enable_all().build()
}
