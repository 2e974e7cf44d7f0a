//! The other control-plane nodes, for which one of them waits.

use crate::objects::Node;
use crate::steps::drain_state;
use crate::world::World;
use planner::Blocker;
use planner::rollout::{Progress, control_plane_waits, has_control_plane_role};

/// Another control-plane node has failed since this one was granted its turn.
pub(super) fn fail(world: &World, node: &Node) -> Option<Blocker> {
    waits(world, node, |_| false)
}

/// The control-plane node for which this one waits: one that is not Ready, or is disturbed itself.
pub(super) fn busy(world: &World, node: &Node) -> Option<Blocker> {
    waits(world, node, |other| {
        let state = world.node_states.get(&other.metadata.name);
        state.is_some_and(|state| drain_state(other, state).current != Progress::Idle)
    })
}

fn waits(world: &World, node: &Node, disturbed: impl Fn(&Node) -> bool) -> Option<Blocker> {
    let is_control_plane = |node: &Node| has_control_plane_role(&node.metadata.labels);
    let own = node.metadata.name.as_str();
    let others = world.nodes.iter().filter(|(other, node)| *other != own && is_control_plane(node));
    let others = others.map(|(name, other)| (name.as_str(), other.ready, disturbed(other)));
    is_control_plane(node).then(|| control_plane_waits(own, others)).flatten()
}
