//! Which pods must leave a node before it is changed, which may stay, and who stands in the way.
//!
//! For devices: the pods that hold one that is in the way, once nobody can be given one any more. For a reboot: all, as
//! `kubectl drain --ignore-daemonsets` does it. Evicting itself, and what the API answers, is the operator's.

use crate::afterwards::Afterwards;
use crate::blocker::Blocker;
use crate::deadline::{DrainPolicy, OnDeadline};
use crate::order::DrainRequest;
use api::Timestamp;
use api::custody::Holder;
use api::nodestate::{DrainStatus, HOLDERS_LISTED};
use std::collections::{BTreeMap, BTreeSet};

/// One pod of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainPod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Phase Succeeded or Failed: its containers hold nothing any more.
    pub finished: bool,
    /// Controlled by a DaemonSet, which makes it again on the same node.
    pub daemon_set: bool,
    /// A static pod's mirror: the API cannot remove it.
    pub mirror: bool,
    /// Has a deletion timestamp.
    pub terminating: bool,
    /// Its grace period is over, and it had time beyond that.
    pub outstays: bool,
    pub finalizers: Vec<String>,
    /// What made it: `ReplicaSet web`; empty for a pod that nobody makes again.
    pub owner: String,
    /// Extended resources that its containers request, init containers included: `openshift.io/rdma`.
    pub resources: BTreeSet<String>,
    /// It has a claim that a DRA driver answers; of which devices, only the daemon knows.
    pub has_claims: bool,
}

impl DrainPod {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Why most pods stay.
const HOLDS_NOTHING: &str = "it holds no device";

/// How many pods that stay a sentence names.
const STAYING_SHOWN: usize = 3;

/// What is known about a node that is to be drained.
#[derive(Debug, Clone, Default)]
pub struct DrainFacts {
    pub node: String,
    pub request: DrainRequest,
    /// What the pool of the grant says.
    pub policy: DrainPolicy,
    /// The deadline is over.
    pub overdue: bool,
    /// `SriovOperatorConfig.spec.disableDrain`.
    pub disabled: bool,
    /// `namespace/name` of the operator's own pod, where it is known.
    pub operator_pod: String,
    /// No other node could take that pod now.
    pub operator_has_no_place: bool,
    /// The pod is on its way from another node, or will be: it ends, or we cordoned its node.
    pub operator_moves: bool,
    /// All pods on the node.
    pub pods: Vec<DrainPod>,
    /// `NodeState.status.holders`.
    pub holders: Vec<Holder>,
    /// `NodeState.status.drain`; None while the daemon has not said anything to this drain.
    pub fence: Option<DrainStatus>,
    /// The daemon has had the time to say it.
    pub fence_is_late: bool,
    /// `openshift.io` by default.
    pub resource_prefix: String,
    /// Nodes in the cluster, managed or not.
    pub nodes_in_cluster: usize,
    /// By uid of the pod: what the API answered last, when it refused to let it go.
    pub refusals: BTreeMap<String, Refusal>,
}

/// What the API refused about one pod, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A disruption budget forbids the eviction now.
    Budget(String),
    /// The eviction was refused for another reason: two budgets at once, a webhook.
    Eviction(String),
    /// It may not even be deleted.
    Deletion(String),
}

/// A pod that must go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub because: String,
}

/// How a node is drained now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drain {
    /// New pods must not come. False on a single node, which would have nowhere to put them back.
    pub cordon: bool,
    /// Pods to evict now, by namespace and name. Refused ones are in here too: they are tried again.
    pub evict: Vec<Eviction>,
    /// Pods to delete past their disruption budgets.
    pub force: Vec<Eviction>,
    /// Pods that stay, each with why.
    pub stay: Vec<(String, String)>,
    pub blockers: Vec<Blocker>,
}

impl Drain {
    /// True when every pod that must go has gone.
    pub fn is_complete(&self) -> bool {
        !self.sends_away() && self.blockers.is_empty()
    }

    /// Which pods stay although one might look for them among those that go, for people: the first few.
    pub fn staying(&self) -> Option<String> {
        let remarkable = self.stay.iter().filter(|(_, why)| why != HOLDS_NOTHING);
        let all: Vec<String> =
            remarkable.map(|(pod, why)| format!("pod {pod} stays: {why}")).collect();
        let more = match all.len().saturating_sub(STAYING_SHOWN) {
            0 => String::new(),
            more => format!("; {more} more stay"),
        };
        let first = all[..all.len().min(STAYING_SHOWN)].join("; ");
        (!all.is_empty()).then(|| format!("{first}{more}"))
    }

