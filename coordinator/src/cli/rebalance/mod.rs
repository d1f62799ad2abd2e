//! `atoll rebalance`: what would even groups out, and why; its carrying out ([`run`]), by hand or by a schedule ([`policy`]).

mod policy;
mod run;

pub(super) use run::empty;

use super::client::{Answer, Client};
use super::error::CommandError;
use super::one_of;
use super::output::{Output, bytes, count, or_dash, table};
use atoll_proto::limits;
use atoll_proto::rebalance::{
    BalanceBy, GroupBalance, GroupPart, PlannedMove, RebalancePlan, RebalanceReport, RebalanceRequest, StayReason,
    StayingShards,
};
use std::fmt::Arguments;

const AFTER_HELP: &str = "\
Examples:
  atoll rebalance plan                                   what to move so that groups hold as many bytes as they should
  atoll rebalance plan --by count --threshold 0.1        the same by number of shards, to a tenth of the mean

Nothing is moved: `atoll rebalance apply` does it. Groups are weighed in proportion to their capacities.";

/// What `--by` takes.
pub(super) const MEASURES: &[&str] = &["bytes", "rows", "count"];

/// Lines of a table, and of reasons: beyond, only programs want them.
const LINES: usize = 40;

/// What can be done to even groups out.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RebalanceCommand {
    /// Show which shards to move so that groups are evenly full, why, and what it would cost.
    #[command(after_help = AFTER_HELP)]
    Plan(PlanArgs),
    /// Carry a plan out while clients go on, and show how far it is. Ctrl-C stops the showing, not the work.
    Apply(run::ApplyArgs),
    /// Show how far the plan is that is being carried out, or was last.
    Status {
        /// Wait until it is over or paused, and show how far it is meanwhile.
        #[arg(long)]
        wait: bool,
    },
    /// Begin no more moves for now; those under way go on.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Begin no more moves, and put back what is under way; shards that have moved stay.
    Cancel,
    /// Show or set when plans are made and carried out by themselves.
    #[command(after_help = policy::AFTER_HELP)]
    Policy(policy::PolicyArgs),
}

/// What `atoll rebalance plan` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// What to even out.
    #[arg(long, value_name = "MEASURE", default_value = "bytes", value_parser = one_of::<BalanceBy>(MEASURES))]
    by: BalanceBy,
    /// How far from the mean a group may be, as a share of it: 0.01 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = threshold)]
    threshold: f64,
}

impl RebalanceCommand {
    /// Does it.
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        match self {
            Self::Plan(args) => output.show(&args.ask(client).await?, |plan: RebalancePlan| shown(&plan)),
            Self::Apply(args) => args.run(client, output).await,
            Self::Status { wait } => run::status(wait, client, output).await,
            Self::Pause => run::steer("pause", client, output).await,
            Self::Resume => run::steer("resume", client, output).await,
            Self::Cancel => run::steer("cancel", client, output).await,
            Self::Policy(args) => args.run(client, output).await,
        }
    }
}

impl PlanArgs {
    async fn ask(self, client: &Client) -> Result<Answer, CommandError> {
        let Self { by, threshold } = self;
        client.post("/v1/admin/rebalance/plan", &RebalanceRequest { by, threshold }).await
    }
}

fn threshold(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    let allowed = limits::REBALANCE_THRESHOLD;
    match allowed.contains(&share) {
        true => Ok(share),
        false => Err(format!("must be {} to {}", allowed.start(), allowed.end())),
    }
}

fn shown(plan: &RebalancePlan) -> String {
    let RebalanceReport { by, threshold, imbalance_before, imbalance_after, groups, moves, stays, cost } = &plan.report;
    let by = match by {
        BalanceBy::Bytes => "bytes",
        BalanceBy::Rows => "rows",
        BalanceBy::Count => "number of shards",
    };
    let (id, version) = (&plan.plan_id, plan.catalog_version);
    let mut text = format!("plan          {id} of catalog version {version}, by {by}\n");
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let (before, after) = (percent(*imbalance_before), percent(*imbalance_after));
    line(&mut text, format_args!("imbalance     {before} now, {after} then, {} allowed", percent(*threshold)));
    line(&mut text, format_args!("moves         {}", summary(plan)));
    if !moves.is_empty() {
        let size = format!("{} and {}", bytes(cost.bytes), count(cost.rows, "row"));
        line(&mut text, format_args!("cost          {size}, {} one move after the other", minutes(cost.minutes)));
        let (usual, most) = (cost.write_pause_ms, cost.write_pause_ms_max);
        line(&mut text, format_args!("              writes to a shard wait about {usual} ms once, {most} ms at most"));
    }
    text.push('\n');
    text.push_str(&groups_table(groups));
    if !moves.is_empty() {
        text.push_str("\n\n");
        text.push_str(&moves_table(moves));
    }
    let reasons = reasons(groups, stays);
    if !reasons.is_empty() {
        text.push('\n');
    }
    for reason in reasons.iter().take(LINES) {
        text.push('\n');
        text.push_str(reason);
    }
    text.push_str(&left_out(reasons.len()));
    text
}

