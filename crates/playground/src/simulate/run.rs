//! The loop: takes the next event, lets one process take one step, puts in what follows from it.

use super::faults::{Fault, FaultCounts};
use super::invariants::Invariants;
use super::process::News;
use super::queue::{Event, Queue};
use super::story::{Act, Story};
use super::trace::Trace;
use super::workers::{Daemon, OperatorProcess, Plugin, Told, Worker};
use crate::cluster::cluster::{Cluster, Environment};
use crate::cluster::devices::{self, DeviceLists, Plugins};
use crate::cluster::direct::Direct;
use crate::cluster::kubelet::{Container, Runtime};
use crate::install;
use crate::store::{Store, User};
use api::Timestamp;
use api::wire::Answer;
use fastrand::Rng;
use host::sim::{Flavour, Machine, SimHost};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub trace: bool,
    /// Faults that may fire; the story and the timing stay the same without one.
    pub faults: BTreeSet<Fault>,
}

/// How one seed ended.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub seed: u64,
    pub nodes: usize,
    pub hash: u64,
    pub events: u64,
    pub faults: FaultCounts,
    /// What was violated; None when all held.
    pub problem: Option<String>,
}

/// Simulated time after which a world that is not at rest counts as stuck.
const LONGEST: Duration = Duration::from_secs(4 * 3600);
/// A world that wrote nothing for this long is at rest.
const REST: Duration = Duration::from_secs(150);
/// 2026-01-01, any fixed time does.
const START: i64 = 1_767_225_600;

/// Runs one seed to its end.
pub fn run(options: &Options) -> Verdict {
    let start = Timestamp::from_second(START).unwrap_or_default();
    let mut simulation = Simulation::new(options, start);
    let problem = simulation.play().err();
    Verdict {
        seed: options.seed,
        nodes: simulation.cluster.nodes.len(),
        hash: simulation.trace.hash(),
        events: simulation.events,
        faults: simulation.faults,
        problem,
    }
}

/// What containers are in the simulation: workers by container id.
#[derive(Default)]
pub struct Containers {
    workers: BTreeMap<String, Worker>,
    ended: BTreeMap<String, (i32, String)>,
    alive: BTreeSet<String>,
    starting: Vec<Container>,
    lists: BTreeMap<String, DeviceLists>,
    /// The device plugin's container on each node.
    plugins: BTreeMap<String, String>,
    asked: String,
}

impl Runtime for Containers {
    fn start(&mut self, container: &Container) {
        self.alive.insert(container.id.clone());
        self.starting.push(container.clone());
    }

    fn stop(&mut self, id: &str) {
        self.alive.remove(id);
        self.ended.remove(id);
        self.forget(id);
    }

    fn kill(&mut self, id: &str) {
        self.stop(id);
    }

    fn ended(&mut self, id: &str) -> Option<(i32, String)> {
        self.ended.get(id).cloned()
    }

    fn ready(&mut self, id: &str) -> bool {
        self.alive.contains(id) && !self.ended.contains_key(id)
    }
}

impl Containers {
    /// The process is no more; a device plugin's sockets go with it.
    fn forget(&mut self, id: &str) {
        self.starting.retain(|container| container.id != id);
        if let Some(Worker::Plugin(plugin)) = self.workers.remove(id) {
            let lists = self.lists.entry(plugin.node.clone()).or_default();
            lists.extend(plugin.resources().into_iter().map(|resource| (resource, None)));
            self.plugins.remove(&plugin.node);
        }
    }

    fn crash(&mut self, id: &str, why: &str) {
        self.forget(id);
        self.ended.insert(id.to_owned(), (137, why.to_owned()));
    }

    fn plugin(&mut self) -> Option<&mut Plugin> {
        match self.workers.get_mut(self.plugins.get(&self.asked)?)? {
            Worker::Plugin(plugin) => Some(plugin),
            _ => None,
        }
    }
}

impl Plugins for Containers {
    fn preferred(&mut self, resource: &str, available: &[String], size: usize) -> Vec<String> {
        self.plugin().map(|p| p.preferred(resource, available, size)).unwrap_or_default()
    }

    fn allocate(&mut self, resource: &str, ids: &[String]) -> Result<devices::Allocation, String> {
        let plugin =
            self.plugin().ok_or_else(|| format!("no plugin is connected for {resource}"))?;
        plugin.allocate(resource, ids)
    }
}

impl Environment for Containers {
    fn runtime(&mut self) -> &mut dyn Runtime {
        self
    }

    fn plugins(&mut self, node: &str) -> &mut dyn Plugins {
        self.asked = node.to_owned();
        self
    }

    fn lists(&mut self, node: &str) -> DeviceLists {
        self.lists.remove(node).unwrap_or_default()
    }
}

