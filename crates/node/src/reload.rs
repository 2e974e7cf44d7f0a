//! A reload of the RDMA modules, booked before the first module goes. Whether it may be is `planner::reload`'s.
//!
//! One that fails is no failure of the node: it is closed in the ledger, and the next plan takes the reboot.

use crate::{apply, failures::Failed, ledger};
use api::RdmaMode;
use api::inventory::{Inventory, ReloadFacts};
use api::nodestate::RebootRecord;
use host::{Host, rdma_reload};
use planner::{Action, Lane, Step};

/// Looks at modules and users, where the mode is another one than `asked`.
pub fn look(host: &dyn Host, asked: Option<RdmaMode>, inventory: &mut Inventory) {
    let rdma = &mut inventory.rdma;
    if rdma.mode.is_none() || rdma.mode == asked {
        return;
    }
    rdma.reload = Some(match rdma_reload::look(host) {
        Ok(facts) => ReloadFacts::Known(facts),
        Err(refusal) => ReloadFacts::Unreadable(format!("cannot {refusal}")),
    });
}

/// The levers, the booking, the reload. `booked` is the ledger with it, pending.
pub fn carry_out(host: &dyn Host, steps: &[&Step], booked: Vec<RebootRecord>, failed: &mut Failed) {
    for step in steps.iter().filter(|step| step.lane == Lane::Node) {
        let reloads = matches!(step.action, Action::ReloadRdma { .. });
        if reloads && let Err(refusal) = ledger::write(host, &booked) {
            let error = format!(
                "{refusal}; the RDMA modules are not reloaded while the ledger cannot be written"
            );
            failed.insert(Lane::Node, error.into());
            return;
        }
        match apply::step(host, step) {
            Ok(()) => tracing::info!(because = step.because, "{}", step.action),
            Err(error) if reloads => {
                tracing::warn!(because = step.because, "{error}");
                let closed = planner::reload::fail(booked, &error.to_string());
                if let Err(refusal) = ledger::write(host, &closed) {
                    // Pending, it is closed by the mode that is found: the same rung with fewer words.
                    tracing::warn!("cannot {refusal}");
                }
                return;
            }
            Err(error) => {
                tracing::warn!(because = step.because, "{error}");
                failed.insert(Lane::Node, error);
                return;
            }
        }
    }
}
