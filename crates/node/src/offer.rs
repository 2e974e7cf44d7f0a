//! What the daemon offers to the kubelet: wanted groups x observed functions, as one `Offer`. Pure.
//!
//! A device leaves the list only when no policy asks for it and no pod holds it; until then it is listed as withdrawn,
//! so that the node's capacity stays and only what is allocatable falls. Whether a change is due is `planner`'s.

use api::custody::{Offer, OfferState, OfferedDevice, OfferedResource, VERSION};
use api::inventory::{Inventory, PhysicalFunction, VirtualFunction};
use api::nodestate::NodeStateStatus;
use api::{DeviceType, LinkType, PciAddress};
use planner::desired::{Desired, DesiredFunction, Group};
use planner::functions::{NO_GUID, NO_MAC};
use planner::{lifeline, profile};
use std::collections::{BTreeMap, BTreeSet};

/// Devices that must not be given now, each with its reason.
pub type Withdrawn = BTreeMap<PciAddress, String>;

/// What speaks against giving devices away, or against the best way to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Against {
    pub withdrawn: Withdrawn,
    /// As the planner says: nothing that is for RDMA is given.
    pub mode: Option<String>,
    /// The container runtime has no CDI.
    pub no_cdi: bool,
}

/// The offer of this moment: the previous one where nothing differs, else one with a new sequence.
///
/// `last` is the last sequence that anybody has used in this boot: an acknowledgement of an offer that was lost must not
/// be taken for one of this.
pub fn offer(
    previous: Option<&Offer>,
    last: u64,
    desired: &Desired,
    inventory: &Inventory,
    prefix: &str,
    against: &Against,
) -> Offer {
    let listed: BTreeSet<&str> = inventory.holders.iter().map(|h| h.device.as_str()).collect();
    let unverified = unverified(previous);
    // The kubelet still lists pods of the boot before, which it is about to fail: what was never ready in this boot is
    // in nobody's namespace, and is judged like what is free.
    let stale: BTreeSet<String> = unverified.iter().map(PciAddress::to_string).collect();
    let held: BTreeSet<&str> =
        listed.iter().copied().filter(|device| !stale.contains(*device)).collect();
    let mut resources = asked_for(desired, inventory, prefix, &held);
    if let Some(previous) = previous {
        keep_what_may_not_vanish(&mut resources, previous, desired, &listed);
        keep_profiles(&mut resources, previous, &listed);
    }
    for resource in resources.values_mut() {
        let mode = against.mode.as_ref().filter(|_| resource.rdma);
        for device in &mut resource.devices {
            let held = held.contains(device.pci.to_string().as_str());
            if let Some(because) = mode.filter(|_| !held && device.state == OfferState::Ready) {
                device.state = OfferState::Broken { because: because.clone() };
            }
            if let Some(because) = against.withdrawn.get(&device.pci) {
                device.state = OfferState::Withdrawn { because: because.clone() };
            }
            if unverified.contains(&device.pci) {
                device.state = still_unverified(&device.state);
            }
        }
    }
    for resource in resources.values_mut() {
        resource.devices.sort_by_key(|device| device.pci);
    }
    let next = Offer {
        version: VERSION,
        boot_id: inventory.boot_id.clone(),
        sequence: last + 1,
        by_path: against.no_cdi,
        resources,
    };
    match previous {
        // One that nobody has seen yet has no sequence.
        Some(same)
            if same.sequence > 0
                && (same.by_path, &same.resources) == (next.by_path, &next.resources) =>
        {
            same.clone()
        }
        Some(_) | None => next,
    }
}

type Resources = BTreeMap<String, OfferedResource>;

