//! What the daemon keeps on the host's disk: the reboot ledger, and what the node was like when we first saw it.
//!
//! The ledger never says what *is*; it only says which reboots were asked for, so that none is asked for twice.
//! Whether a reboot is due is `planner::order`'s; asking for it is `apply`'s.

use api::nodestate::{RebootOutcome, RebootRecord};
use api::{RdmaMode, files};
use host::{Host, Refusal, rdma_mode};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// `initial.json`: restored where nobody asks for anything any more.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Initial {
    #[serde(skip_serializing_if = "Option::is_none")]
    rdma_mode: Option<RdmaMode>,
    /// Upstream's `modprobe.d` file was there.
    managed: bool,
}

/// The reboots that were asked for. A file that cannot be understood counts as empty: the mirror in the API has them too.
pub fn read(host: &dyn Host) -> Result<Vec<RebootRecord>, Refusal> {
    let bytes = read_or_empty(host, files::REBOOTS)?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

pub fn write(host: &dyn Host, records: &[RebootRecord]) -> Result<(), Refusal> {
    let bytes = serde_json::to_vec_pretty(records).unwrap_or_default();
    host.replace(files::REBOOTS, &bytes, 0o644)
}

/// Marks what the ledger has of levers for other modes as taken back.
pub fn settle(host: &dyn Host, keeps: Option<RdmaMode>) -> Result<(), Refusal> {
    let records = read(host)?;
    match planner::ledger::settle(&records, keeps) {
        settled if settled == records => Ok(()),
        settled => write(host, &settled),
    }
}

/// The ledger as the planner is to see it: the host's records and the mirror's.
///
/// What stands only in the mirror, pending in this very boot, was booked there and never on the host, so the reboot
/// was not asked for: it is left out, and the planner asks for it again. So is what the host knows to be void.
pub fn union(
    on_host: &[RebootRecord],
    mirror: &[RebootRecord],
    boot_id: &str,
) -> Vec<RebootRecord> {
    let asked_for = |record: &&RebootRecord| {
        let pending_now =
            record.outcome == RebootOutcome::Pending && record.boot_id_before == boot_id;
        let void = on_host.iter().any(|ours| {
            ours.outcome == RebootOutcome::Void && planner::ledger::is_same(ours, record)
        });
        let pending = record.outcome == RebootOutcome::Pending;
        !(pending && void) && (!pending_now || on_host.iter().any(|ours| same(ours, record)))
    };
    let mirror: Vec<RebootRecord> = mirror.iter().filter(asked_for).cloned().collect();
    planner::ledger::union(on_host, &mirror)
}

/// True when every reboot that is booked as pending stands in the mirror too: only then may it be asked for.
pub fn is_mirrored(booked: &[RebootRecord], mirror: &[RebootRecord]) -> bool {
    let pending = booked.iter().filter(|record| record.outcome == RebootOutcome::Pending);
    let is_there = |other: &RebootRecord, record| {
        other.outcome == RebootOutcome::Pending && same(other, record)
    };
    pending.into_iter().all(|record| mirror.iter().any(|other| is_there(other, record)))
}

/// One attempt of one reboot.
fn same(a: &RebootRecord, b: &RebootRecord) -> bool {
    (&a.reason, &a.goal, &a.boot_id_before, a.attempt)
        == (&b.reason, &b.goal, &b.boot_id_before, b.attempt)
}

/// The RDMA mode that the node had when we first saw it.
pub fn initial_mode(host: &dyn Host) -> Result<Option<RdmaMode>, Refusal> {
    Ok(initial(host)?.unwrap_or_default().rdma_mode)
}

/// True when upstream's `modprobe.d` file was there before us; while nothing is saved, what is there now was.
pub fn managed_before(host: &dyn Host) -> Result<bool, Refusal> {
    match initial(host)? {
        Some(initial) => Ok(initial.managed),
        None => Ok(rdma_mode::has_header(&read_or_empty(host, files::MODPROBE)?)),
    }
}

/// Saves what the node was like before us. Whose `modprobe.d` file there is, is saved with the first look, and the mode
/// with the first look at a loaded subsystem.
pub fn save_initial(host: &dyn Host, mode: Option<RdmaMode>) -> Result<(), Refusal> {
    let wanted = Initial { rdma_mode: mode, managed: managed_before(host)? };
    if initial(host)?.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&wanted).unwrap_or_default();
    host.replace(files::INITIAL, &bytes, 0o644)
}

fn initial(host: &dyn Host) -> Result<Option<Initial>, Refusal> {
    Ok(serde_json::from_slice(&read_or_empty(host, files::INITIAL)?).ok())
}

fn read_or_empty(host: &dyn Host, path: &str) -> Result<Vec<u8>, Refusal> {
    match host.read(path) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(Vec::new()),
        other => other,
    }
}
