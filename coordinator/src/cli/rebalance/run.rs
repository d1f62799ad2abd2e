//! `atoll rebalance apply`, `status`, `pause`, `resume` and `cancel`: carries plans out, and watches. The work goes on in the cluster
//! whether somebody watches or not.

use super::{PlanArgs, shown as shown_plan};
use crate::cli::client::{Answer, Client};
use crate::cli::error::CommandError;
use crate::cli::moves::{ASK_EVERY, SILENT_TRIES, progress};
use crate::cli::output::{Output, count, or_dash, table};
use crate::cli::time_left::TimeLeft;
use atoll_proto::admin::GroupList;
use atoll_proto::problem::ProblemCode;
use atoll_proto::rebalance::{
    ApplyRequest, BalanceBy, RebalancePlan, RebalanceStatus, RunCounts, RunMoveInfo, RunMoveState, RunState,
};
use atoll_proto::{GroupName, limits};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Instant;

const STATUS: &str = "/v1/admin/rebalance/status";
/// Plans that a drain takes at most: usually one.
const EMPTYING_ROUNDS: u32 = 5;
/// How far from the mean a group may be while another one is drained: as usual.
const REBALANCE_THRESHOLD: f64 = 0.2;

/// What `atoll rebalance apply` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// A plan that `atoll rebalance plan` made with the same coordinator. Without it, plans, shows the plan and asks.
    #[arg(value_name = "PLAN_ID", conflicts_with_all = ["by", "threshold"])]
    plan_id: Option<String>,
    #[command(flatten)]
    plan: PlanArgs,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Moves that may be under way at a time: 1 or 2.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::PARALLEL_MOVES_MAX)))]
    max_parallel_moves: u32,
    /// Do not wait until it is over.
    #[arg(long)]
    no_wait: bool,
}

impl ApplyArgs {
    /// Has the plan carried out, and watches unless told otherwise.
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        let Self { plan_id, plan, yes, max_parallel_moves, no_wait } = self;
        let plan_id = match plan_id {
            Some(plan_id) => plan_id,
            None => {
                let answer = plan.ask(client).await?;
                let plan: RebalancePlan = answer.parse()?;
                if plan.report.moves.is_empty() {
                    return output.show(&answer, |plan: RebalancePlan| shown_plan(&plan));
                }
                if !output.json {
                    // Who agreed beforehand means it, also where nobody reads on (`… --yes | head`).
                    let printed = output.line(shown_plan(&plan));
                    if !yes {
                        printed?;
                    }
                }
                if !yes && !agreed(plan.report.moves.len() as u64)? {
                    return Err(CommandError::Failed("nothing was moved".to_owned()));
                }
                plan.plan_id
            }
        };
        let answer = client.post("/v1/admin/rebalance/apply", &ApplyRequest { plan_id, max_parallel_moves }).await?;
        if no_wait {
            return show(&answer, output);
        }
        watch(client, output).await
    }
}

/// Moves all that a draining group holds to others. Plans anew while that is of use: a move that was under way may have brought it a
/// shard.
pub(in crate::cli) async fn empty(
    group: &GroupName,
    max_parallel_moves: u32,
    client: &Client,
    output: &Output,
) -> Result<(), CommandError> {
    for _ in 0..EMPTYING_ROUNDS {
        // Another plan has to end first; its moves to the group are skipped.
        let status: RebalanceStatus = client.get(STATUS).await?.parse()?;
        if matches!(status.state, RunState::Running | RunState::Cancelling) {
            watch_to_the_end(client).await?;
            continue;
        }
        if status.state == RunState::Paused {
            return Err(CommandError::Failed(format!(
                "another plan is paused: `atoll rebalance resume` goes on with it, `atoll rebalance cancel` gives it up; then \
                 again: atoll group drain {group}"
            )));
        }
        let groups: GroupList = client.get("/v1/admin/groups").await?.parse()?;
        if groups.groups.iter().any(|known| known.group == group.as_str() && known.shards == 0) {
            return Ok(());
        }
        let plan = PlanArgs { by: BalanceBy::default(), threshold: REBALANCE_THRESHOLD };
        let plan: RebalancePlan = plan.ask(client).await?.parse()?;
        if !output.json {
            // The drain was asked for, whether somebody reads on or not.
            let _ = output.line(format_args!("{}\n", shown_plan(&plan)));
        }
        if plan.report.moves.is_empty() {
            return Ok(());
        }
        let body = ApplyRequest { plan_id: plan.plan_id, max_parallel_moves };
        match client.post("/v1/admin/rebalance/apply", &body).await {
            Ok(_) => {}
            // Something moved since the plan was made.
            Err(CommandError::Problem(problem)) if problem.is(ProblemCode::StalePlan) => continue,
            Err(error) => return Err(error),
        }
        let answer = watch_to_the_end(client).await?;
        if !output.json {
            let _ = show(&answer, output);
        }
        judge(&answer)?;
    }
    Ok(())
}

