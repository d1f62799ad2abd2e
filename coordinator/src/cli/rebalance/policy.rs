//! `atoll rebalance policy`: when plans are made and carried out by themselves.

use super::{MEASURES, threshold};
use crate::cli::client::{Client, Patience};
use crate::cli::error::CommandError;
use crate::cli::one_of;
use crate::cli::output::{Output, count};
use atoll_proto::limits;
use atoll_proto::rebalance::{BalanceBy, RebalancePolicy, RebalancePolicyInfo};
use http::Method;

const POLICY: &str = "/v1/admin/rebalance/policy";

pub(super) const AFTER_HELP: &str = "\
Examples:
  atoll rebalance policy                                               show it
  atoll rebalance policy --enable                                      on Sundays at two in the morning, UTC
  atoll rebalance policy --schedule '30 1 * * 1-5' --window-minutes 180   on workdays from half past one to half past four
  atoll rebalance policy --disable

What is not named stays as it is. The schedule has five fields, as cron has them, in UTC: minute, hour, day of the month, month, day
of the week (0 is Sunday). At each of its times the leader makes a plan, and carries it out if there is something to do and no other
is being carried out. A time at which the cluster had no leader is passed over.";

/// What `atoll rebalance policy` takes; nothing to show it.
#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArgs {
    /// Do it.
    #[arg(long)]
    enable: bool,
    /// Do not do it any more. What is being carried out goes on.
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// When, in UTC: minute, hour, day of the month, month, day of the week.
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    /// What to even out.
    #[arg(long, value_name = "MEASURE", value_parser = one_of::<BalanceBy>(MEASURES))]
    by: Option<BalanceBy>,
    /// How far from the mean a group may be, as a share of it: 0.01 to 1.
    #[arg(long, value_name = "SHARE", value_parser = threshold)]
    threshold: Option<f64>,
    /// Moves that may be under way at a time: 1 or 2.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::PARALLEL_MOVES_MAX)))]
    max_parallel_moves: Option<u32>,
    /// Minutes for which moves may be begun; what is left waits for the next time.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=10_080))]
    window_minutes: Option<u32>,
    /// Go on to the end, however long it takes.
    #[arg(long, conflicts_with = "window_minutes")]
    no_window: bool,
}

impl PolicyArgs {
    /// Shows it, or changes what is named.
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        let answer = client.get(POLICY).await?;
        let known: RebalancePolicyInfo = answer.parse()?;
        let wanted = self.changed(known.policy.clone());
        if wanted == known.policy {
            return output.show(&answer, |info: RebalancePolicyInfo| shown(&info));
        }
        let answer = client.send(Method::PUT, POLICY, &[], &wanted, Patience::Usual).await?;
        output.show(&answer, |info: RebalancePolicyInfo| shown(&info))
    }

    fn changed(self, known: RebalancePolicy) -> RebalancePolicy {
        let Self { enable, disable, schedule, by, threshold, max_parallel_moves, window_minutes, no_window } = self;
        RebalancePolicy {
            enabled: enable || known.enabled && !disable,
            by: by.unwrap_or(known.by),
            threshold: threshold.unwrap_or(known.threshold),
            schedule: schedule.unwrap_or(known.schedule),
            max_parallel_moves: max_parallel_moves.unwrap_or(known.max_parallel_moves),
            window_minutes: if no_window { None } else { window_minutes.or(known.window_minutes) },
        }
    }
}

fn shown(info: &RebalancePolicyInfo) -> String {
    let RebalancePolicyInfo { policy, next_at } = info;
    let RebalancePolicy { enabled, by, threshold, schedule, max_parallel_moves, window_minutes } = policy;
    let by = match by {
        BalanceBy::Bytes => "bytes",
        BalanceBy::Rows => "rows",
        BalanceBy::Count => "number of shards",
    };
    let next = match (enabled, next_at) {
        (true, Some(next_at)) => format!("next at {next_at}"),
        (true, None) => "never due".to_owned(),
        (false, _) => "off: `atoll rebalance policy --enable` turns it on".to_owned(),
    };
    let window = match window_minutes {
        Some(minutes) => format!("moves are begun for {}, the rest waits for the next time", count(*minutes, "minute")),
        None => "none: it goes on to the end".to_owned(),
    };
    format!(
        "schedule      {schedule} (UTC), {next}\nwindow        {window}\nevens out     {by}, {:.0} % from the mean allowed\n\
         moves         {max_parallel_moves} at a time",
        threshold * 100.0
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: PolicyArgs,
    }

    fn args(flags: &[&str]) -> PolicyArgs {
        Line::try_parse_from(["policy"].iter().chain(flags)).unwrap().args
    }

    #[test]
    fn what_is_not_named_stays() {
        let known = RebalancePolicy { window_minutes: Some(60), enabled: true, ..RebalancePolicy::default() };
        assert_eq!(args(&[]).changed(known.clone()), known);
        let changed = args(&["--schedule", "0 3 * * *", "--by", "count"]).changed(known.clone());
        let schedule = "0 3 * * *".to_owned();
        assert_eq!(changed, RebalancePolicy { schedule, by: BalanceBy::Count, ..known.clone() });
        let off = args(&["--disable", "--no-window"]).changed(known.clone());
        assert_eq!(off, RebalancePolicy { enabled: false, window_minutes: None, ..known });
        assert!(args(&["--enable"]).changed(off).enabled);
    }

    #[test]
    fn it_says_when_it_is_due() {
        let policy = RebalancePolicy { enabled: true, ..RebalancePolicy::default() };
        let next_at = Some("2026-11-29T02:00:00Z".to_owned());
        let text = shown(&RebalancePolicyInfo { policy, next_at });
        assert!(text.contains("0 2 * * 0 (UTC), next at 2026-11-29T02:00:00Z"), "{text}");
        let off = shown(&RebalancePolicyInfo { policy: RebalancePolicy::default(), next_at: None });
        assert!(off.contains("off: `atoll rebalance policy --enable`"), "{off}");
    }
}
