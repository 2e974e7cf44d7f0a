//! The file in which the daemon keeps what the host lives by, so that a daemon that starts in a bad moment knows it too.
//! How long what is gone counts is `planner::lifeline::memory`'s.

use api::Timestamp;
use api::files::LIFELINES;
use api::inventory::Inventory;
use api::lifeline::{Kept, Memory};
use api::nodestate::InterfaceStatus;
use host::Host;
use planner::lifeline::memory;

/// Adds to the inventory what the host lived by a moment ago. `reported` is what the node state says: at a boot it is all
/// that is known, and the network may come up after us.
pub fn remember(
    host: &dyn Host,
    reported: &[InterfaceStatus],
    inventory: &mut Inventory,
    now: Timestamp,
) {
    let read = host.read(LIFELINES).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let known = read.clone().unwrap_or_else(|| from_report(reported));
    let memory = memory::remember(&known, inventory, now);
    if read.as_ref() == Some(&memory) {
        return;
    }
    // Plain data with text keys always becomes JSON.
    let text = serde_json::to_vec(&memory).unwrap_or_default();
    if let Err(refusal) = host.replace(LIFELINES, &text, 0o600) {
        // The next look writes it; until then what goes counts as just gone, which guards longer.
        tracing::warn!("cannot {refusal}");
    }
}

fn from_report(reported: &[InterfaceStatus]) -> Memory {
    let mut memory = Memory::default();
    for seen in reported {
        if !seen.lifelines.is_empty() {
            let what = seen.lifelines.iter().map(memory::as_it_was).collect();
            let kept = Kept { what, gone_since: None };
            memory.lifelines.insert(seen.pci_address, kept);
        }
        if !seen.roce_lag.is_empty() {
            let kept = Kept { what: seen.roce_lag.clone(), gone_since: None };
            memory.roce_lags.insert(seen.pci_address, kept);
        }
    }
    memory
}
