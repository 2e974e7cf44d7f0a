//! What runs in the containers of the simulation, as kubelets see it: our programs by container id, and nothing else.

use super::workers::{Plugin, Worker};
use crate::cluster::cluster::Environment;
use crate::cluster::devices::{self, DeviceLists, Plugins};
use crate::cluster::kubelet::{Container, Runtime};
use std::collections::{BTreeMap, BTreeSet};

/// What containers are in the simulation: workers by container id.
#[derive(Default)]
pub struct Containers {
    pub workers: BTreeMap<String, Worker>,
    pub ended: BTreeMap<String, (i32, String)>,
    pub alive: BTreeSet<String>,
    pub starting: Vec<Container>,
    pub lists: BTreeMap<String, DeviceLists>,
    /// The device plugin's container on each node.
    pub plugins: BTreeMap<String, String>,
    asked: String,
    /// Nodes on which a container ended since their kubelet looked.
    pub stirred: BTreeSet<String>,
    /// The last operator that was started.
    pub operator: Option<Container>,
    /// The node of each container.
    nodes: BTreeMap<String, String>,
}

impl Runtime for Containers {
    fn start(&mut self, container: &Container) {
        // After a boot the ids begin again, and how the one before the boot ended is nobody's business any more.
        self.ended.remove(&container.id);
        self.alive.insert(container.id.clone());
        self.nodes.insert(container.id.clone(), container.node.clone());
        self.starting.push(container.clone());
    }

    fn stop(&mut self, id: &str) {
        self.alive.remove(id);
        self.ended.remove(id);
        self.forget(id);
        self.nodes.remove(id);
    }

    fn kill(&mut self, id: &str) {
        self.stop(id);
    }

    fn ended(&mut self, id: &str) -> Option<(i32, String)> {
        self.ended.get(id).cloned()
    }

    fn ready(&mut self, id: &str) -> bool {
        self.alive.contains(id) && !self.ended.contains_key(id)
    }
}

impl Containers {
    /// The process is no more; a device plugin's sockets go with it.
    pub fn forget(&mut self, id: &str) {
        self.starting.retain(|container| container.id != id);
        if let Some(Worker::Plugin(plugin)) = self.workers.remove(id) {
            let lists = self.lists.entry(plugin.node.clone()).or_default();
            lists.extend(plugin.resources().into_iter().map(|resource| (resource, None)));
            self.plugins.remove(&plugin.node);
        }
    }

    /// The kubelet's side of the sockets is gone: what is offered has to be told again.
    pub fn disconnect(&mut self, node: &str) {
        let Some(id) = self.plugins.get(node) else { return };
        if let Some(Worker::Plugin(plugin)) = self.workers.get_mut(id) {
            plugin.disconnected();
        }
    }

    pub fn crash(&mut self, id: &str, why: &str) {
        self.forget(id);
        self.end(id, 137, why);
    }

    /// The container has ended; its kubelet will hear of it.
    pub fn end(&mut self, id: &str, status: i32, why: &str) {
        self.ended.insert(id.to_owned(), (status, why.to_owned()));
        self.stirred.extend(self.nodes.get(id).cloned());
    }

    fn plugin(&mut self) -> Option<&mut Plugin> {
        match self.workers.get_mut(self.plugins.get(&self.asked)?)? {
            Worker::Plugin(plugin) => Some(plugin),
            _ => None,
        }
    }
}

impl Plugins for Containers {
    fn preferred(&mut self, resource: &str, available: &[String], size: usize) -> Vec<String> {
        self.plugin().map(|p| p.preferred(resource, available, size)).unwrap_or_default()
    }

    fn allocate(&mut self, resource: &str, ids: &[String]) -> Result<devices::Allocation, String> {
        let plugin =
            self.plugin().ok_or_else(|| format!("no plugin is connected for {resource}"))?;
        plugin.allocate(resource, ids)
    }
}

impl Environment for Containers {
    fn runtime(&mut self) -> &mut dyn Runtime {
        self
    }

    fn plugins(&mut self, node: &str) -> &mut dyn Plugins {
        self.asked = node.to_owned();
        self
    }

    fn lists(&mut self, node: &str) -> DeviceLists {
        self.lists.remove(node).unwrap_or_default()
    }

    fn stirred(&mut self, node: &str) -> bool {
        self.stirred.remove(node)
    }
}
