//! SriovNetworkPoolConfig, and the nodes in no pool: who may be disturbed now, and what the pool's status says.
//!
//! Who is granted is `planner::rollout`'s choice. Here it becomes one `Update` of the status with the version that it
//! was decided on: if anybody wrote in between, nothing is granted and the next step looks again.

use super::{DrainState, drain_state, is_used, status_of_config, version};
use crate::conditions::{self, Status, Verdict};
use crate::objects::{Node, Pod};
use crate::queue::PoolKey;
use crate::steps::drain::{DRAINED, is_blocked};
use crate::world::{Problem, World};
use api::condition::Condition;
use api::nodestate::SriovNetworkNodeState;
use api::pool::{PoolStatus, SriovNetworkPoolConfig};
use api::wire::{Event, ObjectKey, Outcome, Write};
use api::{Timestamp, annotation, label, names};
use planner::DrainRequest;
use planner::blocker::Blocker;
use planner::pools::Limit;
use planner::rollout::{self, Fleet, FleetNode, PoolRollout, Progress};
use serde_json::json;

/// The whole cluster, since one node's labels can be in two pools and control planes go one at a time.
fn observe(world: &World) -> Fleet {
    let nodes = world
        .nodes
        .iter()
        .map(|(name, node)| (name.clone(), fleet_node(world, node, world.node_states.get(name))));
    Fleet {
        pools: world.pools.values().cloned().collect(),
        grants_without_pool: match &world.config {
            Some(config) => config.status.grants.clone(),
            None => Vec::new(),
        },
        nodes: nodes.collect(),
    }
}

fn fleet_node(world: &World, node: &Node, state: Option<&SriovNetworkNodeState>) -> FleetNode {
    let name = &node.metadata.name;
    let mut seen = FleetNode {
        labels: node.metadata.labels.clone(),
        ready: node.ready,
        unschedulable: node.unschedulable,
        cordoned_by_us: node.metadata.annotations.contains_key(annotation::CORDONED_BY_US),
        empty: node.unschedulable && !world.pods_on(name).any(would_move),
        ..FleetNode::default()
    };
    // A node whose state is not made yet counts already: a pool without it would be Ready too early.
    seen.managed = state.is_some() || super::is_managed(world, node);
    let Some(state) = state else { return seen };
    let DrainState { request, mirror, current } = drain_state(node, state);
    // The daemon writes two annotations, one after the other; a request ends when both are back.
    seen.request = if request == DrainRequest::Idle { mirror } else { request };
    seen.current = current;
    seen.external_drainer = super::drain::has_external_drainer(state);
    seen.at_goal = super::is_at_goal(state);
    seen.ordered_mode = state.spec.system.rdma_mode;
    match super::grant_of(world, name) {
        // A grant that started no drain yet, as far as this cache knows, is not over: the drain step closes it first.
        Some(grant) if !is_used(state, grant) && seen.request == DrainRequest::Idle => {
            seen.request = DrainRequest::read(&grant.reason);
        }
        // A grant whose drain is over is spent, also where the node asks again already: it is given back, and the
        // node gets a new one when its turn comes.
        Some(grant) if is_used(state, grant) && seen.current == Progress::Idle => {
            seen.request = DrainRequest::Idle;
        }
        _ => {}
    }
    seen
}

fn would_move(pod: &Pod) -> bool {
    let stays = pod.controller().is_some_and(|(kind, _)| kind == "DaemonSet") || pod.is_mirror();
    !stays && !pod.is_finished()
}

pub fn reconcile(world: &World, key: &PoolKey, now: Timestamp) -> Outcome {
    let fleet = observe(world);
    let mut rollout = rollout::next(&fleet, now);
    match key {
        PoolKey::NoPool => commit_without_pool(world, &rollout.without_pool, now),
        // Grants that cannot be read are not known to be none.
        PoolKey::Named(name) if problem(world, name).is_some() => unreadable(world, name, now),
        PoolKey::Named(name) => match (world.pools.get(name), rollout.pools.remove(name)) {
            (Some(pool), Some(next)) => commit(world, pool, &next, now),
            // A pool that names an OpenShift machine-config pool has no nodes of its own.
            (Some(pool), None) => commit(world, pool, &without_nodes(pool), now),
            (None, _) => Outcome::default(),
        },
    }
}

