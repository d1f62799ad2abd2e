//! The groups of a plan while it is being made: how full each is, and which shard would even two of them out best.

use super::fullness::Fullness;
use super::plan::Step;
use super::{Policy, Situation, Standing};
use atoll_proto::rebalance::{GroupPart, MoveReason};
use atoll_proto::{GroupId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// A move that leaves the taker the fuller one of the two must gain this share of what it moves, one part in so many: what a
/// shard weighs is only known about, and it is not worth copying for nothing.
const WORTH_PARTS: u128 = 4;

/// Who holds what. Groups that cannot be reached are not here.
#[derive(Debug, Clone, Default)]
pub(super) struct Balance {
    holders: BTreeMap<GroupId, Holder>,
    /// What a shard is taken to weigh that was not counted: as much as the others on average.
    assumed_load: u64,
    /// Active groups that may still be evened out, the emptiest of each capacity first: among groups of one capacity, the order of
    /// their fullness is that of their loads.
    open: BTreeMap<u32, BTreeSet<(u64, GroupId)>>,
    /// Load and capacity of these together.
    load: u128,
    capacity: u128,
}

/// A group that takes part.
#[derive(Debug, Clone)]
struct Holder {
    fullness: Fullness,
    draining: bool,
    /// Whether all that it holds was counted. A group of which that is not so is not evened out, but may be drained and drained to.
    counted: bool,
    /// Shards that may move, by load.
    movable: BTreeSet<(u64, ShardId)>,
}

/// Which part each group takes: those of a group that is not counted depend on what is weighed. A draining one is emptied whether it
/// is counted or not.
pub(super) fn parts(situation: &Situation, policy: Policy) -> BTreeMap<GroupId, GroupPart> {
    let part = |(id, group): (&GroupId, &super::GroupKnown)| {
        let part = match group.standing {
            Standing::Active => GroupPart::Active,
            Standing::Draining => GroupPart::Draining,
            Standing::Unreachable => GroupPart::Unreachable,
        };
        (*id, part)
    };
    let mut parts: BTreeMap<GroupId, GroupPart> = situation.groups.iter().map(part).collect();
    for shard in situation.shards.values().filter(|shard| shard.load(policy).is_none()) {
        for group in [shard.group, shard.home()] {
            if let Some(part) = parts.get_mut(&group).filter(|part| **part == GroupPart::Active) {
                *part = GroupPart::Uncounted;
            }
        }
    }
    parts
}

impl Balance {
    /// Everything where it is, or will be when the moves under way are over.
    pub(super) fn new(situation: &Situation, policy: Policy) -> Self {
        let mut balance = Self { assumed_load: mean_load(situation, policy), ..Self::default() };
        for (id, part) in parts(situation, policy) {
            if part != GroupPart::Unreachable {
                let fullness = Fullness { load: 0, capacity: situation.groups[&id].capacity.max(1) };
                let (draining, counted) = (part == GroupPart::Draining, part != GroupPart::Uncounted);
                balance.holders.insert(id, Holder { fullness, draining, counted, movable: BTreeSet::new() });
            }
        }
        for (id, shard) in &situation.shards {
            let Some(holder) = balance.holders.get_mut(&shard.home()) else { continue };
            let load = shard.load(policy).unwrap_or(balance.assumed_load);
            holder.fullness = holder.fullness.with(load);
            if shard.moving_to.is_none() {
                holder.movable.insert((load, *id));
            }
        }
        balance.open_all();
        balance
    }

    /// Lets every active group take part again.
    pub(super) fn open_all(&mut self) {
        self.open_those(|holder| !holder.draining && holder.counted);
    }

    /// Lets every group take part that may take what is drained: that must not wait until everything is counted.
    pub(super) fn open_takers(&mut self) {
        self.open_those(|holder| !holder.draining);
    }

    fn open_those(&mut self, takes_part: impl Fn(&Holder) -> bool) {
        self.open.clear();
        (self.load, self.capacity) = (0, 0);
        for (id, Holder { fullness, .. }) in self.holders.iter().filter(|(_, holder)| takes_part(holder)) {
            self.open.entry(fullness.capacity).or_default().insert((fullness.load, *id));
            self.load += u128::from(fullness.load);
            self.capacity += u128::from(fullness.capacity);
        }
    }

    /// Leaves a group out of what is evened out, and its load and capacity out of the mean.
    pub(super) fn set_aside(&mut self, group: GroupId) {
        let fullness = self.holders[&group].fullness;
        self.close(group, fullness);
        self.load -= u128::from(fullness.load);
        self.capacity -= u128::from(fullness.capacity);
    }

    /// Shards of groups that are to be emptied, with what they weigh or are taken to, the largest first.
    pub(super) fn to_drain(&self) -> Vec<(u64, ShardId, GroupId)> {
        let draining = self.holders.iter().filter(|(_, holder)| holder.draining);
        let shards =
            draining.flat_map(|(group, holder)| holder.movable.iter().map(|(load, shard)| (*load, *shard, *group)));
        let mut shards: Vec<(u64, ShardId, GroupId)> = shards.collect();
        shards.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        shards
    }

    /// The active group that is least full after taking so much; none if there is no active group.
    pub(super) fn least_full_after(&self, load: u64) -> Option<GroupId> {
        let emptiest = self.open.values().filter_map(|groups| groups.first());
        emptiest.map(|(_, group)| *group).min_by_key(|group| (self.holders[group].fullness.with(load), *group))
    }

    /// The fullest group that may be evened out.
    pub(super) fn fullest(&self) -> Option<GroupId> {
        let fullest = self.open.values().filter_map(|groups| groups.last());
        fullest.map(|(_, group)| *group).max_by_key(|group| (self.holders[group].fullness, *group))
    }

    /// The emptiest group that may be evened out.
    pub(super) fn emptiest(&self) -> Option<GroupId> {
        self.least_full_after(0)
    }

    /// Whether a group holds more than its share and the threshold allow.
    pub(super) fn is_too_full(&self, group: GroupId, policy: Policy) -> bool {
        let Fullness { load, capacity } = self.holders[&group].fullness;
        // load / capacity > mean * (1 + threshold), without division.
        u128::from(load) * self.capacity * 1000
            > self.load * u128::from(capacity) * (1000 + policy.threshold_permille())
    }

    /// Whether a group holds less than its share and the threshold allow.
    pub(super) fn is_too_empty(&self, group: GroupId, policy: Policy) -> bool {
        let Fullness { load, capacity } = self.holders[&group].fullness;
        u128::from(load) * self.capacity * 1000
            < self.load * u128::from(capacity) * (1000 - policy.threshold_permille())
    }

    /// The best move away from a group: to the one that is least full after taking; none if no move is worth it. Only the emptiest
    /// group of each capacity can be that.
    pub(super) fn best_from(&self, from: GroupId) -> Option<Step> {
        let takers = self.open.values().filter_map(|groups| groups.iter().find(|(_, group)| *group != from));
        let steps = takers.filter_map(|(_, to)| self.best_between(from, *to, MoveReason::TooFull));
        steps.min_by_key(|step| (self.holders[&step.to].fullness.with(step.load), step.to))
    }

    /// The best move to a group: from the fullest one with a shard that is worth it; none if there is none.
    pub(super) fn best_to(&self, to: GroupId) -> Option<Step> {
        let of_capacity = |groups: &BTreeSet<(u64, GroupId)>| {
            let others = groups.iter().rev().filter(|(_, group)| *group != to);
            let fuller = others.take_while(|(_, group)| self.holders[group].fullness > self.holders[&to].fullness);
            fuller.filter_map(|(_, from)| self.best_between(*from, to, MoveReason::TooEmpty)).next()
        };
        let steps = self.open.values().filter_map(of_capacity);
        steps.max_by_key(|step| (self.holders[&step.from].fullness, step.from))
    }

    /// Whether a move makes the balance better: afterwards each of its groups is between what both were before.
    pub(super) fn improves(&self, step: &Step) -> bool {
        let (from, to) = (self.holders[&step.from].fullness, self.holders[&step.to].fullness);
        to.with(step.load) < from && from.without(step.load) > to
    }

    /// Carries a move out.
    pub(super) fn carry_out(&mut self, step: &Step) {
        let Step { shard, load, counted, from, to, reason: _ } = *step;
        for (group, gives) in [(from, true), (to, false)] {
            let holder = self.holders.get_mut(&group).expect("moves go between groups that take part");
            let before = holder.fullness;
            if gives {
                holder.movable.remove(&(load, shard));
                holder.fullness = before.without(load);
            } else {
                holder.movable.insert((load, shard));
                holder.fullness = before.with(load);
                holder.counted &= counted;
            }
            let after = holder.fullness;
            if self.close(group, before) {
                self.open.entry(after.capacity).or_default().insert((after.load, group));
                self.load = self.load + u128::from(after.load) - u128::from(before.load);
            }
        }
    }

    /// How full a group is; none if that is not known.
    pub(super) fn fullness(&self, group: GroupId) -> Option<Fullness> {
        self.holders.get(&group).filter(|holder| holder.counted).map(|holder| holder.fullness)
    }

    /// The mean of all groups that may be evened out; none if nothing is held.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.load > 0).then(|| self.load as f64 / self.capacity as f64)
    }

    /// Takes a group from those that may be evened out; whether it was among them.
    fn close(&mut self, group: GroupId, fullness: Fullness) -> bool {
        let Some(groups) = self.open.get_mut(&fullness.capacity) else { return false };
        let was = groups.remove(&(fullness.load, group));
        if groups.is_empty() {
            self.open.remove(&fullness.capacity);
        }
        was
    }

    /// The shard whose move leaves the fuller of both groups least full; none if no move is worth it.
    fn best_between(&self, from: GroupId, to: GroupId, reason: MoveReason) -> Option<Step> {
        let (giver, taker) = (&self.holders[&from], self.holders[&to].fullness);
        let even = even_load(giver.fullness, taker)?;
        // Of the shards up to the load that evens them out the heaviest, of those beyond it the lightest.
        let below = giver.movable.range(..=(even, ShardId(u32::MAX))).next_back();
        let above = giver.movable.range((even.saturating_add(1), ShardId(0))..).next();
        let steps = [below, above].into_iter().flatten().map(|(load, shard)| {
            let fuller = giver.fullness.without(*load).max(taker.with(*load));
            (fuller, Step { shard: *shard, load: *load, counted: true, from, to, reason })
        });
        let worth = steps.filter(|(fuller, step)| self.improves(step) && is_worth(giver.fullness, *fuller, step.load));
        worth.min_by_key(|(fuller, step)| (*fuller, step.load)).map(|(_, step)| step)
    }
}

