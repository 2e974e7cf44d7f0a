//! What is wanted of one node, typed: a node state's spec parsed once, at the edge.
//!
//! An entry that cannot be understood becomes a `Problem`, and its PF is left exactly as it is. How policies become
//! a node state's spec is `merge`'s matter; what must be done about it is `order`'s.

use crate::reason::{Problem, Reason};
use api::nodestate::{Interface, NodeStateSpec, VfGroup};
use api::{DeviceType, EswitchMode, LinkType, PciAddress, RdmaMode, VfRange};
use std::collections::BTreeSet;

/// One node's goal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// `None`: no pool asks for a mode; the node goes back to the one it had.
    pub rdma_mode: Option<RdmaMode>,
    /// In the order of the node state.
    pub functions: Vec<DesiredFunction>,
    /// PFs whose entry could not be understood: neither configured nor reset.
    pub untouchable: BTreeSet<PciAddress>,
    pub problems: Vec<Problem>,
}

/// What is wanted of one PF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredFunction {
    pub pci: PciAddress,
    /// The netdev's name when the operator looked; for messages only.
    pub name: String,
    /// 0: the PF itself is offered.
    pub num_vfs: u32,
    /// Bytes; a floor for the PF.
    pub mtu: Option<u32>,
    pub link_type: Option<LinkType>,
    pub eswitch: EswitchMode,
    /// Somebody else makes the VFs; we only bind and offer them.
    pub externally_managed: bool,
    /// A policy allows to cut what the host itself has over the PF.
    pub allow_lifeline: bool,
    pub groups: Vec<Group>,
    /// The entry as it stands in the node state, for upstream's PF store.
    pub interface: Interface,
}

/// VFs of one PF that serve one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Without the prefix: `rdma_exclusive_device`.
    pub resource: String,
    pub policy: String,
    pub device_type: DeviceType,
    /// `None`: the PF itself.
    pub range: Option<VfRange>,
    /// Bytes, for each VF.
    pub mtu: Option<u32>,
    pub rdma: bool,
    pub vdpa: Option<VdpaType>,
    pub vhost_net: bool,
    pub exclude_topology: bool,
    pub exclude_umad: bool,
    pub spread_rails: bool,
}

/// The bus driver of a vDPA device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VdpaType {
    Virtio,
    Vhost,
}

impl DesiredFunction {
    /// The group that VF `index` belongs to: the first whose range holds it, as upstream.
    pub fn group_of(&self, index: u32) -> Option<&Group> {
        self.groups.iter().find(|group| group.range.is_some_and(|range| range.contains(index)))
    }

    /// The group that offers the PF itself, if one does.
    pub fn whole(&self) -> Option<&Group> {
        self.groups.iter().find(|group| group.range.is_none())
    }
}

impl Desired {
    /// Parses a node state's spec. Never fails: what is wrong is in `problems`.
    pub fn parse(spec: &NodeStateSpec) -> Self {
        let mut desired = Self { rdma_mode: spec.system.rdma_mode, ..Self::default() };
        for interface in &spec.interfaces {
            match function(interface) {
                Ok(function) => desired.functions.push(function),
                Err(message) => {
                    desired.untouchable.insert(interface.pci_address);
                    let object = format!("interface {}", interface.pci_address);
                    desired.problems.push(Problem::new(Reason::InvalidNodeState, &object, message));
                }
            }
        }
        for bridge in &spec.bridges.ovs {
            let object = format!("bridge {}", bridge.name);
            desired.problems.push(Problem::new(
                Reason::Unsupported,
                &object,
                "managed OVS bridges are not made by this version; take bridge out of the policy",
            ));
        }
        desired
    }
}

fn function(interface: &Interface) -> Result<DesiredFunction, String> {
    let groups = interface.vf_groups.iter().map(group).collect::<Result<Vec<_>, _>>()?;
    Ok(DesiredFunction {
        pci: interface.pci_address,
        name: interface.name.clone(),
        num_vfs: count("numVfs", interface.num_vfs)?,
        mtu: mtu(interface.mtu)?,
        link_type: link_type(&interface.link_type)?,
        eswitch: eswitch_mode(&interface.eswitch_mode)?,
        externally_managed: interface.externally_managed,
        allow_lifeline: interface.allow_lifeline,
        groups,
        interface: interface.clone(),
    })
}

fn group(group: &VfGroup) -> Result<Group, String> {
    Ok(Group {
        resource: group.resource_name.clone(),
        policy: group.policy_name.clone(),
        device_type: device_type(&group.device_type)?,
        range: group.vf_range,
        mtu: mtu(group.mtu)?,
        rdma: group.is_rdma,
        vdpa: vdpa_type(&group.vdpa_type)?,
        vhost_net: group.need_vhost_net,
        exclude_topology: group.exclude_topology,
        exclude_umad: group.exclude_umad,
        spread_rails: group.spread_rails,
    })
}

/// `numVfs` and the like: not negative, and within what the kernel counts with.
pub(crate) fn count(field: &str, value: i64) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("{field} {value} is not a count; write 0 or more"))
}

/// An MTU in bytes; 0 means that none is asked for. The kernel's own bounds are 68 and 65535.
pub(crate) fn mtu(value: i64) -> Result<Option<u32>, String> {
    match value {
        0 => Ok(None),
        68..=65535 => Ok(u32::try_from(value).ok()),
        _ => Err(format!("mtu {value} is out of range; write 68 to 65535")),
    }
}

/// `netdevice` or `vfio-pci`; empty is `netdevice`, the API's default.
pub(crate) fn device_type(text: &str) -> Result<DeviceType, String> {
    match text {
        "" | "netdevice" => Ok(DeviceType::Netdevice),
        "vfio-pci" => Ok(DeviceType::VfioPci),
        other => Err(format!("deviceType {other:?} is unknown; write netdevice or vfio-pci")),
    }
}

/// `eth` or `ib` in either case; empty asks for none.
pub(crate) fn link_type(text: &str) -> Result<Option<LinkType>, String> {
    match text {
        "" => Ok(None),
        "eth" | "ETH" => Ok(Some(LinkType::Ethernet)),
        "ib" | "IB" => Ok(Some(LinkType::Infiniband)),
        other => Err(format!("linkType {other:?} is unknown; write eth or ib")),
    }
}

/// `legacy` or `switchdev`; empty is legacy, as upstream.
pub(crate) fn eswitch_mode(text: &str) -> Result<EswitchMode, String> {
    match text {
        "" | "legacy" => Ok(EswitchMode::Legacy),
        "switchdev" => Ok(EswitchMode::Switchdev),
        other => Err(format!("eSwitchMode {other:?} is unknown; write legacy or switchdev")),
    }
}

/// `virtio` or `vhost`; empty asks for no vDPA device.
pub(crate) fn vdpa_type(text: &str) -> Result<Option<VdpaType>, String> {
    match text {
        "" => Ok(None),
        "virtio" => Ok(Some(VdpaType::Virtio)),
        "vhost" => Ok(Some(VdpaType::Vhost)),
        other => Err(format!("vdpaType {other:?} is unknown; write virtio or vhost")),
    }
}
