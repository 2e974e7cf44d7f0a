//! The plan of a moment in which the kubelet is silent, so that nobody knows which devices pods hold: nothing is touched.
//!
//! But a reboot that we asked for stops the kubelet first. Where it does not come, nobody but us asks for it again, and
//! nobody but us starts the kubelet when it was asked for often enough, or is wanted no more. No lever is pulled here:
//! all were before the first attempt.

use crate::action::{Action, Disturbance, Lane, RebootCause, RebootReason, Step};
use crate::blocker::Blocker;
use crate::desired::Desired;
use crate::firmware;
use crate::ledger::{self, Question, Verdict};
use crate::order::{DrainRequest, Permission, Plan, Turn};
use api::Timestamp;
use api::inventory::Inventory;
use api::nodestate::{RebootOutcome, RebootRecord};
use std::collections::BTreeSet;

/// None where no reboot was asked for in this boot: then the silence is not of our making.
pub fn plan(
    desired: &Desired,
    inventory: &Inventory,
    permission: &Permission,
    now: Timestamp,
) -> Option<Plan> {
    let asked: Vec<(RebootReason, &RebootRecord)> =
        inventory.reboots.iter().filter_map(|record| asked_for(record, inventory)).collect();
    if asked.is_empty() {
        return None;
    }
    let verdict = |(reason, record): &(RebootReason, &RebootRecord)| {
        let question = Question {
            reason: *reason,
            goal: &record.goal,
            boot_id: &inventory.boot_id,
            levers_in_place: true,
            leave: &permission.reboots,
            now,
        };
        ledger::verdict(&inventory.reboots, &question)
    };
    let verdicts: Vec<Verdict> = asked.iter().map(verdict).collect();
    let mut plan = Plan { ledger: inventory.reboots.clone(), ..Plan::default() };
    plan.blockers.extend(verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::No(blocker) => Some(blocker.clone()),
        Verdict::Ask { .. } => None,
    }));
    if plan.blockers.iter().any(|blocker| matches!(blocker, Blocker::RebootUnderWay { .. })) {
        return Some(plan);
    }
    let attempts = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Ask { attempt } => Some(*attempt),
        Verdict::No(_) => None,
    });
    let stands = asked.iter().any(|(reason, record)| stands(*reason, record, desired, inventory));
    let next = attempts.max().filter(|_| stands && may_reboot(permission, inventory));
    plan.steps.push(match next {
        Some(attempt) => {
            let causes = asked.iter().map(|(reason, record)| cause(*reason, record)).collect();
            let because = "a reboot was asked for and the node did not boot";
            step(Action::Reboot { causes, attempt }, Disturbance::Node, because)
        }
        None => {
            let because = "a reboot stopped it, did not come, and is not asked for again";
            step(Action::StartKubelet, Disturbance::Nothing, because)
        }
    });
    Some(plan)
}

/// A reboot of this boot that was asked for by us and not left to a person.
fn asked_for<'a>(
    record: &'a RebootRecord,
    inventory: &Inventory,
) -> Option<(RebootReason, &'a RebootRecord)> {
    let pending = record.outcome == RebootOutcome::Pending && record.attempt > 0;
    let reason = RebootReason::read(&record.reason)?;
    (pending && record.boot_id_before == inventory.boot_id).then_some((reason, record))
}

/// True when the goal of the reboot is still one that somebody has.
fn stands(
    reason: RebootReason,
    record: &RebootRecord,
    desired: &Desired,
    inventory: &Inventory,
) -> bool {
    match reason {
        RebootReason::RdmaMode => {
            let mode = desired.rdma_mode.or(inventory.initial_rdma_mode);
            mode.is_some_and(|mode| mode.to_string() == record.goal)
        }
        RebootReason::Firmware => firmware::is_asked(&record.goal, desired),
    }
}

/// The turn in which it was asked for the first time has not ended.
fn may_reboot(permission: &Permission, inventory: &Inventory) -> bool {
    match permission.turn {
        Turn::Drained(DrainRequest::Reboot) => true,
        Turn::DrainDisabled => inventory.holders.is_empty(),
        Turn::Drained(_) | Turn::Draining(_) | Turn::NotYet | Turn::Ending => false,
    }
}

fn cause(reason: RebootReason, record: &RebootRecord) -> RebootCause {
    RebootCause { reason, goal: record.goal.clone(), levers: record.levers.clone() }
}

fn step(action: Action, disturbs: Disturbance, because: &str) -> Step {
    Step {
        action,
        disturbs,
        touches: BTreeSet::new(),
        because: because.to_owned(),
        lane: Lane::Node,
    }
}
