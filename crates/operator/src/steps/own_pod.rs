//! Where the operator's own pod is, and where it could go: a drain that takes its last place ends for nobody.

use super::drain_state;
use crate::objects::{Node, Place};
use crate::world::World;
use api::annotation;
use planner::rollout::Progress;
use serde_json::Value;

/// True while the operator's pod ends on another node, or has, or will, since we drain that one.
pub(crate) fn operator_moves(world: &World, to: &str) -> bool {
    let settings = &world.settings;
    let place = Place::new(&settings.namespace, &settings.pod_name);
    // Outside of a cluster it has no pod, and no name for one.
    let Some(pod) = world.pods.get(&place) else { return !settings.pod_name.is_empty() };
    // A node that somebody else had cordoned is drained without a cordon of ours.
    let drained = world.nodes.get(&pod.node).is_some_and(|node| {
        let state = world.node_states.get(&pod.node);
        node.metadata.annotations.contains_key(annotation::CORDONED_BY_US)
            || state.is_some_and(|state| drain_state(node, state).current != Progress::Idle)
    });
    pod.node != to && (drained || pod.metadata.deletion_timestamp.is_some())
}

/// True for another node that could take the operator's pod now.
pub(crate) fn could_take_operator(node: &Node, but: &str) -> bool {
    let keeps_away = |taint: &Value| {
        let text = |field: &str| taint[field].as_str().unwrap_or_default();
        planner::drain::keeps_operator_away(text("key"), text("effect"))
    };
    node.metadata.name != but
        && node.ready
        && !node.unschedulable
        && !node.taints.iter().any(keeps_away)
}
