//! All controllers as one machine without clock, client or thread: events in, writes out, answers back in.
//!
//! Any driver (real cluster, playground, simulation) does the same five things with an `Operator`: it feeds watch
//! events, asks when something is due, takes a step, carries out the step's writes in order while `goes_on`, and
//! hands back the answers.

use crate::kinds::{self, Kind};
use crate::metrics::Metrics;
use crate::objects::Place;
use crate::queue::{Key, NetworkKind, PoolKey, Queue, later};
use crate::settings::Settings;
use crate::steps;
use crate::world::{Answered, Change, Noticed, WatchEvent, World};
use api::pool::Grant;
use api::wire::{Answer, ObjectKey, Outcome, Write};
use api::{Timestamp, annotation, names};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The operator: what it knows, and what it has to look at.
#[derive(Debug, Clone)]
pub struct Operator {
    pub world: World,
    pub queue: Queue,
    /// What it did, for those who watch rollouts; no step reads it.
    pub metrics: Metrics,
}

/// One step's result on its way to the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    pub key: Key,
    pub writes: Vec<Write>,
    look_again: Option<Timestamp>,
    /// When the step was taken.
    at: Timestamp,
}

impl Operator {
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        let mut queue = Queue::default();
        // These have something to say even to an empty cluster.
        for key in [Key::OperatorConfig, Key::DevicePluginConfig, Key::Pool(PoolKey::NoPool)] {
            queue.add(key, now);
        }
        Self { world: World::new(settings), queue, metrics: Metrics::default() }
    }

    /// Takes in one event of a watch.
    pub fn watched(&mut self, event: &WatchEvent, now: Timestamp) {
        let noticed = self.world.apply(event);
        self.enqueue(event, noticed, now);
    }

    /// Takes in a whole list of a kind, at start and after a watch was lost.
    pub fn relisted(&mut self, kind: &'static Kind, objects: Vec<Arc<Value>>, now: Timestamp) {
        for (event, noticed) in self.world.relisted(kind, objects) {
            self.enqueue(&event, noticed, now);
        }
    }

    /// Notes that the cluster does not serve a kind.
    pub fn kind_is_absent(&mut self, kind: &'static Kind, now: Timestamp) {
        for (event, noticed) in self.world.kind_is_absent(kind) {
            self.enqueue(&event, noticed, now);
        }
    }

    /// When the next step is due; None while the world is not complete or nothing waits.
    pub fn due(&self) -> Option<Timestamp> {
        match self.world.is_complete() {
            true => self.queue.next_due(),
            false => None,
        }
    }

    /// Takes the next step that is due. Its writes must be carried out and `answered`, even when there are none.
    pub fn step(&mut self, now: Timestamp) -> Option<Work> {
        if !self.world.is_complete() {
            return None;
        }
        self.queue.tell_time(now);
        let key = self.queue.take(now)?;
        if key == Key::Findings || self.world.findings.is_none() {
            self.find(now);
        }
        let outcome = reconcile(&self.world, &key, now);
        Some(Work { key, writes: outcome.writes, look_again: outcome.look_again, at: now })
    }

    /// Takes in what the API said to a step's writes: one answer for each write that was carried out, in order.
    pub fn answered(&mut self, work: Work, answers: Vec<Answer>, now: Timestamp) {
        let mut failed = false;
        let mut remembered = Vec::new();
        for (write, answer) in work.writes.iter().zip(answers) {
            failed |= !goes_on(write, &answer);
            self.metrics.note(&self.world, write, &answer, now);
            match answer {
                Answer::Done(object) => self.stored(&work.key, write, object, now),
                answer => remembered.push(Answered {
                    target: write.key(),
                    evict: matches!(write, Write::Evict { .. }),
                    answer,
                }),
            }
        }
        match remembered.is_empty() {
            true => self.world.answers.remove(&work.key),
            false => self.world.answers.insert(work.key.clone(), remembered),
        };
        match failed {
            true => self.queue.failed(work.key, now),
            false => {
                // What was meant is a while, and the clock may have been set back meanwhile.
                let since = now.duration_since(work.at);
                let shifted = |at: Timestamp| at.checked_add(since).unwrap_or(at);
                let look_again = match since.is_negative() {
                    true => work.look_again.map(shifted),
                    false => work.look_again,
                };
                self.queue.done(work.key, look_again);
            }
        }
    }

    /// The API answers a write with the object as stored; that is news as good as a watch event, and earlier.
    fn stored(&mut self, key: &Key, write: &Write, object: Value, now: Timestamp) {
        match write {
            // What a pod's step says on its node is told with what it says on the pod.
            Write::Event(event)
                if matches!(key, Key::Pod(_) | Key::Misplaced(_))
                    && event.regarding.kind != kinds::NODE =>
            {
                let said = (event.uid.clone(), event.message.clone());
                self.world.told.entry(event.regarding.clone()).or_default().insert(said);
            }
            Write::Apply { .. }
            | Write::Create { .. }
            | Write::Update { .. }
            | Write::Patch { .. } => {
                let object = object.into();
                self.watched(&WatchEvent { change: Change::Modified, object }, now);
            }
            Write::Delete { .. } | Write::Evict { .. } | Write::Event(_) => {}
        }
    }

    /// Looks anew at what is wrong between objects, and has those looked at of which that changed.
    fn find(&mut self, now: Timestamp) {
        let new = steps::policies::findings(&self.world);
        let old = self.world.findings.take().unwrap_or_default();
        let changed = |label: &str| old.get(label) != new.get(label);
        let mut keys: Vec<Key> =
            policies(&self.world).filter(|key| changed(&key.to_string())).collect();
        keys.extend(networks(&self.world, |_| true).into_iter().filter(|key| {
            // A network's key reads as its label does.
            changed(&key.to_string())
        }));
        self.world.findings = Some(new);
        for key in keys {
            self.queue.add(key, now);
        }
    }

    fn enqueue(&mut self, event: &WatchEvent, noticed: Noticed, now: Timestamp) {
        self.queue.tell_time(now);
        for key in keys_for(&self.world, event, noticed) {
            let place = if let Key::Pod(place) = &key { Some(place) } else { None };
            let pod = place.and_then(|place| self.world.pods.get(place));
            // Its controller may delete a pod that was not admitted at once, and make another one.
            let is_urgent = pod.is_some_and(|pod| pod.not_admitted.is_some());
            let wait = if is_urgent { Duration::ZERO } else { delay(&key, self.world.nodes.len()) };
            let at = later(now, wait);
            self.queue.add(key, at);
        }
    }
}

