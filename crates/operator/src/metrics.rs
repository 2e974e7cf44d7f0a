//! What a platform engineer watches of a rollout, in the text format of Prometheus: counters of this process, and
//! gauges made from the `World` when somebody asks.
//!
//! Plain data; there is no registry. docs/reference/metrics.md lists every name, and a test compares it.

use crate::objects::Node;
use crate::steps::admitted::NOT_ADMITTED;
use crate::steps::drain::{DRAINED, is_blocked};
use crate::steps::{drain_state, grant_of};
use crate::world::World;
use api::nodestate::{RebootOutcome, SriovNetworkNodeState, SweepStatus};
use api::wire::{Answer, Write};
use api::{Timestamp, annotation, names};
use planner::action::RebootReason;
use planner::pools::{Membership, membership};
use planner::rollout::Progress;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Bounds of the histogram of drains, in seconds: from a node with nothing on it to one that nobody frees.
const BOUNDS: [i64; 9] = [5, 15, 30, 60, 120, 300, 600, 1800, 7200];

/// What only counting tells, since this process started.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Drains by the first bound that they did not exceed; the last one is for those beyond all.
    drains: [u64; BOUNDS.len() + 1],
    drained_seconds: i64,
    granted: u64,
    forced: u64,
    not_admitted: u64,
    /// By what the eviction API said.
    evictions: BTreeMap<&'static str, u64>,
}

impl Metrics {
    /// Takes note of a write that was carried out.
    pub fn note(&mut self, world: &World, write: &Write, answer: &Answer, now: Timestamp) {
        match (write, answer) {
            (Write::Evict { .. }, answer) => {
                *self.evictions.entry(result(answer)).or_default() += 1;
            }
            (Write::Event(event), _) if event.reason == "Granted" => self.granted += 1,
            (Write::Delete { key, .. }, Answer::Done(_)) if key.kind == "Pod" => self.forced += 1,
            (Write::Event(event), _)
                if event.reason == NOT_ADMITTED && event.regarding.kind == "Pod" =>
            {
                self.not_admitted += 1;
            }
            (Write::Patch { key, patch, .. }, Answer::Done(_)) if key.kind == names::NODE_STATE => {
                let current = &patch["metadata"]["annotations"][annotation::CURRENT_STATE];
                let grant = grant_of(world, &key.name);
                if let (true, Some(grant)) = (*current == annotation::DRAIN_COMPLETE, grant) {
                    self.drained(now.as_second() - grant.since.as_second());
                }
            }
            _ => {}
        }
    }

    fn drained(&mut self, seconds: i64) {
        let seconds = seconds.max(0);
        let slot = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.drains[slot] += 1;
        self.drained_seconds = self.drained_seconds.saturating_add(seconds);
    }
}

fn result(answer: &Answer) -> &'static str {
    match answer {
        Answer::Done(_) => "evicted",
        Answer::TooManyRequests(_) => "budget",
        Answer::NotFound(_) | Answer::Conflict(_) => "gone",
        Answer::Refused(..) | Answer::Unreachable(_) => "refused",
    }
}

/// Everything as text.
pub fn text(world: &World, metrics: &Metrics) -> String {
    let mut page = Page::default();
    pools(&mut page, world);
    drains(&mut page, world, metrics);
    reboots(&mut page, world);
    sweeps(&mut page, world);
    page.0
}

fn pools(page: &mut Page, world: &World) {
    let pools: Vec<_> = world.pools.values().cloned().collect();
    let mut nodes: BTreeMap<[String; 2], u64> = BTreeMap::new();
    for (name, state) in &world.node_states {
        let Some(node) = world.nodes.get(name) else { continue };
        let pool = match membership(&node.metadata.labels, &pools) {
            Membership::NoPool => String::new(),
            Membership::Pool(pool) => pool,
            Membership::Several(_) => "several".to_owned(),
        };
        *nodes.entry([pool, phase(world, node, state).to_owned()]).or_default() += 1;
    }
    page.family("ironrail_pool_nodes", "gauge", "managed nodes by pool and phase");
    for ([pool, phase], count) in &nodes {
        page.line("ironrail_pool_nodes", &[("pool", pool), ("phase", phase)], *count);
    }
    page.family("ironrail_pool_grants", "gauge", "nodes that may be disturbed now");
    let without = world.config.iter().map(|config| ("", config.status.grants.len()));
    let named = pools.iter().map(|pool| (pool.metadata.name.as_str(), pool.status.grants.len()));
    for (pool, grants) in without.chain(named) {
        page.line("ironrail_pool_grants", &[("pool", pool)], grants as u64);
    }
    page.family("ironrail_pool_rollout", "gauge", "1 for the phase of a rollout that is under way");
    for pool in &pools {
        let Some(rollout) = &pool.status.rollout else { continue };
        let labels = [("pool", pool.metadata.name.as_str()), ("phase", rollout.phase.as_str())];
        page.line("ironrail_pool_rollout", &labels, 1);
    }
    page.family("ironrail_pool_failed_nodes", "gauge", "nodes that came back worse from a rollout");
    for pool in &pools {
        let failures = pool.status.rollout.as_ref().map_or(0, |rollout| rollout.failures.len());
        let labels = [("pool", pool.metadata.name.as_str())];
        page.line("ironrail_pool_failed_nodes", &labels, failures as u64);
    }
}

