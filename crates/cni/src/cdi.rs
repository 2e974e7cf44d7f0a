//! Keeping a device's CDI spec true: the runtime reads it when it creates a container, which is after ADD, and the
//! move of an RDMA device makes its character devices anew, under other numbers.
//!
//! The device plugin decides which kinds of nodes a container gets; here only their names are put right.

use crate::custody::{self, Offered};
use crate::failure::Failure;
use crate::frame::Call;
use api::PciAddress;
use host::cdi::{self, DeviceNode};
use host::facilities;
use host::seam::Errno;
use serde_json::Value;

/// Sees to it that the spec of a device names its RDMA nodes of now. One that is missing is made where the daemon
/// offers the device with RDMA.
pub fn describe(call: &Call, device: &str) -> Result<(), Failure> {
    if device.parse::<PciAddress>().is_err() {
        return Ok(());
    }
    if rewrite(call, device)? {
        return Ok(());
    }
    let Some(offered) = custody::in_offer(call, device)?.filter(|offered| offered.resource.rdma)
    else {
        return Ok(());
    };
    if is_by_name(call, &offered)? && !cdi::rdma_nodes(call.host, device).contains_key("uverbs") {
        return Err(without_uverbs(device));
    }
    restore(call, &offered)
}

/// Makes the spec of a device that has none and whose containers are given device nodes by it, of RDMA, vfio or
/// vhost-net: after a boot the kubelet admits a pod again with the name that it was given before, and asks nobody.
pub fn restore(call: &Call, offered: &Offered) -> Result<(), Failure> {
    let pci = offered.device.pci;
    match call.host.metadata(&cdi::path(&pci)) {
        Err(refusal) if refusal.errno == Errno::NOENT => {}
        Ok(_) => return Ok(()),
        Err(refusal) => return Err(refusal.into()),
    }
    let nodes = facilities::of(call.host, &offered.resource, &offered.device).nodes();
    if nodes.is_empty() || !is_by_name(call, offered)? {
        return Ok(());
    }
    Ok(cdi::write(call.host, &pci, &nodes)?)
}

/// True where the pod's containers are given the nodes of the device by its CDI name.
fn is_by_name(call: &Call, offered: &Offered) -> Result<bool, Failure> {
    let device = offered.device.pci.to_string();
    Ok(!offered.by_path && custody::given_by_path(call, &device)?.is_empty())
}

/// Writes the RDMA nodes of a device into its spec; false where there is none.
pub fn rewrite(call: &Call, device: &str) -> Result<bool, Failure> {
    let Ok(pci) = device.parse::<PciAddress>() else { return Ok(false) };
    let path = cdi::path(&pci);
    let bytes = match call.host.read(&path) {
        Ok(bytes) => bytes,
        Err(refusal) if refusal.errno == Errno::NOENT => return Ok(false),
        Err(refusal) => return Err(refusal.into()),
    };
    let spec: Value = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::internal(format!("the CDI spec {path} is unreadable: {error}"))
    })?;
    let old = nodes_of(&spec);
    let mut new: Vec<DeviceNode> = Vec::new();
    for (class, paths) in cdi::rdma_nodes(call.host, device) {
        // A resource may leave a class out, and one without RDMA has none.
        if old.iter().any(|node| class_of(node) == Some(class)) {
            new.extend(paths.into_iter().map(DeviceNode::same));
        }
    }
    let announced = old.iter().any(|node| class_of(node) == Some("uverbs"));
    if announced && !new.iter().any(|node| class_of(node) == Some("uverbs")) {
        return Err(without_uverbs(device));
    }
    new.extend(old.iter().filter(|node| class_of(node).is_none()).cloned());
    if new != old {
        cdi::write(call.host, &pci, &new)?;
    }
    Ok(true)
}

fn without_uverbs(device: &str) -> Failure {
    Failure::internal(format!(
        "{device} has no uverbs device after its RDMA device was moved, so the pod's containers would have none; \
         is the module ib_uverbs loaded?"
    ))
}

/// Refuses a spec whose uverbs devices are not the device's: the next container would get another pod's.
pub fn check(call: &Call, device: &str, rdma_device: &str) -> Result<(), Failure> {
    let Ok(pci) = device.parse::<PciAddress>() else { return Ok(()) };
    let path = cdi::path(&pci);
    let Ok(bytes) = call.host.read(&path) else { return Ok(()) };
    let spec: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let is_uverbs = |node: &DeviceNode| class_of(node) == Some("uverbs");
    let told = nodes_of(&spec).into_iter().filter(is_uverbs).map(|node| node.host_path);
    let told: Vec<String> = told.collect();
    let nodes = cdi::rdma_nodes(call.host, device).into_iter();
    let has: Vec<String> =
        nodes.filter(|(class, _)| *class == "uverbs").flat_map(|(_, paths)| paths).collect();
    if told.is_empty() || told == has {
        return Ok(());
    }
    Err(Failure::internal(format!(
        "the CDI spec {path} names {} for {rdma_device} of {device}, which has {}; the pod must be recreated",
        told.join(", "),
        if has.is_empty() { "none".to_owned() } else { has.join(", ") }
    )))
}

fn nodes_of(spec: &Value) -> Vec<DeviceNode> {
    let nodes = spec["devices"][0]["containerEdits"]["deviceNodes"].as_array();
    nodes
        .into_iter()
        .flatten()
        .filter_map(|node| {
            let container_path = node["path"].as_str()?.to_owned();
            let host_path = node["hostPath"].as_str().unwrap_or(&container_path).to_owned();
            Some(DeviceNode { host_path, container_path })
        })
        .collect()
}

/// The class of an RDMA character device by its name; none for other nodes.
fn class_of(node: &DeviceNode) -> Option<&'static str> {
    let name = node.host_path.strip_prefix("/dev/infiniband/")?;
    ["uverbs", "umad", "issm", "rdma_cm"].into_iter().find(|class| name.starts_with(class))
}
