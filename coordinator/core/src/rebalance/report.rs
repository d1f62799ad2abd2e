//! Why a plan is as it is: figures, names and words for what was decided in [`super::plan`]. Decides nothing.

use super::balance::{Balance, parts};
use super::cost::cost;
use super::plan::Step;
use super::situation::ShardSize;
use super::{GroupKnown, Policy, Situation};
use atoll_proto::rebalance::{
    GroupBalance, GroupLoad, GroupPart, MoveReason, PlannedMove, RebalanceReport, StayReason, StayingShards,
};
use atoll_proto::{GroupId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// Shards named of those that stay for one reason.
const EXAMPLES: usize = 5;

/// Tells of a plan that starts from `start`.
pub(super) fn report(situation: &Situation, policy: Policy, start: Balance, steps: &[Step]) -> RebalanceReport {
    let mut end = start.clone();
    steps.iter().for_each(|step| end.carry_out(step));
    end.open_all();
    let figures = Figures { situation, policy, parts: parts(situation, policy), mean: end.mean(), start, end };
    let moves = figures.moves(steps);
    RebalanceReport {
        by: policy.by(),
        threshold: policy.threshold(),
        imbalance_before: figures.imbalance(&figures.start),
        imbalance_after: figures.imbalance(&figures.end),
        cost: cost(moves.iter().map(|one| (one.rows, one.bytes))),
        moves,
        groups: figures.groups(steps),
        stays: figures.stays(steps),
    }
}

struct Figures<'a> {
    situation: &'a Situation,
    policy: Policy,
    parts: BTreeMap<GroupId, GroupPart>,
    /// Load by capacity of all active groups, once draining ones are empty; none if nothing is held.
    mean: Option<f64>,
    start: Balance,
    end: Balance,
}

