//! Desired state against inventory: the ordered steps of a node, which of them may run now, and what is asked for.
//!
//! The order, once: (1) the RDMA mode, because a boot forgets VFs, so VFs made before it are made in vain; (2) PFs
//! that nobody asks for, because removals free what additions need; (3) the wanted PFs in the order of the node state,
//! each: mark as ours, eswitch mode while there are no VFs, VF count, PF MTU before VF MTU, link up, VFs.
//! Nothing held by a pod is changed without a drain, and nothing is changed that the device plugin may still give away.

use crate::action::{Action, Disturbance, Lane, Step};
use crate::blocker::Blocker;
use crate::desired::Desired;
use crate::ledger::Found;

use crate::{firmware, functions, ledger, lifeline, rdma, reboots, reload};
use api::inventory::Inventory;
use api::nodestate::RebootRecord;
use api::{PciAddress, Timestamp, annotation};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a node asks of the operator: the value of the annotation `…/state`, and its mirror.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainRequest {
    #[default]
    Idle,
    /// The pods that hold devices must go.
    Drain,
    /// All pods must go, for a reboot.
    Reboot,
}

impl DrainRequest {
    /// The annotation's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => annotation::IDLE,
            Self::Drain => annotation::DRAIN_REQUIRED,
            Self::Reboot => annotation::REBOOT_REQUIRED,
        }
    }

    /// Reads the annotation's value; anything else, or nothing, is no request.
    pub fn read(text: &str) -> Self {
        match text {
            annotation::DRAIN_REQUIRED => Self::Drain,
            annotation::REBOOT_REQUIRED => Self::Reboot,
            _ => Self::Idle,
        }
    }
}

/// How far the operator has come with what the node asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Turn {
    /// Nothing was granted: only what disturbs nobody may run.
    #[default]
    NotYet,
    /// The drain is under way: devices are withdrawn, so that new pods stay Pending, and nothing is touched.
    Draining(DrainRequest),
    /// The drain is complete.
    Drained(DrainRequest),
    /// The node gave its turn back and the operator has not finished undoing the drain. Asking anew now would be taken
    /// for the drain that is being undone.
    Ending,
    /// `SriovOperatorConfig.spec.disableDrain`: nobody drains, and what nobody holds needs no turn. What a pod holds is
    /// left alone all the same, and the node asks, so that a pool with `onDeadline: force` can have its way.
    DrainDisabled,
}

impl Turn {
    /// Reads the drain protocol of a node: `desired-state` and `current-state` of its node state.
    pub fn of(desired: &str, current: &str, drain_disabled: bool) -> Self {
        match (DrainRequest::read(desired), current) {
            (DrainRequest::Idle, annotation::DRAIN_COMPLETE | annotation::DRAINING) => Self::Ending,
            // A drain that was begun is finished, also when draining is disabled meanwhile.
            (request, annotation::DRAIN_COMPLETE) => Self::Drained(request),
            (request, annotation::DRAINING) => Self::Draining(request),
            _ if drain_disabled => Self::DrainDisabled,
            _ => Self::NotYet,
        }
    }

    fn request(self) -> DrainRequest {
        match self {
            Self::Draining(request) | Self::Drained(request) => request,
            Self::NotYet | Self::Ending | Self::DrainDisabled => DrainRequest::Idle,
        }
    }

    /// True when the operator has set to work on this node.
    pub fn has_come(self) -> bool {
        matches!(self, Self::Draining(_) | Self::Drained(_))
    }
}

/// What the node may do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permission {
    pub turn: Turn,
    /// Devices that the device plugin may still give away: ready in the last offer, or withdrawn without its
    /// acknowledgement. A device that was never offered is not here.
    pub offered: BTreeSet<PciAddress>,
    /// Withdrawn devices, acknowledged, that `Node.status.allocatable` still counts.
    pub counted: BTreeSet<PciAddress>,
    pub reboots: Leave,
    /// `featureGates.rdmaModeReload`: after the drain the RDMA modules may be reloaded.
    pub mode_reload: bool,
    /// `SriovOperatorConfig.spec.disablePlugins` has `mellanox`: no firmware is written.
    pub no_firmware_writes: bool,
}

