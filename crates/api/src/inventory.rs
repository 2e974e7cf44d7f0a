//! What the daemon observed on a node: facts in kernel terms, the input of `planner::order`.

use crate::custody::Holder;
use crate::lifeline::Lifeline;
use crate::nodestate::RebootRecord;
use crate::pci::PciAddress;
use crate::primitives::{EswitchMode, LinkType, RdmaMode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Inventory {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    pub rdma: RdmaSubsystem,
    /// In order of PCI address.
    pub physical_functions: Vec<PhysicalFunction>,
    /// Devices that pods hold: PodResources, CNI journal and young claims, joined.
    pub holders: Vec<Holder>,
    /// The reboot ledger on the host.
    pub reboots: Vec<RebootRecord>,
    /// The mode that the node had when we first saw it, as saved on the host.
    pub initial_rdma_mode: Option<RdmaMode>,
    /// What the firmware says of SR-IOV, for PFs that show fewer VFs than they are asked for.
    pub firmware: BTreeMap<PciAddress, FirmwareFacts>,
    /// Kernel lockdown keeps programs from the cards' firmware.
    pub locked_down: bool,
    /// PFs that we configured before (the PF store): ours to reset when no policy asks for them.
    pub configured: Vec<PciAddress>,
    /// PFs and VFs over which the host itself has a connection that it needs.
    pub lifelines: BTreeMap<PciAddress, Vec<Lifeline>>,
    /// PFs whose policy had `allowLifeline` when we configured them (the PF store).
    pub lifelines_allowed: BTreeSet<PciAddress>,
    /// PFs of the PF store whose VFs are not ours to take away: their policy said `externallyManaged`, or the mark of it
    /// cannot be understood.
    pub external: BTreeSet<PciAddress>,
    /// Legs of an active RoCE LAG, each with the bond that it is in.
    pub roce_lags: BTreeMap<PciAddress, String>,
    /// The host's file of static GUIDs (`files::GUIDS`), as it stands there.
    pub static_guids: Option<String>,
    /// Changes past their deadline that the kernel is still at.
    pub unfinished: Vec<Unfinished>,
    /// Device nodes of vhost-net that are not there: `/dev/vhost-net`, `/dev/net/tun`.
    pub vhost_missing: Vec<String>,
}

/// A change that the kernel has not finished by its deadline. It cannot be stopped; nothing else is changed on its card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfinished {
    /// Function 0 of the card; None for a change of interfaces or of the RDMA subsystem.
    pub card: Option<PciAddress>,
    /// As in a refusal: `write 0 to /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs`.
    pub tried: String,
    pub since: Timestamp,
}

/// The RDMA subsystem as RDMA netlink and the host's files show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RdmaSubsystem {
    /// The effective mode (RDMA_NLDEV_CMD_SYS_GET). None: the subsystem is not loaded.
    pub mode: Option<RdmaMode>,
    /// `ib_core.netns_mode` on the kernel command line of this boot.
    pub kernel_argument: Option<RdmaMode>,
    /// The same in a file that the next boot's command line is made of and that is nobody's of ours, with its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_argument_elsewhere: Option<(RdmaMode, String)>,
    /// What `options ib_core netns_mode` in our modprobe.d file says; in the driver container's, where there is one.
    pub modprobe_option: Option<RdmaMode>,
    /// Network namespaces besides the host's; a live switch needs 0 (kernel: `rdma_compatdev_set` answers EBUSY).
    pub other_namespaces: u32,
    /// Levers for the kernel command line that this operating system has, by the tool's name: `grubby`.
    pub kernel_argument_tool: Option<String>,
    /// True when the root file system lets us write the file that counts, and keeps it over a reboot.
    pub modprobe_writable: bool,
    /// `ID` of the host's os-release, by which the system's own configuration is known; empty where it says none.
    pub operating_system: String,
    /// `ib_core` comes from a driver container, which reads one file of the host's `modprobe.d`.
    pub driver_container: bool,
    /// The boot phase that sets the mode before any other network namespace exists is installed on the host.
    pub boot_unit: bool,
    /// What a reload of the modules would meet; looked at only where one may be wanted.
    pub reload: Option<ReloadFacts>,
    /// A reload has unloaded modules and they could not be loaded again: what is missing comes with a boot only.
    pub half_loaded: bool,
    /// Upstream's `modprobe.d` file was there when we first saw the host: arguments on its command line are upstream's.
    pub managed_before: bool,
}

/// What could be learnt of the modules and users of the RDMA subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReloadFacts {
    Known(RdmaModules),
    /// It could not be seen; the sentence says why.
    Unreadable(String),
}

/// What stands on `ib_core`, and who uses its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RdmaModules {
    /// `ib_core` and all that need it, directly or not (`/sys/module/*/holders`), in the order in which they can be removed.
    /// Empty where `ib_core` is part of the kernel itself.
    pub stack: Vec<RdmaModule>,
    /// Modules that have resources on devices, by name, each with the devices (RDMA netlink).
    pub kernel_users: BTreeMap<String, Vec<String>>,
    /// RDMA devices that the host's namespace sees.
    pub devices: Vec<String>,
    /// Names of the IPoIB interfaces that have an address.
    pub addressed_ipoib: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RdmaModule {
    pub name: String,
    /// `/sys/module/<name>/taint` has an O.
    pub out_of_tree: bool,
}

