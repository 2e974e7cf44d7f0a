//! An interface on its way into a pod: moved under its new name, addressed, brought up.
//!
//! The interface is always told by its PCI device, never by a name alone: another interface of the pod may have
//! the name that the runtime asks for, and must not be touched.

use crate::announce;
use crate::failure::{self, Failure};
use crate::frame::Call;
use crate::outcome::{Interface, Ip, Outcome, Route};
use api::PciAddress;
use host::seam::{AddressChange, Errno, Link, LinkChange, LinkQuery, RouteChange};
use host::{Namespace, home};
use std::net::IpAddr;
use std::time::Duration;

const MAC_TRIES: u32 = 20;
const MAC_PAUSE: Duration = Duration::from_millis(100);
/// Duplicate address detection is given ten seconds, as upstream does.
const DETECTION_TRIES: u32 = 500;
const DETECTION_PAUSE: Duration = Duration::from_millis(20);
const CARRIER_TRIES: u32 = 20;
const CARRIER_PAUSE: Duration = Duration::from_millis(10);

/// Refuses a name that an interface of the pod already has, before anything is changed.
pub fn refuse_taken_name(call: &Call) -> Result<(), Failure> {
    let query = LinkQuery { name: Some(call.interface.to_owned()), ..LinkQuery::default() };
    match call.host.links(&call.pod(), &query) {
        Ok(found) if found.is_empty() => Ok(()),
        Err(refusal) if refusal.errno == Errno::NODEV => Ok(()),
        Ok(_) => Err(name_taken(call)),
        Err(refusal) => Err(refusal.into()),
    }
}

fn name_taken(call: &Call) -> Failure {
    Failure::internal(format!(
        "the pod's network namespace {} already has an interface {}; it is left alone",
        call.namespace, call.interface
    ))
}

/// Refuses an interface that could not be found again: in a pod nothing but the parent's name leads from a PCI address
/// to its interface (IFLA_PARENT_DEV_NAME, since Linux 5.14).
pub fn refuse_untraceable(pci: &PciAddress, link: &Link) -> Result<(), Failure> {
    if link.parent.as_deref() == Some(pci.to_string().as_str()) {
        return Ok(());
    }
    Err(Failure::internal(format!(
        "the kernel does not say that {} belongs to {pci}, so it could not be found again in the pod; Linux \
         5.14 or later does",
        link.name
    )))
}

/// Moves an interface of the host into the pod under the name that the runtime asks for.
///
/// One request does both, so no name of the host is ever taken or freed halfway, and udev sees no rename.
pub fn enter(call: &Call, pci: &PciAddress, link: &Link) -> Result<Link, Failure> {
    home::make_plain(call.host, link)?;
    let change = LinkChange::Move {
        link: link.index,
        to: call.pod(),
        name: Some(call.interface.to_owned()),
    };
    call.host.change_link(&Namespace::Host, &change).map_err(|refusal| match refusal.errno {
        Errno::EXIST => name_taken(call),
        _ => {
            Failure::internal(format!("cannot move {} of {pci} into the pod: {refusal}", link.name))
        }
    })?;
    let moved = find(call, pci)?;
    if moved.name != call.interface {
        return Err(Failure::internal(format!(
            "{} of {pci} came into the pod as {} in place of {}",
            link.name, moved.name, call.interface
        )));
    }
    if moved.alt_names.contains(&link.name) {
        // The old name would else be taken on the host when the interface comes back.
        let change = LinkChange::RemoveAltName { link: moved.index, name: link.name.clone() };
        call.host.change_link(&call.pod(), &change)?;
    }
    Ok(moved)
}

/// The interface of a PCI device in the pod.
pub fn find(call: &Call, pci: &PciAddress) -> Result<Link, Failure> {
    home::interface_in(call.host, &call.pod(), pci)?.ok_or_else(|| {
        Failure::internal(format!("the pod's network namespace has no interface of {pci}"))
    })
}

/// Sets the interface's own address and waits until it is so: drivers take it late, after a reset of the VF.
pub fn set_mac(call: &Call, pci: &PciAddress, mac: [u8; 6]) -> Result<(), Failure> {
    let mut refused = String::new();
    for attempt in 0..MAC_TRIES {
        let link = find(call, pci)?;
        if link.address == mac {
            return Ok(());
        }
        if attempt > 0 {
            call.host.wait(&[], MAC_PAUSE);
        }
        let change = LinkChange::Address { link: link.index, address: mac.to_vec() };
        refused = match call.host.change_link(&call.pod(), &change) {
            Ok(()) => "the driver does not take it".to_owned(),
            Err(refusal) => refusal.reason(),
        };
    }
    if find(call, pci)?.address == mac {
        return Ok(());
    }
    let mac = host::vf_profile::show_address(&mac);
    Err(Failure::internal(format!("cannot give {pci} the MAC {mac} in the pod: {refused}")))
}

