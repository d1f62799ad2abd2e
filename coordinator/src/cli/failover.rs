//! `atoll group failover` and `atoll group accept-loss`: another primary by hand. The work is the cluster's; here it is asked for and
//! watched.

use super::client::Client;
use super::error::CommandError;
use super::groups::{groups_table, shown};
use super::output::{Output, or_dash, table};
use atoll_proto::admin::{AcceptLoss, GroupInfo, SwitchOver};
use atoll_proto::{GroupName, WorkerName};
use indicatif::ProgressBar;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two questions how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// A switchover takes seconds; one that takes longer is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const FAILOVER_HELP: &str = "\
Examples:
  atoll group failover g1              the standby of g1 that has the least to replay becomes the primary
  atoll group failover g1 --to w2      w2 does

For before the primary's machine is worked on. Both have to be well; nothing acknowledged is lost, and the old primary follows the new
one. A primary that is lost is replaced by itself within seconds: then there is nothing to do by hand.";

pub(super) const ACCEPT_LOSS_HELP: &str = "\
For when so many servers of a group are gone for good that nobody can tell any more which of the others has every acknowledged write. What
the survivor lacks is lost. Be sure that the others are off and stay off; bring one of them back with its data instead, if you can:
then the group goes on by itself and nothing is lost. Refused while that is so.";

/// What `atoll group failover` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct FailoverArgs {
    /// The group: see `atoll group list`.
    group: GroupName,
    /// The worker that shall be primary; the standby that has the least to replay unless given.
    #[arg(long, value_name = "WORKER")]
    to: Option<WorkerName>,
}

