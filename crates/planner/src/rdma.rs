//! The RDMA mode of a node: the mode that RDMA netlink reports against the wanted one, and the rungs between them.
//!
//! Files and kernel arguments are levers, never proof. The rungs: nothing to do; a live switch while no other network
//! namespace exists; where the gate allows it, a reload of the modules after the drain; one reboot. With the last two every
//! lever of this host is pulled. What may run now is decided in `order`.

use crate::action::{Action, Disturbance, Lane, RebootCause, RebootReason, Step};
use crate::blocker::Blocker;
use crate::ledger::{self, Question, Verdict};
use crate::live_switch;
use crate::order::Leave;
use crate::reboots::Wish;
use crate::reload;
use api::inventory::Inventory;
use api::nodestate::{RebootOutcome, RebootRecord};
use api::{PciAddress, RdmaMode, Timestamp};
use std::collections::BTreeSet;

/// What the mode needs.
#[derive(Debug, Default)]
pub(crate) struct ModePlan {
    pub steps: Vec<Step>,
    /// The steps disturb the whole node's RDMA, so they wait for the node's turn.
    pub after_drain: bool,
    /// The reboot rung.
    pub reboot: Option<Wish>,
    pub blockers: Vec<Blocker>,
    /// The mode that the node is on its way to: VFs wait for it, since a boot forgets them.
    pub coming: Option<RdmaMode>,
}

/// Where the wanted mode comes from.
#[derive(Clone, Copy, PartialEq)]
enum Goal {
    /// A pool asks for it: the levers are set.
    Asked(RdmaMode),
    /// Nobody asks any more: the levers are taken away, and the mode that the node had comes back.
    Restored(RdmaMode),
}

impl Goal {
    fn mode(self) -> RdmaMode {
        match self {
            Self::Asked(mode) | Self::Restored(mode) => mode,
        }
    }

    fn because(self, found: RdmaMode) -> String {
        match self {
            Self::Asked(mode) => {
                format!("the pool asks for RDMA mode {mode} and the node has {found}")
            }
            Self::Restored(mode) => {
                format!(
                    "no pool asks for an RDMA mode, and the node had {mode} before it was given {found}"
                )
            }
        }
    }
}

/// Plans the way from the effective mode to the wanted one. `records` is the judged ledger.
pub(crate) fn plan(
    wanted: Option<RdmaMode>,
    inventory: &Inventory,
    records: &[RebootRecord],
    (leave, may_reload): (&Leave, Result<(), &str>),
    now: Timestamp,
) -> ModePlan {
    let Some(goal) = goal(wanted, inventory, records) else { return ModePlan::default() };
    let found = inventory.rdma.mode;
    let half_loaded = inventory.rdma.half_loaded;
    if found == Some(goal.mode()) && !half_loaded {
        let mut steps = tidy(goal, inventory);
        steps.extend(take_back(goal, inventory, records));
        return ModePlan { steps, ..ModePlan::default() };
    }
    // Before anything is written: the file that we write is what makes an argument upstream's.
    if let Some((found, file)) = contradicting_argument(goal, inventory, records) {
        let blocker = Blocker::KernelArgumentContradicts { wanted: goal.mode(), found, file };
        return ModePlan { blockers: vec![blocker], ..ModePlan::default() };
    }
    if half_loaded {
        let because = format!(
            "the RDMA modules were unloaded for mode {} and cannot be loaded again",
            goal.mode()
        );
        return reboot(goal, because, inventory, (records, leave), now);
    }
    let Some(found) = found else { return not_loaded(goal) };
    let not_live = match why_not_live(goal, inventory, records) {
        Some(why) => why,
        None => return live_switch(goal, found, inventory),
    };
    // A reboot that was asked for already is waited for.
    let asked = ledger::latest(records, RebootReason::RdmaMode, "")
        .is_some_and(|record| record.outcome == RebootOutcome::Pending);
    let modules = may_reload
        .map_err(str::to_owned)
        .and_then(|()| reload::modules(goal.mode(), inventory, records, leave, now));
    let because = goal.because(found);
    let not_reloaded = match modules {
        Ok(modules) if !asked => {
            let because = format!("{because}; {not_live}, and the RDMA modules can be reloaded");
            return reload(goal, because, inventory, modules);
        }
        Ok(_) => "a reboot was asked for already".to_owned(),
        Err(why) => why,
    };
    let rungs =
        format!("{because}; {not_live}, and the RDMA modules are not reloaded: {not_reloaded}");
    let mut plan = reboot(goal, rungs, inventory, (records, leave), now);
    if may_reload.is_ok() && !asked {
        plan.blockers.push(Blocker::ReloadRefused { mode: goal.mode(), why: not_reloaded });
    }
    plan
}

