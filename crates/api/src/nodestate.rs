//! SriovNetworkNodeState: the one channel between operator (spec) and node daemon (status).

use crate::condition::Condition;
use crate::crd::{Object, is_false, is_zero};
use crate::custody::Holder;
use crate::lifeline::Lifeline;
use crate::pci::PciAddress;
use crate::policy::{OvsBridge, OvsInterface};
use crate::primitives::{RdmaMode, VfRange};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub type SriovNetworkNodeState = Object<NodeStateSpec, NodeStateStatus>;

/// Holders listed in a status, which has a bounded size; a node with more VFs in use has more.
pub const HOLDERS_LISTED: usize = 256;

/// What the operator wants of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStateSpec {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    pub bridges: Bridges,
    pub system: System,
}

/// What is wanted of one PF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    pub pci_address: PciAddress,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_vfs: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link_type: String,
    #[serde(default, rename = "eSwitchMode", skip_serializing_if = "String::is_empty")]
    pub eswitch_mode: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vf_groups: Vec<VfGroup>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub externally_managed: bool,
    /// Ours: a policy of this PF has it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_lifeline: bool,
}

/// VFs of one PF that serve one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VfGroup {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device_type: String,
    /// Absent together with `numVfs: 0`: the PF itself is the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vf_range: Option<VfRange>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: i64,
    #[serde(skip_serializing_if = "is_false")]
    pub is_rdma: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vdpa_type: String,
    /// Ours: the device plugin adds /dev/vhost-net and /dev/net/tun.
    #[serde(skip_serializing_if = "is_false")]
    pub need_vhost_net: bool,
    /// Ours: the device plugin gives no NUMA hint.
    #[serde(skip_serializing_if = "is_false")]
    pub exclude_topology: bool,
    /// Ours: the device plugin leaves `umad` and `issm` out.
    #[serde(skip_serializing_if = "is_false")]
    pub exclude_umad: bool,
    /// Ours: the VFs of a container lie on as many PFs as there are.
    #[serde(skip_serializing_if = "is_false")]
    pub spread_rails: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bridges {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ovs: Vec<ManagedBridge>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManagedBridge {
    pub name: String,
    pub bridge: OvsBridge,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<Uplink>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uplink {
    pub pci_address: PciAddress,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default)]
    pub interface: OvsInterface,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct System {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma_mode: Option<RdmaMode>,
}

/// What the daemon sees and does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStateStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InterfaceStatus>,
    pub bridges: Bridges,
    pub system: System,
    /// `InProgress`, `Succeeded` or `Failed`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sync_status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_sync_error: String,
    // Below here: ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "is_zero")]
    pub observed_generation: i64,
    /// The kernel's `boot_id`; a new one is the proof of a reboot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// Who holds which device; at most 256 are listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// What the node waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<BlockerStatus>,
    /// The reboot ledger's mirror: reboots that were asked for, and what came of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reboots: Vec<RebootRecord>,
    /// While the node is drained: what has to become free, and whether anybody could still be given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainStatus>,
    /// The RDMA mode that the node had when we first saw it; restored when no pool asks for a mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_rdma_mode: Option<RdmaMode>,
    /// Whether kubelet and container runtime give devices by CDI name: `on` or `off`, and why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cdi: String,
    /// `installed`, or why the boot phases could not be; empty where nobody asked for them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub boot_phases: String,
    /// What the sweeper did with devices of pods that ended without a DEL; None while it had nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepStatus>,
}

/// The sweeper's counts, since the node state was made. The operator adds them up for its metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SweepStatus {
    /// Devices brought home.
    pub swept: u64,
    /// Attempts that did not bring a device home.
    pub failed: u64,
    /// Orphans that wait for their second look.
    pub suspects: u64,
    /// The last sweep could not ask the container runtime or the kubelet, and touched nothing.
    #[serde(skip_serializing_if = "is_false")]
    pub blind: bool,
}

/// What the daemon says to a drain that is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainStatus {
    /// The devices are withdrawn, the device plugin knows, and `Node.status.allocatable` shows it: no pod is given one any
    /// more, so that those who hold one can be sent away.
    #[serde(skip_serializing_if = "is_false")]
    pub fenced: bool,
    /// The devices that pods hold and that are in the way of a change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

