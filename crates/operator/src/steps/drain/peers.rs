//! The other control-plane nodes, for which one of them waits.

use crate::objects::Node;
use crate::steps::drain_state;
use crate::world::World;
use planner::Blocker;
use planner::rollout::{Progress, control_plane_waits, has_control_plane_role};

/// Another control-plane node has failed since this one was granted its turn.
pub(super) fn fail(world: &World, node: &Node) -> Option<Blocker> {
    let is_control_plane = |node: &Node| has_control_plane_role(&node.metadata.labels);
    let name = node.metadata.name.as_str();
    let others =
        world.nodes.iter().filter(|(other, node)| *other != name && is_control_plane(node));
    let others = others.map(|(other, node)| (other.as_str(), node.ready));
    is_control_plane(node).then(|| control_plane_waits(name, others)).flatten()
}

/// The control-plane node for which this one waits: one that is not Ready, or is disturbed itself.
pub(super) fn busy(world: &World, node: &Node) -> Option<Blocker> {
    let is_control_plane = |node: &Node| has_control_plane_role(&node.metadata.labels);
    let own = &node.metadata.name;
    let mut others = world
        .nodes
        .iter()
        .filter(|(name, other)| is_control_plane(node) && *name != own && is_control_plane(other));
    others.find_map(|(name, other)| {
        let state = world.node_states.get(name);
        let disturbed =
            state.is_some_and(|state| drain_state(other, state).current != Progress::Idle);
        let (node, other_name) = (own.clone(), name.clone());
        (disturbed || !other.ready).then_some(Blocker::ControlPlaneBusy {
            node,
            other: other_name,
            disturbed,
        })
    })
}
