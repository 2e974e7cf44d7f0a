//! The daemon's step: observe, plan, apply, observe, until nothing may run; then say so. Synchronous, level-triggered.
//!
//! Nothing that matters is remembered between steps: a daemon killed at any primitive starts again from what it sees.
//! What to do is the planner's; here is only the order in which looking, writing down and doing happen.

use crate::apply;
use crate::commit::{self, Report};
use crate::custody::{self, Found};
use crate::fence::{self, Acknowledgement};
use crate::observe::{self, ObserveError};
use crate::offer::{self, Withdrawn};
use crate::status::Progress;
use crate::world::NodeWorld;
use crate::{holders, ledger};
use api::custody::{Claims, Holder, Offer};
use api::inventory::Inventory;
use api::nodestate::{RebootRecord, SriovNetworkNodeState};
use api::wire::Outcome;
use api::{PciAddress, Timestamp, names};
use host::{Host, Refusal, autoprobe, journal};
use planner::{Desired, DrainRequest, Lane, Permission, Plan, Step, Turn, audit};
use std::collections::{BTreeMap, BTreeSet};

/// Rounds of observe, plan, apply in one step. A card takes about four; more means that planner and host disagree.
const ROUNDS: usize = 64;

/// One node's daemon: who it is. It has no state of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    pub node: String,
    pub namespace: String,
    /// Prefix of resource names: `openshift.io`.
    pub prefix: String,
}

/// Everything that a plan is made of, seen at one moment.
struct Seen {
    inventory: Inventory,
    permission: Permission,
    offer: Option<Offer>,
    /// The last sequence that either side has used: a new offer must be above it.
    sequence: u64,
    /// The ledger as it stands on the host's disk.
    on_host: Vec<RebootRecord>,
}

impl Daemon {
    pub fn new(node: &str, namespace: &str) -> Self {
        Self {
            node: node.to_owned(),
            namespace: namespace.to_owned(),
            prefix: names::RESOURCE_PREFIX.to_owned(),
        }
    }

    /// Brings the node as near to its goal as it may come now, and returns what the API is to know.
    pub fn step(&self, host: &dyn Host, world: &NodeWorld, now: Timestamp) -> Outcome {
        // The operator makes the node state; without one nothing is wanted of this node.
        let Some(state) = &world.state else { return Outcome::default() };
        let report = self.work(host, world, state, now);
        commit::outcome(world, state, report, now)
    }

    fn work(
        &self,
        host: &dyn Host,
        world: &NodeWorld,
        state: &SriovNetworkNodeState,
        now: Timestamp,
    ) -> Report {
        if let Err(refusal) = put_right(host) {
            return Report::blind(refusal.to_string());
        }
        let desired = Desired::parse(&state.spec);
        let mut failed = BTreeMap::new();
        for _ in 0..ROUNDS {
            let seen = match see(host, world, state, now) {
                Ok(seen) => seen,
                Err(why) => return Report::blind(why),
            };
            if let Some(report) = self.round(host, state, &desired, seen, &mut failed, now) {
                return report;
            }
        }
        Report::blind(format!(
            "the node is not at rest after {ROUNDS} rounds of changes; trying again"
        ))
    }

    /// One plan, and what of it may run now. None: something was done, so look again.
    fn round(
        &self,
        host: &dyn Host,
        state: &SriovNetworkNodeState,
        desired: &Desired,
        seen: Seen,
        failed: &mut BTreeMap<Lane, String>,
        now: Timestamp,
    ) -> Option<Report> {
        let plan = planner::plan(desired, &seen.inventory, &seen.permission, now);
        let findings = audit::plan(desired, &seen.inventory, &seen.permission, &plan);
        if !findings.is_empty() {
            let error = format!("this plan must not be run, which is a bug: {}", findings.join("; "));
            return Some(report(desired, seen, &plan, BTreeMap::from([(Lane::Node, error)])));
        }
        let runnable: Vec<&Step> =
            plan.steps.iter().filter(|step| !failed.contains_key(&step.lane)).collect();
        let written = self.write_offer(host, desired, &seen, &plan, !runnable.is_empty());
        let written = written.and_then(|anew| write_ledger(host, &seen, &plan).map(|()| anew));
        let offered_anew = match written {
            Ok(anew) => anew,
            Err(refusal) => {
                let error = format!("{refusal}; nothing is changed on this node until it can be");
                return Some(report(desired, seen, &plan, BTreeMap::from([(Lane::Node, error)])));
            }
        };
        if let Some((causes, attempt)) = planner::order::reboot_of(&plan.steps) {
            let boot = &seen.inventory.boot_id;
            let booked = planner::ledger::book(&plan.ledger, causes, attempt, boot, now);
            return Some(reboot(host, state, desired, seen, &plan, booked, failed));
        }
        if runnable.is_empty() && !offered_anew {
            return Some(report(desired, seen, &plan, std::mem::take(failed)));
        }
        run(host, &runnable, failed);
        None
    }

