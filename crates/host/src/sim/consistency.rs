//! What no kernel lets happen, whatever is asked of it: checked by property tests and by the simulation.

use super::machine::{FunctionKind, HOST_NAMESPACE, Machine};
use api::RdmaMode;
use std::collections::BTreeSet;

impl Machine {
    /// Contradictions in the machine, one sentence each; none on a machine that could exist.
    pub fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.check_functions(&mut found);
        self.check_links(&mut found);
        self.check_rdma(&mut found);
        for (path, inode) in &self.namespace_paths {
            if !self.namespaces.contains_key(inode) {
                found.push(format!("{path} holds a namespace that is gone"));
            }
        }
        found
    }

    fn check_functions(&self, found: &mut Vec<String>) {
        for (pci, function) in &self.functions {
            match &function.kind {
                FunctionKind::Physical(part) => {
                    let on_bus = self.vfs_of(pci).len();
                    if part.num_vfs > part.total_vfs {
                        found.push(format!("{pci} has {} VFs of {}", part.num_vfs, part.total_vfs));
                    }
                    if on_bus > part.num_vfs as usize {
                        found.push(format!(
                            "{pci} counts {} VFs and {on_bus} are on the bus",
                            part.num_vfs
                        ));
                    }
                    if part.num_vfs > 0 && function.driver.is_none() {
                        found.push(format!("{pci} has VFs and no driver"));
                    }
                    if part.vfs.len() != part.num_vfs as usize {
                        found.push(format!("{pci} holds settings of {} VFs", part.vfs.len()));
                    }
                }
                FunctionKind::Virtual(part) if self.physical(&part.physical).is_none() => {
                    found.push(format!("{pci} is a VF of nothing"));
                }
                _ => {}
            }
        }
    }

    fn check_links(&self, found: &mut Vec<String>) {
        let mut indexes = BTreeSet::new();
        let mut names = BTreeSet::new();
        let mut parents = BTreeSet::new();
        for link in self.links.values() {
            if !self.namespaces.contains_key(&link.namespace) {
                found.push(format!("{} is in a namespace that is gone", link.name));
            }
            if !indexes.insert((link.namespace, link.index)) {
                found.push(format!("index {} of {} is given twice", link.index, link.name));
            }
            for name in link.alt_names.iter().chain([&link.name]) {
                if !names.insert((link.namespace, name)) {
                    found.push(format!("the name {name} is given twice"));
                }
            }
            let Some(parent) = link.parent else { continue };
            if self.functions.get(&parent).is_none_or(|function| function.driver.is_none()) {
                found.push(format!("{} belongs to {parent}, which has no driver", link.name));
            }
            if link.represents.is_none() && !parents.insert(parent) {
                found.push(format!("{parent} has two interfaces"));
            }
        }
    }

    fn check_rdma(&self, found: &mut Vec<String>) {
        let devices = &self.rdma.devices;
        let mut taken = BTreeSet::new();
        let mut parents = BTreeSet::new();
        for device in devices.values() {
            let name = &device.name;
            if !self.namespaces.contains_key(&device.namespace) {
                found.push(format!("{name} is in a namespace that is gone"));
            }
            if self.rdma.mode == Some(RdmaMode::Shared) && device.namespace != HOST_NAMESPACE {
                found.push(format!("{name} is away from home in shared mode"));
            }
            let own =
                [name.clone(), format!("uverbs{}", device.uverbs), format!("umad{}", device.umad)];
            for entry in own {
                if !taken.insert(entry.clone()) {
                    found.push(format!("{entry} is given twice"));
                }
            }
            if !parents.insert((device.parent, &device.auxiliary)) {
                found.push(format!("{} has two RDMA devices", device.parent));
            }
            if self.functions.get(&device.parent).is_none_or(|function| function.driver.is_none()) {
                found.push(format!("{name} belongs to {}, which has no driver", device.parent));
            }
        }
    }
}
