//! SriovNetworkNodeState: exists for every managed node, and its spec says what pools and policies want of the node.
//!
//! What is wanted is `planner::merge`'s choice; the status is the node daemon's. States of nodes that left are kept a
//! while. The node's device-plugin label, which brings the device plugin's pod, goes with it.

use super::{facts, is_labelled, key_of_state, owner, patch_if_unchanged};
use crate::kinds;
use crate::objects::Node;
use crate::queue::later;
use crate::world::World;
use api::nodestate::{NodeStateSpec, SriovNetworkNodeState};
use api::operatorconfig::SriovOperatorConfig;
use api::wire::{ObjectKey, Outcome, PatchType, Write};
use api::{Timestamp, annotation, label, names};
use planner::merge::{self, ModeWish};
use planner::pools::{self, Membership};
use serde_json::{Value, json};

struct Observed<'a> {
    world: &'a World,
    name: &'a str,
    config: &'a SriovOperatorConfig,
    node: Option<&'a Node>,
    managed: bool,
    state: Option<&'a SriovNetworkNodeState>,
}

fn observe<'a>(world: &'a World, name: &'a str) -> Option<Observed<'a>> {
    // Without the operator config nothing is managed, and nothing is torn down either.
    let config = world.config.as_ref()?;
    let labels = super::operatorconfig::managed_nodes(config);
    let node = world.nodes.get(name);
    let managed = node.is_some_and(|node| is_labelled(node, &labels));
    Some(Observed { world, name, config, node, managed, state: world.node_states.get(name) })
}

pub fn reconcile(world: &World, name: &str, now: Timestamp) -> Outcome {
    let Some(seen) = observe(world, name) else {
        return Outcome { writes: super::taint::writes(world, name, false), look_again: None };
    };
    let unreadable = world.problem(names::NODE_STATE, &world.settings.namespace, name).is_some();
    if unreadable && seen.state.is_none() {
        // It exists and cannot be read: writing over it could undo what somebody else knows.
        return Outcome::default();
    }
    let mut settled = false;
    let mut outcome = match (seen.node.filter(|_| seen.managed), seen.state) {
        (Some(node), state) => {
            let wanted = wanted(&seen, node);
            settled = state.is_some_and(|state| state.spec == wanted);
            commit(&seen, wanted)
        }
        (None, Some(state)) => stale(&seen, state, now),
        (None, None) => Outcome::default(),
    };
    let rest = match device_plugin_label(&seen) {
        Some(label) => vec![label],
        // Each of them is bound to the version of its object that was looked at.
        None if outcome.writes.is_empty() => super::taint::writes(world, name, settled),
        None => Vec::new(),
    };
    outcome.writes.extend(rest);
    outcome
}

/// True when the node's order is what pools and policies come to now: a policy that was changed a moment ago stands in
/// no order yet, and what the daemon says of the old one is nothing about the new.
pub(super) fn carries_all_wishes(world: &World, name: &str) -> bool {
    let Some(seen) = observe(world, name) else { return false };
    let (Some(node), Some(state)) = (seen.node.filter(|_| seen.managed), seen.state) else {
        return false;
    };
    state.spec == wanted(&seen, node)
}

/// The spec that pools and policies come to.
fn wanted(seen: &Observed, node: &Node) -> NodeStateSpec {
    let previous = seen.state.map(|state| state.spec.clone()).unwrap_or_default();
    let facts = facts(node, seen.state);
    let wish = mode_wish(seen.world, node);
    let mut spec = merge::node_state_spec(&facts, &seen.world.parsed, wish, &previous);
    keep_misspelt(seen.world, &previous, &mut spec);
    spec
}

/// Where a pool cannot even be read, nobody knows whether it is this node's.
fn mode_wish(world: &World, node: &Node) -> ModeWish {
    let all: Vec<_> = world.pools.values().cloned().collect();
    let in_no_pool = pools::membership(&node.metadata.labels, &all) == Membership::NoPool;
    match in_no_pool && world.has_problem_of(names::POOL) {
        true => ModeWish::Keep,
        false => merge::mode_wish(&node.metadata.labels, &all),
    }
}

/// A policy that was right and is now misspelt has not taken its VFs back: what it got before stays until it can be
/// understood again, or is deleted.
fn keep_misspelt(world: &World, previous: &NodeStateSpec, spec: &mut NodeStateSpec) {
    let understood = |name: &str| world.parsed.iter().any(|policy| policy.name == name);
    let exists = |name: &str| {
        let unreadable = world.problem(names::POLICY, &world.settings.namespace, name).is_some();
        world.policies.contains_key(name) || unreadable
    };
    for before in &previous.interfaces {
        let misspelt =
            before.vf_groups.iter().any(|g| exists(&g.policy_name) && !understood(&g.policy_name));
        if !misspelt {
            continue;
        }
        let same_pf =
            |entry: &&mut api::nodestate::Interface| entry.pci_address == before.pci_address;
        match spec.interfaces.iter_mut().find(same_pf) {
            Some(entry) => entry.clone_from(before),
            None => spec.interfaces.push(before.clone()),
        }
    }
}