/// Brings the interface up, with the kernel's own announcements of its addresses switched on.
pub fn up(call: &Call, link: &Link) -> Result<(), Failure> {
    // Wishes: a kernel without IPv6 has no such files.
    for (family, setting) in
        [("ipv4", "arp_notify"), ("ipv6", "ndisc_notify"), ("ipv6", "optimistic_dad")]
    {
        let name = format!("net/{family}/conf/{}/{setting}", link.name);
        if let Err(refusal) = call.host.set_sysctl(&call.pod(), &name, "1") {
            call.log.debug(format!("{refusal}"));
        }
    }
    Ok(call.host.change_link(&call.pod(), &LinkChange::Up { link: link.index })?)
}

/// Gives the interface its addresses and routes, and says so to the neighbours.
pub fn address(call: &Call, link: &Link, outcome: &Outcome) -> Result<(), Failure> {
    if outcome.ips.iter().any(|ip| ip.address.address.is_ipv6()) {
        allow_ipv6(call, link)?;
    }
    for ip in &outcome.ips {
        let (address, prefix) = (ip.address.address, ip.address.prefix);
        let change = AddressChange::Add { link: link.index, address, prefix };
        call.host.change_address(&call.pod(), &change).map_err(|refusal| {
            Failure::internal(format!(
                "cannot give {} to {}: {}",
                ip.address,
                link.name,
                refusal.reason()
            ))
        })?;
    }
    if outcome.ips.iter().any(|ip| ip.address.address.is_ipv6()) {
        wait_for_detection(call, link);
    }
    for route in &outcome.routes {
        add_route(call, link, outcome, route)?;
    }
    Ok(())
}

/// Runtimes switch IPv6 off in pods without it; an address could then not be added.
fn allow_ipv6(call: &Call, link: &Link) -> Result<(), Failure> {
    for (name, setting, value) in [
        ("lo", "disable_ipv6", "0"),
        (link.name.as_str(), "disable_ipv6", "0"),
        (link.name.as_str(), "keep_addr_on_down", "1"),
    ] {
        let name = format!("net/ipv6/conf/{name}/{setting}");
        if let Err(refusal) = call.host.set_sysctl(&call.pod(), &name, value) {
            // Adding the address tells whether it mattered.
            call.log.debug(format!("{refusal}"));
        }
    }
    Ok(())
}

fn wait_for_detection(call: &Call, link: &Link) {
    for _ in 0..DETECTION_TRIES {
        let addresses = call.host.addresses(&call.pod(), Some(link.index)).unwrap_or_default();
        if !addresses.iter().any(|address| address.tentative) {
            return;
        }
        call.host.wait(&[], DETECTION_PAUSE);
    }
    call.log.warning(format!("{} still looks for duplicates of its addresses", link.name));
}

/// A route without a gateway goes by the gateway of the address of its family.
fn add_route(call: &Call, link: &Link, outcome: &Outcome, route: &Route) -> Result<(), Failure> {
    let four = route.dst.address.is_ipv4();
    let of_family = |ip: &&Ip| ip.address.address.is_ipv4() == four;
    let default = || outcome.ips.iter().filter(of_family).find_map(|ip| ip.gateway);
    let change = RouteChange::Add(host::seam::Route {
        destination: (network_of(route.dst.address, route.dst.prefix), route.dst.prefix),
        gateway: route.gw.or_else(default),
        link: Some(link.index),
        table: route.table.unwrap_or(254),
        priority: route.priority,
        scope: route.scope,
        mtu: route.mtu,
        advmss: route.advmss,
    });
    match call.host.change_route(&call.pod(), &change) {
        Ok(()) => Ok(()),
        // Two interfaces of one network bring the same route; the first serves.
        Err(refusal) if refusal.errno == Errno::EXIST => {
            call.log.warning(format!("the pod has a route to {} already", route.dst));
            Ok(())
        }
        Err(refusal) => Err(Failure::internal(format!(
            "cannot add the route to {} through {}: {}",
            route.dst,
            link.name,
            refusal.reason()
        ))),
    }
}

