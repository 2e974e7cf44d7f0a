//! What a pool's conditions say: `Ready` with the progress, `Degraded` with what only a person ends.
//!
//! Sentences only; who is granted, skipped or halted is decided before.

use crate::conditions::{self, PROGRESSING, Status, Verdict};
use crate::steps::drain::{DRAINED, is_blocked};
use crate::world::World;
use api::condition::Condition;
use api::label;
use api::nodestate::SriovNetworkNodeState;
use api::pool::SriovNetworkPoolConfig;
use planner::Reason;
use planner::blocker::{self, Blocker};
use planner::pools::Limit;
use planner::rollout::PoolRollout;

const PAUSED: &str = "the pool is paused by maxUnavailable: 0";

/// Ready when every node is at its goal. Otherwise what holds the pool up most: first what a person must mend, then
/// a drain that is blocked, then plain progress.
pub(crate) fn judge(world: &World, pool: &SriovNetworkPoolConfig, next: &PoolRollout) -> Verdict {
    if let Some(first) = next.problems.first() {
        let messages: Vec<String> = next.problems.iter().map(|p| p.message.clone()).collect();
        return Verdict::not_ready(first.reason.as_str(), some_of(&messages));
    }
    let progress = format!("{} of {} nodes are at their goal", next.ready_nodes, next.nodes);
    if next.ready_nodes == next.nodes {
        return match next.nodes {
            0 => Verdict::ready("NoNodes", no_nodes(world, pool)),
            // Nobody waits, and whoever asks next will.
            _ if next.limit == Limit::Paused => {
                Verdict::ready(Reason::Paused.as_str(), format!("{progress}; {PAUSED}"))
            }
            _ => Verdict::ready("NodesReady", progress),
        };
    }
    if let Some(message) = contradiction(world, pool) {
        let reason = Reason::KernelArgumentContradicts.as_str();
        return Verdict::not_ready(reason, format!("{progress}; {message}"));
    }
    let stuck = next.waiting.iter().find(|(_, blocker)| !blocker.ends_by_itself());
    let blocked = blocked_drain(world, next);
    let draining = next.grants.iter().map(|grant| grant.node.clone()).collect::<Vec<_>>();
    let (reason, rest) = match (&blocked, stuck) {
        (Some(condition), _) => ("DrainBlocked", condition.message.clone()),
        (None, Some((_, blocker))) => (blocker.reason().as_str(), blocker.to_string()),
        (None, None) if !draining.is_empty() => {
            let draining = format!("draining {}", blocker::list(&draining));
            // Who else uses up the limit is nowhere else to be seen.
            let used_up = next.waiting.iter().map(|(_, blocker)| blocker);
            let mut used_up = used_up.filter(|b| matches!(b, Blocker::PoolUsedUp { .. }));
            match used_up.next() {
                Some(blocker) => (PROGRESSING, format!("{draining}; {blocker}")),
                None => (PROGRESSING, draining),
            }
        }
        (None, None) => match next.waiting.first() {
            Some((_, blocker)) => (Blocker::reason(blocker).as_str(), blocker.to_string()),
            None if next.limit == Limit::Paused => {
                let troubled = Some(troubled(world, pool)).filter(|text| !text.is_empty());
                let said: Vec<String> = [PAUSED.to_owned()].into_iter().chain(troubled).collect();
                (Reason::Paused.as_str(), said.join("; "))
            }
            None => (PROGRESSING, troubled(world, pool)),
        },
    };
    let message = [progress, rest].into_iter().filter(|part| !part.is_empty());
    Verdict {
        kind: "Ready",
        status: Status::False,
        reason,
        message: message.collect::<Vec<_>>().join("; "),
    }
}

