//! The boot phases: RDMA mode and VFs as the last order says, before the container runtime starts and with no API server.
//!
//! The daemon saves each order on the host; `boot pre` and `boot post` carry it out by the same planner and the same
//! operations. They ask for no drain and no reboot and pull no lever: what they cannot do now the daemon does later.

use crate::daemon::put_autoprobe_back;
use crate::{apply, custody, observe};
use api::files::{OFFER, ORDER};
use api::lifeline::Lifeline;
use api::nodestate::{NodeStateSpec, SriovNetworkNodeState};
use api::{PciAddress, RdmaMode, Timestamp};
use host::seam::Errno;
use host::{Host, Refusal};
use planner::{Action, Desired, Lane, Permission, Step, Turn};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The version of saved orders that this build writes; a newer one is not carried out.
const VERSION: u32 = 1;
/// As in the daemon: more rounds mean that planner and host disagree.
const ROUNDS: usize = 64;

/// What runs when: before network and runtime, and once more after the network, for what came late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Phase {
    Pre,
    Post,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pre => "pre",
            Self::Post => "post",
        })
    }
}

/// The order of a node as it lies on its disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Saved {
    version: u32,
    generation: i64,
    spec: NodeStateSpec,
    /// The mode that the next boot is to bring, where it is another one than the host has: the node's turn had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    armed: Option<RdmaMode>,
    /// What the host lives by: before its network is up nothing shows it, and what is done to a card then may be what
    /// keeps its network from coming up.
    #[serde(default)]
    lifelines: BTreeMap<PciAddress, Vec<Lifeline>>,
    #[serde(default)]
    roce_lags: BTreeMap<PciAddress, String>,
}

/// Saves the order for the next boot, where it differs from the one that is there. A mode that the node has not yet is
/// left out until its turn has come (`arm`): a power cut must not change the mode outside of the rollout.
pub fn save(host: &dyn Host, state: &SriovNetworkNodeState) -> Result<(), Refusal> {
    let generation = state.metadata.generation;
    let seen = &state.status.interfaces;
    let lives = seen.iter().filter(|found| !found.lifelines.is_empty());
    let joined = seen.iter().filter(|found| !found.roce_lag.is_empty());
    let mut spec = state.spec.clone();
    let (has, goal) =
        (state.status.system.rdma_mode, spec.system.rdma_mode.or(state.status.initial_rdma_mode));
    // What cannot be read is written anew.
    let before = read(host).ok().flatten().and_then(|saved| saved.armed);
    let armed = before.filter(|mode| has != goal && goal == Some(*mode));
    // Kept over the boot only where somebody asks for a mode, or one of ours is still to be undone: else it is an
    // administrator's, whose next boot may bring another.
    let ours =
        spec.system.rdma_mode.is_some() || planner::ledger::has_mode_levers(&state.status.reboots);
    spec.system.rdma_mode = armed.or(has.filter(|_| ours));
    let saved = Saved {
        version: VERSION,
        generation,
        spec,
        armed,
        lifelines: lives.map(|found| (found.pci_address, found.lifelines.clone())).collect(),
        roce_lags: joined.map(|found| (found.pci_address, found.roce_lag.clone())).collect(),
    };
    write(host, &saved)
}

fn write(host: &dyn Host, saved: &Saved) -> Result<(), Refusal> {
    // Plain data with text keys always becomes JSON; an empty file would be refused by the reader.
    let text = serde_json::to_vec(saved).unwrap_or_default();
    match host.read(ORDER) {
        Ok(there) if there == text => Ok(()),
        _ => host.replace(ORDER, &text, 0o600),
    }
}

/// The lever: the next boot sets this mode, by RDMA netlink, before any other network namespace exists.
pub fn arm(host: &dyn Host, mode: RdmaMode) -> Result<(), String> {
    let Some(mut saved) = read(host)? else {
        return Err(format!("cannot have the boot unit set RDMA mode {mode}: no order is saved"));
    };
    saved.spec.system.rdma_mode = Some(mode);
    saved.armed = Some(mode);
    write(host, &saved).map_err(|refusal| format!("cannot {refusal}"))
}

