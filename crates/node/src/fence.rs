//! What may still be given away: the devices that the device plugin has not let go. Pure.
//!
//! To change a device the daemon withdraws it, waits for the acknowledgement, and only then looks at the holders:
//! looking before proves nothing, since the device may be given in between. The waiting itself is `planner::order`'s.

use api::PciAddress;
use api::custody::{Claims, Offer, OfferState, OfferedDevice};
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What the device plugin has let us know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// `claims.sequence`; None where there are no claims of this boot.
    pub sequence: Option<u64>,
    /// Its lock is free: none is running, and the next one reads the offer after it has taken the lock.
    pub plugin_absent: bool,
}

impl Acknowledgement {
    pub fn of(claims: Option<&Claims>, plugin_absent: bool) -> Self {
        Self { sequence: claims.map(|claims| claims.sequence), plugin_absent }
    }

    /// True when no device plugin has ever acted on an offer in this boot, or none runs.
    pub fn none_in_force(&self) -> bool {
        self.plugin_absent || self.sequence.is_none_or(|sequence| sequence == 0)
    }

    fn covers(&self, offer: &Offer) -> bool {
        self.plugin_absent || self.sequence.is_some_and(|sequence| sequence >= offer.sequence)
    }
}

/// Devices that are withdrawn and that `Node.status.allocatable` still counts: new pods would be scheduled for them,
/// admitted and failed, where they should stay Pending. The kubelet counts what is ready, a device that a pod has too.
pub fn counted(offer: &Offer, allocatable: &BTreeMap<String, String>) -> BTreeSet<PciAddress> {
    let is_ready = |device: &&OfferedDevice| device.state == OfferState::Ready;
    let shown = |name: &str| allocatable.get(name).and_then(|count| count.parse::<usize>().ok());
    let behind = offer.resources.iter().filter(|(name, resource)| {
        let ready = resource.devices.iter().filter(is_ready).count();
        shown(name).unwrap_or_default() > ready
    });
    let devices = behind.flat_map(|(_, resource)| &resource.devices);
    // What was never ready in this boot the Node counts only from the boot before, and nobody can be given it.
    let was_ready = |device: &&OfferedDevice| !is_ready(device) && !is_unverified(device);
    devices.filter(was_ready).map(|device| device.pci).collect()
}

/// Devices of the offer in force that may be given to a pod at any moment: every one that is not withdrawn, and the
/// withdrawn ones too until the offer that says so is acknowledged.
pub fn offered(offer: &Offer, acknowledgement: &Acknowledgement) -> BTreeSet<PciAddress> {
    let acknowledged = acknowledgement.covers(offer);
    let devices = offer.resources.values().flat_map(|resource| &resource.devices);
    let may_be_given = devices.filter(|device| match device.state {
        OfferState::Ready => true,
        // It was never anything else in this boot.
        OfferState::Unverified { .. } => false,
        // Allocate refuses a broken device, yet only when it has read this offer.
        OfferState::Withdrawn { .. } | OfferState::Broken { .. } => !acknowledged,
    });
    may_be_given.map(|device| device.pci).collect()
}

fn is_unverified(device: &OfferedDevice) -> bool {
    matches!(device.state, OfferState::Unverified { .. })
}