    /// Writes the offer where it differs; true when it did.
    fn write_offer(
        &self,
        host: &dyn Host,
        desired: &Desired,
        seen: &Seen,
        plan: &Plan,
        busy: bool,
    ) -> Result<bool, Refusal> {
        // The first offer of a boot waits until the VFs are made: an empty one would take the node's capacity away.
        if seen.offer.is_none() && busy {
            return Ok(false);
        }
        let withdrawn = withdrawn(plan);
        let next = offer::offer(
            seen.offer.as_ref(),
            seen.sequence,
            desired,
            &seen.inventory,
            &self.prefix,
            &withdrawn,
        );
        let differs = seen.offer.as_ref() != Some(&next);
        if differs {
            custody::write_offer(host, &next)?;
        }
        Ok(differs)
    }
}

/// Puts back what an operation that was killed half-way holds. Nobody else is at work now.
fn put_right(host: &dyn Host) -> Result<(), Refusal> {
    autoprobe::held(host)?.iter().try_for_each(|pf| autoprobe::restore(host, pf))
}

/// Looks at everything once. PodResources was read before this step: what was given since is a young claim.
fn see(
    host: &dyn Host,
    world: &NodeWorld,
    state: &SriovNetworkNodeState,
    now: Timestamp,
) -> Result<Seen, String> {
    let pods = world.pods.as_ref().ok_or(
        "the kubelet's PodResources does not answer, so nobody knows which devices pods hold; nothing is changed",
    )?;
    let boot_id = observe::boot_id(host).map_err(in_full)?;
    let found = custody::read_offer(host, &boot_id);
    let claims = custody::read_claims(host, &boot_id).good();
    let journal = journalled(host)?;
    let no_claims = Claims::default();
    let known = claims.as_ref().unwrap_or(&no_claims);
    let holders: Vec<Holder> = holders::join(pods, &journal, known, now);
    let mut inventory = observe::observe(host, holders).map_err(in_full)?;
    let on_host = std::mem::take(&mut inventory.reboots);
    inventory.reboots = ledger::union(&on_host, &state.status.reboots, &boot_id);
    save_initial_mode(host, state, &mut inventory).map_err(|refusal| refusal.to_string())?;
    let acknowledgement = Acknowledgement::of(claims.as_ref(), custody::device_plugin_absent(host));
    let offered = offered(&found, &acknowledgement, &inventory);
    let drain_disabled = world.config.spec.disable_drain;
    let turn = Turn::of(world.desired_state(), world.current_state(), drain_disabled);
    let offer = found.good();
    let sequence = offer.as_ref().map_or(0, |offer| offer.sequence);
    Ok(Seen {
        inventory,
        permission: Permission { turn, offered },
        offer,
        sequence: sequence.max(acknowledgement.sequence.unwrap_or_default()),
        on_host,
    })
}

fn in_full(error: ObserveError) -> String {
    format!("{error}: {}", error.source)
}

/// Where our offer is gone and a device plugin still acts on it, every device may be given away.
fn offered(
    found: &Found<Offer>,
    acknowledgement: &Acknowledgement,
    inventory: &Inventory,
) -> BTreeSet<PciAddress> {
    match found {
        Found::Good(offer) => fence::offered(offer, acknowledgement),
        Found::Missing | Found::Bad(_) if acknowledgement.none_in_force() => BTreeSet::new(),
        Found::Missing | Found::Bad(_) => {
            let functions = inventory.physical_functions.iter();
            functions.flat_map(|pf| pf.vfs.iter().map(|vf| vf.pci).chain([pf.pci])).collect()
        }
    }
}

/// Devices that the CNI has and that our own kind of address names. A record that cannot be read holds its device too.
fn journalled(host: &dyn Host) -> Result<Vec<Holder>, String> {
    let records = journal::list(host).map_err(|error| error.to_string())?;
    records
        .into_iter()
        .map(|record| {
            let record = record.map_err(|error| error.to_string())?;
            Ok(Holder {
                device: record.device,
                resource: String::new(),
                namespace: record.owner.pod_namespace,
                pod: record.owner.pod_name,
                uid: record.owner.pod_uid,
            })
        })
        .collect()
}

