//! `atoll group`: groups listed, drained, made active again and removed. Another primary by hand is in `failover.rs`.

use super::client::Client;
use super::error::CommandError;
use super::failover::{ACCEPT_LOSS_HELP, AcceptLossArgs, FAILOVER_HELP, FailoverArgs};
use super::output::{Output, bytes, count, or_dash, table, yes_no};
use super::rebalance;
use atoll_proto::GroupName;
use atoll_proto::admin::{GroupInfo, GroupList, MemberInfo};
use atoll_proto::limits;
use serde_json::json;

const DRAIN_HELP: &str = "\
Examples:
  atoll group drain g4                 g4 takes no more shards, and all that it holds moves away; shows how far it is
  atoll group drain g4 --no-apply      only marks it: `atoll rebalance plan` shows what would move, `atoll rebalance apply` does it
  atoll group activate g4              takes it back; what has moved stays where it is until the next `atoll rebalance apply`
  atoll group remove g4                takes the empty group and its workers out of the cluster

Searches and writes go on. The plan that empties the group also evens out the others, as `atoll rebalance apply` does. Ctrl-C stops
the showing, not the work.";

const REMOVE_HELP: &str = "\
The group must be drained and empty (`atoll group drain`). Its workers are forgotten: stop their agents afterwards, for they are
refused from then on. To take such a machine in again, start its agent with an empty data directory (for an external server: with a
new database and a new identity file).";

/// What can be done with groups.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups: workers that hold the same data.
    List,
    /// Make another worker the primary of a group with standbys, while both are well.
    #[command(after_help = FAILOVER_HELP)]
    Failover(FailoverArgs),
    /// Go on with what one worker of a group has, where the others that are needed are lost for good.
    #[command(after_help = ACCEPT_LOSS_HELP)]
    AcceptLoss(AcceptLossArgs),
    /// Empty a group: it takes no more shards, and all that it holds moves to the others while clients go on.
    #[command(after_help = DRAIN_HELP)]
    Drain(DrainArgs),
    /// Let a draining group take shards again.
    Activate {
        /// The group: see `atoll group list`.
        group: GroupName,
    },
    /// Take a drained group and its workers out of the cluster, for good.
    #[command(after_help = REMOVE_HELP)]
    Remove {
        /// The group: see `atoll group list`.
        group: GroupName,
        /// Its servers are gone for good: what moves left on them is forgotten. It must hold no shards, even so.
        #[arg(long)]
        lost: bool,
    },
}

/// What `atoll group drain` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// The group: see `atoll group list`.
    group: GroupName,
    /// Only mark it: `atoll rebalance apply` moves its shards.
    #[arg(long)]
    no_apply: bool,
    /// Moves that may be under way at a time: 1 or 2.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "no_apply", value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::PARALLEL_MOVES_MAX)))]
    max_parallel_moves: u32,
}

impl GroupCommand {
    /// Does it.
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        match self {
            Self::List => {
                let answer = client.get("/v1/admin/groups").await?;
                output.show(&answer, |list: GroupList| groups_table(&list.groups))
            }
            Self::Failover(args) => args.run(client, output).await,
            Self::AcceptLoss(args) => args.run(client, output).await,
            Self::Drain(args) => args.run(client, output).await,
            Self::Activate { group } => {
                let answer = client.post(&format!("/v1/admin/groups/{group}/activate"), &json!({})).await?;
                output.show(&answer, |group: GroupInfo| groups_table(&[group]))
            }
            Self::Remove { group, lost } => {
                let workers: Vec<String> = match shown(&group, client).await? {
                    Some(known) => known.members.into_iter().map(|member| member.worker).collect(),
                    None => Vec::new(),
                };
                let answer =
                    client.delete(&format!("/v1/admin/groups/{group}{}", if lost { "?lost=true" } else { "" })).await?;
                let workers = workers.join(" and ");
                output.show(&answer, |_: GroupList| {
                    format!(
                        "group {group} is out of the cluster; stop the agent of {workers}, which is refused from now on"
                    )
                })
            }
        }
    }
}

impl DrainArgs {
    async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        let Self { group, no_apply, max_parallel_moves } = self;
        let answer = client.post(&format!("/v1/admin/groups/{group}/drain"), &json!({})).await?;
        if no_apply {
            return output.show(&answer, |marked: GroupInfo| {
                let next = match marked.shards {
                    0 => format!("it holds nothing: `atoll group remove {group}` takes it out of the cluster"),
                    _ => "`atoll rebalance plan` shows what is to move, `atoll rebalance apply` moves it".to_owned(),
                };
                format!("{}\n\n{next}", groups_table(&[marked]))
            });
        }
        let moved = rebalance::empty(&group, max_parallel_moves, client, output).await;
        let Some(left) = shown(&group, client).await? else {
            return Err(CommandError::Failed(format!("group {group} was removed meanwhile")));
        };
        if left.shards > 0 {
            // What stopped the moves says more than that some are left.
            moved?;
            let left = count(left.shards, "shard");
            return Err(CommandError::Failed(format!(
                "group {group} still holds {left}; `atoll rebalance plan` says why, `atoll rebalance apply` goes on"
            )));
        }
        if output.json {
            return output
                .line(serde_json::to_string(&left).expect("wire shapes have text keys only, so they serialise"));
        }
        output
            .line(format_args!("group {group} holds nothing: `atoll group remove {group}` takes it out of the cluster"))
    }
}