    /// True when a pod is to be evicted or deleted now.
    pub fn sends_away(&self) -> bool {
        !self.evict.is_empty() || !self.force.is_empty()
    }
}

/// Plans the drain of one node.
pub fn plan(facts: &DrainFacts) -> Drain {
    let single = facts.nodes_in_cluster == 1;
    if is_skipped(facts, single) {
        return Drain::default();
    }
    let mut drain = Drain { cordon: !single && !facts.disabled, ..Drain::default() };
    // With the last place cordoned too, nobody would be left who could uncordon any.
    if drain.cordon && facts.operator_moves && facts.operator_has_no_place {
        let (node, pod) = (facts.node.clone(), facts.operator_pod.clone());
        let last = Blocker::LastPlaceForOperator { node, pod };
        let blockers = deadline(facts).into_iter().chain([last]).collect();
        return Drain { blockers, ..Drain::default() };
    }
    let mut pods: Vec<&DrainPod> = facts.pods.iter().filter(|pod| !pod.finished).collect();
    pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
    for pod in pods {
        match must_go(facts, pod) {
            Err(why) => drain.stay.push((pod.key(), why)),
            // Sent away earlier, it could come again and be given a device that is about to change.
            Ok(_) if waits_for_fence(facts, pod) => hold_back(&mut drain, facts),
            Ok(because) => go(&mut drain, facts, pod, because),
        }
    }
    if facts.request == DrainRequest::Drain {
        unnamed(&mut drain, facts);
        drain.blockers.extend(facts.pods.iter().filter_map(|pod| unmovable(facts, pod)));
    }
    operator_first(&mut drain, facts);
    let stuck = match forces(facts) {
        // What is forced now, or ends within its grace period, is on its way.
        true => drain.blockers.iter().any(|blocker| !ends_soon(blocker)),
        false => !drain.evict.is_empty() || !drain.blockers.is_empty(),
    };
    let late = deadline(facts).filter(|_| stuck);
    late.into_iter().for_each(|late| drain.blockers.insert(0, late));
    drain
}

/// What is said loudly of a drain that is overdue. A node that is skipped then is listed by its pool instead.
pub fn deadline(facts: &DrainFacts) -> Option<Blocker> {
    let (node, deadline) = (facts.node.clone(), facts.policy.deadline);
    let loud = facts.overdue && facts.policy.on_deadline != OnDeadline::SkipNode;
    loud.then(|| Blocker::DrainDeadline { node, deadline, forced: forces(facts) })
}

/// The same of a node that is drained and not done at the deadline. One that its pool may give up is listed there.
pub fn not_done(facts: &DrainFacts, afterwards: &Afterwards, now: Timestamp) -> Option<Blocker> {
    let skips = facts.policy.on_deadline == OnDeadline::SkipNode && afterwards.may_be_given_up(now);
    (facts.overdue && !skips).then(|| Blocker::DrainedNotDone {
        node: facts.node.clone(),
        deadline: facts.policy.deadline,
        waits_for: afterwards.waits_for(now),
    })
}

fn ends_soon(blocker: &Blocker) -> bool {
    matches!(blocker, Blocker::PodTerminating { outstays: false, .. })
}

/// True where nobody has to go: nothing is asked for; the reboot of the only node, which has no other place for its
/// pods, so that the boot stops and starts them (upstream's rule); or the reboot of a node whose pool wants force in
/// a cluster without drains.
fn is_skipped(facts: &DrainFacts, single: bool) -> bool {
    match facts.request {
        DrainRequest::Idle => true,
        DrainRequest::Reboot => single || (facts.disabled && forces(facts)),
        DrainRequest::Drain => false,
    }
}

/// The taints (all of effect NoSchedule) that the operator's Deployment in `deploy/install.yaml` tolerates.
pub const OPERATOR_TOLERATES: [&str; 3] =
    [api::label::CONTROL_PLANE, api::label::MASTER, api::names::NOT_READY];