/// True when nothing goes on, or something was left out, until a person acts: loud, and apart from the progress.
pub(crate) fn degraded(
    world: &World,
    pool: &SriovNetworkPoolConfig,
    next: &PoolRollout,
) -> Verdict {
    let verdict = |status, reason, message| Verdict { kind: "Degraded", status, reason, message };
    let rollout = next.rollout.as_ref();
    let failures = rollout.iter().flat_map(|rollout| &rollout.failures);
    let failures: Vec<String> =
        failures.map(|failure| format!("{} is worse: {}", failure.node, failure.because)).collect();
    if rollout.is_some_and(|rollout| rollout.phase == planner::rollout::HALTED) {
        return verdict(Status::True, Reason::RolloutHalted.as_str(), some_of(&failures));
    }
    let late = Reason::DrainDeadline.as_str();
    if let Some(condition) = blocked_drain(world, next).filter(|c| c.reason == late) {
        return verdict(Status::True, late, condition.message.clone());
    }
    let skipped = next.skipped.iter().map(|node| format!("{}: {}", node.node, node.because));
    let skipped: Vec<String> = skipped.collect();
    if !skipped.is_empty() {
        return verdict(Status::True, Reason::DrainSkipped.as_str(), some_of(&skipped));
    }
    if !failures.is_empty() {
        return verdict(Status::True, "NodesWorse", some_of(&failures));
    }
    if let Some(message) = contradiction(world, pool) {
        return verdict(Status::True, Reason::KernelArgumentContradicts.as_str(), message);
    }
    verdict(
        Status::False,
        "AsExpected",
        "no drain is overdue and no node came back worse".to_owned(),
    )
}

/// What stands in the way of a granted node's drain, as the drain step wrote it into the node state.
fn blocked_drain<'a>(world: &'a World, next: &PoolRollout) -> Option<&'a Condition> {
    let states = next.grants.iter().filter_map(|grant| world.node_states.get(&grant.node));
    let mut conditions = states.flat_map(|state| &state.status.conditions);
    conditions.find(|condition| condition.kind == DRAINED && is_blocked(&condition.reason))
}

/// Names the nodes on whose command line an administrator's argument is against the pool's mode: they are not rebooted,
/// since no boot could bring it, and a person has to decide.
fn contradiction(world: &World, pool: &SriovNetworkPoolConfig) -> Option<String> {
    let reason = Reason::KernelArgumentContradicts.as_str();
    let said = members(world, pool).filter_map(|(name, state)| {
        let blocker = state.status.blockers.iter().find(|blocker| blocker.reason == reason)?;
        Some(format!("{name}: {}", blocker.message))
    });
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| some_of(&said))
}

/// The node states of the nodes that the pool selects.
fn members<'a>(
    world: &'a World,
    pool: &'a SriovNetworkPoolConfig,
) -> impl Iterator<Item = (&'a String, &'a SriovNetworkNodeState)> {
    let selector = pool.spec.node_selector.as_ref();
    world.node_states.iter().filter(move |(name, _)| {
        let node = world.nodes.get(*name);
        node.is_some_and(|node| planner::pools::selects(selector, &node.metadata.labels))
    })
}

/// Names nodes that report an error of their own.
fn troubled(world: &World, pool: &SriovNetworkPoolConfig) -> String {
    let failed = members(world, pool).filter(|(_, state)| state.status.sync_status == "Failed");
    let messages: Vec<String> =
        failed.map(|(name, state)| format!("{name}: {}", state.status.last_sync_error)).collect();
    some_of(&messages)
}

fn no_nodes(world: &World, pool: &SriovNetworkPoolConfig) -> String {
    let selector = pool.spec.node_selector.as_ref();
    let matching = world.nodes.values();
    let unmanaged =
        matching.filter(|node| planner::pools::selects(selector, &node.metadata.labels)).count();
    match unmanaged {
        0 => "the node selector matches no node".to_owned(),
        count => format!(
            "the node selector matches {count} nodes, none of which ironrail manages; managed are \
             Linux nodes with label {}, or those of configDaemonNodeSelector",
            label::WORKER
        ),
    }
}

fn some_of(texts: &[String]) -> String {
    conditions::some_of(texts, 3, "; ", "more")
}
