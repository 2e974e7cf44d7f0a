//! `/sys/class/net` and `/proc/sys/net`: what a network namespace shows of its interfaces.

use super::machine::{Machine, NetDevice};
use super::sysfs::Node;
use crate::tried::colons;
use api::PciAddress;
use rustix::io::Errno;

const ATTRIBUTES: [&str; 15] = [
    "address",
    "carrier",
    "carrier_changes",
    "dev_id",
    "dev_port",
    "duplex",
    "flags",
    "ifindex",
    "mtu",
    "operstate",
    "phys_port_name",
    "phys_switch_id",
    "speed",
    "type",
    "uevent",
];

/// Defaults of the keys that we may set (Documentation/networking/ip-sysctl.rst).
const SYSCTLS: [(&str, &str, &str); 6] = [
    ("ipv4", "arp_notify", "0"),
    ("ipv6", "accept_dad", "1"),
    ("ipv6", "disable_ipv6", "0"),
    ("ipv6", "keep_addr_on_down", "0"),
    ("ipv6", "ndisc_notify", "0"),
    ("ipv6", "optimistic_dad", "0"),
];

impl Machine {
    fn links_in(&self, space: u64) -> impl Iterator<Item = &NetDevice> {
        self.links.values().filter(move |link| link.namespace == space)
    }

    pub(super) fn net_class_node(&self, space: u64, parts: &[&str]) -> Option<Node> {
        match parts {
            [] => Node::directory(self.links_in(space).map(|link| link.name.clone())),
            [name] => {
                let link = self.links_in(space).find(|link| link.name == *name)?;
                let device = match &link.parent {
                    Some(pci) => self.device_path(pci)?.strip_prefix("/sys/")?.to_owned(),
                    None => "devices/virtual".to_owned(),
                };
                Node::link(format!("../../{device}/net/{name}"))
            }
            _ => None,
        }
    }

    /// What lies directly in the directory of an interface, by `<interface>/<name>`; None where nothing does.
    pub(super) fn interface_attribute(&self, space: u64, path: &str) -> Option<Option<Node>> {
        let (interface, name) = path.split_once('/')?;
        let link = self.links_in(space).find(|link| link.name == interface)?;
        // Only links tell how deep they lie.
        ATTRIBUTES.contains(&name).then(|| self.link_node(link, 0, &[name]))
    }

    pub(super) fn virtual_net_node(&self, space: u64, parts: &[&str]) -> Option<Node> {
        let inside = || self.links_in(space).filter(|link| link.parent.is_none());
        match parts {
            [] => Node::directory(inside().map(|link| link.name.clone())),
            [name, rest @ ..] => self.link_node(inside().find(|link| link.name == *name)?, 3, rest),
        }
    }

    /// The `net` directory of a function. While the interface is in another namespace the directory stays, empty
    /// (lab.md section 2).
    pub(super) fn device_net_node(
        &self,
        space: u64,
        pci: &PciAddress,
        depth: usize,
        parts: &[&str],
    ) -> Option<Node> {
        let inside = || self.links_in(space).filter(|link| link.parent == Some(*pci));
        match parts {
            [] => Node::directory(inside().map(|link| link.name.clone())),
            [name, rest @ ..] => {
                self.link_node(inside().find(|link| link.name == *name)?, depth + 2, rest)
            }
        }
    }

    fn link_node(&self, link: &NetDevice, depth: usize, parts: &[&str]) -> Option<Node> {
        let running = link.up && link.carrier;
        match parts {
            [] => {
                let device = link.parent.map(|_| "device");
                Node::directory(
                    ATTRIBUTES.into_iter().chain(["statistics", "subsystem"]).chain(device),
                )
            }
            ["device"] if link.parent.is_some() => Node::link("../.."),
            ["subsystem"] => Node::link(format!("{}class/net", "../".repeat(depth + 1))),
            ["address"] => Node::line(colons(&link.address)),
            ["mtu"] => Node::line(link.mtu),
            ["ifindex"] => Node::line(link.index),
            ["type"] => Node::line(link.hardware),
            ["dev_id"] => Node::line("0x0"),
            ["dev_port"] => Node::line(0),
            ["operstate"] => Node::line(self.operstate(link)),
            ["flags"] => Node::line(format_args!("{:#x}", 0x1002 | u32::from(link.up))),
            // An interface that is down refuses both (net/core/net-sysfs.c: carrier_show, speed_show).
            ["carrier"] if !link.up => Node::refusal(Errno::INVAL),
            ["carrier"] => Node::line(u8::from(link.carrier)),
            ["carrier_changes"] => Node::line(link.carrier_changes),
            ["speed" | "duplex"] if !running || link.parent.is_none() => {
                Node::refusal(Errno::INVAL)
            }
            ["speed"] => Node::line(self.link_speed(link)?),
            ["duplex"] => Node::line("full"),
            ["phys_port_name"] => match self.phys_port_name(link) {
                Some(name) => Node::line(name),
                None => Node::refusal(Errno::OPNOTSUPP),
            },
            ["phys_switch_id"] => match self.phys_switch_id(link) {
                Some(id) => Node::line(id),
                None => Node::refusal(Errno::OPNOTSUPP),
            },
            ["uevent"] => Node::text(format!("INTERFACE={}\nIFINDEX={}\n", link.name, link.index)),
            ["statistics"] => Node::directory(["rx_bytes", "rx_packets", "tx_bytes", "tx_packets"]),
            ["statistics", "tx_packets"] => Node::line(link.frames_sent),
            ["statistics", "rx_bytes" | "rx_packets" | "tx_bytes"] => Node::line(0),
            _ => None,
        }
    }

    /// `/proc/sys/net/ipv4/conf/<interface>/<key>` and its sibling for IPv6, of one namespace.
    pub(super) fn sysctl_node(&self, space: u64, parts: &[&str]) -> Option<Node> {
        let families = ["ipv4", "ipv6"];
        match parts {
            [] => Node::directory(families),
            [family] if families.contains(family) => Node::directory(["conf"]),
            [family, "conf"] if families.contains(family) => Node::directory(
                self.links_in(space).map(|link| link.name.as_str()).chain(["all", "default"]),
            ),
            [family, "conf", link] if self.has_conf(space, link) => {
                let keys = SYSCTLS.iter().filter(|(of, ..)| of == family);
                Node::directory(keys.map(|(_, key, _)| *key))
            }
            [family, "conf", link, key] if self.has_conf(space, link) => {
                let (.., default) =
                    SYSCTLS.iter().find(|(of, known, _)| of == family && known == key)?;
                let held = self.namespaces.get(&space)?.sysctls.get(&parts.join("/"));
                Node::line(held.map_or(*default, String::as_str))
            }
            _ => None,
        }
    }

    fn has_conf(&self, space: u64, link: &str) -> bool {
        matches!(link, "all" | "default") || self.links_in(space).any(|known| known.name == link)
    }
}