pub struct Simulation {
    now: Timestamp,
    start: Timestamp,
    queue: Queue,
    rng: Rng,
    /// Draws for faults, apart, so that leaving one fault out moves nothing else.
    fate: Rng,
    pub store: Store,
    pub cluster: Cluster,
    containers: Containers,
    story: Story,
    invariants: Invariants,
    trace: Trace,
    faults: FaultCounts,
    allowed: BTreeSet<Fault>,
    events: u64,
    cluster_due: Option<Timestamp>,
    steps_due: BTreeMap<String, Timestamp>,
    last_write: Timestamp,
    revision: u64,
    outage_until: Timestamp,
}

impl Simulation {
    fn new(options: &Options, start: Timestamp) -> Self {
        let mut rng = Rng::with_seed(options.seed);
        let fate = Rng::with_seed(rng.u64(..));
        let story = Story::draw(&mut rng, &options.faults);
        let mut store = Store::new(options.seed, start);
        let mut cluster = Cluster::default();
        for (name, machine) in story.machines(&mut rng, start) {
            let boot = Duration::from_secs(rng.u64(20..90));
            cluster.add_node(&name, SimHost::new(machine), boot);
            let node = cluster.register(&name);
            store.handle(start, &User::node(&name), &node.request("kubelet"));
        }
        let mut queue = Queue::default();
        for (index, act) in story.acts.iter().enumerate() {
            queue.add(start + act.after, Event::Act(index));
        }
        let invariants = Invariants::new(&cluster);
        Self {
            now: start,
            start,
            queue,
            rng,
            fate,
            store,
            cluster,
            containers: Containers::default(),
            story,
            invariants,
            trace: Trace::new(start, options.trace),
            faults: FaultCounts::default(),
            allowed: options.faults.clone(),
            events: 0,
            cluster_due: None,
            steps_due: BTreeMap::new(),
            last_write: start,
            revision: 0,
            outage_until: start,
        }
    }

    fn play(&mut self) -> Result<(), String> {
        install::into(&mut self.store, self.now)
            .map_err(|e| format!("the manifests do not install: {e:#}"))?;
        self.wake_cluster(self.now);
        while let Some((at, event)) = self.queue.next() {
            self.now = self.now.max(at);
            self.events += 1;
            self.happen(event);
            self.after_event();
            self.invariants
                .check(&self.cluster, &mut self.store, self.now)
                .map_err(|why| self.at(why))?;
            let over = self.story.is_over(self.start, self.now) && self.now > self.outage_until;
            if over && self.now > self.last_write + REST {
                break;
            }
            if self.now > self.start + LONGEST {
                return Err(self
                    .at(format!("the world is not at rest after {} h", LONGEST.as_secs() / 3600)));
            }
        }
        self.invariants.finish(&self.cluster, &self.store, &self.story).map_err(|why| self.at(why))
    }

