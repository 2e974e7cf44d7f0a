//! RoCE LAG: two ports of one ConnectX in one bond share one RDMA device, until VFs are made on one of them.
//!
//! Known by what it leaves behind, since nothing but debugfs names it: drivers/net/ethernet/mellanox/mlx5/core/lag/lag.c,
//! mlx5_do_bond takes the RDMA devices of all legs away and makes one (`mlx5_bond_0`) below the first of them.

use crate::Host;
use crate::seam::Link;
use api::PciAddress;
use std::collections::BTreeMap;

/// Legs of active RoCE LAGs, each with the name of its bond; `links` is a dump of the host's namespace.
pub fn legs(host: &dyn Host, links: &[Link]) -> BTreeMap<PciAddress, String> {
    let mut cards: BTreeMap<(PciAddress, u32), Vec<PciAddress>> = BTreeMap::new();
    for link in links {
        let parent = link.parent.as_deref().and_then(|parent| parent.parse::<PciAddress>().ok());
        let (Some(pci), Some(master)) = (parent, link.master) else { continue };
        if is_mlx5(host, &pci) && host.link_target(&pci.file("physfn")).is_err() {
            let card = PciAddress { function: 0, ..pci };
            cards.entry((card, master)).or_default().push(pci);
        }
    }
    let mut found = BTreeMap::new();
    for ((_, master), legs) in cards {
        let bond = links.iter().find(|l| l.index == master && l.kind.as_deref() == Some("bond"));
        let with_rdma = legs.iter().filter(|pci| has_rdma(host, pci)).count();
        if let (Some(bond), true, 1) = (bond, legs.len() > 1, with_rdma) {
            found.extend(legs.into_iter().map(|pci| (pci, bond.name.clone())));
        }
    }
    found
}

fn is_mlx5(host: &dyn Host, pci: &PciAddress) -> bool {
    host.link_target(&pci.file("driver")).is_ok_and(|target| target.ends_with("/mlx5_core"))
}

fn has_rdma(host: &dyn Host, pci: &PciAddress) -> bool {
    host.list(&pci.file("infiniband")).is_ok_and(|devices| !devices.is_empty())
}
