//! One controller a file: `observe` reads the world, `reconcile` is called by the driver, `commit` writes what differs.
//!
//! Here stand the few lines that several controllers share.

pub mod admitted;
mod afterwards;
mod cards;
pub mod devices;
pub mod drain;
mod ended;
pub(crate) mod machine_config;
pub mod misplaced;
pub mod networks;
pub mod nodestates;
pub mod operatorconfig;
mod own_pod;
pub mod pods;
pub mod policies;
mod pool_verdict;
pub mod pools;
mod refusal;
mod said;
mod taint;
mod waiting;

use crate::objects::Node;
use crate::world::World;
use api::annotation;
use api::crd::OwnerReference;
use api::nodestate::SriovNetworkNodeState;
use api::operatorconfig::{ControlPlaneGrant, OperatorConfigStatus, SriovOperatorConfig};
use api::pool::{Grant, SriovNetworkPoolConfig};
use api::wire::{ObjectKey, PatchType, Write};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a node asks for and how far its drain is, out of the annotations of Node and NodeState.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrainState {
    /// Of the Node; decides, as upstream.
    pub request: planner::DrainRequest,
    /// The node state's mirror of the request.
    pub mirror: planner::DrainRequest,
    pub current: planner::rollout::Progress,
}

pub(crate) fn drain_state(node: &Node, state: &SriovNetworkNodeState) -> DrainState {
    let text = |annotations: &BTreeMap<String, String>, key| {
        annotations.get(key).cloned().unwrap_or_default()
    };
    let (node, state) = (&node.metadata.annotations, &state.metadata.annotations);
    DrainState {
        request: planner::DrainRequest::read(&text(node, annotation::NODE_STATE)),
        mirror: planner::DrainRequest::read(&text(state, annotation::DESIRED_STATE)),
        current: planner::rollout::Progress::read(&text(state, annotation::CURRENT_STATE)),
    }
}

/// The grant that a node holds, in whichever pool it was given.
pub(crate) fn grant_of<'a>(world: &'a World, node: &str) -> Option<&'a Grant> {
    all_grants(world).find(|grant| grant.node == node)
}

/// The grant of each node that holds one, for whoever looks at all nodes.
pub(crate) fn grants(world: &World) -> BTreeMap<&str, &Grant> {
    let mut grants = BTreeMap::new();
    for grant in all_grants(world) {
        grants.entry(grant.node.as_str()).or_insert(grant);
    }
    grants
}

fn all_grants(world: &World) -> impl Iterator<Item = &Grant> {
    let pools = world.pools.values().flat_map(|pool| &pool.status.grants);
    pools.chain(world.config.iter().flat_map(|config| &config.status.grants))
}

/// True when a drain was started under this very grant, or the grant was closed unused. From then on it starts no
/// drain any more, and may be given back once the node is idle. Without the mark, an operator with an old cache
/// could take a node that has not started yet for one that is done.
pub(crate) fn is_used(state: &SriovNetworkNodeState, grant: &Grant) -> bool {
    state.metadata.annotations.get(annotation::GRANT) == Some(&grant.since.to_string())
}

/// The cluster-wide grant of control-plane nodes, where this node holds it.
pub(crate) fn control_plane_grant_of<'a>(
    world: &'a World,
    node: &str,
) -> Option<&'a ControlPlaneGrant> {
    let grant = world.config.as_ref().and_then(|config| config.status.control_plane.as_ref());
    grant.filter(|grant| grant.node == node)
}

/// As `is_used`, for that grant.
pub(crate) fn is_used_for_control_plane(
    state: &SriovNetworkNodeState,
    grant: &ControlPlaneGrant,
) -> bool {
    let mark = state.metadata.annotations.get(annotation::CONTROL_PLANE_GRANT);
    mark == Some(&grant.since.to_string())
}

