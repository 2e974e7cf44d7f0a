//! The machine's cards: what the saved order wants of them, and what they have.

use super::report::equal;
use api::{PciAddress, RdmaMode, names};
use host::linux::LinuxHost;
use host::seam::RdmaChange;
use host::{Host, Namespace, vf_count};
use node::boot;
use serde_json::json;
use std::path::Path;

pub const VFS: u32 = 3;

pub struct Cards {
    pub host: LinuxHost,
    pub addresses: Vec<PciAddress>,
}

impl Cards {
    pub fn new() -> Self {
        let host = LinuxHost::new("/").unwrap();
        let names = host.list("/sys/bus/pci/drivers/igb").unwrap_or_default();
        let addresses = names.iter().filter_map(|name| name.parse().ok()).collect();
        Self { host, addresses }
    }

    /// Saves an order for all cards as the daemon does, with a mode that the node's turn has come for.
    pub fn save_order(&self) -> Result<(), String> {
        let interface = |(number, pci): (usize, &PciAddress)| {
            json!({
                "pciAddress": pci.to_string(), "name": format!("eth{number}"), "numVfs": VFS,
                "vfGroups": [{
                    "resourceName": format!("rdma_{number}"), "deviceType": "netdevice",
                    "policyName": "train", "vfRange": format!("0-{}", VFS - 1),
                }],
            })
        };
        let interfaces: Vec<_> = self.addresses.iter().enumerate().map(interface).collect();
        let state = json!({
            "apiVersion": names::API_VERSION, "kind": names::NODE_STATE,
            "metadata": { "name": "lab-0", "namespace": names::NAMESPACE, "generation": 3 },
            "spec": {
                "system": { "rdmaMode": "exclusive" }, "bridges": {}, "interfaces": interfaces,
            },
            "status": { "system": { "rdmaMode": "shared" }, "initialRdmaMode": "shared" },
        });
        let state = serde_json::from_value(state).unwrap();
        boot::save(&self.host, &state).map_err(|refusal| refusal.to_string())?;
        boot::arm(&self.host, RdmaMode::Exclusive)
    }

    /// No VFs, and the mode that the kernel boots with.
    pub fn forget(&self) -> Result<(), String> {
        for pci in &self.addresses {
            vf_count::set(&self.host, pci, 0, true).map_err(|e| e.to_string())?;
        }
        let shared = RdmaChange::Mode(RdmaMode::Shared);
        self.host.change_rdma(&Namespace::Host, &shared).map_err(|e| e.to_string())
    }

    /// The order is carried out: mode, VFs, their drivers, and what is off while VFs are made is on again.
    pub fn at_goal(&self) -> Result<(), String> {
        equal("mode", self.host.rdma_mode().ok(), Some(RdmaMode::Exclusive))?;
        let cards = self.addresses.len();
        equal("VFs", self.counts(), vec![VFS; cards])?;
        equal("drivers", self.drivers(), vec!["igbvf".to_owned(); VFS as usize * cards])?;
        for pci in &self.addresses {
            let autoprobe = read(&pci.file("sriov_drivers_autoprobe"));
            equal(&format!("autoprobe of {pci}"), autoprobe.as_str(), "1")?;
        }
        Ok(())
    }

    pub fn counts(&self) -> Vec<u32> {
        let count = |pci: &PciAddress| read(&pci.file("sriov_numvfs")).parse().unwrap();
        self.addresses.iter().map(count).collect()
    }

    /// The drivers of all VFs that have one.
    pub fn drivers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pci in &self.addresses {
            let functions = (0..VFS).map(|index| pci.file(&format!("virtfn{index}")));
            for function in functions.filter(|function| Path::new(function).exists()) {
                if let Ok(driver) = std::fs::read_link(format!("{function}/driver")) {
                    found.push(driver.file_name().unwrap().to_string_lossy().into_owned());
                }
            }
        }
        found
    }
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
