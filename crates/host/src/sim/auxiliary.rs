//! The auxiliary bus (`/sys/bus/auxiliary`), as far as subfunctions (SFs) of a card are on it: each a directory below
//! its card's, with the RDMA device of its own. Where there is no SF there is no bus.
//!
//! drivers/net/ethernet/mellanox/mlx5/core/sf/dev/dev.c (mlx5_sf_dev_add) names them `mlx5_core.sf.<number>`, and
//! drivers/infiniband/hw/mlx5/main.c (mlx5r_probe) makes the SF the parent of the RDMA device. Belief: no lab has such
//! a card, and netdevsim has no RDMA.

use super::machine::{Machine, RdmaDev};
use super::sysfs::Node;
use api::PciAddress;

/// The driver of an SF, which is the card's under another name.
const DRIVER: &str = "mlx5_core.sf";

impl Machine {
    /// Adds an SF with an RDMA device, as `devlink port add` and its activation leave it; answers its name on the bus.
    pub fn add_subfunction(&mut self, pci: &PciAddress, number: u32) -> String {
        let name = format!("{DRIVER}.{number}");
        let before = self.rdma.last_index;
        self.make_rdma_device_named(pci, "mlx5_");
        if self.rdma.last_index != before
            && let Some(mut made) = self.rdma.devices.last_entry()
        {
            made.get_mut().auxiliary = Some(name.clone());
        }
        name
    }

    /// The RDMA device of an auxiliary device, in whatever namespace it is.
    pub fn rdma_of_auxiliary(&self, name: &str) -> Option<(u32, &RdmaDev)> {
        // Most of what is ever read in sysfs is no such name.
        if !name.starts_with(DRIVER) {
            return None;
        }
        let mut devices = self.rdma.devices.iter();
        let found = devices.find(|(_, device)| device.auxiliary.as_deref() == Some(name));
        found.map(|(index, device)| (*index, device))
    }

    /// Names of the auxiliary devices: of a card, or of all cards.
    pub(super) fn auxiliary_names(&self, pci: Option<&PciAddress>) -> Vec<String> {
        let devices = self.rdma.devices.values();
        let of = devices.filter(|device| pci.is_none_or(|pci| device.parent == *pci));
        of.filter_map(|device| device.auxiliary.clone()).collect()
    }

    pub(super) fn auxiliary_bus_node(&self, parts: &[&str]) -> Option<Node> {
        if self.auxiliary_names(None).is_empty() {
            return None;
        }
        match parts {
            [] => Node::directory(["devices", "drivers"]),
            ["devices"] => Node::directory(self.auxiliary_names(None)),
            ["devices", name] => {
                let path = self.rdma_directory(self.rdma_of_auxiliary(name)?.1)?;
                Node::link(format!("../../..{}", path.strip_prefix("/sys")?))
            }
            ["drivers"] | ["drivers", DRIVER] => Node::directory([DRIVER]),
            _ => None,
        }
    }

    /// What is in the directory of an SF, below its card's, which lies `depth` directories below `/sys/devices`.
    pub(super) fn auxiliary_node(
        &self,
        space: u64,
        pci: &PciAddress,
        depth: usize,
        parts: &[&str],
    ) -> Option<Node> {
        let [name, rest @ ..] = parts else { return None };
        let (_, device) = self.rdma_of_auxiliary(name).filter(|(_, dev)| dev.parent == *pci)?;
        let up = "../".repeat(depth + 2);
        match rest {
            [] => Node::directory([
                "driver",
                "infiniband",
                "infiniband_mad",
                "infiniband_verbs",
                "subsystem",
            ]),
            ["driver"] => Node::link(format!("{up}bus/auxiliary/drivers/{DRIVER}")),
            ["subsystem"] => Node::link(format!("{up}bus/auxiliary")),
            [class @ ("infiniband" | "infiniband_verbs" | "infiniband_mad"), rest @ ..] => {
                self.rdma_class_below(space, device, class, rest)
            }
            _ => None,
        }
    }
}