fn read(host: &dyn Host) -> Result<Option<Saved>, String> {
    let bytes = match host.read(ORDER) {
        Ok(bytes) => bytes,
        Err(refusal) if refusal.errno == Errno::NOENT => return Ok(None),
        Err(refusal) => return Err(format!("cannot {refusal}")),
    };
    let garbled = |error| {
        format!("the saved order {ORDER} cannot be understood: {error}; the daemon saves it anew")
    };
    let version = custody::Header::of(&bytes).map_err(garbled)?.version;
    if version != u64::from(VERSION) {
        return Err(format!(
            "the saved order {ORDER} has version {version}, and this program knows {VERSION}"
        ));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(garbled)
}

/// What a phase has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub done: Vec<String>,
    /// What it left as it is, and why: the daemon sees to it.
    pub left: Vec<String>,
    /// What the host refused.
    pub failed: Vec<String>,
}

/// Carries the saved order out as far as a boot may. A failure of one card stops no other.
pub fn run(host: &dyn Host, now: Timestamp) -> Result<Outcome, String> {
    if host.metadata(OFFER).is_ok() {
        return Err(format!(
            "the daemon is at work in this boot ({OFFER} is there), and boot phases are for before it; nothing is changed"
        ));
    }
    let mut outcome = Outcome::default();
    let Some(saved) = read(host)? else {
        outcome.left.push(format!("no order is saved in {ORDER} yet; nothing is changed"));
        return Ok(outcome);
    };
    let desired = Desired::parse(&saved.spec);
    let mut stopped: BTreeSet<Lane> = BTreeSet::new();
    for _ in 0..ROUNDS {
        put_autoprobe_back(host).map_err(|refusal| format!("cannot {refusal}"))?;
        let before = outcome.done.len() + outcome.failed.len();
        // Nobody holds anything: no pod has been started in this boot.
        let mut inventory =
            observe::observe(host, Vec::new()).map_err(|e| format!("{e}: {}", e.source))?;
        inventory.lifelines.extend(saved.lifelines.clone());
        inventory.roce_lags.extend(saved.roce_lags.clone());
        if desired.rdma_mode.is_none() {
            // Undoing has its turn like everything else, and a boot is none.
            inventory.initial_rdma_mode = None;
        }
        let permission = Permission { turn: Turn::DrainDisabled, ..Permission::default() };
        let plan = planner::plan(&desired, &inventory, &permission, now);
        round(host, &plan.steps, &mut stopped, &mut outcome);
        if outcome.done.len() + outcome.failed.len() == before {
            outcome.left = desired.problems.iter().map(ToString::to_string).collect();
            outcome.left.extend(plan.blockers.iter().map(ToString::to_string));
            break;
        }
    }
    Ok(outcome)
}

/// Runs what a boot may run, up to the first step of each lane after which the world must be looked at again.
fn round(host: &dyn Host, steps: &[Step], stopped: &mut BTreeSet<Lane>, outcome: &mut Outcome) {
    let mut stale = BTreeSet::new();
    for step in steps.iter().filter(|step| is_for_boot(&step.action)) {
        if stopped.contains(&step.lane) || stale.contains(&step.lane) || stale.contains(&Lane::Node)
        {
            continue;
        }
        match apply::step(host, step) {
            Ok(()) => outcome.done.push(step.action.to_string()),
            Err(error) => {
                stopped.insert(step.lane);
                outcome.failed.push(error.to_string());
            }
        }
        if step.action.needs_fresh_eyes() {
            stale.insert(step.lane);
        }
    }
}

/// Levers and reboots are the daemon's, which books them.
fn is_for_boot(action: &Action) -> bool {
    match action {
        Action::SetModprobeOption { .. }
        | Action::RemoveModprobeOption
        | Action::SetKernelArgument { .. }
        | Action::RemoveKernelArgument { .. }
        | Action::ArmBootUnit { .. }
        | Action::RaiseFirmware { .. }
        | Action::ReloadRdma { .. }
        | Action::Reboot { .. }
        | Action::LeaveReboot { .. }
        | Action::SettleMode { .. }
        | Action::StartKubelet => false,
        Action::SwitchRdmaMode { .. }
        | Action::RememberFunction { .. }
        | Action::ForgetFunction { .. }
        | Action::SetVfCount { .. }
        | Action::RestoreAutoprobe { .. }
        | Action::SetEswitchMode { .. }
        | Action::SetPfMtu { .. }
        | Action::SetPfUp { .. }
        | Action::SetVfMac { .. }
        | Action::SetVfGuid { .. }
        | Action::UnbindVf { .. }
        | Action::BindVf { .. }
        | Action::SetVfMtu { .. }
        | Action::LoadVhost => true,
    }
}

#[cfg(test)]
#[path = "boot_tests.rs"]
mod tests;
