//! Policies and pools become the spec of one node's SriovNetworkNodeState.
//!
//! Upstream's rules (spec/operator.md 3.1): policies are applied from the weakest to the strongest, and a stronger one
//! takes over a PF except for VFs that it does not claim. Different on purpose: the range of an alternative name is
//! kept, `numVfs: 0` offers the PF itself, and a node in two pools keeps the RDMA mode that it has.

use crate::policy::Policy;
use crate::pools::{self, Membership};
use crate::select::{self, NodeFacts};
use api::nodestate::{Interface, InterfaceStatus, NodeStateSpec, System, VfGroup};
use api::pool::SriovNetworkPoolConfig;
use api::{RdmaMode, VfRange};

/// What the pools say about a node's RDMA mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeWish {
    /// The mode of its pool; `None` when its pool, or having none, asks for no mode.
    Is(Option<RdmaMode>),
    /// Nobody can say: the node is in two pools, or its pool's mode is misspelt. It keeps what it has.
    Keep,
}

/// The RDMA mode that a node with these labels is to have.
pub fn mode_wish(
    labels: &std::collections::BTreeMap<String, String>,
    pools: &[SriovNetworkPoolConfig],
) -> ModeWish {
    mode_of(&pools::membership(labels, pools), pools)
}

/// The same for a node whose pool is known.
pub fn mode_of(membership: &Membership, pools: &[SriovNetworkPoolConfig]) -> ModeWish {
    match membership {
        Membership::NoPool => ModeWish::Is(None),
        Membership::Several(_) => ModeWish::Keep,
        Membership::Pool(name) => {
            let pool = pools.iter().find(|pool| pool.metadata.name == *name);
            match pool.map(pools::rdma_mode) {
                Some(Ok(mode)) => ModeWish::Is(mode),
                Some(Err(_)) | None => ModeWish::Keep,
            }
        }
    }
}

/// The spec of a node's state. `policies` are sorted as `policy::parse_all` returns them; `previous` is the spec that
/// stands now, or the default for a new node.
pub fn node_state_spec(
    facts: &NodeFacts<'_>,
    policies: &[Policy],
    wish: ModeWish,
    previous: &NodeStateSpec,
) -> NodeStateSpec {
    let rdma_mode = match wish {
        ModeWish::Is(mode) => mode,
        ModeWish::Keep => previous.system.rdma_mode,
    };
    let interfaces = match facts.interfaces.is_empty() {
        // The daemon has not reported yet: what stands must not be read as "nobody asks for these VFs".
        true => previous.interfaces.clone(),
        false => interfaces(facts, policies, previous),
    };
    NodeStateSpec { interfaces, system: System { rdma_mode }, ..NodeStateSpec::default() }
}

fn interfaces(
    facts: &NodeFacts<'_>,
    policies: &[Policy],
    previous: &NodeStateSpec,
) -> Vec<Interface> {
    let known: Vec<InterfaceStatus> =
        facts.interfaces.iter().map(|found| with_known_name(found, previous)).collect();
    let mut interfaces = vec![];
    let mut weaker: Option<u32> = None;
    for policy in policies.iter().filter(|policy| select::node(policy, facts.labels).is_ok()) {
        apply(&mut interfaces, policy, &known, weaker == Some(policy.priority));
        weaker = Some(policy.priority);
    }
    interfaces
}

/// A PF that was given to a pod as a whole has no name in the host's namespace; it keeps the one it had.
fn with_known_name(found: &InterfaceStatus, previous: &NodeStateSpec) -> InterfaceStatus {
    let mut known = found.clone();
    let before = previous.interfaces.iter().find(|entry| entry.pci_address == found.pci_address);
    if let (true, Some(before)) = (known.name.is_empty(), before) {
        known.name.clone_from(&before.name);
    }
    known
}

/// Applies one policy over what weaker ones have made. `equal_priority`: the policy applied before has the same.
pub fn apply(
    interfaces: &mut Vec<Interface>,
    policy: &Policy,
    found: &[InterfaceStatus],
    equal_priority: bool,
) {
    for found in found.iter().filter(|found| select::interface(&policy.nics, found).is_ok()) {
        let mut new = entry(policy, found);
        match interfaces.iter_mut().find(|entry| entry.pci_address == found.pci_address) {
            None => interfaces.push(new),
            Some(old) => {
                take_over(&mut new, old, equal_priority);
                *old = new;
            }
        }
    }
}

fn entry(policy: &Policy, found: &InterfaceStatus) -> Interface {
    Interface {
        pci_address: found.pci_address,
        num_vfs: i64::from(policy.num_vfs),
        mtu: policy.spec.mtu,
        name: found.name.clone(),
        link_type: policy.spec.link_type.clone(),
        eswitch_mode: policy.spec.eswitch_mode.clone(),
        vf_groups: vec![VfGroup {
            resource_name: policy.resource.clone(),
            device_type: policy.device_type.to_string(),
            vf_range: select::range(policy, found),
            policy_name: policy.name.clone(),
            mtu: policy.spec.mtu,
            is_rdma: policy.rdma,
            vdpa_type: policy.spec.vdpa_type.clone(),
            need_vhost_net: policy.vhost_net,
            exclude_topology: policy.exclude_topology,
            exclude_umad: policy.exclude_umad,
            spread_rails: policy.spread_rails,
        }],
        externally_managed: policy.externally_managed,
        allow_lifeline: policy.allow_lifeline,
    }
}

/// What a stronger policy leaves of a weaker one on the same PF: groups of other resources on VFs that it does not claim.
fn take_over(new: &mut Interface, old: &Interface, equal_priority: bool) {
    let Some(own) = new.vf_groups.first().cloned() else { return };
    let stays = |group: &&VfGroup| {
        group.resource_name != own.resource_name && !overlap(group.vf_range, own.vf_range)
    };
    let kept: Vec<VfGroup> = old.vf_groups.iter().filter(stays).cloned().collect();
    // A PF that is offered as a whole has no VFs, whatever weaker policies ask for.
    let whole = own.vf_range.is_none();
    if !whole && (equal_priority || !kept.is_empty()) {
        new.mtu = new.mtu.max(old.mtu);
        new.num_vfs = new.num_vfs.max(old.num_vfs);
    }
    // One person's word is enough for the card that both share.
    new.allow_lifeline |= old.allow_lifeline && !kept.is_empty();
    new.vf_groups.extend(kept);
}

/// A PF that is offered as a whole (no range) leaves no room for VFs.
fn overlap(one: Option<VfRange>, other: Option<VfRange>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.overlaps(&other),
        _ => true,
    }
}
