//! `/sys/bus/vdpa`: vDPA devices that somebody has made on VFs (`vdpa dev add`), under the names that upstream's
//! operator gives them. Belief: no lab has a card that could.

use super::machine::Machine;
use super::sysfs::Node;
use api::PciAddress;

fn name(pci: &PciAddress) -> String {
    format!("vdpa:{pci}")
}

impl Machine {
    pub(super) fn vdpa_bus_node(&self, parts: &[&str]) -> Option<Node> {
        let driver =
            |device: &str| self.vdpa.iter().find(|(pci, _)| name(pci) == device).map(|(_, d)| d);
        match parts {
            _ if self.vdpa.is_empty() => None,
            [] => Node::directory(["devices"]),
            ["devices"] => Node::directory(self.vdpa.keys().map(name)),
            ["devices", device] => driver(device).and_then(|_| Node::directory(["driver"])),
            // drivers/vdpa/vdpa.c has drivers of its own bus: `virtio_vdpa` and `vhost_vdpa`.
            ["devices", device, "driver"] => {
                Node::link(format!("../../drivers/{}", driver(device)?))
            }
            _ => None,
        }
    }
}