/// How far reboots are left to us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leave {
    /// `SriovOperatorConfig.spec.disableReboot`: a person reboots.
    pub by_person: bool,
    /// The node's `ironrail.dev/retry-reboot`: a new value opens what the ledger has closed.
    pub retry: String,
}

/// What to do on a node, what must wait, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// May run now, in this order. Observe again after each that `needs_fresh_eyes`.
    pub steps: Vec<Step>,
    /// Planned, and waiting for the blockers.
    pub later: Vec<Step>,
    pub blockers: Vec<Blocker>,
    /// What the node asks of the operator from now on.
    pub request: DrainRequest,
    /// Devices to be offered as withdrawn from now on.
    pub withdraw: BTreeSet<PciAddress>,
    /// The reboot ledger after judgement: pending reboots whose boot is over are closed in it. Write it when it differs.
    pub ledger: Vec<RebootRecord>,
    /// Why no device that is for RDMA is ready: the boot brought another mode than the one that was to come or had been.
    pub mode_missed: Option<String>,
}

impl Plan {
    /// True when the node is at its goal: nothing to do and nothing to wait for.
    pub fn is_done(&self) -> bool {
        self.steps.is_empty() && self.later.is_empty() && self.blockers.is_empty()
    }

    /// Why each device is withdrawn: because of the first step that touches it, or of the drain that is under way.
    pub fn withdrawn(&self) -> BTreeMap<PciAddress, String> {
        let because = |pci: &PciAddress| {
            let mut steps = self.steps.iter().chain(&self.later);
            let step = steps.find(|step| step.touches.contains(pci));
            step.map_or("the node is drained for a reboot".to_owned(), |step| step.because.clone())
        };
        self.withdraw.iter().map(|pci| (*pci, because(pci))).collect()
    }
}

/// After this long a person is told that the kernel does not come back. Cards with hundreds of VFs take minutes.
const STUCK: Duration = Duration::from_secs(300);

/// Plans one node. `now` serves the reboot ledger, and to say what takes too long.
pub fn plan(
    desired: &Desired,
    inventory: &Inventory,
    permission: &Permission,
    now: Timestamp,
) -> Plan {
    let leave = &permission.reboots;
    let mut records =
        ledger::judge(&inventory.reboots, &inventory.boot_id, |record| found(record, inventory));
    reload::judge(&mut records, inventory);
    let firmware = firmware::plan(desired, inventory, permission, &records, now);
    // One reboot for all: where one comes anyway, it brings the mode too.
    let boots_anyway =
        !firmware.wishes.is_empty() || firmware.blockers.iter().any(Blocker::waits_for_a_boot);
    let may_reload = match (permission.mode_reload, boots_anyway) {
        (false, _) => Err("the feature gate rdmaModeReload is off"),
        (true, true) => Err("a card's firmware needs the reboot anyway"),
        (true, false) => Ok(()),
    };
    let mode = rdma::plan(desired.rdma_mode, inventory, &records, (leave, may_reload), now);
    let (on_functions, more_blockers) = functions::plan(desired, inventory, &firmware.handled);
    let mut gate = Gate::new(desired, inventory, permission);
    let mode_stands = mode.steps.iter().all(|step| step.disturbs == Disturbance::Nothing);
    match mode.after_drain {
        true => {
            let because = mode.steps.first().map(|step| step.because.clone());
            gate.pass_after_drain(mode.steps, because.unwrap_or_default());
        }
        false => mode.steps.into_iter().for_each(|step| gate.pass(step)),
    }
    // A second request while the first is under way would be lost; its reasons are seen again after the boot.
    let under_way = |blocker: &Blocker| matches!(blocker, Blocker::RebootUnderWay { .. });
    let mut wishes: Vec<reboots::Wish> = mode.reboot.into_iter().chain(firmware.wishes).collect();
    let left = mode.blockers.iter().chain(&firmware.blockers);
    let boot_is_coming = !wishes.is_empty() || left.clone().any(Blocker::waits_for_a_boot);
    if left.clone().any(under_way) {
        wishes.clear();
    }
    let reboot_stands = wishes.is_empty();
    reboots::fold(wishes, leave.by_person).into_iter().for_each(|step| gate.pass(step));
    match mode.coming {
        Some(mode) if !on_functions.is_empty() => {
            // VFs are made once, in the mode in which their pods will run.
            gate.plan.later.extend(on_functions);
            gate.block(Blocker::WaitingForMode { mode });
        }
        None if boot_is_coming && !on_functions.is_empty() => {
            gate.plan.later.extend(on_functions);
            gate.block(Blocker::WaitingForBoot);
        }
        _ => gate.pass_lanes(on_functions, inventory),
    }
    let waits = (mode.coming.is_some() || boot_is_coming) && mode_stands && reboot_stands;
    let mode_missed = rdma::missed(desired.rdma_mode, inventory, &records, &mode.blockers);
    mode.blockers
        .into_iter()
        .chain(firmware.blockers)
        .chain(more_blockers)
        .for_each(|blocker| gate.block(blocker));
    unfinished(inventory, now).for_each(|blocker| gate.block(blocker));
    let mut plan = gate.finish(waits);
    plan.ledger = records;
    plan.mode_missed = mode_missed;
    plan
}

