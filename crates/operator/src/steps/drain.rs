//! One node's drain, by upstream's annotations: from a stored grant over cordon and evictions to DrainComplete, and back.
//!
//! Which pods go is `planner::drain`'s choice, whether the node may be disturbed at all `planner::rollout`'s. The
//! order of the writes is the promise: nothing is cordoned before the grant was seen stored and Draining was written.

mod external;
mod peers;

pub(crate) use external::has_external_drainer;

use super::admitted;
use super::cards;
use super::own_pod::{could_take_operator, operator_moves};
use super::refusal::refusal;
use super::said::say;
use super::{
    DrainState, control_plane_grant_of, drain_state, grant_of, is_used, is_used_for_control_plane,
    key_of_state, machine_config, patch_if_unchanged, pool_of_grant,
};
use crate::conditions::{self, Status, Verdict};
use crate::kinds;
use crate::objects::{Node, Pod};
use crate::queue::{Key, later};
use crate::world::World;
use api::nodestate::SriovNetworkNodeState;
use api::operatorconfig::ControlPlaneGrant;
use api::pool::{Grant, SriovNetworkPoolConfig};
use api::wire::{Answer, Event, ObjectKey, Outcome, Write};
use api::{Timestamp, annotation, names};
use planner::afterwards::Afterwards;
use planner::deadline::DrainPolicy;
use planner::drain::{Drain, DrainFacts, DrainPod, Eviction};
use planner::machine_config::Gate;
use planner::rollout::Progress;
use planner::{Blocker, DrainRequest, Reason};
use serde_json::{Value, json};
use std::time::Duration;

/// Condition of the node state that the operator owns: whether the drain that was asked for is done, and what is in
/// its way.
pub const DRAINED: &str = "Drained";
/// When evictions are tried again that a budget refused, as upstream.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// How long a daemon may take to withdraw its devices before it is worth a person's look: a kubelet tells the API within
/// ten seconds.
const FENCE: Duration = Duration::from_secs(60);

/// How long a pod may stay beyond its grace period: its kubelet kills what is left, and those who set finalizers have to
/// see it.
const OUTSTAYS: Duration = Duration::from_secs(60);

/// How many pods get an event when a drain is blocked.
const TOLD_PODS: usize = 5;

/// Reason of the condition when the API refuses the operator itself.
const REFUSED: &str = "Refused";

/// True for the reasons that a person has to do something about.
pub(crate) fn is_blocked(reason: &str) -> bool {
    let blocked = [
        Reason::DisruptionBudget,
        Reason::DrainDeadline,
        Reason::DrainDisabled,
        Reason::EvictionRefused,
        Reason::PodTerminating,
        Reason::FenceMissing,
        Reason::NoPlaceForOperator,
        Reason::MachineConfigUpdating,
        Reason::MachineConfigUnknown,
        Reason::ControlPlaneBusy,
    ];
    reason == REFUSED || blocked.iter().any(|one| one.as_str() == reason)
}

struct Observed<'a> {
    node: &'a Node,
    state: &'a SriovNetworkNodeState,
    drain: DrainState,
    grant: Option<&'a Grant>,
    /// A control-plane node needs a second grant, of which the cluster has one.
    control_plane: Option<&'a ControlPlaneGrant>,
    /// What OpenShift's machine-config pool of the node says, and the other control-plane nodes; and the write that lets it go on when the node is done.
    gate: Paused,
    /// Why a control-plane node may have no grant of the whole cluster.
    peer: Option<Blocker>,
    resume: Option<Write>,
    /// The drain must be undone, because of what it says.
    abandoned: Option<String>,
    /// Its pool has given the node up at the deadline.
    skipped: bool,
    facts: DrainFacts,
    /// When the drain is overdue; None without a grant.
    deadline: Option<Timestamp>,
    afterwards: Afterwards,
    /// The node's taints with ours, where ours is to be there before a reboot and is not yet.
    taints: Option<Value>,
    /// Of the pods that the node's kubelet did not admit.
    said: Vec<Verdict>,
    /// What the last try was refused with, pods aside: a right that is missing, for one.
    refused: Option<String>,
}

