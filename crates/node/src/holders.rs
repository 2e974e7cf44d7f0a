//! Who holds which device: PodResources, CNI journal, the kubelet's checkpoint and young claims, joined.
//!
//! Too many holders is slow, too few is a pod that loses its device: what is doubtful counts as held.

use crate::proto::v1::{ContainerResources, ListPodResourcesResponse};
use api::custody::{Claims, EndedPod, Holder};
use api::nodestate::SriovNetworkNodeState;
use api::{PciAddress, Timestamp, annotation};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a claim counts that PodResources does not know: the kubelet lists a pod only some time after Allocate.
pub const YOUNG: Duration = Duration::from_secs(120);

/// What is remembered of claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// Those that PodResources has named, by device, with their time: once it names them no more, the pod is gone.
    named: BTreeMap<PciAddress, Timestamp>,
    /// Those of a time that was still to come, since the clock was set back, each with when that was seen.
    ahead: BTreeMap<PciAddress, (Timestamp, Timestamp)>,
}

impl Confirmed {
    /// The claims with times of our clock. Of one that is ahead of it only that it was given before it was seen is known: it
    /// counts as given then, and once that is no longer young, as given long ago. A day that a clock was ahead must not be
    /// a day in which the device is held.
    pub fn in_our_time(&mut self, mut claims: Claims, now: Timestamp) -> Claims {
        self.ahead.retain(|device, (at, _)| {
            claims.claims.get(device).is_some_and(|claim| claim.at == *at)
        });
        for (device, claim) in &mut claims.claims {
            if claim.at > now {
                self.ahead.entry(*device).or_insert((claim.at, now));
            }
            if let Some((_, seen)) = self.ahead.get_mut(device) {
                *seen = now.min(*seen);
                claim.at = if is_young(*seen, now) { *seen } else { Timestamp::UNIX_EPOCH };
            }
        }
        claims
    }

    /// The devices with a claim that is no longer young and that nobody ever named: of a pod that never came, or of one whose
    /// plain init container has it.
    pub fn unnamed(
        &self,
        pods: &[Holder],
        journal: &[Holder],
        claims: &Claims,
        now: Timestamp,
    ) -> BTreeSet<PciAddress> {
        let known = pods.iter().chain(journal).filter_map(|holder| holder.device.parse().ok());
        let known: BTreeSet<PciAddress> = known.collect();
        let unnamed = claims.claims.iter().filter(|(device, claim)| {
            !is_young(claim.at, now)
                && self.named.get(*device) != Some(&claim.at)
                && !known.contains(*device)
        });
        unnamed.map(|(device, _)| *device).collect()
    }
}

/// A younger claim may belong to a pod that comes, while PodResources still names the pod that had the device before.
const SETTLED_SECONDS: i64 = 10;

/// Takes in which claims PodResources names now, and forgets those that are gone.
pub fn confirm(confirmed: &mut Confirmed, pods: &[Holder], claims: &Claims, now: Timestamp) {
    let named = &mut confirmed.named;
    named.retain(|device, at| claims.claims.get(device).is_some_and(|claim| claim.at == *at));
    for holder in pods {
        let Ok(device) = holder.device.parse() else { continue };
        let claim = claims.claims.get(&device);
        let settled = |at: Timestamp| now.as_second() - at.as_second() >= SETTLED_SECONDS;
        if let Some(claim) = claim.filter(|claim| settled(claim.at)) {
            named.insert(device, claim.at);
        }
    }
}

/// The devices that PodResources names, each with its pod, whether a device plugin or a DRA driver gave them. Devices of
/// others (GPUs) are left out: their ids are no PCI addresses, or not of a resource of ours, which the caller cannot always
/// know; extra ones do no harm.
pub fn of_pod_resources(response: &ListPodResourcesResponse) -> Vec<Holder> {
    let mut holders = BTreeSet::new();
    for pod in &response.pod_resources {
        for (resource, device) in pod.containers.iter().flat_map(devices) {
            holders.insert(Holder {
                device: device.to_string(),
                resource: resource.to_owned(),
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                uid: String::new(),
            });
        }
    }
    holders.into_iter().collect()
}

/// A container's devices, each with its resource, or with the DRA driver that gave it.
fn devices(container: &ContainerResources) -> impl Iterator<Item = (&str, PciAddress)> {
    let plugin = container.devices.iter().flat_map(|given| {
        let ids = given.device_ids.iter().filter_map(|id| id.parse().ok());
        ids.map(|device| (given.resource_name.as_str(), device))
    });
    let claims = container.dynamic_resources.iter().flat_map(|claim| &claim.claim_resources);
    let dra = claims.filter_map(|given| {
        Some((given.driver_name.as_str(), address_in_dra_name(&given.device_name)?))
    });
    plugin.chain(dra)
}

