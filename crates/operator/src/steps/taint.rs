//! The taint `ironrail.dev/not-ready` of a node, and the boot that is booked as verified on its node state.
//!
//! When it is there is `planner::taint`'s choice. Taints of others stay as they are.

use super::afterwards::is_asked_for;
use super::{drain_state, is_at_goal, is_managed, key_of_state, patch_if_unchanged};
use crate::kinds;
use crate::objects::Node;
use crate::world::World;
use api::nodestate::SriovNetworkNodeState;
use api::wire::{ObjectKey, Write};
use api::{annotation, names};
use planner::DrainRequest;
use planner::rollout::Progress;
use planner::taint::{Facts, judge};
use serde_json::{Value, json};

/// What differs: the book first, so that a taint that was taken away is not set again for the same boot. `settled`: the
/// node state asks for what pools and policies come to.
pub(crate) fn writes(world: &World, name: &str, settled: bool) -> Vec<Write> {
    let Some(node) = world.nodes.get(name) else { return Vec::new() };
    let state = world.node_states.get(name);
    let facts = facts(world, node, state, settled);
    let verdict = judge(&facts);
    let book = state.filter(|_| verdict.verified_boot != facts.verified_boot).map(|state| {
        let boot = match verdict.verified_boot.as_str() {
            "" => Value::Null,
            boot => boot.into(),
        };
        let patch = json!({ "metadata": { "annotations": { annotation::VERIFIED_BOOT: boot } } });
        patch_if_unchanged(key_of_state(state), &state.metadata.resource_version, patch)
    });
    let taint = (verdict.tainted != facts.tainted).then(|| {
        let key = ObjectKey::new("v1", kinds::NODE, "", name);
        let patch = json!({ "spec": { "taints": taints(node, verdict.tainted) } });
        patch_if_unchanged(key, &node.metadata.resource_version, patch)
    });
    book.into_iter().chain(taint).collect()
}

/// The node's taints with ours, where it has to be there before a reboot and is not.
pub(crate) fn before_reboot(world: &World, node: &Node) -> Option<Value> {
    (is_asked(world, node) && !is_tainted(node)).then(|| taints(node, true))
}

fn facts(
    world: &World,
    node: &Node,
    state: Option<&SriovNetworkNodeState>,
    settled: bool,
) -> Facts {
    let rebooting = state.is_some_and(|state| {
        let drain = drain_state(node, state);
        let asks = [drain.request, drain.mirror].contains(&DrainRequest::Reboot);
        // With `disableDrain` nobody asks: the reboot is booked here, and then it comes, unless it is wanted no more.
        let is_booked = |record| is_asked_for(record, &node.boot_id);
        let comes = !is_at_goal(state) && state.status.reboots.iter().any(is_booked);
        (asks && drain.current != Progress::Idle) || comes
    });
    let booked = state.and_then(|s| s.metadata.annotations.get(annotation::VERIFIED_BOOT));
    let verified =
        |state: &SriovNetworkNodeState| is_at_goal(state) && state.status.boot_id == node.boot_id;
    Facts {
        asked: is_asked(world, node),
        tainted: is_tainted(node),
        rebooting,
        boot_id: node.boot_id.clone(),
        verified_boot: booked.cloned().unwrap_or_default(),
        at_goal: settled && state.is_some_and(verified),
    }
}

fn is_asked(world: &World, node: &Node) -> bool {
    let asks = |policy: &&planner::policy::Policy| policy.taint_until_ready;
    let mut policies = world.parsed.iter().filter(asks);
    is_managed(world, node)
        && policies.any(|policy| planner::select::node(policy, &node.metadata.labels).is_ok())
}

fn is_ours(taint: &Value) -> bool {
    taint["key"] == names::NOT_READY
}

fn is_tainted(node: &Node) -> bool {
    node.taints.iter().any(is_ours)
}

fn taints(node: &Node, with_ours: bool) -> Value {
    let mut taints: Vec<Value> = node.taints.iter().filter(|t| !is_ours(t)).cloned().collect();
    if with_ours {
        // Only new pods are kept away: those that are there, our own above all, have work to do.
        taints.push(json!({ "key": names::NOT_READY, "effect": "NoSchedule" }));
    }
    if taints.is_empty() { Value::Null } else { taints.into() }
}
