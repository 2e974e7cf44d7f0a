//! A node that is reached over the card that policies select: what it lives by, who allows it to be cut, and that
//! nobody else does.
//!
//! One node of some seeds, drawn with the story. Its host's network is the second port alone, or a bond of both ports,
//! which mlx5 joins into one RoCE LAG. A policy of the node's own asks for what takes the second port's link down.

use super::story::Act;
use crate::cluster::objects::{items, text};
use api::wire::{Method, Request};
use api::{PciAddress, names};
use fastrand::Rng;
use host::sim::{HostNetwork, Machine, NetDevice};
use planner::Reason;
use serde_json::{Value, json};

/// A node and its way to the world.
#[derive(Debug, Clone)]
pub struct Lives {
    pub node: String,
    /// Both ports in one bond, so that VFs on either end its RoCE LAG.
    pub bonded: bool,
    /// The policies say `allowLifeline`.
    pub allowed: bool,
}

impl Lives {
    pub fn draw(node: String, rng: &mut Rng) -> Self {
        Self { node, bonded: rng.bool(), allowed: rng.u32(..3) == 0 }
    }

    /// Ports of the card on bus 3 by which the host lives.
    fn legs(&self) -> Vec<PciAddress> {
        let ports = if self.bonded { 0..2 } else { 1..2 };
        ports.map(|function| PciAddress { domain: 0, bus: 3, device: 0, function }).collect()
    }

    /// Boots the machine with its network over the legs.
    pub fn settle(&self, machine: &mut Machine) {
        machine.network = Some(HostNetwork {
            bond: self.bonded.then(|| "bond0".to_owned()),
            legs: self.legs(),
            address: ([10, 0, 0, 11].into(), 24),
            gateway: [10, 0, 0, 1].into(),
        });
        machine.boot();
    }

    /// What has to be done to its second port, and takes the link down.
    pub fn policy(&self) -> Value {
        json!({
            "apiVersion": names::API_VERSION, "kind": names::POLICY,
            "metadata": { "name": "fabric", "namespace": names::NAMESPACE },
            "spec": {
                "resourceName": "fabric", "numVfs": 2, "isRdma": true, "deviceType": "netdevice",
                "eSwitchMode": "switchdev", "allowLifeline": self.allowed,
                "nicSelector": { "vendor": "15b3", "pfNames": ["enp3s0f1"] },
                "nodeSelector": { "kubernetes.io/hostname": self.node },
            },
        })
    }

    /// How many VFs the first port has in the end, where every other node has `wanted`.
    pub fn vfs(&self, wanted: Option<u32>) -> Option<u32> {
        match self.bonded && !self.allowed {
            true => wanted.map(|_| 0),
            false => wanted,
        }
    }

    /// No link by which the host lives went down, unless a policy allows it.
    pub fn unharmed(&self, machine: &Machine) -> Result<(), String> {
        if self.allowed {
            return Ok(());
        }
        match self.cut(machine) {
            None => Ok(()),
            Some(link) => Err(format!(
                "node {} lives by {}, whose carrier changed {} times, and no policy allows it",
                self.node, link.name, link.carrier_changes
            )),
        }
    }

    /// The leg whose link went down since the boot.
    fn cut<'a>(&self, machine: &'a Machine) -> Option<&'a NetDevice> {
        let legs = self.legs();
        let is_leg = |link: &&NetDevice| {
            link.represents.is_none() && link.parent.is_some_and(|pci| legs.contains(&pci))
        };
        machine.links.values().filter(is_leg).find(|link| link.carrier_changes > 0)
    }

    /// True where the node was cut by leave of a policy, or says that it was not for want of it.
    pub fn mattered(&self, machine: &Machine, state: &Value) -> bool {
        match self.allowed {
            true => self.cut(machine).is_some(),
            false => self.unsaid(state).is_none(),
        }
    }

    /// What the node state does not say of the refusal; None when it says it.
    pub fn unsaid(&self, state: &Value) -> Option<String> {
        let reason = Reason::Lifeline.as_str();
        let says = items(state, "/status/blockers").iter().any(|b| text(b, "/reason") == reason);
        (!says).then(|| format!("node {} does not say that it guards its lifeline", self.node))
    }
}

/// Lets a policy that the user makes cut lifelines.
pub fn allow(what: &mut Act) {
    if let Act::Send(Request { body, method: Method::Post, .. }) = what
        && body["kind"] == names::POLICY
    {
        body["spec"]["allowLifeline"] = true.into();
    }
}
