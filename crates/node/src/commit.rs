//! What a step of the daemon tells the API: the writes that differ, in order, and when to look again.
//!
//! Status first, then the request: whoever sees that a node gave its turn back finds the goal in the status.

use crate::status::{self, Progress};
use crate::world::NodeWorld;
use api::inventory::Inventory;
use api::nodestate::{NodeStateStatus, SriovNetworkNodeState};
use api::wire::{Event, ObjectKey, Outcome, PatchType, Write};
use api::{Timestamp, annotation, names};
use planner::{Blocker, DrainRequest, Reason};
use serde_json::json;

/// The pause between two looks at a quiet node; events wake it earlier.
const QUIET_SECONDS: i64 = 30;
/// The pause while something is about to end of which no event tells us: a pod that lets a device go.
const BUSY_SECONDS: i64 = 5;

/// What a step came to.
#[derive(Debug)]
pub struct Report {
    pub progress: Progress,
    /// None when the node could not be observed.
    pub inventory: Option<Inventory>,
    /// What is asked of the operator; None leaves it as it is.
    pub request: Option<DrainRequest>,
    /// A reboot is booked in the status of this very report, and asked for when the API has it.
    pub booking: bool,
    /// The reboot was asked for.
    pub rebooting: bool,
}

pub fn outcome(
    world: &NodeWorld,
    state: &SriovNetworkNodeState,
    report: Report,
    now: Timestamp,
) -> Outcome {
    let new = status::status(state, report.inventory.as_ref(), &report.progress, now);
    let mut writes = Vec::new();
    if new != state.status {
        let object = status::object(state, &new);
        writes.push(Write::Apply { object, subresource: "status" });
        writes.extend(sync_event(state, &new, now));
    }
    if report.rebooting {
        writes.push(reboot_event(state, &new, now));
    }
    if let Some(request) = report.request {
        writes.extend(requests(world, state, request));
    }
    let pause = pause(&report);
    Outcome { writes, look_again: now.checked_add(jiff_seconds(pause)).ok() }
}

fn jiff_seconds(seconds: i64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds.unsigned_abs())
}

fn pause(report: &Report) -> i64 {
    let ends_unseen = |blocker: &Blocker| {
        [Reason::DeviceHeld, Reason::WaitingForWithdrawal].contains(&blocker.reason())
    };
    let progress = &report.progress;
    let busy = !progress.errors.is_empty() || progress.blockers.iter().any(ends_unseen);
    match busy || report.booking {
        true => BUSY_SECONDS,
        false => QUIET_SECONDS,
    }
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
    let booked = status.reboots.iter().filter(|r| r.boot_id_before == status.boot_id);
    let goals: Vec<String> = booked.map(|r| format!("{} {}", r.reason, r.goal)).collect();
    event(state, false, "RebootNode", format!("rebooting for {}", goals.join(" and ")), now)
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
