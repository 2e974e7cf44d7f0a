//! SriovNetworkNodePolicy: which PFs of which nodes get how many VFs, and what those are for.
//!
//! Choices are text here, as users write them; `planner::policy` parses them or says what is wrong.

use crate::condition::Condition;
use crate::crd::{Object, is_false, is_zero};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub type SriovNetworkNodePolicy = Object<PolicySpec, PolicyStatus>;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicySpec {
    /// Pods ask for `<prefix>/<resourceName>`.
    pub resource_name: String,
    /// Labels that a node must have, all of them, equal; `{}` selects every managed node.
    pub node_selector: BTreeMap<String, String>,
    /// 0 to 99, the lower number wins. Absent means 0, the strongest (upstream's stored meaning).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Bytes; floor for the PF, value for the VFs. 0 or absent leaves it alone.
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: i64,
    /// VFs on each matching PF. 0 offers the PF itself.
    pub num_vfs: i64,
    pub nic_selector: NicSelector,
    /// `netdevice` (default) or `vfio-pci`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device_type: String,
    #[serde(skip_serializing_if = "is_false")]
    pub is_rdma: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub need_vhost_net: bool,
    /// `eth`, `ETH`, `ib`, `IB`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub link_type: String,
    /// `legacy` or `switchdev`; absent means legacy. The key is upstream's: `eSwitchMode`.
    #[serde(rename = "eSwitchMode", skip_serializing_if = "String::is_empty")]
    pub eswitch_mode: String,
    /// `virtio` or `vhost`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vdpa_type: String,
    #[serde(skip_serializing_if = "is_false")]
    pub exclude_topology: bool,
    /// Ours: pods get no `umad` and `issm` devices, by which a program could speak to the fabric's management.
    #[serde(skip_serializing_if = "is_false")]
    pub exclude_umad: bool,
    /// Ours: the VFs that a container asks for lie on as many PFs (rails) as there are, and not on as few as they fit.
    #[serde(skip_serializing_if = "is_false")]
    pub spread_rails: bool,
    /// True: VFs are made by somebody else and only offered by us.
    #[serde(skip_serializing_if = "is_false")]
    pub externally_managed: bool,
    /// Ours: the PF may be changed also where that cuts a connection that the host itself needs.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_lifeline: bool,
    #[serde(skip_serializing_if = "Bridge::is_empty")]
    pub bridge: Bridge,
    /// True: the nodes of the policy carry the taint `ironrail.dev/not-ready` from a boot until they are verified (ours).
    #[serde(skip_serializing_if = "is_false")]
    pub taint_until_ready: bool,
}

/// Which PFs of a node; the non-empty parts must all hold. All empty matches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NicSelector {
    /// PCI vendor id, lower-case hex: `15b3`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vendor: String,
    /// PCI device id of the PF, lower-case hex: `1017`.
    #[serde(rename = "deviceID", skip_serializing_if = "String::is_empty")]
    pub device_id: String,
    /// PCI addresses of PFs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub root_devices: Vec<String>,
    /// Names or altnames of PFs, each with an optional VF range: `enp3s0f0#0-3`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pf_names: Vec<String>,
    /// What upstream's guide writes for `pfNames` (ours; merged with it).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pf_name: Vec<String>,
    /// `openstack/NetworkID:<uuid>` and the like, on virtual platforms.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub net_filter: String,
}

/// A managed software bridge on the PF.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bridge {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ovs: Option<OvsConfig>,
}

impl Bridge {
    pub fn is_empty(&self) -> bool {
        self.ovs.is_none()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OvsConfig {
    pub bridge: OvsBridge,
    pub uplink: OvsUplink,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OvsBridge {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub datapath_type: String,
    #[serde(rename = "externalIDs", skip_serializing_if = "BTreeMap::is_empty")]
    pub external_ids: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other_config: BTreeMap<String, String>,
    /// `secure` or `standalone`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fail_mode: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OvsUplink {
    pub interface: OvsInterface,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OvsInterface {
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    #[serde(rename = "externalIDs", skip_serializing_if = "BTreeMap::is_empty")]
    pub external_ids: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other_config: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu_request: Option<i64>,
}

/// What became of a policy (ours; upstream's status is empty).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Nodes that the policy gives VFs on, with their PFs; at most 50 are listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<MatchedNode>,
    /// Number of nodes that the policy gives VFs on.
    #[serde(skip_serializing_if = "is_zero")]
    pub matched_nodes: i64,
    /// PFs that the policy nearly matched, with the first predicate that failed; at most 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near_misses: Vec<NearMiss>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MatchedNode {
    pub node: String,
    /// Names of PFs.
    pub interfaces: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NearMiss {
    pub node: String,
    /// Name of the PF; empty when the node itself did not match.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// A sentence: which predicate failed, what it asked for, what was found.
    pub because: String,
}