/// Whether the drain may go on: the machine-config pool of the node is held, and no other control-plane node has failed.
enum Paused {
    Enough,
    /// To be done first.
    Not(Option<Write>),
    Waits(Blocker),
}

fn observe<'a>(world: &'a World, name: &str, now: Timestamp) -> Option<Observed<'a>> {
    let node = world.nodes.get(name)?;
    let state = world.node_states.get(name)?;
    let drain = drain_state(node, state);
    let answers = world.answers(&Key::Drain(name.to_owned()));
    let refusals = answers.iter().filter_map(|answered| refusal(world, answered));
    let disabled = world.config.as_ref().is_some_and(|config| config.spec.disable_drain);
    let grant = grant_of(world, name);
    let pool = pool_of_grant(world, name);
    let policy = pool.map(DrainPolicy::of).unwrap_or_default();
    let facts = DrainFacts {
        node: name.to_owned(),
        request: drain.request,
        policy,
        overdue: grant.is_some_and(|grant| policy.end_of(grant) <= now),
        disabled,
        operator_pod: format!("{}/{}", world.settings.namespace, world.settings.pod_name),
        operator_has_no_place: !world.nodes.values().any(|node| could_take_operator(node, name)),
        operator_moves: !node.unschedulable && operator_moves(world, name),
        pods: world.pods_on(name).map(|pod| drain_pod(pod, now)).collect(),
        holders: state.status.holders.clone(),
        fence: state.status.drain.clone(),
        fence_is_late: grant.is_none_or(|grant| later(grant.since, FENCE) <= now),
        resource_prefix: world.settings.resource_prefix.clone(),
        nodes_in_cluster: world.nodes.len(),
        refusals: refusals.collect(),
    };
    let mut refused = answers.iter().filter(|a| matches!(a.answer, Answer::Refused(..)));
    let refused = refused.find(|answered| refusal(world, answered).is_none());
    let refused = refused.map(|answered| {
        let verb = if answered.evict { "evict" } else { "write" };
        format!("cannot {verb} {}: {}", answered.target, answered.answer)
    });
    let control_plane = control_plane_grant_of(world, name);
    let abandoned = abandoned(world, node, state, pool, grant);
    let reboots = drain.request == DrainRequest::Reboot;
    let taints = reboots.then(|| super::taint::before_reboot(world, node)).flatten();
    let (gate, resume) = (machine_config::gate(world, node), machine_config::resume(world, node));
    let peer = peers::busy(world, node);
    let gate = match (peers::fail(world, node), gate) {
        (Some(blocker), _) | (None, Gate::Wait(blocker)) => Paused::Waits(blocker),
        (None, Gate::Pause(pool)) => Paused::Not(machine_config::pause(world, &pool)),
        (None, Gate::Go) => Paused::Enough,
    };
    Some(Observed {
        node,
        state,
        drain,
        grant,
        control_plane,
        gate,
        peer,
        resume,
        skipped: pool.is_some_and(|pool| pool.status.skipped.iter().any(|one| one.node == name)),
        abandoned,
        facts,
        deadline: grant.map(|grant| policy.end_of(grant)),
        afterwards: super::afterwards::of(world, node, state),
        taints,
        said: beside_the_drain(world, name, state),
        refused,
    })
}

/// What the operator says of a node beside its drain.
fn beside_the_drain(world: &World, name: &str, state: &SriovNetworkNodeState) -> Vec<Verdict> {
    let admitted = admitted::condition(world, name, state);
    admitted.into_iter().chain(cards::condition(world, state)).collect()
}

