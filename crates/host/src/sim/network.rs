//! The host's own network, as its distribution brings it up at each boot, and what the host reaches over it.
//!
//! Stacks are made of interfaces that know the one above (`master`) and the one below (`lower`), by identity.

use super::machine::{HOST_NAMESPACE, Machine};
use crate::seam::{AddressChange, Route, RouteChange};
use api::PciAddress;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A bond over some ports, or one port alone, with the host's address and its default route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetwork {
    /// `None`: the only leg has the address itself.
    pub bond: Option<String>,
    pub legs: Vec<PciAddress>,
    pub address: (IpAddr, u8),
    pub gateway: IpAddr,
}

/// Connections that are open while the machine runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sessions {
    /// Lines of `/proc/mounts` beside those of every machine.
    pub mounts: Vec<String>,
    /// Target and address.
    pub iscsi: Vec<(String, String)>,
    /// Transport, address as the kernel writes it, NQN of the subsystem.
    pub nvme: Vec<(String, String, String)>,
    /// Other ends of established TCP connections.
    pub connections: Vec<SocketAddr>,
}

impl Machine {
    /// What the distribution does at boot. A port that is not there, or has no interface, is left out of the bond.
    pub(super) fn start_network(&mut self) {
        let Some(network) = self.network.clone() else { return };
        let legs: Vec<String> = network
            .legs
            .iter()
            .filter_map(|pci| self.netdev_of(pci).map(|link| link.name.clone()))
            .collect();
        let top = match &network.bond {
            Some(bond) => {
                // The names are of an installation that works, so nothing of this is refused.
                let _ = self.add_virtual_link(None, bond, "bond");
                for leg in &legs {
                    let _ = self.put_below(leg, bond);
                }
                Some(bond.clone())
            }
            None => legs.first().cloned(),
        };
        if let Some(top) = top {
            let _ = self.give_address(&top, network.address, Some(network.gateway));
        }
    }

    /// Makes the interface a leg of a bond, bridge or VRF (net/core/dev.c, netdev_master_upper_dev_link: EBUSY for one
    /// that has a master already).
    pub fn put_below(&mut self, leg: &str, master: &str) -> Result<(), Errno> {
        let above = self.link_by_name(HOST_NAMESPACE, master).ok_or(Errno::NODEV)?;
        let identity = self.link_by_name(HOST_NAMESPACE, leg).ok_or(Errno::NODEV)?;
        let link = self.link_mut(identity)?;
        if link.master.is_some() {
            return Err(Errno::BUSY);
        }
        link.master = Some(above);
        self.settle_lags();
        Ok(())
    }

    /// Puts a VLAN interface on top of another.
    pub fn add_vlan(&mut self, name: &str, lower: &str) -> Result<(), Errno> {
        let below = self.link_by_name(HOST_NAMESPACE, lower).ok_or(Errno::NODEV)?;
        self.add_virtual_link(None, name, "vlan")?;
        let identity = self.link_by_name(HOST_NAMESPACE, name).ok_or(Errno::NODEV)?;
        self.link_mut(identity)?.lower = Some(below);
        Ok(())
    }

    /// Gives an interface of the host an address with the route to its network, and a default route.
    pub fn give_address(
        &mut self,
        name: &str,
        (address, prefix): (IpAddr, u8),
        gateway: Option<IpAddr>,
    ) -> Result<(), Errno> {
        let identity = self.link_by_name(HOST_NAMESPACE, name).ok_or(Errno::NODEV)?;
        let link = self.link_mut(identity)?.index;
        let add = AddressChange::Add { link, address, prefix };
        self.change_address(HOST_NAMESPACE, &add)?;
        let route = |destination, gateway| Route {
            destination,
            gateway,
            link: Some(link),
            table: 254,
            priority: None,
            scope: None,
            mtu: None,
            advmss: None,
        };
        self.change_route(HOST_NAMESPACE, &RouteChange::Add(route((address, prefix), None)))?;
        let anywhere = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        match gateway {
            Some(_) => {
                self.change_route(HOST_NAMESPACE, &RouteChange::Add(route(anywhere, gateway)))
            }
            None => Ok(()),
        }
    }

    /// The driver takes the function's link down and up again; who counts the carrier's changes sees it.
    pub(super) fn flap(&mut self, pci: &PciAddress) {
        let own = |link: &&mut super::NetDevice| {
            link.parent == Some(*pci) && link.represents.is_none() && link.up && link.carrier
        };
        if let Some(link) = self.links.values_mut().find(own) {
            link.carrier_changes += 2;
        }
    }
}
