//! What the daemon keeps on the host's disk: the reboot ledger, and what the node was like when we first saw it.
//!
//! The ledger never says what *is*; it only says which reboots were asked for, so that none is asked for twice.
//! Whether a reboot is due is `planner::order`'s; asking for it is `apply`'s.

use api::nodestate::{RebootOutcome, RebootRecord};
use api::{RdmaMode, files};
use host::{Host, Refusal};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Records kept; older ones go first. Enough for years of pools, and small enough for a status.
const KEPT: usize = 32;

/// `initial.json`: restored where nobody asks for anything any more.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Initial {
    #[serde(skip_serializing_if = "Option::is_none")]
    rdma_mode: Option<RdmaMode>,
}

/// The reboots that were asked for. A file that cannot be understood counts as empty: the mirror in the API has them too.
pub fn read(host: &dyn Host) -> Result<Vec<RebootRecord>, Refusal> {
    let bytes = read_or_empty(host, files::REBOOTS)?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

pub fn write(host: &dyn Host, records: &[RebootRecord]) -> Result<(), Refusal> {
    let newest = &records[records.len().saturating_sub(KEPT)..];
    let bytes = serde_json::to_vec_pretty(newest).unwrap_or_default();
    host.replace(files::REBOOTS, &bytes, 0o644)
}

/// The union of ledger and mirror, since a host's disk may be new and a status may be lost.
///
/// Of two records of one reboot the one that knows its outcome wins, then the one with more attempts.
pub fn union(disk: &[RebootRecord], mirror: &[RebootRecord]) -> Vec<RebootRecord> {
    let mut all: Vec<RebootRecord> = disk.to_vec();
    for theirs in mirror {
        match all.iter_mut().find(|ours| same_reboot(ours, theirs)) {
            None => all.push(theirs.clone()),
            Some(ours) if knows_more(theirs, ours) => *ours = theirs.clone(),
            Some(_) => {}
        }
    }
    all.sort_by(|a, b| (a.asked_at, &a.reason, &a.goal).cmp(&(b.asked_at, &b.reason, &b.goal)));
    all
}

/// True when the two speak of the same boot's request for the same goal.
pub fn same_reboot(a: &RebootRecord, b: &RebootRecord) -> bool {
    (&a.reason, &a.goal, &a.boot_id_before) == (&b.reason, &b.goal, &b.boot_id_before)
}

fn knows_more(theirs: &RebootRecord, ours: &RebootRecord) -> bool {
    let settled = |record: &RebootRecord| record.outcome != RebootOutcome::Pending;
    (settled(theirs), theirs.attempt) > (settled(ours), ours.attempt)
}

/// The RDMA mode that the node had when we first saw it.
pub fn initial_mode(host: &dyn Host) -> Result<Option<RdmaMode>, Refusal> {
    let bytes = read_or_empty(host, files::INITIAL)?;
    Ok(serde_json::from_slice::<Initial>(&bytes).unwrap_or_default().rdma_mode)
}

pub fn save_initial_mode(host: &dyn Host, mode: RdmaMode) -> Result<(), Refusal> {
    let bytes = serde_json::to_vec(&Initial { rdma_mode: Some(mode) }).unwrap_or_default();
    host.replace(files::INITIAL, &bytes, 0o644)
}

fn read_or_empty(host: &dyn Host, path: &str) -> Result<Vec<u8>, Refusal> {
    match host.read(path) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(Vec::new()),
        other => other,
    }
}