/// A pool that cannot be read says so, by server-side apply: its grants are not known, so they must not be written.
fn unreadable(world: &World, name: &str, now: Timestamp) -> Outcome {
    let namespace = &world.settings.namespace;
    let Some(problem) = problem(world, name) else { return Outcome::default() };
    let mut conditions = problem.conditions.clone();
    let verdict = Verdict::not_ready(planner::Reason::InvalidPool.as_str(), &problem.message);
    conditions::set(&mut conditions, &verdict, problem.metadata.generation, now);
    if conditions == problem.conditions {
        return Outcome::default();
    }
    let object = json!({
        "apiVersion": names::API_VERSION, "kind": names::POOL,
        "metadata": { "name": name, "namespace": namespace },
        "status": { "conditions": conditions },
    });
    Outcome { writes: vec![Write::Apply { object, subresource: "status" }], look_again: None }
}

fn problem<'a>(world: &'a World, name: &str) -> Option<&'a Problem> {
    world.problem(names::POOL, &world.settings.namespace, name)
}

fn without_nodes(pool: &SriovNetworkPoolConfig) -> PoolRollout {
    PoolRollout { problems: planner::pools::problems(pool), ..PoolRollout::default() }
}

fn commit(
    world: &World,
    pool: &SriovNetworkPoolConfig,
    next: &PoolRollout,
    now: Timestamp,
) -> Outcome {
    let mut status = PoolStatus {
        conditions: pool.status.conditions.clone(),
        grants: next.grants.clone(),
        nodes: i64::try_from(next.nodes).unwrap_or(i64::MAX),
        ready_nodes: i64::try_from(next.ready_nodes).unwrap_or(i64::MAX),
        waiting: next.waiting_status(),
    };
    let verdict = judge(world, pool, next);
    let turned = conditions::set(&mut status.conditions, &verdict, pool.metadata.generation, now);
    let mut writes = Vec::new();
    if status != pool.status {
        let object = json!({
            "apiVersion": names::API_VERSION, "kind": names::POOL,
            "metadata": version(&pool.metadata), "spec": pool.spec, "status": status,
        });
        writes.push(Write::Update { object, subresource: "status" });
        let metadata = &pool.metadata;
        let key =
            ObjectKey::new(names::API_VERSION, names::POOL, &metadata.namespace, &metadata.name);
        writes.extend(events(&key, &metadata.uid, next, now));
        if turned {
            writes.push(conditions::event(key, &metadata.uid, &verdict, now));
        }
    }
    Outcome { writes, look_again: None }
}

fn commit_without_pool(world: &World, next: &PoolRollout, now: Timestamp) -> Outcome {
    // Without the config there is no place to write a grant, and nothing is deployed that would ask for one.
    let Some(config) = &world.config else { return Outcome::default() };
    let metadata = &config.metadata;
    if world.problem(names::OPERATOR_CONFIG, &metadata.namespace, &metadata.name).is_some() {
        return Outcome::default();
    }
    if config.status.grants == next.grants {
        return Outcome::default();
    }
    let mut status = config.status.clone();
    status.grants.clone_from(&next.grants);
    let metadata = &config.metadata;
    let key = ObjectKey::new(
        names::API_VERSION,
        names::OPERATOR_CONFIG,
        &metadata.namespace,
        &metadata.name,
    );
    let mut writes = vec![status_of_config(config, &status)];
    writes.extend(events(&key, &metadata.uid, next, now));
    Outcome { writes, look_again: None }
}

/// Grants that came and went; a nanosecond apart, since an event is named by its time.
fn events(key: &ObjectKey, uid: &str, next: &PoolRollout, now: Timestamp) -> Vec<Write> {
    let given = next.added.iter().map(|node| {
        ("Granted", format!("{node} may be drained: {} of {}", next.grants.len(), limit(next)))
    });
    let back = next.given_back.iter().map(|(_, why)| ("GrantGivenBack", why.clone()));
    let all = given.chain(back).enumerate().map(|(index, (reason, message))| {
        Write::Event(Event {
            regarding: key.clone(),
            uid: uid.to_owned(),
            warning: false,
            reason: reason.to_owned(),
            message,
            component: names::OPERATOR,
            at: apart(now, index + 1),
        })
    });
    all.collect()
}