/// The devices that the last report of another boot listed and that are asked for still, none of them verified: the
/// first offer of a boot, so that capacity is back at once. Of a PF that had no VFs in that report, since another boot had
/// taken them before, `place` says where those will be that are asked for. None where nothing is known of them, or the
/// report is of this boot.
pub fn of_the_boot_before(
    desired: &Desired,
    status: &NodeStateStatus,
    boot_id: &str,
    prefix: &str,
    place: impl Fn(&PciAddress, u32) -> Option<PciAddress>,
) -> Option<Offer> {
    if status.boot_id.is_empty() || status.boot_id == boot_id {
        return None;
    }
    let mut resources = Resources::new();
    for wanted in &desired.functions {
        let report = status.interfaces.iter().find(|one| one.pci_address == wanted.pci);
        for group in wanted.groups.iter().filter(|group| !group.resource.is_empty()) {
            let Some((range, report)) = group.range.zip(report) else { continue };
            let reported = report.vfs.iter();
            let reported =
                reported.filter_map(|vf| Some((u32::try_from(vf.vf_id).ok()?, vf.pci_address)));
            let count = u32::try_from(wanted.interface.num_vfs).unwrap_or_default();
            let to_be = (0..count).filter(|_| report.vfs.is_empty());
            let to_be = to_be.filter_map(|index| Some((index, place(&wanted.pci, index)?)));
            let in_range = reported.chain(to_be).filter(|(index, _)| range.contains(*index));
            let devices = in_range.map(|(index, pci)| OfferedDevice {
                pci,
                state: OfferState::Unverified { because: "it was not looked at yet".to_owned() },
                numa_node: None,
                parent: wanted.pci,
                vf: Some(index),
                driver: None,
                rdma_device: None,
                profile: None,
            });
            let resource = resources.entry(format!("{prefix}/{}", group.resource)).or_default();
            resource.devices.extend(devices);
        }
    }
    resources.retain(|_, resource| !resource.devices.is_empty());
    let offer =
        Offer { version: VERSION, boot_id: boot_id.to_owned(), resources, ..Offer::default() };
    (!offer.resources.is_empty()).then_some(offer)
}

fn unverified(previous: Option<&Offer>) -> BTreeSet<PciAddress> {
    let resources = previous.into_iter().flat_map(|offer| offer.resources.values());
    let devices = resources.flat_map(|resource| &resource.devices);
    let unverified = devices.filter(|device| matches!(device.state, OfferState::Unverified { .. }));
    unverified.map(|device| device.pci).collect()
}

/// What was never ready in this boot stays unverified until nothing is wrong with it.
fn still_unverified(state: &OfferState) -> OfferState {
    match state {
        OfferState::Ready => OfferState::Ready,
        OfferState::Unverified { because }
        | OfferState::Withdrawn { because }
        | OfferState::Broken { because } => OfferState::Unverified { because: because.clone() },
    }
}

/// Every group of every wanted function, with the devices that exist.
fn asked_for(
    desired: &Desired,
    inventory: &Inventory,
    prefix: &str,
    held: &BTreeSet<&str>,
) -> Resources {
    let mut resources = Resources::new();
    for wanted in &desired.functions {
        let function = inventory.physical_functions.iter().find(|f| f.pci == wanted.pci);
        for group in wanted.groups.iter().filter(|group| !group.resource.is_empty()) {
            let name = format!("{prefix}/{}", group.resource);
            let resource = resources.entry(name).or_default();
            // Two policies may feed one resource and differ. What one of them asks for is granted to all: a pod that
            // needs the RDMA device gets it whichever VF it is given. (Upstream takes the first policy's word.)
            resource.rdma |= group.rdma;
            resource.vhost_net |= group.vhost_net;
            resource.exclude_topology |= group.exclude_topology;
            // What one keeps from pods, no VF of the other gives them.
            resource.exclude_umad |= group.exclude_umad;
            resource.spread_rails |= group.spread_rails;
            if let Some(function) = function {
                let given = devices(function, wanted, group, held).into_iter();
                resource
                    .devices
                    .extend(given.map(|device| spared(device, wanted, inventory, held)));
            }
        }
    }
    for resource in resources.values_mut().filter(|resource| resource.rdma) {
        for device in &mut resource.devices {
            let lacks = || without_rdma(device);
            if device.state == OfferState::Ready
                && let OfferState::Broken { because } = state(&device.pci, held, lacks)
            {
                device.state = OfferState::Broken { because };
            }
        }
    }
    resources
}

