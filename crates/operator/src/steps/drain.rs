//! One node's drain, by upstream's annotations: from a stored grant over cordon and evictions to DrainComplete, and back.
//!
//! Which pods go is `planner::drain`'s choice, whether the node may be disturbed at all `planner::rollout`'s. The
//! order of the writes is the promise: nothing is cordoned before the grant was seen stored and Draining was written.

use super::{DrainState, drain_state, grant_of, is_used, key_of_state, patch_if_unchanged};
use crate::conditions::{self, Status, Verdict};
use crate::kinds;
use crate::objects::{Node, Pod};
use crate::queue::{Key, later};
use crate::world::World;
use api::condition::Condition;
use api::nodestate::SriovNetworkNodeState;
use api::pool::Grant;
use api::wire::{Answer, Event, ObjectKey, Outcome, Write};
use api::{Timestamp, annotation, names};
use planner::DrainRequest;
use planner::drain::{Drain, DrainFacts, DrainPod};
use planner::rollout::Progress;
use serde_json::{Value, json};
use std::time::Duration;

/// Condition of the node state that the operator owns: whether the drain that was asked for is done, and what is in
/// its way.
pub const DRAINED: &str = "Drained";
/// When evictions are tried again that a budget refused, as upstream.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Reason of the condition when the API refuses the operator itself.
const REFUSED: &str = "Refused";

/// True for the reasons that a person has to do something about.
pub(crate) fn is_blocked(reason: &str) -> bool {
    reason == REFUSED || reason == planner::Reason::DisruptionBudget.as_str()
}

struct Observed<'a> {
    node: &'a Node,
    state: &'a SriovNetworkNodeState,
    drain: DrainState,
    grant: Option<&'a Grant>,
    facts: DrainFacts,
    /// What the last try was refused with, budgets aside: a right that is missing, for one.
    refused: Option<String>,
}

fn observe<'a>(world: &'a World, name: &str) -> Option<Observed<'a>> {
    let node = world.nodes.get(name)?;
    let state = world.node_states.get(name)?;
    let drain = drain_state(node, state);
    let answers = world.answers(&Key::Drain(name.to_owned()));
    let budgets = answers.iter().filter(|a| matches!(a.answer, Answer::TooManyRequests(_)));
    let refusals = budgets.filter_map(|answered| {
        let place = crate::objects::Place::new(&answered.target.namespace, &answered.target.name);
        let pod = world.pods.get(&place)?;
        // The API's sentence does not name the budget; a person wants to know which to look at.
        let budgets = world.budgets.values().filter(|budget| budget.forbids(pod));
        let named = budgets.map(|budget| {
            let name = &budget.metadata.name;
            format!(
                " PodDisruptionBudget {name} allows {} disruptions.",
                budget.disruptions_allowed
            )
        });
        let sentence = format!("{}{}", answered.answer, named.collect::<String>());
        Some((pod.metadata.uid.clone(), sentence))
    });
    let disabled = world.config.as_ref().is_some_and(|config| config.spec.disable_drain);
    let facts = DrainFacts {
        // Without drains only those go that hold what is about to change: taking a device from under a running pod
        // is never what was meant.
        request: match drain.request {
            DrainRequest::Reboot if disabled => DrainRequest::Drain,
            asked => asked,
        },
        pods: world.pods_on(name).map(drain_pod).collect(),
        holders: state.status.holders.clone(),
        resource_prefix: world.settings.resource_prefix.clone(),
        nodes_in_cluster: world.nodes.len(),
        refusals: refusals.collect(),
    };
    let refused = answers.iter().find(|a| matches!(a.answer, Answer::Refused(..)));
    let refused = refused.map(|answered| {
        let verb = if answered.evict { "evict" } else { "write" };
        format!("cannot {verb} {}: {}", answered.target, answered.answer)
    });
    Some(Observed { node, state, drain, grant: grant_of(world, name), facts, refused })
}

fn drain_pod(pod: &Pod) -> DrainPod {
    DrainPod {
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        finished: pod.is_finished(),
        daemon_set: pod.controller().is_some_and(|(kind, _)| kind == "DaemonSet"),
        mirror: pod.is_mirror(),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        resources: pod.requests.clone(),
    }
}

pub fn reconcile(world: &World, name: &str, now: Timestamp) -> Outcome {
    let Some(seen) = observe(world, name) else { return Outcome::default() };
    if has_external_drainer(seen.state) {
        return Outcome::default();
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
        (true, Progress::Draining | Progress::DrainComplete) => finish(&seen, now),
        (false, Progress::Idle) => start(&seen, now),
        (false, Progress::Draining) => commit(&seen, &planner::drain::plan(&seen.facts), now),
        // The daemon's turn.
        (false, Progress::DrainComplete) => Outcome {
            writes: condition(&seen, &judge(&seen, &Drain::default()), now),
            look_again: None,
        },
    }
}

