//! Moves under faults: every moment of a move × every part that it needs × killed or stopped, and cancelled in every moment. Prints a
//! line for each cell, and fails if one did. Takes many minutes; flags choose cells.

use clap::Parser;
use cluster_tests::faults::{Cell, Deed, Fault, Moment, Range, Victim};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

/// Breaks what a move needs, in every moment of it, and looks whether anything is lost or left behind.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these moments (several with commas).
    #[arg(long, value_enum, value_delimiter = ',')]
    moment: Vec<Moment>,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    victim: Vec<Victim>,
    /// Only this fault.
    #[arg(long, value_enum, value_delimiter = ',')]
    fault: Vec<Fault>,
    /// Only the cells in which nothing is broken: moves that are cancelled, and a copy that is altered.
    #[arg(long, conflicts_with_all = ["victim", "fault"])]
    unbroken: bool,
    /// Only say which cells there are.
    #[arg(long)]
    list: bool,
}

impl Arguments {
    fn cells(&self) -> Vec<Cell> {
        let wanted = |cell: &Cell| {
            (self.moment.is_empty() || self.moment.contains(&cell.moment))
                && match cell.deed {
                    Deed::Break(victim, fault) => {
                        !self.unbroken
                            && (self.victim.is_empty() || self.victim.contains(&victim))
                            && (self.fault.is_empty() || self.fault.contains(&fault))
                    }
                    Deed::Cancel | Deed::Meddle => self.victim.is_empty() && self.fault.is_empty(),
                }
        };
        Cell::all().into_iter().filter(wanted).collect()
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cells = arguments.cells();
    if arguments.list {
        cells.iter().for_each(|cell| println!("{cell}"));
        return ExitCode::SUCCESS;
    }
    if cells.is_empty() {
        eprintln!("no cell is of this kind: see --list");
        return ExitCode::FAILURE;
    }
    let began = Instant::now();
    let mut failed = Vec::new();
    let mut kept: Option<Range> = None;
    for cell in cells.iter().copied() {
        let mut range = match kept.take() {
            Some(range) => range,
            None => Range::start("move_faults").await,
        };
        // A cell that fails panics, as a test does. Its cluster goes with it, and the next gets another.
        match AssertUnwindSafe(range.run(cell)).catch_unwind().await {
            Ok(told) => {
                println!("{cell} {told}");
                kept = Some(range);
            }
            Err(_) => {
                println!("{cell} FAILED, see above");
                failed.push(cell);
            }
        }
    }
    if let Some(range) = kept {
        range.finish().await;
    }
    println!("{} cells in {:.0} s, {} failed", cells.len(), began.elapsed().as_secs_f32(), failed.len());
    failed.iter().for_each(|cell| println!("failed: {cell}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