/// Why a drain that was begun must be undone: it was given up at its deadline, or the pool under whose limit it was
/// begun is gone, or no longer the node's.
fn abandoned(
    world: &World,
    node: &Node,
    state: &SriovNetworkNodeState,
    pool: Option<&SriovNetworkPoolConfig>,
    grant: Option<&Grant>,
) -> Option<String> {
    let name = &node.metadata.name;
    match (pool, grant) {
        (Some(pool), _) => {
            let pool_name = &pool.metadata.name;
            let skipped = pool.status.skipped.iter().find(|skipped| skipped.node == *name);
            if let Some(skipped) = skipped {
                return Some(format!("{}; the node is skipped", skipped.because));
            }
            let labels = &node.metadata.labels;
            let left = !planner::pools::selects(pool.spec.node_selector.as_ref(), labels);
            left.then(|| format!("the node has left pool {pool_name}"))
        }
        (None, Some(_)) => None,
        // A pool that cannot be read may hold the grant.
        (None, None) if world.has_problem_of(names::POOL) => None,
        // One that upstream began has no grant either, and is adopted.
        (None, None) => state
            .metadata
            .annotations
            .contains_key(annotation::GRANT)
            .then(|| "the pool under whose limit it was begun is gone".to_owned()),
    }
}

fn drain_pod(pod: &Pod, now: Timestamp) -> DrainPod {
    // The time at which the grace period ends, as the API server writes it.
    let ends = pod.metadata.deletion_timestamp;
    DrainPod {
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        finished: pod.is_finished(),
        daemon_set: pod.controller().is_some_and(|(kind, _)| kind == "DaemonSet"),
        mirror: pod.is_mirror(),
        terminating: ends.is_some(),
        outstays: ends.is_some_and(|end| later(end, OUTSTAYS) <= now),
        finalizers: pod.metadata.finalizers.clone(),
        owner: pod.controller().map(|(kind, name)| format!("{kind} {name}")).unwrap_or_default(),
        resources: pod.requests.keys().cloned().collect(),
        has_claims: pod.has_claims,
    }
}

pub fn reconcile(world: &World, name: &str, now: Timestamp) -> Outcome {
    let outcome = drain(world, name, now);
    let times = [outcome.look_again, super::ended::look_again(world, name, now)];
    Outcome { look_again: times.into_iter().flatten().min(), ..outcome }
}

fn drain(world: &World, name: &str, now: Timestamp) -> Outcome {
    let Some(mut seen) = observe(world, name, now) else { return without_state(world, name) };
    let writes = say(seen.state, &seen.said, now);
    if !writes.is_empty() {
        return Outcome { writes, look_again: Some(now) };
    }
    // Whoever drains the node: its daemon waits for holders in any case.
    let asked = [seen.drain.request, seen.drain.mirror].iter().any(|r| *r != DrainRequest::Idle);
    if let Some(write) = super::ended::write(world, name, seen.state, asked, now) {
        return Outcome { writes: vec![write], look_again: Some(now) };
    }
    if has_external_drainer(seen.state) {
        return external::elsewhere(world, &seen, now);
    }
    if super::has_left(world, seen.node) {
        return leave(seen, now);
    }
    if let Some(write) = external::hand_over(world, &seen) {
        return Outcome { writes: vec![write], look_again: None };
    }
    if let Some(writes) = missing_annotations(&seen) {
        return Outcome { writes, look_again: None };
    }
    // Both annotations have to say the same. The node state's is the one that our patches are bound to by its version:
    // a Node out of an old cache must not end a drain that is under way.
    let idle = seen.drain.request == DrainRequest::Idle;
    if idle != (seen.drain.mirror == DrainRequest::Idle) {
        return Outcome::default();
    }
    match (idle, seen.drain.current) {
        (true, Progress::Idle) => rest(&seen, now),
        (true, Progress::Draining | Progress::DrainComplete) => {
            seen.abandoned = None;
            finish(&seen, "node is uncordoned and idle again", now)
        }
        (false, Progress::Idle) => start(&seen, now),
        (false, current) if is_given_up(&seen, current, now) => {
            let why = seen.abandoned.as_deref().unwrap_or_default();
            finish(&seen, &format!("the drain is undone: {why}"), now)
        }
        (false, Progress::Draining) if !matches!(seen.gate, Paused::Enough) => hold(seen, now),
        (false, Progress::Draining) => commit(&seen, &planner::drain::plan(&seen.facts), now),
        (false, Progress::DrainComplete) => complete(&seen, now),
    }
}

