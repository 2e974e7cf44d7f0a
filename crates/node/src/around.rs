//! Shell: what the device plugin knows of the node around it: where PFs and GPUs are (sysfs), and which pod was just given
//! GPUs (the kubelet's PodResources).
//!
//! The kubelet waits for a preference without a limit, so a request finds everything in memory: it asks nobody and reads no
//! file. What it finds is looked up beside the requests, by `keep`: after a new offer, and after whatever may have given a
//! pod its GPUs. Never by the clock, and never on a node without GPUs.

use crate::gpus::{self, Admissions, Gpus};
use crate::nearness::{Choice, Places};
use crate::plugin;
use crate::pod_resources;
use crate::proto::v1beta1::{PreferredAllocationRequest, PreferredAllocationResponse};
use api::PciAddress;
use api::custody::{Offer, OfferedResource};
use host::Host;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tonic::transport::Channel;

pub struct Around {
    host: Arc<dyn Host>,
    /// To the kubelet's PodResources.
    kubelet: Channel,
    offered: Mutex<Arc<Offered>>,
    admissions: Mutex<Admissions>,
    stirred: Notify,
}

/// What the last offer has, and where its PFs were when it was taken.
#[derive(Default)]
struct Offered {
    sequence: u64,
    resources: BTreeMap<String, OfferedResource>,
    places: Places,
}

impl Around {
    pub fn new(host: Arc<dyn Host>, kubelet: Channel) -> Self {
        Self {
            host,
            kubelet,
            offered: Mutex::default(),
            admissions: Mutex::default(),
            stirred: Notify::new(),
        }
    }

    pub fn take_offer(&self, offer: &Offer) {
        let offered = Offered {
            sequence: offer.sequence,
            resources: offer.resources.clone(),
            places: places(self.host.as_ref(), offer),
        };
        *locked(&self.offered) = Arc::new(offered);
        self.stir();
    }

    /// Pods may have been given devices: looks soon.
    pub fn stir(&self) {
        self.stirred.notify_one();
    }

    /// A pod has devices of ours now, and may be the one with new GPUs.
    pub fn given(&self) {
        locked(&self.admissions).forget();
    }

    pub fn preferred(
        &self,
        resource: &str,
        request: &PreferredAllocationRequest,
    ) -> PreferredAllocationResponse {
        let offered = Arc::clone(&locked(&self.offered));
        let gpus = locked(&self.admissions).of_the_one_admitted(self.host.now());
        let nothing = OfferedResource::default();
        let resource = offered.resources.get(resource).unwrap_or(&nothing);
        let choice = Choice { resource, places: &offered.places, gpus: &gpus };
        let answer = plugin::preferred(&choice, request);
        // For the pod's next container.
        self.stir();
        answer
    }

    /// Looks after each stir, one look at a time; any number of stirs during a look are one.
    pub async fn keep(&self) -> Infallible {
        let (mut gpus, mut as_of) = (Gpus::default(), None);
        loop {
            self.stirred.notified().await;
            let sequence = locked(&self.offered).sequence;
            if as_of != Some(sequence) {
                gpus = self.gpus().await;
                as_of = Some(sequence);
            }
            if gpus.is_empty() {
                continue;
            }
            // A kubelet that does not answer tells nothing new.
            let Ok(listed) = pod_resources::ask(self.kubelet.clone()).await else { continue };
            if gpus.lacks_one_of(&listed) {
                // Their driver came later than our offer.
                gpus = self.gpus().await;
            }
            let offered = Arc::clone(&locked(&self.offered));
            let ours = |resource: &str| offered.resources.contains_key(resource);
            locked(&self.admissions).look(&listed, &gpus, ours, self.host.now());
        }
    }

    /// On a thread of its own: a large node has a thousand functions, and requests are answered meanwhile.
    async fn gpus(&self) -> Gpus {
        let host = Arc::clone(&self.host);
        let read = tokio::task::spawn_blocking(move || Gpus::read(host.as_ref()));
        read.await.unwrap_or_default()
    }
}

/// Where the PFs of an offer are.
fn places(host: &dyn Host, offer: &Offer) -> Places {
    let devices = offer.resources.values().flat_map(|resource| &resource.devices);
    let pfs: BTreeSet<PciAddress> = devices.map(|device| device.parent).collect();
    pfs.into_iter().map(|pf| (pf, gpus::place(host, &pf))).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "around_tests.rs"]
mod tests;
