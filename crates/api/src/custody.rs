//! Custody of devices: the two files between daemon and device plugin, and who holds what.
//!
//! Rules in design.md, section 4. Both files live in `/run/ironrail` (tmpfs) and have one writer each.

use crate::journal::VfProfile;
use crate::pci::PciAddress;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of offer and claims that this build writes; a newer one is not acted on.
pub const VERSION: u32 = 1;

/// `offer.json`: what the daemon offers to the kubelet through the device plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    pub version: u32,
    pub boot_id: String,
    pub sequence: u64,
    /// The container runtime has no CDI: device nodes are given by path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_path: bool,
    /// By full resource name: `openshift.io/rdma_exclusive_device`.
    pub resources: BTreeMap<String, OfferedResource>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferedResource {
    pub devices: Vec<OfferedDevice>,
    /// Adds RDMA character devices of the VF.
    pub rdma: bool,
    /// Leaves `umad` and `issm` out of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclude_umad: bool,
    /// Adds /dev/vhost-net and /dev/net/tun.
    pub vhost_net: bool,
    /// No NUMA hint for the kubelet.
    pub exclude_topology: bool,
    /// The VFs of a container lie on as many PFs as there are, not on as few.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spread_rails: bool,
}

/// One device that a pod may be given. Its id for the kubelet is its PCI address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferedDevice {
    pub pci: PciAddress,
    pub state: OfferState,
    pub numa_node: Option<u32>,
    /// The PF; the device itself when a whole PF is offered.
    pub parent: PciAddress,
    /// Which VF of the PF it is; none for a whole PF, and in offers of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vf: Option<u32>,
    /// Driver of the device, to tell netdevice from `vfio-pci`.
    pub driver: Option<String>,
    /// RDMA device of the VF at the time of the offer.
    pub rdma_device: Option<String>,
    /// The settings that it has while nobody uses it; none where they are not ours, and in offers of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<VfProfile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is", try_from = "WrittenState")]
pub enum OfferState {
    /// Healthy for the kubelet.
    Ready,
    /// It was offered in an earlier boot and was not found right in this one yet; Unhealthy for the kubelet.
    Unverified { because: String },
    /// Ours to change now; Unhealthy for the kubelet.
    Withdrawn { because: String },
    /// Not usable; Unhealthy for the kubelet.
    Broken { because: String },
}

/// The same as it is written: serde's way of reading an enum by a tag costs the CNI binary more than all the rest of an
/// offer.
#[derive(Deserialize)]
struct WrittenState {
    is: String,
    #[serde(default)]
    because: Option<String>,
}

impl TryFrom<WrittenState> for OfferState {
    type Error = String;

    fn try_from(written: WrittenState) -> Result<Self, String> {
        let WrittenState { is, because } = written;
        match (is.as_str(), because) {
            ("ready", _) => Ok(Self::Ready),
            ("unverified", Some(because)) => Ok(Self::Unverified { because }),
            ("withdrawn", Some(because)) => Ok(Self::Withdrawn { because }),
            ("broken", Some(because)) => Ok(Self::Broken { because }),
            ("unverified" | "withdrawn" | "broken", None) => {
                Err(format!("a device is {is:?} and does not say because of what"))
            }
            _ => Err(format!("a device is {is:?}, which is no state of an offer")),
        }
    }
}

/// `claims.json`: what the device plugin acted on and gave away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    pub version: u32,
    pub boot_id: String,
    /// The last offer that was acted on: the acknowledgement.
    pub sequence: u64,
    pub claims: BTreeMap<PciAddress, Claim>,
}

/// One device given by Allocate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    pub resource: String,
    pub at: Timestamp,
    /// Device nodes that were given by path and that a move of the RDMA device may call otherwise. The kubelet hands them
    /// to the runtime for as long as the pod lives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
}

/// A pod of a node whose containers have ended for good. The operator names it to the daemon of a node that is to be
/// drained: a kubelet before 1.34 lists its devices in PodResources on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedPod {
    pub namespace: String,
    pub pod: String,
    /// By the clock of the node, in whole seconds.
    pub finished_at: Timestamp,
}

/// A pod that holds a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Holder {
    /// The device's id: a PCI address.
    pub device: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Empty for a claim that PodResources does not know yet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Holder {
    /// The pod as a sentence names it: `default/train-0`, or `with uid …`. None while nobody knows whose the device is.
    pub fn pod_in_words(&self) -> Option<String> {
        match (self.pod.is_empty(), self.uid.is_empty()) {
            (true, true) => None,
            (true, false) => Some(format!("with uid {}", self.uid)),
            (false, _) => Some(format!("{}/{}", self.namespace, self.pod)),
        }
    }
}