/// The mode to reach, or none when nobody asks and what is there is not ours to undo.
fn goal(wanted: Option<RdmaMode>, inventory: &Inventory, records: &[RebootRecord]) -> Option<Goal> {
    if let Some(mode) = wanted {
        return Some(Goal::Asked(mode));
    }
    let initial = inventory.initial_rdma_mode?;
    let ours = inventory.rdma.half_loaded || changed_by_us(inventory, records);
    ours.then_some(Goal::Restored(initial))
}

/// Why the effective mode is no mode to give devices in: a reboot was to bring another one, or the node had the wanted
/// one and a later boot lost it. A node that has never had the wanted mode only waits for its turn, and gives devices as
/// before.
pub(crate) fn missed(
    wanted: Option<RdmaMode>,
    inventory: &Inventory,
    records: &[RebootRecord],
    blockers: &[Blocker],
) -> Option<String> {
    let rebooted = blockers.iter().find_map(|blocker| match blocker {
        Blocker::RebootDidNotHelp { reason: RebootReason::RdmaMode, expected, found, .. } => Some(
            format!("the node was rebooted for RDMA mode {expected} and came back with {found}"),
        ),
        _ => None,
    });
    rebooted.or_else(|| {
        let (wanted, found) = (wanted?, inventory.rdma.mode?);
        let had_it = match newest_lever(records) {
            Some(record) => {
                record.outcome == RebootOutcome::Helped && record.goal == wanted.to_string()
            }
            None => inventory.initial_rdma_mode == Some(wanted),
        };
        let lost = had_it && found != wanted;
        lost.then(|| format!("the node had RDMA mode {wanted} and came back with {found}"))
    })
}

/// True when our file is in place, or the last reboot or reload that we booked made the mode that is effective now, or
/// brought nothing: then it is an undo that died half-way, and whose file is gone already. What was undone, and upstream's
/// file as it was before us, is nobody's of ours: a mode that comes afterwards is an administrator's.
fn changed_by_us(inventory: &Inventory, records: &[RebootRecord]) -> bool {
    let booked = newest_lever(records).is_some_and(|record| {
        let reached = inventory.rdma.mode.is_some_and(|mode| mode.to_string() == record.goal);
        reached || record.outcome != RebootOutcome::Helped
    });
    let rdma = &inventory.rdma;
    let as_it_was = rdma.managed_before && rdma.modprobe_option == inventory.initial_rdma_mode;
    (rdma.modprobe_option.is_some() && !as_it_was) || booked
}

/// The last record of levers that may still stand on the host.
fn newest_lever(records: &[RebootRecord]) -> Option<&RebootRecord> {
    records.iter().rfind(|record| ledger::is_about_mode(record) && !record.undone)
}

/// The node has the mode that it is to have. What was pulled for another one, whose reboot never came or brought nothing,
/// would bring that one with a later boot: it is taken back, and the ledger is settled last. Disturbs nobody.
fn take_back(goal: Goal, inventory: &Inventory, records: &[RebootRecord]) -> Vec<Step> {
    let mode = goal.mode().to_string();
    let newest = newest_lever(records);
    let stale = newest.is_some_and(|record| record.goal != mode);
    let keeps = match goal {
        Goal::Asked(mode) if stale => Some(mode),
        Goal::Restored(_) if newest.is_some() => None,
        Goal::Asked(_) | Goal::Restored(_) => return vec![],
    };
    let rdma = &inventory.rdma;
    let pulled = records.iter().any(|record| pulled_argument(record) && record.goal != mode);
    let argument = rdma.kernel_argument_tool.clone().filter(|_| stale && pulled).map(|tool| {
        // The next boot's command line becomes again what this boot's is.
        match rdma.kernel_argument == Some(goal.mode()) {
            true => Action::SetKernelArgument { tool, mode: goal.mode() },
            false => Action::RemoveKernelArgument { tool },
        }
    });
    let because = match goal {
        Goal::Asked(mode) => format!("the node has RDMA mode {mode}, which the pool asks for"),
        Goal::Restored(mode) => {
            format!("no pool asks for an RDMA mode, and the node has {mode} as before us")
        }
    };
    let step = |action| node_step(action, Disturbance::Nothing, BTreeSet::new(), because.clone());
    argument.into_iter().chain([Action::SettleMode { keeps }]).map(step).collect()
}

/// True when this record says that an argument on the kernel command line is ours.
fn pulled_argument(record: &RebootRecord) -> bool {
    ledger::is_about_mode(record)
        && !record.undone
        && record.levers.iter().any(|lever| lever.starts_with("kernel argument"))
}

