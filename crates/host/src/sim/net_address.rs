//! Addresses and routes of a network namespace, and frames out of its interfaces.

use super::machine::{Machine, RouteState};
use crate::seam::{Address, AddressChange, Route, RouteChange};
use rustix::io::Errno;

impl Machine {
    pub(super) fn query_addresses(&self, space: u64, index: Option<u32>) -> Vec<Address> {
        let links = self.links.values().filter(|link| link.namespace == space);
        links
            .filter(|link| index.is_none_or(|index| index == link.index))
            .flat_map(|link| {
                link.addresses.iter().map(|(address, prefix)| Address {
                    link: link.index,
                    address: *address,
                    prefix: *prefix,
                    tentative: false,
                })
            })
            .collect()
    }

    /// net/ipv4/devinet.c: the same address twice is EEXIST, one that is not there is EADDRNOTAVAIL.
    pub(super) fn change_address(
        &mut self,
        space: u64,
        change: &AddressChange,
    ) -> Result<(), Errno> {
        match change {
            AddressChange::Add { link, address, prefix } => {
                if self.sysctl_is(space, *link, "disable_ipv6", "1") && address.is_ipv6() {
                    return Err(Errno::ACCESS);
                }
                let identity = self.link_by_index(space, *link)?;
                let link = self.link_mut(identity)?;
                if link.addresses.contains(&(*address, *prefix)) {
                    return Err(Errno::EXIST);
                }
                link.addresses.push((*address, *prefix));
            }
            AddressChange::Remove { link, address, prefix } => {
                let identity = self.link_by_index(space, *link)?;
                let link = self.link_mut(identity)?;
                let at = link.addresses.iter().position(|held| held == &(*address, *prefix));
                link.addresses.remove(at.ok_or(Errno::ADDRNOTAVAIL)?);
            }
        }
        Ok(())
    }

    /// An interface that goes down keeps its addresses of IPv4 and loses those of IPv6, unless it was told to keep them
    /// (net/ipv6/addrconf.c, addrconf_ifdown; lab).
    pub(super) fn drop_ipv6(&mut self, space: u64, index: u32) {
        if self.sysctl_is(space, index, "keep_addr_on_down", "1") {
            return;
        }
        let identity = self.link_by_index(space, index);
        if let Ok(link) = identity.and_then(|identity| self.link_mut(identity)) {
            link.addresses.retain(|(address, _)| address.is_ipv4());
        }
    }

    fn sysctl_is(&self, space: u64, index: u32, key: &str, value: &str) -> bool {
        let Some(namespace) = self.namespaces.get(&space) else { return false };
        let Ok(identity) = self.link_by_index(space, index) else { return false };
        let path = format!("ipv6/conf/{}/{key}", self.links[&identity].name);
        namespace.sysctls.get(&path).is_some_and(|held| held == value)
    }

    pub(super) fn query_routes(&self, space: u64) -> Vec<Route> {
        let routes = self.namespaces.get(&space).map(|namespace| namespace.routes.as_slice());
        routes.unwrap_or_default().iter().map(show_route).collect()
    }

    /// net/ipv4/fib_semantics.c, fib_check_nh, and net/ipv6/route.c, fib6_nh_init: the gateway is looked at first, and one
    /// that the interface does not reach, or not while it is down, is ENETUNREACH by IPv4 and EHOSTUNREACH by IPv6. Without
    /// one an interface that is down is ENETDOWN. The same route again is EEXIST, one that is not there ESRCH (lab).
    pub(super) fn change_route(&mut self, space: u64, change: &RouteChange) -> Result<(), Errno> {
        match change {
            RouteChange::Add(route) => {
                if let Some(index) = route.link {
                    let link = &self.links[&self.link_by_index(space, index)?];
                    let reached = |gateway| {
                        let near = |(address, prefix): &(_, _)| within(*address, *prefix, gateway);
                        link.up && link.addresses.iter().any(near)
                    };
                    match route.gateway {
                        Some(gateway) if reached(gateway) => {}
                        Some(gateway) if gateway.is_ipv6() => return Err(Errno::HOSTUNREACH),
                        Some(_) => return Err(Errno::NETUNREACH),
                        None if link.up => {}
                        None => return Err(Errno::NETDOWN),
                    }
                }
                let state = keep_route(route);
                let namespace = self.namespaces.get_mut(&space).ok_or(Errno::INVAL)?;
                if namespace.routes.contains(&state) {
                    return Err(Errno::EXIST);
                }
                namespace.routes.push(state);
            }
            RouteChange::Remove(route) => {
                let namespace = self.namespaces.get_mut(&space).ok_or(Errno::INVAL)?;
                let same = |held: &RouteState| {
                    held.destination == route.destination
                        && held.table == route.table
                        && (route.gateway.is_none() || held.gateway == route.gateway)
                        && (route.link.is_none() || held.link == route.link)
                };
                let at = namespace.routes.iter().position(same).ok_or(Errno::SRCH)?;
                namespace.routes.remove(at);
            }
        }
        Ok(())
    }

    pub(super) fn drop_routes(&mut self, space: u64, index: u32) {
        if let Some(namespace) = self.namespaces.get_mut(&space) {
            namespace.routes.retain(|route| route.link != Some(index));
        }
    }

    /// AF_PACKET: ENETDOWN on an interface that is down.
    pub(super) fn count_frame(&mut self, space: u64, index: u32) -> Result<(), Errno> {
        let identity = self.link_by_index(space, index)?;
        let link = self.link_mut(identity)?;
        if !link.up {
            return Err(Errno::NETDOWN);
        }
        link.frames_sent += 1;
        Ok(())
    }
}

fn show_route(state: &RouteState) -> Route {
    Route {
        destination: state.destination,
        gateway: state.gateway,
        link: state.link,
        table: state.table,
        priority: state.priority,
        scope: state.scope,
        mtu: state.mtu,
        advmss: state.advmss,
    }
}

fn keep_route(route: &Route) -> RouteState {
    RouteState {
        destination: route.destination,
        gateway: route.gateway,
        link: route.link,
        table: route.table,
        priority: route.priority,
        scope: route.scope,
        mtu: route.mtu,
        advmss: route.advmss,
    }
}

/// True when `other` lies in the network of `address`/`prefix`.
fn within(address: std::net::IpAddr, prefix: u8, other: std::net::IpAddr) -> bool {
    use std::net::IpAddr::{V4, V6};
    match (address, other) {
        (V4(a), V4(b)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            u32::from(a) & mask == u32::from(b) & mask
        }
        (V6(a), V6(b)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            u128::from(a) & mask == u128::from(b) & mask
        }
        _ => false,
    }
}
