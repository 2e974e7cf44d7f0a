//! What changed in the API since the built-in parts last looked, so that each looks only when it has something to see.
//!
//! A cursor into the store's changes, and the nodes and their pods kept up with it. It tells whom a change concerns, and
//! not what is to be done about it.

use super::cluster::Api;
use super::objects::{self, items, name, namespace, text, uid};
use api::wire::at;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct News {
    seen: u64,
    /// The pods of each node, in order of namespace and name.
    pods: BTreeMap<String, Vec<Arc<Value>>>,
    /// The node of each pod that has one.
    places: BTreeMap<(String, String), String>,
    /// The nodes as they were last.
    machines: BTreeMap<String, Arc<Value>>,
    namespaces: bool,
    workloads: Workloads,
    scheduler: bool,
    /// A write failed: with the next change all look at everything.
    failed: bool,
    nodes: BTreeSet<String>,
}

/// The workloads that have something to see.
#[derive(Debug, Default)]
pub struct Workloads {
    everything: bool,
    /// A node came, went, or may be selected by others now.
    nodes: bool,
    /// The uids of those that changed themselves, or that control what changed.
    changed: BTreeSet<String>,
}

impl Workloads {
    pub fn is_empty(&self) -> bool {
        !self.everything && !self.nodes && self.changed.is_empty()
    }

    /// True when a node came, went, or may be selected by others now; or nobody knows.
    pub fn nodes_changed(&self) -> bool {
        self.everything || self.nodes
    }

    /// True when this workload has to be looked at.
    pub fn concern(&self, workload: &Value) -> bool {
        self.everything || self.changed.contains(uid(workload))
    }

    /// True when this workload, which has a pod on each node, has to be looked at.
    pub fn concern_spread(&self, workload: &Value) -> bool {
        self.nodes || self.concern(workload)
    }
}

/// True for kinds that a built-in part looks at.
pub fn is_watched(kind: &str) -> bool {
    matches!(
        kind,
        "Namespace" | "ServiceAccount" | "Pod" | "Node" | "Deployment" | "ReplicaSet" | "DaemonSet"
    )
}

impl News {
    /// Takes in what changed since the last call; everything where that is not known any more.
    pub fn take_in(&mut self, api: &dyn Api) {
        let (revision, changes) = api.changes(self.seen);
        self.seen = revision;
        match changes {
            Some(changes) => changes.iter().for_each(|object| self.note(object, api)),
            None => self.begin_anew(api),
        }
    }

    /// True when namespaces or service accounts changed since the last call.
    pub fn take_namespaces(&mut self) -> bool {
        std::mem::take(&mut self.namespaces)
    }

    /// The workloads that have something to see since the last call.
    pub fn take_workloads(&mut self) -> Workloads {
        std::mem::take(&mut self.workloads)
    }

    /// True when a pod waits for a node, or might find one now, since the last call.
    pub fn take_scheduler(&mut self) -> bool {
        std::mem::take(&mut self.scheduler)
    }

    /// A write of a controller failed: what made it fail will change.
    pub fn look_again_with_the_next(&mut self) {
        self.failed = true;
    }

    /// True when a node or a pod on it changed since the last call.
    pub fn take_node(&mut self, node: &str) -> bool {
        self.nodes.remove(node)
    }

    /// The pods that are bound to a node.
    pub fn pods_on(&self, node: &str) -> &[Arc<Value>] {
        self.pods.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    fn begin_anew(&mut self, api: &dyn Api) {
        self.pods.clear();
        self.places.clear();
        self.namespaces = true;
        self.look_at_everything();
        let nodes = api.list("v1", "Node").into_iter();
        self.machines = nodes.map(|node| (name(&node).to_owned(), node)).collect();
        self.nodes = self.machines.keys().cloned().collect();
        api.list("v1", "Pod").iter().for_each(|pod| self.note_pod(pod, Some(pod)));
    }

    fn look_at_everything(&mut self) {
        self.failed = false;
        self.workloads.everything = true;
        self.scheduler = true;
    }

    fn note(&mut self, object: &Arc<Value>, api: &dyn Api) {
        if self.failed && is_watched(text(object, "/kind")) {
            self.look_at_everything();
        }
        match text(object, "/kind") {
            "Namespace" | "ServiceAccount" => self.namespaces = true,
            "Deployment" | "ReplicaSet" | "DaemonSet" => {
                self.workloads.changed.insert(uid(object).to_owned());
                self.note_owners(object);
            }
            "Node" => {
                // Somebody may have looked in between two changes, of which the second undid the first.
                self.note_machine(name(object), Some(Arc::clone(object)));
                self.note_machine(name(object), api.get("v1", "Node", "", name(object)));
                self.nodes.insert(name(object).to_owned());
            }
            "Pod" => {
                self.note_owners(object);
                // The change may be a deletion, and the store knows what is there now.
                let now = api.get("v1", "Pod", namespace(object), name(object));
                self.note_pod(object, now.as_ref());
            }
            _ => {}
        }
    }

    fn note_owners(&mut self, object: &Value) {
        let owners = items(object, "/metadata/ownerReferences").iter();
        self.workloads.changed.extend(owners.map(|owner| text(owner, "/uid").to_owned()));
    }

    fn note_machine(&mut self, node: &str, now: Option<Arc<Value>>) {
        let before = match &now {
            Some(now) => self.machines.insert(node.to_owned(), now.clone()),
            None => self.machines.remove(node),
        };
        let differ = |pointers: &[&str]| match (&before, &now) {
            (Some(before), Some(now)) => pointers.iter().any(|p| at(before, p) != at(now, p)),
            _ => true,
        };
        let ready = |node: &Option<Arc<Value>>| {
            node.as_ref().map(|node| objects::condition(node, "Ready").to_owned())
        };
        self.workloads.nodes |= differ(&["/metadata/labels", "/spec/taints"]);
        self.scheduler |= differ(&["/metadata/labels", "/spec", "/status/allocatable"])
            || ready(&before) != ready(&now);
    }

    fn note_pod(&mut self, changed: &Arc<Value>, now: Option<&Arc<Value>>) {
        let place = (namespace(changed).to_owned(), name(changed).to_owned());
        let same = |pod: &Arc<Value>| namespace(pod) == place.0 && name(pod) == place.1;
        let mut had_room = false;
        if let Some(node) = self.places.remove(&place) {
            if let Some(pods) = self.pods.get_mut(&node) {
                had_room = pods.iter().any(|pod| same(pod) && !objects::is_finished(pod));
                pods.retain(|pod| !same(pod));
            }
            self.nodes.insert(node);
        }
        // A pod that waits, or one that makes room for others.
        self.scheduler |= match now {
            Some(pod) if text(pod, "/spec/nodeName").is_empty() => true,
            now => had_room && now.is_none_or(|pod| objects::is_finished(pod)),
        };
        let Some(pod) = now.filter(|pod| !text(pod, "/spec/nodeName").is_empty()) else { return };
        let node = text(pod, "/spec/nodeName").to_owned();
        let pods = self.pods.entry(node.clone()).or_default();
        let behind = pods
            .partition_point(|other| (namespace(other), name(other)) < (namespace(pod), name(pod)));
        pods.insert(behind, pod.clone());
        self.nodes.insert(node.clone());
        self.places.insert(place, node);
    }
}
