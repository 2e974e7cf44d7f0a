//! SriovNetworkNodeState: exists for every managed node, and its spec says what pools and policies want of the node.
//!
//! What is wanted is `planner`'s choice; the status is the node daemon's. States of nodes that left are kept a while.

use super::{key_of_state, patch_if_unchanged};
use crate::objects::Node;
use crate::queue::later;
use crate::world::World;
use api::crd::OwnerReference;
use api::nodestate::{NodeStateSpec, SriovNetworkNodeState};
use api::operatorconfig::SriovOperatorConfig;
use api::wire::{Outcome, Write};
use api::{RdmaMode, Timestamp, annotation, names};
use planner::pools::Membership;
use serde_json::json;

struct Observed<'a> {
    world: &'a World,
    name: &'a str,
    config: &'a SriovOperatorConfig,
    /// The node, where it exists and is managed.
    node: Option<&'a Node>,
    state: Option<&'a SriovNetworkNodeState>,
}

fn observe<'a>(world: &'a World, name: &'a str) -> Option<Observed<'a>> {
    // Without the operator config nothing is managed, and nothing is torn down either.
    let config = world.config.as_ref()?;
    let managed = super::operatorconfig::managed_nodes(config);
    let node = world.nodes.get(name).filter(|node| {
        let labels = &node.metadata.labels;
        managed.iter().all(|(key, value)| labels.get(key) == Some(value))
    });
    Some(Observed { world, name, config, node, state: world.node_states.get(name) })
}

pub fn reconcile(world: &World, name: &str, now: Timestamp) -> Outcome {
    let Some(seen) = observe(world, name) else { return Outcome::default() };
    if world.problem(names::NODE_STATE, &world.settings.namespace, name).is_some()
        && seen.state.is_none()
    {
        // It exists and cannot be read: writing over it could undo what somebody else knows.
        return Outcome::default();
    }
    match (seen.node, seen.state) {
        (Some(node), _) => {
            let wanted = wanted(&seen, node);
            commit(&seen, wanted)
        }
        (None, Some(state)) => stale(&seen, state, now),
        (None, None) => Outcome::default(),
    }
}

/// The spec that pools and policies come to.
fn wanted(seen: &Observed, node: &Node) -> NodeStateSpec {
    let mut spec = NodeStateSpec::default();
    spec.system.rdma_mode = rdma_mode(seen, node);
    spec
}

/// The pool's mode. Where nobody can say which pool counts or what it asks for, the node keeps what it was told:
/// a mistake in a manifest must not reboot nodes.
fn rdma_mode(seen: &Observed, node: &Node) -> Option<RdmaMode> {
    let keep = seen.state.and_then(|state| state.spec.system.rdma_mode);
    let pools: Vec<_> = seen.world.pools.values().cloned().collect();
    match planner::pools::membership(&node.metadata.labels, &pools) {
        Membership::NoPool if seen.world.has_problem_of(names::POOL) => keep,
        Membership::NoPool => None,
        Membership::Several(_) => keep,
        Membership::Pool(name) => {
            match seen.world.pools.get(&name).map(planner::pools::rdma_mode) {
                Some(Ok(mode)) => mode,
                Some(Err(_)) | None => keep,
            }
        }
    }
}

fn commit(seen: &Observed, wanted: NodeStateSpec) -> Outcome {
    let config = &seen.config.metadata;
    let owner = OwnerReference {
        api_version: names::API_VERSION.to_owned(),
        kind: names::OPERATOR_CONFIG.to_owned(),
        name: config.name.clone(),
        uid: config.uid.clone(),
        controller: Some(true),
        // Blocking the owner's deletion would need one more right where that is enforced.
        block_owner_deletion: None,
    };
    let mut writes = Vec::new();
    if let Some(state) = seen.state
        && state.metadata.annotations.contains_key(annotation::KEEP_UNTIL)
    {
        let patch = json!({ "metadata": { "annotations": { annotation::KEEP_UNTIL: null } } });
        writes.push(patch_if_unchanged(
            key_of_state(state),
            &state.metadata.resource_version,
            patch,
        ));
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
        // Leaving a field out of an apply removes it only where we wrote it. What upstream's operator wrote is
        // taken out by saying so.
        if let Some(state) = seen.state {
            if wanted.interfaces.is_empty() && !state.spec.interfaces.is_empty() {
                object["spec"]["interfaces"] = json!([]);
            }
            if wanted.system.rdma_mode.is_none() && state.spec.system.rdma_mode.is_some() {
                let patch = json!({ "spec": { "system": { "rdmaMode": null } } });
                writes.push(patch_if_unchanged(
                    key_of_state(state),
                    &state.metadata.resource_version,
                    patch,
                ));
            }
        }
        writes.push(Write::Apply { object, subresource: "" });
    }
    Outcome { writes, look_again: None }
}

/// The state of a node that left, or is managed no more: kept for a while, for it may come back.
fn stale(seen: &Observed, state: &SriovNetworkNodeState, now: Timestamp) -> Outcome {
    let delay = seen.world.settings.stale_node_state_delay;
    let metadata = &state.metadata;
    if metadata.deletion_timestamp.is_some() {
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
            let write = patch_if_unchanged(key_of_state(state), &metadata.resource_version, patch);
            Outcome { writes: vec![write], look_again: Some(until) }
        }
    }
}

fn delete(state: &SriovNetworkNodeState) -> Outcome {
    let write = Write::Delete {
        key: key_of_state(state),
        uid: state.metadata.uid.clone(),
        resource_version: state.metadata.resource_version.clone(),
    };
    Outcome { writes: vec![write], look_again: None }
}