fn line(text: &mut String, line: Arguments<'_>) {
    text.push_str(&format!("{line}\n"));
}

fn summary(plan: &RebalancePlan) -> String {
    let report = &plan.report;
    match report.moves.len() as u64 {
        0 if report.groups.iter().all(|group| group.obstacle.is_none()) => "none: nothing is to do".to_owned(),
        0 => "none would help: see below".to_owned(),
        moves => format!(
            "{moves} of {}",
            count(report.groups.iter().map(|group| u64::from(group.before.shards)).sum::<u64>(), "shard")
        ),
    }
}

fn minutes(minutes: f64) -> String {
    if minutes < 1.0 {
        "less than a minute".to_owned()
    } else {
        format!("about {}", count(minutes.round() as u64, "minute"))
    }
}

/// Groups by name; of very many, those that are furthest from the mean.
fn groups_table(groups: &[GroupBalance]) -> String {
    let mut shown: Vec<&GroupBalance> = groups.iter().collect();
    if shown.len() > LINES {
        let distance = |group: &GroupBalance| group.before.of_mean.map_or(f64::MAX, |full| (full - 1.0).abs());
        shown.sort_by(|a, b| distance(b).total_cmp(&distance(a)));
        shown.truncate(LINES);
    }
    let rows = shown.into_iter().map(|group| {
        let GroupBalance { group, state, capacity, before, after, obstacle: _ } = group;
        let full = |of_mean: Option<f64>| or_dash(of_mean.map(|full| format!("{:.0} %", full * 100.0)));
        [
            group.clone(),
            part(*state).to_owned(),
            capacity.to_string(),
            change(before.shards.to_string(), after.shards.to_string()),
            change(before.rows.to_string(), after.rows.to_string()),
            change(bytes(before.bytes), bytes(after.bytes)),
            change(full(before.of_mean), full(after.of_mean)),
        ]
    });
    let table = table(&["GROUP", "STATE", "CAPACITY>", "SHARDS>", "ROWS>", "SIZE>", "OF MEAN>"], rows);
    table + &left_out(groups.len())
}

fn part(part: GroupPart) -> &'static str {
    match part {
        GroupPart::Active => "active",
        GroupPart::Draining => "draining",
        GroupPart::Unreachable => "unreachable",
        GroupPart::Uncounted => "uncounted",
    }
}

/// What is, and what would be.
fn change(before: String, after: String) -> String {
    if before == after { before } else { format!("{before} → {after}") }
}

fn moves_table(moves: &[PlannedMove]) -> String {
    let rows = moves.iter().take(LINES).map(|one| {
        let PlannedMove { shard, from, to, rows, bytes: size, detail, .. } = one;
        [shard.to_string(), from.clone(), to.clone(), rows.to_string(), bytes(*size), detail.clone()]
    });
    table(&["SHARD>", "FROM", "TO", "ROWS>", "SIZE>", "WHY"], rows) + &left_out(moves.len())
}

/// Why groups stay as they are, and shards where they are, a line each.
fn reasons(groups: &[GroupBalance], stays: &[StayingShards]) -> Vec<String> {
    let obstacles = groups.iter().filter_map(|group| Some(format!("{}: {}", group.group, group.obstacle.as_ref()?)));
    let is_balanced = |stay: &&StayingShards| stay.reason == StayReason::Balanced;
    let others = stays.iter().filter(|stay| !is_balanced(stay));
    let others = others.map(|stay| {
        let examples: Vec<String> = stay.examples.iter().map(ToString::to_string).collect();
        let more = if stay.shards as usize > examples.len() { ", …" } else { "" };
        let shards = count(stay.shards, "shard");
        format!("unmoved: {shards} of {} ({}{more}): {}", stay.group, examples.join(", "), stay.detail)
    });
    let balanced: Vec<&StayingShards> = stays.iter().filter(is_balanced).collect();
    let shards: u64 = balanced.iter().map(|stay| u64::from(stay.shards)).sum();
    let in_groups = count(balanced.len() as u64, "group");
    let at_rest =
        (shards > 0).then(|| format!("unmoved: {} of {in_groups} within the threshold", count(shards, "shard")));
    obstacles.chain(others).chain(at_rest).collect()
}

