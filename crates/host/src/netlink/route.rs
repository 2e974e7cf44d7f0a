//! Unicast routes over rtnetlink: RTM_GETROUTE, RTM_NEWROUTE, RTM_DELROUTE.

use super::Malformed;
use super::address::{family, ip, ip_of, octets};
use super::attribute::{Attribute, Writer, padded, read};
use super::message::{CREATE, EXCLUSIVE, Request};
use crate::seam::{Route, RouteChange};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

const RTN_UNICAST: u8 = 1;
const RTPROT_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_ANY: u8 = 255;
/// RTM_F_CLONED: an entry of the routing cache, not a route.
const CLONED: u32 = 0x200;

/// `struct rtmsg`: family, two prefix lengths, tos, table, protocol, scope, type, flags.
const HEADER: usize = 12;
/// `struct rtnexthop`: length, flags, hops, interface.
const HOP: usize = 8;

/// All routes of all tables.
pub fn query() -> Request {
    Request::dump(RTM_GETROUTE, vec![0; HEADER])
}

pub fn change(change: &RouteChange) -> Request {
    match change {
        RouteChange::Add(route) => {
            let scope = route.scope.unwrap_or_else(|| natural_scope(route));
            let mut request = message(RTM_NEWROUTE, route, scope, RTPROT_BOOT);
            request.flags |= CREATE | EXCLUSIVE;
            request
        }
        RouteChange::Remove(route) => {
            message(RTM_DELROUTE, route, route.scope.unwrap_or(SCOPE_ANY), 0)
        }
    }
}

/// What `ip route` sends when no scope is given: an IPv4 destination without a gateway is on the link.
fn natural_scope(route: &Route) -> u8 {
    match (route.destination.0, route.gateway) {
        (IpAddr::V4(_), None) => SCOPE_LINK,
        _ => SCOPE_UNIVERSE,
    }
}

fn message(kind: u16, route: &Route, scope: u8, protocol: u8) -> Request {
    let (destination, prefix) = route.destination;
    // A table above 255 does not fit the header; the attribute has it.
    let table = u8::try_from(route.table).unwrap_or(0);
    let mut payload = vec![family(destination), prefix, 0, 0, table, protocol, scope, RTN_UNICAST];
    payload.extend_from_slice(&[0; 4]);
    let metrics = Writer::new()
        .maybe(route.mtu, |w, mtu| w.u32(RTAX_MTU, mtu))
        .maybe(route.advmss, |w, advmss| w.u32(RTAX_ADVMSS, advmss));
    let has_metrics = route.mtu.or(route.advmss).map(|_| metrics);
    let attributes = Writer::new()
        .u32(RTA_TABLE, route.table)
        .maybe((prefix > 0).then_some(destination), |w, to| w.bytes(RTA_DST, &octets(to)))
        .maybe(route.gateway, |w, via| gateway(w, destination, via))
        .maybe(route.link, |w, link| w.u32(RTA_OIF, link))
        .maybe(route.priority, |w, priority| w.u32(RTA_PRIORITY, priority))
        .maybe(has_metrics, |w, metrics| w.nest(RTA_METRICS, metrics));
    payload.extend(attributes.done());
    Request::change(kind, payload)
}

fn gateway(attributes: Writer, destination: IpAddr, via: IpAddr) -> Writer {
    if destination.is_ipv4() == via.is_ipv4() {
        return attributes.bytes(RTA_GATEWAY, &octets(via));
    }
    let mut bytes = u16::from(family(via)).to_ne_bytes().to_vec();
    bytes.extend(octets(via));
    attributes.bytes(RTA_VIA, &bytes)
}

/// The routes in the payload of RTM_NEWROUTE: one, or one for each hop of a multipath route; none where it is not a
/// unicast route (local, broadcast, blackhole, cache).
pub fn parse(payload: &[u8]) -> Result<Vec<Route>, Malformed> {
    let (header, attributes) = payload
        .split_first_chunk::<HEADER>()
        .ok_or_else(|| Malformed(format!("a route of {} bytes has no header", payload.len())))?;
    let flags = Attribute { kind: 0, value: header }.word(8)?;
    let anywhere = match header[0] {
        2 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        10 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(Vec::new()),
    };
    if header[7] != RTN_UNICAST || flags & CLONED != 0 {
        return Ok(Vec::new());
    }
    let mut route = Route {
        destination: (anywhere, header[1]),
        gateway: None,
        link: None,
        table: u32::from(header[4]),
        priority: None,
        scope: Some(header[6]),
        mtu: None,
        advmss: None,
    };
    let mut hops = None;
    for attribute in read(attributes)? {
        match attribute.kind {
            RTA_DST => route.destination.0 = ip(&attribute).unwrap_or(anywhere),
            RTA_TABLE => route.table = attribute.u32()?,
            RTA_PRIORITY => route.priority = Some(attribute.u32()?),
            RTA_METRICS => metrics(&attribute, &mut route)?,
            RTA_MULTIPATH => hops = Some(attribute.value),
            _ => hop_attribute(&attribute, &mut route)?,
        }
    }
    match hops {
        None => Ok(vec![route]),
        Some(hops) => multipath(hops, &route),
    }
}

/// What a route has in common with one hop of a multipath route.
fn hop_attribute(attribute: &Attribute<'_>, route: &mut Route) -> Result<(), Malformed> {
    match attribute.kind {
        RTA_OIF => route.link = Some(attribute.u32()?),
        RTA_GATEWAY => route.gateway = ip(attribute),
        RTA_VIA => route.gateway = attribute.value.get(2..).and_then(ip_of),
        _ => {}
    }
    Ok(())
}

fn metrics(attribute: &Attribute<'_>, route: &mut Route) -> Result<(), Malformed> {
    for metric in attribute.nested()? {
        match metric.kind {
            RTAX_MTU => route.mtu = Some(metric.u32()?),
            RTAX_ADVMSS => route.advmss = Some(metric.u32()?),
            _ => {}
        }
    }
    Ok(())
}

fn multipath(mut hops: &[u8], whole: &Route) -> Result<Vec<Route>, Malformed> {
    let mut routes = Vec::new();
    while hops.len() >= HOP {
        let length = usize::from(u16::from_ne_bytes([hops[0], hops[1]]));
        let attributes = hops.get(HOP..length).ok_or_else(|| {
            Malformed(format!("a hop says {length} bytes, {} are left", hops.len()))
        })?;
        let mut route = whole.clone();
        route.link = Some(Attribute { kind: RTA_MULTIPATH, value: hops }.word(4)?);
        for attribute in read(attributes)? {
            hop_attribute(&attribute, &mut route)?;
        }
        routes.push(route);
        hops = hops.get(padded(length)..).unwrap_or_default();
    }
    Ok(routes)
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
