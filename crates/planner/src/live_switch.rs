//! A live switch of the RDMA mode that the kernel refused: noted in the ledger, so that the next plan of this boot takes the
//! next rung. It is no reboot, and another boot tries it again.

use crate::action::{Action, Step};
use crate::ledger;
use api::nodestate::{RDMA_SWITCH, RebootOutcome, RebootRecord};
use api::{RdmaMode, Timestamp};

/// The live switch among these steps: its goal.
pub fn of<'a>(mut steps: impl Iterator<Item = &'a Step>) -> Option<RdmaMode> {
    steps.find_map(|step| match &step.action {
        Action::SwitchRdmaMode { mode } => Some(*mode),
        _ => None,
    })
}

/// What the kernel said when the switch was tried in this boot.
pub(crate) fn refusal<'a>(
    mode: RdmaMode,
    records: &'a [RebootRecord],
    boot_id: &str,
) -> Option<&'a str> {
    let tried = |record: &&RebootRecord| {
        record.reason == RDMA_SWITCH
            && record.goal == mode.to_string()
            && record.boot_id_before == boot_id
    };
    records.iter().rfind(tried).and_then(|record| match &record.outcome {
        RebootOutcome::Refused { found } => Some(found.as_str()),
        RebootOutcome::Pending
        | RebootOutcome::Void
        | RebootOutcome::Helped
        | RebootOutcome::DidNotHelp { .. } => None,
    })
}

/// The ledger with the refusal in it.
pub fn refuse(
    records: &[RebootRecord],
    (mode, why): (RdmaMode, &str),
    boot_id: &str,
    now: Timestamp,
) -> Vec<RebootRecord> {
    let record = RebootRecord {
        reason: RDMA_SWITCH.to_owned(),
        goal: mode.to_string(),
        boot_id_before: boot_id.to_owned(),
        attempt: 1,
        levers: Vec::new(),
        asked_at: now,
        retry: String::new(),
        outcome: RebootOutcome::Refused { found: why.to_owned() },
        undone: false,
    };
    let others = records.iter().filter(|other| !ledger::is_same(other, &record)).cloned();
    ledger::keep(others.chain([record.clone()]).collect())
}
