//! The lifeline guard: which changes of a PF would cut what the host itself has over it, and are refused.
//!
//! What a change does to the PF's own interface depends on its driver; `drivers` is the table. The guard judges the steps
//! that `functions` has made for a PF, and refuses all of them for the first that would cut: half a change helps nobody.
//! No action of ours unbinds a PF's driver or resets its firmware, so there is no row for those.

pub mod cluster;
mod drivers;
pub mod memory;

use crate::action::{Action, Disturbance, Step};
use crate::blocker::{self, Blocker};
use crate::desired::{Desired, DesiredFunction};
use api::PciAddress;
use api::inventory::{Inventory, PhysicalFunction};
use api::lifeline::{Carries, Lifeline};
use drivers::{Change, Link, effect};
use std::collections::BTreeMap;
use std::fmt;

/// An action that is not done, since it would cut what the host lives by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    pub pf: PciAddress,
    /// Of the PF's interface.
    pub name: String,
    pub action: String,
    /// How it cuts.
    pub effect: String,
    /// What it cuts.
    pub carries: String,
    /// Who could allow it; empty for a PF that no policy asks for any more.
    pub policies: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pf, name, action, effect, carries, policies } = self;
        write!(f, "will not {action} ({name}): {effect}, and this host has {carries}; ")?;
        match policies.as_str() {
            "" => write!(
                f,
                "no policy asks for {pf} any more: apply one with allowLifeline: true and delete it again, or give the host another way"
            ),
            policies => write!(
                f,
                "write allowLifeline: true into {policies} if that may be, or give the host another way"
            ),
        }
    }
}

/// The steps of one PF, or why none of them is done. `wanted` is `None` for a PF that no policy asks for any more.
pub(crate) fn guard(
    pf: &PhysicalFunction,
    steps: Vec<Step>,
    inventory: &Inventory,
    wanted: Option<&DesiredFunction>,
) -> Result<Vec<Step>, Blocker> {
    let lifelines = of_card(pf, inventory);
    if lifelines.is_empty() || is_allowed(&pf.pci, inventory, wanted) {
        return Ok(steps);
    }
    let refuse = |action: String, effect: String| {
        let (carries, policies) = (carried(&lifelines), wanted.map(policies).unwrap_or_default());
        let (pf, name) = (pf.pci, pf.name.clone());
        let refused = Refused { pf, name, action, effect, carries, policies };
        Err(Blocker::Lifeline(Box::new(refused)))
    };
    if wanted.is_some_and(|wanted| wanted.whole().is_some()) {
        let link = link(pf, inventory);
        let effect = effect(Change::Whole, &link).unwrap_or_default();
        return refuse(format!("offer {} to pods", pf.pci), effect);
    }
    let mut have = count(pf);
    for step in &steps {
        if let Some(effect) = cut_by(step, pf, inventory, have) {
            return refuse(step.action.to_string(), effect);
        }
        if let Action::SetVfCount { count, .. } = step.action {
            have = count;
        }
    }
    Ok(steps)
}

/// Why the first of the steps is done that cuts what the host has over its card. A policy allowed it, or the guard had
/// refused it: the node is gone for a moment, or for good, so that it is done in a turn.
pub(crate) fn cuts<'a>(steps: &'a [Step], inventory: &Inventory) -> Option<&'a str> {
    let functions = inventory.physical_functions.iter();
    let mut carrying = functions.filter(|pf| !of_card(pf, inventory).is_empty());
    carrying.find_map(|pf| {
        let mut have = count(pf);
        let cut = steps.iter().find(|step| {
            let is_of_another = match &step.action {
                Action::SetVfCount { pf: other, .. }
                | Action::SetEswitchMode { pf: other, .. }
                | Action::SetPfMtu { pf: other, .. } => *other != pf.pci,
                _ => false,
            };
            let cut = !is_of_another && cut_by(step, pf, inventory, have).is_some();
            if let (Action::SetVfCount { count, .. }, false) = (&step.action, is_of_another) {
                have = *count;
            }
            cut
        });
        cut.map(|step| step.because.as_str())
    })
}

/// Why a device must not be given to a pod although a policy asks for it: the host itself lives by it.
pub fn not_to_be_offered(
    wanted: &DesiredFunction,
    inventory: &Inventory,
    device: &PciAddress,
) -> Option<String> {
    if wanted.allow_lifeline {
        return None;
    }
    let pf = inventory.physical_functions.iter().find(|pf| pf.pci == *device);
    let lifelines = match pf {
        Some(pf) => of_card(pf, inventory),
        None => inventory.lifelines.get(device).cloned().unwrap_or_default(),
    };
    (!lifelines.is_empty()).then(|| {
        format!(
            "the host itself has {}; write allowLifeline: true into {} if a pod may take {device} away",
            carried(&lifelines),
            policies(wanted)
        )
    })
}

/// What people are told of a step on a lifeline that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// It cut, and a policy allowed it.
    pub warning: bool,
    /// The event's reason.
    pub reason: &'static str,
    pub message: String,
}

/// The link stays up.
const KEPT: &str = "LifelineKept";
/// `allowLifeline`.
const CUT: &str = "LifelineCut";