/// What the kernel is still at, also where nothing more is wanted of the card: its state is not what it seems.
fn unfinished(inventory: &Inventory, now: Timestamp) -> impl Iterator<Item = Blocker> {
    inventory.unfinished.iter().map(move |late| Blocker::KernelBusy {
        tried: late.tried.clone(),
        since: late.since,
        stuck: now.duration_since(late.since).unsigned_abs() >= STUCK,
    })
}

/// What is effective of the goal of a reboot that took place.
fn found(record: &RebootRecord, inventory: &Inventory) -> Found {
    match (record.reason.as_str(), inventory.rdma.mode) {
        ("RdmaMode", Some(mode)) if mode.to_string() == record.goal => Found::Reached,
        ("RdmaMode", Some(mode)) => Found::Other(mode.to_string()),
        ("Firmware", _) => firmware::found(&record.goal, inventory),
        _ => Found::Unknown,
    }
}

/// Sorts steps into those that may run now and those that wait.
struct Gate<'a> {
    permission: &'a Permission,
    /// Device → pods that hold it, as `namespace/name`.
    holders: BTreeMap<PciAddress, Vec<String>>,
    /// What pods can be given: VFs, and PFs that are offered whole.
    devices: BTreeSet<PciAddress>,
    node_lane_waits: bool,
    /// Cards on which the kernel is still at a change.
    busy: BTreeSet<Lane>,
    wants: DrainRequest,
    plan: Plan,
}

impl<'a> Gate<'a> {
    fn new(desired: &Desired, inventory: &Inventory, permission: &'a Permission) -> Self {
        let mut holders: BTreeMap<PciAddress, Vec<String>> = BTreeMap::new();
        for holder in &inventory.holders {
            // A device that is no PCI function is not one that we change.
            let Ok(device) = holder.device.parse() else { continue };
            let pod = holder.pod_in_words().unwrap_or_default();
            holders.entry(device).or_default().push(pod);
        }
        let functions = inventory.physical_functions.iter();
        let vfs = functions.flat_map(|pf| pf.vfs.iter().map(|vf| vf.pci));
        let whole = desired.functions.iter().filter(|function| function.num_vfs == 0);
        let devices = vfs.chain(whole.map(|function| function.pci)).collect();
        let plan = Plan::default();
        Self {
            permission,
            holders,
            devices,
            node_lane_waits: false,
            busy: inventory
                .unfinished
                .iter()
                .filter_map(|late| late.card)
                .map(Lane::Card)
                .collect(),
            wants: DrainRequest::Idle,
            plan,
        }
    }

