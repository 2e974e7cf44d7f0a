//! What must hold after every step, and in the end.

use super::story::Story;
use crate::cluster::cluster::Cluster;
use crate::cluster::objects::{self, items, text, texts};
use crate::store::Store;
use api::pool::SriovNetworkPoolConfig;
use api::wire::ObjectKey;
use api::{Timestamp, annotation, names};
use planner::pools::{Limit, limit};
use serde_json::Value;
use std::collections::BTreeMap;

pub struct Invariants {
    /// The last stored version of each pool.
    pools: BTreeMap<String, Value>,
    /// Writes of the current event that moved the world.
    progress: bool,
    nodes: usize,
}

impl Invariants {
    pub fn new(cluster: &Cluster) -> Self {
        Self { pools: BTreeMap::new(), progress: false, nodes: cluster.nodes.len() }
    }

    /// True when the last writes changed something besides leases and events.
    pub fn is_progress(&mut self, store: &Store) -> bool {
        let counts = |kind: &str| !matches!(kind, "Lease" | "Event");
        self.progress = store.audit().iter().any(|entry| entry.changed && counts(&entry.key.kind));
        self.progress
    }

    pub fn check(
        &mut self,
        cluster: &Cluster,
        store: &mut Store,
        _now: Timestamp,
    ) -> Result<(), String> {
        let touched_pool = store.audit().iter().any(|e| e.changed && e.key.kind == names::POOL);
        store.take_audit();
        if touched_pool {
            self.grants(store)?;
        }
        self.devices(cluster)
    }

    /// No grant is accepted that takes the count over the limit of the version it was written on.
    fn grants(&mut self, store: &Store) -> Result<(), String> {
        let mut pools = BTreeMap::new();
        for pool in store.objects(names::API_VERSION, names::POOL) {
            let name = objects::name(pool).to_owned();
            if let Some(before) = self.pools.get(&name) {
                let count = |pool: &Value| items(pool, "/status/grants").len();
                let typed: SriovNetworkPoolConfig = serde_json::from_value(before.clone())
                    .map_err(|e| format!("pool {name}: {e}"))?;
                let allowed = match limit(typed.spec.max_unavailable.as_ref(), self.nodes) {
                    Limit::Nodes(nodes) => nodes,
                    _ => 0,
                };
                if count(pool) > count(before) && count(pool) > allowed {
                    return Err(format!(
                        "pool {name} granted {} nodes where {allowed} are allowed",
                        count(pool)
                    ));
                }
            }
            pools.insert(name, Value::clone(pool));
        }
        self.pools = pools;
        Ok(())
    }

    /// A device that a running pod holds exists, and nobody else was given it.
    fn devices(&self, cluster: &Cluster) -> Result<(), String> {
        for (node, slot) in cluster.nodes.iter().filter(|(_, slot)| slot.is_up()) {
            let mut seen: BTreeMap<&String, &String> = BTreeMap::new();
            let machine = slot.kubelet.host.machine();
            for given in slot.kubelet.devices.given() {
                for id in &given.ids {
                    if let Some(other) = seen.insert(id, &given.pod) {
                        return Err(format!(
                            "{id} on {node} is held by pods {other} and {}",
                            given.pod
                        ));
                    }
                    let exists = id.parse().is_ok_and(|pci| machine.functions.contains_key(&pci));
                    if !exists && slot.kubelet.is_running(&given.pod_uid) {
                        return Err(format!(
                            "{id} on {node} is gone while pod {} runs with it",
                            given.pod
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// The world at rest: every node at its goal or saying why not, and nothing of ours left behind.
    pub fn finish(&self, cluster: &Cluster, store: &Store, story: &Story) -> Result<(), String> {
        for (name, slot) in &cluster.nodes {
            let state = store.object(&ObjectKey::new(
                names::API_VERSION,
                names::NODE_STATE,
                names::NAMESPACE,
                name,
            ));
            let state = state.ok_or(format!("node {name} has no node state"))?;
            let machine = slot.kubelet.host.machine();
            if machine.rdma.mode != Some(story.goal) {
                return Err(format!(
                    "node {name} is in mode {:?} and not {}: {}",
                    machine.rdma.mode,
                    story.goal,
                    excuse(state)
                ));
            }
            let pf = machine.functions.keys().find(|pci| pci.to_string() == "0000:03:00.0");
            let vfs = pf.map_or(0, |pf| machine.vfs_of(pf).len());
            if story.vfs.is_some_and(|wanted| wanted as usize != vfs) {
                return Err(format!(
                    "node {name} has {vfs} VFs and not {:?}: {}",
                    story.vfs,
                    excuse(state)
                ));
            }
            if slot.reboots > story.mode_changes {
                return Err(format!(
                    "node {name} was rebooted {} times for {} changes of mode",
                    slot.reboots, story.mode_changes
                ));
            }
            let annotations = texts(state, "/metadata/annotations");
            for key in [annotation::DESIRED_STATE, annotation::CURRENT_STATE] {
                if annotations.get(key).is_some_and(|value| *value != annotation::IDLE) {
                    return Err(format!(
                        "node state {name} is left with {key} = {}",
                        annotations[key]
                    ));
                }
            }
            let node = store
                .object(&ObjectKey::new("v1", "Node", "", name))
                .ok_or(format!("node {name} is gone"))?;
            if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
                return Err(format!("node {name} is left cordoned"));
            }
            if text(state, "/status/syncStatus") != "Succeeded" {
                return Err(format!(
                    "node {name} is {:?}: {}",
                    text(state, "/status/syncStatus"),
                    excuse(state)
                ));
            }
        }
        for kind in [names::POOL, names::OPERATOR_CONFIG] {
            for object in store.objects(names::API_VERSION, kind) {
                if !items(object, "/status/grants").is_empty() {
                    return Err(format!("{kind} {} still holds grants", objects::name(object)));
                }
            }
        }
        Ok(())
    }
}

/// What a node says about itself.
fn excuse(state: &Value) -> String {
    let blockers: Vec<&str> =
        items(state, "/status/blockers").iter().map(|b| text(b, "/message")).collect();
    format!("blockers {blockers:?}, last error {:?}", text(state, "/status/lastSyncError"))
}
