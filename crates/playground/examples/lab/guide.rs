//! The guide's way in the lab, from nothing to a rendered network, with the card's own vendor and PF name.
//!
//! What pods do with the network is the programs' own matter.

#![allow(dead_code)] // Each program uses its part.

#[path = "bare.rs"]
mod bare;

use super::machine::{self, Machine, NODE};
use super::pod::Pod;
use super::report::{Outcome, equal};
use api::{PciAddress, names};
use host::linux::LinuxHost;
use host::{Host, home};
use playground::cluster::objects::{items, text};
use playground::demo::Manifests;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub const RESOURCE: &str = "openshift.io/rdma_exclusive_device";
pub const VFS: usize = 4;

/// Everything of the guide's way that one case hands to the next.
pub struct Guide {
    pub machine: Machine,
    pub host: LinuxHost,
    pub pf: PciAddress,
    pub manifests: Manifests,
    pub pods: Vec<(Pod, String)>,
    /// What the kernel alone needs for the policy's VFs.
    bare: Duration,
}

impl Guide {
    pub fn new() -> Self {
        let host = LinuxHost::new("/").unwrap();
        machine::load(&host);
        let pf = machine::cards(&host)[0];
        let bare = bare::time(&host, &pf, u32::try_from(VFS).unwrap());
        let manifests = Manifests::read(None).unwrap();
        let machine = Machine::start();
        Self { machine, host, pf, manifests, pods: Vec::new(), bare }
    }

    pub fn state(&self) -> Value {
        self.machine.get(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, NODE)
    }

    /// Waits until the node state says that all is as wanted, and returns it.
    pub fn settled(&self) -> Result<Value, String> {
        self.machine.until("the node is at its goal", || {
            let state = self.state();
            let generation =
                state["metadata"]["generation"] == state["status"]["observedGeneration"];
            match text(&state, "/status/syncStatus") {
                "Succeeded" if generation => Ok(state),
                status => Err(format!(
                    "sync status {status:?}, {}; blockers {}",
                    text(&state, "/status/lastSyncError"),
                    state["status"]["blockers"]
                )),
            }
        })
    }

    /// Step 1 of the guide: the pool's mode, switched live where no other namespace exists.
    pub fn pool(&mut self) -> Outcome {
        self.machine.apply(&self.manifests.pool)?;
        self.machine.until("the mode is exclusive", || match self.host.rdma_mode() {
            Ok(api::RdmaMode::Exclusive) => Ok(()),
            mode => {
                Err(format!("the kernel says {mode:?}; {}", self.state()["status"]["blockers"]))
            }
        })?;
        let state = self.settled()?;
        equal("mode in the status", text(&state, "/status/system/rdmaMode"), "exclusive")?;
        equal("reboots", items(&state, "/status/reboots").len(), 0)?;
        Ok("from shared to exclusive by netlink, without a reboot".to_owned())
    }

    /// Step 2 of the guide, with this card in the place of the ConnectX-5.
    pub fn policy(&mut self) -> Outcome {
        let name = home::interface_at_home(&self.host, &self.pf).unwrap().unwrap().name;
        let mut policy = self.manifests.policy.clone();
        policy["spec"]["nicSelector"] =
            json!({ "vendor": "8086", "deviceID": "10c9", "pfName": [name] });
        let applied = Instant::now();
        self.machine.apply(&policy)?;
        self.offered()?;
        let (taken, bare) = (applied.elapsed().as_secs_f32(), self.bare.as_secs_f32());
        self.settled()?;
        Ok(format!(
            "{VFS} VFs of {name} are in the kubelet's list, by their PCI addresses; from policy to offer {taken:.1} s, \
             of which the kernel alone needs {bare:.1} s"
        ))
    }

    /// Waits until the kubelet has every VF in its list, healthy.
    pub fn offered(&self) -> Result<(), String> {
        let devices = self.machine.until("the kubelet is offered the VFs", || {
            machine::drivers(&self.host, &self.pf);
            let healthy = self.machine.healthy(RESOURCE);
            match healthy.len() {
                VFS => Ok(healthy),
                other => Err(format!(
                    "{other} healthy devices of {RESOURCE}; {}",
                    self.state()["status"]
                )),
            }
        })?;
        let vfs: BTreeSet<String> = (0..u32::try_from(VFS).unwrap())
            .map(|index| host::function::vf(&self.host, &self.pf, index).unwrap().to_string())
            .collect();
        equal("devices", devices, vfs)
    }

    /// Step 3 of the guide: the network becomes a chain of plugins.
    pub fn network(&mut self) -> Outcome {
        self.machine.apply(&self.manifests.network)?;
        let chain = self.machine.until("the network is rendered", || {
            self.machine.chain("rdma-network", "0000:00:00.0")
        })?;
        let kinds: Vec<&str> = chain.iter().map(|plugin| text(plugin, "/type")).collect();
        equal("plugins", kinds.as_slice(), ["sriov", "rdma"].as_slice())?;
        Ok(kinds.join(", then "))
    }

    pub fn count(&self) -> String {
        let count = self.host.read(&self.pf.file("sriov_numvfs")).unwrap();
        String::from_utf8_lossy(&count).trim().to_owned()
    }
}