/// True when the writes that follow may still be carried out. A step's order is a promise (a cordon before the
/// evictions), so a refusal ends it; but one pod's budget must not hold up the other pods, what is gone is gone, and
/// an event that was not recorded is no reason to stop.
pub fn goes_on(write: &Write, answer: &Answer) -> bool {
    match (write, answer) {
        (_, Answer::Done(_)) | (Write::Event(_), _) => true,
        (Write::Evict { .. }, Answer::TooManyRequests(_) | Answer::NotFound(_)) => true,
        // The pod of that name is another one now.
        (Write::Evict { .. }, Answer::Conflict(_)) => true,
        (Write::Evict { .. }, answer) => is_about_one_pod(answer),
        (Write::Delete { .. }, Answer::NotFound(_)) => true,
        // Deleting a pod is the end of a drain by force.
        (Write::Delete { key, .. }, answer) if key.kind == kinds::POD => is_about_one_pod(answer),
        // The object went meanwhile, and with it the need.
        (Write::Apply { subresource: "status", .. }, Answer::NotFound(_)) => true,
        _ => false,
    }
}

/// A refusal that says nothing of the next pod: the eviction API answers 500 where two budgets select one, a webhook
/// whatever it likes. A server that knows nobody (401) or is not well (502 to 504) would say the same of all.
pub(crate) fn is_about_one_pod(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(status, _) if ![401, 502, 503, 504].contains(status))
}

/// The one dispatch from keys to controllers.
pub fn reconcile(world: &World, key: &Key, now: Timestamp) -> Outcome {
    match key {
        Key::OperatorConfig => steps::operatorconfig::reconcile(world, now),
        Key::NodeState(node) => steps::nodestates::reconcile(world, node, now),
        Key::Pool(pool) => steps::pools::reconcile(world, pool, now),
        Key::Drain(node) => steps::drain::reconcile(world, node, now),
        // Its result is in the world; it writes nothing.
        Key::Findings => Outcome::default(),
        Key::Policy(policy) => steps::policies::reconcile(world, policy, now),
        Key::DevicePluginConfig => steps::devices::reconcile(world),
        Key::Network { kind, namespace, name } => {
            steps::networks::reconcile(world, *kind, &Place::new(namespace, name), now)
        }
        Key::Pod(place) => steps::pods::reconcile(world, place, now),
        Key::Misplaced(key) => steps::misplaced::reconcile(world, key, now),
    }
}

