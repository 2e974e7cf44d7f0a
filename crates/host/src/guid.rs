//! Node and port GUID of an InfiniBand VF: what it has, and giving it another, which its driver takes at its next probe.
//!
//! Both are set to one value, through the PF. Callers hold the lock of RDMA moves: a probe makes devices anew. (The
//! daemon, whose probes are of VFs that no pod has, holds it where their numbers matter: `node::apply::lock_numbers`.)

use crate::function;
use crate::home::{interface_at_home, rdma_devices_at_home};
use crate::seam::{Host, Interest, Refusal};
use crate::vf_profile::{self, VfIdentity, VfProfileError, show_address};
use api::PciAddress;
use api::journal::VfProfile;
use rustix::io::Errno;
use std::time::Duration;

/// Interface and RDMA device come a little after the probe.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

pub const PORT: &str = "port GUID";
pub const NODE: &str = "node GUID";

/// The GUID at the end of an IPoIB hardware address; none for other interfaces.
pub fn of_address(address: &[u8]) -> Option<String> {
    (address.len() == 20).then(|| show_address(&address[12..]))
}

/// What a VF at home has, each under its name. In user space nobody sees more than what the PF holds for it, where its
/// driver tells that.
pub fn seen(
    host: &dyn Host,
    vf: &VfIdentity,
) -> Result<Vec<(&'static str, String)>, VfProfileError> {
    let link = interface_at_home(host, &vf.pci)?;
    let port = link.and_then(|link| of_address(&link.address));
    let devices = rdma_devices_at_home(host, &vf.pci.to_string())?;
    let nodes = devices.iter().map(|device| (NODE, show_address(&device.node_guid.to_be_bytes())));
    let seen: Vec<_> = port.map(|port| (PORT, port)).into_iter().chain(nodes).collect();
    if !seen.is_empty() {
        return Ok(seen);
    }
    let held = vf_profile::held(host, vf)?;
    let told = [(PORT, held.port_guid), (NODE, held.node_guid)];
    let told = told.into_iter().filter_map(|(what, guid)| Some((what, guid.filter(|g| *g != 0)?)));
    Ok(told.map(|(what, guid)| (what, show_address(&guid.to_be_bytes()))).collect())
}

/// What a VF has in place of this GUID.
pub fn others(
    host: &dyn Host,
    vf: &VfIdentity,
    wanted: &str,
) -> Result<Vec<(&'static str, String)>, VfProfileError> {
    let mut seen = seen(host, vf)?;
    seen.retain(|(_, found)| found != wanted);
    Ok(seen)
}

/// Has the PF hold this GUID for both, and the driver take it. Returns what the VF has in its place all the same.
pub fn give(
    host: &dyn Host,
    vf: &VfIdentity,
    guid: &str,
) -> Result<Vec<(&'static str, String)>, VfProfileError> {
    let before = seen(host, vf)?.len();
    let wanted = VfProfile { guid: Some(guid.to_owned()), ..VfProfile::default() };
    match vf_profile::apply(host, vf, &wanted) {
        // A card that takes no GUID has never had ours: there is nothing to put back, and a pod must not stay for it.
        Err(VfProfileError::Refused { refusal, .. }) if refusal.errno == Errno::OPNOTSUPP => {
            return Ok(Vec::new());
        }
        applied => applied?,
    };
    rebind(host, &vf.pci)?;
    for _ in 1..TRIES {
        let found = seen(host, vf)?;
        if found.len() >= before && found.iter().all(|(_, found)| found == guid) {
            return Ok(Vec::new());
        }
        host.wait(&[Interest::Link], PAUSE);
    }
    others(host, vf, guid)
}

/// Takes the driver of a function off and puts it on again. In user space there is nothing to take anew, and without
/// a driver nothing to take off.
pub fn rebind(host: &dyn Host, pci: &PciAddress) -> Result<(), Refusal> {
    let Some(driver) = function::driver(host, pci)?.filter(|driver| driver != "vfio-pci") else {
        return Ok(());
    };
    host.write(&format!("/sys/bus/pci/drivers/{driver}/unbind"), &pci.to_string())?;
    host.write(&format!("/sys/bus/pci/drivers/{driver}/bind"), &pci.to_string())
}