/// Without a loaded subsystem nothing is pulled: it may be on its way (the node boots, a driver container is updated), and
/// would come in the new mode before the node's turn.
fn not_loaded(goal: Goal) -> ModePlan {
    let blockers = match goal {
        Goal::Asked(mode) => vec![Blocker::RdmaNotLoaded { mode }],
        Goal::Restored(_) => vec![],
    };
    ModePlan { blockers, ..ModePlan::default() }
}

/// Puts right what would undo the effective mode at the next boot. Disturbs nobody.
fn tidy(goal: Goal, inventory: &Inventory) -> Vec<Step> {
    // A node that has the mode by its own means gets no file of ours, only a contradicting one is put right.
    if matches!(goal, Goal::Asked(_)) && inventory.rdma.modprobe_option.is_none() {
        return vec![];
    }
    let because = match goal {
        Goal::Asked(mode) => format!("the pool asks for RDMA mode {mode}"),
        Goal::Restored(_) => "no pool asks for an RDMA mode".to_owned(),
    };
    let Some(action) = modprobe_lever(goal, inventory) else { return vec![] };
    vec![node_step(action, Disturbance::Nothing, BTreeSet::new(), because)]
}

/// An argument on the command line of this boot, or in a file that the next one's is made of, that names another mode
/// and is not ours to take away.
///
/// Ours is what upstream or we set: upstream's `modprobe.d` file was there before us, or the ledger names the lever.
fn contradicting_argument(
    goal: Goal,
    inventory: &Inventory,
    records: &[RebootRecord],
) -> Option<(RdmaMode, Option<String>)> {
    let rdma = &inventory.rdma;
    if let Some((found, file)) = &rdma.kernel_argument_elsewhere
        && *found != goal.mode()
    {
        return Some((*found, Some(file.clone())));
    }
    let ours = rdma.managed_before || records.iter().any(pulled_argument);
    let removable = ours && rdma.kernel_argument_tool.is_some();
    let found = rdma.kernel_argument.filter(|found| *found != goal.mode() && !removable);
    found.map(|found| (found, None))
}

/// The kernel switches only while no other network namespace exists, and it sees more of them than we do; an argument of
/// the old mode would undo it at the next boot, so it takes the reboot rung. Where the boot unit is installed each boot
/// comes by here. No number in the sentence: it would be written anew with each pod that comes or goes.
fn why_not_live(goal: Goal, inventory: &Inventory, records: &[RebootRecord]) -> Option<String> {
    let rdma = &inventory.rdma;
    let lasts = match goal {
        Goal::Asked(mode) => {
            rdma.modprobe_writable && rdma.kernel_argument.is_none_or(|argument| argument == mode)
        }
        Goal::Restored(mode) => rdma.kernel_argument.is_none_or(|argument| argument == mode),
    };
    let because = |why: &str| Some(format!("it is not switched live because {why}"));
    if rdma.other_namespaces > 0 {
        return because("other network namespaces exist");
    }
    if !lasts && !rdma.boot_unit {
        return because("the next boot would undo it");
    }
    let refused = live_switch::refusal(goal.mode(), records, &inventory.boot_id)?;
    because(&format!("the kernel refused it in this boot ({refused})"))
}

fn live_switch(goal: Goal, found: RdmaMode, inventory: &Inventory) -> ModePlan {
    let devices = every_device(inventory);
    let step = |action| {
        let because = format!("{}, and no other network namespace exists", goal.because(found));
        node_step(action, Disturbance::PfHolders, devices.clone(), because)
    };
    let lever = match goal {
        Goal::Asked(_) => modprobe_lever(goal, inventory),
        // Our file tells that the mode is ours to undo, so it goes after the mode (`tidy`).
        Goal::Restored(_) => None,
    };
    let switch = Action::SwitchRdmaMode { mode: goal.mode() };
    let steps = lever.into_iter().chain([switch]).map(step).collect();
    ModePlan { steps, coming: Some(goal.mode()), ..ModePlan::default() }
}

/// The rung between the live switch and the reboot, with the same levers, so that the next boot has the mode too.
fn reload(goal: Goal, because: String, inventory: &Inventory, modules: Vec<String>) -> ModePlan {
    let (mut actions, levers) = levers(goal, inventory);
    if let (Goal::Asked(mode), true) = (goal, levers.is_empty()) {
        return ModePlan { blockers: vec![no_lever(mode, inventory)], ..ModePlan::default() };
    }
    actions.push(Action::ReloadRdma { mode: goal.mode(), modules });
    let devices = every_device(inventory);
    let step = |action| node_step(action, Disturbance::PfHolders, devices.clone(), because.clone());
    let steps = actions.into_iter().map(step).collect();
    ModePlan { steps, after_drain: true, coming: Some(goal.mode()), ..ModePlan::default() }
}