/// The pool in which a node's grant was given; None for one that was given to a node without a pool.
pub(crate) fn pool_of_grant<'a>(
    world: &'a World,
    node: &str,
) -> Option<&'a SriovNetworkPoolConfig> {
    world.pools.values().find(|pool| pool.status.grants.iter().any(|grant| grant.node == node))
}

pub(crate) fn key_of_state(state: &SriovNetworkNodeState) -> ObjectKey {
    let metadata = &state.metadata;
    ObjectKey::new(
        api::names::API_VERSION,
        api::names::NODE_STATE,
        &metadata.namespace,
        &metadata.name,
    )
}

/// A merge patch of metadata and the like that holds only for the version that it was decided on.
pub(crate) fn patch_if_unchanged(
    key: ObjectKey,
    resource_version: &str,
    mut patch: Value,
) -> Write {
    patch["metadata"]["resourceVersion"] = resource_version.into();
    Write::Patch { key, patch_type: PatchType::Merge, patch, subresource: "" }
}

/// The status of the operator config. Always whole and with the version that it was decided on, since it holds grants.
pub(crate) fn status_of_config(
    config: &SriovOperatorConfig,
    status: &OperatorConfigStatus,
) -> Write {
    let object = json!({
        "apiVersion": api::names::API_VERSION, "kind": api::names::OPERATOR_CONFIG,
        "metadata": version(&config.metadata), "spec": config.spec, "status": status,
    });
    Write::Update { object, subresource: "status" }
}

/// The owner of what the operator makes for the whole installation: gone with the config, gone with it.
pub(crate) fn owner(config: &SriovOperatorConfig) -> OwnerReference {
    OwnerReference {
        api_version: api::names::API_VERSION.to_owned(),
        kind: api::names::OPERATOR_CONFIG.to_owned(),
        name: config.metadata.name.clone(),
        uid: config.metadata.uid.clone(),
        controller: Some(true),
        // Blocking the owner's deletion would need one more right where that is enforced.
        block_owner_deletion: None,
    }
}

/// The managed nodes, each with what its daemon reported.
pub(crate) fn managed_nodes(world: &World) -> Vec<(&Node, Option<&SriovNetworkNodeState>)> {
    let Some(config) = &world.config else { return Vec::new() };
    let labels = operatorconfig::managed_nodes(config);
    let managed = world.nodes.values().filter(|node| is_labelled(node, &labels));
    managed.map(|node| (node, world.node_states.get(&node.metadata.name))).collect()
}

/// True when the operator config asks for a daemon on this node.
pub(crate) fn is_managed(world: &World, node: &Node) -> bool {
    let labels = world.config.as_ref().map(operatorconfig::managed_nodes);
    labels.is_some_and(|labels| is_labelled(node, &labels))
}

/// True for a node that has left our management: nothing is begun there any more, and what was begun is undone. Where the
/// operator config cannot be read, nobody knows.
pub(crate) fn has_left(world: &World, node: &Node) -> bool {
    !is_managed(world, node) && !world.has_problem_of(api::names::OPERATOR_CONFIG)
}

pub(crate) fn is_labelled(node: &Node, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(key, value)| node.metadata.labels.get(key) == Some(value))
}

pub(crate) fn facts<'a>(
    node: &'a Node,
    state: Option<&'a SriovNetworkNodeState>,
) -> planner::select::NodeFacts<'a> {
    planner::select::NodeFacts {
        name: &node.metadata.name,
        labels: &node.metadata.labels,
        interfaces: state.map(|state| state.status.interfaces.as_slice()).unwrap_or_default(),
    }
}

/// True when the node's daemon says that everything of the present spec is done.
pub(crate) fn is_at_goal(state: &SriovNetworkNodeState) -> bool {
    state.status.sync_status == "Succeeded"
        && state.status.observed_generation == state.metadata.generation
}

/// The metadata that an `Update` must carry.
pub(crate) fn version(metadata: &api::crd::Metadata) -> Value {
    json!({
        "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid,
        "resourceVersion": metadata.resource_version,
    })
}