/// A drain under way that is to be undone. Once it is complete the node is its daemon's: only where that waits or is
/// silent, and the pool does not, it is taken back.
fn is_given_up(seen: &Observed, current: Progress, now: Timestamp) -> bool {
    match current {
        Progress::Idle => false,
        Progress::Draining => seen.abandoned.is_some(),
        Progress::DrainComplete => seen.skipped && seen.afterwards.may_be_given_up(now),
    }
}

/// The node has left our management, and no daemon is there any more that could end its drain.
fn leave(mut seen: Observed, now: Timestamp) -> Outcome {
    let why = "the drain is undone: ironrail does not manage the node any more".to_owned();
    match seen.drain.current {
        Progress::Idle => rest(&seen, now),
        Progress::Draining | Progress::DrainComplete => {
            seen.abandoned = Some(why.clone());
            finish(&seen, &why, now)
        }
    }
}

/// True while something of a drain of ours is on a node.
pub(crate) fn is_under_way(node: &Node, state: &SriovNetworkNodeState) -> bool {
    let cordoned = node.metadata.annotations.contains_key(annotation::CORDONED_BY_US);
    let current = drain_state(node, state).current;
    !has_external_drainer(state) && (cordoned || current != Progress::Idle)
}

/// A node that has left, and its node state too (the operator config, which owns it, was deleted): what a drain put on
/// the Node goes, since nobody else would take it away.
fn without_state(world: &World, name: &str) -> Outcome {
    let unreadable = world.problem(names::NODE_STATE, &world.settings.namespace, name).is_some();
    let gone = !unreadable && !world.node_states.contains_key(name);
    let node = world.nodes.get(name).filter(|node| gone && super::has_left(world, node));
    let Some(node) = node else { return Outcome::default() };
    let has = |key: &str| node.metadata.annotations.contains_key(key);
    let mut writes = Vec::from_iter(uncordon(node));
    if has(annotation::NODE_STATE) && writes.is_empty() {
        let patch = json!({ "metadata": { "annotations": { annotation::NODE_STATE: null } } });
        writes.push(patch_node(node, patch));
    }
    writes.extend(machine_config::resume(world, node));
    Outcome { writes, look_again: None }
}

/// As upstream, the annotations always exist: users' scripts wait for `Idle`.
fn missing_annotations(seen: &Observed) -> Option<Vec<Write>> {
    let mut writes = Vec::new();
    let state = &seen.state.metadata;
    let missing: serde_json::Map<String, Value> =
        [annotation::DESIRED_STATE, annotation::CURRENT_STATE]
            .into_iter()
            .filter(|key| !state.annotations.contains_key(*key))
            .map(|key| (key.to_owned(), annotation::IDLE.into()))
            .collect();
    if !missing.is_empty() {
        let patch = json!({ "metadata": { "annotations": missing } });
        writes.push(patch_if_unchanged(key_of_state(seen.state), &state.resource_version, patch));
    }
    if !seen.node.metadata.annotations.contains_key(annotation::NODE_STATE) {
        let patch =
            json!({ "metadata": { "annotations": { annotation::NODE_STATE: annotation::IDLE } } });
        writes.push(patch_node(seen.node, patch));
    }
    (!writes.is_empty()).then_some(writes)
}