/// Another policy's word makes the resource one with RDMA, and every pod that is given of it expects that.
fn without_rdma(device: &OfferedDevice) -> Option<String> {
    let lacks = device.rdma_device.is_none() && device.driver.as_deref() != Some("vfio-pci");
    lacks.then(|| {
        format!(
            "{} has no RDMA device, and another policy of its resource asks for one",
            device.pci
        )
    })
}

/// A device by which the host itself lives is listed and not given away.
fn spared(
    device: OfferedDevice,
    wanted: &DesiredFunction,
    inventory: &Inventory,
    held: &BTreeSet<&str>,
) -> OfferedDevice {
    let defect = || lifeline::not_to_be_offered(wanted, inventory, &device.pci);
    match state(&device.pci, held, defect) {
        OfferState::Ready => device,
        state => OfferedDevice { state, ..device },
    }
}

fn devices(
    function: &PhysicalFunction,
    wanted: &DesiredFunction,
    group: &Group,
    held: &BTreeSet<&str>,
) -> Vec<OfferedDevice> {
    let Some(range) = group.range else { return vec![whole_function(function, group, held)] };
    let vfs = function.vfs.iter().filter(|vf| range.contains(vf.index));
    vfs.map(|vf| OfferedDevice {
        pci: vf.pci,
        state: state(&vf.pci, held, || vf_defect(function, vf, group)),
        numa_node: function.numa_node,
        parent: function.pci,
        vf: Some(vf.index),
        driver: vf.driver.clone(),
        rdma_device: vf.rdma_device.clone(),
        profile: profile::golden(wanted, function, vf),
    })
    .collect()
}

/// A policy with `numVfs: 0` offers the PF itself, as upstream does.
fn whole_function(
    function: &PhysicalFunction,
    group: &Group,
    held: &BTreeSet<&str>,
) -> OfferedDevice {
    let defect = || match () {
        () if !function.vfs.is_empty() => Some(format!(
            "{} has {} VFs, and the whole PF is asked for",
            function.pci,
            function.vfs.len()
        )),
        () if group.rdma && function.rdma_device.is_none() => {
            Some(format!("{} has no RDMA device", function.pci))
        }
        () => driver_defect(&function.pci, function.driver.as_deref(), group),
    };
    OfferedDevice {
        pci: function.pci,
        state: state(&function.pci, held, defect),
        numa_node: function.numa_node,
        parent: function.pci,
        vf: None,
        driver: function.driver.clone(),
        rdma_device: function.rdma_device.clone(),
        profile: None,
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

fn vf_defect(function: &PhysicalFunction, vf: &VirtualFunction, group: &Group) -> Option<String> {
    let name = format!("VF {} of {} ({})", vf.index, function.pci, vf.pci);
    let needs_netdev = group.device_type == DeviceType::Netdevice;
    if let Some(defect) = driver_defect(&vf.pci, vf.driver.as_deref(), group) {
        return Some(defect);
    }
    if needs_netdev && vf.name.is_none() {
        return Some(format!("{name} has no network interface in the host's namespace"));
    }
    if group.rdma && vf.rdma_device.is_none() {
        return Some(format!("{name} has no RDMA device"));
    }
    let defect = identity_defect(function, vf).or_else(|| mtu_defect(vf, group))?;
    needs_netdev.then(|| format!("{name} {defect}"))
}

/// MAC on Ethernet, GUID on InfiniBand. On Ethernet some drivers never give an RDMA device a GUID.
fn identity_defect(function: &PhysicalFunction, vf: &VirtualFunction) -> Option<&'static str> {
    let infiniband = function.link_type == Some(LinkType::Infiniband);
    match infiniband {
        true if vf.guid.as_deref() == Some(NO_GUID) => Some("has no GUID"),
        // The end of an IPoIB interface's hardware address is the port's GUID, by which the subnet manager goes.
        true => {
            let address = vf.mac.as_deref().unwrap_or_default();
            let is_zero = address.len() == 59 && address.ends_with("00:00:00:00:00:00:00:00");
            is_zero.then_some("has no port GUID")
        }
        false => (vf.mac.as_deref() == Some(NO_MAC)).then_some("has no MAC address"),
    }
}

fn mtu_defect(vf: &VirtualFunction, group: &Group) -> Option<&'static str> {
    let differs = group.mtu.zip(vf.mtu).is_some_and(|(asked, found)| asked != found);
    differs.then_some("has another MTU than its policy asks for")
}

