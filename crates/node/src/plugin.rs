//! The device plugin as plain functions over plain data: offer in, the kubelet's messages out.
//!
//! No socket, no file and no discovery: what the host has for a device comes in as `Facilities`. The shell around this is
//! `device_plugin`; the simulation calls these functions directly.

use crate::nearness::Choice;
use crate::proto::v1beta1::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, ContainerPreferredAllocationResponse, Device,
    DevicePluginOptions, DeviceSpec, ListAndWatchResponse, NumaNode, PreferredAllocationRequest,
    PreferredAllocationResponse, TopologyInfo,
};
use api::custody::{Claim, Claims, Offer, OfferState, OfferedDevice, OfferedResource, VERSION};
use api::{PciAddress, Timestamp};
use host::cdi;
use host::facilities::Facilities;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the kubelet's API that we speak.
pub const API_VERSION: &str = "v1beta1";
pub const HEALTHY: &str = "Healthy";
pub const UNHEALTHY: &str = "Unhealthy";

/// How device nodes reach a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// By CDI name: the runtime reads the nodes when it creates the container, after the CNI has moved the device.
    Cdi,
    /// By path, as of Allocate: for runtimes without CDI.
    DeviceSpecs,
}

/// What we tell the kubelet about ourselves.
pub fn options() -> DevicePluginOptions {
    DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true }
}

/// The list of a resource as the kubelet gets it: everything offered, the ready ones Healthy.
///
/// A withdrawn or broken device stays listed, so that capacity stays and only allocatable falls.
pub fn list(resource: &OfferedResource) -> ListAndWatchResponse {
    let device = |device: &OfferedDevice| Device {
        id: device.pci.to_string(),
        health: match device.state {
            OfferState::Ready => HEALTHY,
            OfferState::Unverified { .. }
            | OfferState::Withdrawn { .. }
            | OfferState::Broken { .. } => UNHEALTHY,
        }
        .to_owned(),
        topology: device
            .numa_node
            .filter(|_| !resource.exclude_topology)
            .map(|node| TopologyInfo { nodes: vec![NumaNode { id: i64::from(node) }] }),
    };
    ListAndWatchResponse { devices: resource.devices.iter().map(device).collect() }
}

/// The claims with the acknowledgement of this offer: from now on nothing that it does not call ready is given.
pub fn acknowledge(offer: &Offer, claims: &Claims) -> Claims {
    Claims { sequence: offer.sequence, ..of_this_boot(offer, claims) }
}

/// Claims of another boot speak of containers that are gone.
fn of_this_boot(offer: &Offer, claims: &Claims) -> Claims {
    match claims.boot_id == offer.boot_id {
        true => Claims { version: VERSION, ..claims.clone() },
        false => Claims {
            version: VERSION,
            boot_id: offer.boot_id.clone(),
            sequence: 0,
            claims: BTreeMap::new(),
        },
    }
}

/// Gives devices to containers: the answer, and the claims to be written *before* it is sent.
///
/// Refused as a whole, with a sentence for the pod's events, when one device is not ready in the present offer.
pub fn allocate(
    offer: &Offer,
    resource_name: &str,
    request: &AllocateRequest,
    claims: &Claims,
    facilities: &BTreeMap<PciAddress, Facilities>,
    delivery: Delivery,
    now: Timestamp,
) -> Result<(AllocateResponse, Claims), String> {
    // A claim stands until its device is given anew: it tells the pod that has the device from one that ended before.
    let resource = offer.resources.get(resource_name).ok_or_else(|| {
        format!(
            "{resource_name} is not offered on this node any more; the pod must be created again"
        )
    })?;
    let mut claims = of_this_boot(offer, claims);
    let mut response = AllocateResponse::default();
    for container in &request.container_requests {
        let mut given = Vec::new();
        for id in &container.devices_ids {
            let device = ready(resource, resource_name, id)?;
            let facilities = facilities.get(&device.pci).cloned().unwrap_or_default();
            if let Some(missing) = missing(resource, device, &facilities) {
                return Err(format!("{id} ({resource_name}) {missing}"));
            }
            let nodes = match delivery {
                Delivery::Cdi => Vec::new(),
                Delivery::DeviceSpecs => facilities.moving_nodes(),
            };
            let claim = Claim { resource: resource_name.to_owned(), at: now, nodes };
            claims.claims.insert(device.pci, claim);
            given.push((device, facilities));
        }
        response.container_responses.push(container_response(resource_name, &given, delivery));
    }
    Ok((response, claims))
}

fn ready<'a>(
    resource: &'a OfferedResource,
    resource_name: &str,
    id: &str,
) -> Result<&'a OfferedDevice, String> {
    let device = resource.devices.iter().find(|device| device.pci.to_string() == id);
    let device =
        device.ok_or_else(|| format!("{id} is not offered as {resource_name} on this node"))?;
    match &device.state {
        OfferState::Ready => Ok(device),
        OfferState::Unverified { because } => Err(format!(
            "{id} ({resource_name}) is not verified since the node's boot: {because}; the pod must be created again"
        )),
        OfferState::Withdrawn { because } => Err(format!(
            "{id} ({resource_name}) is withdrawn: {because}; the pod must be created again"
        )),
        OfferState::Broken { because } => {
            Err(format!("{id} ({resource_name}) is not usable: {because}"))
        }
    }
}