/// What a shard weighs on average, as far as shards are counted; 1 if none is, so that they are dealt out by number.
fn mean_load(situation: &Situation, policy: Policy) -> u64 {
    let loads = situation.shards.values().filter_map(|shard| shard.load(policy));
    let (sum, count) = loads.fold((0_u128, 0_u128), |(sum, count), load| (sum + u128::from(load), count + 1));
    u64::try_from(sum / count.max(1)).unwrap_or(u64::MAX).max(1)
}

/// The load that leaves two groups equally full when it moves from the first to the second, rounded down; none unless the first
/// is the fuller one.
fn even_load(from: Fullness, to: Fullness) -> Option<u64> {
    let gives = u128::from(from.load) * u128::from(to.capacity);
    let takes = u128::from(to.load) * u128::from(from.capacity);
    let both = u128::from(from.capacity) + u128::from(to.capacity);
    let even = gives.checked_sub(takes).filter(|difference| *difference > 0)? / both;
    Some(u64::try_from(even).unwrap_or(u64::MAX))
}

/// Whether the fuller of two groups comes down by enough: by a part of what the shard weighs on the group that is fuller then.
fn is_worth(before: Fullness, after: Fullness, load: u64) -> bool {
    // before.load / before.capacity - after.load / after.capacity >= load / after.capacity / WORTH_PARTS, without division.
    let was = u128::from(before.load) * u128::from(after.capacity);
    let is = u128::from(after.load) * u128::from(before.capacity);
    let moved = u128::from(load) * u128::from(before.capacity);
    load > 0 && was > is && (was - is) * WORTH_PARTS >= moved
}
