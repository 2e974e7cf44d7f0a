//! What nobody on the host sees of a VF while a pod has its interface, and the CNI journal knows: for the node state,
//! so that its VFs are complete. Nothing is planned by it.
//!
//! An IPoIB interface gets another hardware address in its pod, since its queue pair is made anew with the RDMA device;
//! what that is nobody has written down.

use api::PciAddress;
use api::inventory::{InPod, Inventory};
use api::journal::{Record, VfCustody};
use host::vf_settings::{parse_guid, show_guid};
use std::collections::BTreeMap;

/// Adds what the records of this boot say to each VF whose interface the host does not see.
pub fn tell<'a>(inventory: &mut Inventory, records: impl Iterator<Item = &'a Record>) {
    let of_this_boot = records.filter(|record| record.boot_id == inventory.boot_id);
    let custody = of_this_boot.filter_map(|record| {
        let pci: PciAddress = record.device.parse().ok()?;
        Some((pci, record.vf.as_ref()?))
    });
    let custody: BTreeMap<PciAddress, &VfCustody> = custody.collect();
    for function in &mut inventory.physical_functions {
        for vf in function.vfs.iter_mut().filter(|vf| vf.name.is_none()) {
            let known = custody.get(&vf.pci);
            let known = known.filter(|known| (known.pf, known.index) == (function.pci, vf.index));
            vf.in_pod = known.map(|known| in_pod(known));
        }
    }
}

fn in_pod(known: &VfCustody) -> InPod {
    let link = known.link.as_ref();
    let ethernet = |address: &&String| address.len() == "00:11:22:33:44:55".len();
    let own = || link.map(|link| &link.address).filter(ethernet);
    InPod {
        name: link.map(|link| link.name.clone()).filter(|name| !name.is_empty()),
        mac: known.wanted.mac.as_ref().filter(|_| link.is_some()).or_else(own).cloned(),
        mtu: link.map(|link| link.mtu).filter(|mtu| *mtu != 0),
        guid: known.wanted.guid.as_ref().or(known.before.guid.as_ref()).and_then(|g| guid(g)),
    }
}

/// As sysfs writes it; zeros and ones alone mean that nobody knows.
fn guid(text: &str) -> Option<String> {
    let guid = parse_guid(text).filter(|guid| ![0, u64::MAX].contains(guid))?;
    Some(show_guid(guid))
}
