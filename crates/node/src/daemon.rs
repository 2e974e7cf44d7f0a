//! The daemon's step: observe, plan, apply, observe, until nothing may run; then say so. Synchronous, level-triggered.
//!
//! Nothing that matters is remembered between steps: a daemon killed at any primitive starts again from what it sees.
//! What to do is the planner's; here is only the order in which looking, writing down and doing happen.

use crate::cdi::{self, Cdi};
use crate::commit::{self, Report};
use crate::failures::{Failed, Failures, Why};
use crate::holders::{Confirmed, named_as_ended};
use crate::lanes::{self, bars};
use crate::offer::{self, Against};
use crate::see::{Seen, see, without_holders};
use crate::status::{Progress, SUCCEEDED};
use crate::sweep::{Evidence, Finding, Sweeper};
use crate::world::NodeWorld;
use crate::{apply, boot, custody, ledger, live_switch, reload};
use api::custody::Holder;
use api::nodestate::{DrainStatus, HOLDERS_LISTED, RebootRecord, SriovNetworkNodeState};
use api::wire::Outcome;
use api::{PciAddress, Timestamp, names};
use host::function::vf_address;
use host::rdma_reload::{self, ReloadError};
use host::{Host, Refusal, autoprobe, uptime};
use planner::lifeline::{self, Notice};
use planner::order::Leave;
use planner::{Action, Blocker, Desired, Lane, Permission, Plan, Step, Turn, audit};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Rounds of observe, plan, apply in one step. A card takes about four; more means that planner and host disagree.
const ROUNDS: usize = 64;

/// The two places where a reboot is booked.
const LEDGER: &str = "the ledger on the host";
const MIRROR: &str = "the node state's status";
const NO_PODS: &str = "the kubelet's PodResources does not answer, so nobody knows which devices pods hold; nothing is changed";

/// One node's daemon: who it is, and what it had better not try again at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    pub node: String,
    pub namespace: String,
    /// Prefix of resource names: `openshift.io`.
    pub prefix: String,
    /// What failed. A daemon that forgets it tries once more too early, and that is all.
    failures: RefCell<Failures>,
    /// Claims that PodResources has named. A daemon that forgets them waits until they are no longer young.
    confirmed: RefCell<Confirmed>,
    /// Orphans that were seen once.
    sweeper: RefCell<Sweeper>,
    /// The offer behind whose fence PodResources was read. A daemon that forgets it reads once more.
    looked_behind: RefCell<Option<u64>>,
    /// Whether cards are configured at once.
    pub order: lanes::Order,
}

/// One step's work: what it goes by, the same from its first round to its last.
struct Work<'a> {
    host: &'a dyn Host,
    /// What PodResources says; None while the kubelet is silent.
    pods: Option<&'a [Holder]>,
    confirmed: &'a RefCell<Confirmed>,
    state: &'a SriovNetworkNodeState,
    desired: Desired,
    turn: Turn,
    leave: Leave,
    no_firmware_writes: bool,
    /// `featureGates.rdmaModeReload`.
    mode_reload: bool,
    world: &'a NodeWorld,
    /// `Node.status.allocatable`; None where there is no Node.
    allocatable: Option<&'a BTreeMap<String, String>>,
    looked_behind: &'a RefCell<Option<u64>>,
    /// What was done on cards by which the host lives.
    notices: RefCell<Vec<Notice>>,
    /// What the API refused of the last step's writes.
    refused: Option<&'a str>,
    prefix: &'a str,
    order: lanes::Order,
    now: Timestamp,
}

impl Daemon {
    pub fn new(node: &str, namespace: &str) -> Self {
        Self {
            node: node.to_owned(),
            namespace: namespace.to_owned(),
            prefix: names::RESOURCE_PREFIX.to_owned(),
            failures: RefCell::default(),
            confirmed: RefCell::default(),
            sweeper: RefCell::default(),
            looked_behind: RefCell::default(),
            order: lanes::Order::default(),
        }
    }

    /// True when the container runtime is to be asked before the next step.
    pub fn sweep_is_due(&self, host: &dyn Host) -> bool {
        // Where nobody knows the time the sweep says so.
        self.sweeper.borrow().is_due(host, uptime::read(host).unwrap_or_default())
    }