impl Figures<'_> {
    fn name(&self, group: GroupId) -> &str {
        self.situation.groups.get(&group).map_or("?", |known| &known.name)
    }

    fn size(&self, shard: ShardId) -> ShardSize {
        self.situation.shards.get(&shard).and_then(|known| known.size).unwrap_or_default()
    }

    fn of_mean(&self, balance: &Balance, group: GroupId) -> Option<f64> {
        let fullness = balance.fullness(group)?;
        Some(fullness.load as f64 / f64::from(fullness.capacity) / self.mean?)
    }

    fn active(&self) -> impl Iterator<Item = GroupId> {
        self.parts.iter().filter(|(_, part)| **part == GroupPart::Active).map(|(group, _)| *group)
    }

    fn imbalance(&self, balance: &Balance) -> f64 {
        self.active()
            .filter_map(|group| self.of_mean(balance, group))
            .map(|full| (full - 1.0).abs())
            .fold(0.0, f64::max)
    }

    fn moves(&self, steps: &[Step]) -> Vec<PlannedMove> {
        let mut balance = self.start.clone();
        let mut moves = Vec::with_capacity(steps.len());
        for step in steps {
            let full = |balance: &Balance, group| self.of_mean(balance, group).unwrap_or_default();
            let (from_before, to_before) = (full(&balance, step.from), full(&balance, step.to));
            balance.carry_out(step);
            let (from_after, to_after) = (full(&balance, step.from), full(&balance, step.to));
            let (from, to) = (self.name(step.from).to_owned(), self.name(step.to).to_owned());
            let detail = match step.reason {
                MoveReason::Drain => format!("{from} is draining; {to} has the most room"),
                MoveReason::TooFull => format!("{from} is {}; {to} is {}", words(from_before), words(to_before)),
                MoveReason::TooEmpty => format!("{to} is {}; {from} is {}", words(to_before), words(from_before)),
            };
            let ShardSize { rows, bytes } = self.size(step.shard);
            let (shard, reason) = (step.shard, step.reason);
            moves.push(PlannedMove {
                shard,
                from,
                to,
                rows,
                bytes,
                reason,
                detail,
                from_before,
                from_after,
                to_before,
                to_after,
            });
        }
        moves
    }

    fn groups(&self, steps: &[Step]) -> Vec<GroupBalance> {
        let mut loads: BTreeMap<GroupId, (GroupLoad, GroupLoad)> = BTreeMap::new();
        for (id, shard) in &self.situation.shards {
            let (before, after) = loads.entry(shard.home()).or_default();
            add(before, self.size(*id));
            add(after, self.size(*id));
        }
        for step in steps {
            let size = self.size(step.shard);
            take(&mut loads.entry(step.from).or_default().1, size);
            add(&mut loads.entry(step.to).or_default().1, size);
        }
        let group = |(id, known): (&GroupId, &GroupKnown)| {
            let (before, after) = loads.get(id).copied().unwrap_or_default();
            GroupBalance {
                group: known.name.clone(),
                state: self.parts[id],
                capacity: known.capacity.max(1),
                before: GroupLoad { of_mean: self.of_mean(&self.start, *id), ..before },
                after: GroupLoad { of_mean: self.of_mean(&self.end, *id), ..after },
                obstacle: self.obstacle(*id, after.shards),
            }
        };
        let mut groups: Vec<GroupBalance> = self.situation.groups.iter().map(group).collect();
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        groups
    }

    /// What keeps a group from being as full as it should be.
    fn obstacle(&self, group: GroupId, shards_after: u32) -> Option<String> {
        let full = words(self.of_mean(&self.end, group).unwrap_or_default());
        match self.parts[&group] {
            GroupPart::Active if self.end.fullness(group).is_none() => {
                Some("it gets shards that are not counted yet: plan again once they have moved".to_owned())
            }
            GroupPart::Active if self.end.is_too_full(group, self.policy) => Some(match shards_after {
                1 => format!("it stays {full}: it holds one shard alone, and a shard cannot be divided"),
                _ => format!("it stays {full}: each of its shards is so large that its taker would be about as full"),
            }),
            GroupPart::Active if self.end.is_too_empty(group, self.policy) => {
                let known = |other: &GroupId| self.end.fullness(*other).is_some();
                let raised = self.active().filter(known).find(|other| self.end.is_too_full(*other, self.policy));
                Some(match raised {
                    Some(other) => {
                        format!("it stays {full}: {} raises the mean and can give nothing", self.name(other))
                    }
                    None => format!("it stays {full}: each shard that could come would make it fuller than its giver"),
                })
            }
            GroupPart::Active => None,
            GroupPart::Draining if shards_after > 0 => Some("no active group is there to take its shards".to_owned()),
            GroupPart::Draining => None,
            GroupPart::Unreachable => Some("its primary does not answer: it neither gives nor takes".to_owned()),
            GroupPart::Uncounted => {
                Some("its shards are not counted yet: plan again in a minute, or by count".to_owned())
            }
        }
    }

    fn stays(&self, steps: &[Step]) -> Vec<StayingShards> {
        let moved: BTreeSet<ShardId> = steps.iter().map(|step| step.shard).collect();
        let mut reasons: BTreeMap<GroupId, StayReason> = BTreeMap::new();
        let mut stays: BTreeMap<(&str, StayReason), (GroupId, u32, Vec<ShardId>)> = BTreeMap::new();
        for (id, shard) in self.situation.shards.iter().filter(|(id, _)| !moved.contains(id)) {
            let of_group = *reasons.entry(shard.group).or_insert_with(|| self.stay_reason(shard.group));
            let weightless = of_group == StayReason::TooLarge && shard.load(self.policy) == Some(0);
            let reason = if shard.moving_to.is_some() {
                StayReason::Moving
            } else if weightless {
                StayReason::NoLoad
            } else {
                of_group
            };
            let (_, count, examples) =
                stays.entry((self.name(shard.group), reason)).or_insert((shard.group, 0, Vec::new()));
            *count += 1;
            if examples.len() < EXAMPLES {
                examples.push(*id);
            }
        }
        let staying = |((name, reason), (group, shards, examples)): ((&str, StayReason), _)| StayingShards {
            group: name.to_owned(),
            reason,
            shards,
            examples,
            detail: self.why_stay(group, reason),
        };
        stays.into_iter().map(staying).collect()
    }

    fn stay_reason(&self, group: GroupId) -> StayReason {
        match self.parts.get(&group) {
            Some(GroupPart::Active) if self.end.fullness(group).is_none() => StayReason::Uncounted,
            Some(GroupPart::Active) if self.end.is_too_full(group, self.policy) => StayReason::TooLarge,
            Some(GroupPart::Active) if self.end.is_too_empty(group, self.policy) => StayReason::TooEmpty,
            Some(GroupPart::Active) => StayReason::Balanced,
            Some(GroupPart::Draining) => StayReason::NoTarget,
            Some(GroupPart::Uncounted) => StayReason::Uncounted,
            Some(GroupPart::Unreachable) | None => StayReason::Unreachable,
        }
    }

    fn why_stay(&self, group: GroupId, reason: StayReason) -> String {
        let name = self.name(group);
        let full = self.of_mean(&self.end, group).map(words).unwrap_or_default();
        match reason {
            StayReason::Balanced if full.is_empty() => "nothing is held anywhere".to_owned(),
            StayReason::Balanced => format!("{name} is within the threshold: {full}"),
            StayReason::TooEmpty => format!("{name} is {full} and should get, not give"),
            StayReason::TooLarge => format!("{name} is {full}, but any of them would make its taker about as full"),
            StayReason::NoLoad => "they weigh nothing: moving them evens nothing out".to_owned(),
            StayReason::Moving => "they are on the move already".to_owned(),
            StayReason::Unreachable => format!("the primary of {name} does not answer: nothing can be copied from it"),
            StayReason::Uncounted => format!("shards of {name} are not counted yet: what they weigh is not known"),
            StayReason::NoTarget => format!("{name} is draining, and no active group is there to take them"),
        }
    }
}

fn add(load: &mut GroupLoad, size: ShardSize) {
    load.shards += 1;
    load.rows += size.rows;
    load.bytes += size.bytes;
}

fn take(load: &mut GroupLoad, size: ShardSize) {
    load.shards -= 1;
    load.rows -= size.rows;
    load.bytes -= size.bytes;
}

/// How full a group is, in words.
fn words(of_mean: f64) -> String {
    let percent = ((of_mean - 1.0) * 100.0).round();
    if percent > 0.0 {
        format!("{percent} % above the mean")
    } else if percent < 0.0 {
        format!("{} % below the mean", -percent)
    } else {
        "at the mean".to_owned()
    }
}
