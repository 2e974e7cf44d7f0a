//! Invariants that any plan must hold, checked without any of the planner's own reasoning.
//!
//! Run by tests, by the daemon before it acts, and by the CLI. A finding is a bug of ours: the plan must not be run.
//! The checks look at plan, inventory and permission only, and are stupid on purpose.

use crate::action::{Action, Disturbance, RebootReason, Step};
use crate::desired::Desired;
use crate::ledger::ATTEMPTS;
use crate::order::{DrainRequest, Permission, Plan, Turn};
use api::PciAddress;
use api::inventory::Inventory;
use api::nodestate::{RDMA_RELOAD, RebootOutcome, RebootRecord};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with a plan, one sentence for each finding; empty for a sound plan.
pub fn plan(
    desired: &Desired,
    inventory: &Inventory,
    permission: &Permission,
    plan: &Plan,
) -> Vec<String> {
    let mut findings = vec![];
    let held: BTreeSet<PciAddress> =
        inventory.holders.iter().filter_map(|holder| holder.device.parse().ok()).collect();
    for step in &plan.steps {
        for device in step.touches.intersection(&held) {
            findings.push(format!("step \"{}\" changes {device}, which a pod holds", step.action));
        }
        for device in step.touches.intersection(&permission.offered) {
            findings.push(format!("step \"{}\" changes {device}, which is offered", step.action));
        }
        for device in step.touches.intersection(&permission.counted) {
            findings.push(format!(
                "step \"{}\" changes {device}, which the Node still counts",
                step.action
            ));
        }
        findings.extend(disturbs_only_by_right(step, permission, !held.is_empty()));
    }
    if !plan.later.is_empty() && plan.blockers.is_empty() {
        findings.push(format!("{} steps wait and nothing says why", plan.later.len()));
    }
    findings.extend(reboots(inventory, permission, plan));
    findings.extend(functions(desired, inventory, plan));
    findings.extend(lifelines(desired, inventory, plan));
    findings
}

fn disturbs_only_by_right(step: &Step, permission: &Permission, held: bool) -> Option<String> {
    let allowed = match permission.turn {
        Turn::Drained(DrainRequest::Reboot) => true,
        Turn::DrainDisabled => !held,
        Turn::NotYet | Turn::Draining(_) | Turn::Ending | Turn::Drained(_) => false,
    };
    let allowed = match (&step.action, permission.turn) {
        (Action::ReloadRdma { .. }, Turn::Drained(_)) => true,
        _ => allowed,
    };
    let reloads = matches!(step.action, Action::ReloadRdma { .. });
    let disturbs_all = step.disturbs == Disturbance::Node || is_reboot(step) || reloads;
    (disturbs_all && !allowed)
        .then(|| format!("step \"{}\" disturbs the node and its turn has not come", step.action))
}

fn is_reboot(step: &Step) -> bool {
    matches!(step.action, Action::Reboot { .. } | Action::LeaveReboot { .. })
}

fn reboots(inventory: &Inventory, permission: &Permission, plan: &Plan) -> Vec<String> {
    let mut findings = vec![];
    let all: Vec<&Step> = plan.steps.iter().chain(&plan.later).collect();
    if all.iter().filter(|step| is_reboot(step)).count() > 1 {
        findings.push("more than one reboot in one plan".to_owned());
    }
    if let Some(at) = plan.steps.iter().position(is_reboot)
        && at + 1 != plan.steps.len()
    {
        findings.push("steps behind a reboot could run before it".to_owned());
    }
    for step in all {
        if let Action::ReloadRdma { mode, .. } = &step.action {
            let again = |record: &&RebootRecord| {
                record.reason == RDMA_RELOAD
                    && record.goal == mode.to_string()
                    && record.boot_id_before == inventory.boot_id
                    && (permission.reboots.retry.is_empty()
                        || record.retry == permission.reboots.retry)
            };
            if inventory.reboots.iter().rfind(again).is_some() {
                findings.push(format!("a second reload for {mode} in one boot"));
            }
        }
        let Action::Reboot { causes, attempt } = &step.action else { continue };
        if permission.reboots.by_person {
            findings.push("a reboot that is left to a person".to_owned());
        }
        if *attempt == 0 || *attempt > ATTEMPTS {
            findings.push(format!("attempt {attempt} of a reboot"));
        }
        for cause in causes {
            let card = |goal: &str| goal.split(' ').next().unwrap_or_default().to_owned();
            let newest = inventory.reboots.iter().rev().find(|record| {
                record.reason == cause.reason.as_str()
                    && (cause.reason == RebootReason::RdmaMode
                        || card(&record.goal) == card(&cause.goal))
            });
            let retry = &permission.reboots.retry;
            let closed = newest.is_some_and(|record| {
                crate::ledger::is_same_goal(&record.reason, &record.goal, &cause.goal)
                    && matches!(record.outcome, RebootOutcome::DidNotHelp { .. })
                    && (retry.is_empty() || record.retry == *retry)
            });
            if closed {
                findings.push(format!("a second reboot for {} {}", cause.reason, cause.goal));
            }
        }
    }
    findings
}