/// Nothing is asked for. What a dead operator left behind is put right: its cordon, and a grant that was never used.
fn rest(seen: &Observed, now: Timestamp) -> Outcome {
    let mut writes = Vec::from_iter(uncordon(seen.node));
    let marks = marks(seen);
    if !marks.is_empty() {
        writes.push(patch_state(seen, json!({ "metadata": { "annotations": marks } })));
    }
    let refused = seen.refused.clone().filter(|_| seen.resume.is_some());
    match refused {
        Some(message) => writes.extend(condition(seen, &refusing(message), &[], now)),
        None if has_said(seen) => writes.extend(condition(seen, &idle(), &[], now)),
        None => {}
    }
    // Last, since nothing of the node may hang on a machine-config pool that cannot be written.
    writes.extend(seen.resume.clone());
    Outcome { writes, look_again: None }
}

/// True when the condition tells of a drain.
fn has_said(seen: &Observed) -> bool {
    seen.state.status.conditions.iter().any(|c| c.kind == DRAINED && c.reason != "Idle")
}

fn refusing(message: String) -> Verdict {
    Verdict { kind: DRAINED, status: Status::False, reason: REFUSED, message }
}

/// The marks by which the grants that the node holds are used: from then on they start no drain.
fn marks(seen: &Observed) -> serde_json::Map<String, Value> {
    let mut marks = serde_json::Map::new();
    if let Some(grant) = seen.grant.filter(|grant| !is_used(seen.state, grant)) {
        marks.insert(annotation::GRANT.to_owned(), grant.since.to_string().into());
    }
    let unused = |grant: &&ControlPlaneGrant| !is_used_for_control_plane(seen.state, grant);
    if let Some(grant) = seen.control_plane.filter(unused) {
        marks.insert(annotation::CONTROL_PLANE_GRANT.to_owned(), grant.since.to_string().into());
    }
    marks
}

/// The daemon is done, or has withdrawn its request, or the drain is given up: the node goes back to the scheduler.
fn finish(seen: &Observed, why: &str, now: Timestamp) -> Outcome {
    let patch =
        json!({ "metadata": { "annotations": { annotation::CURRENT_STATE: annotation::IDLE } } });
    // First what holds only where no other drain was started since we looked: of two operators one may not know of it, and
    // its uncordoning would let pods in under the other's reboot.
    let mut writes = vec![patch_state(seen, patch)];
    writes.extend(uncordon(seen.node));
    writes.push(event(seen, why, now));
    if seen.abandoned.is_some() {
        let message = why.to_owned();
        let undone = Verdict { kind: DRAINED, status: Status::False, reason: "Undone", message };
        writes.extend(condition(seen, &undone, &[], now));
    }
    writes.extend(seen.resume.clone());
    Outcome { writes, look_again: None }
}

/// A drain starts only under a grant that is stored and that no drain was started under before.
fn start(seen: &Observed, now: Timestamp) -> Outcome {
    let mut annotations = marks(seen);
    let may = annotations.contains_key(annotation::GRANT);
    let needs_both = planner::rollout::has_control_plane_role(&seen.node.metadata.labels);
    if !may || (needs_both && !annotations.contains_key(annotation::CONTROL_PLANE_GRANT)) {
        let mut writes = leftover(seen);
        let mut look_again = None;
        // Its pool counts it already, so that whoever looks there has to be told what it waits for.
        if let Some(blocker) = seen.peer.as_ref().filter(|_| may) {
            let verdict = overdue(seen, blocker.reason().as_str(), blocker.to_string());
            writes.extend(condition(seen, &verdict, &[], now));
            look_again = seen.deadline.filter(|at| *at > now);
        }
        return Outcome { writes, look_again };
    }
    annotations.insert(annotation::CURRENT_STATE.to_owned(), annotation::DRAINING.into());
    let patch = json!({ "metadata": { "annotations": annotations } });
    let message = format!("draining: the node asks for {}", seen.drain.request.as_str());
    Outcome { writes: vec![patch_state(seen, patch), event(seen, &message, now)], look_again: None }
}