    /// Brings home what dead pods left, where the runtime was asked for it.
    fn sweep(&self, host: &dyn Host, world: &NodeWorld) -> Vec<Finding> {
        let Some(sandboxes) = &world.sandboxes else { return Vec::new() };
        let (sandboxes, uptime) = match uptime::read(host) {
            Ok(uptime) => (sandboxes, uptime),
            Err(why) => (&Err(why), Duration::ZERO),
        };
        let ended = world.state.as_ref().map(named_as_ended).unwrap_or_default();
        let evidence = Evidence { sandboxes, pods: world.pods.as_deref(), ended: &ended };
        let findings = self.sweeper.borrow_mut().sweep(host, &evidence, uptime);
        for finding in &findings {
            match finding.is_home {
                true => tracing::info!("{}", finding.sentence),
                false => tracing::warn!("{}", finding.sentence),
            }
        }
        findings
    }

    /// Brings the node as near to its goal as it may come now, and returns what the API is to know.
    pub fn step(&self, host: &dyn Host, world: &NodeWorld, now: Timestamp) -> Outcome {
        let findings = self.sweep(host, world);
        // The operator makes the node state; without one nothing is wanted of this node.
        let Some(state) = &world.state else { return Outcome::default() };
        if let Err(refusal) = boot::save(host, state) {
            tracing::warn!("the order cannot be saved for the next boot: {refusal}");
        }
        let report = self.work(host, world, state, now);
        let sweep = self.sweeper.borrow_mut().status(state.status.sweep);
        let mut outcome = commit::outcome(world, state, Report { sweep, ..report }, now);
        outcome.writes.extend(findings.iter().map(|finding| commit::swept(state, finding, now)));
        outcome
    }

    fn work(
        &self,
        host: &dyn Host,
        world: &NodeWorld,
        state: &SriovNetworkNodeState,
        now: Timestamp,
    ) -> Report {
        let disabled = world.config.spec.disable_drain;
        let work = Work {
            host,
            pods: world.pods.as_deref(),
            confirmed: &self.confirmed,
            state,
            desired: Desired::parse(&state.spec),
            turn: Turn::of(world.desired_state(), world.current_state(), disabled),
            leave: Leave {
                by_person: world.config.spec.disable_reboot,
                retry: world.retry_reboot().to_owned(),
            },
            mode_reload: world.config.spec.feature_gates.get(names::MODE_RELOAD_GATE)
                == Some(&true),
            world,
            no_firmware_writes: world.config.spec.disable_plugins.iter().any(|p| p == "mellanox"),
            allocatable: world.node.as_ref().map(|node| &node.allocatable),
            looked_behind: &self.looked_behind,
            notices: RefCell::default(),
            refused: world.refused.as_deref(),
            prefix: &self.prefix,
            order: self.order,
            now,
        };
        let generation = state.metadata.generation;
        let mut failed = self.failures.borrow().waiting(generation, now);
        let mut report = work.rounds(&mut failed);
        report.notices = work.notices.take();
        if report.look_at_once {
            // Nothing was tried, so nothing is known anew of what failed before.
            return report;
        }
        let mut failures = self.failures.borrow_mut();
        failures.note(generation, &failed, now);
        Report { retry: failures.next(), ..report }
    }
}

