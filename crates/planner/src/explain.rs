//! Plans, drains and rollouts as text for people: what will happen, what waits, and why.
//!
//! The CLI, logs and tests print these; nothing parses them.

use crate::blocker::Blocker;
use crate::drain::Drain;
use crate::order::{DrainRequest, Plan};
use crate::rollout::{PoolRollout, Rollout};
use std::fmt::Write as _;

/// One node's plan.
pub fn plan(node: &str, plan: &Plan) -> String {
    if plan.is_done() {
        return format!("{node}: nothing to do\n");
    }
    let mut out = format!("{node}:\n");
    for (title, steps) in [("now", &plan.steps), ("later", &plan.later)] {
        for (index, step) in steps.iter().enumerate() {
            line(&mut out, format_args!("  {title} {}. {step}", index + 1));
        }
    }
    waits(&mut out, &plan.blockers);
    if plan.request != DrainRequest::Idle {
        line(&mut out, format_args!("  asks for {}", plan.request.as_str()));
    }
    out
}

/// How a node is drained.
pub fn drain(node: &str, drain: &Drain) -> String {
    let mut out = format!("{node}:\n");
    if drain.cordon {
        line(&mut out, format_args!("  cordon"));
    }
    for eviction in &drain.evict {
        let (namespace, pod, because) = (&eviction.namespace, &eviction.pod, &eviction.because);
        line(&mut out, format_args!("  evict {namespace}/{pod}  because {because}"));
    }
    for eviction in &drain.force {
        let (namespace, pod, because) = (&eviction.namespace, &eviction.pod, &eviction.because);
        line(&mut out, format_args!("  delete {namespace}/{pod}  because {because}"));
    }
    for (pod, because) in &drain.stay {
        line(&mut out, format_args!("  leave {pod}  because {because}"));
    }
    waits(&mut out, &drain.blockers);
    if drain.is_complete() {
        line(&mut out, format_args!("  complete"));
    }
    out
}

/// Every pool's next grants, and why the other nodes wait.
pub fn rollout(rollout: &Rollout) -> String {
    let mut out = String::new();
    for (name, next) in &rollout.pools {
        pool(&mut out, &format!("pool {name}"), next);
    }
    pool(&mut out, "nodes without a pool", &rollout.without_pool);
    out
}

fn pool(out: &mut String, name: &str, next: &PoolRollout) {
    if next.nodes == 0 && next.grants.is_empty() && next.given_back.is_empty() {
        return;
    }
    line(out, format_args!("{name}: {} of {} nodes ready", next.ready_nodes, next.nodes));
    if let Some(rollout) = &next.rollout {
        line(out, format_args!("  {}", progress(rollout)));
    }
    for (_, why) in &next.given_back {
        line(out, format_args!("  grant ends: {why}"));
    }
    for grant in &next.grants {
        let new = if next.added.contains(&grant.node) { "new grant" } else { "grant" };
        line(out, format_args!("  {new}: {} for {}", grant.node, grant.reason));
    }
    for (_, blocker) in &next.waiting {
        line(out, format_args!("  {blocker}"));
    }
    for problem in &next.problems {
        line(out, format_args!("  problem: {problem}"));
    }
}

/// How far a rollout is: `rolling, 2 of 9 nodes finished`.
pub fn progress(rollout: &api::pool::RolloutStatus) -> String {
    let phase = match rollout.phase.as_str() {
        crate::waves::CANARY => "canaries first",
        crate::waves::PAUSED => "paused after the canaries",
        crate::waves::HALTED => "halted",
        _ => "rolling",
    };
    let mut text = format!("{phase}, {} of {} nodes finished", rollout.finished, rollout.nodes);
    if let Some(end) = rollout.estimated_end {
        text.push_str(&format!(", ends about {end}"));
    }
    for failure in &rollout.failures {
        let accepted = if failure.accepted { ", accepted" } else { "" };
        text.push_str(&format!("; {} is worse{accepted}: {}", failure.node, failure.because));
    }
    text
}

fn waits(out: &mut String, blockers: &[Blocker]) {
    for blocker in blockers {
        line(out, format_args!("  waits: {blocker}"));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = writeln!(out, "{text}");
}