fn no_lever(mode: RdmaMode, inventory: &Inventory) -> Blocker {
    Blocker::NoLever { mode, operating_system: inventory.rdma.operating_system.clone() }
}

fn reboot(
    goal: Goal,
    because: String,
    inventory: &Inventory,
    (records, leave): (&[RebootRecord], &Leave),
    now: Timestamp,
) -> ModePlan {
    let refuse = |blocker| ModePlan { blockers: vec![blocker], ..ModePlan::default() };
    let mode = goal.mode();
    let (actions, levers) = levers(goal, inventory);
    if let (Goal::Asked(mode), true) = (goal, levers.is_empty()) {
        return refuse(no_lever(mode, inventory));
    }
    let text = mode.to_string();
    let verdict = ledger::verdict(
        records,
        &Question {
            reason: RebootReason::RdmaMode,
            goal: &text,
            boot_id: &inventory.boot_id,
            levers_in_place: !inventory.rdma.half_loaded && levers_in_place(goal, inventory),
            leave,
            now,
        },
    );
    let attempt = match verdict {
        Verdict::Ask { attempt } => attempt,
        Verdict::No(blocker) => {
            let coming = blocker.waits_for_a_boot().then_some(mode);
            return ModePlan { blockers: vec![blocker], coming, ..ModePlan::default() };
        }
    };
    let cause = RebootCause { reason: RebootReason::RdmaMode, goal: text, levers };
    let wish = Wish { levers: actions, cause, attempt, because };
    ModePlan { reboot: Some(wish), coming: Some(mode), ..ModePlan::default() }
}

/// Every lever of this host: the actions still to take, and the names of all that serve the goal.
fn levers(goal: Goal, inventory: &Inventory) -> (Vec<Action>, Vec<String>) {
    let rdma = &inventory.rdma;
    let mut actions: Vec<Action> = modprobe_lever(goal, inventory).into_iter().collect();
    // What the next boot's command line will say cannot be seen in this boot, so the tool is asked each time.
    if let Some(tool) = rdma.kernel_argument_tool.clone() {
        match goal {
            Goal::Asked(mode) => actions.push(Action::SetKernelArgument { tool, mode }),
            Goal::Restored(_) => actions.push(Action::RemoveKernelArgument { tool }),
        }
    }
    if rdma.boot_unit {
        actions.push(Action::ArmBootUnit { mode: goal.mode() });
    }
    let mut names: Vec<String> = actions.iter().filter_map(Action::lever).collect();
    let (mode, in_container) = (goal.mode(), rdma.driver_container);
    let modprobe = Action::SetModprobeOption { mode, in_container }.lever();
    if let Some(name) = modprobe.filter(|_| rdma.modprobe_option == Some(mode))
        && !names.contains(&name)
    {
        names.insert(0, name);
    }
    (actions, names)
}

/// What our file is to say. A host that had upstream's file when we first saw it keeps one, or its mode would be lost.
fn wanted_option(goal: Goal, inventory: &Inventory) -> Option<RdmaMode> {
    match goal {
        Goal::Asked(mode) => Some(mode),
        Goal::Restored(mode) => inventory.rdma.managed_before.then_some(mode),
    }
}

fn modprobe_lever(goal: Goal, inventory: &Inventory) -> Option<Action> {
    let rdma = &inventory.rdma;
    let wanted = wanted_option(goal, inventory);
    if rdma.modprobe_option == wanted || !rdma.modprobe_writable {
        return None;
    }
    Some(match wanted {
        Some(mode) => Action::SetModprobeOption { mode, in_container: rdma.driver_container },
        None => Action::RemoveModprobeOption,
    })
}

/// True when a boot with what stands on the host now could bring nothing new.
fn levers_in_place(goal: Goal, inventory: &Inventory) -> bool {
    let rdma = &inventory.rdma;
    let tool = rdma.kernel_argument_tool.is_some();
    match goal {
        Goal::Asked(mode) => {
            (!rdma.modprobe_writable || rdma.modprobe_option == Some(mode))
                && (!tool || rdma.kernel_argument == Some(mode))
        }
        Goal::Restored(mode) => {
            (!rdma.modprobe_writable || rdma.modprobe_option == wanted_option(goal, inventory))
                && (!tool || rdma.kernel_argument.is_none_or(|argument| argument == mode))
        }
    }
}

fn every_device(inventory: &Inventory) -> BTreeSet<PciAddress> {
    let functions = inventory.physical_functions.iter();
    functions.flat_map(|pf| pf.vfs.iter().map(|vf| vf.pci).chain([pf.pci])).collect()
}

fn node_step(
    action: Action,
    disturbs: Disturbance,
    touches: BTreeSet<PciAddress>,
    because: String,
) -> Step {
    Step { action, disturbs, touches, because, lane: Lane::Node }
}
