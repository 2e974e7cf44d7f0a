//! `/sys/class/infiniband*` and `/dev/infiniband`: what a network namespace shows of the RDMA devices.

use super::machine::{HOST_NAMESPACE, Machine, NetDevice, RdmaDev};
use super::sysfs::Node;
use crate::tried::colons;
use api::PciAddress;
use rustix::io::Errno;

/// Number of GID table entries shown.
const GIDS: usize = 4;

impl Machine {
    fn rdma_in(&self, space: u64) -> impl Iterator<Item = &RdmaDev> {
        self.rdma.devices.values().filter(move |device| self.sees_rdma(space, device))
    }

    /// The classes. `infiniband` is tagged by the namespace; the entries of uverbs and umad stay visible everywhere
    /// (lab.md section 3).
    pub(super) fn rdma_class_node(&self, space: u64, class: &str, parts: &[&str]) -> Option<Node> {
        self.rdma.mode?;
        let of = |device: &RdmaDev, name: &str| {
            let directory = self.rdma_directory(device)?;
            Node::link(format!("../../{}/{class}/{name}", directory.strip_prefix("/sys/")?))
        };
        match (class, parts) {
            ("infiniband", []) => {
                Node::directory(self.rdma_in(space).map(|device| device.name.clone()))
            }
            ("infiniband", [name]) => {
                of(self.rdma_in(space).find(|device| device.name == *name)?, name)
            }
            (_, []) => {
                let all =
                    self.rdma.devices.values().flat_map(|device| character_names(device, class));
                Node::directory(all.chain(["abi_version".to_owned()]))
            }
            (_, ["abi_version"]) => Node::line(if class == "infiniband_verbs" { 6 } else { 5 }),
            (_, [name]) => {
                let named = |device: &&RdmaDev| {
                    character_names(device, class).iter().any(|own| own == name)
                };
                of(self.rdma.devices.values().find(named)?, name)
            }
            _ => None,
        }
    }

    /// The same directories below a PCI function. The RDMA device's own is empty where the namespace does not see it.
    pub(super) fn device_rdma_node(
        &self,
        space: u64,
        pci: &PciAddress,
        class: &str,
        parts: &[&str],
    ) -> Option<Node> {
        self.rdma_class_below(space, self.rdma_of(pci)?.1, class, parts)
    }

    /// The directory that the RDMA device's own directories are in.
    pub(super) fn rdma_directory(&self, device: &RdmaDev) -> Option<String> {
        let function = self.device_path(&device.parent)?;
        Some(match &device.auxiliary {
            Some(name) => format!("{function}/{name}"),
            None => function,
        })
    }

    /// The interface beside an RDMA device; that of a subfunction's is not played.
    pub(super) fn rdma_netdev(&self, device: &RdmaDev) -> Option<&NetDevice> {
        self.netdev_of(&device.parent).filter(|_| device.auxiliary.is_none())
    }

    pub(super) fn rdma_class_below(
        &self,
        space: u64,
        device: &RdmaDev,
        class: &str,
        parts: &[&str],
    ) -> Option<Node> {
        let seen = self.sees_rdma(space, device);
        match (class, parts) {
            ("infiniband", []) => Node::directory(seen.then(|| device.name.clone())),
            ("infiniband", [name, rest @ ..]) if seen && *name == device.name => {
                self.rdma_node(space, device, rest)
            }
            ("infiniband", _) => None,
            (_, []) => Node::directory(character_names(device, class)),
            (_, [name, rest @ ..]) => {
                character_names(device, class).iter().find(|own| own == name)?;
                let (major, minor) = numbers(device, name)?;
                match rest {
                    [] => Node::directory(
                        ["dev", "device", "ibdev"]
                            .into_iter()
                            .chain((class == "infiniband_mad").then_some("port")),
                    ),
                    ["ibdev"] => Node::line(&device.name),
                    ["dev"] => Node::line(format_args!("{major}:{minor}")),
                    ["port"] if class == "infiniband_mad" => Node::line(1),
                    ["device"] => Node::link("../.."),
                    _ => None,
                }
            }
        }
    }

    fn rdma_node(&self, space: u64, device: &RdmaDev, parts: &[&str]) -> Option<Node> {
        match parts {
            [] => Node::directory([
                "device",
                "fw_ver",
                "hca_type",
                "node_desc",
                "node_guid",
                "node_type",
                "ports",
                "sys_image_guid",
            ]),
            ["device"] => Node::link("../.."),
            ["node_guid"] => Node::line(guid(device.node_guid)),
            ["sys_image_guid"] => Node::line(guid(device.system_image_guid)),
            ["node_type"] => Node::line("1: CA"),
            ["node_desc"] => Node::line(format_args!("{} {}", self.name, device.name)),
            ["fw_ver"] => Node::line("16.35.4030"),
            ["hca_type"] => {
                let number = &self.functions.get(&device.parent)?.device;
                Node::line(format_args!("MT{}", u32::from_str_radix(number, 16).ok()?))
            }
            ["ports"] => Node::directory(["1"]),
            ["ports", "1", rest @ ..] => self.port_node(space, device, rest),
            _ => None,
        }
    }