/// Shows how far the plan is; watches it if asked to.
pub(super) async fn status(wait: bool, client: &Client, output: &Output) -> Result<(), CommandError> {
    if wait {
        return watch(client, output).await;
    }
    show(&client.get(STATUS).await?, output)
}

/// Pauses, resumes or cancels.
pub(super) async fn steer(what: &str, client: &Client, output: &Output) -> Result<(), CommandError> {
    let answer = client.post(&format!("/v1/admin/rebalance/{what}"), &serde_json::json!({})).await?;
    output.show(&answer, |status: RebalanceStatus| summary(&status))
}

fn agreed(moves: u64) -> Result<bool, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::Usage("nobody can be asked here: --yes agrees to the plan".to_owned()));
    }
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "Carry out {}? [y/N] ", count(moves, "move")).and_then(|()| stderr.flush());
    asked.map_err(CommandError::Output)?;
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| CommandError::Failed(format!("cannot read the answer: {error}")))?;
    Ok(["y", "yes"].contains(&line.trim().to_lowercase().as_str()))
}

async fn watch(client: &Client, output: &Output) -> Result<(), CommandError> {
    let answer = watch_to_the_end(client).await?;
    show(&answer, output)?;
    judge(&answer)
}

/// Shows how far it is until no move is under way and none will be begun; gives its last word.
async fn watch_to_the_end(client: &Client) -> Result<Answer, CommandError> {
    let mut bars = Bars::new();
    let ended = tokio::select! {
        ended = until_it_stops(client, &mut bars) => ended,
        _ = tokio::signal::ctrl_c() => Err(CommandError::Failed(
            "stopped watching; the work goes on in the cluster: `atoll rebalance status --wait` watches again, \
             `atoll rebalance pause` and `cancel` stop it".to_owned(),
        )),
    };
    bars.clear();
    ended
}

/// An error unless all shards have moved.
fn judge(answer: &Answer) -> Result<(), CommandError> {
    let RebalanceStatus { state, counts: RunCounts { failed, skipped, .. }, note, .. } = answer.parse()?;
    let why = match state {
        RunState::Done | RunState::None if failed + skipped == 0 => return Ok(()),
        RunState::Done | RunState::None => format!(
            "{} failed and {skipped} could not be begun; `atoll rebalance plan` shows what is left to do",
            count(failed, "move")
        ),
        RunState::Cancelled => "it was cancelled; shards that have moved stay where they are".to_owned(),
        RunState::Running | RunState::Paused | RunState::Cancelling => {
            let note = note.map(|note| format!(": {note}")).unwrap_or_default();
            format!("it is paused{note}; `atoll rebalance resume` goes on")
        }
    };
    Err(CommandError::Failed(why))
}

