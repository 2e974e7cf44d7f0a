//! The world at rest: every node at its goal or saying why not, and nothing of ours left behind.

use super::faults::Fault;
use super::run::ignores_writes;
use super::story::Story;
use crate::cluster::cluster::Cluster;
use crate::cluster::objects::{self, items, text, texts};
use crate::cluster::power::NodeSlot;
use crate::store::Store;
use api::wire::ObjectKey;
use api::{RdmaMode, annotation, names};
use host::sim::Fault as Kernel;
use planner::Reason;
use planner::rollout::{HALTED, LISTED, PAUSED};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that the end is judged by.
pub struct End<'a> {
    pub cluster: &'a Cluster,
    pub store: &'a Store,
    pub story: &'a Story,
    /// Machines that stay down: the API says NotReady of them, and that is why.
    pub lost: &'a BTreeSet<String>,
    pub struck: &'a BTreeSet<Fault>,
}

impl End<'_> {
    pub fn check(&self) -> Result<(), String> {
        let stranded = self.is_stranded();
        let excused = self.excused();
        for (name, slot) in &self.cluster.nodes {
            if self.lost.contains(name) {
                continue;
            }
            self.cordon_of_others(name)?;
            if stranded {
                continue;
            }
            if self.story.leaver(name).is_some_and(|leaver| !leaver.is_ours()) {
                self.left(name)?;
                continue;
            }
            let state = self.state(name).ok_or(format!("node {name} has no node state"))?;
            let own = excused.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let left = self.left_to_do(name, slot, state);
            if let Some(left) = &left
                && own.is_empty()
                && self.turn_that_does_not_come(name, state, &excused).is_empty()
            {
                return Err(format!("{left}; what it says: {:?}", said(state)));
            }
            let is_kept = own.iter().any(|reason| KEPT.contains(reason));
            if let Some(left) = self.left_behind(name, state, left.is_some()).filter(|_| !is_kept) {
                return Err(format!("{left}; what it says: {:?}", said(state)));
            }
        }
        match stranded {
            true => Ok(()),
            false => self.grants(&excused),
        }
    }

    /// Grants are left with those alone that are kept where they are.
    fn grants(&self, excused: &Excused) -> Result<(), String> {
        for kind in [names::POOL, names::OPERATOR_CONFIG] {
            for object in self.store.objects(names::API_VERSION, kind) {
                let granted = items(object, "/status/grants").iter();
                let mut granted = granted.map(|grant| text(grant, "/node"));
                let is_kept = |node: &str| {
                    self.lost.contains(node)
                        || excused.get(node).is_some_and(|own| own.iter().any(|r| KEPT.contains(r)))
                };
                if let Some(node) = granted.find(|node| !is_kept(node)) {
                    let name = objects::name(object);
                    return Err(format!("{kind} {name} still holds the grant of {node}"));
                }
            }
        }
        Ok(())
    }

    /// The nodes that are at their goal: nothing is to be done there any more, whatever became of others.
    pub fn at_goal(&self) -> BTreeSet<String> {
        let nodes = self.cluster.nodes.iter().filter(|(name, slot)| {
            let leaves = self.story.leaver(name).is_some_and(|leaver| !leaver.is_ours());
            let state = self.state(name).filter(|_| !leaves && !self.lost.contains(*name));
            state.is_some_and(|state| self.left_to_do(name, slot, state).is_none())
        });
        nodes.map(|(name, _)| name.clone()).collect()
    }

    fn state(&self, name: &str) -> Option<&Arc<Value>> {
        let key = ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, name);
        self.store.object(&key)
    }

    /// The nodes that say of themselves what keeps them from their goal for good, and to which just that has happened.
    fn excused(&self) -> Excused<'_> {
        let mut excused = Excused::new();
        for (name, slot) in &self.cluster.nodes {
            let Some(state) = self.state(name) else { continue };
            let own = among(self.may_say(name, slot), state);
            if !own.is_empty() {
                excused.insert(name, own);
            }
        }
        // These speak of other nodes: one that is lost, kept by an administrator, or held up itself.
        let elsewhere =
            !self.lost.is_empty() || self.story.cordoned.is_some() || !excused.is_empty();
        let control_planes = self.story.extras.control_plane > 1;
        for name in self.cluster.nodes.keys().filter(|_| elsewhere) {
            let Some(state) = self.state(name) else { continue };
            let busy = control_planes.then_some(Reason::ControlPlaneBusy);
            let may = [Reason::NoPlaceForOperator].into_iter().chain(busy).collect();
            let own = among(may, state);
            if !own.is_empty() {
                excused.entry(name).or_default().extend(own);
            }
        }
        excused
    }

    /// What a node may give for a reason, by what struck it and does not pass.
    fn may_say(&self, name: &str, slot: &NodeSlot) -> Vec<Reason> {
        let machine = slot.kubelet.host.machine();
        let has = |fault: Kernel| machine.faults.contains(&fault);
        let extras = &self.story.extras;
        let goal = self.story.mode_of(name);
        let argument = extras.argument.as_deref() == Some(name) && goal == RdmaMode::Exclusive;
        let deaf =
            has(Kernel::IgnoresKernelArgument) || machine.functions.values().any(ignores_writes);
        let budget = self.struck.contains(&Fault::StuckBudget);
        let policy = extras.drain.as_ref().map(|drain| text(drain, "/onDeadline"));
        let reasons = [
            (deaf, Reason::RebootDidNotHelp),
            (deaf || slot.reboots >= REBOOTS_A_DAY, Reason::TooManyReboots),
            (has(Kernel::IgnoresReboot), Reason::RebootDidNotHappen),
            (argument, Reason::KernelArgumentContradicts),
            (self.story.guarded(name).is_some(), Reason::Lifeline),
            (budget, Reason::DisruptionBudget),
            (budget, Reason::DrainDeadline),
            (policy == Some("skipNode"), Reason::DrainSkipped),
        ];
        reasons.into_iter().filter(|(may, _)| *may).map(|(_, reason)| reason).collect()
    }

    /// True where administrators keep every node that is not down for good, and the operator's pod was lost: the pod says
    /// why it is Pending, and no cordon of theirs is ours to undo.
    fn is_stranded(&self) -> bool {
        let waits = |pod: &Arc<Value>| {
            objects::namespace(pod) == names::NAMESPACE
                && text(pod, "/spec/serviceAccountName") == "sriov-network-operator"
                && objects::condition(pod, "PodScheduled") == "False"
        };
        let is_no_place =
            |node: &Arc<Value>| is_kept(node) || self.lost.contains(objects::name(node));
        self.store.objects("v1", "Node").all(is_no_place)
            && self.store.objects("v1", "Pod").any(waits)
    }

    /// What of the goal is missing on a node.
    fn left_to_do(&self, name: &str, slot: &NodeSlot, state: &Value) -> Option<String> {
        let machine = slot.kubelet.host.machine();
        let goal = self.story.mode_of(name);
        if machine.rdma.mode != Some(goal) {
            return Some(format!("node {name} is in mode {:?} and not {goal}", machine.rdma.mode));
        }
        let pf = machine.functions.keys().find(|pci| pci.to_string() == "0000:03:00.0");
        let vfs = pf.map_or(0, |pf| machine.vfs_of(pf).len());
        let wanted = self.story.vfs_of(name);
        if let Some(wanted) = wanted.filter(|wanted| *wanted as usize != vfs) {
            return Some(format!("node {name} has {vfs} VFs and not {wanted}"));
        }
        let (_, healthy) =
            slot.kubelet.devices.capacity().remove("openshift.io/rdma").unwrap_or_default();
        if let Some(wanted) = wanted.filter(|wanted| *wanted as usize != healthy) {
            return Some(format!("node {name} offers {healthy} VFs and not {wanted}"));
        }
        if let Some(lives) = self.story.guarded(name) {
            return lives.unsaid(state);
        }
        let status = text(state, "/status/syncStatus");
        (status != "Succeeded").then(|| format!("node {name} is {status:?}"))
    }

    /// A node that has left our management keeps its VFs and its mode, and nothing else of ours.
    fn left(&self, name: &str) -> Result<(), String> {
        let node = self.store.object(&ObjectKey::new("v1", "Node", "", name));
        let node = node.ok_or(format!("node {name} has no Node"))?;
        let kept = texts(node, "/metadata/annotations").contains_key(annotation::CORDONED_BY_US);
        let labelled = texts(node, "/metadata/labels").contains_key(api::label::DEVICE_PLUGIN);
        let agents = self.store.objects("v1", "Pod").filter(|pod| {
            text(pod, "/spec/nodeName") == name
                && objects::namespace(pod) == names::NAMESPACE
                && text(pod, "/spec/serviceAccountName") != "sriov-network-operator"
        });
        let agents: Vec<&str> = agents.map(|pod| objects::name(pod)).collect();
        let ours = |taint: &Value| text(taint, "/key").starts_with("ironrail.dev/");
        if items(node, "/spec/taints").iter().any(ours) {
            return Err(format!("node {name}, which has left, has a taint of ours"));
        }
        match (kept, labelled, agents.as_slice()) {
            (true, ..) => Err(format!("node {name}, which has left, is cordoned by us")),
            (_, true, _) => Err(format!("node {name}, which has left, has our label")),
            (_, _, [first, ..]) => Err(format!("{first} runs on node {name}, which has left")),
            _ => self.cordon_of_others(name),
        }
    }

    /// What of ours was not taken away; who waits may ask for his turn, and is not ready for pods that ask for it.
    fn left_behind(&self, name: &str, state: &Value, waits: bool) -> Option<String> {
        let annotations = texts(state, "/metadata/annotations");
        let keys = [annotation::CURRENT_STATE, annotation::DESIRED_STATE];
        for key in keys.iter().take(if waits { 1 } else { 2 }) {
            if let Some(value) = annotations.get(*key).filter(|value| **value != annotation::IDLE) {
                return Some(format!("node state {name} is left with {key} = {value}"));
            }
        }
        let node = self.store.object(&ObjectKey::new("v1", "Node", "", name))?;
        let cordoned = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
        if cordoned && self.story.cordoned.as_deref() != Some(name) {
            return Some(format!("node {name} is left cordoned"));
        }
        // What is refused for the host's sake leaves the node not ready for pods that ask for it.
        if waits || self.story.guarded(name).is_some() {
            return None;
        }
        let ours = |taint: &Value| text(taint, "/key").starts_with("ironrail.dev/");
        let taint = items(node, "/spec/taints").iter().any(ours);
        taint.then(|| format!("node {name} is left with a taint of ours"))
    }

    /// True where a turn may never come, since somebody or something holds the others up for good.
    fn is_stopped(&self, excused: &Excused) -> bool {
        let pools = || self.store.objects(names::API_VERSION, names::POOL);
        let of = |pool: &Value, list: &str| -> Vec<String> {
            items(pool, list).iter().map(|one| text(one, "/node").to_owned()).collect()
        };
        let phase = |pool: &Value, phase: &str| text(pool, "/status/rollout/phase") == phase;
        let is_struck =
            |node: &String| self.lost.contains(node) || excused.contains_key(node.as_str());
        let halted = |pool: &Arc<Value>| {
            phase(pool, HALTED) && of(pool, "/status/rollout/failures").iter().any(is_struck)
        };
        let rollout = self.story.extras.rollout.as_ref();
        let pauses = rollout.is_some_and(|rollout| rollout["pauseAfterCanary"] == true);
        let drain = self.story.extras.drain.as_ref();
        let skips = drain.is_some_and(|drain| drain["onDeadline"] == "skipNode");
        !self.lost.is_empty()
            || self.story.cordoned.is_some()
            || !excused.is_empty()
            || pools().any(halted)
            || pools().any(|pool| pauses && phase(pool, PAUSED))
            || pools().any(|pool| skips && !of(pool, "/status/skipped").is_empty())
    }

    /// As its pool lists it, or as the pool says of all where its list is full; of a node without a pool, its own state.
    fn turn_that_does_not_come(&self, name: &str, state: &Value, excused: &Excused) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.is_stopped(excused) {
            return reasons;
        }
        for pool in self.store.objects(names::API_VERSION, names::POOL) {
            let waiting = items(pool, "/status/waiting").iter();
            let own = waiting.filter(|entry| text(entry, "/node") == name);
            reasons.extend(own.map(|entry| text(entry, "/because").to_owned()));
            let is_full = items(pool, "/status/waiting").len() == LISTED;
            if reasons.is_empty() && is_full && self.story.leaver(name).is_none() {
                let said = items(pool, "/status/conditions").iter();
                let of_all = said.filter(|c| c["type"] == "Ready" && c["status"] == "False");
                reasons.extend(of_all.map(|condition| text(condition, "/message").to_owned()));
            }
        }
        let own = items(state, "/status/conditions").iter();
        let waits = own.filter(|c| c["type"] == "WaitingForTurn" && c["status"] == "True");
        reasons.extend(waits.map(|condition| text(condition, "/message").to_owned()));
        reasons
    }

    /// An administrator's cordon is not ours to undo; a meddling user may have undone it himself.
    fn cordon_of_others(&self, name: &str) -> Result<(), String> {
        let meddled = self.struck.contains(&Fault::UserMeddles) && self.story.meddles_with(name);
        if self.story.cordoned.as_deref() != Some(name) || meddled {
            return Ok(());
        }
        let node = self.store.object(&ObjectKey::new("v1", "Node", "", name));
        match node.and_then(|node| node.pointer("/spec/unschedulable")) {
            Some(Value::Bool(true)) => Ok(()),
            _ => Err(format!("node {name} is no longer cordoned, and it was not ours to undo")),
        }
    }
}

