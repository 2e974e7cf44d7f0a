//! SriovNetworkPoolConfig, and the nodes in no pool: who may be disturbed now, and what the pool's status says.
//!
//! Who is granted is `planner::rollout`'s choice. Here it becomes one `Update` of the status with the version that it
//! was decided on: if anybody wrote in between, nothing is granted and the next step looks again.

use super::{DrainState, drain_state, is_used, status_of_config, version};
use crate::conditions::{self, Verdict};
use crate::objects::{Node, Pod};
use crate::queue::PoolKey;
use crate::steps::drain::{DRAINED, is_blocked};
use crate::steps::pool_verdict::{degraded, judge};
use crate::world::{Problem, World};
use api::nodestate::{BlockerStatus, NodeStateStatus, SriovNetworkNodeState};
use api::pool::{Grant, PoolStatus, SriovNetworkPoolConfig};
use api::wire::{Event, ObjectKey, Outcome, Write};
use api::{Timestamp, annotation, names};
use planner::pools::Limit;
use planner::rollout::{self, Fleet, FleetNode, PoolRollout, Progress};
use planner::{DrainRequest, Reason};
use serde_json::json;

/// The whole cluster, since one node's labels can be in two pools and control planes go one at a time.
fn observe(world: &World) -> Fleet {
    let grants = super::grants(world);
    let nodes = world.nodes.iter().map(|(name, node)| {
        let grant = grants.get(name.as_str()).copied();
        (name.clone(), fleet_node(world, node, world.node_states.get(name), grant))
    });
    Fleet {
        pools: world.pools.values().cloned().collect(),
        grants_without_pool: match &world.config {
            Some(config) => config.status.grants.clone(),
            None => Vec::new(),
        },
        control_plane: world.config.as_ref().and_then(|c| c.status.control_plane.clone()),
        nodes: nodes.collect(),
    }
}

