//! The state of one simulated computer, as plain data.

use super::Fault;
use super::build::Flavour;
use super::network::{HostNetwork, Sessions};
use api::{EswitchMode, PciAddress, RdmaMode, Timestamp};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Inode of the network namespace of process 1 (include/linux/proc_ns.h counts down from 0xF0000000; any fixed
/// number does).
pub const HOST_NAMESPACE: u64 = 4_026_531_840;

/// One computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Host name.
    pub name: String,
    pub flavour: Flavour,
    pub clock: Timestamp,
    /// Time since the boot, which goes on whoever sets the clock.
    #[serde(default)]
    pub uptime: Duration,
    /// How often it was booted; 1 after the first power-on.
    pub boots: u32,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// A reboot that a program asked for; whoever drives the machine carries it out with `boot`.
    pub reboot_requested: Option<RebootRequest>,
    /// `/proc/cmdline` of this boot, word by word.
    pub kernel_arguments: Vec<String>,
    /// What the boot loader holds for the next boot.
    pub next_kernel_arguments: Vec<String>,
    pub modules: BTreeSet<String>,
    /// Ordinary files by absolute path, symbolic links resolved.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Directories that were made, besides those that a file implies.
    pub directories: BTreeSet<String>,
    /// systemd units that run.
    pub units: BTreeSet<String>,
    pub functions: BTreeMap<PciAddress, Function>,
    /// Drivers of vDPA devices, by the VF that each was made on.
    #[serde(default)]
    pub vdpa: BTreeMap<PciAddress, String>,
    /// Network namespaces by inode, the host's included.
    pub namespaces: BTreeMap<u64, NetNamespace>,
    /// Namespaces that a path holds (bind mounts): `/run/netns/cni-…`.
    pub namespace_paths: BTreeMap<String, u64>,
    pub processes: BTreeMap<u32, Process>,
    /// Network interfaces by an identity that never changes; the index is the namespace's.
    pub links: BTreeMap<u64, NetDevice>,
    /// What the distribution brings up at each boot.
    pub network: Option<HostNetwork>,
    pub sessions: Sessions,
    pub rdma: RdmaSubsystem,
    /// What the kernel will do later.
    pub pending: Vec<Pending>,
    /// Linux 6.2 and later: an interface that is up takes another name (net/core/dev.c, dev_change_name). Before, it was
    /// refused, as machines are by default here: what works there works on both.
    #[serde(default)]
    pub renames_while_up: bool,
    /// Before Linux 5.14: rtnetlink does not tell the device below an interface (IFLA_PARENT_DEV_NAME).
    #[serde(default)]
    pub hides_parents: bool,
    pub faults: BTreeSet<Fault>,
    /// Files that a card in trouble answers otherwise, by path; `devlink 0000:03:00.0` is its devlink.
    #[serde(default)]
    pub broken: BTreeMap<String, Broken>,
    /// Source of identities: links, namespaces, processes.
    pub serial: u64,
}