/// True for a taint because of which the scheduler would not put the operator's pod on a node.
pub fn keeps_operator_away(key: &str, effect: &str) -> bool {
    effect == "NoExecute" || (effect == "NoSchedule" && !OPERATOR_TOLERATES.contains(&key))
}

/// True for a pod with a device, or a claim to one, while any could still be given to the next pod.
fn waits_for_fence(facts: &DrainFacts, pod: &DrainPod) -> bool {
    let fenced = facts.fence.as_ref().is_some_and(|fence| fence.fenced);
    let is_left_alone = facts.disabled && !forces(facts);
    !fenced
        && !is_left_alone
        && !pod.terminating
        && (!held_by(facts, pod).is_empty()
            || asks_for(facts, pod).is_some()
            || may_hold_by_claim(facts, pod))
}

fn hold_back(drain: &mut Drain, facts: &DrainFacts) {
    let node = facts.node.clone();
    let blocker = match facts.fence_is_late {
        true => Blocker::FenceMissing { node },
        false => Blocker::WaitingForFence { node },
    };
    if !drain.blockers.contains(&blocker) {
        drain.blockers.push(blocker);
    }
}

/// A static pod with a device that is to change: only a person ends it. A reboot stops it as it stops all.
fn unmovable(facts: &DrainFacts, pod: &DrainPod) -> Option<Blocker> {
    let fence = facts.fence.as_ref().filter(|_| pod.mirror && !pod.finished)?;
    let held = held_by(facts, pod);
    let in_the_way: Vec<String> =
        held.into_iter().filter(|device| fence.devices.contains(device)).collect();
    (!in_the_way.is_empty()).then(|| Blocker::EvictionRefused {
        pod: pod.key(),
        owner: String::new(),
        message: format!(
            "it holds {} and is a static pod, which the API cannot end; take its manifest off the node",
            crate::blocker::list(&in_the_way)
        ),
        forced: false,
    })
}

/// A device that was given away and whose pod the kubelet does not name yet: it is waited for. Before a reboot all pods
/// go, so there it does not matter whose it is.
fn unnamed(drain: &mut Drain, facts: &DrainFacts) {
    let in_the_way = facts.fence.iter().flat_map(|fence| &fence.devices);
    for device in in_the_way {
        let nameless =
            |holder: &Holder| holder.device == *device && holder.pod_in_words().is_none();
        if facts.holders.iter().any(nameless)
            && let Ok(device) = device.parse()
        {
            drain.blockers.push(Blocker::DeviceHeld { device, pod: String::new() });
        }
    }
}

fn forces(facts: &DrainFacts) -> bool {
    facts.policy.on_deadline == OnDeadline::Force
}

/// How a pod goes that must go: by eviction, by force, or not by us.
fn go(drain: &mut Drain, facts: &DrainFacts, pod: &DrainPod, because: String) {
    if pod.terminating {
        let finalizers = pod.finalizers.clone();
        let (pod, outstays) = (pod.key(), pod.outstays);
        drain.blockers.push(Blocker::PodTerminating { pod, finalizers, outstays });
        return;
    }
    let eviction = Eviction {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        because,
    };
    if facts.disabled && !forces(facts) {
        let devices = held_by(facts, pod);
        drain.blockers.push(Blocker::DrainDisabled { pod: pod.key(), devices });
        return;
    }
    let refusal = facts.refusals.get(&pod.uid);
    let force = facts.disabled || (refusal.is_some() && facts.overdue && forces(facts));
    // What force has not been tried against is no blocker yet.
    let stands = refusal.filter(|refusal| !force || matches!(refusal, Refusal::Deletion(_)));
    drain.blockers.extend(stands.map(|refusal| refused(pod, refusal)));
    match force {
        true => drain.force.push(eviction),
        false => drain.evict.push(eviction),
    }
}

fn refused(pod: &DrainPod, refusal: &Refusal) -> Blocker {
    let (name, owner) = (pod.key(), pod.owner.clone());
    match refusal {
        Refusal::Budget(message) => {
            Blocker::DisruptionBudget { pod: name, owner, message: message.clone() }
        }
        Refusal::Eviction(message) => {
            Blocker::EvictionRefused { pod: name, owner, message: message.clone(), forced: false }
        }
        Refusal::Deletion(message) => {
            Blocker::EvictionRefused { pod: name, owner, message: message.clone(), forced: true }
        }
    }
}

