//! The frames that tell neighbours of a pod's new address: a gratuitous ARP request, or an unsolicited neighbour
//! advertisement. Bytes only; whoever sends them is elsewhere.

use crate::outcome::Ip;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whole Ethernet frames, one for each address; none for an interface that is not Ethernet.
pub fn frames(mac: &[u8], ips: &[Ip]) -> Vec<Vec<u8>> {
    let Ok(mac) = <[u8; 6]>::try_from(mac) else { return Vec::new() };
    if mac == [0; 6] || mac == [0xff; 6] {
        return Vec::new();
    }
    ips.iter()
        .map(|ip| match ip.address.address {
            IpAddr::V4(address) => gratuitous_arp(mac, address),
            IpAddr::V6(address) => neighbour_advertisement(mac, address),
        })
        .collect()
}

/// RFC 826 with sender and target the same (RFC 5227, section 3).
fn gratuitous_arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], mac, 0x0806);
    // Ethernet, IPv4, lengths 6 and 4, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// RFC 4861, section 7.2.6: to all nodes, override set, with our link-layer address as target option.
fn neighbour_advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac);
    let sum = checksum(address, all_nodes, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = ethernet([0x33, 0x33, 0, 0, 0, 1], mac, 0x86dd);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend([0, 32, 58, 255]);
    frame.extend(address.octets());
    frame.extend(all_nodes.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: [u8; 6], from: [u8; 6], protocol: u16) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend(from);
    frame.extend(protocol.to_be_bytes());
    frame
}

/// ICMPv6 sums its message and a pseudo header of addresses, length and protocol (RFC 8200, section 8.1).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let mut bytes = from.octets().to_vec();
    bytes.extend(to.octets());
    // An advertisement with its option is 32 bytes.
    bytes.extend([0, 0, 0, 32, 0, 0, 0, 58]);
    bytes.extend(message);
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Cidr;
    use expect_test::{Expect, expect};

    const MAC: [u8; 6] = [0x02, 0, 0, 0x12, 0x34, 0x56];

    fn check(mac: &[u8], address: &str, expected: Expect) {
        let ip = Ip { interface: None, address: Cidr::parse(address).unwrap(), gateway: None };
        let shown: Vec<String> = frames(mac, &[ip])
            .iter()
            .map(|frame| frame.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        expected.assert_eq(&shown.join("\n"));
    }

    #[test]
    fn an_ipv4_address_is_announced_by_arp() {
        check(
            &MAC,
            "10.1.2.3/24",
            expect![
                "ffffffffffff020000123456080600010800060400010200001234560a0102030000000000000a010203"
            ],
        );
    }

    #[test]
    fn an_ipv6_address_is_announced_by_an_advertisement() {
        check(
            &MAC,
            "fd00::5/64",
            expect![
                "33330000000102000012345686dd6000000000203afffd000000000000000000000000000005ff0200000000000000000000000000018800262c20000000fd0000000000000000000000000000050201020000123456"
            ],
        );
    }

    #[test]
    fn an_infiniband_interface_announces_nothing() {
        check(&[1; 20], "10.1.2.3/24", expect![""]);
        check(&[0; 6], "10.1.2.3/24", expect![""]);
    }
}