fn driver_defect(pci: &PciAddress, driver: Option<&str>, group: &Group) -> Option<String> {
    const VFIO: &str = "vfio-pci";
    match (group.device_type, driver) {
        (_, None) => Some(format!("{pci} has no driver")),
        (DeviceType::VfioPci, Some(VFIO)) => None,
        (DeviceType::VfioPci, Some(other)) => {
            Some(format!("{pci} is bound to {other}, and vfio-pci is asked for"))
        }
        (DeviceType::Netdevice, Some(VFIO)) => {
            Some(format!("{pci} is bound to vfio-pci, and a network interface is asked for"))
        }
        (DeviceType::Netdevice, Some(_)) => None,
    }
}

/// Devices of the previous offer that are still asked for, or held, and are not seen now.
fn keep_what_may_not_vanish(
    resources: &mut Resources,
    previous: &Offer,
    desired: &Desired,
    held: &BTreeSet<&str>,
) {
    for (name, was) in &previous.resources {
        for device in &was.devices {
            let listed = resources.values().flat_map(|r| &r.devices).any(|d| d.pci == device.pci);
            let is_held = held.contains(device.pci.to_string().as_str());
            let asked = resources.contains_key(name) && wants_vfs(desired, device);
            let state = match (asked, is_held) {
                _ if listed => continue,
                // What is wanted of this PF is not understood, so it is left as it is.
                _ if desired.untouchable.contains(&device.parent) => device.state.clone(),
                (false, false) => continue,
                (true, _) => gone(format!("{} does not exist at the moment", device.pci)),
                (false, true) => gone("no policy asks for it any more".to_owned()),
            };
            let resource = resources
                .entry(name.clone())
                .or_insert_with(|| OfferedResource { devices: Vec::new(), ..was.clone() });
            resource.devices.push(OfferedDevice { state, ..device.clone() });
        }
    }
}

/// What a pod holds tells less of itself than when it was free.
fn keep_profiles(resources: &mut Resources, previous: &Offer, held: &BTreeSet<&str>) {
    let was = |pci: &PciAddress| {
        let mut devices = previous.resources.values().flat_map(|resource| &resource.devices);
        devices.find(|device| device.pci == *pci)?.profile.clone()
    };
    let devices = resources.values_mut().flat_map(|resource| &mut resource.devices);
    for device in devices.filter(|device| held.contains(device.pci.to_string().as_str())) {
        device.profile = was(&device.pci).or(device.profile.take());
    }
}

fn gone(because: String) -> OfferState {
    OfferState::Withdrawn { because }
}

/// True while VFs are wanted of the device's PF: it was there, it will be again.
fn wants_vfs(desired: &Desired, device: &OfferedDevice) -> bool {
    let wanted = desired.functions.iter().find(|function| function.pci == device.parent);
    wanted.is_some_and(|function| function.num_vfs > 0 && device.pci != device.parent)
}

#[cfg(test)]
#[path = "offer_tests.rs"]
mod tests;