/// One blocker as users read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockerStatus {
    pub reason: String,
    pub message: String,
}

/// The reason of a record in the ledger that is no reboot: the RDMA modules were reloaded.
pub const RDMA_RELOAD: &str = "RdmaReload";

/// The reason of a record that is no reboot either: the kernel refused to switch the RDMA mode at once.
pub const RDMA_SWITCH: &str = "RdmaSwitch";

/// One reboot that we asked for, or one reload of the RDMA modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RebootRecord {
    /// Why: `RdmaMode`, `Firmware`, or what is no reboot: `RdmaReload`, `RdmaSwitch`.
    pub reason: String,
    /// The goal that the reboot serves, as text: `exclusive`.
    pub goal: String,
    /// The boot in which the reboot was asked for.
    pub boot_id_before: String,
    /// How often it was asked for in that boot.
    pub attempt: u32,
    /// What was changed on the host so that the boot brings the goal.
    pub levers: Vec<String>,
    pub asked_at: Timestamp,
    /// The node's `ironrail.dev/retry-reboot` when it was asked for: a new value opens a closed goal again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub retry: String,
    pub outcome: RebootOutcome,
    /// What was changed for it on the host was taken back, or is needed no more: it makes nothing ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
}

/// What came of a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum RebootOutcome {
    Pending,
    /// No reboot was asked for, or it is wanted no more: its levers are still being pulled, or one was refused, or the
    /// wish is gone. A boot says nothing about it.
    Void,
    Helped,
    /// What the boot was to bring could not be prepared, so there was no reboot; `found` is the refusal.
    Refused {
        found: String,
    },
    DidNotHelp {
        expected: String,
        found: String,
    },
}

/// One PF as the daemon sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceStatus {
    pub pci_address: PciAddress,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vendor: String,
    #[serde(default, rename = "deviceID", skip_serializing_if = "String::is_empty")]
    pub device_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub net_filter: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_vfs: i64,
    /// `<n> Mb/s`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link_speed: String,
    /// `ETH`, `IB` or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link_type: String,
    /// `up`, `down` or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link_admin_state: String,
    #[serde(default, rename = "eSwitchMode", skip_serializing_if = "String::is_empty")]
    pub eswitch_mode: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub externally_managed: bool,
    #[serde(default, rename = "totalvfs", skip_serializing_if = "is_zero")]
    pub total_vfs: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alt_names: Vec<String>,
    /// Capital V, as upstream.
    #[serde(default, rename = "Vfs", skip_serializing_if = "Vec::is_empty")]
    pub vfs: Vec<VfStatus>,
    /// Ours: what the host itself has over the PF or one of its VFs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lifelines: Vec<Lifeline>,
    /// Ours: the bond, where the PF is a leg of an active RoCE LAG.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub roce_lag: String,
    /// Ours: where the function is in the machine, from the root complex on: `pci0000:3a/0000:3a:00.0/0000:3b:00.0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pci_path: String,
    /// Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<i64>,
    /// Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iommu_group: Option<i64>,
    /// Ours: name of the RDMA device, where the host's namespace sees one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rdma_device: String,
    /// Ours: node GUID of that device, as sysfs writes it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node_guid: String,
    /// Ours: state of its first port, as `rdma link` prints it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub port_state: String,
    /// Ours: SR-IOV in the card's firmware, where it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareStatus>,
}

/// SR-IOV in a card's firmware: as this boot has it, and as the next one will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirmwareStatus {
    pub sriov_enabled: bool,
    pub sriov_enabled_next: bool,
    pub total_vfs: i64,
    pub total_vfs_next: i64,
}

/// One VF as the daemon sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VfStatus {
    pub pci_address: PciAddress,
    #[serde(rename = "vfID")]
    pub vf_id: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Declared by upstream and never set by it; we name the pod that holds the VF: `namespace/name`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub assigned: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vendor: String,
    #[serde(default, rename = "deviceID", skip_serializing_if = "String::is_empty")]
    pub device_id: String,
    /// Capital V, as upstream, which never sets it.
    #[serde(default, rename = "Vlan", skip_serializing_if = "is_zero")]
    pub vlan: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vdpa_type: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub representor_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub guid: String,
    /// Ours: name of the RDMA device, where the host's namespace sees one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rdma_device: String,
    /// Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iommu_group: Option<i64>,
}
