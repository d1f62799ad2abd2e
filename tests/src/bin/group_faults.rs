//! Groups with standbys under faults: whatever a group is made of is killed, stopped, cut off and restarted, several times each, under
//! writers and readers whose history is judged. Prints a line for each trial and each fault. Fails where a promise was broken or something
//! did not come back. A gap that is longer than is wanted is told, and does not fail: it depends on the machine too.

use clap::Parser;
use cluster_tests::group_faults::{GroupFault, GroupRange, Tally, Trial};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Breaks what a group with standbys is made of, and looks whether anything acknowledged is lost.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each fault is tried.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only faults with these names (several with commas): see --list.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// No trial begins after so many minutes.
    #[arg(long, default_value_t = 25)]
    minutes: u64,
    /// Only say which faults there are.
    #[arg(long)]
    list: bool,
    /// Print what became of each fault as JSON; trials are told on standard error.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn faults(&self) -> Result<Vec<GroupFault>, String> {
        let all = GroupFault::all();
        let unknown = self.only.iter().find(|name| !all.iter().any(|fault| fault.to_string() == **name));
        match unknown {
            Some(name) => Err(format!("there is no fault {name}: see --list")),
            None if self.only.is_empty() => Ok(all),
            None => Ok(all.into_iter().filter(|fault| self.only.contains(&fault.to_string())).collect()),
        }
    }
}

/// What became of everything.
#[derive(Default)]
struct Outcome {
    trials: Vec<Trial>,
    failures: Vec<String>,
    untried: Vec<String>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let faults = match arguments.faults() {
        Ok(faults) => faults,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if arguments.list {
        faults.iter().for_each(|fault| println!("{fault}"));
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let outcome = try_all(&arguments, &faults).await;
    let tallies: Vec<Tally> = faults.iter().map(|fault| Tally::of(*fault, outcome.trials.iter())).collect();
    match arguments.json {
        true => println!("{}", serde_json::Value::from_iter(tallies.iter().map(Tally::as_json))),
        false => tallies.iter().for_each(|tally| println!("{tally}")),
    }
    outcome.untried.iter().for_each(|untried| eprintln!("not tried: {untried}"));
    outcome.failures.iter().for_each(|failure| eprintln!("failed: {failure}"));
    let missed = tallies.iter().filter(|tally| tally.misses_its_bar()).count();
    eprintln!(
        "{} trials in {:.0} s, {} failures, {missed} faults with longer gaps than wanted",
        outcome.trials.len(),
        began.elapsed().as_secs_f32(),
        outcome.failures.len()
    );
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn try_all(arguments: &Arguments, faults: &[GroupFault]) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(60 * arguments.minutes);
    let mut outcome = Outcome::default();
    let mut kept: Option<GroupRange> = None;
    for round in 1..=arguments.rounds {
        for fault in faults.iter().copied() {
            if Instant::now() >= deadline {
                outcome.failures.push(format!("{fault}: no time was left for round {round}"));
                continue;
            }
            let mut range = match kept.take() {
                Some(range) => range,
                None => GroupRange::start("group_faults", true).await,
            };
            if let Some(obstacle) = range.obstacle(fault) {
                if round == 1 {
                    outcome.untried.push(format!("{fault}: {obstacle}"));
                }
                kept = Some(range);
                continue;
            }
            // What is never whole again panics, or fails here. Its cluster goes, and the next trial gets another.
            let Ok(trial) = AssertUnwindSafe(range.run(fault)).catch_unwind().await else {
                outcome.failures.push(format!("{fault}: it broke off, see above"));
                continue;
            };
            tell(arguments, &format!("{round} {trial}"));
            if !trial.is_fine() {
                outcome.failures.push(format!("{fault}: see round {round}"));
            }
            let is_over = trial.problems.is_empty();
            outcome.trials.push(trial);
            if is_over {
                kept = Some(range);
            } else {
                outcome.failures.extend(end(range).await);
            }
        }
    }
    if let Some(range) = kept {
        outcome.failures.extend(end(range).await);
    }
    outcome
}

/// Looks at everything once more, and ends the cluster.
async fn end(mut range: GroupRange) -> Vec<String> {
    let found = match range.look_again().await {
        Ok(found) => found.iter().map(|violation| format!("in the end: {violation}")).collect(),
        Err(error) => vec![format!("in the end: {error}")],
    };
    let finished = AssertUnwindSafe(range.finish()).catch_unwind().await;
    let failed = finished.is_err().then(|| "it did not end in an orderly way, see above".to_owned());
    found.into_iter().chain(failed).collect()
}

fn tell(arguments: &Arguments, line: &str) {
    if arguments.json { eprintln!("{line}") } else { println!("{line}") }
}
