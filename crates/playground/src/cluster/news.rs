//! What changed in the API since the built-in parts last looked, so that each looks only when it has something to see.
//!
//! A cursor into the store's changes, and the pods of each node kept up with it. It decides nothing.

use super::cluster::Api;
use super::objects::{name, namespace, text};
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
    namespaces: bool,
    workloads: bool,
    nodes: BTreeSet<String>,
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

    /// True when workloads, pods or nodes changed since the last call.
    pub fn take_workloads(&mut self) -> bool {
        std::mem::take(&mut self.workloads)
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
        self.workloads = true;
        self.nodes = api.list("v1", "Node").iter().map(|node| name(node).to_owned()).collect();
        api.list("v1", "Pod").iter().for_each(|pod| self.note_pod(pod, Some(pod)));
    }

    fn note(&mut self, object: &Arc<Value>, api: &dyn Api) {
        match text(object, "/kind") {
            "Namespace" | "ServiceAccount" => self.namespaces = true,
            "Deployment" | "ReplicaSet" | "DaemonSet" => self.workloads = true,
            "Node" => {
                self.workloads = true;
                self.nodes.insert(name(object).to_owned());
            }
            "Pod" => {
                self.workloads = true;
                // The change may be a deletion, and the store knows what is there now.
                let now = api.get("v1", "Pod", namespace(object), name(object));
                self.note_pod(object, now.as_ref());
            }
            _ => {}
        }
    }

    fn note_pod(&mut self, changed: &Arc<Value>, now: Option<&Arc<Value>>) {
        let place = (namespace(changed).to_owned(), name(changed).to_owned());
        let same = |pod: &Arc<Value>| namespace(pod) == place.0 && name(pod) == place.1;
        if let Some(node) = self.places.remove(&place) {
            if let Some(pods) = self.pods.get_mut(&node) {
                pods.retain(|pod| !same(pod));
            }
            self.nodes.insert(node);
        }
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
