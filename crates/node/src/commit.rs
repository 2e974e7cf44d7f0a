//! What a step of the daemon tells the API: the writes that differ, in order, and when to look again.
//!
//! Status first, then the request: whoever sees that a node gave its turn back finds the goal in the status.

use crate::cdi::Cdi;
use crate::cordon;
use crate::status::{self, Progress};
use crate::sweep::Finding;
use crate::world::NodeWorld;
use api::inventory::Inventory;
use api::nodestate::{
    DrainStatus, NodeStateStatus, RebootOutcome, SriovNetworkNodeState, SweepStatus,
};
use api::wire::{Event, ObjectKey, Outcome, PatchType, Write};
use api::{Timestamp, annotation, names};
use planner::lifeline::Notice;
use planner::{Blocker, DrainRequest, Reason};
use serde_json::json;
use std::time::Duration;

/// The pause between two looks at a quiet node; events wake it earlier.
const QUIET: Duration = Duration::from_secs(30);
/// The pause while something is about to end of which no event tells us: a pod that lets a device go.
const BUSY: Duration = Duration::from_secs(5);

/// What a step came to.
#[derive(Debug)]
pub struct Report {
    pub progress: Progress,
    /// What the operator's drain is told; None while there is none.
    pub drain: Option<DrainStatus>,
    /// How devices are handed over; None leaves what was said of it.
    pub cdi: Option<Cdi>,
    pub sweep: Option<SweepStatus>,
    /// None when the node could not be observed.
    pub inventory: Option<Inventory>,
    /// What is asked of the operator; None leaves it as it is.
    pub request: Option<DrainRequest>,
    /// The API must know this before the node goes on: that work begins, or that a reboot is booked.
    pub first_tell: bool,
    /// The holders are to be read again before the first change.
    pub look_at_once: bool,
    /// The reboot was asked for.
    pub rebooting: bool,
    /// When what failed is tried again.
    pub retry: Option<Timestamp>,
    /// What was done on cards by which the host lives.
    pub notices: Vec<Notice>,
}

pub fn outcome(
    world: &NodeWorld,
    state: &SriovNetworkNodeState,
    report: Report,
    now: Timestamp,
) -> Outcome {
    if report.look_at_once {
        // Nothing is known that the API does not know already.
        return Outcome { writes: Vec::new(), look_again: Some(now) };
    }
    let mut new = status::status(state, report.inventory.as_ref(), &report.progress, now);
    new.drain.clone_from(&report.drain);
    new.sweep = report.sweep;
    new.cdi = report.cdi.as_ref().map_or(&state.status.cdi, |cdi| &cdi.sentence).clone();
    new.boot_phases = world.boot_phases.as_ref().unwrap_or(&state.status.boot_phases).clone();
    if new.cdi != state.status.cdi {
        tracing::info!("CDI is {}", new.cdi);
    }
    let mut writes = Vec::new();
    if !status::stands(&state.status, &new) {
        let object = status::object(state, &new);
        writes.push(Write::Apply { object, subresource: "status" });
        writes.extend(sync_event(state, &new, now));
    }
    for Notice { warning, reason, message } in &report.notices {
        writes.push(event(state, *warning, reason, message.clone(), now));
    }
    if report.rebooting {
        writes.push(reboot_event(state, &new, now));
    }
    if let Some(request) = report.request {
        writes.extend(requests(world, state, request));
    }
    if let Some(write) = cordon::take_back(world, &new, now) {
        writes.push(write);
        writes.push(event(state, true, "CordonTakenBack", cordon::MESSAGE.to_owned(), now));
    }
    Outcome { writes, look_again: look_again(&report, now) }
}

fn look_again(report: &Report, now: Timestamp) -> Option<Timestamp> {
    let ends_unseen = |blocker: &Blocker| {
        let unseen = [
            Reason::DeviceHeld,
            Reason::WaitingForWithdrawal,
            Reason::WaitingForAllocatable,
            Reason::KernelBusy,
        ];
        unseen.contains(&blocker.reason())
    };
    let busy = report.first_tell || report.progress.blockers.iter().any(ends_unseen);
    let pause = if busy { BUSY } else { QUIET };
    let by_itself = now.checked_add(pause).ok();
    by_itself.map(|at| report.retry.map_or(at, |retry| at.min(retry).max(now)))
}

/// The request on the node state and on the Node, each where it differs.
fn requests(world: &NodeWorld, state: &SriovNetworkNodeState, request: DrainRequest) -> Vec<Write> {
    let mut writes = Vec::new();
    if world.desired_state() != request.as_str() {
        writes.push(annotate(key(state), annotation::DESIRED_STATE, request.as_str()));
    }
    // A merge patch, because a server-side apply would make a Node that was deleted meanwhile.
    if world.node_request().is_some_and(|found| found != request.as_str()) {
        let node = ObjectKey::new("v1", "Node", "", &state.metadata.name);
        writes.push(annotate(node, annotation::NODE_STATE, request.as_str()));
    }
    writes
}

fn annotate(key: ObjectKey, name: &str, value: &str) -> Write {
    Write::Patch {
        key,
        patch_type: PatchType::Merge,
        patch: json!({ "metadata": { "annotations": { name: value } } }),
        subresource: "",
    }
}

fn key(state: &SriovNetworkNodeState) -> ObjectKey {
    let metadata = &state.metadata;
    ObjectKey::new(names::API_VERSION, names::NODE_STATE, &metadata.namespace, &metadata.name)
}

/// Upstream's event, with its words.
fn sync_event(
    state: &SriovNetworkNodeState,
    new: &NodeStateStatus,
    now: Timestamp,
) -> Option<Write> {
    let (old, error) = (&state.status.sync_status, &new.last_sync_error);
    if *old == new.sync_status && state.status.last_sync_error == *error {
        return None;
    }
    let mut message = format!("Status changed from: {old} to: {}", new.sync_status);
    if !error.is_empty() {
        message.push_str(&format!(". Last Error: {error}"));
    }
    let warning = new.sync_status == status::FAILED;
    Some(event(state, warning, "SyncStatusChanged", message, now))
}

fn reboot_event(state: &SriovNetworkNodeState, status: &NodeStateStatus, now: Timestamp) -> Write {
    let booked = status.reboots.iter().filter(|record| {
        record.boot_id_before == status.boot_id && record.outcome == RebootOutcome::Pending
    });
    let goals: Vec<String> = booked.map(|r| format!("{} {}", r.reason, r.goal)).collect();
    event(state, false, "RebootNode", format!("rebooting for {}", goals.join(" and ")), now)
}

/// What the sweeper did, or could not do.
pub fn swept(state: &SriovNetworkNodeState, finding: &Finding, now: Timestamp) -> Write {
    let reason = if finding.is_home { "DeviceSwept" } else { "DeviceNotSwept" };
    event(state, !finding.is_home, reason, finding.sentence.clone(), now)
}

fn event(
    state: &SriovNetworkNodeState,
    warning: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Write {
    Write::Event(Event {
        regarding: key(state),
        uid: state.metadata.uid.clone(),
        warning,
        reason: reason.to_owned(),
        message,
        component: names::DAEMON,
        at: now,
    })
}