/// How long a key waits for more of the same: one look at a thousand nodes is as good as a thousand looks. Keys that
/// look at all nodes wait by their number, so that a rollout over a large cluster does not look all the time.
fn delay(key: &Key, nodes: usize) -> Duration {
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    match key {
        Key::Drain(_)
        | Key::NodeState(_)
        | Key::Network { .. }
        | Key::OperatorConfig
        | Key::Misplaced(_) => Duration::ZERO,
        // Networks and pods are often applied from one file: the network may be a moment later.
        Key::Pod(_) => Duration::from_secs(1),
        Key::Pool(_) => Duration::from_millis(20) + Duration::from_micros(100) * nodes.min(5_000),
        Key::Findings | Key::Policy(_) | Key::DevicePluginConfig => {
            Duration::from_millis(100) + Duration::from_millis(1) * nodes.min(5_000)
        }
    }
}

/// What has to be looked at after an event.
pub fn keys_for(world: &World, event: &WatchEvent, noticed: Noticed) -> Vec<Key> {
    let key = ObjectKey::of(&event.object);
    let intent = match noticed {
        Noticed::Nothing => return Vec::new(),
        Noticed::Progress => false,
        Noticed::Intent => true,
    };
    let name = key.name.clone();
    let mut keys = Vec::new();
    if world.misplaced.contains_key(&key) {
        return vec![Key::Misplaced(key)];
    }
    match key.kind.as_str() {
        names::OPERATOR_CONFIG => {
            keys.push(Key::OperatorConfig);
            keys.push(Key::Pool(PoolKey::NoPool));
            if let Some(config) = &world.config {
                keys.extend(drains(world, &config.status.grants, intent));
                let control_plane = config.status.control_plane.iter();
                keys.extend(control_plane.map(|grant| Key::Drain(grant.node.clone())));
            }
            if intent {
                // Which nodes are managed may be another question now.
                keys.extend(pools(world));
                keys.extend(world.nodes.keys().cloned().map(Key::Drain));
                keys.extend(node_states(world));
                keys.extend(policies(world));
                keys.extend([Key::DevicePluginConfig, Key::Findings]);
            }
        }
        names::POOL => {
            keys.push(Key::Pool(PoolKey::Named(name.clone())));
            match world.pools.get(&name) {
                Some(pool) => {
                    keys.extend(drains(world, &pool.status.grants, intent));
                    // The cluster-wide grant of control-plane nodes follows those of the pools.
                    if pool.status.grants.iter().any(|grant| is_control_plane(world, grant)) {
                        keys.push(Key::Pool(PoolKey::NoPool));
                    }
                }
                // The drains that were begun under its grants have to be undone.
                None => keys.extend(draining(world)),
            }
            if intent {
                keys.extend(pools(world));
                keys.extend(node_states(world));
                keys.push(Key::Findings);
            }
        }
        names::POLICY => {
            keys.push(Key::Policy(name));
            if intent {
                keys.extend(node_states(world));
                keys.extend([Key::DevicePluginConfig, Key::Findings]);
            }
        }
        kinds::NODE | names::NODE_STATE => {
            keys.push(Key::Drain(name.clone()));
            keys.extend(pools(world));
            // A node state that was changed by hand is put right again.
            keys.push(Key::NodeState(name));
            keys.extend(policies(world));
            if intent {
                keys.extend([Key::DevicePluginConfig, Key::Findings]);
            }
        }
        names::SRIOV_NETWORK | names::IB_NETWORK | names::OVS_NETWORK => {
            // Another network may have waited for this one's NetworkAttachmentDefinition.
            keys.extend(networks(world, |place| place.name == name));
            if intent {
                keys.push(Key::Findings);
            }
            let gone = NetworkKind::ALL.into_iter().find(|kind| kind.name() == key.kind);
            keys.extend(gone.map(|kind| Key::Network { kind, namespace: key.namespace, name }));
        }
        names::NETWORK_ATTACHMENT => {
            keys.extend(networks(world, |place| place.name == name));
            if intent {
                keys.extend(pods_that_name(world, &name));
            }
        }
        kinds::NAMESPACE => keys.extend(steps::networks::aiming_at(world, &name)),
        kinds::POD => {
            let pod = world.pods.get(&Place::new(&key.namespace, &name));
            let node = pod.map(|pod| pod.node.clone()).unwrap_or_else(|| {
                let node = event.object.pointer("/spec/nodeName").and_then(Value::as_str);
                node.unwrap_or_default().to_owned()
            });
            if world.node_states.contains_key(&node) {
                keys.push(Key::Drain(node));
            }
            if pod.is_some_and(|pod| steps::pods::concerns(world, pod)) {
                keys.push(Key::Pod(Place::new(&key.namespace, &name)));
            }
        }
        kinds::BUDGET => keys.extend(draining(world)),
        // Those that drain look whether the pool is held; any one of its nodes, whether it can be let go.
        kinds::MACHINE_CONFIG_POOL | kinds::INFRASTRUCTURE => {
            keys.extend(draining(world));
            let mut managed = world.nodes.values().filter(|node| {
                // Only these have a drain that looks.
                world.node_states.contains_key(&node.metadata.name)
            });
            let of_pool = managed.find(|node| steps::machine_config::is_in(node, &name));
            keys.extend(of_pool.map(|node| Key::Drain(node.metadata.name.clone())));
        }
        kinds::CONFIG_MAP
            if [names::DEVICE_PLUGIN_CONFIG, names::SUPPORTED_NIC_IDS].contains(&name.as_str()) =>
        {
            keys.push(Key::DevicePluginConfig);
            if name == names::SUPPORTED_NIC_IDS {
                keys.extend(policies(world));
                keys.extend(world.node_states.keys().cloned().map(Key::Drain));
            }
        }
        kinds::DAEMON_SET => keys.push(Key::OperatorConfig),
        _ => {}
    }
    keys
}