impl Work<'_> {
    fn rounds(&self, failed: &mut Failed) -> Report {
        let Some(pods) = self.pods else { return self.unseen(failed) };
        if let Err(why) = finish_reload(self.host) {
            return Report::blind(why);
        }
        for _ in 0..ROUNDS {
            if let Err(refusal) = put_autoprobe_back(self.host) {
                return Report::blind(format!("cannot {refusal}"));
            }
            let confirmed = &mut self.confirmed.borrow_mut();
            let seen = match self.see(pods, confirmed) {
                Ok(seen) => seen,
                Err(why) => return Report::blind(why),
            };
            if let Some(report) = self.round(seen, failed) {
                return report;
            }
        }
        Report::blind(format!(
            "the node is not at rest after {ROUNDS} rounds of changes; trying again"
        ))
    }

    fn see(&self, pods: &[Holder], confirmed: &mut Confirmed) -> Result<Seen, String> {
        let (state, desired) = (self.state, &self.desired);
        let allocatable = self.allocatable;
        let mut seen = see(self.host, pods, confirmed, state, desired, allocatable, self.now)?;
        if self.mode_reload {
            let asked = desired.rdma_mode.or(seen.inventory.initial_rdma_mode);
            reload::look(self.host, asked, &mut seen.inventory);
        }
        Ok(seen)
    }

    /// The kubelet is silent. Nothing is touched, but a reboot that was asked for is seen to: it stops the kubelet first.
    fn unseen(&self, failed: &mut Failed) -> Report {
        let seen = match without_holders(self.host, self.state) {
            Ok(seen) => seen,
            Err(why) => return Report::blind(why),
        };
        let permission = self.permission(&seen);
        let plan = planner::unseen::plan(&self.desired, &seen.inventory, &permission, self.now);
        let Some(plan) = plan else {
            let why = match &self.world.elsewhere {
                Some(elsewhere) => format!("{NO_PODS}; {elsewhere}"),
                None => NO_PODS.to_owned(),
            };
            return Report { inventory: Some(seen.inventory), ..Report::blind(why) };
        };
        let report = match (self.bug(&seen, &permission, &plan), self.booking(&seen, &plan)) {
            (Some(bug), _) => self.report(seen, &plan, &bug),
            _ if failed.contains_key(&Lane::Node) => self.report(seen, &plan, failed),
            (None, Some(booked)) => self.reboot(seen, &plan, booked, failed),
            (None, None) => {
                self.run(&plan.steps.iter().collect::<Vec<_>>(), &seen, failed);
                self.report(seen, &plan, failed)
            }
        };
        // What is asked of the operator, and what its drain was told, stays.
        Report { request: None, drain: self.state.status.drain.clone(), cdi: None, ..report }
    }

    fn permission(&self, seen: &Seen) -> Permission {
        Permission {
            turn: self.turn,
            offered: seen.offered.clone(),
            counted: seen.counted.clone(),
            reboots: self.leave.clone(),
            mode_reload: self.mode_reload,
            no_firmware_writes: self.no_firmware_writes,
        }
    }

    /// What the audit has against a plan, as a failure of the node.
    fn bug(&self, seen: &Seen, permission: &Permission, plan: &Plan) -> Option<Failed> {
        let findings = audit::plan(&self.desired, &seen.inventory, permission, plan);
        let findings = (!findings.is_empty()).then(|| findings.join("; "))?;
        let error = format!("this plan must not be run, which is a bug: {findings}");
        Some(Failed::from([(Lane::Node, error.into())]))
    }

    /// The ledger with the reboot of this plan in it, if there is one.
    fn booking(&self, seen: &Seen, plan: &Plan) -> Option<Vec<RebootRecord>> {
        let what = planner::order::reboot_of(&plan.steps)?;
        let (boot, retry) = (&seen.inventory.boot_id, &self.leave.retry);
        Some(planner::ledger::book(&plan.ledger, what, boot, retry, self.now))
    }

    /// One plan, and what of it may run now. None: something was done, so look again.
    fn round(&self, seen: Seen, failed: &mut Failed) -> Option<Report> {
        let permission = self.permission(&seen);
        let plan = planner::plan(&self.desired, &seen.inventory, &permission, self.now);
        if let Some(bug) = self.bug(&seen, &permission, &plan) {
            return Some(self.report(seen, &plan, &bug));
        }
        let runnable: Vec<&Step> =
            plan.steps.iter().filter(|step| !bars(failed.keys(), step)).collect();
        let offered_anew = match self.write_down(&seen, &plan, !runnable.is_empty()) {
            Ok(anew) => anew,
            Err(refusal) => {
                let error = format!("cannot {refusal}; nothing is changed until it can be");
                let failed = Failed::from([(Lane::Node, error.into())]);
                return Some(self.report(seen, &plan, &failed));
            }
        };
        match (runnable.is_empty(), self.booking(&seen, &plan)) {
            (true, _) if !offered_anew => return Some(self.report(seen, &plan, failed)),
            (false, _) if !is_announced(self.state) => {
                return Some(Report { first_tell: true, ..self.report(seen, &plan, failed) });
            }
            (false, _) if !self.has_looked_behind_the_fence(&seen, &runnable) => {
                return Some(Report { look_at_once: true, ..self.report(seen, &plan, failed) });
            }
            (false, Some(booked)) => return Some(self.reboot(seen, &plan, booked, failed)),
            (_, _) => match planner::reload::of(runnable.iter().copied()) {
                Some(what) => {
                    let (boot, retry) = (&seen.inventory.boot_id, &self.leave.retry);
                    let booked = planner::reload::book(&plan.ledger, what, boot, retry, self.now);
                    reload::carry_out(self.host, &runnable, booked, failed);
                }
                None => self.change(&runnable, &seen, &plan, failed),
            },
        }
        None
    }

    fn change(&self, steps: &[&Step], seen: &Seen, plan: &Plan, failed: &mut Failed) {
        let Some(mode) = planner::live_switch::of(steps.iter().copied()) else {
            return self.run(steps, seen, failed);
        };
        let boot = &seen.inventory.boot_id;
        let refused =
            |why: &str| planner::live_switch::refuse(&plan.ledger, (mode, why), boot, self.now);
        live_switch::carry_out(self.host, steps, refused, failed);
    }

    /// Does what may be done, and notes what people are to know of it.
    fn run(&self, steps: &[&Step], seen: &Seen, failed: &mut Failed) {
        let inventory = &seen.inventory;
        let by_path = seen.offer.as_ref().is_some_and(|offer| offer.by_path);
        let _numbers = match by_path && inventory.rdma.mode.is_some() {
            true => apply::lock_numbers(self.host, steps, failed),
            false => None,
        };
        let steps: Vec<&Step> =
            steps.iter().copied().filter(|step| !bars(failed.keys(), step)).collect();
        let steps = steps.as_slice();
        let done = lanes::run(self.host, steps, self.order, failed);
        let desired = &self.desired;
        let notices = done.iter().filter_map(|step| lifeline::notice(step, inventory, desired));
        self.notices.borrow_mut().extend(notices);
    }

    /// What this step knows of holders was read before it saw that the fence stands; a pod may have come in between. So
    /// PodResources is read once more, with the next step, before the first change behind a new fence.
    fn has_looked_behind_the_fence(&self, seen: &Seen, steps: &[&Step]) -> bool {
        let Some(offer) = &seen.offer else { return true };
        let devices = offer.resources.values().flat_map(|resource| &resource.devices);
        let fenced: BTreeSet<PciAddress> = devices.map(|device| device.pci).collect();
        let behind = steps.iter().any(|step| !step.touches.is_disjoint(&fenced));
        !behind || self.looked_behind.replace(Some(offer.sequence)) == Some(offer.sequence)
    }

    /// Writes offer and ledger where they differ; true when there is a new offer.
    fn write_down(&self, seen: &Seen, plan: &Plan, busy: bool) -> Result<bool, Refusal> {
        if plan.ledger != seen.on_host {
            ledger::write(self.host, &plan.ledger)?;
        }
        let boot_id = &seen.inventory.boot_id;
        let status = &self.state.status;
        // At boot the VFs are still to be made, or to be looked at: what was offered before is listed, and not given.
        let before = match &seen.offer {
            Some(offer) => Some(offer.clone()),
            None => {
                let place = |pf: &PciAddress, index| vf_address(self.host, pf, index);
                offer::of_the_boot_before(&self.desired, status, boot_id, self.prefix, place)
            }
        };
        // Where nothing is known of before, an empty offer would take the node's capacity away.
        if before.is_none() && busy {
            return Ok(false);
        }
        let next = offer::offer(
            before.as_ref(),
            seen.sequence,
            &self.desired,
            &seen.inventory,
            self.prefix,
            &Against {
                withdrawn: plan.withdrawn(),
                mode: plan.mode_missed.clone(),
                no_cdi: !self.cdi(seen).is_on,
            },
        );
        let differs = seen.offer.as_ref() != Some(&next);
        if differs {
            custody::write_offer(self.host, &next)?;
        }
        Ok(differs)
    }

    /// Whether devices are handed over by CDI name.
    fn cdi(&self, seen: &Seen) -> Cdi {
        cdi::judge(&self.world.ways(seen.offer.as_ref(), &self.state.status.cdi))
    }

    /// The way to a reboot: the disk tried, booked in the API, then every lever, then booked on the disk, then asked for.
    fn reboot(
        &self,
        seen: Seen,
        plan: &Plan,
        booked: Vec<RebootRecord>,
        failed: &mut Failed,
    ) -> Report {
        let is_mirrored = ledger::is_mirrored(&booked, &self.state.status.reboots);
        // Tried before anything is booked: no lever is pulled where no reboot can follow, and a power cut is not taken for
        // a reboot that never had a lever.
        let tried = ledger::write(self.host, &plan.ledger);
        let books = tried.is_ok() && !is_mirrored;
        let unwritable = match tried {
            Err(refusal) => Some((LEDGER, refusal.to_string())),
            Ok(()) if is_mirrored => None,
            Ok(()) => self.refused.map(|why| (MIRROR, why.to_owned())),
        };
        let goes = is_mirrored && unwritable.is_none();
        let mut booked = booked;
        let mut stopped = false;
        if goes && let Err((action, error)) = carry_out(self.host, plan, &booked) {
            stopped = true;
            booked =
                planner::ledger::not_asked(&plan.ledger, &booked, &levers_behind(plan, action));
            let why = error.to_string();
            match self.without_the_refused(&booked, plan, action, &why, &seen.inventory.boot_id) {
                Some(closed) => booked = closed,
                None => {
                    if let Err(refusal) = ledger::write(self.host, &booked) {
                        // As it stands there, it names a lever too many, and no reboot.
                        tracing::warn!("cannot {refusal}");
                    }
                    failed.insert(Lane::Node, error);
                }
            }
        }
        let mut report = self.report(seen, plan, failed);
        let asked = plan.steps.iter().any(|step| matches!(step.action, Action::Reboot { .. }));
        report.rebooting = goes && asked && !stopped;
        report.first_tell = books || (goes && (stopped || !asked));
        if let Some((place, why)) = unwritable {
            let blocker = Blocker::LedgerNotWritten { place, why };
            tracing::warn!("{blocker}");
            report.progress.blockers.push(blocker);
        }
        if let Some(inventory) = report.inventory.as_mut().filter(|_| goes || books) {
            inventory.reboots = booked;
        }
        report
    }

    /// A card whose firmware refuses a value keeps nobody from the reboot: its goal is closed, and the rest goes on.
    fn without_the_refused(
        &self,
        records: &[RebootRecord],
        plan: &Plan,
        action: &Action,
        why: &str,
        boot_id: &str,
    ) -> Option<Vec<RebootRecord>> {
        let Action::RaiseFirmware { pf, .. } = action else { return None };
        let (causes, _) = planner::order::reboot_of(&plan.steps)?;
        let of_card = format!("{pf} ");
        let cause = causes.iter().find(|cause| cause.goal.starts_with(&of_card))?;
        let retry = &self.leave.retry;
        let closed = planner::ledger::refuse(records, cause, why, boot_id, retry, self.now);
        ledger::write(self.host, &closed).is_ok().then_some(closed)
    }

    /// What a drain that is under way is told: which held devices are in the way of the plan, and whether any device of it
    /// can still be given away. Holders were read when it was seen that none can.
    fn drain(&self, seen: &Seen, plan: &Plan) -> Option<DrainStatus> {
        let open =
            |device: &PciAddress| seen.offered.contains(device) || seen.counted.contains(device);
        let in_the_way = |holder: &&Holder| {
            holder.device.parse().is_ok_and(|device: PciAddress| plan.withdraw.contains(&device))
        };
        let holders = seen.inventory.holders.iter().filter(in_the_way);
        let devices = holders.map(|holder| holder.device.clone()).take(HOLDERS_LISTED).collect();
        let fenced = !plan.withdraw.iter().any(open);
        self.turn.has_come().then_some(DrainStatus { fenced, devices })
    }

    fn report(&self, seen: Seen, plan: &Plan, failed: &Failed) -> Report {
        let drain = self.drain(&seen, plan);
        let cdi = Some(self.cdi(&seen));
        let mut inventory = seen.inventory;
        inventory.reboots = match planner::order::reboot_of(&plan.steps) {
            // What is booked for the reboot that is still to come stays booked.
            Some(_) => planner::ledger::union(&plan.ledger, &self.state.status.reboots),
            None => plan.ledger.clone(),
        };
        let mut blockers = plan.blockers.clone();
        let mut errors = Vec::new();
        for why in failed.values() {
            match why {
                Why::Blocked(blocker) => blockers.push(blocker.clone()),
                Why::Error(sentence) => errors.push(sentence.clone()),
            }
        }
        Report {
            progress: Progress {
                at_goal: plan.is_done() && failed.is_empty(),
                blockers,
                problems: self.desired.problems.clone(),
                errors,
            },
            drain,
            cdi,
            sweep: None,
            inventory: Some(inventory),
            request: Some(plan.request),
            first_tell: false,
            look_at_once: false,
            rebooting: false,
            retry: None,
            notices: Vec::new(),
        }
    }
}

