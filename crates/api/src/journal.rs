//! The CNI journal: who has a device, and what the device was like before. One file per device, written before
//! the first change and removed after the device has been seen at home.

use crate::pci::PciAddress;
use crate::primitives::RdmaMode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of records that this build writes; a newer one is not acted on.
pub const VERSION: u32 = 1;

/// A reload of the RDMA modules that has begun and not ended (`files::RELOAD`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reload {
    pub version: u32,
    /// The mode to load `ib_core` with, should it be gone.
    pub mode: RdmaMode,
    /// In the order of removal, `ib_core` last.
    pub modules: Vec<String>,
}

/// One device in the hands of one pod, or on its way there or back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub version: u32,
    pub boot_id: String,
    /// The PCI address, or the name on the auxiliary bus (`mlx5_core.sf.4`).
    pub device: String,
    pub owner: Owner,
    pub since: Timestamp,
    /// What the plugins `sriov` and `ib-sriov` change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vf: Option<VfCustody>,
    /// What the plugin `rdma`, or `rdmaIsolation`, changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdma: Option<RdmaCustody>,
}

/// The attachment that a device was given to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    /// `CNI_CONTAINERID`: the sandbox.
    pub container: String,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// Name of the network in the CNI configuration.
    pub network: String,
    /// `CNI_NETNS`, and what the path led to then: a path is used again, an inode of a living namespace is not.
    pub namespace: String,
    pub namespace_device: u64,
    pub namespace_inode: u64,
    /// From `CNI_ARGS`, where the runtime says it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod_namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
}

/// A VF before us, and what its configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VfCustody {
    pub pf: PciAddress,
    pub index: u32,
    pub before: VfProfile,
    pub wanted: VfProfile,
    /// The netdev; none while a driver without one (`vfio-pci`) is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkBefore>,
}

/// The settings of a VF as its PF holds them. None: the driver does not tell, or nobody asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VfProfile {
    /// Six bytes as `aa:bb:cc:dd:ee:ff`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanTag>,
    /// Mbit/s; 0 is no limit. Set together, because the kernel sets both at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spoof_check: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_state: Option<LinkState>,
    /// Eight bytes as `00:11:22:33:44:55:66:77`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanTag {
    /// 0 is none.
    pub id: u16,
    pub qos: u8,
    /// 0x8100 or 0x88a8.
    pub protocol: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub min: u32,
    pub max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    Auto,
    Enable,
    Disable,
}

/// A netdev in the host's namespace before it moved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkBefore {
    pub name: String,
    /// Hardware address as hex with colons; 20 bytes on IPoIB.
    pub address: String,
    pub mtu: u32,
    pub up: bool,
    /// None in records of earlier builds: then nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt_names: Option<Vec<String>>,
}

/// An RDMA device before it moved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RdmaCustody {
    pub name: String,
    /// Names change, also inside the pod; the index stays while the device exists.
    pub index: u32,
}
