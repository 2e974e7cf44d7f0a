//! What the host itself has over its network functions: default routes, the API server, mounts and block devices that
//! come over the network. Read from the kernel; from files only where to the kubelet talks.
//!
//! Nothing is judged and nothing is changed here. An interface without hardware below it (a tunnel, a pod's veth) leads
//! to no function; a scalable function (SF) is not followed to its PF.

mod roce_lag;
mod routes;
mod sessions;

pub use roce_lag::legs as roce_lag_legs;

use crate::seam::Link;
use crate::{Host, Namespace, Refusal};
use api::PciAddress;
use api::lifeline::{Carries, Lifeline};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A connection, and the links that it leaves the host by.
struct End {
    carries: Carries,
    detail: String,
    links: BTreeSet<u32>,
}

/// An address that the host must reach, and why.
struct Peer {
    carries: Carries,
    detail: String,
    address: IpAddr,
}

/// Every function over which the host has a connection of its own; `links` is a dump of the host's namespace.
pub fn observe(
    host: &dyn Host,
    links: &[Link],
) -> Result<BTreeMap<PciAddress, Vec<Lifeline>>, Refusal> {
    let routes = host.routes(&Namespace::Host)?;
    let mut ends = routes::defaults(&routes);
    for Peer { carries, detail, address } in sessions::peers(host)? {
        ends.push(End { carries, detail, links: routes::towards(&routes, address) });
    }
    let stacks = Stacks { host, links };
    let mut found: BTreeMap<PciAddress, BTreeSet<Lifeline>> = BTreeMap::new();
    for End { carries, detail, links } in &ends {
        for link in links {
            for (function, over) in stacks.functions_below(*link) {
                let lifeline =
                    Lifeline { carries: *carries, detail: detail.clone(), gone_since: None, over };
                found.entry(function).or_default().insert(lifeline);
            }
        }
    }
    Ok(found.into_iter().map(|(pci, set)| (pci, set.into_iter().collect())).collect())
}

/// Interfaces on top of each other: bonds, bridges, VRFs, VLANs, down to what has a PCI function.
struct Stacks<'a> {
    host: &'a dyn Host,
    links: &'a [Link],
}

/// Interfaces of Open vSwitch, its datapath and its internal ports alike.
const OPENVSWITCH: &str = "openvswitch";

impl Stacks<'_> {
    /// The functions below a link, each with the names of the interfaces from its own up to this one.
    fn functions_below(&self, index: u32) -> Vec<(PciAddress, Vec<String>)> {
        let mut found = Vec::new();
        self.descend(index, &[], &mut found);
        found
    }

    fn descend(&self, index: u32, above: &[&Link], found: &mut Vec<(PciAddress, Vec<String>)>) {
        let Some(link) = self.links.iter().find(|link| link.index == index) else { return };
        if above.iter().any(|link| link.index == index) {
            return;
        }
        let path = [above, &[link]].concat();
        if let Some(function) = self.function(link) {
            found.push((function, path.iter().rev().map(|link| link.name.clone()).collect()));
        }
        for below in self.below(link) {
            self.descend(below, &path, found);
        }
    }

    fn below(&self, link: &Link) -> Vec<u32> {
        let is_switch = |index: u32| {
            self.links.iter().any(|l| l.index == index && l.kind.as_deref() == Some(OPENVSWITCH))
        };
        // The kernel does not tell which ports of a datapath an internal port such as br-ex is bridged with
        // (net/openvswitch/vport-netdev.c: hardware has the datapath for its master, internal ports have none), so each
        // of them may carry it.
        let by_switch = link.kind.as_deref() == Some(OPENVSWITCH);
        let legs = self.links.iter().filter(|leg| {
            leg.master.is_some_and(|m| m == link.index || (by_switch && is_switch(m)))
        });
        // The lower of a veth is its other end, whose index may be another namespace's.
        let lower = link.lower.filter(|_| link.kind.as_deref() != Some("veth"));
        legs.map(|leg| leg.index).chain(lower).collect()
    }

    /// The function of an interface: a representor stands for its VF, and goes with it.
    fn function(&self, link: &Link) -> Option<PciAddress> {
        let told = link.parent.as_deref().and_then(|parent| parent.parse().ok());
        let parent = told.or_else(|| self.in_sysfs(&link.name))?;
        let Some(vf) = link.represented_vf() else {
            return Some(parent);
        };
        let target = self.host.link_target(&parent.file(&format!("virtfn{vf}"))).ok()?;
        target.rsplit('/').next()?.parse().ok()
    }

    /// The nearest function in the path of an interface's directory, where rtnetlink names none: kernels before 5.14,
    /// and drivers with a device of their own between the two (virtio).
    fn in_sysfs(&self, interface: &str) -> Option<PciAddress> {
        let path = self.host.link_target(&format!("/sys/class/net/{interface}")).ok()?;
        path.rsplit('/').find_map(|part| part.parse().ok())
    }
}

#[cfg(test)]
mod tests;
