//! Whether the RDMA modules may be reloaded, so that the mode comes without a reboot; and how often.
//!
//! What is refused here goes by the reboot rung. A reload is booked in the reboot ledger under a reason of its own and is
//! no reboot: once for a goal in a boot, closed for the goal when it failed, three a day at most. The hands are `host`'s.

use crate::action::{Action, Step};
use crate::blocker::list;
use crate::ledger;
use crate::order::Leave;
use api::inventory::{Inventory, RdmaModule, RdmaModules, ReloadFacts};
use api::nodestate::{RDMA_RELOAD, RebootOutcome, RebootRecord};
use api::{LinkType, RdmaMode, Timestamp};

/// Modules that go and come back with nothing lost: the core, and drivers that stand on a card's Ethernet driver as an
/// auxiliary device and make their RDMA devices again by themselves (drivers/infiniband/hw). Not rdma_rxe and siw, whose
/// devices somebody made by hand.
const CAN_GO: [&str; 13] = [
    "bnxt_re",
    "ib_cm",
    "ib_core",
    "ib_ipoib",
    "ib_umad",
    "ib_uverbs",
    "ib_uverbs_support",
    "irdma",
    "iw_cm",
    "mlx4_ib",
    "mlx5_ib",
    "rdma_cm",
    "rdma_ucm",
];

/// What the host loses with the users of RDMA in the kernel, in the words of those who run them.
const USERS: [(&str, &str); 14] = [
    ("cifs", "SMB Direct"),
    ("ib_iser", "iSER"),
    ("ib_isert", "iSER"),
    ("ib_srp", "SRP"),
    ("ib_srpt", "SRP"),
    ("ko2iblnd", "Lustre"),
    ("ksmbd", "SMB Direct"),
    ("nv_peer_mem", "GPU memory"),
    ("nvidia_peermem", "GPU memory"),
    ("nvme_rdma", "NVMe over RDMA"),
    ("nvmet_rdma", "NVMe over RDMA"),
    ("rds_rdma", "RDS"),
    ("rpcrdma", "NFS over RDMA"),
    ("smc", "SMC-R"),
];

/// Reloads of a node within 24 hours, whatever for.
const A_DAY: usize = 3;

/// The modules to unload, in this order, or why there is no reload.
pub(crate) fn modules(
    goal: RdmaMode,
    inventory: &Inventory,
    records: &[RebootRecord],
    leave: &Leave,
    now: Timestamp,
) -> Result<Vec<String>, String> {
    if let Some(why) = tried(goal, records, &inventory.boot_id, leave, now) {
        return Err(why);
    }
    let facts = match &inventory.rdma.reload {
        Some(ReloadFacts::Known(facts)) => facts,
        Some(ReloadFacts::Unreadable(why)) => return Err(why.clone()),
        None => return Err("nobody looked at what uses RDMA".to_owned()),
    };
    match obstacles(facts, inventory).as_slice() {
        [] => Ok(facts.stack.iter().map(|module| module.name.clone()).collect()),
        all => Err(list(all)),
    }
}

fn obstacles(facts: &RdmaModules, inventory: &Inventory) -> Vec<String> {
    if inventory.rdma.driver_container {
        return vec!["ib_core comes from a driver container, which loads it itself".to_owned()];
    }
    if facts.stack.is_empty() {
        return vec!["ib_core is part of the kernel and no module".to_owned()];
    }
    // The core has a protection domain on every device that takes management packets; who sees none of them sees nobody.
    if facts.kernel_users.is_empty() && !facts.devices.is_empty() {
        return vec![format!(
            "the kernel tells nobody who uses {}, not even itself",
            list(&facts.devices)
        )];
    }
    let holders = facts.stack.iter().filter_map(holder);
    let known = |name: &str| facts.stack.iter().any(|module| module.name == name);
    let users = facts.kernel_users.iter();
    let users = users.filter(|(name, _)| !CAN_GO.contains(&name.as_str()) && !known(name));
    let users = users.map(|(name, devices)| format!("{} uses {}", in_words(name), list(devices)));
    let addresses = facts.addressed_ipoib.iter();
    let addresses = addresses.map(|name| format!("{name} (IPoIB) has an address"));
    holders.chain(users).chain(addresses).chain(lifelines(inventory)).collect()
}

fn holder(module: &RdmaModule) -> Option<String> {
    let name = in_words(&module.name);
    match (CAN_GO.contains(&module.name.as_str()), module.out_of_tree) {
        (_, true) => Some(format!("{name} is not of the kernel's own tree")),
        (false, false) => Some(format!("{name} needs ib_core")),
        (true, false) => None,
    }
}