/// True for a node that an administrator has cordoned.
fn is_kept(node: &Arc<Value>) -> bool {
    node.pointer("/spec/unschedulable") == Some(&Value::Bool(true))
        && !texts(node, "/metadata/annotations").contains_key(annotation::CORDONED_BY_US)
}

/// The nodes that have an excuse, each with the reasons that it may give and gives.
type Excused<'a> = BTreeMap<&'a str, Vec<Reason>>;

/// Reboots of one day after which the ledger leaves the next one to a person.
const REBOOTS_A_DAY: u32 = 3;

/// Reasons for which a node is kept as it is, drained or in its drain; for any other the drain is given up and undone.
const KEPT: [Reason; 5] = [
    Reason::RebootDidNotHappen,
    Reason::DisruptionBudget,
    Reason::DrainDeadline,
    Reason::NoPlaceForOperator,
    Reason::ControlPlaneBusy,
];

/// Those of the reasons that the node state gives.
fn among(may: Vec<Reason>, state: &Value) -> Vec<Reason> {
    let says = said(state);
    may.into_iter().filter(|may| says.contains(&may.as_str())).collect()
}

/// The reasons that a node state gives, of its blockers and of its drain.
fn said(state: &Value) -> Vec<&str> {
    let blockers = items(state, "/status/blockers").iter();
    let drained = items(state, "/status/conditions").iter();
    let drained = drained.filter(|c| c["type"] == "Drained" && c["status"] == "False");
    blockers.chain(drained).map(|one| text(one, "/reason")).collect()
}
