//! The loop of daemon and operator around one machine: plan, audit, withdraw, drain, apply, observe again.

use super::Machine;
use planner::{Blocker, Desired, DrainRequest, Plan, Turn, audit};

/// Drives a machine until nothing can be done any more, and tells each step: what, because.
///
/// Pods leave when they are drained, but for the `stubborn`. Panics when it never ends. Returns the turn at the end
/// and what the audit found in any plan on the way.
pub fn drive(
    machine: &mut Machine,
    desired: &Desired,
    mut turn: Turn,
    stubborn: &[String],
    mut tell: impl FnMut(&str, &str),
) -> (Turn, Vec<String>) {
    let mut findings = vec![];
    for _round in 0..80 {
        let permission = machine.permission(turn);
        let plan = planner::plan(desired, &machine.inventory, &permission, machine.now);
        findings.extend(audit::plan(desired, &machine.inventory, &permission, &plan));
        machine.inventory.reboots.clone_from(&plan.ledger);
        if !act(machine, &plan, &mut tell) && !wait(machine, &plan, &mut turn, stubborn, &mut tell)
        {
            return (turn, findings);
        }
    }
    panic!("this never ends");
}

/// What the daemon does by itself: the steps that may run, or the withdrawal that they wait for.
fn act(machine: &mut Machine, plan: &Plan, tell: &mut impl FnMut(&str, &str)) -> bool {
    for step in &plan.steps {
        tell(&step.action.to_string(), &step.because);
        machine.apply(&step.action);
        if step.action.needs_fresh_eyes() {
            break;
        }
    }
    if !plan.steps.is_empty() {
        return true;
    }
    let fence: Vec<String> =
        plan.withdraw.intersection(&machine.offered).map(ToString::to_string).collect();
    if !fence.is_empty() {
        tell(&format!("withdraw {}", fence.join(" ")), "they are to be changed");
        let gone = plan.withdraw.intersection(&machine.offered).copied();
        machine.counted.extend(gone);
        machine.offered.retain(|device| !plan.withdraw.contains(device));
    } else if !machine.counted.is_empty() {
        tell("the kubelet shows it in allocatable", &blockers(plan));
        machine.counted.clear();
        return true;
    }
    !fence.is_empty()
}

/// What others do for the node: time passes, the operator grants, drains and takes back.
fn wait(
    machine: &mut Machine,
    plan: &Plan,
    turn: &mut Turn,
    stubborn: &[String],
    tell: &mut impl FnMut(&str, &str),
) -> bool {
    let asked = |blocker: &Blocker| matches!(blocker, Blocker::RebootUnderWay { .. });
    if plan.blockers.iter().any(asked) {
        tell("let some minutes pass", &blockers(plan));
        machine.now = api::Timestamp::from_second(machine.now.as_second() + 600).unwrap();
        return true;
    }
    let left = |blocker: &Blocker| matches!(blocker, Blocker::RebootDisabled { .. });
    if machine.person_reboots && plan.blockers.iter().any(left) {
        tell("a person reboots the node", &blockers(plan));
        machine.boot();
        return true;
    }
    match (*turn, plan.request) {
        (Turn::NotYet, request @ (DrainRequest::Drain | DrainRequest::Reboot)) => {
            tell(&format!("ask for {}", request.as_str()), &blockers(plan));
            *turn = Turn::Draining(request);
        }
        (Turn::Draining(request), wanted) if wanted == request => {
            machine.inventory.holders.retain(|holder| stubborn.contains(&holder.pod));
            tell("drained", "the operator granted it");
            *turn = Turn::Drained(request);
        }
        (Turn::Draining(_) | Turn::Drained(_), DrainRequest::Idle) => {
            match plan.is_done() {
                true => tell("give the turn back", "the node is at its goal"),
                false => tell("give the turn back", &blockers(plan)),
            }
            *turn = Turn::NotYet;
        }
        _ => return false,
    }
    true
}

fn blockers(plan: &Plan) -> String {
    let texts: Vec<String> = plan.blockers.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