/// The operator moves before all others, so that it does not lose its own drain half-way: whoever leads next goes on
/// with it from another node. Where there is none it stays, and so do the others: it may take long.
fn operator_first(drain: &mut Drain, facts: &DrainFacts) {
    let is_ours = |eviction: &Eviction| {
        format!("{}/{}", eviction.namespace, eviction.pod) == facts.operator_pod
    };
    let leaving = |blocker: &Blocker| matches!(blocker, Blocker::PodTerminating { pod, .. } if *pod == facts.operator_pod);
    if drain.blockers.iter().any(leaving) {
        drain.evict.clear();
        drain.force.clear();
    } else if drain.evict.iter().chain(&drain.force).any(is_ours) {
        drain.evict.retain(is_ours);
        drain.force.retain(is_ours);
        if facts.operator_has_no_place {
            let (node, pod) = (facts.node.clone(), facts.operator_pod.clone());
            drain.evict.clear();
            drain.force.clear();
            drain.blockers = vec![Blocker::NoPlaceForOperator { node, pod }];
            return;
        }
        for ours in drain.evict.iter_mut().chain(&mut drain.force) {
            ours.because = "it is the operator, which moves before it drains the rest".to_owned();
        }
    }
}

/// Why a pod must go, or why it may stay.
fn must_go(facts: &DrainFacts, pod: &DrainPod) -> Result<String, String> {
    if pod.mirror {
        return Err("it is a static pod, which the API cannot evict".to_owned());
    }
    let held = held_by(facts, pod);
    if facts.disabled && held.is_empty() {
        return Err("disableDrain is set, and it holds no device".to_owned());
    }
    if facts.request == DrainRequest::Reboot && !facts.disabled {
        return match pod.daemon_set {
            true => Err("its DaemonSet would make it again on this node".to_owned()),
            false => Ok("the node is drained for a reboot".to_owned()),
        };
    }
    let fence = facts.fence.as_ref().filter(|fence| fence.fenced);
    let Some(fence) = fence.filter(|_| facts.holders.len() < HOLDERS_LISTED) else {
        // Nobody knows yet which devices have to become free, or all of who holds them.
        return match (held.is_empty(), asks_for(facts, pod)) {
            (false, _) => Ok(format!("it holds {}", crate::blocker::list(&held))),
            (true, Some(resource)) => Ok(format!("it asks for {resource}")),
            (true, None) if may_hold_by_claim(facts, pod) => Ok(format!(
                "it has a resource claim, and the node lists no more than {HOLDERS_LISTED} of its devices with their pods"
            )),
            (true, None) => Err(HOLDS_NOTHING.to_owned()),
        };
    };
    let in_the_way: Vec<String> =
        held.iter().filter(|device| fence.devices.contains(device)).cloned().collect();
    match (in_the_way.is_empty(), held.is_empty()) {
        (false, _) => Ok(format!("it holds {}", crate::blocker::list(&in_the_way))),
        (true, false) => Err(format!("{} stays as it is", crate::blocker::list(&held))),
        (true, true) => Err(HOLDS_NOTHING.to_owned()),
    }
}

/// Beyond the listed holders a pod with a claim may have a device of ours, of whatever driver.
fn may_hold_by_claim(facts: &DrainFacts, pod: &DrainPod) -> bool {
    pod.has_claims && facts.holders.len() >= HOLDERS_LISTED
}

/// The resource of ours that a pod asks for: it may be given a device between two reports of the daemon.
fn asks_for<'a>(facts: &DrainFacts, pod: &'a DrainPod) -> Option<&'a String> {
    let prefix = format!("{}/", facts.resource_prefix);
    pod.resources.iter().find(|resource| resource.starts_with(&prefix))
}

fn held_by(facts: &DrainFacts, pod: &DrainPod) -> Vec<String> {
    let holders = facts.holders.iter().filter(|holder| is_of(holder, pod));
    holders.map(|holder| holder.device.clone()).collect()
}

/// By uid where the daemon knows it, else by name: a name can be a new pod's, a uid never. A static pod has another uid on
/// its node than its mirror has here.
fn is_of(holder: &Holder, pod: &DrainPod) -> bool {
    match holder.uid.is_empty() || pod.mirror {
        true => {
            !holder.pod.is_empty() && holder.namespace == pod.namespace && holder.pod == pod.name
        }
        false => holder.uid == pod.uid,
    }
}
