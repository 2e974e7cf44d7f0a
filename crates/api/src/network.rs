//! SriovNetwork, SriovIBNetwork, OVSNetwork: what a pod is attached to; and the NetworkAttachmentDefinition they become.
//!
//! `capabilities`, `ipam` and `metaPlugins` are JSON in text, as upstream has them; `planner::render` parses them.

use crate::condition::Condition;
use crate::crd::Object;
use serde::{Deserialize, Serialize};

pub type SriovNetwork = Object<SriovNetworkSpec, NetworkStatus>;
pub type SriovIBNetwork = Object<SriovIBNetworkSpec, NetworkStatus>;
pub type OVSNetwork = Object<OVSNetworkSpec, NetworkStatus>;
pub type NetworkAttachmentDefinition = Object<NetworkAttachmentSpec, serde_json::Value>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SriovNetworkSpec {
    /// Where the NetworkAttachmentDefinition goes; only for networks in the operator's namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_namespace: String,
    pub resource_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub capabilities: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ipam: String,
    /// 0 to 4094.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<i64>,
    /// 0 to 7.
    #[serde(rename = "vlanQoS", skip_serializing_if = "Option::is_none")]
    pub vlan_qos: Option<i64>,
    /// `802.1q` or `802.1ad`, either case.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vlan_proto: String,
    /// `on` or `off`.
    #[serde(rename = "spoofChk", skip_serializing_if = "String::is_empty")]
    pub spoof_check: String,
    /// `on` or `off`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trust: String,
    /// `auto`, `enable` or `disable`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub link_state: String,
    /// Mbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tx_rate: Option<i64>,
    /// Mbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tx_rate: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub meta_plugins: String,
    /// What upstream's guide writes for `metaPlugins` (ours; both with different text is an error).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub meta_plugins_config: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_level: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_file: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SriovIBNetworkSpec {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_namespace: String,
    pub resource_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub capabilities: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ipam: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub link_state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub meta_plugins: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub meta_plugins_config: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OVSNetworkSpec {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_namespace: String,
    pub resource_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub capabilities: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ipam: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub meta_plugins: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub meta_plugins_config: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bridge: String,
    /// 0 to 4095.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trunk: Vec<Trunk>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_type: String,
}

/// One trunk entry: a VLAN id, or a range of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trunk {
    #[serde(rename = "minID", skip_serializing_if = "Option::is_none")]
    pub min_id: Option<i64>,
    #[serde(rename = "maxID", skip_serializing_if = "Option::is_none")]
    pub max_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkAttachmentSpec {
    /// The CNI configuration as JSON text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub config: String,
}
