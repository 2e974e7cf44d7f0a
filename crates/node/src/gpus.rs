//! The GPUs of the pod that the kubelet admits, as far as its list of given devices tells: the request for our devices
//! names no pod, and a container's resources are given in no fixed order.
//!
//! Only one sign counts: exactly one pod that has new GPUs and none of our devices yet. Else nothing is said, and devices are
//! chosen without a look at GPUs.

use crate::nearness::Place;
use crate::proto::v1::{ContainerDevices, ListPodResourcesResponse, PodResources};
use api::{PciAddress, Timestamp};
use host::Host;
use std::collections::BTreeMap;

/// A pod whose GPUs were seen first so long ago is not being admitted any more.
const NEW_SECONDS: u64 = 5;
const FUNCTIONS: &str = "/sys/bus/pci/devices";
/// A directory for each GPU of NVIDIA's driver, by PCI address; the file `information` in it has the id.
const NVIDIA: &str = "/proc/driver/nvidia/gpus";

/// The GPUs of this node, each by the ids under which device plugins list it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpus {
    places: BTreeMap<String, Place>,
}

impl Gpus {
    pub fn read(host: &dyn Host) -> Self {
        let functions = host.list(FUNCTIONS).unwrap_or_default();
        let functions = functions.iter().filter_map(|name| name.parse::<PciAddress>().ok());
        let mut places = BTreeMap::new();
        for pci in functions.filter(|pci| is_gpu(host, pci)) {
            let place = place(host, &pci);
            // NVIDIA's plugin lists UUIDs. AMD's lists PCI addresses.
            if let Some(uuid) = nvidia_uuid(host, &pci) {
                places.insert(uuid, place.clone());
            }
            // Intel's lists `card0-0`: the DRM device, and which share of it.
            for card in host.list(&pci.file("drm")).unwrap_or_default() {
                places.insert(card, place.clone());
            }
            places.insert(pci.to_string(), place);
        }
        Self { places }
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// True when a GPU of NVIDIA's was given of which this was read too early to know.
    pub fn lacks_one_of(&self, listed: &ListPodResourcesResponse) -> bool {
        let containers = listed.pod_resources.iter().flat_map(|pod| &pod.containers);
        let mut ids = containers.flat_map(|c| &c.devices).flat_map(|given| &given.device_ids);
        ids.any(|id| id.starts_with("GPU-") && !self.places.contains_key(whole(id)))
    }

    /// The GPUs among a container's devices of one resource.
    fn among(&self, given: &ContainerDevices) -> Vec<Place> {
        given.device_ids.iter().filter_map(|id| self.of(id, given)).collect()
    }

    fn of(&self, id: &str, given: &ContainerDevices) -> Option<Place> {
        let whole = whole(id);
        let card = whole.rsplit_once('-').map(|(card, _)| card).filter(|c| c.starts_with("card"));
        let known = self.places.get(whole).or_else(|| self.places.get(card?));
        // Of a part with an id of its own (MIG) the kubelet knows the NUMA node.
        let part = || {
            let name = given.resource_name.rsplit('/').next().unwrap_or_default();
            let node = given.topology.as_ref()?.nodes.first()?.id;
            let node = u32::try_from(node).ok().filter(|_| {
                name.starts_with("mig-") || name.ends_with("gpu") || name.starts_with("gpu")
            })?;
            Some(Place { numa_node: Some(node), above: Vec::new() })
        };
        known.cloned().or_else(part)
    }
}

/// `GPU-…::2` is a share of a GPU that several pods have.
fn whole(id: &str) -> &str {
    id.split_once("::").map_or(id, |(whole, _)| whole)
}

/// Display controllers and accelerators; not the VGA of a board's management controller.
fn is_gpu(host: &dyn Host, pci: &PciAddress) -> bool {
    let text = |file: &str| host.read(&pci.file(file)).unwrap_or_default();
    let text = |file: &str| String::from_utf8_lossy(&text(file)).trim().to_lowercase();
    let class = text("class");
    let vga_of_a_gpu = || matches!(text("vendor").as_str(), "0x10de" | "0x1002" | "0x8086");
    match class.get(..6) {
        Some("0x0302" | "0x0380" | "0x1200") => true,
        Some("0x0300") => vga_of_a_gpu(),
        _ => false,
    }
}

/// Where a function is; no bridges where sysfs does not tell.
pub fn place(host: &dyn Host, pci: &PciAddress) -> Place {
    let target = host.link_target(&pci.directory()).unwrap_or_default();
    let path = target.split_once("devices/").map_or("", |(_, path)| path);
    let mut above: Vec<String> = path.split('/').map(str::to_owned).collect();
    // The function itself.
    above.pop();
    let node = host.read(&pci.file("numa_node")).unwrap_or_default();
    let numa_node = String::from_utf8_lossy(&node).trim().parse().ok();
    Place { numa_node, above }
}

fn nvidia_uuid(host: &dyn Host, pci: &PciAddress) -> Option<String> {
    let text = host.read(&format!("{NVIDIA}/{pci}/information")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("GPU UUID:"))?;
    Some(line.trim().to_owned())
}

type Pod = (String, String);

/// Which pods have GPUs and since when, as far as it was seen.
#[derive(Debug, Default)]
pub struct Admissions {
    first_seen: BTreeMap<Pod, Timestamp>,
    /// What was there before the first look is not new.
    begun: bool,
    /// The GPUs of each pod that has none of our devices, by the last look, and since when.
    without_ours: Vec<(Timestamp, Vec<Place>)>,
}

impl Admissions {
    /// Takes a list of the kubelet in.
    pub fn look(
        &mut self,
        listed: &ListPodResourcesResponse,
        gpus: &Gpus,
        ours: impl Fn(&str) -> bool,
        now: Timestamp,
    ) {
        let with_gpus: BTreeMap<Pod, (&PodResources, Vec<Place>)> = listed
            .pod_resources
            .iter()
            .map(|pod| ((pod.namespace.clone(), pod.name.clone()), (pod, of_pod(pod, gpus))))
            .filter(|(_, (_, gpus))| !gpus.is_empty())
            .collect();
        self.first_seen.retain(|pod, _| with_gpus.contains_key(pod));
        let since = if self.begun { now } else { Timestamp::UNIX_EPOCH };
        self.begun = true;
        self.without_ours.clear();
        for (key, (pod, gpus)) in with_gpus {
            let seen = *self.first_seen.entry(key).or_insert(since);
            let mut given = pod.containers.iter().flat_map(|container| &container.devices);
            if !given.any(|given| ours(&given.resource_name)) {
                self.without_ours.push((seen, gpus));
            }
        }
    }

    /// A device of ours was given since the last look: who has none is not known until the next.
    pub fn forget(&mut self) {
        self.without_ours.clear();
    }

    /// The GPUs of the one pod that has new ones and none of our devices; of two nobody knows which is meant.
    pub fn of_the_one_admitted(&self, now: Timestamp) -> Vec<Place> {
        let is_new =
            |seen: Timestamp| now.duration_since(seen).unsigned_abs().as_secs() < NEW_SECONDS;
        let mut new = self.without_ours.iter().filter(|(seen, _)| is_new(*seen));
        match (new.next(), new.next()) {
            (Some((_, gpus)), None) => gpus.clone(),
            _ => Vec::new(),
        }
    }
}

fn of_pod(pod: &PodResources, gpus: &Gpus) -> Vec<Place> {
    let given = pod.containers.iter().flat_map(|container| &container.devices);
    given.flat_map(|given| gpus.among(given)).collect()
}

#[cfg(test)]
#[path = "gpus_tests.rs"]
mod tests;