/// Where a node is on its way through a rollout.
fn phase(world: &World, node: &Node, state: &SriovNetworkNodeState) -> &'static str {
    let name = &node.metadata.name;
    let seen = drain_state(node, state);
    let skipped = |pool: &api::pool::SriovNetworkPoolConfig| {
        pool.status.skipped.iter().any(|skipped| skipped.node == *name)
    };
    match (seen.current, seen.mirror) {
        (Progress::Draining, _) => "draining",
        (Progress::DrainComplete, _) => "changing",
        (Progress::Idle, planner::DrainRequest::Idle) => match crate::steps::is_at_goal(state) {
            true => "ready",
            false => "not_ready",
        },
        (Progress::Idle, _) if world.pools.values().any(skipped) => "skipped",
        (Progress::Idle, _) => "waiting",
    }
}

fn drains(page: &mut Page, world: &World, metrics: &Metrics) {
    let mut blocked: BTreeMap<&str, u64> = BTreeMap::new();
    for state in world.node_states.values() {
        let drained = state.status.conditions.iter().find(|condition| condition.kind == DRAINED);
        if let Some(condition) = drained.filter(|condition| is_blocked(&condition.reason)) {
            *blocked.entry(&condition.reason).or_default() += 1;
        }
    }
    page.family("ironrail_drains_blocked", "gauge", "drains that something is in the way of");
    for (reason, count) in blocked {
        page.line("ironrail_drains_blocked", &[("reason", reason)], count);
    }
    let name = "ironrail_drain_duration_seconds";
    page.family(name, "histogram", "time from the grant to the end of the drain");
    let mut sum = 0;
    for (index, count) in metrics.drains.iter().enumerate() {
        sum += count;
        let bound = BOUNDS.get(index).map_or("+Inf".to_owned(), ToString::to_string);
        page.line(&format!("{name}_bucket"), &[("le", &bound)], sum);
    }
    page.line(&format!("{name}_sum"), &[], metrics.drained_seconds.unsigned_abs());
    page.line(&format!("{name}_count"), &[], sum);
    page.family("ironrail_grants_total", "counter", "grants that were given");
    page.line("ironrail_grants_total", &[], metrics.granted);
    page.family("ironrail_evictions_total", "counter", "evictions by what the API said");
    for (result, count) in &metrics.evictions {
        page.line("ironrail_evictions_total", &[("result", result)], *count);
    }
    let name = "ironrail_pods_forced_total";
    page.family(name, "counter", "pods deleted past their disruption budget");
    page.line(name, &[], metrics.forced);
    let name = "ironrail_pods_not_admitted_total";
    page.family(name, "counter", "pods that a kubelet failed because a device was not to be had");
    page.line(name, &[], metrics.not_admitted);
}

fn reboots(page: &mut Page, world: &World) {
    let mut reboots: BTreeMap<[&str; 2], u64> = BTreeMap::new();
    let records = world.node_states.values().flat_map(|state| &state.status.reboots);
    for record in records.filter(|record| RebootReason::read(&record.reason).is_some()) {
        let outcome = match record.outcome {
            RebootOutcome::Pending => "pending",
            RebootOutcome::Void => "void",
            RebootOutcome::Helped => "helped",
            RebootOutcome::Refused { .. } => "refused",
            RebootOutcome::DidNotHelp { .. } => "did_not_help",
        };
        *reboots.entry([&record.reason, outcome]).or_default() += 1;
    }
    let name = "ironrail_reboots";
    page.family(name, "gauge", "reboots in the nodes' ledgers, which keep the last ones");
    for ([reason, outcome], count) in reboots {
        page.line(name, &[("reason", reason), ("outcome", outcome)], count);
    }
}

/// What the nodes' sweepers say.
fn sweeps(page: &mut Page, world: &World) {
    let sum = |count: fn(&SweepStatus) -> u64| {
        world.node_states.values().filter_map(|state| state.status.sweep.as_ref()).map(count).sum()
    };
    let name = "ironrail_devices_swept_total";
    page.family(
        name,
        "counter",
        "devices of pods that ended without a DEL, by what became of them",
    );
    page.line(name, &[("result", "home")], sum(|sweep| sweep.swept));
    page.line(name, &[("result", "failed")], sum(|sweep| sweep.failed));
    let name = "ironrail_sweep_suspects";
    page.family(name, "gauge", "devices that may be such, and wait for a second look");
    page.line(name, &[], sum(|sweep| sweep.suspects));
    let name = "ironrail_sweep_blind_nodes";
    page.family(name, "gauge", "nodes whose sweeper could not ask container runtime or kubelet");
    page.line(name, &[], sum(|sweep| u64::from(sweep.blind)));
}

/// A page in the making.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// A label's value: names of pools are harmless, but this page is not the place that relies on it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