fn is_control_plane(world: &World, grant: &Grant) -> bool {
    let node = world.nodes.get(&grant.node);
    node.is_some_and(|node| planner::rollout::has_control_plane_role(&node.metadata.labels))
}

/// The drains of nodes whose grant changed, and of all that hold one where what was asked for changed.
fn drains<'a>(
    world: &'a World,
    grants: &'a [Grant],
    intent: bool,
) -> impl Iterator<Item = Key> + 'a {
    let all = grants.iter().filter(move |_| intent).map(|grant| &grant.node);
    all.chain(&world.regranted).map(|node| Key::Drain(node.clone()))
}

fn draining(world: &World) -> impl Iterator<Item = Key> {
    let states = world.node_states.iter().filter(|(_, state)| {
        state.metadata.annotations.get(annotation::CURRENT_STATE).map(String::as_str)
            == Some(annotation::DRAINING)
    });
    states.map(|(node, _)| Key::Drain(node.clone()))
}

fn node_states(world: &World) -> impl Iterator<Item = Key> {
    world.nodes.keys().chain(world.node_states.keys()).map(|node| Key::NodeState(node.clone()))
}

fn pools(world: &World) -> impl Iterator<Item = Key> {
    let named = world.pools.keys().map(|pool| Key::Pool(PoolKey::Named(pool.clone())));
    named.chain([Key::Pool(PoolKey::NoPool)])
}

/// Pods whose networks may include one of this name; which of them do, their step reads.
fn pods_that_name(world: &World, network: &str) -> impl Iterator<Item = Key> {
    let named = move |annotations: &BTreeMap<String, String>| {
        annotations.get(annotation::NETWORKS).is_some_and(|text| text.contains(network))
    };
    let pods = world.pods.iter().filter(move |(_, pod)| named(&pod.metadata.annotations));
    pods.map(|(place, _)| Key::Pod(place.clone()))
}

fn policies(world: &World) -> impl Iterator<Item = Key> {
    world.policies.keys().map(|policy| Key::Policy(policy.clone()))
}

/// The networks of all kinds whose place the test accepts.
fn networks(world: &World, test: impl Fn(&Place) -> bool) -> Vec<Key> {
    let places = |kind| -> Vec<&Place> {
        match kind {
            NetworkKind::Sriov => world.sriov_networks.keys().collect(),
            NetworkKind::Ib => world.ib_networks.keys().collect(),
            NetworkKind::Ovs => world.ovs_networks.keys().collect(),
        }
    };
    let keys = NetworkKind::ALL.into_iter().flat_map(|kind| {
        places(kind).into_iter().filter(|place| test(place)).map(move |place| Key::Network {
            kind,
            namespace: place.namespace.clone(),
            name: place.name.clone(),
        })
    });
    keys.collect()
}