/// Puts back what was held for VFs that were being made when their lane failed, or the process was killed. Nobody else is
/// at work between two rounds but the kernel: on a card where it is unfinished VFs may still come, and they are not to be
/// probed.
pub fn put_autoprobe_back(host: &dyn Host) -> Result<(), Refusal> {
    let busy: BTreeSet<Lane> =
        host.unfinished().iter().filter_map(|late| late.card).map(Lane::Card).collect();
    let held = autoprobe::held(host)?;
    let free = held.iter().filter(|pf| !busy.contains(&Lane::of(pf)));
    free.into_iter().try_for_each(|pf| autoprobe::restore(host, pf))
}

/// Loads what a reload that was killed half-way had taken away.
fn finish_reload(host: &dyn Host) -> Result<(), String> {
    match rdma_reload::finish(host) {
        // What cannot be loaded again shows in the inventory, and only a boot brings it.
        Err(error @ ReloadError::NotLoaded { .. }) => {
            tracing::warn!("{error}");
            Ok(())
        }
        other => other.map(drop).map_err(|error| error.to_string()),
    }
}

/// The error names the action that stopped it. What is cut off before the reboot is booked was no reboot.
fn carry_out<'a>(
    host: &dyn Host,
    plan: &'a Plan,
    booked: &[RebootRecord],
) -> Result<(), (&'a Action, Why)> {
    let mut steps = plan.steps.iter().filter(|step| step.lane == Lane::Node).peekable();
    if let Some(first) = steps.peek() {
        let prepared = planner::ledger::not_asked(&plan.ledger, booked, &[]);
        let refused = |refusal| {
            format!("{refusal}; nothing is changed for a reboot while the ledger cannot be written")
        };
        ledger::write(host, &prepared).map_err(refused).map_err(|e| (&first.action, e.into()))?;
    }
    for step in steps {
        if matches!(step.action, Action::Reboot { .. } | Action::LeaveReboot { .. }) {
            let refused = |refusal| {
                format!("{refusal}; the node is not rebooted while the ledger cannot be written")
            };
            ledger::write(host, booked).map_err(refused).map_err(|e| (&step.action, e.into()))?;
        }
        apply::step(host, step).map_err(|error| (&step.action, error))?;
        tracing::info!(because = step.because, "{}", step.action);
    }
    Ok(())
}

/// The levers that were not touched because the one before them failed.
fn levers_behind(plan: &Plan, failed: &Action) -> Vec<String> {
    let at = plan.steps.iter().position(|step| step.action == *failed).unwrap_or_default();
    let names = |steps: &[Step]| -> BTreeSet<String> {
        steps.iter().filter_map(|step| step.action.lever()).collect()
    };
    let (touched, rest) = plan.steps.split_at((at + 1).min(plan.steps.len()));
    names(rest).difference(&names(touched)).cloned().collect()
}

/// True when the API knows that this order is being worked on: whoever waits for `Succeeded` must not read an old one.
fn is_announced(state: &SriovNetworkNodeState) -> bool {
    let status = &state.status;
    status.observed_generation == state.metadata.generation && status.sync_status != SUCCEEDED
}

impl Report {
    /// Nothing is planned: what the API knows stays, and nothing is asked for or given back.
    fn blind(why: impl Into<String>) -> Self {
        Self {
            progress: Progress::broken(why),
            drain: None,
            cdi: None,
            sweep: None,
            inventory: None,
            request: None,
            first_tell: false,
            look_at_once: false,
            rebooting: false,
            retry: None,
            notices: Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "daemon_tests.rs"]
mod tests;