/// Asks until no move is under way and none will be begun.
async fn until_it_stops(client: &Client, bars: &mut Bars) -> Result<Answer, CommandError> {
    let mut silent = 0;
    loop {
        match client.get(STATUS).await {
            Ok(answer) => {
                silent = 0;
                let status: RebalanceStatus = answer.parse()?;
                bars.draw(&status);
                match status.state {
                    RunState::Done | RunState::Cancelled | RunState::None => return Ok(answer),
                    RunState::Paused if status.counts.under_way == 0 => return Ok(answer),
                    RunState::Running | RunState::Paused | RunState::Cancelling => {}
                }
            }
            Err(error) if silent >= SILENT_TRIES => return Err(error),
            Err(_) => silent += 1,
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// One bar of all moves, and one of each that is under way.
struct Bars {
    all: ProgressBar,
    each: Vec<ProgressBar>,
    left: TimeLeft,
    together: MultiProgress,
}

impl Bars {
    fn new() -> Self {
        let together = MultiProgress::new();
        let style = ProgressStyle::with_template("{bar:30} {msg}").expect("the template is well-formed");
        let bar = || together.add(ProgressBar::new(1).with_style(style.clone()));
        Self {
            all: bar(),
            each: (0..limits::PARALLEL_MOVES_MAX).map(|_| bar()).collect(),
            left: TimeLeft::default(),
            together: together.clone(),
        }
    }

    fn draw(&mut self, status: &RebalanceStatus) {
        let RunCounts { total, waiting, under_way, .. } = status.counts;
        self.all.set_length(u64::from(total.max(1)));
        self.all.set_position(u64::from(total - waiting - under_way));
        self.all.set_message(summary(status));
        let mut moving = status.moves.iter().filter_map(|one| one.progress.as_ref());
        for bar in &self.each {
            let Some(one) = moving.next() else {
                bar.set_position(0);
                bar.set_message("");
                continue;
            };
            bar.set_length(one.rows_total.max(1));
            bar.set_position(one.rows_done);
            let left = self.left.of(one, Instant::now());
            bar.set_message(format!("shard {} {} → {}: {}{left}", one.shard, one.from, one.to, progress(one)));
        }
    }

    fn clear(&self) {
        // Nothing is lost if the terminal is gone.
        let _ = self.together.clear();
    }
}

fn show(answer: &Answer, output: &Output) -> Result<(), CommandError> {
    output.show(answer, |status: RebalanceStatus| shown(&status))
}

fn summary(status: &RebalanceStatus) -> String {
    let RunCounts { total, waiting, under_way, moved, cancelled, failed, skipped } = status.counts;
    let state = match status.state {
        RunState::None => return "no plan was ever carried out".to_owned(),
        RunState::Running => "running",
        RunState::Paused => "paused",
        RunState::Cancelling => "cancelling",
        RunState::Cancelled => "cancelled",
        RunState::Done => "done",
    };
    let mut text = format!("{state}: {moved} of {} done", count(total, "move"));
    for (number, what) in [
        (under_way, "under way"),
        (waiting, "not begun"),
        (cancelled, "cancelled"),
        (failed, "failed"),
        (skipped, "skipped"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    text
}

fn shown(status: &RebalanceStatus) -> String {
    let mut text = summary(status);
    if let Some(plan_id) = &status.plan_id {
        text = format!("plan {plan_id} {text}");
    }
    if let Some(note) = &status.note {
        text.push_str(&format!("\n{note}"));
    }
    if status.moves.is_empty() {
        return text;
    }
    let told =
        |one: &RunMoveInfo| one.progress.as_ref().map(progress).or_else(|| one.error.clone()).unwrap_or_default();
    let state = |one: &RunMoveInfo| match one.state {
        RunMoveState::Waiting => "waiting",
        RunMoveState::UnderWay => "under way",
        RunMoveState::Moved => "moved",
        RunMoveState::Cancelled => "cancelled",
        RunMoveState::Failed => "failed",
        RunMoveState::Skipped => "skipped",
    };
    let rows = status.moves.iter().map(|one| {
        let id = or_dash(one.id.map(|id| id.to_string()));
        [one.shard.to_string(), one.from.clone(), one.to.clone(), state(one).to_owned(), id, told(one)]
    });
    format!("{text}\n\n{}", table(&["SHARD>", "FROM", "TO", "STATE", "MOVE>", "TOLD"], rows))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;
    use serde_json::{Value, json};

    fn status(state: &str, error: Value) -> Value {
        let failed = u32::from(!error.is_null());
        json!({"plan_id": "p1", "state": state, "max_parallel_moves": 1, "note": null,
            "counts": {"total": 2, "waiting": 0, "under_way": 0, "moved": 2 - failed, "cancelled": 0, "failed": failed,
                "skipped": 0},
            "moves": [{"shard": 3, "from": "g1", "to": "g4", "state": "moved", "id": 9, "progress": null, "error": null},
                {"shard": 4, "from": "g2", "to": "g4", "state": "failed", "id": 12, "progress": null, "error": error}]})
    }

    #[tokio::test]
    async fn a_plan_is_sent_and_watched_to_its_end() {
        let (running, done) = (status("running", json!(null)).to_string(), status("done", json!(null)).to_string());
        let fake = FakeCoordinator::in_turn(vec![(200, &running), (200, &running), (200, &done)]).await;
        let plan = PlanArgs { by: Default::default(), threshold: 0.2 };
        let args =
            ApplyArgs { plan_id: Some("p1".to_owned()), plan, yes: false, max_parallel_moves: 2, no_wait: false };
        args.run(&fake.client(), &Output::detect(true)).await.unwrap();
        let request = fake.request().await;
        assert!(request.ends_with(r#"{"plan_id":"p1","max_parallel_moves":2}"#), "{request}");
    }

    #[tokio::test]
    async fn failed_moves_are_an_error_and_named() {
        let told = status("done", json!("disk full"));
        let fake = FakeCoordinator::answering(200, &told.to_string()).await;
        let error = watch(&fake.client(), &Output::detect(true)).await.unwrap_err();
        assert!(error.to_string().contains("1 move failed"), "{error}");
        let text = shown(&serde_json::from_value(told).unwrap());
        assert!(text.contains("disk full") && text.contains("done: 1 of 2 moves done, 1 failed"), "{text}");
    }

    #[tokio::test]
    async fn a_paused_run_says_how_to_go_on() {
        let fake = FakeCoordinator::answering(200, &status("paused", json!(null)).to_string()).await;
        let error = watch(&fake.client(), &Output::detect(true)).await.unwrap_err();
        assert!(error.to_string().contains("atoll rebalance resume"), "{error}");
    }
}
