//! The live switch of the RDMA mode. Whether it may be tried is the planner's.
//!
//! One that the kernel refuses is no failure of the node: it is noted in the ledger, and the next plan takes the next rung.

use crate::{apply, failures::Failed, ledger};
use api::nodestate::RebootRecord;
use host::Host;
use planner::{Action, Lane, Step};

/// The levers and the switch. `refused` is the ledger with what the kernel said against it.
pub fn carry_out(
    host: &dyn Host,
    steps: &[&Step],
    refused: impl Fn(&str) -> Vec<RebootRecord>,
    failed: &mut Failed,
) {
    for step in steps.iter().filter(|step| step.lane == Lane::Node) {
        let Err(error) = apply::step(host, step) else {
            tracing::info!(because = step.because, "{}", step.action);
            continue;
        };
        tracing::warn!(because = step.because, "{error}");
        let switches = matches!(step.action, Action::SwitchRdmaMode { .. });
        let noted = switches && ledger::write(host, &refused(&error.to_string())).is_ok();
        if !noted {
            failed.insert(Lane::Node, error);
        }
        return;
    }
}
