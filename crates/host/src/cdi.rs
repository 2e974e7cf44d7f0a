//! CDI specs of our devices: which device nodes a container gets that is given a VF, read by the runtime when it creates
//! the container.
//!
//! One file and one kind for all: the device plugin writes a spec at Allocate, and the CNI, which knows only the PCI
//! address, writes it again after it has moved the RDMA device, since the move makes the character devices anew.

use crate::home::directory;
use crate::seam::{Host, Refusal};
use api::{PciAddress, files};
use serde_json::json;
use std::collections::BTreeMap;

/// Kind of every CDI device of ours.
pub const KIND: &str = "ironrail.dev/vf";

/// One device node on the host and in the container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNode {
    pub host_path: String,
    pub container_path: String,
}

impl DeviceNode {
    /// A node with one path on both sides.
    pub fn same(path: impl Into<String>) -> Self {
        let host_path = path.into();
        Self { container_path: host_path.clone(), host_path }
    }
}

/// The device's fully qualified name: `ironrail.dev/vf=0000:3b:00.2`.
pub fn name(pci: &PciAddress) -> String {
    format!("{KIND}={pci}")
}

/// Where the spec of a device is.
pub fn path(pci: &PciAddress) -> String {
    format!("{}/ironrail.dev-vf-{pci}.json", files::CDI)
}

/// Writes the spec of a device that has nodes; removes the one of a device that has none, since CDI refuses a device
/// without edits.
pub fn write(host: &dyn Host, pci: &PciAddress, nodes: &[DeviceNode]) -> Result<(), Refusal> {
    if nodes.is_empty() {
        return host.remove(&path(pci));
    }
    let node = |node: &DeviceNode| match node.host_path == node.container_path {
        true => json!({ "path": node.container_path, "permissions": "rw" }),
        // `hostPath` came with CDI 0.5.0.
        false => json!({
            "path": node.container_path, "hostPath": node.host_path, "permissions": "rw",
        }),
    };
    let nodes: Vec<_> = nodes.iter().map(node).collect();
    let spec = json!({
        "cdiVersion": "0.5.0",
        "kind": KIND,
        "devices": [{ "name": pci.to_string(), "containerEdits": { "deviceNodes": nodes } }],
    });
    host.replace(&path(pci), spec.to_string().as_bytes(), 0o644)
}

/// Character devices of a function's RDMA devices by class (`uverbs`, `umad`, `issm`, `rdma_cm`), as they are numbered now.
///
/// By the function's directory and not by the RDMA device's name: a pod may have given it another name, since Linux 7.3
/// two pods may use one name, and while it is in a pod the host does not see it at all. The directories of its character
/// devices are seen from every network namespace. Every node of each class: a device with two ports has two `umad`.
/// Empty while the function has no uverbs.
pub fn rdma_nodes(host: &dyn Host, device: &str) -> BTreeMap<&'static str, Vec<String>> {
    const CLASSES: [(&str, &str); 3] =
        [("uverbs", "infiniband_verbs"), ("umad", "infiniband_mad"), ("issm", "infiniband_mad")];
    let mut nodes = BTreeMap::new();
    for (prefix, class) in CLASSES {
        let entries = host.list(&format!("{}/{class}", directory(device))).unwrap_or_default();
        let ours = entries.into_iter().filter(|entry| entry.starts_with(prefix));
        let paths: Vec<String> = ours.map(|entry| format!("/dev/infiniband/{entry}")).collect();
        if !paths.is_empty() {
            nodes.insert(prefix, paths);
        }
    }
    if !nodes.contains_key("uverbs") {
        return BTreeMap::new();
    }
    // One device for all, resolved by name; it needs no move.
    let connection_manager = "/dev/infiniband/rdma_cm";
    if host.metadata(connection_manager).is_ok() {
        nodes.insert("rdma_cm", vec![connection_manager.to_owned()]);
    }
    nodes
}