fn fleet_node(
    world: &World,
    node: &Node,
    state: Option<&SriovNetworkNodeState>,
    grant: Option<&Grant>,
) -> FleetNode {
    let name = &node.metadata.name;
    let mut seen = FleetNode {
        labels: node.metadata.labels.clone(),
        ready: node.ready,
        unschedulable: node.unschedulable,
        cordoned_by_us: node.metadata.annotations.contains_key(annotation::CORDONED_BY_US),
        empty: node.unschedulable && !world.pods_on(name).any(would_move),
        not_ready_since: node.not_ready_since,
        ..FleetNode::default()
    };
    let left = super::has_left(world, node);
    // A node whose state is not made yet counts already: a pool without it would be Ready too early. One that has left
    // counts until its drain is undone.
    seen.managed = match left {
        true => seen.cordoned_by_us,
        false => state.is_some() || super::is_managed(world, node),
    };
    let Some(state) = state else { return seen };
    let DrainState { request, mirror, current } = drain_state(node, state);
    // The daemon writes two annotations, one after the other; a request ends when both are back.
    seen.request = if request == DrainRequest::Idle { mirror } else { request };
    if left {
        let unused = grant.is_some_and(|grant| !is_used(state, grant));
        seen.managed |= unused || current != Progress::Idle;
        seen.request = DrainRequest::Idle;
    }
    seen.wants = seen.request;
    seen.current = current;
    seen.failing = failing(state);
    seen.reboot_useless = useless_reboot(state).is_some();
    seen.stale = state.status.observed_generation != state.metadata.generation;
    seen.in_the_way = in_the_way(state);
    if current == Progress::DrainComplete {
        seen.afterwards = super::afterwards::of(world, node, state);
    }
    seen.silent_since = grant.and_then(|grant| silent_since(node, state, grant));
    seen.control_plane_used = super::control_plane_grant_of(world, name)
        .is_some_and(|grant| super::is_used_for_control_plane(state, grant));
    seen.external_drainer = super::drain::has_external_drainer(state);
    seen.at_goal = super::is_at_goal(state);
    seen.ordered_mode = state.spec.system.rdma_mode;
    seen.grant_used = grant.is_some_and(|grant| is_used(state, grant));
    match grant {
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

/// Since when a node with a grant is Ready in a boot of which its daemon has said nothing. A short boot is no news to the
/// API's Ready, so that the reboot that was booked counts where it is later.
fn silent_since(node: &Node, state: &SriovNetworkNodeState, grant: &Grant) -> Option<Timestamp> {
    let said = &state.status.boot_id;
    let silent = !said.is_empty() && !node.boot_id.is_empty() && *said != node.boot_id;
    let booked = state.status.reboots.iter().map(|record| record.asked_at).max();
    let since = node.ready_since.max(booked)?;
    (silent && node.ready && since >= grant.since).then_some(since)
}

/// The error that a node reports of its own: that its daemon failed, or that a reboot is of no use any more.
fn failing(state: &SriovNetworkNodeState) -> Option<String> {
    let status = &state.status;
    match useless_reboot(state) {
        Some(blocker) => Some(blocker.message.clone()),
        None if status.sync_status != "Failed" => None,
        None => Some(but_for_others(status)).filter(|error| !error.is_empty()),
    }
}

/// That a reboot is of no use any more.
fn useless_reboot(state: &SriovNetworkNodeState) -> Option<&BlockerStatus> {
    let hopeless = [Reason::RebootDidNotHelp, Reason::RebootDidNotHappen, Reason::TooManyReboots];
    let is_one = |blocker: &&BlockerStatus| hopeless.iter().any(|r| r.as_str() == blocker.reason);
    state.status.blockers.iter().find(is_one)
}

/// What a node reports besides what no rollout can make better or worse: what is refused because the host lives by a card,
/// for which nothing was touched and which the policy says; and a reboot that is a person's by `disableReboot`.
fn but_for_others(status: &NodeStateStatus) -> String {
    let theirs = [Reason::Lifeline, Reason::RebootDisabled];
    let is_theirs = |blocker: &&BlockerStatus| theirs.iter().any(|r| r.as_str() == blocker.reason);
    let refusals = status.blockers.iter().filter(is_theirs);
    let without = |error: String, refusal: &BlockerStatus| error.replacen(&refusal.message, "", 1);
    let error = refusals.fold(status.last_sync_error.clone(), without);
    let parts = error.split("; ").map(|part| part.trim_matches([';', ' ']));
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// What the drain step wrote about a drain that is blocked.
fn in_the_way(state: &SriovNetworkNodeState) -> String {
    let mut conditions = state.status.conditions.iter();
    let drained = conditions.find(|c| c.kind == DRAINED && is_blocked(&c.reason));
    drained.map(|condition| condition.message.clone()).unwrap_or_default()
}

fn would_move(pod: &Pod) -> bool {
    let stays = pod.controller().is_some_and(|(kind, _)| kind == "DaemonSet") || pod.is_mirror();
    !stays && !pod.is_finished()
}

pub fn reconcile(world: &World, key: &PoolKey, now: Timestamp) -> Outcome {
    let fleet = observe(world);
    let mut rollout = rollout::next(&fleet, now);
    match key {
        PoolKey::NoPool => commit_without_pool(world, &rollout, now),
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
    let verdict = Verdict::not_ready(Reason::InvalidPool.as_str(), &problem.message);
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
        draining: i64::try_from(next.grants.len()).unwrap_or(i64::MAX),
        skipped: next.skipped.clone(),
        rollout: next.rollout.clone(),
        resumed: next.resumed.clone(),
    };
    let mut verdicts = vec![judge(world, pool, next)];
    // Said once there is something to say, and from then on also that it is over.
    let said = pool.status.conditions.iter().any(|condition| condition.kind == "Degraded");
    let degraded = degraded(world, pool, next);
    verdicts.extend(Some(degraded).filter(|v| said || v.status == conditions::Status::True));
    let generation = pool.metadata.generation;
    verdicts.retain(|verdict| conditions::set(&mut status.conditions, verdict, generation, now));
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
        writes.extend(verdicts.iter().enumerate().map(|(index, verdict)| {
            let at = apart(now, 1_000_000 * index);
            conditions::event(key.clone(), &metadata.uid, verdict, at)
        }));
    }
    Outcome { writes, look_again: next.look_again }
}

fn commit_without_pool(world: &World, rollout: &rollout::Rollout, now: Timestamp) -> Outcome {
    let mut writes = grants_without_pool(world, rollout, now);
    writes.extend(super::waiting::writes(world, rollout, now));
    Outcome { writes, look_again: None }
}

fn grants_without_pool(world: &World, rollout: &rollout::Rollout, now: Timestamp) -> Vec<Write> {
    let next = &rollout.without_pool;
    // Without the config there is no place to write a grant, and nothing is deployed that would ask for one.
    let Some(config) = &world.config else { return Vec::new() };
    let metadata = &config.metadata;
    if world.problem(names::OPERATOR_CONFIG, &metadata.namespace, &metadata.name).is_some() {
        return Vec::new();
    }
    let (old, control_plane) = (&config.status, &rollout.control_plane);
    if old.grants == next.grants && old.control_plane == *control_plane {
        return Vec::new();
    }
    let mut status = config.status.clone();
    status.grants.clone_from(&next.grants);
    status.control_plane.clone_from(control_plane);
    let metadata = &config.metadata;
    let key = ObjectKey::new(
        names::API_VERSION,
        names::OPERATOR_CONFIG,
        &metadata.namespace,
        &metadata.name,
    );
    let mut writes = vec![status_of_config(config, &status)];
    writes.extend(events(&key, &metadata.uid, next, now));
    writes
}

/// Grants that came and went; a nanosecond apart, since an event is named by reason and time.
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