/// The kernel refuses a destination with bits beyond its prefix.
fn network_of(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

/// Tells the neighbours where the addresses are now, once there is a carrier. Nothing depends on it.
pub fn announce(call: &Call, pci: &PciAddress, outcome: &Outcome) {
    let mut link = None;
    for _ in 0..CARRIER_TRIES {
        link = find(call, pci).ok();
        if link.as_ref().is_none_or(|link| link.up && link.running) {
            break;
        }
        call.host.wait(&[], CARRIER_PAUSE);
    }
    let Some(link) = link else { return };
    for frame in announce::frames(&link.address, &outcome.ips) {
        if let Err(refusal) = call.host.send_frame(&call.pod(), link.index, &frame) {
            call.log.debug(format!("{refusal}"));
        }
    }
}

/// Compares what a result says about the interface with what the pod has.
pub fn check(call: &Call, pci: &PciAddress, expected: Option<&Interface>) -> Result<Link, Failure> {
    let link = find(call, pci)?;
    let wrong = |what: &str, wanted: &str, found: &str| {
        Failure::internal(format!("{pci} in the pod has {what} {found} in place of {wanted}"))
    };
    if link.name != call.interface {
        return Err(wrong("the name", call.interface, &link.name));
    }
    if !link.up {
        return Err(Failure::internal(format!("{} of {pci} is down in the pod", link.name)));
    }
    let Some(expected) = expected else { return Ok(link) };
    let mac = host::vf_profile::show_address(&link.address);
    if !expected.mac.is_empty() && !expected.mac.eq_ignore_ascii_case(&mac) {
        return Err(wrong("MAC", &expected.mac, &mac));
    }
    if expected.mtu != 0 && expected.mtu != link.mtu {
        return Err(wrong("MTU", &expected.mtu.to_string(), &link.mtu.to_string()));
    }
    Ok(link)
}

/// Every address of the result must be on the interface.
pub fn check_addresses(call: &Call, link: &Link, outcome: &Outcome) -> Result<(), Failure> {
    let found = call.host.addresses(&call.pod(), Some(link.index))?;
    let of_this = |ip: &&Ip| {
        let interface = ip.interface.and_then(|index| outcome.interfaces.get(index));
        interface.is_none_or(|interface| interface.name == call.interface)
    };
    for ip in outcome.ips.iter().filter(of_this) {
        let there = found.iter().any(|address| {
            (address.address, address.prefix) == (ip.address.address, ip.address.prefix)
        });
        if !there {
            return Err(Failure::internal(format!(
                "{} has lost its address {}",
                link.name, ip.address
            )));
        }
    }
    Ok(())
}

/// Every route of the result must be there. A plugin behind us may have put one into another table or on another
/// interface, as `sbr` and `vrf` do.
pub fn check_routes(call: &Call, outcome: &Outcome) -> Result<(), Failure> {
    if outcome.routes.is_empty() {
        return Ok(());
    }
    let found = call.host.routes(&call.pod())?;
    for route in &outcome.routes {
        let wanted = (network_of(route.dst.address, route.dst.prefix), route.dst.prefix);
        if !found.iter().any(|found| found.destination == wanted) {
            return Err(Failure::internal(format!("the pod has lost its route to {}", route.dst)));
        }
    }
    Ok(())
}

/// The result that the runtime kept from ADD, which CHECK needs to know what to look for.
pub fn previous(call: &Call) -> Result<Option<Outcome>, Failure> {
    match call.fields().value("prevResult") {
        None => Ok(None),
        Some(value) => Outcome::parse(value, call.version, "prevResult").map(Some),
    }
}

/// The same where it must be there.
pub fn must_have_previous(call: &Call) -> Result<Outcome, Failure> {
    previous(call)?.ok_or_else(|| {
        Failure::new(
            failure::CONFIGURATION,
            format!(
                "network {}: {} needs prevResult, and there is none",
                call.network,
                call.verb.word()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn an_interface_that_could_not_be_found_again_is_refused() {
        let pci: PciAddress = "0000:3b:00.2".parse().unwrap();
        let mut link = Link { name: "enp59s0v0".to_owned(), ..Link::default() };
        let refused = refuse_untraceable(&pci, &link).unwrap_err();
        expect!["the kernel does not say that enp59s0v0 belongs to 0000:3b:00.2, so it could not be found again in the pod; Linux 5.14 or later does"].assert_eq(&refused.message);
        link.parent = Some(pci.to_string());
        assert_eq!(refuse_untraceable(&pci, &link), Ok(()));
    }
}
