//! Which pods must leave a node before it is changed, which may stay, and who stands in the way.
//!
//! For devices: the pods that hold one, or may be given one any moment. For a reboot: all, as
//! `kubectl drain --ignore-daemonsets` does it. Evicting itself, and what the API answers, is the operator's.

use crate::blocker::Blocker;
use crate::order::DrainRequest;
use api::custody::Holder;
use std::collections::{BTreeMap, BTreeSet};

/// One pod of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainPod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Phase Succeeded or Failed: its containers hold nothing any more.
    pub finished: bool,
    /// Controlled by a DaemonSet, which makes it again on the same node.
    pub daemon_set: bool,
    /// A static pod's mirror: the API cannot remove it.
    pub mirror: bool,
    /// Has a deletion timestamp.
    pub terminating: bool,
    /// Extended resources that its containers request, init containers included: `openshift.io/rdma`.
    pub resources: BTreeSet<String>,
}

impl DrainPod {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What is known about a node that is to be drained.
#[derive(Debug, Clone, Default)]
pub struct DrainFacts {
    pub request: DrainRequest,
    /// All pods on the node.
    pub pods: Vec<DrainPod>,
    /// `NodeState.status.holders`.
    pub holders: Vec<Holder>,
    /// `openshift.io` by default.
    pub resource_prefix: String,
    /// Nodes in the cluster, managed or not.
    pub nodes_in_cluster: usize,
    /// By uid of the pod: what the eviction API answered last, when it refused.
    pub refusals: BTreeMap<String, String>,
}

/// A pod that must go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub because: String,
}

/// How a node is drained now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drain {
    /// New pods must not come. False on a single node, which would have nowhere to put them back.
    pub cordon: bool,
    /// Pods to evict now, by namespace and name. Refused ones are in here too: they are tried again.
    pub evict: Vec<Eviction>,
    /// Pods that stay, each with why.
    pub stay: Vec<(String, String)>,
    pub blockers: Vec<Blocker>,
}

impl Drain {
    /// True when every pod that must go has gone.
    pub fn is_complete(&self) -> bool {
        self.evict.is_empty() && self.blockers.is_empty()
    }
}

/// Plans the drain of one node.
pub fn plan(facts: &DrainFacts) -> Drain {
    let single = facts.nodes_in_cluster == 1;
    if facts.request == DrainRequest::Idle || (single && facts.request == DrainRequest::Reboot) {
        // On the only node there is no other place for its pods: the boot stops and starts them (upstream's rule).
        return Drain::default();
    }
    let mut drain = Drain { cordon: !single, ..Drain::default() };
    let mut pods: Vec<&DrainPod> = facts.pods.iter().filter(|pod| !pod.finished).collect();
    pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
    for pod in pods {
        match must_go(facts, pod) {
            Err(why) => drain.stay.push((pod.key(), why)),
            Ok(_) if pod.terminating => {
                drain.blockers.push(Blocker::PodTerminating { pod: pod.key() });
            }
            Ok(because) => {
                if let Some(message) = facts.refusals.get(&pod.uid) {
                    let message = message.clone();
                    drain.blockers.push(Blocker::DisruptionBudget { pod: pod.key(), message });
                }
                drain.evict.push(Eviction {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                    because,
                });
            }
        }
    }
    drain
}

/// Why a pod must go, or why it may stay.
fn must_go(facts: &DrainFacts, pod: &DrainPod) -> Result<String, String> {
    if pod.mirror {
        return Err("it is a static pod, which the API cannot evict".to_owned());
    }
    if facts.request == DrainRequest::Reboot {
        return match pod.daemon_set {
            true => Err("its DaemonSet would make it again on this node".to_owned()),
            false => Ok("the node is drained for a reboot".to_owned()),
        };
    }
    let held: Vec<String> = facts
        .holders
        .iter()
        .filter(|holder| is_of(holder, pod))
        .map(|holder| holder.device.clone())
        .collect();
    if !held.is_empty() {
        return Ok(format!("it holds {}", crate::blocker::list(&held)));
    }
    let prefix = format!("{}/", facts.resource_prefix);
    match pod.resources.iter().find(|resource| resource.starts_with(&prefix)) {
        // It may be given a device between two reports of the daemon.
        Some(resource) => Ok(format!("it asks for {resource}")),
        None => Err("it holds no device".to_owned()),
    }
}

/// By uid where the daemon knows it, else by name: a name can be a new pod's, a uid never.
fn is_of(holder: &Holder, pod: &DrainPod) -> bool {
    match holder.uid.is_empty() {
        true => {
            !holder.pod.is_empty() && holder.namespace == pod.namespace && holder.pod == pod.name
        }
        false => holder.uid == pod.uid,
    }
}