fn apart(now: Timestamp, index: usize) -> Timestamp {
    let nanoseconds = u64::try_from(index).unwrap_or_default();
    now.checked_add(std::time::Duration::from_nanos(nanoseconds)).unwrap_or(now)
}

fn limit(next: &PoolRollout) -> String {
    match &next.limit {
        Limit::Nodes(nodes) => format!("{nodes} allowed"),
        Limit::Paused => "a paused pool".to_owned(),
        Limit::Invalid(_) => "no valid limit".to_owned(),
    }
}

/// Ready when every node is at its goal. Otherwise what holds the pool up most: first what a person must mend, then
/// a drain that is blocked, then plain progress.
fn judge(world: &World, pool: &SriovNetworkPoolConfig, next: &PoolRollout) -> Verdict {
    if let Some(first) = next.problems.first() {
        let messages: Vec<String> = next.problems.iter().map(|p| p.message.clone()).collect();
        return Verdict::not_ready(first.reason.as_str(), some_of(&messages));
    }
    let progress = format!("{} of {} nodes are at their goal", next.ready_nodes, next.nodes);
    if next.ready_nodes == next.nodes {
        return match next.nodes {
            0 => Verdict::ready("NoNodes", no_nodes(world, pool)),
            _ => Verdict::ready("NodesReady", progress),
        };
    }
    let stuck = next.waiting.iter().find(|(_, blocker)| !blocker.ends_by_itself());
    let blocked = blocked_drain(world, next);
    let draining = next.grants.iter().map(|grant| grant.node.clone()).collect::<Vec<_>>();
    let (reason, rest) = match (&blocked, stuck) {
        (Some(condition), _) => ("DrainBlocked", condition.message.clone()),
        (None, Some((_, blocker))) => (blocker.reason().as_str(), blocker.to_string()),
        (None, None) if !draining.is_empty() => {
            ("Progressing", format!("draining {}", list(&draining)))
        }
        (None, None) => match next.waiting.first() {
            Some((_, blocker)) => (Blocker::reason(blocker).as_str(), blocker.to_string()),
            None => ("Progressing", troubled(world, pool)),
        },
    };
    let message = [progress, rest].into_iter().filter(|part| !part.is_empty());
    Verdict {
        kind: "Ready",
        status: Status::False,
        reason,
        message: message.collect::<Vec<_>>().join("; "),
    }
}

/// What stands in the way of a granted node's drain, as the drain step wrote it into the node state.
fn blocked_drain<'a>(world: &'a World, next: &PoolRollout) -> Option<&'a Condition> {
    let states = next.grants.iter().filter_map(|grant| world.node_states.get(&grant.node));
    let mut conditions = states.flat_map(|state| &state.status.conditions);
    conditions.find(|condition| condition.kind == DRAINED && is_blocked(&condition.reason))
}

/// Names nodes that report an error of their own.
fn troubled(world: &World, pool: &SriovNetworkPoolConfig) -> String {
    let selector = pool.spec.node_selector.as_ref();
    let failed = world.node_states.iter().filter(|(name, state)| {
        let node = world.nodes.get(*name);
        state.status.sync_status == "Failed"
            && node.is_some_and(|n| planner::pools::selects(selector, &n.metadata.labels))
    });
    let messages: Vec<String> =
        failed.map(|(name, state)| format!("{name}: {}", state.status.last_sync_error)).collect();
    some_of(&messages)
}

fn no_nodes(world: &World, pool: &SriovNetworkPoolConfig) -> String {
    let selector = pool.spec.node_selector.as_ref();
    let matching = world.nodes.values();
    let unmanaged =
        matching.filter(|node| planner::pools::selects(selector, &node.metadata.labels)).count();
    match unmanaged {
        0 => "the node selector matches no node".to_owned(),
        count => format!(
            "the node selector matches {count} nodes, none of which ironrail manages; managed are \
             Linux nodes with label {}, or those of configDaemonNodeSelector",
            label::WORKER
        ),
    }
}

/// At most five names, then how many more.
fn list(names: &[String]) -> String {
    match names.len() {
        0..=5 => names.join(", "),
        more => format!("{} and {} more", names[..5].join(", "), more - 5),
    }
}

/// At most three sentences, then how many more.
fn some_of(texts: &[String]) -> String {
    match texts.len() {
        0..=3 => texts.join("; "),
        more => format!("{}; and {} more", texts[..3].join("; "), more - 3),
    }
}
