//! The built-in parts together: one tick lets every controller and every kubelet look once, and carries out what they say.

use super::devices::{DeviceLists, Plugins};
use super::kubelet::{Kubelet, Runtime};
use super::news::News;
use super::objects::{self, Objects};
use super::power::{self, NodeSlot};
use super::{scheduler, workloads};
use api::Timestamp;
use api::wire::{Answer, ObjectKey, Outcome, Write};
use host::sim::SimHost;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The API as the built-in parts use it: reads are fresh, writes are answered at once.
pub trait Api: Objects {
    /// Carries out a write as this user.
    fn write(&mut self, user: &str, write: &Write) -> Answer;
    /// Lets the garbage collector and the namespace controller look; true when something changed.
    fn tidy(&mut self) -> bool;
    /// The revision of now, and what changed after `revision` as it was last; None when nobody knows any more.
    fn changes(&self, revision: u64) -> (u64, Option<Vec<Arc<Value>>>);
}

/// What containers and plugins are made of in this driver.
pub trait Environment {
    fn runtime(&mut self) -> &mut dyn Runtime;
    /// The device plugins of a node.
    fn plugins(&mut self, node: &str) -> &mut dyn Plugins;
    /// Device lists that plugins of the node sent since the last tick: None for a plugin that went away.
    fn lists(&mut self, node: &str) -> DeviceLists;
    /// True when a container of the node may have ended or become ready since the last tick.
    fn stirred(&mut self, node: &str) -> bool;
}

#[derive(Default)]
pub struct Cluster {
    pub nodes: BTreeMap<String, NodeSlot>,
    /// The nodes that the last tick looked at.
    pub looked: BTreeSet<String>,
    news: News,
    /// When those may look next that look at the whole cluster.
    whole: Option<Timestamp>,
    failed: workloads::FailedPods,
    spreads: workloads::Spreads,
}

/// Clusters up to this size are looked at as a whole in each tick.
const SMALL: usize = 50;

/// How long those who look at the whole cluster wait for more to see: one look at a thousand nodes is as good as a
/// thousand looks.
fn patience(nodes: usize) -> Duration {
    match nodes {
        0..=SMALL => Duration::ZERO,
        more => Duration::from_micros(500).saturating_mul(u32::try_from(more).unwrap_or(u32::MAX)),
    }
}

impl Cluster {
    /// Adds a machine; `register` makes its Node object.
    pub fn add_node(&mut self, name: &str, host: SimHost, boot_time: Duration) {
        let number = self.nodes.len() + 1;
        // Each pod has a loopback address of its own: 127.<node, high>.<node, low>.<pod>; node addresses end in 1.
        let prefix = format!("127.{}.{}", 1 + number / 256, number % 256);
        let kubelet = Kubelet::new(name, host, &format!("{prefix}.1"), &prefix);
        self.nodes.insert(name.to_owned(), NodeSlot::new(kubelet, boot_time));
    }

    /// The Node object as a kubelet registers it.
    pub fn register(&self, name: &str) -> Write {
        Write::Create {
            object: json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": { "name": name, "labels": {
                    "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                    "node-role.kubernetes.io/worker": "",
                } },
                "spec": {},
                "status": { "nodeInfo": { "kubeletVersion": crate::store::discovery::release() } },
            }),
        }
    }

    /// The pods that are bound to a node, as of the last tick.
    pub fn pods_on(&self, node: &str) -> &[Arc<Value>] {
        self.news.pods_on(node)
    }

    /// One pass over everything. True when something was written or switched; look again at the given time.
    pub fn tick(
        &mut self,
        api: &mut dyn Api,
        environment: &mut dyn Environment,
        now: Timestamp,
    ) -> (bool, Option<Timestamp>) {
        self.looked.clear();
        let mut busy = false;
        let mut next = None;
        self.news.take_in(api);
        let early = self.whole.filter(|at| *at > now);
        if early.is_none() && api.tidy() {
            busy = true;
            self.news.take_in(api);
        }
        if self.news.take_namespaces() {
            let user = "system:serviceaccount:kube-system:service-account-controller";
            let outcome = accounts(api);
            busy |= carry_out(api, user, outcome, &mut next).busy;
        }
        match early {
            Some(at) => next = Some(at),
            None => busy |= self.look_at_the_whole(api, now, &mut next),
        }
        self.news.take_in(api);
        for (name, slot) in &mut self.nodes {
            let mut look = self.news.take_node(name);
            look |= slot.power(environment.runtime(), now);
            for (resource, devices) in environment.lists(name) {
                match devices {
                    Some(devices) if slot.is_up() => {
                        slot.kubelet.devices.listed(&resource, devices)
                    }
                    _ => slot.kubelet.devices.disconnected(&resource),
                }
                look = true;
            }
            busy |= look;
            look |= environment.stirred(name);
            look |= slot.look_again.is_some_and(|at| at <= now);
            if look {
                self.looked.insert(name.clone());
                let mut again = None;
                busy |= look_after(slot, name, &self.news, api, environment, now, &mut again);
                slot.look_again = again;
            }
            next = [next, slot.look_again, slot.down_until].into_iter().flatten().min();
        }
        (busy, next)
    }

    /// The workload controllers and the scheduler look; true when they wrote something.
    fn look_at_the_whole(
        &mut self,
        api: &mut dyn Api,
        now: Timestamp,
        next: &mut Option<Timestamp>,
    ) -> bool {
        let mut carried = Carried::default();
        let workloads = self.news.take_workloads();
        let waits = self.news.take_scheduler();
        let due = self.failed.next().is_some_and(|at| at <= now);
        if waits || !workloads.is_empty() || due {
            self.whole = Some(later(now, patience(self.nodes.len())));
        }
        if !workloads.is_empty() || due {
            let user = "system:serviceaccount:kube-system:workload-controllers";
            let outcome =
                workloads::step(api, &workloads, &mut self.failed, &mut self.spreads, now);
            carried += carry_out(api, user, outcome, next);
        } else if let Some(at) = self.failed.next() {
            *next = Some(next.map_or(at, |other| other.min(at)));
        }
        if waits {
            let outcome = scheduler::step(api, now);
            carried += carry_out(api, "system:kube-scheduler", outcome, next);
        }
        if carried.failed {
            self.news.look_again_with_the_next();
        }
        carried.busy
    }
}

