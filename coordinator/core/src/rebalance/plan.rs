//! Which shards to move so that groups are evenly full.
//!
//! A group is as full as its load (bytes, rows or number of shards) by its capacity. It is out of balance if it is further from
//! the mean than the threshold. What is wanted: no group out of balance, few and small moves, and a plan that may be stopped after
//! any of its moves.
//!
//! 1. Draining groups are emptied, the largest shards first, each to the group that is least full after taking it. That does not
//!    wait for figures: what was not counted is taken to weigh what shards weigh on average.
//! 2. While the fullest group is too full, it gives a shard to the group that is least full after taking it: the shard that evens
//!    these two out best. A group that can give nothing (one shard alone weighs too much) is set aside: the others are evened out
//!    among themselves.
//! 3. While the emptiest group is too empty, it takes such a shard from the fullest one that can give it, or is set aside too.
//! 4. If anything moved, all over again with everybody. The last pass moves nothing: so a plan that was carried out leaves nothing
//!    to do, and nothing flaps.
//!
//! Each move of 2 and 3 makes the balance better: afterwards each of its two groups is between what both were before. So the
//! fullest groups only ever come down and the emptiest only ever rise, and the moves end.

use super::balance::Balance;
use super::report::report;
use super::{Policy, Situation};
use atoll_proto::rebalance::{MoveReason, RebalanceReport};
use atoll_proto::{GroupId, ShardId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What to move, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The moves, in their order.
    pub moves: Vec<ShardMove>,
    /// Why they are as they are, in words and names.
    pub report: RebalanceReport,
}

/// One shard's move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMove {
    /// The shard.
    pub shard: ShardId,
    /// The group that owns it.
    pub from: GroupId,
    /// The group that should.
    pub to: GroupId,
}

/// A move, with what it weighs and why it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) shard: ShardId,
    pub(super) load: u64,
    /// Whether the load was counted; else it is what shards weigh on average.
    pub(super) counted: bool,
    pub(super) from: GroupId,
    pub(super) to: GroupId,
    pub(super) reason: MoveReason,
}

/// Plans the moves that even groups out. Deterministic.
pub fn plan(situation: &Situation, policy: Policy) -> Plan {
    let start = Balance::new(situation, policy);
    let mut balance = start.clone();
    let mut steps = drain(&mut balance, |shard| situation.shards[&shard].load(policy).is_some());
    // Moves end by themselves; this bounds them where that would take very long.
    let steps_max = steps.len() + 2 * situation.shards.len();
    even_out(&mut balance, policy, &mut steps, steps_max);
    let steps = straighten(&start, steps);
    let moves = steps.iter().map(|Step { shard, from, to, .. }| ShardMove { shard: *shard, from: *from, to: *to });
    Plan { moves: moves.collect(), report: report(situation, policy, start, &steps) }
}

fn drain(balance: &mut Balance, is_counted: impl Fn(ShardId) -> bool) -> Vec<Step> {
    let mut steps = Vec::new();
    balance.open_takers();
    for (load, shard, from) in balance.to_drain() {
        let Some(to) = balance.least_full_after(load) else { break };
        let step = Step { shard, load, counted: is_counted(shard), from, to, reason: MoveReason::Drain };
        balance.carry_out(&step);
        steps.push(step);
    }
    steps
}

fn even_out(balance: &mut Balance, policy: Policy, steps: &mut Vec<Step>, steps_max: usize) {
    loop {
        let before = steps.len();
        balance.open_all();
        while let Some(step) = next_step(balance, policy).filter(|_| steps.len() < steps_max) {
            balance.carry_out(&step);
            steps.push(step);
        }
        if steps.len() == before || steps.len() >= steps_max {
            return;
        }
    }
}

/// The next move, after setting aside groups that none can put right; none when all others are in balance.
fn next_step(balance: &mut Balance, policy: Policy) -> Option<Step> {
    loop {
        let fullest = balance.fullest()?;
        if balance.is_too_full(fullest, policy) {
            match balance.best_from(fullest) {
                Some(step) => return Some(step),
                None => balance.set_aside(fullest),
            }
            continue;
        }
        let emptiest = balance.emptiest()?;
        if !balance.is_too_empty(emptiest, policy) {
            return None;
        }
        match balance.best_to(emptiest) {
            Some(step) => return Some(step),
            None => balance.set_aside(emptiest),
        }
    }
}

/// Lets a shard that was moved on go to its last group at once. Where a move on the way would then not make the balance better, all
/// stay as they are: a shard that moves twice costs more, but each move may be the last.
fn straighten(start: &Balance, steps: Vec<Step>) -> Vec<Step> {
    let last: BTreeMap<ShardId, GroupId> = steps.iter().map(|step| (step.shard, step.to)).collect();
    if last.len() == steps.len() {
        return steps;
    }
    let mut seen = BTreeSet::new();
    let firsts = steps.iter().filter(|step| seen.insert(step.shard));
    let straight = firsts.map(|step| Step { to: last[&step.shard], ..*step }).filter(|step| step.from != step.to);
    let straight: Vec<Step> = straight.collect();
    let mut balance = start.clone();
    for step in &straight {
        if step.reason != MoveReason::Drain && !balance.improves(step) {
            return steps;
        }
        balance.carry_out(step);
    }
    straight
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