    fn at(&self, why: String) -> String {
        format!("at {} s: {why}", (self.now.as_millisecond() - self.start.as_millisecond()) / 1000)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Cluster => self.tick(),
            Event::Deliver { process, watch } => self.deliver(&process, watch),
            Event::Step { process } => self.step(&process),
            Event::Act(index) => self.act(index),
        }
    }

    /// What follows from any event: new objects are to be delivered, new containers to be born.
    fn after_event(&mut self) {
        let changed = self.store.revision() != self.revision;
        if changed {
            self.revision = self.store.revision();
            if self.invariants.is_progress(&self.store) {
                self.last_write = self.now;
            }
            let delay = self.jitter(5, 50);
            self.wake_cluster(self.now + delay);
        }
        for container in std::mem::take(&mut self.containers.starting) {
            self.be_born(&container);
        }
        if changed {
            self.schedule_deliveries();
        }
    }

    fn jitter(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.u64(from..to))
    }

    fn wake_cluster(&mut self, at: Timestamp) {
        if self.cluster_due.is_none_or(|due| at < due) {
            self.cluster_due = Some(at);
            self.queue.add(at, Event::Cluster);
        }
    }

    fn wake(&mut self, process: &str, at: Timestamp) {
        if self.steps_due.get(process).is_none_or(|due| at < *due) {
            self.steps_due.insert(process.to_owned(), at);
            self.queue.add(at, Event::Step { process: process.to_owned() });
        }
    }

    fn tick(&mut self) {
        // A tick that was overtaken by an earlier one has nothing to do.
        if self.cluster_due.is_none_or(|due| due > self.now) {
            return;
        }
        self.cluster_due = None;
        for slot in self.cluster.nodes.values() {
            slot.kubelet.host.machine().clock = self.now;
        }
        let mut direct = Direct { store: &mut self.store, now: self.now };
        let (busy, next) = self.cluster.tick(&mut direct, &mut self.containers, self.now);
        if busy {
            self.wake_cluster(self.now + Duration::from_millis(20));
        }
        if let Some(next) = next {
            self.wake_cluster(next.max(self.now + Duration::from_millis(1)));
        }
    }

    fn be_born(&mut self, container: &Container) {
        let program = container.command.first().map(String::as_str).unwrap_or_default();
        let part = container.command.get(1).map(String::as_str).unwrap_or_default();
        let worker = match (program, part) {
            ("ironrail-operator", _) => OperatorProcess::new(container, self.now)
                .map(|operator| Worker::Operator(Box::new(operator))),
            ("ironrail-node", "daemon") => Daemon::new(container, self.host(&container.node))
                .map(|daemon| Worker::Daemon(Box::new(daemon))),
            ("ironrail-node", "device-plugin") => {
                Plugin::new(container, self.host(&container.node)).map(Worker::Plugin)
            }
            ("ironrail-node", "install-cni") => {
                self.containers.ended.insert(container.id.clone(), (0, String::new()));
                self.wake_cluster(self.now + Duration::from_millis(500));
                return;
            }
            _ => return,
        };
        match worker {
            Ok(worker) => {
                self.trace.line(self.now, &format!("{} starts", container.id_for_people()));
                if let Worker::Plugin(plugin) = &worker {
                    self.containers.plugins.insert(plugin.node.clone(), container.id.clone());
                }
                self.containers.workers.insert(container.id.clone(), worker);
                let at = self.now + self.jitter(50, 500);
                self.wake(&container.id, at);
                self.schedule_deliveries();
            }
            Err(why) => {
                self.trace
                    .line(self.now, &format!("{} cannot start: {why}", container.id_for_people()));
                self.containers.crash(&container.id, &why);
                self.wake_cluster(self.now + Duration::from_secs(1));
            }
        }
    }

    fn host(&self, node: &str) -> SimHost {
        match self.cluster.nodes.get(node) {
            Some(slot) => slot.kubelet.host.process(),
            None => SimHost::new(Machine::new(node, Flavour::NoTool, self.now)),
        }
    }

    fn schedule_deliveries(&mut self) {
        let mut due = Vec::new();
        for (id, worker) in &mut self.containers.workers {
            for (index, informer) in
                worker.informers().iter_mut().enumerate().filter(|(_, i)| !i.scheduled)
            {
                informer.scheduled = true;
                due.push((id.clone(), index));
            }
        }
        for (process, watch) in due {
            let late = self.strikes(Fault::LateWatch, 100);
            let delay = if late { self.jitter(2_000, 20_000) } else { self.jitter(1, 60) };
            self.queue.add(self.now + delay, Event::Deliver { process, watch });
        }
    }

    /// Draws whether a fault happens: one in `odds`, only while the story lasts.
    fn strikes(&mut self, fault: Fault, odds: u32) -> bool {
        let drawn = self.fate.u32(..odds) == 0;
        let strikes =
            drawn && self.allowed.contains(&fault) && !self.story.is_over(self.start, self.now);
        if strikes {
            self.faults.fired(fault);
            self.trace.line(self.now, &format!("fault: {fault}"));
        }
        strikes
    }

    fn deliver(&mut self, process: &str, watch: usize) {
        let lost = self.strikes(Fault::LostWatch, 150);
        let outage = self.now < self.outage_until;
        let Some(worker) = self.containers.workers.get_mut(process) else { return };
        let user = worker.user();
        let Some(informer) = worker.informers().get_mut(watch) else { return };
        if lost {
            informer.lose();
        }
        if outage || lost {
            // The client notices the broken connection after a while and lists again.
            informer.scheduled = true;
            let at = self.now.max(self.outage_until) + self.jitter(500, 8_000);
            self.queue.add(at, Event::Deliver { process: process.to_owned(), watch });
            return;
        }
        let news = informer.deliver(&mut self.store, &user, self.now);
        let kind = informer.kind;
        let Some(news) = news else { return };
        let count = match &news {
            News::Listed(objects) => objects.len(),
            News::Events(events) => events.len(),
        };
        let Some(worker) = self.containers.workers.get_mut(process) else { return };
        self.trace.line(
            self.now,
            &format!("{} hears {count} of {}", worker.name(), worker.kind_name(kind)),
        );
        worker.hear(kind, news, self.now);
        if let Some(at) = worker.due(self.now) {
            let at = at.max(self.now) + self.jitter(1, 20);
            self.wake(process, at);
        }
    }

    fn step(&mut self, process: &str) {
        if self.steps_due.get(process).is_none_or(|due| *due > self.now) {
            return;
        }
        self.steps_due.remove(process);
        let node = match self.containers.workers.get(process) {
            None => return,
            Some(worker) => worker.node().map(str::to_owned),
        };
        if let Some(slot) = node.as_ref().and_then(|node| self.cluster.nodes.get(node)) {
            slot.kubelet.host.machine().clock = self.now;
        }
        let crash_at = self
            .strikes(Fault::CrashAtPrimitive, 60)
            .then(|| (self.fate.u64(1..400), self.fate.bool()));
        let slot = node.as_ref().and_then(|node| self.cluster.nodes.get(node));
        let told = slot.map(|slot| Told::by(&slot.kubelet)).unwrap_or_default();
        let Some(worker) = self.containers.workers.get_mut(process) else { return };
        let taken = worker.step(&told, crash_at, self.now);
        let name = worker.name();
        let user = worker.user();
        let Ok(mut taken) = taken else {
            self.trace.line(self.now, &format!("{name} dies in the middle of a step"));
            self.containers.crash(process, "killed");
            self.wake_cluster(self.now + Duration::from_millis(100));
            return;
        };
        if let Some((node, lists)) = taken.lists.take() {
            self.containers.lists.entry(node).or_default().extend(lists);
            self.wake_cluster(self.now + Duration::from_millis(10));
        }
        // Host work takes time: the machine's clock says how much.
        let spent = taken.spent;
        let mut answers = Vec::new();
        for write in &taken.writes {
            if self.strikes(Fault::CrashBetweenWrites, 400) {
                self.trace.line(self.now, &format!("{name} dies between two writes"));
                self.containers.crash(process, "killed");
                self.wake_cluster(self.now + Duration::from_millis(100));
                return;
            }
            let answer = self.write(&user, write, taken.manager);
            self.trace
                .line(self.now, &format!("{name} writes {}: {}", describe(write), short(&answer)));
            let goes_on = taken.goes_on(write, &answer);
            answers.push(answer);
            if !goes_on {
                break;
            }
        }
        let reboot = node
            .as_ref()
            .and_then(|n| self.cluster.nodes.get(n))
            .is_some_and(|slot| slot.kubelet.host.machine().reboot_requested.is_some());
        if reboot {
            self.wake_cluster(self.now + spent + Duration::from_secs(1));
        }
        let Some(worker) = self.containers.workers.get_mut(process) else { return };
        worker.answered(taken, answers, self.now);
        if let Some(at) = worker.due(self.now) {
            let at = at.max(self.now + spent) + self.jitter(1, 20);
            self.wake(process, at);
        }
    }

    fn write(&mut self, user: &User, write: &api::wire::Write, manager: &str) -> Answer {
        if self.now < self.outage_until {
            return Answer::Unreachable("connection refused".to_owned());
        }
        if self.strikes(Fault::Conflict, 200) {
            return Answer::Conflict(
                "the object has been modified; please apply your changes to the latest version"
                    .to_owned(),
            );
        }
        let answer = Answer::of(self.store.handle(self.now, user, &write.request(manager)));
        if self.strikes(Fault::LostAnswer, 300) {
            return Answer::Unreachable("connection reset by peer".to_owned());
        }
        answer
    }

    fn act(&mut self, index: usize) {
        let Some(act) = self.story.acts.get(index).cloned() else { return };
        self.trace.line(self.now, &format!("act: {}", act.name));
        match act.what {
            Act::Send(request) => {
                let response = self.store.handle(self.now, &User::admin(), &request);
                self.trace.line(self.now, &format!("  {}", response.status));
            }
            Act::Outage(length) => {
                if self.allowed.contains(&Fault::Outage) {
                    self.faults.fired(Fault::Outage);
                    self.outage_until = self.now + length;
                }
            }
            Act::PowerCut(node) => {
                if self.allowed.contains(&Fault::PowerCut) {
                    self.faults.fired(Fault::PowerCut);
                    let until = self.now + Duration::from_secs(self.fate.u64(20..120));
                    if let Some(slot) =
                        self.cluster.nodes.get_mut(&node).filter(|slot| slot.is_up())
                    {
                        slot.cut(&mut self.containers, until);
                    }
                }
            }
        }
        self.wake_cluster(self.now + Duration::from_millis(1));
    }
}

fn describe(write: &api::wire::Write) -> String {
    use api::wire::Write;
    let verb = match write {
        Write::Apply { .. } => "apply",
        Write::Create { .. } => "create",
        Write::Update { .. } => "update",
        Write::Patch { .. } => "patch",
        Write::Delete { .. } => "delete",
        Write::Evict { .. } => "evict",
        Write::Event(event) => {
            return format!("event {} on {}: {}", event.reason, event.regarding, event.message);
        }
    };
    format!("{verb} {}", write.key())
}

fn short(answer: &Answer) -> String {
    match answer {
        Answer::Done(object) => {
            let version =
                object.pointer("/metadata/resourceVersion").and_then(serde_json::Value::as_str);
            format!("done, version {}", version.unwrap_or("-"))
        }
        other => other.to_string(),
    }
}