/// What a container would be without, though the resource promises it: it would start, and fail later in silence.
pub fn missing(
    resource: &OfferedResource,
    device: &OfferedDevice,
    facilities: &Facilities,
) -> Option<String> {
    let in_user_space = device.driver.as_deref() == Some("vfio-pci");
    let (vfio, vhost): (Vec<&str>, Vec<&str>) =
        facilities.absent.iter().map(String::as_str).partition(|path| path.contains("/vfio/"));
    if !vfio.is_empty() {
        return Some(format!(
            "is for vfio-pci, and {} is not there; load vfio-pci, see that the node has an IOMMU and the device its driver, then create the pod again",
            vfio.join(", ")
        ));
    }
    if !vhost.is_empty() {
        return Some(format!(
            "comes with vhost-net (needVhostNet: true), and {} is not there; load vhost_net and tun on the node, then create the pod again",
            vhost.join(", ")
        ));
    }
    (resource.rdma && !in_user_space && !facilities.rdma.contains_key("uverbs")).then(|| {
        format!(
            "has no uverbs device: {} is empty or not there; load ib_uverbs and the card's RDMA driver, then create the pod again",
            device.pci.file("infiniband_verbs")
        )
    })
}

fn container_response(
    resource_name: &str,
    given: &[(&OfferedDevice, Facilities)],
    delivery: Delivery,
) -> ContainerAllocateResponse {
    let mut response = ContainerAllocateResponse {
        envs: environment(resource_name, given),
        ..ContainerAllocateResponse::default()
    };
    match delivery {
        Delivery::Cdi => {
            // Only a device with nodes has a CDI spec; a name without a spec fails the container.
            let named = given.iter().filter(|(_, facilities)| !facilities.nodes().is_empty());
            response.cdi_devices =
                named.map(|(device, _)| CdiDevice { name: cdi::name(&device.pci) }).collect();
        }
        Delivery::DeviceSpecs => response.devices = device_specs(given),
    }
    response
}

fn device_specs(given: &[(&OfferedDevice, Facilities)]) -> Vec<DeviceSpec> {
    let mut seen = BTreeSet::new();
    let nodes = given.iter().flat_map(|(_, facilities)| facilities.nodes());
    nodes
        .filter(|node| seen.insert(node.host_path.clone()))
        .map(|node| DeviceSpec {
            container_path: node.container_path,
            host_path: node.host_path,
            permissions: "rw".to_owned(),
        })
        .collect()
}

/// `PCIDEVICE_<RESOURCE>` and `PCIDEVICE_<RESOURCE>_INFO`, as programs in pods know them.
fn environment(
    resource_name: &str,
    given: &[(&OfferedDevice, Facilities)],
) -> BTreeMap<String, String> {
    let name = variable(resource_name);
    // Sorted, as Multus sorts them: position k is net k. (Upstream keeps the kubelet's order, which is neither.)
    let by_address: BTreeMap<String, &Facilities> =
        given.iter().map(|(device, facilities)| (device.pci.to_string(), facilities)).collect();
    let ids: Vec<&str> = by_address.keys().map(String::as_str).collect();
    let information: Map<String, Value> =
        by_address.iter().map(|(id, f)| (id.clone(), device_information(id, f))).collect();
    BTreeMap::from([
        (name.clone(), ids.join(",")),
        (format!("{name}_INFO"), Value::Object(information).to_string()),
    ])
}

/// Upper case, with only `.` and `/` replaced: `PCIDEVICE_OPENSHIFT_IO_SRIOV-RDMA`, as upstream writes it.
fn variable(resource_name: &str) -> String {
    format!("PCIDEVICE_{}", resource_name.to_uppercase().replace(['.', '/'], "_"))
}

fn device_information(id: &str, facilities: &Facilities) -> Value {
    let mut information = Map::new();
    information.insert("generic".to_owned(), json!({ "deviceID": id }));
    for (section, values) in facilities.information() {
        information.insert(section.to_owned(), json!(values));
    }
    Value::Object(information)
}

/// The devices that each container had best be given.
pub fn preferred(
    choice: &Choice,
    request: &PreferredAllocationRequest,
) -> PreferredAllocationResponse {
    let one = |container: &ContainerPreferredAllocationRequest| {
        let size = usize::try_from(container.allocation_size).unwrap_or_default();
        let (free, must) = (&container.available_device_i_ds, &container.must_include_device_i_ds);
        ContainerPreferredAllocationResponse { device_i_ds: choice.make(free, must, size) }
    };
    PreferredAllocationResponse {
        container_responses: request.container_requests.iter().map(one).collect(),
    }
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