    /// One step of the node's own lane.
    fn pass(&mut self, step: Step) {
        if step.disturbs == Disturbance::Node {
            return self.pass_reboot(step);
        }
        self.pass_lane(vec![step]);
    }

    /// A lever or the reboot itself: only in a turn that was given for a reboot.
    fn pass_reboot(&mut self, step: Step) {
        self.wants = DrainRequest::Reboot;
        let is_lever = step.action.lever().is_some();
        let blockers = match self.permission.turn {
            Turn::Drained(DrainRequest::Reboot) => vec![],
            Turn::DrainDisabled => self.held(self.holders.keys().copied().collect()),
            Turn::Drained(_) | Turn::Draining(DrainRequest::Drain) => vec![Blocker::DrainTooSmall],
            Turn::Draining(_) | Turn::NotYet | Turn::Ending => {
                let because = step.because.clone();
                vec![Blocker::WaitingForDrain { reboot: true, because }]
            }
        };
        if self.permission.turn.has_come() {
            self.plan.withdraw.extend(self.devices.iter().copied());
        }
        let waits = !blockers.is_empty();
        // The reboot itself comes last, and has the reasons of all its levers.
        blockers.into_iter().filter(|_| !is_lever).for_each(|blocker| self.block(blocker));
        self.node_lane_waits |= waits;
        match waits {
            true => self.plan.later.push(step),
            false => self.plan.steps.push(step),
        }
    }

    /// What is done in a turn only, whether a pod holds anything or not: the rollout's limits count for it.
    fn pass_after_drain(&mut self, steps: Vec<Step>, because: String) {
        if matches!(self.permission.turn, Turn::Drained(_) | Turn::DrainDisabled) {
            return self.pass_lane(steps);
        }
        self.wants = self.wants.max(DrainRequest::Drain);
        if self.permission.turn.has_come() {
            self.plan.withdraw.extend(steps.iter().flat_map(|step| step.touches.iter().copied()));
        }
        self.block(Blocker::WaitingForDrain { reboot: false, because });
        self.plan.later.extend(steps);
    }

    fn pass_lanes(&mut self, steps: Vec<Step>, inventory: &Inventory) {
        let mut lanes: Vec<(Lane, Vec<Step>)> = vec![];
        for step in steps {
            match lanes.iter_mut().find(|(lane, _)| *lane == step.lane) {
                Some((_, steps)) => steps.push(step),
                None => lanes.push((step.lane, vec![step])),
            }
        }
        for (_, steps) in lanes {
            let cut = lifeline::cuts(&steps, inventory);
            match cut
                .map(|because| format!("{because}, which cuts what the host has over its card"))
            {
                Some(because) => self.pass_after_drain(steps, because),
                None => self.pass_lane(steps),
            }
        }
    }

    /// Steps of one lane in their order: the first that must wait keeps those behind it.
    fn pass_lane(&mut self, steps: Vec<Step>) {
        let touched: BTreeSet<PciAddress> =
            steps.iter().flat_map(|step| step.touches.iter().copied()).collect();
        let held = self.held(touched.clone());
        if held.is_empty() || self.permission.turn.has_come() {
            self.plan.withdraw.extend(touched);
        }
        if !held.is_empty() {
            self.wants = self.wants.max(DrainRequest::Drain);
            let drained = matches!(self.permission.turn, Turn::Drained(_) | Turn::DrainDisabled);
            let drain = (!drained)
                .then_some(Blocker::WaitingForDrain { reboot: false, because: String::new() });
            held.into_iter().chain(drain).for_each(|blocker| self.block(blocker));
        }
        let lane_is_busy = steps.first().is_some_and(|step| self.busy.contains(&step.lane));
        let mut waits = self.node_lane_waits || lane_is_busy;
        for step in steps {
            waits = waits || self.must_wait(&step);
            match waits {
                true => self.plan.later.push(step),
                false => self.plan.steps.push(step),
            }
        }
    }

