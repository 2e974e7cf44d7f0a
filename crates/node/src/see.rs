//! Everything that a plan is made of, seen at one moment: inventory, holders, and what may still be given away.
//!
//! It looks, and writes only what the node was like before us. What to do about it is the planner's.

use crate::checkpoint;
use crate::custody::{self, Found};
use crate::fence::{self, Acknowledgement};
use crate::holders::{self, Confirmed};
use crate::in_pods;
use crate::ledger;
use crate::lifelines;
use crate::observe::{self, ObserveError};
use api::custody::{Holder, Offer};
use api::inventory::Inventory;
use api::journal::Record;
use api::nodestate::{RebootRecord, SriovNetworkNodeState};
use api::{PciAddress, Timestamp};
use host::journal::JournalError;
use host::{Host, Refusal, journal};
use planner::Desired;
use std::collections::{BTreeMap, BTreeSet};

/// One moment of a node.
#[derive(Debug)]
pub struct Seen {
    pub inventory: Inventory,
    /// Devices that may be given to a pod at any moment.
    pub offered: BTreeSet<PciAddress>,
    /// Devices that nobody may be given any more and that the scheduler does not know of yet.
    pub counted: BTreeSet<PciAddress>,
    pub offer: Option<Offer>,
    /// The last sequence that either side has used: a new offer must be above it.
    pub sequence: u64,
    /// The ledger as it stands on the host's disk.
    pub on_host: Vec<RebootRecord>,
}

/// Looks once. PodResources (`pods`) was read before: what was given since is a young claim.
pub fn see(
    host: &dyn Host,
    pods: &[Holder],
    confirmed: &mut Confirmed,
    state: &SriovNetworkNodeState,
    desired: &Desired,
    allocatable: Option<&BTreeMap<String, String>>,
    now: Timestamp,
) -> Result<Seen, String> {
    let boot_id = observe::boot_id(host).map_err(in_full)?;
    let found = custody::read_offer(host, &boot_id);
    let claims = custody::read_claims(host, &boot_id).good();
    let acknowledgement = Acknowledgement::of(claims.as_ref(), custody::device_plugin_absent(host));
    let claims = confirmed.in_our_time(claims.unwrap_or_default(), now);
    let records = journal::list(host).map_err(|error| error.to_string())?;
    let read: Vec<Record> = records.iter().flatten().cloned().collect();
    let journal = journalled(records)?;
    let pods = &holders::that_run(pods, &holders::named_as_ended(state), &journal, &claims);
    holders::confirm(confirmed, pods, &claims, now);
    let unnamed = confirmed.unnamed(pods, &journal, &claims, now);
    let remembered = checkpoint::holders(host, &unnamed);
    let holders = holders::join(pods, &journal, &remembered, &claims, confirmed, now);
    let mut inventory = observe::observe(host, holders).map_err(in_full)?;
    in_pods::tell(&mut inventory, read.iter());
    lifelines::remember(host, &state.status.interfaces, &mut inventory, now);
    let asked = desired.functions.iter().map(|function| (function.pci, function.num_vfs));
    inventory.firmware =
        observe::firmware_of(host, &asked.collect(), &inventory.physical_functions);
    let on_host = std::mem::take(&mut inventory.reboots);
    inventory.reboots = ledger::union(&on_host, &state.status.reboots, &boot_id);
    save_initial_mode(host, state, &mut inventory)
        .map_err(|refusal| format!("cannot {refusal}"))?;
    let offered = offered(&found, &acknowledgement, &inventory);
    let offer = found.good();
    // Without a device plugin nothing can be given, whatever the Node says.
    let in_force = offer.as_ref().filter(|_| !acknowledgement.plugin_absent);
    let counted = in_force.zip(allocatable).map(|(offer, shown)| fence::counted(offer, shown));
    let sequence = offer.as_ref().map_or(0, |offer| offer.sequence);
    Ok(Seen {
        inventory,
        offered,
        counted: counted.unwrap_or_default(),
        offer,
        sequence: sequence.max(acknowledgement.sequence.unwrap_or_default()),
        on_host,
    })
}

/// Facts only, for a moment in which nobody knows who holds what: the holders are those that were known last.
pub fn without_holders(host: &dyn Host, state: &SriovNetworkNodeState) -> Result<Seen, String> {
    let known = state.status.holders.clone();
    let mut inventory = observe::observe(host, known).map_err(in_full)?;
    // Who cannot be read tells nothing to people; who holds what is another question.
    let records = journal::list(host).unwrap_or_default();
    in_pods::tell(&mut inventory, records.iter().flatten());
    let on_host = std::mem::take(&mut inventory.reboots);
    inventory.reboots = ledger::union(&on_host, &state.status.reboots, &inventory.boot_id);
    inventory.initial_rdma_mode = inventory.initial_rdma_mode.or(state.status.initial_rdma_mode);
    let (offered, counted) = (BTreeSet::new(), BTreeSet::new());
    Ok(Seen { inventory, offered, counted, offer: None, sequence: 0, on_host })
}

fn in_full(error: ObserveError) -> String {
    format!("{error}: {}", error.source)
}

/// Where our offer is gone and a device plugin still acts on it, every device may be given away.
fn offered(
    found: &Found<Offer>,
    acknowledgement: &Acknowledgement,
    inventory: &Inventory,
) -> BTreeSet<PciAddress> {
    match found {
        Found::Good(offer) => fence::offered(offer, acknowledgement),
        Found::Missing | Found::Bad(_) if acknowledgement.none_in_force() => BTreeSet::new(),
        Found::Missing | Found::Bad(_) => {
            let functions = inventory.physical_functions.iter();
            functions.flat_map(|pf| pf.vfs.iter().map(|vf| vf.pci).chain([pf.pci])).collect()
        }
    }
}

/// Devices that the CNI has. A record that cannot be read holds its device too.
fn journalled(records: Vec<Result<Record, JournalError>>) -> Result<Vec<Holder>, String> {
    records.into_iter().map(|record| record.map(holder).or_else(unread)).collect()
}

fn holder(record: Record) -> Holder {
    Holder {
        device: record.device,
        resource: String::new(),
        namespace: record.owner.pod_namespace,
        pod: record.owner.pod_name,
        uid: record.owner.pod_uid,
    }
}

fn unread(error: JournalError) -> Result<Holder, String> {
    match &error {
        JournalError::Refused(_) => Err(error.to_string()),
        JournalError::Garbled { path, .. } | JournalError::Newer { path, .. } => {
            tracing::warn!("{error}");
            let name = path.rsplit('/').next().unwrap_or_default();
            let device = name.trim_end_matches(".json").to_owned();
            Ok(Holder { device, ..Holder::default() })
        }
    }
}

/// Saves, once, the mode that the node had before us. The mirror knows better than a new disk.
fn save_initial_mode(
    host: &dyn Host,
    state: &SriovNetworkNodeState,
    inventory: &mut Inventory,
) -> Result<(), Refusal> {
    let known = inventory.initial_rdma_mode.or(state.status.initial_rdma_mode);
    inventory.initial_rdma_mode = known.or(inventory.rdma.mode);
    ledger::save_initial(host, inventory.initial_rdma_mode)
}