/// Our cordon on a node that is not being drained: one operator set it while another, which did not know the grant yet,
/// undid the drain. As long as it stands the grant does not end, and the node would wait for ever.
///
/// The first write changes nothing: it holds only where no drain was started since we looked.
fn leftover(seen: &Observed) -> Vec<Write> {
    let taken_back = uncordon(seen.node).map(|write| [patch_state(seen, json!({})), write]);
    taken_back.into_iter().flatten().collect()
}

/// Nothing is cordoned, evicted or called drained before the machine-config pool of the node is held, and while another
/// control-plane node is not Ready.
fn hold(seen: Observed, now: Timestamp) -> Outcome {
    let (reason, message, write) = match &seen.gate {
        Paused::Enough => return Outcome::default(),
        Paused::Not(write) => (REFUSED, seen.refused.clone().unwrap_or_default(), write.as_ref()),
        Paused::Waits(blocker) => (blocker.reason().as_str(), blocker.to_string(), None),
    };
    let mut writes = Vec::new();
    if !message.is_empty() {
        writes = condition(&seen, &overdue(&seen, reason, message), &[], now);
    }
    writes.extend(write.cloned());
    Outcome { writes, look_again: Some(later(now, TRY_AGAIN)) }
}

/// The daemon's turn. A holder that the API told of too late goes all the same: the daemon, which looks once more before
/// its first write, waits for it, and nobody else would send it away.
fn complete(seen: &Observed, now: Timestamp) -> Outcome {
    let plan = planner::drain::plan(&seen.facts);
    let in_the_way = plan.blockers.iter().any(|blocker| blocker.pod_in_the_way().is_some());
    if seen.drain.request == DrainRequest::Drain && (plan.sends_away() || in_the_way) {
        return commit(seen, &plan, now);
    }
    let done = Drain { stay: plan.stay, ..Drain::default() };
    let late = planner::drain::not_done(&seen.facts, &seen.afterwards, now);
    let verdict = match &late {
        Some(late) => not_done(late),
        None => judge(seen, &done),
    };
    let writes = condition(seen, &verdict, &[], now);
    let times = [seen.deadline, seen.afterwards.silent_at()].into_iter().flatten();
    Outcome { writes, look_again: times.filter(|at| now < *at).min() }
}

/// Every pod has gone, and what comes after takes too long.
fn not_done(late: &Blocker) -> Verdict {
    let (reason, message) = (late.reason().as_str(), late.to_string());
    Verdict { kind: DRAINED, status: Status::True, reason, message }
}

fn commit(seen: &Observed, plan: &Drain, now: Timestamp) -> Outcome {
    // What is wrong is said before the next try, which would end the step.
    let mut writes = condition(seen, &judge(seen, plan), &plan.blockers, now);
    if plan.is_complete() {
        writes.clear();
    }
    let mut on_node = json!({});
    let cordons = plan.cordon && !seen.node.unschedulable;
    if cordons {
        on_node = json!({
            "metadata": { "annotations": { annotation::CORDONED_BY_US: "true" } },
            "spec": { "unschedulable": true },
        });
    }
    if let Some(taints) = &seen.taints {
        on_node["spec"]["taints"] = taints.clone();
    }
    if on_node != json!({}) {
        writes.push(patch_node(seen.node, on_node));
    }
    // Until the cordon stands a pod may be bound that this look does not know: the next look says that nobody is left.
    if plan.is_complete() && !cordons {
        let patch = json!({ "metadata": { "annotations": {
            annotation::CURRENT_STATE: annotation::DRAIN_COMPLETE,
        } } });
        writes.push(patch_state(seen, patch));
        let stays = plan.staying().map(|stays| format!("; {stays}")).unwrap_or_default();
        writes.push(event(seen, &format!("node is drained{stays}"), now));
        return Outcome { writes, look_again: None };
    }
    writes.extend(plan.evict.iter().map(|eviction| Write::Evict {
        namespace: eviction.namespace.clone(),
        pod: eviction.pod.clone(),
        uid: eviction.uid.clone(),
    }));
    for (index, pod) in plan.force.iter().enumerate() {
        writes.extend(force(seen, pod, later(now, Duration::from_micros(index as u64))));
    }
    Outcome { writes, look_again: Some(later(now, TRY_AGAIN)) }
}