pub(super) async fn shown(group: &GroupName, client: &Client) -> Result<Option<GroupInfo>, CommandError> {
    let list: GroupList = client.get("/v1/admin/groups").await?.parse()?;
    Ok(list.groups.into_iter().find(|known| known.group == group.as_str()))
}

/// Groups as a table; where they have standbys, with another one of how each member stands.
pub(super) fn groups_table(groups: &[GroupInfo]) -> String {
    let has_standbys = groups.iter().any(|group| group.phase.is_some());
    let rows = groups.iter().map(|group| {
        let mut cells =
            vec![group.group.clone(), group.state.to_string(), group.generation.to_string(), group.primary.clone()];
        cells.push(if has_standbys { or_dash(group.phase.as_ref()) } else { workers(group) });
        cells.extend([group.shards.to_string(), bytes(group.bytes)]);
        cells
    });
    let head =
        ["GROUP", "STATE", "GEN>", "PRIMARY", if has_standbys { "PHASE" } else { "MEMBERS" }, "SHARDS>", "SIZE>"];
    let groups_alone = table(&head, rows);
    match has_standbys {
        true => format!("{groups_alone}\n\n{}", members_table(groups)),
        false => groups_alone,
    }
}

fn workers(group: &GroupInfo) -> String {
    let members = group.members.iter();
    let one = |member: &MemberInfo| if member.up { member.worker.clone() } else { format!("{} (down)", member.worker) };
    members.map(one).collect::<Vec<_>>().join(" ")
}

/// How far each lies behind its primary, in bytes and since when.
fn members_table(groups: &[GroupInfo]) -> String {
    let members = groups.iter().flat_map(|group| group.members.iter().map(move |member| (group, member)));
    let rows = members.map(|(group, member)| {
        [
            group.group.clone(),
            member.worker.clone(),
            if member.restored { "restored".to_owned() } else { member.role.clone() },
            yes_no(member.up),
            yes_no(group.in_sync.contains(&member.worker)),
            or_dash(member.lag_bytes.map(bytes)),
            or_dash(member.lag_seconds.map(|seconds| format!("{seconds:.1} s"))),
        ]
    });
    table(&["GROUP", "WORKER", "ROLE", "UP", "IN SYNC", "LAG>", "SINCE>"], rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;
    use serde_json::Value;

    fn group(state: &str, shards: u32) -> Value {
        json!({"group":"g1","state":state,"generation":1,"primary":"w1","in_sync":["w1"],
               "members":[{"worker":"w1","role":"primary","up":false,"lag_bytes":0}],"shards":shards,"bytes":2048})
    }

    #[test]
    fn what_is_down_stands_out() {
        let groups: GroupList = serde_json::from_value(json!({"groups": [group("draining", 4)]})).unwrap();
        let shown = groups_table(&groups.groups);
        assert!(shown.contains("g1     draining") && shown.contains("w1 (down)       4  2.0 KiB"), "{shown}");
    }

    #[test]
    fn of_standbys_it_is_told_where_there_are_some() {
        let mut one = group("active", 4);
        assert!(!groups_table(&[serde_json::from_value(one.clone()).unwrap()]).contains("PHASE"));
        one["phase"] = json!("fencing");
        let standby = json!({"worker":"w2","role":"standby","up":true,"lag_bytes":3072,"lag_seconds":2.25});
        one["members"].as_array_mut().unwrap().push(standby);
        let shown = groups_table(&[serde_json::from_value(one.clone()).unwrap()]);
        assert!(shown.contains("w1       fencing"), "{shown}");
        assert!(shown.contains("g1     w1      primary  no   yes          0 B      -"), "{shown}");
        assert!(shown.contains("g1     w2      standby  yes  no       3.0 KiB  2.2 s"), "{shown}");
        one["members"][1]["restored"] = json!(true);
        let shown = groups_table(&[serde_json::from_value(one).unwrap()]);
        assert!(shown.contains("g1     w2      restored  yes"), "{shown}");
    }

    #[tokio::test]
    async fn a_group_that_holds_nothing_is_drained_without_a_plan_of_moves() {
        let (marked, list) = (group("draining", 0).to_string(), json!({"groups": [group("draining", 0)]}).to_string());
        let none = json!({"plan_id": null, "state": "none", "max_parallel_moves": 0, "note": null, "moves": [],
            "counts": {"total": 0, "waiting": 0, "under_way": 0, "moved": 0, "cancelled": 0, "failed": 0, "skipped": 0}});
        let none = none.to_string();
        let turns = vec![(200, marked.as_str()), (200, &none), (200, &list), (200, &list)];
        let fake = FakeCoordinator::in_turn(turns).await;
        let args = DrainArgs { group: "g1".parse().unwrap(), no_apply: false, max_parallel_moves: 1 };
        args.run(&fake.client(), &Output::detect(true)).await.unwrap();
        assert!(fake.request().await.starts_with("POST /v1/admin/groups/g1/drain "));
    }

    #[tokio::test]
    async fn marking_alone_asks_for_nothing_else() {
        let fake = FakeCoordinator::answering(200, &group("draining", 4).to_string()).await;
        let args = DrainArgs { group: "g1".parse().unwrap(), no_apply: true, max_parallel_moves: 1 };
        args.run(&fake.client(), &Output::detect(true)).await.unwrap();
        assert!(fake.request().await.starts_with("POST /v1/admin/groups/g1/drain "));
    }
}