/// How soon somebody looks whether a kubelet that was stopped runs again.
const SILENCE: Duration = Duration::from_secs(1);

/// The node controller and the kubelet look at one node; true when they wrote something.
fn look_after(
    slot: &mut NodeSlot,
    name: &str,
    news: &News,
    api: &mut dyn Api,
    environment: &mut dyn Environment,
    now: Timestamp,
    again: &mut Option<Timestamp>,
) -> bool {
    let mut busy = false;
    if let Some(node) = api.get("v1", "Node", "", name) {
        let mut writes = power::lifecycle(&node, slot.kubelet_runs(), now);
        let mut look_again = slot.down_until;
        if slot.is_up() && !slot.kubelet_runs() {
            look_again = Some(now + SILENCE);
        }
        if !slot.kubelet_runs() {
            let (deletions, later) = power::abandon(&node, news.pods_on(name), now);
            writes.extend(deletions);
            look_again = [look_again, later].into_iter().flatten().min();
        }
        let outcome = Outcome { writes, look_again };
        let user = "system:serviceaccount:kube-system:node-controller";
        busy |= carry_out(api, user, outcome, again).busy;
    }
    if slot.kubelet_runs() {
        let outcome = run_kubelet(slot, name, news.pods_on(name), api, environment, now);
        busy |= carry_out(api, &format!("system:node:{name}"), outcome, again).busy;
    }
    busy
}

fn run_kubelet(
    slot: &mut NodeSlot,
    name: &str,
    pods: &[Arc<Value>],
    api: &mut dyn Api,
    environment: &mut dyn Environment,
    now: Timestamp,
) -> Outcome {
    // Runtime and plugins live in one environment; the kubelet needs both at once.
    struct Both<'a>(&'a mut dyn Environment, &'a str);
    impl Plugins for Both<'_> {
        fn preferred(&mut self, resource: &str, available: &[String], size: usize) -> Vec<String> {
            self.0.plugins(self.1).preferred(resource, available, size)
        }
        fn allocate(
            &mut self,
            resource: &str,
            ids: &[String],
        ) -> Result<super::devices::Allocation, String> {
            self.0.plugins(self.1).allocate(resource, ids)
        }
    }
    impl Runtime for Both<'_> {
        fn start(&mut self, container: &super::kubelet::Container) {
            self.0.runtime().start(container);
        }
        fn stop(&mut self, id: &str) {
            self.0.runtime().stop(id);
        }
        fn kill(&mut self, id: &str) {
            self.0.runtime().kill(id);
        }
        fn ended(&mut self, id: &str) -> Option<(i32, String)> {
            self.0.runtime().ended(id)
        }
        fn ready(&mut self, id: &str) -> bool {
            self.0.runtime().ready(id)
        }
    }
    slot.kubelet.step(api, pods, &mut Both(environment, name), now)
}

fn later(now: Timestamp, delay: Duration) -> Timestamp {
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}

/// What became of somebody's writes.
#[derive(Debug, Default, Clone, Copy)]
struct Carried {
    /// There were some.
    busy: bool,
    /// Not all of them were accepted.
    failed: bool,
}

impl std::ops::AddAssign for Carried {
    fn add_assign(&mut self, other: Self) {
        self.busy |= other.busy;
        self.failed |= other.failed;
    }
}

fn carry_out(
    api: &mut dyn Api,
    user: &str,
    outcome: Outcome,
    next: &mut Option<Timestamp>,
) -> Carried {
    let mut carried = Carried { busy: !outcome.writes.is_empty(), failed: false };
    for write in &outcome.writes {
        let answer = api.write(user, write);
        carried.failed |= !matches!(answer, Answer::Done(_));
        // A conflict or a missing object heals at the next look; a refusal is a mistake of ours and must be seen.
        if let Answer::Refused(..) = answer {
            tracing::warn!(%user, object = %write.key(), %answer, "the API refused a write of the playground");
        }
    }
    if let Some(at) = outcome.look_again {
        *next = Some(next.map_or(at, |other| other.min(at)));
    }
    carried
}

/// Every namespace has a service account `default`.
fn accounts(api: &dyn Api) -> Outcome {
    let mut writes = Vec::new();
    for namespace in api.list("v1", "Namespace") {
        let name = objects::name(&namespace);
        let missing = api.get("v1", "ServiceAccount", name, "default").is_none();
        if missing && !objects::is_deleting(&namespace) {
            let key = ObjectKey::new("v1", "ServiceAccount", name, "default");
            writes.push(Write::Create {
                object: json!({ "apiVersion": key.api_version, "kind": key.kind,
                    "metadata": { "name": key.name, "namespace": key.namespace } }),
            });
        }
    }
    Outcome { writes, look_again: None }
}

/// The container that `kubectl exec` and `logs` mean where none is named.
pub fn default_container(pod: &Value) -> &str {
    match objects::text(pod, "/metadata/annotations/kubectl.kubernetes.io~1default-container") {
        "" => {
            objects::items(pod, "/spec/containers").first().map_or("", objects::name_of_container)
        }
        name => name,
    }
}
