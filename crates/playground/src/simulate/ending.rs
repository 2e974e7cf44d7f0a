//! The world at rest: every node at its goal or saying why not, and nothing of ours left behind.

use super::faults::Fault;
use super::story::Story;
use crate::cluster::cluster::Cluster;
use crate::cluster::objects::{self, items, text, texts};
use crate::cluster::power::NodeSlot;
use crate::store::Store;
use api::wire::ObjectKey;
use api::{annotation, names};
use planner::Reason;
use planner::rollout::LISTED;
use serde_json::Value;
use std::collections::BTreeSet;
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
        if self.is_stranded() {
            return Ok(());
        }
        let lasts = self.lasts();
        for (name, slot) in &self.cluster.nodes {
            if self.lost.contains(name) {
                continue;
            }
            if self.story.leaver(name).is_some_and(|leaver| !leaver.is_ours()) {
                self.left(name)?;
                continue;
            }
            let key = ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, name);
            let state = self.store.object(&key).ok_or(format!("node {name} has no node state"))?;
            let left = self.left_to_do(name, slot, state).or_else(|| self.left_behind(name, state));
            if let Some(left) = left {
                // What does not pass may keep a node from its goal, but not from saying so.
                let reasons = self.reasons(name, state);
                if reasons.is_empty() || !lasts {
                    return Err(format!("{left}; what it says: {reasons:?}"));
                }
            }
            self.cordon_of_others(name)?;
        }
        if lasts {
            return Ok(());
        }
        for kind in [names::POOL, names::OPERATOR_CONFIG] {
            for object in self.store.objects(names::API_VERSION, kind) {
                if !items(object, "/status/grants").is_empty() {
                    return Err(format!("{kind} {} still holds grants", objects::name(object)));
                }
            }
        }
        Ok(())
    }

    /// True where something keeps nodes from their goal for good: they wait, and look for it to go.
    pub fn lasts(&self) -> bool {
        self.struck.iter().any(|fault| fault.lasts())
            || self.keeps_the_operator()
            || self.story.extras.lasts(self.story.goal, self.store)
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

    /// True where a drain waits because the operator runs there and has no other place, says so, and an administrator
    /// keeps another node: only he can help.
    fn keeps_the_operator(&self) -> bool {
        let said = Reason::NoPlaceForOperator.as_str();
        let says = |state: &Arc<Value>| {
            let mut conditions = items(state, "/status/conditions").iter();
            conditions.any(|c| c["type"] == "Drained" && c["reason"] == said)
        };
        self.store.objects(names::API_VERSION, names::NODE_STATE).any(says)
            && self.store.objects("v1", "Node").any(is_kept)
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
        match (kept, labelled, agents.as_slice()) {
            (true, ..) => Err(format!("node {name}, which has left, is cordoned by us")),
            (_, true, _) => Err(format!("node {name}, which has left, has our label")),
            (_, _, [first, ..]) => Err(format!("{first} runs on node {name}, which has left")),
            _ => self.cordon_of_others(name),
        }
    }

    /// What of ours was not taken away.
    fn left_behind(&self, name: &str, state: &Value) -> Option<String> {
        let annotations = texts(state, "/metadata/annotations");
        for key in [annotation::DESIRED_STATE, annotation::CURRENT_STATE] {
            if let Some(value) = annotations.get(key).filter(|value| **value != annotation::IDLE) {
                return Some(format!("node state {name} is left with {key} = {value}"));
            }
        }
        let node = self.store.object(&ObjectKey::new("v1", "Node", "", name))?;
        let cordoned = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
        if cordoned && self.story.cordoned.as_deref() != Some(name) {
            return Some(format!("node {name} is left cordoned"));
        }
        // What is refused for the host's sake leaves the node not ready for pods that ask for it.
        if self.story.guarded(name).is_some() {
            return None;
        }
        let ours = |taint: &Value| text(taint, "/key").starts_with("ironrail.dev/");
        let taint = items(node, "/spec/taints").iter().any(ours);
        taint.then(|| format!("node {name} is left with a taint of ours"))
    }

    /// What the API says of why the node is not there yet: what no time ends, or a turn that does not come since another
    /// node, or its pool, is stopped by such a thing. That it is at work, or waits for a drain, explains nothing.
    fn reasons(&self, name: &str, state: &Value) -> Vec<String> {
        let mut reasons = ends(state);
        let others_are_stopped = || {
            let states = self.store.objects(names::API_VERSION, names::NODE_STATE);
            !self.lost.is_empty()
                || self.story.cordoned.is_some()
                || self.story.extras.lasts(self.story.goal, self.store)
                || states
                    .filter(|other| objects::name(other) != name)
                    .any(|other| !ends(other).is_empty())
        };
        if reasons.is_empty() && others_are_stopped() {
            reasons = self.turn_that_does_not_come(name, state);
        }
        reasons
    }

    /// As its pool lists it, or as the pool says of all where its list is full; of a node without a pool, its own state.
    fn turn_that_does_not_come(&self, name: &str, state: &Value) -> Vec<String> {
        let mut reasons = Vec::new();
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

/// Reasons of a node's blockers that stand until a person, or the world, changes.
const ENDS: [Reason; 16] = [
    Reason::RebootDidNotHelp,
    Reason::RebootDidNotHappen,
    Reason::TooManyReboots,
    Reason::RebootDisabled,
    Reason::KernelArgumentContradicts,
    Reason::NoLever,
    Reason::RdmaNotLoaded,
    Reason::FirmwareToolMissing,
    Reason::FirmwareUnreadable,
    Reason::FirmwareRefused,
    Reason::FirmwareWritesDisabled,
    Reason::DpuMode,
    Reason::SriovDisabled,
    Reason::VfLimit,
    Reason::Lifeline,
    Reason::LedgerNotWritten,
];

/// Reasons of the condition `Drained` that do.
const DRAIN_ENDS: [Reason; 5] = [
    Reason::DisruptionBudget,
    Reason::DrainDeadline,
    Reason::NoPlaceForOperator,
    Reason::ControlPlaneBusy,
    Reason::EvictionRefused,
];

/// What of a node state no time ends, in its words.
fn ends(state: &Value) -> Vec<String> {
    let is_one = |all: &[Reason], reason: &str| all.iter().any(|one| one.as_str() == reason);
    let blockers = items(state, "/status/blockers").iter();
    let blockers = blockers.filter(|blocker| is_one(&ENDS, text(blocker, "/reason")));
    let drained = items(state, "/status/conditions").iter().filter(|condition| {
        condition["type"] == "Drained" && is_one(&DRAIN_ENDS, text(condition, "/reason"))
    });
    blockers.chain(drained).map(|said| text(said, "/message").to_owned()).collect()
}
