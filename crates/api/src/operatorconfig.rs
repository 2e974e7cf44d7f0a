//! SriovOperatorConfig: the switches of the whole installation. Only `default` in the operator's namespace is acted on.

use crate::condition::Condition;
use crate::crd::{Object, is_false, is_zero};
use crate::pool::Grant;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub type SriovOperatorConfig = Object<OperatorConfigSpec, OperatorConfigStatus>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OperatorConfigSpec {
    /// Nodes that are managed; empty means Linux nodes with the worker role.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config_daemon_node_selector: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_false")]
    pub enable_injector: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub enable_operator_webhook: bool,
    /// 0 to 2.
    #[serde(skip_serializing_if = "is_zero")]
    pub log_level: i64,
    #[serde(skip_serializing_if = "is_false")]
    pub disable_drain: bool,
    /// Ours: nodes are drained and prepared, and a person reboots them.
    #[serde(skip_serializing_if = "is_false")]
    pub disable_reboot: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub enable_ovs_offload: bool,
    /// `daemon` or `systemd`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub configuration_mode: String,
    #[serde(rename = "useCDI", skip_serializing_if = "Option::is_none")]
    pub use_cdi: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disable_plugins: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config_daemon_env_vars: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OperatorConfigStatus {
    /// Declared by upstream and never written by it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub injector: String,
    /// Declared by upstream and never written by it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operator_webhook: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Grants of nodes that are in no pool (ours).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// The one control-plane node of the cluster that may be disturbed, beside the grant of its pool (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<ControlPlaneGrant>,
}

/// The right to disturb a control-plane node: one in the whole cluster, whatever the pools say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlaneGrant {
    pub node: String,
    pub since: Timestamp,
}
