//! IP addresses over rtnetlink: RTM_GETADDR, RTM_NEWADDR, RTM_DELADDR.

use super::Malformed;
use super::attribute::{Attribute, Writer, read};
use super::message::{CREATE, EXCLUSIVE, Request};
use crate::seam::{Address, AddressChange};
use std::net::{IpAddr, Ipv4Addr};

pub const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_TENTATIVE: u32 = 0x40;

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
const HEADER: usize = 8;

/// All addresses of the namespace; the kernel filters by interface only on sockets that ask for it.
pub fn query() -> Request {
    Request::dump(RTM_GETADDR, vec![0; HEADER])
}

pub fn change(change: &AddressChange) -> Request {
    match change {
        AddressChange::Add { link, address, prefix } => {
            let mut request = message(RTM_NEWADDR, *link, *address, *prefix);
            request.flags |= CREATE | EXCLUSIVE;
            request
        }
        AddressChange::Remove { link, address, prefix } => {
            message(RTM_DELADDR, *link, *address, *prefix)
        }
    }
}

fn message(kind: u16, link: u32, address: IpAddr, prefix: u8) -> Request {
    let mut payload = vec![family(address), prefix, 0, 0];
    payload.extend_from_slice(&link.to_ne_bytes());
    let bytes = octets(address);
    let attributes = Writer::new().bytes(IFA_LOCAL, &bytes).bytes(IFA_ADDRESS, &bytes);
    let attributes = attributes
        .maybe(broadcast(address, prefix), |w, address| w.bytes(IFA_BROADCAST, &address.octets()));
    payload.extend(attributes.done());
    Request::change(kind, payload)
}

/// The highest address of an IPv4 network; networks of one or two addresses have none.
fn broadcast(address: IpAddr, prefix: u8) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) if prefix < 31 => {
            Some(Ipv4Addr::from(u32::from(address) | (u32::MAX >> prefix)))
        }
        _ => None,
    }
}

/// One address out of the payload of RTM_NEWADDR; None for a family other than IP.
pub fn parse(payload: &[u8]) -> Result<Option<Address>, Malformed> {
    let (header, attributes) = payload
        .split_first_chunk::<HEADER>()
        .ok_or_else(|| Malformed(format!("an address of {} bytes has no header", payload.len())))?;
    let attributes = read(attributes)?;
    let one = |kind: u16| attributes.iter().find(|a| a.kind == kind);
    // On a point-to-point interface IFA_ADDRESS is the peer; IFA_LOCAL, where there is one, is always ours.
    let Some(address) = one(IFA_LOCAL).or_else(|| one(IFA_ADDRESS)).and_then(ip) else {
        return Ok(None);
    };
    let flags = one(IFA_FLAGS).map(Attribute::u32).transpose()?;
    let flags = flags.unwrap_or(u32::from(header[2]));
    let index = Attribute { kind: 0, value: header }.word(4)?;
    let tentative = flags & IFA_F_TENTATIVE != 0;
    Ok(Some(Address { link: index, address, prefix: header[1], tentative }))
}

/// AF_INET or AF_INET6.
pub(super) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An IP address by the number of its bytes.
pub(super) fn ip(attribute: &Attribute<'_>) -> Option<IpAddr> {
    ip_of(attribute.value)
}

pub(super) fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