    fn port_node(&self, space: u64, device: &RdmaDev, parts: &[&str]) -> Option<Node> {
        let netdev = self.rdma_netdev(device);
        let active = netdev.is_some_and(|link| link.up && link.carrier);
        // In shared mode other namespaces see a stand-in of the device, without hardware counters
        // (drivers/infiniband/core/sysfs.c, setup_port: only for the device itself).
        let stand_in = device.namespace != space && space != HOST_NAMESPACE;
        match parts {
            [] => {
                let all = [
                    "counters",
                    "gid_attrs",
                    "gids",
                    "lid",
                    "link_layer",
                    "phys_state",
                    "rate",
                    "state",
                ];
                Node::directory(all.into_iter().chain((!stand_in).then_some("hw_counters")))
            }
            ["state"] => Node::line(if active { "4: ACTIVE" } else { "1: DOWN" }),
            ["phys_state"] => Node::line(if active { "5: LinkUp" } else { "3: Disabled" }),
            ["link_layer"] => Node::line(if device.infiniband { "InfiniBand" } else { "Ethernet" }),
            ["lid"] => Node::line("0x0"),
            ["rate"] => Node::line("100 Gb/sec (4X EDR)"),
            ["counters"] => Node::directory(device.counters.keys().cloned()),
            ["counters", name] => Node::line(device.counters.get(*name)?),
            ["hw_counters"] if !stand_in => Node::directory(device.hw_counters.keys().cloned()),
            ["hw_counters", name] if !stand_in => Node::line(device.hw_counters.get(*name)?),
            ["gids"] | ["gid_attrs", "ndevs" | "types"] => {
                Node::directory((0..GIDS).map(|gid| gid.to_string()))
            }
            ["gids", number] => {
                Node::line(self.gid(device, number.parse().ok().filter(|n| *n < GIDS)?))
            }
            ["gid_attrs"] => Node::directory(["ndevs", "types"]),
            // An empty slot refuses the read (lab.md section 3).
            ["gid_attrs", "ndevs", number] => {
                let filled =
                    self.gid(device, number.parse().ok().filter(|n| *n < GIDS)?) != EMPTY_GID;
                match netdev.filter(|link| filled && link.namespace == space) {
                    Some(link) => Node::line(&link.name),
                    None => Node::refusal(Errno::INVAL),
                }
            }
            ["gid_attrs", "types", number] => {
                let filled =
                    self.gid(device, number.parse().ok().filter(|n| *n < GIDS)?) != EMPTY_GID;
                if filled { Node::line("RoCE v2") } else { Node::refusal(Errno::INVAL) }
            }
            _ => None,
        }
    }

    /// Entry 0 is the link-local address of the interface, the others its IPv4 addresses, while it is up.
    fn gid(&self, device: &RdmaDev, number: usize) -> String {
        let Some(link) = self.rdma_netdev(device).filter(|link| link.up) else {
            return EMPTY_GID.to_owned();
        };
        let mut gids = vec![link_local(&link.address)];
        for (address, _) in &link.addresses {
            gids.push(match address {
                std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                std::net::IpAddr::V6(address) => address.octets(),
            });
        }
        gids.get(number).map_or(EMPTY_GID.to_owned(), pairs)
    }

    pub(super) fn infiniband_dev_node(&self, parts: &[&str]) -> Option<Node> {
        match parts {
            [] => {
                let classes = ["infiniband_verbs", "infiniband_mad"];
                let devices = self.rdma.devices.values();
                let names = devices.flat_map(|device| {
                    classes.iter().flat_map(|class| character_names(device, class))
                });
                Node::directory(names.chain(["rdma_cm".to_owned()]))
            }
            ["rdma_cm"] => Some(Node::CharacterDevice { major: 10, minor: 58 }),
            [name] => {
                let (major, minor) = self.rdma.devices.values().find_map(|device| {
                    let classes = ["infiniband_verbs", "infiniband_mad"];
                    let own = classes
                        .iter()
                        .flat_map(|class| character_names(device, class))
                        .any(|own| own == *name);
                    own.then(|| numbers(device, name)).flatten()
                })?;
                Some(Node::CharacterDevice { major, minor })
            }
            _ => None,
        }
    }
}

const EMPTY_GID: &str = "0000:0000:0000:0000:0000:0000:0000:0000";

/// The character devices of an RDMA device in one class. `umad` is of its one port, and so is `issm`, which only an
/// InfiniBand port has (drivers/infiniband/core/user_mad.c, ib_umad_init_port; seen in the lab).
fn character_names(device: &RdmaDev, class: &str) -> Vec<String> {
    match class {
        "infiniband_verbs" => vec![format!("uverbs{}", device.uverbs)],
        "infiniband_mad" => {
            let issm = device.infiniband.then(|| format!("issm{}", device.umad));
            issm.into_iter().chain([format!("umad{}", device.umad)]).collect()
        }
        _ => Vec::new(),
    }
}

/// Major and minor (drivers/infiniband/core: IB_UVERBS_MAJOR 231, base 192; umad from 0, issm from 64).
fn numbers(device: &RdmaDev, name: &str) -> Option<(u32, u32)> {
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((
        231,
        match kind {
            "uverbs" => 192 + device.uverbs,
            "umad" => device.umad,
            "issm" => 64 + device.umad,
            _ => return None,
        },
    ))
}

fn guid(guid: u64) -> String {
    colons(&guid.to_be_bytes())
        .split(':')
        .collect::<Vec<_>>()
        .chunks(2)
        .map(<[&str]>::concat)
        .collect::<Vec<_>>()
        .join(":")
}

fn pairs(bytes: &[u8; 16]) -> String {
    bytes
        .chunks(2)
        .map(|pair| format!("{:02x}{:02x}", pair[0], pair[1]))
        .collect::<Vec<_>>()
        .join(":")
}

fn link_local(address: &[u8]) -> [u8; 16] {
    let mut gid = [0u8; 16];
    (gid[0], gid[1]) = (0xfe, 0x80);
    match address {
        [a, b, c, d, e, f] => gid[8..].copy_from_slice(&[a ^ 2, *b, *c, 0xff, 0xfe, *d, *e, *f]),
        long if long.len() == 20 => gid[8..].copy_from_slice(&long[12..]),
        _ => {}
    }
    gid
}