fn commit(seen: &Observed, wanted: NodeStateSpec) -> Outcome {
    let owner = owner(seen.config);
    let mut writes = Vec::new();
    if let Some(state) = seen.state
        && state.metadata.annotations.contains_key(annotation::KEEP_UNTIL)
    {
        let patch = json!({ "metadata": { "annotations": { annotation::KEEP_UNTIL: null } } });
        writes.push(patch_state(state, patch));
    }
    let same = seen.state.is_some_and(|state| {
        state.spec == wanted && state.metadata.owner_references.contains(&owner)
    });
    if !same {
        let mut object = json!({
            "apiVersion": names::API_VERSION, "kind": names::NODE_STATE,
            "metadata": {
                "name": seen.name, "namespace": seen.world.settings.namespace,
                "ownerReferences": [owner],
            },
            "spec": wanted,
        });
        if let Some(state) = seen.state {
            // Leaving a list out of an apply removes it only where we wrote it; upstream's operator may have.
            if wanted.interfaces.is_empty() && !state.spec.interfaces.is_empty() {
                object["spec"]["interfaces"] = json!([]);
            }
            if wanted.system.rdma_mode.is_none() && state.spec.system.rdma_mode.is_some() {
                writes.push(patch_state(
                    state,
                    json!({ "spec": { "system": { "rdmaMode": null } } }),
                ));
            }
        }
        writes.push(Write::Apply { object, subresource: "" });
    }
    Outcome { writes, look_again: None }
}

/// The label that the device plugin's DaemonSet selects. As upstream it follows the policies' node selectors, so that
/// the plugin runs before the first VF is there. On nodes that are not managed it goes away.
fn device_plugin_label(seen: &Observed) -> Option<Write> {
    let node = seen.node?;
    let offers = seen
        .world
        .parsed
        .iter()
        .any(|policy| planner::select::node(policy, &node.metadata.labels).is_ok());
    let wanted = match (seen.managed, offers) {
        (true, true) => Some(label::ENABLED),
        (true, false) => Some(label::DISABLED),
        (false, _) => None,
    };
    let found = node.metadata.labels.get(label::DEVICE_PLUGIN).map(String::as_str);
    // A misspelt policy is not yet no policy: the devices that it has stay on offer.
    let kept = wanted == Some(label::DISABLED)
        && found == Some(label::ENABLED)
        && seen.state.is_some_and(|state| !state.spec.interfaces.is_empty());
    if wanted == found || kept {
        return None;
    }
    let value = wanted.map_or(Value::Null, Value::from);
    Some(Write::Patch {
        key: ObjectKey::new("v1", kinds::NODE, "", &node.metadata.name),
        patch_type: PatchType::Merge,
        patch: json!({ "metadata": { "labels": { label::DEVICE_PLUGIN: value } } }),
        subresource: "",
    })
}

/// The state of a node that left, or is managed no more: kept for a while, for it may come back.
fn stale(seen: &Observed, state: &SriovNetworkNodeState, now: Timestamp) -> Outcome {
    let delay = seen.world.settings.stale_node_state_delay;
    let metadata = &state.metadata;
    if metadata.deletion_timestamp.is_some() {
        return Outcome::default();
    }
    // With the state would go what is known of a drain; its end is news of the node or of the state.
    if seen.node.is_some_and(|node| super::drain::is_under_way(node, state)) {
        return Outcome::default();
    }
    let kept = metadata.annotations.get(annotation::KEEP_UNTIL);
    let until = kept.and_then(|text| text.parse::<Timestamp>().ok());
    match until {
        _ if delay.is_zero() => delete(state),
        Some(until) if until <= now => delete(state),
        Some(until) => Outcome { writes: Vec::new(), look_again: Some(until) },
        None => {
            // Whole seconds, as upstream writes and reads them.
            let until = later(now, delay);
            let text = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let patch = json!({ "metadata": { "annotations": { annotation::KEEP_UNTIL: text } } });
            Outcome { writes: vec![patch_state(state, patch)], look_again: Some(until) }
        }
    }
}

fn patch_state(state: &SriovNetworkNodeState, patch: Value) -> Write {
    patch_if_unchanged(key_of_state(state), &state.metadata.resource_version, patch)
}

fn delete(state: &SriovNetworkNodeState) -> Outcome {
    let write = Write::Delete {
        key: key_of_state(state),
        uid: state.metadata.uid.clone(),
        resource_version: state.metadata.resource_version.clone(),
    };
    Outcome { writes: vec![write], look_again: None }
}
