//! SriovNetworkNodePolicy: which nodes and PFs it matched, what it nearly matched, and what is wrong with it.
//!
//! What a policy does is in the node states; here people read how it went. Also what is wrong between objects.

use super::{facts, is_at_goal, managed_nodes};
use crate::conditions::{self, PROGRESSING, Verdict};
use crate::queue::NetworkKind;
use crate::steps::{networks, nodestates};
use crate::world::World;
use api::policy::{PolicyStatus, SriovNetworkNodePolicy};
use api::wire::{ObjectKey, Outcome, Write};
use api::{Timestamp, names};
use planner::Problem;
use planner::conflicts::{self, Cluster, NodeView};
use planner::lifeline::cluster;
use planner::policy::Parsed;
use planner::select::{self, LISTED, NodeFacts, Selection};
use serde_json::json;
use std::collections::BTreeMap;

struct Observed<'a> {
    policy: &'a SriovNetworkNodePolicy,
    parsed: Parsed,
    selection: Selection,
    /// Nodes that the policy gives devices on, and are done with it.
    ready: usize,
    findings: &'a [Problem],
    /// PFs by which hosts live, taken without being named.
    blindly: Option<String>,
    /// Cards of which nobody has said that they work.
    untested: Option<String>,
}

fn observe<'a>(world: &'a World, name: &str) -> Option<Observed<'a>> {
    let policy = world.policies.get(name)?;
    let parsed = planner::policy::parse(policy);
    let nodes = managed_nodes(world);
    let facts: Vec<NodeFacts> = nodes.iter().map(|(node, state)| facts(node, *state)).collect();
    let selection = match &parsed.policy {
        Some(policy) => select::select(policy, &facts),
        None => Selection::default(),
    };
    let ready = ready(world, policy, &selection);
    let findings = world.findings_of(&format!("policy {name}"));
    let blindly = parsed.policy.as_ref().and_then(|policy| cluster::taken_blindly(policy, &facts));
    let tested = world.config_maps.get(names::SUPPORTED_NIC_IDS).map(|map| &map.tested);
    let untested = parsed.policy.as_ref().zip(tested);
    let untested = untested.and_then(|(policy, tested)| tested.warning_of(policy, &facts));
    Some(Observed { policy, parsed, selection, ready, findings, blindly, untested })
}

/// How many matched nodes are done with the policy. That the order has it is asked only where the answer turns the
/// condition: it takes the whole merge of each node.
fn ready(world: &World, policy: &SriovNetworkNodePolicy, selection: &Selection) -> usize {
    let at_goal = |node: &&str| world.node_states.get(*node).is_some_and(is_at_goal);
    let nodes = selection.matched.iter().map(|matched| matched.node.as_str());
    let done: Vec<&str> = nodes.filter(at_goal).collect();
    let all = done.len() == selection.matched.len();
    if !all || was_ready(policy, selection) {
        return done.len();
    }
    done.into_iter().filter(|node| nodestates::carries_all_wishes(world, node)).count()
}

/// True when the condition says so of this very policy and of as many nodes.
fn was_ready(policy: &SriovNetworkNodePolicy, selection: &Selection) -> bool {
    let nodes = i64::try_from(selection.matched.len());
    let ready = policy.status.conditions.iter().any(|condition| {
        condition.kind == "Ready"
            && condition.status == "True"
            && condition.observed_generation == Some(policy.metadata.generation)
    });
    ready && nodes == Ok(policy.status.matched_nodes)
}

pub fn reconcile(world: &World, name: &str, now: Timestamp) -> Outcome {
    let problem = world.problem(names::POLICY, &world.settings.namespace, name);
    match (observe(world, name), problem) {
        (Some(seen), None) => commit(&seen, &judge(&seen), now),
        (Some(seen), Some(problem)) => {
            commit(&seen, &Verdict::not_ready("InvalidPolicy", &problem.message), now)
        }
        (None, Some(problem)) => {
            let mut policy = SriovNetworkNodePolicy {
                metadata: problem.metadata.clone(),
                ..SriovNetworkNodePolicy::default()
            };
            policy.status.conditions.clone_from(&problem.conditions);
            let seen = Observed {
                policy: &policy,
                parsed: Parsed::default(),
                selection: Selection::default(),
                ready: 0,
                findings: &[],
                blindly: None,
                untested: None,
            };
            commit(&seen, &Verdict::not_ready("InvalidPolicy", &problem.message), now)
        }
        (None, None) => Outcome::default(),
    }
}

