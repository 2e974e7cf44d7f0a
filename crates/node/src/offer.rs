//! What the daemon offers to the kubelet: wanted groups x observed functions, as one `Offer`. Pure.
//!
//! A device leaves the list only when no policy asks for it and no pod holds it; until then it is listed as withdrawn,
//! so that the node's capacity stays and only what is allocatable falls. Whether a change is due is `planner`'s.

use api::custody::{Holder, Offer, OfferState, OfferedDevice, OfferedResource, VERSION};
use api::inventory::{Inventory, PhysicalFunction, VirtualFunction};
use api::nodestate::{NodeStateSpec, VfGroup};
use api::{DeviceType, PciAddress};
use std::collections::{BTreeMap, BTreeSet};

/// Devices that must not be given now, each with its reason.
pub type Withdrawn = BTreeMap<PciAddress, String>;

/// The offer of this moment. Its sequence is one more than the previous one's where anything differs, else the same.
pub fn offer(
    previous: Option<&Offer>,
    spec: &NodeStateSpec,
    inventory: &Inventory,
    prefix: &str,
    withdrawn: &Withdrawn,
) -> Offer {
    let held: BTreeSet<&str> = inventory.holders.iter().map(|h| h.device.as_str()).collect();
    let mut resources = asked_for(spec, inventory, prefix, &held);
    if let Some(previous) = previous {
        keep_what_may_not_vanish(&mut resources, previous, spec, &held);
    }
    for device in resources.values_mut().flat_map(|resource| &mut resource.devices) {
        if let Some(because) = withdrawn.get(&device.pci) {
            device.state = OfferState::Withdrawn { because: because.clone() };
        }
    }
    for resource in resources.values_mut() {
        resource.devices.sort_by_key(|device| device.pci);
    }
    let unchanged = previous.filter(|p| p.resources == resources && p.boot_id == inventory.boot_id);
    Offer {
        version: VERSION,
        boot_id: inventory.boot_id.clone(),
        // A new boot starts anew: the claims of the old one are gone with the tmpfs.
        sequence: match (unchanged, previous) {
            (Some(same), _) => same.sequence,
            (None, previous) => previous.map_or(0, |p| p.sequence) + 1,
        },
        resources,
    }
}

type Resources = BTreeMap<String, OfferedResource>;

/// Every group of every wanted function, with the devices that exist.
fn asked_for(
    spec: &NodeStateSpec,
    inventory: &Inventory,
    prefix: &str,
    held: &BTreeSet<&str>,
) -> Resources {
    let mut resources = Resources::new();
    for interface in &spec.interfaces {
        let function = inventory.physical_functions.iter().find(|f| f.pci == interface.pci_address);
        for group in interface.vf_groups.iter().filter(|group| !group.resource_name.is_empty()) {
            let name = format!("{prefix}/{}", group.resource_name);
            let resource = resources.entry(name).or_default();
            // Two policies may feed one resource and differ. What one of them asks for is granted to all: a pod that
            // needs the RDMA device gets it whichever VF it is given. (Upstream takes the first policy's word.)
            resource.rdma |= group.is_rdma;
            resource.vhost_net |= group.need_vhost_net;
            resource.exclude_topology |= group.exclude_topology;
            if let Some(function) = function {
                resource.devices.extend(devices(function, group, held));
            }
        }
    }
    resources
}

fn devices(
    function: &PhysicalFunction,
    group: &VfGroup,
    held: &BTreeSet<&str>,
) -> Vec<OfferedDevice> {
    let Some(range) = group.vf_range else { return vec![whole_function(function, group, held)] };
    let vfs = function.vfs.iter().filter(|vf| range.contains(vf.index));
    vfs.map(|vf| OfferedDevice {
        pci: vf.pci,
        state: state(&vf.pci, held, || vf_defect(function, vf, group)),
        numa_node: function.numa_node,
        parent: function.pci,
        driver: vf.driver.clone(),
        rdma_device: vf.rdma_device.clone(),
    })
    .collect()
}