/// Deletes a pod past its disruption budget, as its pool wants it, and says so on the pod and on the node.
fn force(seen: &Observed, pod: &Eviction, now: Timestamp) -> [Write; 3] {
    let key = ObjectKey::new("v1", kinds::POD, &pod.namespace, &pod.pod);
    let message = format!(
        "deleting pod {}/{} past its disruption budget, as spec.drain.onDeadline: force says: {}",
        pod.namespace, pod.pod, pod.because
    );
    let on_node = ObjectKey::new("v1", kinds::NODE, "", &seen.node.metadata.name);
    let node_uid = seen.node.metadata.uid.as_str();
    let tell = |regarding, uid: &str| warn(regarding, uid, "DrainForced", &message, now);
    [
        tell(key.clone(), &pod.uid),
        tell(on_node, node_uid),
        Write::Delete { key, uid: pod.uid.clone(), resource_version: String::new() },
    ]
}

fn warn(regarding: ObjectKey, uid: &str, reason: &str, message: &str, at: Timestamp) -> Write {
    Write::Event(Event {
        regarding,
        uid: uid.to_owned(),
        warning: true,
        reason: reason.to_owned(),
        message: message.to_owned(),
        component: names::OPERATOR,
        at,
    })
}

/// What a drain's plan says to people. A budget that refuses comes first: it is what a person can do something about.
fn judge(seen: &Observed, plan: &Drain) -> Verdict {
    let verdict = |status, reason, message| Verdict { kind: DRAINED, status, reason, message };
    if plan.is_complete() {
        let gone = "every pod that had to go has gone".to_owned();
        let message = [gone].into_iter().chain(plan.staying()).collect::<Vec<_>>().join("; ");
        return verdict(Status::True, "DrainComplete", message);
    }
    if let Some(message) = &seen.refused {
        return overdue(seen, REFUSED, message.clone());
    }
    // The deadline first: with it goes everything that is in the way.
    let loud = [
        Reason::DrainDeadline,
        Reason::DrainDisabled,
        Reason::FenceMissing,
        Reason::NoPlaceForOperator,
        Reason::EvictionRefused,
        Reason::DisruptionBudget,
        Reason::PodTerminating,
    ];
    for reason in loud {
        let all = reason == Reason::DrainDeadline;
        // A pod within its grace period is on its way.
        let is_it = |blocker: &&Blocker| {
            let goes = reason == Reason::PodTerminating && blocker.pod_in_the_way().is_none();
            blocker.reason() == reason && !goes
        };
        let found = plan.blockers.iter().any(|blocker| is_it(&blocker));
        let said = plan.blockers.iter().filter(|blocker| all || is_it(blocker));
        if found {
            let said: Vec<String> = said.map(ToString::to_string).collect();
            return verdict(Status::False, reason.as_str(), some_of(&said));
        }
    }
    let forced = plan.force.iter().map(|pod| {
        format!("deleting pod {}/{} past its budget: {}", pod.namespace, pod.pod, pod.because)
    });
    let going = plan.evict.iter().map(|eviction| {
        format!("evicting pod {}/{}: {}", eviction.namespace, eviction.pod, eviction.because)
    });
    let ending = plan.blockers.iter().map(ToString::to_string);
    let all: Vec<String> = forced.chain(going).chain(ending).collect();
    verdict(Status::False, "Draining", some_of(&all))
}