/// A line that says how many there are that are not shown; nothing if all are.
fn left_out(all: usize) -> String {
    match all.checked_sub(LINES) {
        None | Some(0) => String::new(),
        Some(more) => format!("\n… and {more} more: --json has all"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;
    use serde_json::{Value, json};

    fn plan() -> Value {
        let load = |shards, full: f64| json!({"shards":shards,"rows":10,"bytes":2048,"of_mean":full});
        let group = |name, before, after| json!({"group":name,"state":"active","capacity":100,"before":before,"after":after,"obstacle":null});
        json!({"plan_id":"p1","catalog_version":42,"report":{
            "by":"bytes","threshold":0.2,"imbalance_before":1.0,"imbalance_after":0.0,
            "groups":[group("g1", load(2, 2.0), load(1, 1.0)), group("g2", load(0, 0.0), load(1, 1.0))],
            "moves":[{"shard":7,"from":"g1","to":"g2","rows":5,"bytes":1024,"reason":"too-full","detail":"g1 is full",
                      "from_before":2.0,"from_after":1.0,"to_before":0.0,"to_after":1.0}],
            "stays":[{"group":"g1","reason":"balanced","shards":1,"examples":[3],"detail":"it is"}],
            "cost":{"moves":1,"rows":5,"bytes":1024,"minutes":0.1,"write_pause_ms":50,"write_pause_ms_max":500}}})
    }

    #[test]
    fn a_plan_shows_before_and_after_and_why() {
        let text = shown(&serde_json::from_value(plan()).unwrap());
        for part in [
            "plan          p1 of catalog version 42, by bytes\n",
            "imbalance     100 % now, 0 % then, 20 % allowed\n",
            "moves         1 of 2 shards\n",
            "cost          1.0 KiB and 5 rows, less than a minute one move after the other\n",
            "2 → 1",
            "200 % → 100 %",
            "g1 is full",
            "unmoved: 1 shard of 1 group within the threshold",
        ] {
            assert!(text.contains(part), "no `{part}` in:\n{text}");
        }
    }

    #[test]
    fn nothing_to_do_is_told_from_nothing_that_helps() {
        let mut plan: RebalancePlan = serde_json::from_value(plan()).unwrap();
        plan.report.moves.clear();
        assert!(shown(&plan).contains("none: nothing is to do"));
        plan.report.groups[0].obstacle = Some("it holds one shard alone".to_owned());
        let text = shown(&plan);
        assert!(text.contains("none would help") && text.contains("g1: it holds one shard alone"), "{text}");
    }

    #[test]
    fn a_large_plan_stays_readable() {
        let mut plan: RebalancePlan = serde_json::from_value(plan()).unwrap();
        let report = &mut plan.report;
        report.moves = vec![report.moves[0].clone(); 1_000];
        report.groups = vec![report.groups[0].clone(); 1_000];
        report.stays = vec![StayingShards { reason: StayReason::TooLarge, ..report.stays[0].clone() }; 1_000];
        let text = shown(&plan);
        assert!(text.lines().count() < 140, "{}", text.lines().count());
        assert_eq!(text.matches("… and 960 more: --json has all").count(), 3, "{text}");
    }

    #[tokio::test]
    async fn what_was_asked_for_is_sent() {
        let fake = FakeCoordinator::answering(200, &plan().to_string()).await;
        let command = RebalanceCommand::Plan(PlanArgs { by: BalanceBy::Count, threshold: 0.1 });
        command.run(&fake.client(), &Output::detect(true)).await.unwrap();
        let request = fake.request().await;
        assert!(
            request.starts_with("POST /v1/admin/rebalance/plan ")
                && request.ends_with(r#"{"by":"count","threshold":0.1}"#)
        );
    }

    #[test]
    fn thresholds_have_limits() {
        assert_eq!(threshold("0.2"), Ok(0.2));
        for wrong in ["0", "1.01", "x", "nan"] {
            assert!(threshold(wrong).is_err(), "{wrong}");
        }
    }
}
