//! Who holds which device: PodResources, CNI journal and young claims, joined.
//!
//! Too many holders is slow, too few is a pod that loses its device: what is doubtful counts as held.

use crate::proto::v1::ListPodResourcesResponse;
use api::custody::{Claims, Holder};
use api::{PciAddress, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a claim counts that PodResources does not know: the kubelet lists a pod only some time after Allocate.
pub const YOUNG: Duration = Duration::from_secs(120);

/// The devices that PodResources names, each with its pod. Devices of others (GPUs) are left out: their ids are no PCI
/// addresses, or not of a resource of ours, which the caller cannot always know; extra ones do no harm.
pub fn of_pod_resources(response: &ListPodResourcesResponse) -> Vec<Holder> {
    let mut holders = BTreeSet::new();
    for pod in &response.pod_resources {
        let devices = pod.containers.iter().flat_map(|container| &container.devices);
        for (resource, id) in
            devices.flat_map(|d| d.device_ids.iter().map(move |id| (&d.resource_name, id)))
        {
            if id.parse::<PciAddress>().is_ok() {
                holders.insert(Holder {
                    device: id.clone(),
                    resource: resource.clone(),
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    uid: String::new(),
                });
            }
        }
    }
    holders.into_iter().collect()
}

/// Joins the three sources: one holder for each device, the best known first.
///
/// `journal` are those that the CNI has moved and not brought home.
pub fn join(pods: &[Holder], journal: &[Holder], claims: &Claims, now: Timestamp) -> Vec<Holder> {
    let mut holders: BTreeMap<String, Holder> = BTreeMap::new();
    for holder in pods.iter().chain(journal) {
        holders.entry(holder.device.clone()).or_insert_with(|| holder.clone());
    }
    for (device, claim) in &claims.claims {
        if is_young(claim.at, now) {
            let device = device.to_string();
            holders.entry(device.clone()).or_insert_with(|| Holder {
                device,
                resource: claim.resource.clone(),
                ..Holder::default()
            });
        }
    }
    holders.into_values().collect()
}

/// A claim from the future is young too: the clock was set back, and doubt counts as held.
pub fn is_young(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at).as_secs() < YOUNG.as_secs() as i64
}