/// The node is somebody else's to drain.
pub(crate) fn has_external_drainer(state: &SriovNetworkNodeState) -> bool {
    state.metadata.annotations.get(annotation::EXTERNAL_DRAINER).is_some_and(|v| v == "true")
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
    if let Some(grant) = seen.grant.filter(|grant| !is_used(seen.state, grant)) {
        let patch = json!({ "metadata": { "annotations": { annotation::GRANT: grant.since.to_string() } } });
        writes.push(patch_state(seen, patch));
    }
    if seen.state.status.conditions.iter().any(|c| c.kind == DRAINED && c.reason != "Idle") {
        writes.extend(condition(seen, &idle(), now));
    }
    Outcome { writes, look_again: None }
}

/// The daemon is done, or has withdrawn its request: the node is given back to the scheduler.
fn finish(seen: &Observed, now: Timestamp) -> Outcome {
    let mut writes = Vec::from_iter(uncordon(seen.node));
    let patch =
        json!({ "metadata": { "annotations": { annotation::CURRENT_STATE: annotation::IDLE } } });
    writes.push(patch_state(seen, patch));
    writes.push(event(seen, "node is uncordoned and idle again", now));
    Outcome { writes, look_again: None }
}

/// A drain starts only under a grant that is stored and that no drain was started under before.
fn start(seen: &Observed, now: Timestamp) -> Outcome {
    let Some(grant) = seen.grant.filter(|grant| !is_used(seen.state, grant)) else {
        return Outcome::default();
    };
    let patch = json!({ "metadata": { "annotations": {
        annotation::CURRENT_STATE: annotation::DRAINING,
        annotation::GRANT: grant.since.to_string(),
    } } });
    let message = format!("draining: the node asks for {}", seen.drain.request.as_str());
    Outcome { writes: vec![patch_state(seen, patch), event(seen, &message, now)], look_again: None }
}

fn commit(seen: &Observed, plan: &Drain, now: Timestamp) -> Outcome {
    // What is wrong is said before the next try, which would end the step.
    let mut writes = condition(seen, &judge(seen, plan), now);
    if plan.is_complete() {
        writes.clear();
    }
    if plan.cordon && !seen.node.unschedulable {
        let patch = json!({
            "metadata": { "annotations": { annotation::CORDONED_BY_US: "true" } },
            "spec": { "unschedulable": true },
        });
        writes.push(patch_node(seen.node, patch));
    }
    if plan.is_complete() {
        let patch = json!({ "metadata": { "annotations": {
            annotation::CURRENT_STATE: annotation::DRAIN_COMPLETE,
        } } });
        writes.push(patch_state(seen, patch));
        writes.push(event(seen, "node is drained", now));
        return Outcome { writes, look_again: None };
    }
    writes.extend(plan.evict.iter().map(|eviction| Write::Evict {
        namespace: eviction.namespace.clone(),
        pod: eviction.pod.clone(),
        uid: eviction.uid.clone(),
    }));
    Outcome { writes, look_again: Some(later(now, TRY_AGAIN)) }
}

/// What a drain's plan says to people. A budget that refuses comes first: it is what a person can do something about.
fn judge(seen: &Observed, plan: &Drain) -> Verdict {
    let verdict = |status, reason, message| Verdict { kind: DRAINED, status, reason, message };
    if plan.is_complete() {
        let message = "every pod that had to go has gone".to_owned();
        return verdict(Status::True, "DrainComplete", message);
    }
    if let Some(message) = &seen.refused {
        return verdict(Status::False, REFUSED, message.clone());
    }
    let budget = planner::Reason::DisruptionBudget;
    let refused = plan.blockers.iter().filter(|blocker| blocker.reason() == budget);
    let refused: Vec<String> = refused.map(ToString::to_string).collect();
    if !refused.is_empty() {
        return verdict(Status::False, budget.as_str(), refused.join("; "));
    }
    let going = plan.evict.iter().map(|eviction| {
        format!("evicting pod {}/{}: {}", eviction.namespace, eviction.pod, eviction.because)
    });
    let ending = plan.blockers.iter().map(ToString::to_string);
    let all: Vec<String> = going.chain(ending).collect();
    let message = match all.len() {
        0..=3 => all.join("; "),
        more => format!("{}; and {} more pods", all[..3].join("; "), more - 3),
    };
    verdict(Status::False, "Draining", message)
}

fn idle() -> Verdict {
    Verdict {
        kind: DRAINED,
        status: Status::False,
        reason: "Idle",
        message: "no drain is asked for".to_owned(),
    }
}

/// Our condition, by server-side apply: the other conditions of the node state are the daemon's.
fn condition(seen: &Observed, verdict: &Verdict, now: Timestamp) -> Vec<Write> {
    let metadata = &seen.state.metadata;
    let old = seen.state.status.conditions.iter().filter(|condition| condition.kind == DRAINED);
    let old: Vec<Condition> = old.cloned().collect();
    let mut new = old.clone();
    let turned = conditions::set(&mut new, verdict, metadata.generation, now);
    if new == old {
        return Vec::new();
    }
    let object = json!({
        "apiVersion": names::API_VERSION, "kind": names::NODE_STATE,
        "metadata": { "name": metadata.name, "namespace": metadata.namespace },
        "status": { "conditions": new },
    });
    let mut writes = vec![Write::Apply { object, subresource: "status" }];
    // Start and end have their own events; what is in the way is worth one.
    if turned && is_blocked(verdict.reason) {
        writes.push(conditions::event(key_of_state(seen.state), &metadata.uid, verdict, now));
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