/// Saves, once, the mode that the node had before us. The mirror knows better than a new disk.
fn save_initial_mode(
    host: &dyn Host,
    state: &SriovNetworkNodeState,
    inventory: &mut Inventory,
) -> Result<(), Refusal> {
    if inventory.initial_rdma_mode.is_none() {
        inventory.initial_rdma_mode = state.status.initial_rdma_mode.or(inventory.rdma.mode);
        if let Some(mode) = inventory.initial_rdma_mode {
            ledger::save_initial_mode(host, mode)?;
        }
    }
    Ok(())
}

fn write_ledger(host: &dyn Host, seen: &Seen, plan: &Plan) -> Result<(), Refusal> {
    match plan.ledger == seen.on_host {
        true => Ok(()),
        false => ledger::write(host, &plan.ledger),
    }
}

/// Why each device is withdrawn: because of the first step that touches it, or of the drain that is under way.
fn withdrawn(plan: &Plan) -> Withdrawn {
    let because = |pci: &PciAddress| {
        let mut steps = plan.steps.iter().chain(&plan.later);
        let step = steps.find(|step| step.touches.contains(pci));
        step.map_or("the node is drained for a reboot".to_owned(), |step| step.because.clone())
    };
    plan.withdraw.iter().map(|pci| (*pci, because(pci))).collect()
}

/// Runs the steps of a plan, lane by lane: a failure ends its lane, and so does what asks for a fresh look.
fn run(host: &dyn Host, steps: &[&Step], failed: &mut BTreeMap<Lane, String>) {
    let mut stale = BTreeSet::new();
    for step in steps {
        // The node's own steps are alone: what comes after them in the plan relies on them.
        let barred = stale.contains(&step.lane) || stale.contains(&Lane::Node);
        if barred || failed.contains_key(&step.lane) || failed.contains_key(&Lane::Node) {
            continue;
        }
        match apply::step(host, step) {
            Ok(()) => tracing::info!(because = step.because, "{}", step.action),
            Err(error) => {
                tracing::warn!(because = step.because, "{error}");
                failed.insert(step.lane, error);
            }
        }
        if step.action.needs_fresh_eyes() {
            stale.insert(step.lane);
        }
    }
}

/// The way to a reboot: booked in the API, then every lever, then booked on the disk, then asked for.
fn reboot(
    host: &dyn Host,
    state: &SriovNetworkNodeState,
    desired: &Desired,
    seen: Seen,
    plan: &Plan,
    booked: Vec<RebootRecord>,
    failed: &mut BTreeMap<Lane, String>,
) -> Report {
    let is_mirrored = ledger::is_mirrored(&booked, &state.status.reboots);
    if is_mirrored {
        let asked = carry_out(host, &plan.steps, &booked);
        if let Err(error) = asked {
            failed.insert(Lane::Node, error);
        }
    }
    let mut report = report(desired, seen, plan, std::mem::take(failed));
    report.rebooting = is_mirrored && report.progress.errors.is_empty();
    report.booking = !is_mirrored;
    if let Some(inventory) = &mut report.inventory {
        inventory.reboots = booked;
    }
    report
}

fn carry_out(host: &dyn Host, steps: &[Step], booked: &[RebootRecord]) -> Result<(), String> {
    for step in steps.iter().filter(|step| step.lane == Lane::Node) {
        if matches!(step.action, planner::Action::Reboot { .. }) {
            let refused = |refusal| {
                format!("{refusal}; the node is not rebooted while the ledger cannot be written")
            };
            ledger::write(host, booked).map_err(refused)?;
        }
        apply::step(host, step)?;
        tracing::info!(because = step.because, "{}", step.action);
    }
    Ok(())
}

fn report(desired: &Desired, seen: Seen, plan: &Plan, failed: BTreeMap<Lane, String>) -> Report {
    let mut inventory = seen.inventory;
    inventory.reboots = plan.ledger.clone();
    Report {
        progress: Progress {
            at_goal: plan.is_done() && failed.is_empty(),
            blockers: plan.blockers.clone(),
            problems: desired.problems.clone(),
            errors: failed.into_values().collect(),
        },
        inventory: Some(inventory),
        request: Some(plan.request),
        booking: false,
        rebooting: false,
    }
}

impl Report {
    /// Nothing could be seen: what the API knows stays, and nothing is asked for or given back.
    fn blind(why: impl Into<String>) -> Self {
        Self {
            progress: Progress::broken(why),
            inventory: None,
            request: None::<DrainRequest>,
            booking: false,
            rebooting: false,
        }
    }
}

#[cfg(test)]
#[path = "daemon_tests.rs"]
mod tests;
