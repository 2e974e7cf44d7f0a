//! The device plugin over the seam: taking an offer in, and giving devices out. No socket, no kubelet.
//!
//! The order is the safety: an offer is acknowledged once nothing can be given by an older one; a claim is on the disk
//! before the kubelet hears of the device.

use crate::custody::{self, Found};
use crate::plugin::{self, Delivery};
use crate::proto::v1beta1::{AllocateRequest, AllocateResponse};
use api::PciAddress;
use api::custody::{Offer, OfferState, OfferedDevice, OfferedResource};
use host::device_lock::{self, LockError};
use host::facilities::{self, Facilities};
use host::{Host, Refusal, cdi};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Directory of the device-info files that Multus copies into a pod's network status.
pub const DEVICE_INFO: &str = "/var/run/k8s.cni.cncf.io/devinfo/dp";

/// How often a device that lacks what its resource promises is looked at before the pod is refused, and the pause.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// What reading the offer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// A new one, acknowledged.
    New(Offer),
    Same,
    /// None in this boot yet.
    None,
    /// Not good; the last good one stays in force.
    Refused(String),
}

/// Reads the offer and acknowledges it where it is new. Callers see to it that no Allocate runs meanwhile.
pub fn take_offer(host: &dyn Host, boot_id: &str, in_force: Option<&Offer>) -> Taken {
    let offer = match custody::read_offer(host, boot_id) {
        Found::Good(offer) if in_force == Some(&offer) => return Taken::Same,
        Found::Good(offer) => offer,
        Found::Missing if in_force.is_none() => return Taken::None,
        Found::Missing => {
            return Taken::Refused(
                "the offer is gone; the last good one stays in force".to_owned(),
            );
        }
        Found::Bad(why) => return Taken::Refused(why),
    };
    let claims = custody::read_claims(host, boot_id).good().unwrap_or_default();
    match custody::write_claims(host, &plugin::acknowledge(&offer, &claims)) {
        Ok(()) => Taken::New(offer),
        Err(refusal) => {
            Taken::Refused(format!("cannot acknowledge offer {}: {refusal}", offer.sequence))
        }
    }
}

/// Makes the CDI specs of ready devices that have none: a boot takes them away, and the kubelet admits a pod again with the
/// name that it was given before, and asks nobody; one without a network has no ADD either that would make it. Before the
/// kubelet is registered with, and where no Allocate runs. What is told stands in the way of such pods.
pub fn restore_specs(host: &dyn Host, offer: &Offer) -> Option<String> {
    if offer.by_path {
        return None;
    }
    let resources = offer.resources.iter();
    let devices = resources.flat_map(|(name, resource)| {
        let ready = resource.devices.iter().filter(|device| device.state == OfferState::Ready);
        ready.map(move |device| (name, resource, device))
    });
    let lacking = devices.filter(|(_, _, device)| host.metadata(&cdi::path(&device.pci)).is_err());
    let told = lacking.filter_map(|(name, resource, device)| {
        let why = restore_spec(host, resource, device).err()?;
        let pci = device.pci;
        Some(format!("{pci} ({name}) cannot be given again to a pod of before the boot: {why}"))
    });
    let mut told = told.collect::<Vec<_>>().into_iter();
    // A module that is missing is missing for all.
    let first = told.next()?;
    Some(match told.len() {
        0 => first,
        more => format!("{first}; nor can {more} other devices"),
    })
}

fn restore_spec(
    host: &dyn Host,
    resource: &OfferedResource,
    device: &OfferedDevice,
) -> Result<(), String> {
    if facilities::of(host, resource, device).nodes().is_empty() && !resource.rdma {
        return Ok(());
    }
    let _lock = match device_lock::take(host, &device.pci, Duration::ZERO) {
        Ok(lock) => lock,
        // An ADD, which makes the spec itself, or a DEL, after which the device is given anew.
        Err(LockError::Held { .. }) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    // An ADD may have come before us.
    if host.metadata(&cdi::path(&device.pci)).is_ok() {
        return Ok(());
    }
    // Under the lock nobody moves it, so that what it lacks does not come by waiting.
    let found = facilities::of(host, resource, device);
    match plugin::missing(resource, device, &found) {
        Some(missing) => Err(format!("it {missing}")),
        None => {
            cdi::write(host, &device.pci, &found.nodes()).map_err(|why| format!("cannot {why}"))
        }
    }
}

/// Answers Allocate: by the offer as it is now, or by the last good one where the file is not good.
pub fn allocate(
    host: &dyn Host,
    in_force: &Offer,
    resource_name: &str,
    request: &AllocateRequest,
    delivery: Delivery,
) -> Result<AllocateResponse, String> {
    let found = custody::read_offer(host, &in_force.boot_id).good();
    let offer = found.as_ref().unwrap_or(in_force);
    let delivery = if offer.by_path { Delivery::DeviceSpecs } else { delivery };
    let claims = custody::read_claims(host, &offer.boot_id).good().unwrap_or_default();
    let facilities = offer
        .resources
        .get(resource_name)
        .map_or_else(BTreeMap::new, |resource| look_at(host, resource, request));
    let now = host.now();
    let (response, claims) =
        plugin::allocate(offer, resource_name, request, &claims, &facilities, delivery, now)?;
    let written = custody::write_claims(host, &claims);
    written.map_err(|refusal| {
        format!("cannot write down who is given what: {refusal}; trying again helps")
    })?;
    prepare(host, resource_name, &facilities)
        .map_err(|refusal| format!("cannot prepare the devices for a container: {refusal}"))?;
    Ok(response)
}

fn look_at(
    host: &dyn Host,
    resource: &OfferedResource,
    request: &AllocateRequest,
) -> BTreeMap<PciAddress, Facilities> {
    let asked = request.container_requests.iter().flat_map(|container| &container.devices_ids);
    let devices = asked.filter_map(|id| resource.devices.iter().find(|d| d.pci.to_string() == *id));
    devices.map(|device| (device.pci, look_well(host, resource, device))).collect()
}

/// A move of the RDMA device, by the DEL of the pod before, makes its character devices anew: for a moment it has none.
fn look_well(host: &dyn Host, resource: &OfferedResource, device: &OfferedDevice) -> Facilities {
    let mut found = facilities::of(host, resource, device);
    for _ in 1..LOOKS {
        if plugin::missing(resource, device, &found).is_none() {
            break;
        }
        host.wait(&[], PAUSE);
        found = facilities::of(host, resource, device);
    }
    found
}

/// The files by which others learn of a device: its CDI spec, and its device-info file.
fn prepare(
    host: &dyn Host,
    resource_name: &str,
    facilities: &BTreeMap<PciAddress, Facilities>,
) -> Result<(), Refusal> {
    for (pci, facilities) in facilities {
        cdi::write(host, pci, &facilities.nodes())?;
        let (path, text) = device_info(resource_name, pci, facilities);
        host.replace(&path, text.as_bytes(), 0o444)?;
    }
    Ok(())
}

/// Path and content of a device-info file, in the form of the Network Plumbing Working Group.
pub fn device_info(
    resource_name: &str,
    pci: &PciAddress,
    facilities: &Facilities,
) -> (String, String) {
    let path = format!("{DEVICE_INFO}/{}-{pci}-device.json", resource_name.replace('/', "-"));
    let mut device = json!({ "pci-address": pci });
    if !facilities.rdma_device.is_empty() {
        device["rdma-device"] = json!(facilities.rdma_device);
    }
    (path, json!({ "type": "pci", "version": "1.1.0", "pci": device }).to_string())
}
