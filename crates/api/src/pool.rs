//! SriovNetworkPoolConfig: the RDMA mode of a set of nodes, and how many may be disturbed at a time.

use crate::condition::Condition;
use crate::crd::{LabelSelector, Object, is_false, is_zero};
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
    /// How long a drain may take, and what then (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainSpec>,
    /// In which steps the nodes are taken, and when it is stopped (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainSpec {
    /// `90s`, `30m`, `1h30m`; absent means `30m`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deadline: String,
    /// `wait`, `skipNode` or `force`; absent means `wait`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub on_deadline: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutSpec {
    /// Number or percentage of nodes that go first and have to reach their goal before the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<IntOrString>,
    #[serde(skip_serializing_if = "is_false")]
    pub pause_after_canary: bool,
    /// Absent means 1, 0 means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halt_after_failures: Option<i64>,
    #[serde(skip_serializing_if = "is_false")]
    pub count_unavailable: bool,
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
    /// Nodes with a grant, for those who read tables.
    #[serde(skip_serializing_if = "is_zero")]
    pub draining: i64,
    /// Nodes whose drain was given up at its deadline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedNode>,
    /// The rollout that is under way; absent while no node has to be disturbed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// The value of the annotation `ironrail.dev/resume` that was acted on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resumed: String,
}

/// A node whose drain was given up, and is not tried again before somebody asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedNode {
    pub node: String,
    pub because: String,
    pub since: Timestamp,
}

/// How far a pool has come with disturbing its nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    /// `Canary`, `PausedAfterCanary`, `Rolling` or `Halted`.
    pub phase: String,
    pub started: Timestamp,
    /// Nodes that this rollout has to disturb, as far as they have asked.
    pub nodes: i64,
    /// Of these: disturbed, and at their goal.
    #[serde(skip_serializing_if = "is_zero")]
    pub finished: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub canaries_passed: bool,
    /// Nodes that came back worse, and have not recovered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedNode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailedNode {
    pub node: String,
    pub because: String,
    /// Somebody resumed the rollout although this node failed: it no longer counts.
    #[serde(skip_serializing_if = "is_false")]
    pub accepted: bool,
}

/// The right to disturb one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    pub node: String,
    /// `Drain_Required` or `Reboot_Required`.
    pub reason: String,
    pub since: Timestamp,
    /// The node reported an error already when it was granted: coming back with one is then no news.
    #[serde(default, skip_serializing_if = "is_false")]
    pub failing: bool,
    /// A reboot was of no use to it any more when it was granted: that it is not, is then no news either.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reboot_useless: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WaitingNode {
    pub node: String,
    pub because: String,
}