/// First what the policy says wrong by itself, then what it says wrong beside others, then how far the nodes are.
fn judge(seen: &Observed) -> Verdict {
    let wrong = match seen.parsed.policy {
        None => seen.parsed.problems.as_slice(),
        Some(_) => seen.findings,
    };
    if let Some(first) = wrong.first() {
        let messages: Vec<&str> = wrong.iter().map(|problem| problem.message.as_str()).collect();
        return Verdict::not_ready(first.reason.as_str(), messages.join("; "));
    }
    let nodes = seen.selection.matched.len();
    let progress = format!("{} of {nodes} matched nodes are at their goal", seen.ready);
    // Here `problems` are warnings: what the policy asks for and does not get.
    let warnings = seen.parsed.problems.iter().map(|problem| problem.message.clone());
    let cards = seen.blindly.iter().chain(&seen.untested).cloned();
    let message: Vec<String> = [progress].into_iter().chain(warnings).chain(cards).collect();
    let message = message.join("; ");
    match seen.parsed.policy {
        // Upstream's own name for a policy that it made itself.
        None => Verdict::not_ready("Skipped", "a policy of the name default is not acted on"),
        Some(_) if nodes == 0 => Verdict::not_ready("NothingSelected", message),
        Some(_) if seen.ready == nodes => Verdict::ready("NodesReady", message),
        Some(_) => Verdict::not_ready(PROGRESSING, message),
    }
}

fn commit(seen: &Observed, verdict: &Verdict, now: Timestamp) -> Outcome {
    let metadata = &seen.policy.metadata;
    let selection = &seen.selection;
    let mut status = PolicyStatus {
        conditions: seen.policy.status.conditions.clone(),
        matched: selection.matched.iter().take(LISTED).cloned().collect(),
        matched_nodes: i64::try_from(selection.matched.len()).unwrap_or(i64::MAX),
        near_misses: selection.near_misses.clone(),
    };
    let turned = conditions::set(&mut status.conditions, verdict, metadata.generation, now);
    if status == seen.policy.status {
        return Outcome::default();
    }
    let key =
        ObjectKey::new(names::API_VERSION, names::POLICY, &metadata.namespace, &metadata.name);
    let object = json!({
        "apiVersion": names::API_VERSION, "kind": names::POLICY,
        "metadata": { "name": metadata.name, "namespace": metadata.namespace },
        "status": status,
    });
    let mut writes = vec![Write::Apply { object, subresource: "status" }];
    if turned {
        writes.push(conditions::event(key, &metadata.uid, verdict, now));
    }
    Outcome { writes, look_again: None }
}

/// What is wrong between objects, by the label of the object that has to change.
pub fn findings(world: &World) -> BTreeMap<String, Vec<Problem>> {
    let nodes: Vec<NodeView> = managed_nodes(world)
        .into_iter()
        .map(|(node, state)| NodeView {
            facts: facts(node, state),
            mode: state.and_then(|state| state.status.system.rdma_mode),
        })
        .collect();
    let pools: Vec<_> = world.pools.values().cloned().collect();
    let mut rendered = Vec::new();
    for kind in NetworkKind::ALL {
        rendered.extend(networks::rendered(world, kind));
    }
    // Oldest first: the first of two networks keeps the NetworkAttachmentDefinition.
    rendered.sort_by(|(age, ..), (other, ..)| age.cmp(other));
    let networks: Vec<_> =
        rendered.into_iter().map(|(_, label, network)| (label, network)).collect();
    let problems = conflicts::find(&Cluster {
        nodes: &nodes,
        policies: &world.parsed,
        pools: &pools,
        networks: &networks,
        prefix: &world.settings.resource_prefix,
    });
    let mut by_object: BTreeMap<String, Vec<Problem>> = BTreeMap::new();
    for problem in problems {
        by_object.entry(problem.object.clone()).or_default().push(problem);
    }
    by_object
}