/// On InfiniBand the interface itself goes with the RDMA modules; on Ethernet it stays.
fn lifelines(inventory: &Inventory) -> impl Iterator<Item = String> {
    let functions = inventory.physical_functions.iter();
    let infiniband = functions.filter(|pf| pf.link_type == Some(LinkType::Infiniband));
    let lives = infiniband.filter(|pf| {
        let all = pf.vfs.iter().map(|vf| vf.pci).chain([pf.pci]);
        all.into_iter().any(|pci| inventory.lifelines.contains_key(&pci))
    });
    lives.map(|pf| format!("the host lives by {} ({})", pf.pci, pf.name))
}

/// `nvme_rdma (NVMe over RDMA)`.
fn in_words(module: &str) -> String {
    match USERS.iter().find(|(name, _)| *name == module) {
        Some((_, words)) => format!("{module} ({words})"),
        None => module.to_owned(),
    }
}

/// What the ledger has against one more reload.
fn tried(
    goal: RdmaMode,
    records: &[RebootRecord],
    boot_id: &str,
    leave: &Leave,
    now: Timestamp,
) -> Option<String> {
    let reloads = || records.iter().filter(|record| record.reason == RDMA_RELOAD);
    let latest = reloads().next_back().filter(|record| record.goal == goal.to_string());
    let latest = latest.filter(|record| !ledger::is_reopened(record, leave));
    match latest.map(|record| (&record.outcome, record.boot_id_before == boot_id)) {
        Some((RebootOutcome::Refused { found }, _)) => return Some(found.clone()),
        Some((RebootOutcome::DidNotHelp { found, .. }, _)) => {
            return Some(format!("a reload was tried, and the mode was {found} after it"));
        }
        Some((RebootOutcome::Helped | RebootOutcome::Pending | RebootOutcome::Void, true)) => {
            return Some("a reload brought it in this boot, and it was lost again".to_owned());
        }
        Some((RebootOutcome::Helped | RebootOutcome::Pending | RebootOutcome::Void, false))
        | None => {}
    }
    let lately = |record: &&RebootRecord| {
        ledger::is_of_this_day(record, now) && !ledger::is_reopened(record, leave)
    };
    (reloads().filter(lately).count() >= A_DAY)
        .then(|| format!("{A_DAY} reloads in the last 24 hours are the limit"))
}

/// Closes what was begun: whoever plans does so before a reload or after one, never in its middle.
pub(crate) fn judge(records: &mut [RebootRecord], inventory: &Inventory) {
    let mode = inventory.rdma.mode.map_or("none".to_owned(), |mode| mode.to_string());
    let begun = |record: &&mut RebootRecord| {
        record.reason == RDMA_RELOAD && record.outcome == RebootOutcome::Pending
    };
    for record in records.iter_mut().filter(begun) {
        record.outcome = match record.goal == mode {
            true => RebootOutcome::Helped,
            false => {
                RebootOutcome::DidNotHelp { expected: record.goal.clone(), found: mode.clone() }
            }
        };
    }
}

/// The reload among these steps: its goal and the levers that are pulled with it.
pub fn of<'a>(steps: impl Iterator<Item = &'a Step> + Clone) -> Option<(RdmaMode, Vec<String>)> {
    let mode = steps.clone().find_map(|step| match &step.action {
        Action::ReloadRdma { mode, .. } => Some(*mode),
        _ => None,
    })?;
    Some((mode, steps.filter_map(|step| step.action.lever()).collect()))
}

/// The ledger as it must stand on the disk before the first module goes.
pub fn book(
    records: &[RebootRecord],
    (mode, levers): (RdmaMode, Vec<String>),
    boot_id: &str,
    retry: &str,
    now: Timestamp,
) -> Vec<RebootRecord> {
    let record = RebootRecord {
        reason: RDMA_RELOAD.to_owned(),
        goal: mode.to_string(),
        boot_id_before: boot_id.to_owned(),
        attempt: 1,
        levers,
        asked_at: now,
        retry: retry.to_owned(),
        outcome: RebootOutcome::Pending,
        undone: false,
    };
    let others = records.iter().filter(|other| !ledger::is_same(other, &record)).cloned();
    ledger::keep(others.chain([record.clone()]).collect())
}

/// The ledger after the reload that was booked last has failed.
pub fn fail(mut booked: Vec<RebootRecord>, why: &str) -> Vec<RebootRecord> {
    if let Some(record) = booked.last_mut() {
        record.outcome = RebootOutcome::Refused { found: why.to_owned() };
    }
    booked
}
