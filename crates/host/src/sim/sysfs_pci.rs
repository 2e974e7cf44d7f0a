//! `/sys/devices`: the PCI functions and their attributes.

use super::Fault;
use super::machine::{Function, FunctionKind, Machine, PhysicalPart};
use super::sysfs::Node;
use api::PciAddress;
use std::collections::BTreeSet;

impl Machine {
    pub(super) fn devices_node(&self, space: u64, parts: &[&str]) -> Option<Node> {
        match parts {
            [] => {
                let roots = self.functions.values().map(|function| function.root.clone());
                Node::directory(roots.chain(["system", "virtual"].map(str::to_owned)))
            }
            ["system", rest @ ..] => self.system_node(rest),
            ["virtual"] => Node::directory(["net"]),
            ["virtual", "net", rest @ ..] => self.virtual_net_node(space, rest),
            [root, rest @ ..] => self.pci_tree_node(space, root, rest),
        }
    }

    /// NUMA nodes, two CPUs each.
    fn system_node(&self, parts: &[&str]) -> Option<Node> {
        let nodes: BTreeSet<i32> =
            self.functions.values().map(|function| function.numa_node.max(0)).chain([0]).collect();
        match parts {
            [] => Node::directory(["node"]),
            ["node"] => Node::directory(
                nodes.iter().map(|node| format!("node{node}")).chain(["online".to_owned()]),
            ),
            ["node", "online"] => {
                let last = nodes.last().copied().unwrap_or_default();
                Node::line(if last == 0 { "0".to_owned() } else { format!("0-{last}") })
            }
            ["node", node, rest @ ..] => {
                let number: i32 = node.strip_prefix("node")?.parse().ok()?;
                nodes.get(&number)?;
                match rest {
                    [] => Node::directory(["cpulist"]),
                    ["cpulist"] => Node::line(cpus(number)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A path below a root complex: bridges, then a function, then what is in its directory.
    fn pci_tree_node(&self, space: u64, root: &str, parts: &[&str]) -> Option<Node> {
        let chain: Vec<PciAddress> = parts.iter().map_while(|part| part.parse().ok()).collect();
        let children = || {
            let below = self
                .functions
                .iter()
                .filter(|(_, function)| function.root == root && function.bridges == chain);
            below.map(|(pci, _)| pci.to_string())
        };
        let Some((pci, bridges)) = chain.split_last() else {
            let known = self.functions.values().any(|function| function.root == root);
            return if known && parts.is_empty() { Node::directory(children()) } else { None };
        };
        let function = self.functions.get(pci)?;
        if function.root != root || function.bridges != bridges {
            return None;
        }
        match &parts[chain.len()..] {
            [] => Node::directory(self.function_entries(pci).into_iter().chain(children())),
            rest => self.function_node(space, pci, chain.len() + 1, rest),
        }
    }

    fn function_entries(&self, pci: &PciAddress) -> Vec<String> {
        let Some(function) = self.functions.get(pci) else { return Vec::new() };
        let mut names = vec![
            "class",
            "device",
            "driver_override",
            "local_cpulist",
            "modalias",
            "numa_node",
            "revision",
            "subsystem",
            "subsystem_device",
            "subsystem_vendor",
            "uevent",
            "vendor",
        ];
        names.extend(function.driver.as_ref().map(|_| "driver"));
        names.extend(
            function.iommu_group.filter(|_| !self.has(Fault::NoIommu)).map(|_| "iommu_group"),
        );
        if !matches!(function.kind, FunctionKind::Bridge) {
            names.push("reset");
        }
        if self.links.values().any(|link| link.parent == Some(*pci)) {
            names.push("net");
        }
        if self.rdma_of(pci).is_some() {
            names.extend(["infiniband", "infiniband_mad", "infiniband_verbs"]);
        }
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        names.extend(self.auxiliary_names(Some(pci)));
        match &function.kind {
            FunctionKind::Physical(part) if part.total_vfs > 0 => {
                names.extend(SRIOV.map(str::to_owned));
                names.extend((0..self.vfs_of(pci).len()).map(|index| format!("virtfn{index}")));
            }
            FunctionKind::Virtual(_) => names.push("physfn".to_owned()),
            _ => {}
        }
        names
    }

    /// One entry in a function's directory, `depth` directories below `/sys/devices`.
    pub(super) fn function_node(
        &self,
        space: u64,
        pci: &PciAddress,
        depth: usize,
        parts: &[&str],
    ) -> Option<Node> {
        let function = self.functions.get(pci)?;
        let [name, rest @ ..] = parts else { return None };
        let up = "../".repeat(depth + 1);
        match (*name, rest) {
            ("vendor" | "subsystem_vendor", []) => {
                Node::line(format_args!("0x{}", function.vendor))
            }
            ("device" | "subsystem_device", []) => {
                Node::line(format_args!("0x{}", function.device))
            }
            ("class", []) => Node::line(format_args!("0x{:06x}", function.class)),
            ("revision", []) => Node::line("0x00"),
            ("modalias", []) => Node::line(modalias(function)),
            ("uevent", []) => {
                let driver = function
                    .driver
                    .as_ref()
                    .map(|driver| format!("DRIVER={driver}\n"))
                    .unwrap_or_default();
                let (vendor, device) =
                    (function.vendor.to_uppercase(), function.device.to_uppercase());
                Node::text(format!(
                    "{driver}PCI_CLASS={:X}\nPCI_ID={vendor}:{device}\nPCI_SLOT_NAME={pci}\n",
                    function.class
                ))
            }
            ("numa_node", []) => Node::line(function.numa_node),
            ("local_cpulist", []) => Node::line(cpus(function.numa_node)),
            ("driver_override", []) => {
                Node::line(function.driver_override.as_deref().unwrap_or("(null)"))
            }
            ("reset", []) => {
                (!matches!(function.kind, FunctionKind::Bridge)).then_some(Node::WriteOnly)
            }
            ("subsystem", []) => Node::link(format!("{up}bus/pci")),
            ("driver", []) => {
                Node::link(format!("{up}bus/pci/drivers/{}", function.driver.as_ref()?))
            }
            ("iommu_group", []) if !self.has(Fault::NoIommu) => {
                Node::link(format!("{up}kernel/iommu_groups/{}", function.iommu_group?))
            }
            ("net", rest) => {
                self.links.values().find(|link| link.parent == Some(*pci))?;
                self.device_net_node(space, pci, depth, rest)
            }
            (class @ ("infiniband" | "infiniband_verbs" | "infiniband_mad"), rest) => {
                self.device_rdma_node(space, pci, class, rest)
            }
            (name, _) if self.rdma_of_auxiliary(name).is_some() => {
                self.auxiliary_node(space, pci, depth, parts)
            }
            (name, rest) => match &function.kind {
                FunctionKind::Physical(part) => self.physical_node(part, pci, name, rest),
                FunctionKind::Virtual(part) if rest.is_empty() => {
                    (name == "physfn").then(|| Node::Link(format!("../{}", part.physical)))
                }
                _ => None,
            },
        }
    }

    fn physical_node(
        &self,
        part: &PhysicalPart,
        pci: &PciAddress,
        name: &str,
        rest: &[&str],
    ) -> Option<Node> {
        if !rest.is_empty() || part.total_vfs == 0 {
            return None;
        }
        match name {
            "sriov_totalvfs" => Node::line(part.total_vfs),
            "sriov_numvfs" => Node::line(part.num_vfs),
            "sriov_offset" => Node::line(part.offset),
            "sriov_stride" => Node::line(part.stride),
            // Hex without 0x (drivers/pci/iov.c, sriov_vf_device_show).
            "sriov_vf_device" => Node::line(&part.vf_device),
            "sriov_drivers_autoprobe" => Node::line(u8::from(part.autoprobe)),
            "sriov_vf_total_msix" => Node::line(0),
            _ => {
                let index: usize = name.strip_prefix("virtfn")?.parse().ok()?;
                Node::link(format!("../{}", self.vfs_of(pci).get(index)?))
            }
        }
    }
}

/// drivers/pci/pci-sysfs.c, modalias_show.
pub(super) fn modalias(function: &Function) -> String {
    format!(
        "pci:v0000{}d0000{}sv0000{}sd0000{}bc{:02X}sc{:02X}i{:02X}",
        function.vendor.to_uppercase(),
        function.device.to_uppercase(),
        function.vendor.to_uppercase(),
        function.device.to_uppercase(),
        function.class >> 16,
        (function.class >> 8) & 0xff,
        function.class & 0xff
    )
}

const SRIOV: [&str; 7] = [
    "sriov_drivers_autoprobe",
    "sriov_numvfs",
    "sriov_offset",
    "sriov_stride",
    "sriov_totalvfs",
    "sriov_vf_device",
    "sriov_vf_total_msix",
];

/// Sixteen CPUs a node.
fn cpus(node: i32) -> String {
    let first = node.max(0) * 16;
    format!("{first}-{}", first + 15)
}