/// What a card in trouble answers. Belief: drivers pass on what their firmware says, and that may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Broken {
    /// An errno.
    Refuses(i32),
    Says(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebootRequest {
    pub at: Timestamp,
    /// The command as it was given.
    pub command: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub name: String,
    pub namespace: u64,
    /// Of cgroup v2, from its root on.
    pub cgroup: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub at: Timestamp,
    pub event: PendingEvent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PendingEvent {
    /// VFs of this PF come to the bus.
    VfsAppear { physical: PciAddress },
    /// The interface of this function is registered.
    InterfaceAppears { function: PciAddress },
    /// The VFs of this PF go at last. Whoever asked for it gave up waiting, at `since` plus the seam's deadline.
    VfsGo { physical: PciAddress, since: Timestamp },
    /// The unit of a reboot that did not come starts the kubelet again.
    KubeletStarts,
}

/// One PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Lower-case hex without 0x, as in `/sys`.
    pub vendor: String,
    pub device: String,
    /// 24 bits: 0x020000 is Ethernet.
    pub class: u32,
    pub driver: Option<String>,
    pub driver_override: Option<String>,
    /// -1 where the platform tells none.
    pub numa_node: i32,
    pub iommu_group: Option<u32>,
    /// The root complex in `/sys/devices`: `pci0000:00`.
    pub root: String,
    /// Bridges between the root and the function.
    pub bridges: Vec<PciAddress>,
    pub kind: FunctionKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionKind {
    /// A function with the SR-IOV capability.
    Physical(Box<PhysicalPart>),
    Virtual(VirtualPart),
    /// A network function without SR-IOV, with its MAC.
    Plain {
        mac: [u8; 6],
    },
    Bridge,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhysicalPart {
    pub mac: [u8; 6],
    /// GUID of the port, of the node where it has RDMA.
    pub guid: u64,
    /// The link layer is InfiniBand.
    pub infiniband: bool,
    /// Number of the port on the card, for `phys_port_name`.
    pub port: u32,
    /// `sriov_totalvfs`.
    pub total_vfs: u32,
    pub num_vfs: u32,
    pub vf_device: String,
    /// Routing id of the first VF after ours, and the step to the next.
    pub offset: u16,
    pub stride: u16,
    /// `sriov_drivers_autoprobe`.
    pub autoprobe: bool,
    pub eswitch: EswitchMode,
    /// Mbit/s.
    pub speed: u32,
    /// What the PF holds for each VF; forgotten when the VFs go.
    pub vfs: BTreeMap<u32, VfState>,
    pub firmware: Option<Firmware>,
    /// devlink parameters by name and mode.
    pub parameters: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualPart {
    pub physical: PciAddress,
    pub index: u32,
    /// The MAC that the driver made up at the last probe.
    pub random_mac: [u8; 6],
    /// How often a driver was bound.
    pub probes: u32,
}

/// Values of the card's firmware, of this boot and of the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firmware {
    pub current: BTreeMap<String, String>,
    pub next: BTreeMap<String, String>,
    /// A boot brings the old values again, until the power was off (belief; told of cards in the field).
    pub ignores_writes: bool,
}

/// A VF as its PF holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfState {
    pub mac: [u8; 6],
    pub vlan: u16,
    pub qos: u8,
    pub protocol: u16,
    pub spoof_check: bool,
    pub trust: bool,
    /// 0 auto, 1 enable, 2 disable: the kernel's numbers.
    pub link_state: u32,
    pub min_tx_rate: u32,
    pub max_tx_rate: u32,
    pub node_guid: u64,
    pub port_guid: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetNamespace {
    pub routes: Vec<RouteState>,
    /// Values written below `/proc/sys/net`, by path from there: `ipv4/conf/net1/arp_notify`.
    pub sysctls: BTreeMap<String, String>,
    /// The last interface index given.
    pub last_index: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteState {
    pub destination: (IpAddr, u8),
    pub gateway: Option<IpAddr>,
    pub link: Option<u32>,
    pub table: u32,
    pub priority: Option<u32>,
    pub scope: Option<u8>,
    pub mtu: Option<u32>,
    pub advmss: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetDevice {
    pub namespace: u64,
    pub index: u32,
    pub name: String,
    pub alt_names: Vec<String>,
    pub address: Vec<u8>,
    /// Address that the driver was given at its probe; None where it made one up.
    #[serde(default)]
    pub permanent: Option<Vec<u8>>,
    pub mtu: u32,
    pub up: bool,
    /// Set for the interface, not for a socket; kept when it moves (net/core/dev.c: `gflags`, which
    /// __dev_change_net_namespace does not touch).
    #[serde(default)]
    pub promiscuous: bool,
    #[serde(default)]
    pub all_multicast: bool,
    /// There is a cable.
    pub carrier: bool,
    /// ARPHRD_*.
    pub hardware: u16,
    pub parent: Option<PciAddress>,
    /// `veth`, `bridge`, …; None for hardware.
    pub kind: Option<String>,
    /// Identity of the bond, bridge or VRF above it.
    pub master: Option<u64>,
    /// Identity of the interface below it.
    pub lower: Option<u64>,
    /// Index of the VF that this interface stands for on its PF (switchdev).
    pub represents: Option<u32>,
    pub addresses: Vec<(IpAddr, u8)>,
    pub frames_sent: u64,
    /// How often the carrier went or came.
    pub carrier_changes: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaSubsystem {
    /// The effective mode; None while ib_core is not loaded.
    pub mode: Option<RdmaMode>,
    /// By index, which is stable and unique in the whole system.
    pub devices: BTreeMap<u32, RdmaDev>,
    pub last_index: u32,
    /// Linux 7.3 and later: a name is unique in its namespace alone, and a move under a taken name is refused. Before, it
    /// was unique in the whole system (drivers/infiniband/core/device.c, rdma_dev_pick_netns_name; seen in the lab).
    #[serde(default)]
    pub names_by_namespace: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaDev {
    pub name: String,
    pub parent: PciAddress,
    /// Name of the subfunction of `parent` that it belongs to; None where it is the function's own.
    #[serde(default)]
    pub auxiliary: Option<String>,
    pub namespace: u64,
    pub node_guid: u64,
    pub system_image_guid: u64,
    pub infiniband: bool,
    /// Numbers of its character devices.
    pub uverbs: u32,
    pub umad: u32,
    /// `ports/1/counters`.
    pub counters: BTreeMap<String, u64>,
    /// `ports/1/hw_counters`.
    pub hw_counters: BTreeMap<String, u64>,
}

impl Machine {
    /// What is said in the place of the kernel's answer.
    pub(super) fn instead(&self, asked: &str) -> Option<Result<Vec<u8>, Errno>> {
        Some(match self.broken.get(asked)? {
            Broken::Refuses(errno) => Err(Errno::from_raw_os_error(*errno)),
            Broken::Says(text) => Ok(text.clone().into_bytes()),
        })
    }

    /// A fresh identity.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    pub(super) fn physical(&self, pci: &PciAddress) -> Option<&PhysicalPart> {
        match &self.functions.get(pci)?.kind {
            FunctionKind::Physical(part) => Some(part),
            _ => None,
        }
    }

    pub(super) fn physical_mut(&mut self, pci: &PciAddress) -> Option<&mut PhysicalPart> {
        match &mut self.functions.get_mut(pci)?.kind {
            FunctionKind::Physical(part) => Some(part),
            _ => None,
        }
    }

    pub(super) fn virtual_part(&self, pci: &PciAddress) -> Option<&VirtualPart> {
        match &self.functions.get(pci)?.kind {
            FunctionKind::Virtual(part) => Some(part),
            _ => None,
        }
    }

    /// VFs of a PF in order of index.
    pub fn vfs_of(&self, physical: &PciAddress) -> Vec<PciAddress> {
        let mut vfs: Vec<(u32, PciAddress)> = self
            .functions
            .iter()
            .filter_map(|(pci, function)| match &function.kind {
                FunctionKind::Virtual(part) if part.physical == *physical => {
                    Some((part.index, *pci))
                }
                _ => None,
            })
            .collect();
        vfs.sort();
        vfs.into_iter().map(|(_, pci)| pci).collect()
    }

    /// The interface of a PCI function, in whatever namespace it is; representors do not count.
    pub fn netdev_of(&self, pci: &PciAddress) -> Option<&NetDevice> {
        self.links.values().find(|link| link.parent == Some(*pci) && link.represents.is_none())
    }

    /// The RDMA device of a PCI function, in whatever namespace it is.
    pub fn rdma_of(&self, pci: &PciAddress) -> Option<(u32, &RdmaDev)> {
        self.rdma
            .devices
            .iter()
            .find(|(_, dev)| dev.parent == *pci && dev.auxiliary.is_none())
            .map(|(index, dev)| (*index, dev))
    }

    /// The function with this address and those around it: its root complex and bridges, as one path in `/sys/devices`.
    pub(super) fn device_path(&self, pci: &PciAddress) -> Option<String> {
        let function = self.functions.get(pci)?;
        let mut path = format!("/sys/devices/{}", function.root);
        for bridge in &function.bridges {
            path.push_str(&format!("/{bridge}"));
        }
        path.push_str(&format!("/{pci}"));
        Some(path)
    }
}

impl Default for VfState {
    fn default() -> Self {
        Self {
            mac: [0; 6],
            vlan: 0,
            qos: 0,
            protocol: 0x8100,
            spoof_check: false,
            trust: false,
            link_state: 0,
            min_tx_rate: 0,
            max_tx_rate: 0,
            node_guid: 0,
            port_guid: 0,
        }
    }
}