    /// True when a pod holds what the step changes, or may still be given it.
    fn must_wait(&mut self, step: &Step) -> bool {
        let devices: Vec<PciAddress> =
            step.touches.intersection(&self.permission.offered).copied().collect();
        let held = step.touches.iter().any(|device| self.holders.contains_key(device));
        // What is not withdrawn yet, because a neighbour is held, waits for the drain and not for the device plugin.
        let withdrawn = devices.iter().all(|device| self.plan.withdraw.contains(device));
        if !held && !devices.is_empty() && withdrawn {
            self.block(Blocker::WaitingForWithdrawal { devices: devices.clone() });
        }
        let counted: Vec<PciAddress> =
            step.touches.intersection(&self.permission.counted).copied().collect();
        if !held && devices.is_empty() && !counted.is_empty() {
            self.block(Blocker::WaitingForAllocatable { devices: counted.clone() });
        }
        held || !devices.is_empty() || !counted.is_empty()
    }

    fn held(&self, devices: BTreeSet<PciAddress>) -> Vec<Blocker> {
        let pods = |device: PciAddress| {
            let pods = self.holders.get(&device).into_iter().flatten().cloned();
            pods.map(move |pod| Blocker::DeviceHeld { device, pod })
        };
        devices.into_iter().flat_map(pods).collect()
    }

    fn is_held(&self) -> bool {
        self.plan.blockers.iter().any(|blocker| matches!(blocker, Blocker::DeviceHeld { .. }))
    }

    /// The node was drained for a reboot, which is over, and what is left to do waits for a pod that came afterwards:
    /// nobody moves it in this turn any more, so that the turn is given back and a drain of devices asked for. A device
    /// that nobody is known to hold is waited for: the claim on it is named or ends within minutes, and a node that is
    /// given back before has new pods and new claims.
    fn is_spent(&self) -> bool {
        let mut blockers = self.plan.blockers.iter();
        self.permission.turn == Turn::Drained(DrainRequest::Reboot)
            && self.wants == DrainRequest::Drain
            && self.plan.steps.is_empty()
            && blockers.any(|one| matches!(one, Blocker::DeviceHeld { pod, .. } if !pod.is_empty()))
    }

    fn block(&mut self, blocker: Blocker) {
        if !self.plan.blockers.contains(&blocker) {
            self.plan.blockers.push(blocker);
        }
    }

    /// `waits`: a reboot was asked for and has not begun, so the turn is kept.
    fn finish(mut self, waits: bool) -> Plan {
        let turn = self.permission.turn;
        let too_small = self.plan.blockers.contains(&Blocker::DrainTooSmall);
        let busy = waits || !self.plan.steps.is_empty() || !self.plan.later.is_empty();
        self.plan.request = match turn {
            Turn::Ending => DrainRequest::Idle,
            // Nobody drains, but what a pod holds waits for the operator, which knows whether the pool allows force.
            Turn::DrainDisabled if !self.is_held() => DrainRequest::Idle,
            _ if too_small || self.is_spent() => DrainRequest::Idle,
            // What was granted is kept until the node is at its goal, so that no pod comes back in between.
            Turn::Draining(_) | Turn::Drained(_) if busy => turn.request().max(self.wants),
            _ => self.wants,
        };
        self.plan
    }
}

/// The reboot among these steps, if there is one: what the daemon books before it asks, and as which attempt.
pub fn reboot_of(steps: &[Step]) -> Option<(&[crate::action::RebootCause], u32)> {
    steps.iter().find_map(|step| match &step.action {
        Action::Reboot { causes, attempt } => Some((causes.as_slice(), *attempt)),
        Action::LeaveReboot { causes } => Some((causes.as_slice(), 0)),
        _ => None,
    })
}