fn functions(desired: &Desired, inventory: &Inventory, plan: &Plan) -> Vec<String> {
    let mut findings = vec![];
    let ours: BTreeSet<PciAddress> = inventory
        .configured
        .iter()
        .copied()
        .chain(desired.functions.iter().map(|function| function.pci))
        .collect();
    let mut vfs: BTreeMap<PciAddress, u32> = inventory
        .physical_functions
        .iter()
        .map(|pf| (pf.pci, u32::try_from(pf.vfs.len()).unwrap_or(u32::MAX)))
        .collect();
    for step in plan.steps.iter().chain(&plan.later) {
        let action = &step.action;
        let Some((pf, vf)) = target(action) else { continue };
        if !ours.contains(&pf) || desired.untouchable.contains(&pf) {
            findings.push(format!("step \"{action}\" changes a PF that is not ours"));
        }
        let have = vfs.get(&pf).copied().unwrap_or(0);
        if let Some(vf) = vf.filter(|vf| *vf >= have) {
            findings.push(format!("step \"{action}\" names VF {vf}, and there are {have}"));
        }
        let asked = desired.functions.iter().any(|function| function.pci == pf);
        match action {
            Action::SetVfCount { .. } | Action::SetEswitchMode { .. }
                if inventory.external.contains(&pf) && !asked =>
            {
                findings.push(format!("step \"{action}\" takes VFs that somebody else made"));
            }
            Action::SetEswitchMode { .. } if have > 0 => {
                findings.push(format!("step \"{action}\" comes while there are {have} VFs"));
            }
            Action::SetVfCount { count, .. } => {
                let total = inventory.physical_functions.iter().find(|found| found.pci == pf);
                let total = total.and_then(|found| found.total_vfs).unwrap_or(0);
                if *count > total {
                    findings
                        .push(format!("step \"{action}\" is more than the card allows, {total}"));
                }
                vfs.insert(pf, *count);
            }
            _ => {}
        }
    }
    findings
}

/// Drivers that make VFs and take them away under a live link. Not the planner's table, on purpose.
const LIVE: [&str; 3] = ["ice", "mlx5_core", "virtio-pci"];

/// What the host itself lives by is cut only where somebody has allowed it.
fn lifelines(desired: &Desired, inventory: &Inventory, plan: &Plan) -> Vec<String> {
    let mut findings = vec![];
    for step in plan.steps.iter().chain(&plan.later) {
        let Some((pci, vf)) = target(&step.action) else { continue };
        let Some(pf) = inventory.physical_functions.iter().find(|pf| pf.pci == pci) else {
            continue;
        };
        let asked = desired.functions.iter().find(|function| function.pci == pci);
        let allowed =
            asked.map_or(inventory.lifelines_allowed.contains(&pci), |f| f.allow_lifeline);
        let vf_lives = pf.vfs.iter().any(|vf| inventory.lifelines.contains_key(&vf.pci));
        let lives = vf_lives || inventory.lifelines.contains_key(&pci);
        if allowed || !lives {
            continue;
        }
        let driver = pf.driver.as_deref().unwrap_or_default();
        let harmless = match (&step.action, vf) {
            (Action::SetVfCount { count, .. }, _) => {
                let live = LIVE.contains(&driver) || (driver == "bnxt_en" && pf.vfs.is_empty());
                let keeps_lag = *count == 0 || !inventory.roce_lags.contains_key(&pci);
                live && keeps_lag && !vf_lives
            }
            (Action::SetEswitchMode { .. } | Action::SetPfMtu { .. }, _) => false,
            (_, Some(_)) => {
                let used = step.touches.iter().any(|at| inventory.lifelines.contains_key(at));
                !used || step.disturbs == Disturbance::Nothing
            }
            (_, None) => true,
        };
        if !harmless {
            findings.push(format!("step \"{}\" cuts what the host lives by", step.action));
        }
    }
    findings
}

/// The PF, and the VF of it, that an action changes.
fn target(action: &Action) -> Option<(PciAddress, Option<u32>)> {
    match action {
        Action::SetModprobeOption { .. }
        | Action::RemoveModprobeOption
        | Action::SetKernelArgument { .. }
        | Action::RemoveKernelArgument { .. }
        | Action::ArmBootUnit { .. }
        | Action::SwitchRdmaMode { .. }
        | Action::ReloadRdma { .. }
        | Action::RaiseFirmware { .. }
        | Action::Reboot { .. }
        | Action::LeaveReboot { .. }
        | Action::SettleMode { .. }
        | Action::LoadVhost
        | Action::StartKubelet => None,
        Action::RememberFunction { interface } => Some((interface.pci_address, None)),
        Action::ForgetFunction { pf }
        | Action::SetVfCount { pf, .. }
        | Action::RestoreAutoprobe { pf }
        | Action::SetEswitchMode { pf, .. }
        | Action::SetPfMtu { pf, .. }
        | Action::SetPfUp { pf } => Some((*pf, None)),
        Action::SetVfMac { pf, vf, .. }
        | Action::SetVfGuid { pf, vf, .. }
        | Action::UnbindVf { pf, vf }
        | Action::BindVf { pf, vf, .. }
        | Action::SetVfMtu { pf, vf, .. } => Some((*pf, Some(*vf))),
    }
}