/// What holds the drain up beside its pods, and that it is overdue where it is.
fn overdue(seen: &Observed, reason: &'static str, message: String) -> Verdict {
    let (reason, message) = match planner::drain::deadline(&seen.facts) {
        Some(late) => (late.reason().as_str(), format!("{late}; {message}")),
        None => (reason, message),
    };
    Verdict { kind: DRAINED, status: Status::False, reason, message }
}

fn some_of(all: &[String]) -> String {
    conditions::some_of(all, 4, "; ", "more pods")
}

fn idle() -> Verdict {
    Verdict {
        kind: DRAINED,
        status: Status::False,
        reason: "Idle",
        message: "no drain is asked for".to_owned(),
    }
}

fn condition(
    seen: &Observed,
    verdict: &Verdict,
    blockers: &[Blocker],
    now: Timestamp,
) -> Vec<Write> {
    let mut writes = say(seen.state, std::slice::from_ref(verdict), now);
    let before = seen.state.status.conditions.iter().find(|one| one.kind == verdict.kind);
    let turned = before.is_none_or(|one| {
        (one.status.as_str(), one.reason.as_str()) != (verdict.status.as_str(), verdict.reason)
    });
    // Start and end have their own events; what is in the way is worth one.
    if !writes.is_empty() && turned && is_blocked(verdict.reason) {
        let metadata = &seen.state.metadata;
        writes.push(conditions::event(key_of_state(seen.state), &metadata.uid, verdict, now));
        writes.extend(tell_node_and_pods(seen, verdict, blockers, now));
    }
    writes
}

/// The same on the node and on the pods that are in the way: whoever owns one of them looks there. A few pods only,
/// since a node has hundreds.
fn tell_node_and_pods(
    seen: &Observed,
    verdict: &Verdict,
    blockers: &[Blocker],
    now: Timestamp,
) -> Vec<Write> {
    let node = &seen.node.metadata;
    let key = ObjectKey::new("v1", kinds::NODE, "", &node.name);
    let mut writes = vec![warn(key, &node.uid, verdict.reason, &verdict.message, now)];
    let in_the_way = blockers.iter().filter_map(|blocker| {
        let named = blocker.pod_in_the_way()?;
        let pod = seen.facts.pods.iter().find(|pod| pod.key() == named)?;
        Some((blocker, pod))
    });
    for (blocker, pod) in in_the_way.take(TOLD_PODS) {
        let key = ObjectKey::new("v1", kinds::POD, &pod.namespace, &pod.name);
        let message = format!("node {} is being drained: {blocker}", node.name);
        writes.push(warn(key, &pod.uid, verdict.reason, &message, now));
    }
    writes
}

/// Takes back our own cordon; one that somebody else set is theirs to undo.
fn uncordon(node: &Node) -> Option<Write> {
    node.metadata.annotations.contains_key(annotation::CORDONED_BY_US).then(|| {
        let patch = json!({
            "metadata": { "annotations": { annotation::CORDONED_BY_US: null } },
            "spec": { "unschedulable": null },
        });
        patch_node(node, patch)
    })
}

fn patch_node(node: &Node, patch: Value) -> Write {
    let metadata = &node.metadata;
    let key = ObjectKey::new("v1", kinds::NODE, "", &metadata.name);
    patch_if_unchanged(key, &metadata.resource_version, patch)
}

fn patch_state(seen: &Observed, patch: Value) -> Write {
    patch_if_unchanged(key_of_state(seen.state), &seen.state.metadata.resource_version, patch)
}

fn event(seen: &Observed, message: &str, now: Timestamp) -> Write {
    Write::Event(Event {
        regarding: key_of_state(seen.state),
        uid: seen.state.metadata.uid.clone(),
        warning: false,
        // Upstream's word.
        reason: "DrainController".to_owned(),
        message: message.to_owned(),
        component: names::OPERATOR,
        at: now,
    })
}
