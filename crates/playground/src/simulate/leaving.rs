//! Nodes that are not like the others: one in no pool, and one that leaves its pool, its policy or our management.
//!
//! Drawn with the extras. What such a node has in the end is told here; that nothing of ours is left on it is the
//! ending's to see, as of every node.

use api::{RdmaMode, names};
use fastrand::Rng;
use serde_json::{Value, json};

/// The label by which the policy selects a node, where a node may lose it and stay in its pool.
pub const OFFERED: &str = "rdma-vfs";
/// The label by which pool and policy select.
pub const CAPABLE: &str = "rdma-capable";
/// The label by which the operator config selects where it says nothing.
pub const WORKER: &str = "node-role.kubernetes.io/worker";

/// What a node leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    PoolAndPolicy,
    Policy,
    Management,
}

impl Leaves {
    /// The label that it loses.
    pub fn label(self) -> &'static str {
        match self {
            Self::PoolAndPolicy => CAPABLE,
            Self::Policy => OFFERED,
            Self::Management => WORKER,
        }
    }
}

/// A node that leaves something after so many seconds.
#[derive(Debug, Clone)]
pub struct Leaver {
    pub node: String,
    pub leaves: Leaves,
    pub at: u64,
}

impl Leaver {
    pub fn draw(node: String, rng: &mut Rng) -> Self {
        let leaves = [Leaves::PoolAndPolicy, Leaves::Policy, Leaves::Management][rng.usize(..3)];
        Self { node, leaves, at: rng.u64(60..1500) }
    }

    /// The label goes.
    pub fn patch(&self) -> Value {
        json!({ "metadata": { "labels": { self.leaves.label(): null } } })
    }

    /// Of a node that left our management nothing is asked any more.
    pub fn is_ours(&self) -> bool {
        self.leaves != Leaves::Management
    }

    /// How many VFs it has in the end, where every other node has `wanted`.
    pub fn vfs(&self, wanted: Option<u32>) -> Option<u32> {
        match self.leaves {
            Leaves::PoolAndPolicy | Leaves::Policy => wanted.map(|_| 0),
            Leaves::Management => None,
        }
    }

    /// Its mode in the end, where every other node has `wanted`.
    pub fn mode(&self, wanted: RdmaMode) -> RdmaMode {
        match self.leaves {
            Leaves::PoolAndPolicy => RdmaMode::Shared,
            Leaves::Policy | Leaves::Management => wanted,
        }
    }
}

/// Takes a node out of the pool that the user makes.
pub fn leave_out(body: &mut Value, node: &str) {
    if body["kind"] == names::POOL {
        body["spec"]["nodeSelector"]["matchExpressions"] = json!([
            { "key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node] },
        ]);
    }
}
