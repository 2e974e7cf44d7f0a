//! SriovNetworkPoolConfig: the RDMA mode of a set of nodes, and how many may be disturbed at a time.

use crate::condition::Condition;
use crate::crd::{LabelSelector, Object, is_zero};
use crate::primitives::IntOrString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub type SriovNetworkPoolConfig = Object<PoolSpec, PoolStatus>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolSpec {
    /// Number or percentage of the pool's nodes that may be disturbed at a time; absent means 1, 0 means frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// Absent or empty selects all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// `shared` or `exclusive`; absent leaves the mode alone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rdma_mode: String,
    #[serde(skip_serializing_if = "HardwareOffload::is_empty")]
    pub ovs_hardware_offload_config: HardwareOffload,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HardwareOffload {
    /// Name of an OpenShift MachineConfigPool.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

impl HardwareOffload {
    pub fn is_empty(&self) -> bool {
        self.name.is_empty()
    }
}

/// Progress of a pool (ours; upstream's status is empty).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Nodes that may be disturbed now. Written by `Update` with the resourceVersion it was decided on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Nodes of the pool.
    #[serde(skip_serializing_if = "is_zero")]
    pub nodes: i64,
    /// Nodes of the pool that are at their goal.
    #[serde(skip_serializing_if = "is_zero")]
    pub ready_nodes: i64,
    /// Nodes that wait for a grant, each with why; at most 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingNode>,
}

/// The right to disturb one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    pub node: String,
    /// `Drain_Required` or `Reboot_Required`.
    pub reason: String,
    pub since: Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WaitingNode {
    pub node: String,
    pub because: String,
}