/// What could be learnt from the firmware of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FirmwareFacts {
    Known(FirmwareSriov),
    /// The driver lists no parameters, and the host has no `mstconfig`.
    ToolMissing,
    /// It was asked and did not answer; the sentence says why.
    Unreadable(String),
}

/// SR-IOV in the firmware of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirmwareSriov {
    pub source: FirmwareSource,
    pub enabled: Setting<bool>,
    pub vfs: Setting<u32>,
    /// A BlueField whose own processor owns the ports: the host must not set this.
    pub dpu_mode: bool,
}

/// Who tells and sets the firmware's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FirmwareSource {
    /// The driver's permanent parameters.
    Devlink,
    /// NVIDIA's program.
    Mstconfig,
}

/// A value of this boot, and that of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting<T> {
    pub current: T,
    pub next: T,
}

/// One physical function: a PCI network function with the SR-IOV capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhysicalFunction {
    pub pci: PciAddress,
    /// Name of the netdev; empty when there is none.
    pub name: String,
    pub alt_names: Vec<String>,
    pub mac: String,
    /// Lower-case hex without 0x.
    pub vendor: String,
    pub device: String,
    pub driver: Option<String>,
    pub mtu: u32,
    /// IFF_UP.
    pub admin_up: bool,
    /// Mbit/s where the link is up.
    pub speed: Option<u32>,
    pub link_type: Option<LinkType>,
    pub eswitch: EswitchMode,
    /// `sriov_totalvfs`; None when the function has no SR-IOV capability or firmware has it off.
    pub total_vfs: Option<u32>,
    /// `sriov_vf_device`, lower-case hex.
    pub vf_device: Option<String>,
    /// None where the platform tells none (the kernel's -1).
    pub numa_node: Option<u32>,
    /// The way through the machine, from the root complex on: `pci0000:3a/0000:3a:00.0/0000:3b:00.0`.
    #[serde(default)]
    pub pci_path: String,
    #[serde(default)]
    pub iommu_group: Option<u32>,
    /// Name of the PF's own RDMA device.
    pub rdma_device: Option<String>,
    /// Node GUID of that device, as sysfs writes it.
    #[serde(default)]
    pub node_guid: Option<String>,
    /// State of its first port: `ACTIVE`.
    #[serde(default)]
    pub port_state: Option<String>,
    /// What devlink says of SR-IOV in the firmware; None where the driver lists no such parameters.
    #[serde(default)]
    pub firmware: Option<FirmwareSriov>,
    pub net_filter: String,
    /// What of it the kernel did not tell, other than that it is not there. Nothing is planned on half of the facts.
    #[serde(default)]
    pub unreadable: Option<String>,
    /// In order of index.
    pub vfs: Vec<VirtualFunction>,
}

/// One virtual function, also while its netdev is inside a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualFunction {
    pub pci: PciAddress,
    pub index: u32,
    pub driver: Option<String>,
    /// Name of the netdev in the host's namespace; None while a pod has it or a driver without netdev is bound.
    pub name: Option<String>,
    /// MAC of the netdev where it is visible.
    pub mac: Option<String>,
    /// MAC that the PF holds for the VF (IFLA_VF_MAC); None for all zeros.
    pub admin_mac: Option<String>,
    pub mtu: Option<u32>,
    /// MAC that the driver was given when it started (IFLA_PERM_ADDRESS); None where it made one up.
    #[serde(default)]
    pub permanent_mac: Option<String>,
    /// VLAN that the PF holds for the VF; 0 is none.
    #[serde(default)]
    pub vlan: u16,
    pub device: String,
    /// RDMA device where the host's namespace sees one.
    pub rdma_device: Option<String>,
    /// The same while a pod has it, for people.
    #[serde(default)]
    pub rdma_device_anywhere: Option<String>,
    /// Node GUID of that device: `0000:0000:0000:0000` is none.
    pub guid: Option<String>,
    /// Node GUID that the PF holds for the VF (IFLA_VF_IB_NODE_GUID); None for zeros.
    #[serde(default)]
    pub admin_guid: Option<String>,
    pub representor: Option<String>,
    #[serde(default)]
    pub iommu_group: Option<u32>,
    pub vdpa: Option<String>,
    /// What the journal says while a pod has its interface, for people.
    #[serde(default)]
    pub in_pod: Option<InPod>,
}

/// A VF in a pod as the CNI journal tells of it. What it does not tell is None.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InPod {
    /// Name of the netdev at home, which it will have again.
    pub name: Option<String>,
    pub mac: Option<String>,
    pub mtu: Option<u32>,
    /// As `VirtualFunction::guid`.
    pub guid: Option<String>,
}
