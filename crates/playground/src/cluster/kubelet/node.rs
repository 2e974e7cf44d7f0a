//! What the kubelet says of its node.
//!
//! A write is made only where something differs, so that a quiet node writes nothing.

use super::super::objects;
use super::Kubelet;
use api::Timestamp;
use api::wire::{ObjectKey, PatchType, Write};
use serde_json::{Value, json};

impl Kubelet {
    /// Node status: Ready, addresses, capacity and allocatable, where they differ from what stands.
    pub(super) fn report(&mut self, node: &Value, now: Timestamp) -> Option<Write> {
        self.started_at.get_or_insert(now);
        let mut capacity = json!({ "cpu": "64", "memory": "512Gi", "pods": "250" });
        let mut allocatable = capacity.clone();
        for (resource, (all, healthy)) in self.devices.capacity() {
            capacity[&resource] = all.to_string().into();
            allocatable[&resource] = healthy.to_string().into();
        }
        let mut status = json!({
            "capacity": capacity, "allocatable": allocatable,
            "addresses": [
                { "type": "InternalIP", "address": self.address },
                { "type": "Hostname", "address": self.node },
            ],
            "nodeInfo": {
                "kubeletVersion": "v1.33.0", "osImage": "ironrail playground", "kernelVersion": "6.8.0",
                "containerRuntimeVersion": "playground://1", "operatingSystem": "linux", "architecture": "amd64",
                "bootID": self.host.machine().boot_id.clone(), "machineID": self.node, "systemUUID": self.node,
                "kubeProxyVersion": "v1.33.0",
            },
        });
        if let Some(conditions) = objects::with_condition(
            node,
            "Ready",
            "True",
            "KubeletReady",
            "kubelet is posting ready status",
            now,
        ) {
            status["conditions"] = Value::from(conditions);
        }
        let fields = status.as_object()?;
        let same = fields.iter().all(|(key, value)| node["status"].get(key) == Some(value));
        (!same).then(|| Write::Patch {
            key: ObjectKey::new("v1", "Node", "", &self.node),
            patch_type: PatchType::Merge,
            patch: json!({ "status": status }),
            subresource: "status",
        })
    }
}
