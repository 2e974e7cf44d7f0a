//! OpenShift's machine-config pools around a drain: paused before it, resumed after the last node.
//!
//! What a pool means for a node is `planner::machine_config`'s judgement. Each write is bound to the version of the pool
//! that it was decided on, so that an update that begins in between is seen first.

use super::{drain_state, patch_if_unchanged};
use crate::kinds;
use crate::objects::{MachineConfigPool, Node};
use crate::world::World;
use api::annotation;
use api::wire::{ObjectKey, Write};
use planner::DrainRequest;
use planner::machine_config::{Configs, Gate, before_drain, pool_of};
use planner::rollout::Progress;
use serde_json::json;

/// May the node be drained, as far as the machine-config pools are concerned? With HyperShift and elsewhere there is
/// nothing to ask.
pub(crate) fn gate(world: &World, node: &Node) -> Gate {
    if !world.settings.is_openshift() || is_hypershift(world) {
        return Gate::Go;
    }
    let known = [kinds::MACHINE_CONFIG_POOL, kinds::INFRASTRUCTURE]
        .iter()
        .all(|kind| world.listed.contains(kind));
    let pools = world.machine_config_pools.iter();
    let pools = pools.map(|(name, pool)| (name.clone(), pool.pool.clone())).collect();
    let current = node.metadata.annotations.get(annotation::CURRENT_CONFIG).map(String::as_str);
    let configs = Configs { wanted: config_of(node), current };
    before_drain(&node.metadata.name, configs, known.then_some(&pools))
}

fn is_hypershift(world: &World) -> bool {
    world.infrastructures.values().any(|cluster| cluster.external_control_plane)
}

/// True for a node of the machine-config pool of this name.
pub(crate) fn is_in(node: &Node, pool: &str) -> bool {
    pool_of(config_of(node)) == Some(pool)
}

fn config_of(node: &Node) -> &str {
    node.metadata.annotations.get(annotation::DESIRED_CONFIG).map_or("", String::as_str)
}

pub(crate) fn pause(world: &World, pool: &str) -> Option<Write> {
    world.machine_config_pools.get(pool).map(|pool| set_paused(pool, true))
}

/// Lets the node's machine-config pool go on, if we hold it and no other node of it needs that. A node that was skipped
/// may wait for days, and does not.
pub(crate) fn resume(world: &World, node: &Node) -> Option<Write> {
    let name = pool_of(config_of(node))?;
    let pool = world.machine_config_pools.get(name).filter(|pool| pool.pool.paused_by_us)?;
    let others = world.nodes.values().filter(|other| other.metadata.name != node.metadata.name);
    let mut others = others.filter(|other| is_in(other, name));
    (!others.any(|other| needs_pause(world, other))).then(|| set_paused(pool, false))
}

fn needs_pause(world: &World, node: &Node) -> bool {
    let name = &node.metadata.name;
    let Some(state) = world.node_states.get(name) else { return false };
    let seen = drain_state(node, state);
    let skipped = world
        .pools
        .values()
        .any(|pool| pool.status.skipped.iter().any(|skipped| skipped.node == *name));
    seen.current != Progress::Idle || (seen.request != DrainRequest::Idle && !skipped)
}

fn set_paused(pool: &MachineConfigPool, paused: bool) -> Write {
    let metadata = &pool.metadata;
    let state = if paused { annotation::PAUSED } else { annotation::IDLE };
    let patch = json!({
        "metadata": { "annotations": { annotation::NODE_STATE: state } },
        "spec": { "paused": paused },
    });
    let version = "machineconfiguration.openshift.io/v1";
    let key = ObjectKey::new(version, kinds::MACHINE_CONFIG_POOL, "", &metadata.name);
    patch_if_unchanged(key, &metadata.resource_version, patch)
}
