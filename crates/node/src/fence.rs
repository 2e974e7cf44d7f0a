//! May these devices be changed now? Withdrawn, acknowledged, and then not held: in this order, or not at all.
//!
//! Pure. Looking at holders before the acknowledgement proves nothing, since a device may be given in between.

use crate::holders;
use crate::offer::holders_of;
use api::PciAddress;
use api::custody::{Claims, Holder, Offer, OfferState};
use std::collections::BTreeSet;

/// The answer of the fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody holds the devices, and nobody can be given one.
    Clear,
    /// The offer that withdraws them has not been acted on yet.
    NotAcknowledged { because: String },
    /// Somebody holds one: it takes a drain.
    Held { because: String },
}

/// What the device plugin has let us know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// `claims.sequence`, where the claims are of this boot.
    pub sequence: Option<u64>,
    /// Its lock is free: none is running, and the next one reads the offer after taking it.
    pub plugin_absent: bool,
}

impl Acknowledgement {
    pub fn new(claims: Option<&Claims>, boot_id: &str, plugin_absent: bool) -> Self {
        let of_this_boot = claims.filter(|claims| claims.boot_id == boot_id);
        Self { sequence: of_this_boot.map(|claims| claims.sequence), plugin_absent }
    }
}

/// Judges the devices against the offer as it stands in the file.
pub fn verdict(
    touches: &BTreeSet<PciAddress>,
    offer: &Offer,
    acknowledgement: &Acknowledgement,
    holders: &[Holder],
) -> Verdict {
    if let Some(pci) = still_offered(touches, offer) {
        return Verdict::NotAcknowledged { because: format!("{pci} is not withdrawn yet") };
    }
    let acted_on = acknowledgement.sequence.is_some_and(|sequence| sequence >= offer.sequence);
    let offered = touches.iter().any(|pci| is_listed(offer, pci));
    if offered && !acted_on && !acknowledgement.plugin_absent {
        return Verdict::NotAcknowledged {
            because: format!(
                "the device plugin has not yet acted on offer {} (last: {})",
                offer.sequence,
                acknowledgement.sequence.map_or("none".to_owned(), |n| n.to_string()),
            ),
        };
    }
    match holders_of(touches, holders).first() {
        Some(holder) => Verdict::Held {
            because: format!("{} holds {}", holders::in_words(holder), holder.device),
        },
        None => Verdict::Clear,
    }
}

fn still_offered(touches: &BTreeSet<PciAddress>, offer: &Offer) -> Option<PciAddress> {
    let devices = offer.resources.values().flat_map(|resource| &resource.devices);
    devices
        .filter(|device| !matches!(device.state, OfferState::Withdrawn { .. }))
        .map(|device| device.pci)
        .find(|pci| touches.contains(pci))
}

fn is_listed(offer: &Offer, pci: &PciAddress) -> bool {
    offer.resources.values().flat_map(|resource| &resource.devices).any(|d| d.pci == *pci)
}