/// `inventory` is what was seen before the step.
pub fn notice(step: &Step, inventory: &Inventory, desired: &Desired) -> Option<Notice> {
    let (Action::SetVfCount { pf, .. }
    | Action::SetEswitchMode { pf, .. }
    | Action::SetPfMtu { pf, .. }) = &step.action
    else {
        return None;
    };
    let found = inventory.physical_functions.iter().find(|found| found.pci == *pf)?;
    let lifelines = of_card(found, inventory);
    if lifelines.is_empty() {
        return None;
    }
    let (action, has) = (&step.action, carried(&lifelines));
    let driver = found.driver.as_deref().unwrap_or_default();
    Some(match cut_by(step, found, inventory, count(found)) {
        None => Notice {
            warning: false,
            reason: KEPT,
            message: format!("{action}: this host has {has}, and {driver} keeps the link up"),
        },
        Some(effect) => {
            let wanted = desired.functions.iter().find(|wanted| wanted.pci == *pf);
            let by = match wanted {
                Some(wanted) => format!("{} allows it", policies(wanted)),
                None => "the policy that it had allowed it".to_owned(),
            };
            let message = format!("{action}: {effect}, and this host has {has}; {by}");
            Notice { warning: true, reason: CUT, message }
        }
    })
}

/// What the step does to the host's connections over the PF and its VFs; `have` VFs are there when it is done.
fn cut_by(step: &Step, pf: &PhysicalFunction, inventory: &Inventory, have: u32) -> Option<String> {
    let link = link(pf, inventory);
    let change = match &step.action {
        Action::SetVfCount { count, .. } => Change::VfCount { have, wanted: *count },
        Action::SetEswitchMode { .. } => Change::Eswitch,
        Action::SetPfMtu { .. } => Change::Mtu,
        // Of a VF only what disturbs its holder.
        _ if step.disturbs == Disturbance::VfHolder => {
            let touched = pf.vfs.iter().find(|vf| step.touches.contains(&vf.pci))?;
            inventory.lifelines.get(&touched.pci)?;
            Change::Vf
        }
        _ => return None,
    };
    effect(change, &link)
}

fn link<'a>(pf: &'a PhysicalFunction, inventory: &'a Inventory) -> Link<'a> {
    let used = pf.vfs.iter().find(|vf| inventory.lifelines.contains_key(&vf.pci));
    Link {
        driver: pf.driver.as_deref().unwrap_or_default(),
        roce_lag: inventory.roce_lags.get(&pf.pci).map(String::as_str),
        used_vf: used
            .map(|vf| format!("VF {} ({})", vf.index, vf.name.as_deref().unwrap_or("no name"))),
    }
}

fn count(pf: &PhysicalFunction) -> u32 {
    u32::try_from(pf.vfs.len()).unwrap_or(u32::MAX)
}

fn is_allowed(pf: &PciAddress, inventory: &Inventory, wanted: Option<&DesiredFunction>) -> bool {
    match wanted {
        Some(wanted) => wanted.allow_lifeline,
        // What a policy allowed to be done, its end may undo.
        None => inventory.lifelines_allowed.contains(pf),
    }
}

/// Everything that the host has over the PF and its VFs: they share its port.
pub fn of_card(pf: &PhysicalFunction, inventory: &Inventory) -> Vec<Lifeline> {
    let functions = std::iter::once(pf.pci).chain(pf.vfs.iter().map(|vf| vf.pci));
    let all = functions.filter_map(|pci| inventory.lifelines.get(&pci)).flatten();
    all.cloned().collect()
}

/// `policy train`, `policies kernel and dpdk`.
fn policies(wanted: &DesiredFunction) -> String {
    let mut names: Vec<&str> = wanted.groups.iter().map(|group| group.policy.as_str()).collect();
    names.dedup();
    match names.as_slice() {
        [one] => format!("policy {one}"),
        several => format!("policies {}", several.join(" and ")),
    }
}

/// `its default route and nfs4 from 10.0.0.5 over enp59s0, bond0`.
pub(crate) fn carried(lifelines: &[Lifeline]) -> String {
    let mut by_path: BTreeMap<&[String], Vec<String>> = BTreeMap::new();
    for lifeline in lifelines {
        by_path.entry(&lifeline.over).or_default().push(in_words(lifeline));
    }
    let paths = by_path
        .into_iter()
        .map(|(over, what)| format!("{} over {}", blocker::list(&what), over.join(", ")));
    blocker::list(&paths.collect::<Vec<_>>())
}

fn in_words(lifeline: &Lifeline) -> String {
    let gone = lifeline.gone_since.map(|since| format!("gone since {since}"));
    let detail = Some(lifeline.detail.clone()).filter(|detail| !detail.is_empty());
    let details: Vec<String> = detail.into_iter().chain(gone).collect();
    let what = match lifeline.carries {
        Carries::DefaultRoute => "its default route",
        Carries::ApiServer => "its way to the API server",
        Carries::NetworkMount => "a mount",
        Carries::IscsiSession => "an iSCSI session",
        Carries::NvmeSession => "an NVMe session",
    };
    match details.is_empty() {
        true => what.to_owned(),
        false => format!("{what} ({})", details.join(", ")),
    }
}