/// The PCI address in the name that a DRA driver gives a device: a DNS label, so `0000-03-00-2` (dra-driver-sriov) or
/// `pci-0000-03-00-2` (DRANET).
fn address_in_dra_name(name: &str) -> Option<PciAddress> {
    let parts: Vec<&str> = name.strip_prefix("pci-").unwrap_or(name).split('-').collect();
    let [domain, bus, slot, function] = parts.as_slice() else { return None };
    format!("{domain}:{bus}:{slot}.{function}").parse().ok()
}

/// The pods that have ended here, as the operator says while the node is drained. What cannot be read names nobody.
pub fn named_as_ended(state: &SriovNetworkNodeState) -> Vec<EndedPod> {
    let text = state.metadata.annotations.get(annotation::ENDED_PODS);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// What PodResources says, without the pods that the operator names as ended: a kubelet before 1.34 lists them on.
///
/// PodResources tells no uid, and a new pod may have the same name. Then the device was given since, or the CNI has it.
/// A pod ends in a whole second, in which its own claim may lie; a device without a claim was given in an earlier boot.
/// Of what DRA drivers gave (their names have no slash) nobody claims anything here, and the kubelet forgets it itself.
pub fn that_run(
    pods: &[Holder],
    ended: &[EndedPod],
    journal: &[Holder],
    claims: &Claims,
) -> Vec<Holder> {
    let given_since = |device: &str, end: Timestamp| {
        let claim = device.parse().ok().and_then(|pci: PciAddress| claims.claims.get(&pci));
        claim.is_some_and(|claim| claim.at.as_second() > end.as_second())
    };
    let has_ended = |holder: &Holder| {
        let is_it = |one: &EndedPod| (&one.namespace, &one.pod) == (&holder.namespace, &holder.pod);
        let device = &holder.device;
        holder.resource.contains('/')
            && ended.iter().any(|pod| is_it(pod) && !given_since(device, pod.finished_at))
            && journal.iter().all(|record| record.device != *device)
    };
    pods.iter().filter(|holder| !has_ended(holder)).cloned().collect()
}

/// Joins the four sources: one holder for each device, the best known first.
///
/// `journal` are those that the CNI has moved and not brought home, `remembered` what the kubelet's checkpoint says of those
/// that nobody else names.
pub fn join(
    pods: &[Holder],
    journal: &[Holder],
    remembered: &[Holder],
    claims: &Claims,
    confirmed: &Confirmed,
    now: Timestamp,
) -> Vec<Holder> {
    let mut holders: BTreeMap<String, Holder> = BTreeMap::new();
    for holder in pods.iter().chain(journal).chain(remembered) {
        let known = holders.entry(holder.device.clone()).or_insert_with(|| holder.clone());
        // PodResources tells no uid; the CNI, which knows it, may speak of the pod that had the device before.
        if known.uid.is_empty()
            && (&known.namespace, &known.pod) == (&holder.namespace, &holder.pod)
        {
            known.uid.clone_from(&holder.uid);
        }
    }
    for (device, claim) in &claims.claims {
        if is_young(claim.at, now) && confirmed.named.get(device) != Some(&claim.at) {
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

fn is_young(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at).as_secs() < YOUNG.as_secs() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{ClaimResource, ContainerDevices, DynamicResource, PodResources};
    use api::custody::Claim;

    const DEVICE: &str = "0000:03:00.2";

    fn claims(at: i64) -> Claims {
        let claim = Claim {
            resource: "openshift.io/rdma_vf".to_owned(),
            at: second(at),
            nodes: Vec::new(),
        };
        let claims = BTreeMap::from([(DEVICE.parse().unwrap(), claim)]);
        Claims { claims, ..Claims::default() }
    }

    fn second(at: i64) -> Timestamp {
        Timestamp::from_second(at).unwrap()
    }

    fn pod() -> Holder {
        Holder { device: DEVICE.to_owned(), pod: "rdma-app".to_owned(), ..Holder::default() }
    }

    /// The pod that PodResources names ended at second 100; what else is known of its device: is it held?
    fn check_ended(claimed: Option<i64>, journal: &[Holder], ended: &str, held: bool) {
        let holder = Holder { resource: "openshift.io/rdma_vf".to_owned(), ..pod() };
        let ended =
            EndedPod { namespace: String::new(), pod: ended.to_owned(), finished_at: second(100) };
        let claims = claimed.map(claims).unwrap_or_default();
        let runs = that_run(&[holder], &[ended], journal, &claims);
        assert_eq!(!runs.is_empty(), held, "{claimed:?} {journal:?}");
    }

    #[test]
    fn a_pod_that_the_operator_names_as_ended_holds_only_what_was_given_since_or_what_the_cni_has()
    {
        check_ended(Some(40), &[], "rdma-app", false);
        check_ended(Some(100), &[], "rdma-app", false);
        check_ended(None, &[], "rdma-app", false);
        check_ended(Some(40), &[], "another-app", true);
        // A new pod of the same name: given since, or attached.
        check_ended(Some(101), &[], "rdma-app", true);
        check_ended(None, &[Holder { uid: "new".to_owned(), ..pod() }], "rdma-app", true);
        // A DRA driver's device is nobody's claim.
        let ended = EndedPod {
            namespace: String::new(),
            pod: "rdma-app".to_owned(),
            finished_at: second(100),
        };
        let by_dra = Holder { resource: "dra.net".to_owned(), ..pod() };
        assert!(!that_run(&[by_dra], &[ended], &[], &Claims::default()).is_empty());
    }

    /// At these seconds, with PodResources naming the pod or not: is the device held?
    fn check(claimed: i64, looks: &[(i64, bool)], held: &[bool]) {
        let mut confirmed = Confirmed::default();
        let look = |(at, named): &(i64, bool)| {
            let pods = if *named { vec![pod()] } else { vec![] };
            let claims = confirmed.in_our_time(claims(claimed), second(*at));
            confirm(&mut confirmed, &pods, &claims, second(*at));
            !join(&pods, &[], &[], &claims, &confirmed, second(*at)).is_empty()
        };
        assert_eq!(looks.iter().map(look).collect::<Vec<_>>(), held);
    }

    #[test]
    fn devices_of_a_device_plugin_and_of_dra_drivers_are_held_by_the_pod_and_devices_of_others_are_not()
     {
        let claimed = |driver: &str, device: &str| DynamicResource {
            claim_resources: vec![ClaimResource {
                driver_name: driver.to_owned(),
                device_name: device.to_owned(),
            }],
        };
        let container = ContainerResources {
            devices: vec![ContainerDevices {
                resource_name: "openshift.io/rdma_vf".to_owned(),
                device_ids: vec!["0000:03:00.2".to_owned(), "GPU-8f2c1d90".to_owned()],
                topology: None,
            }],
            dynamic_resources: vec![
                claimed("sriovnetwork.k8snetworkplumbingwg.io", "0000-03-00-3"),
                claimed("dra.net", "pci-0000-04-00-1"),
                claimed("dra.net", "net-eth0"),
                claimed("gpu.nvidia.com", "gpu-0"),
                claimed("odd.example", "0000-03-00-2-1"),
            ],
            ..ContainerResources::default()
        };
        let response = ListPodResourcesResponse {
            pod_resources: vec![PodResources {
                name: "rdma-app".to_owned(),
                namespace: "default".to_owned(),
                containers: vec![container],
            }],
        };
        let holders = of_pod_resources(&response);
        assert!(holders.iter().all(|h| (&*h.namespace, &*h.pod) == ("default", "rdma-app")));
        let held: Vec<_> = holders.iter().map(|h| (&*h.device, &*h.resource)).collect();
        assert_eq!(
            held,
            [
                ("0000:03:00.2", "openshift.io/rdma_vf"),
                ("0000:03:00.3", "sriovnetwork.k8snetworkplumbingwg.io"),
                ("0000:04:00.1", "dra.net"),
            ]
        );
    }

    #[test]
    fn a_holder_has_the_uid_that_the_cni_knows_and_never_that_of_another_pod() {
        let mut journalled = Holder { uid: "u-1".to_owned(), ..pod() };
        let uid = |journal: &Holder| {
            let journal = std::slice::from_ref(journal);
            let none = Claims::default();
            join(&[pod()], journal, &[], &none, &Confirmed::default(), second(0)).remove(0).uid
        };
        assert_eq!(uid(&journalled), "u-1");
        journalled.pod = "rdma-app-before".to_owned();
        assert_eq!(uid(&journalled), "");
    }

    #[test]
    fn a_young_claim_holds_until_the_kubelet_knows_the_pod_and_an_old_one_does_not() {
        check(100, &[(101, false), (219, false), (220, false)], &[true, true, false]);
    }

    #[test]
    fn a_pod_that_was_named_and_is_named_no_more_is_gone() {
        check(100, &[(115, true), (116, false)], &[true, false]);
    }

    #[test]
    fn a_pod_that_is_named_right_after_the_claim_may_be_the_one_before() {
        check(100, &[(101, true), (102, false), (115, false)], &[true, true, true]);
    }

    #[test]
    fn after_a_clock_was_set_back_a_claim_is_young_from_when_it_is_seen() {
        let day = 86_400;
        check(day, &[(50, false), (169, false), (170, false)], &[true, true, false]);
        check(
            day,
            &[(50, false), (20, false), (139, false), (140, false)],
            &[true, true, true, false],
        );
        check(day, &[(50, true), (60, true), (61, false)], &[true, true, false]);
        check(100, &[(50, false), (101, false), (170, false)], &[true, true, false]);
    }
}