/// What `atoll group accept-loss` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct AcceptLossArgs {
    /// The group: see `atoll group list`.
    group: GroupName,
    /// The worker whose data shall count, whatever it lacks.
    #[arg(long, value_name = "WORKER")]
    survivor: WorkerName,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl FailoverArgs {
    /// Does it, and waits until the group is steady again.
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        let Self { group, to } = self;
        let before = known(&group, client).await?;
        let body = SwitchOver { to: to.as_ref().map(ToString::to_string) };
        client.post(&format!("/v1/admin/groups/{group}/failover"), &body).await?;
        let now = steady(&group, before.generation.0, client).await?;
        show(&now, output)?;
        match to {
            Some(to) if now.primary != to.as_str() => Err(CommandError::Failed(format!(
                "{} is the primary now: {to} had not got all of the log in time. Nothing is lost; to try again: atoll group failover \
                 {group} --to {to}",
                now.primary
            ))),
            None if now.primary == before.primary => Err(CommandError::Failed(format!(
                "{} is the primary again: no other had got all of the log in time. Nothing is lost; try again: atoll group failover {group}",
                now.primary
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

impl AcceptLossArgs {
    /// Shows what is known, asks, does it, and waits until the survivor is the primary.
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        let Self { group, survivor, yes } = self;
        let before = known(&group, client).await?;
        if !yes && !agreed(&before, &survivor)? {
            return Err(CommandError::Failed("nothing was done".to_owned()));
        }
        let body = AcceptLoss { survivor: survivor.to_string() };
        client.post(&format!("/v1/admin/groups/{group}/accept-loss"), &body).await?;
        let now = steady(&group, before.generation.0, client).await?;
        show(&now, output)
    }
}

async fn known(group: &GroupName, client: &Client) -> Result<GroupInfo, CommandError> {
    let missing = || CommandError::Failed(format!("there is no group {group}; see which there are: atoll group list"));
    shown(group, client).await?.ok_or_else(missing)
}

/// Waits until the group has a primary of a later generation; gives how it is then.
async fn steady(group: &GroupName, before: u64, client: &Client) -> Result<GroupInfo, CommandError> {
    let (bar, until) = (ProgressBar::new_spinner(), Instant::now() + PATIENCE);
    loop {
        // The coordinator may be starting again.
        let answer = known(group, client).await;
        if let Ok(now) = &answer {
            if now.phase.as_deref() == Some("steady") && now.generation.0 > before {
                bar.finish_and_clear();
                return answer;
            }
            bar.set_message(format!("{group}: {}", or_dash(now.phase.as_ref())));
            bar.tick();
        }
        if Instant::now() >= until {
            bar.finish_and_clear();
            let phase = answer?.phase;
            return Err(CommandError::Failed(format!(
                "group {group} is {} after {} s; it goes on by itself: atoll group list shows how far it is, atoll doctor what is wrong",
                or_dash(phase),
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn show(group: &GroupInfo, output: &Output) -> Result<(), CommandError> {
    if output.json {
        return output.line(serde_json::to_string(group).expect("wire shapes have text keys only, so they serialise"));
    }
    output.line(groups_table(std::slice::from_ref(group)))
}

fn agreed(group: &GroupInfo, survivor: &WorkerName) -> Result<bool, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::Usage("nobody can be asked here: --yes agrees to the loss".to_owned()));
    }
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "{}", question(group, survivor)).and_then(|()| stderr.flush());
    asked.map_err(CommandError::Output)?;
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| CommandError::Failed(format!("cannot read the answer: {error}")))?;
    Ok(["y", "yes"].contains(&line.trim().to_lowercase().as_str()))
}

/// What was last heard of each, and what is asked.
fn question(group: &GroupInfo, survivor: &WorkerName) -> String {
    let rows = group.members.iter().map(|member| {
        let position = member.position.as_ref();
        let heard = match (member.up, member.heard_seconds_ago) {
            (true, _) => "just now".to_owned(),
            (false, Some(seconds)) => format!("{seconds} s ago"),
            (false, None) => "never".to_owned(),
        };
        [
            member.worker.clone(),
            if group.in_sync.contains(&member.worker) { "yes" } else { "no" }.to_owned(),
            or_dash(position.map(|position| position.generation)),
            or_dash(position.map(|position| &position.lsn)),
            heard,
        ]
    });
    let heard = table(&["WORKER", "IN SYNC", "GEN>", "POSITION>", "HEARD"], rows);
    format!(
        "{heard}\n\nGroup {} would go on with what {survivor} has. Acknowledged writes that only the others have are lost for good, and the \
         others' data\nis replaced when they come back. Are they off, and do they stay off? Go on? [y/N] ",
        group.group
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;
    use serde_json::{Value, json};

    fn group(primary: &str, generation: u64, phase: &str) -> Value {
        let member = |worker: &str, up: bool| {
            json!({"worker": worker, "role": "standby", "up": up, "lag_bytes": null, "lag_seconds": null,
                "position": {"generation": generation, "lsn": "0/5000148"}, "heard_seconds_ago": 71})
        };
        json!({"group": "g1", "state": "active", "generation": generation, "primary": primary, "phase": phase,
            "in_sync": ["w1", "w2"], "members": [member("w1", false), member("w2", true)], "shards": 4, "bytes": 2048})
    }

    async fn switches(to: Option<&str>, then: &[Value]) -> (Result<(), CommandError>, FakeCoordinator) {
        let list = |group: &Value| json!({"groups": [group]}).to_string();
        let turns: Vec<String> = [list(&group("w1", 3, "steady")), group("w1", 3, "handing_over").to_string()]
            .into_iter()
            .chain(then.iter().map(list))
            .collect();
        let fake = FakeCoordinator::in_turn(turns.iter().map(|text| (200, text.as_str())).collect()).await;
        let args = FailoverArgs { group: "g1".parse().unwrap(), to: to.map(|to| to.parse().unwrap()) };
        (args.run(&fake.client(), &Output::detect(true)).await, fake)
    }

    #[tokio::test]
    async fn a_switchover_is_waited_for_until_the_group_is_steady_at_a_later_generation() {
        let steps = [group("w1", 3, "steady"), group("w1", 3, "promoting"), group("w2", 4, "steady")];
        let (done, fake) = switches(Some("w2"), &steps).await;
        done.unwrap();
        assert!(fake.request().await.starts_with("GET /v1/admin/groups "));
        let asked = fake.request().await;
        assert!(asked.starts_with("POST /v1/admin/groups/g1/failover ") && asked.contains(r#"{"to":"w2"}"#), "{asked}");
    }

    #[tokio::test]
    async fn another_primary_than_was_asked_for_is_told() {
        let (done, _) = switches(Some("w2"), &[group("w3", 4, "steady")]).await;
        assert!(done.unwrap_err().to_string().contains("w3 is the primary now"));
        let (done, _) = switches(None, &[group("w1", 4, "steady")]).await;
        assert!(done.unwrap_err().to_string().contains("w1 is the primary again"));
        switches(None, &[group("w3", 4, "steady")]).await.0.unwrap();
    }

    #[test]
    fn who_accepts_a_loss_sees_what_was_last_heard_of_all() {
        let group: GroupInfo = serde_json::from_value(group("w1", 3, "steady")).unwrap();
        let asked = question(&group, &"w2".parse().unwrap());
        assert!(asked.contains("w1      yes        3  0/5000148  71 s ago"), "{asked}");
        assert!(asked.contains("w2      yes        3  0/5000148  just now"), "{asked}");
    }
}
