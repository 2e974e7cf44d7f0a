//! What is known of a node that is drained and whose daemon is not done; what it means is `planner::afterwards`'s.

use super::drain::DRAINED;
use crate::objects::Node;
use crate::world::World;
use api::names;
use api::nodestate::{RebootOutcome, RebootRecord, SriovNetworkNodeState};
use planner::action::RebootReason;
use planner::afterwards::Afterwards;

/// Of the daemon's words so many are repeated.
const SAID: usize = 3;

pub(crate) fn of(world: &World, node: &Node, state: &SriovNetworkNodeState) -> Afterwards {
    let status = &state.status;
    let blockers = status.blockers.iter().map(|blocker| blocker.message.clone());
    let mut said: Vec<String> = blockers.take(SAID).collect();
    if said.is_empty() && !status.last_sync_error.is_empty() {
        said.push(status.last_sync_error.clone());
    }
    let pods = world.pods_on(&node.metadata.name);
    let mut of_daemon = pods.filter(|pod| {
        pod.metadata.namespace == world.settings.namespace
            && pod.controller() == Some(("DaemonSet", names::DAEMON))
    });
    let known = |boot: &str| !boot.is_empty();
    let drained = status.conditions.iter().find(|c| c.kind == DRAINED && c.status == "True");
    Afterwards {
        ready: node.ready,
        reboot_booked: status.reboots.iter().any(|record| is_asked_for(record, &status.boot_id)),
        reboot_left: status.reboots.iter().any(|record| is_left(record, &status.boot_id)),
        boot_is_news: known(&node.boot_id)
            && known(&status.boot_id)
            && node.boot_id != status.boot_id,
        daemon_runs: of_daemon.any(|pod| pod.phase == "Running"),
        said,
        drained_since: drained.map(|condition| condition.last_transition_time),
    }
}

/// True for a reboot that was asked for in this boot and not left to a person.
pub(crate) fn is_asked_for(record: &RebootRecord, boot_id: &str) -> bool {
    is_pending(record, boot_id) && record.attempt > 0
}

/// True for a reboot that the node is prepared for in this boot, and that is a person's (`disableReboot`).
fn is_left(record: &RebootRecord, boot_id: &str) -> bool {
    is_pending(record, boot_id) && record.attempt == 0
}

fn is_pending(record: &RebootRecord, boot_id: &str) -> bool {
    RebootReason::read(&record.reason).is_some()
        && record.outcome == RebootOutcome::Pending
        && record.boot_id_before == boot_id
}