/// A policy with `numVfs: 0` offers the PF itself, as upstream does.
fn whole_function(
    function: &PhysicalFunction,
    group: &VfGroup,
    held: &BTreeSet<&str>,
) -> OfferedDevice {
    let defect = || match () {
        () if !function.vfs.is_empty() => Some(format!(
            "{} has {} VFs, and the whole PF is asked for",
            function.pci,
            function.vfs.len()
        )),
        () if group.is_rdma && function.rdma_device.is_none() => {
            Some(format!("{} has no RDMA device", function.pci))
        }
        () => driver_defect(&function.pci, function.driver.as_deref(), group),
    };
    OfferedDevice {
        pci: function.pci,
        state: state(&function.pci, held, defect),
        numa_node: function.numa_node,
        parent: function.pci,
        driver: function.driver.clone(),
        rdma_device: function.rdma_device.clone(),
    }
}

/// What a pod holds is not judged: its netdev and RDMA device are inside the pod, and nobody else can be given it.
fn state(
    pci: &PciAddress,
    held: &BTreeSet<&str>,
    defect: impl FnOnce() -> Option<String>,
) -> OfferState {
    if held.contains(pci.to_string().as_str()) {
        return OfferState::Ready;
    }
    match defect() {
        Some(because) => OfferState::Broken { because },
        None => OfferState::Ready,
    }
}

fn vf_defect(function: &PhysicalFunction, vf: &VirtualFunction, group: &VfGroup) -> Option<String> {
    let name = format!("VF {} of {} ({})", vf.index, function.pci, vf.pci);
    let needs_netdev = group.device_type != DeviceType::VfioPci.to_string();
    if let Some(defect) = driver_defect(&vf.pci, vf.driver.as_deref(), group) {
        return Some(defect);
    }
    if needs_netdev && vf.name.is_none() {
        return Some(format!("{name} has no network interface in the host's namespace"));
    }
    if group.is_rdma && vf.rdma_device.is_none() {
        return Some(format!("{name} has no RDMA device"));
    }
    None
}

fn driver_defect(pci: &PciAddress, driver: Option<&str>, group: &VfGroup) -> Option<String> {
    let vfio = DeviceType::VfioPci.to_string();
    match driver {
        None => Some(format!("{pci} has no driver")),
        Some(other) if group.device_type == vfio && other != vfio => {
            Some(format!("{pci} is bound to {other}, and vfio-pci is asked for"))
        }
        Some(driver) if group.device_type != vfio && driver == vfio => {
            Some(format!("{pci} is bound to vfio-pci, and a network interface is asked for"))
        }
        Some(_) => None,
    }
}

/// Devices of the previous offer that are still asked for, or held, and are not seen now.
fn keep_what_may_not_vanish(
    resources: &mut Resources,
    previous: &Offer,
    spec: &NodeStateSpec,
    held: &BTreeSet<&str>,
) {
    for (name, was) in &previous.resources {
        for device in &was.devices {
            let listed = resources.values().flat_map(|r| &r.devices).any(|d| d.pci == device.pci);
            let is_held = held.contains(device.pci.to_string().as_str());
            let asked = resources.contains_key(name) && wants_vfs(spec, device);
            let because = match (asked, is_held) {
                _ if listed => continue,
                (false, false) => continue,
                (true, _) => format!("{} does not exist at the moment", device.pci),
                (false, true) => "no policy asks for it any more".to_owned(),
            };
            let resource = resources
                .entry(name.clone())
                .or_insert_with(|| OfferedResource { devices: Vec::new(), ..was.clone() });
            let state = OfferState::Withdrawn { because };
            resource.devices.push(OfferedDevice { state, ..device.clone() });
        }
    }
}

/// True while the PF's order still covers as many VFs as would make this device: it was there, it will be again.
fn wants_vfs(spec: &NodeStateSpec, device: &OfferedDevice) -> bool {
    let order = spec.interfaces.iter().find(|interface| interface.pci_address == device.parent);
    order.is_some_and(|interface| interface.num_vfs > 0 && device.pci != device.parent)
}

/// The device in words for a blocker: who holds which of these.
pub fn holders_of<'a>(touched: &BTreeSet<PciAddress>, holders: &'a [Holder]) -> Vec<&'a Holder> {
    let touches = |holder: &&Holder| holder.device.parse().is_ok_and(|pci| touched.contains(&pci));
    holders.iter().filter(touches).collect()
}
