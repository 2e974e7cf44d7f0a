//! The loop: takes the next event, lets one process take one step, puts in what follows from it.

pub mod script;

use super::containers::Containers;
use super::fate::SECOND_OPERATOR;
use super::faults::{Fault, FaultCounts};
use super::features::Feature;
use super::invariants::Invariants;
use super::mutation::Mutation;
use super::queue::{Event, Queue};
use super::steps::INTRUDER;
use super::story::{AGENT, Story};
use super::trace::Trace;
use super::workers::{Daemon, OperatorProcess, Plugin, Told, Worker};
use crate::cluster::cluster::Cluster;
use crate::cluster::direct::Direct;
use crate::cluster::kubelet::Container;
use crate::cluster::news;
use crate::cluster::objects::text;
use crate::install;
use crate::store::{Store, User};
use api::{Timestamp, files};
use fastrand::Rng;
use host::sim::{Flavour, Function, FunctionKind, Machine, SimHost};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub trace: bool,
    /// Faults that may fire; the story and the timing stay the same without one.
    pub faults: BTreeSet<Fault>,
    /// Of those, by number, the ones that do; None for all.
    pub keep: Option<BTreeSet<u32>>,
    /// A bug of the old operator that the run is to catch.
    pub mutation: Option<Mutation>,
    /// Roll a mode out over so many nodes, and draw no story.
    pub rollout: Option<usize>,
}

impl Options {
    /// The seed with all faults.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            trace: false,
            faults: Fault::all().collect(),
            keep: None,
            mutation: None,
            rollout: None,
        }
    }
}

/// How one seed ended.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    pub seed: u64,
    pub nodes: usize,
    pub hash: u64,
    pub events: u64,
    pub faults: FaultCounts,
    /// What the story drew beside the guide, and whether it mattered.
    pub features: BTreeMap<Feature, bool>,
    /// The faults that struck, by number.
    pub strokes: Vec<(u32, Fault)>,
    /// Simulated time from the first event to the last write.
    pub took: Duration,
    /// Writes that our programs sent, by service account.
    pub writes: BTreeMap<String, u64>,
    /// What was violated; None when all held.
    pub problem: Option<String>,
}

/// Simulated time after which a world that is not at rest counts as stuck.
const LONGEST: Duration = Duration::from_secs(4 * 3600);
/// A world that wrote nothing for this long is at rest.
const REST: Duration = Duration::from_secs(150);
const REST_OF_THE_DOWN: Duration = Duration::from_secs(400);
/// 2026-01-01, any fixed time does.
pub(super) const START: i64 = 1_767_225_600;

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
        features: simulation.features(),
        faults: simulation.faults,
        strokes: simulation.strokes,
        took: simulation.last_write.duration_since(start).unsigned_abs(),
        writes: simulation.invariants.writes,
        problem,
    }
}

pub struct Simulation {
    pub(super) now: Timestamp,
    pub(super) start: Timestamp,
    pub(super) options: Options,
    pub(super) queue: Queue,
    rng: Rng,
    /// Draws for faults, apart, so that leaving one fault out moves nothing else.
    pub(super) fate: Rng,
    pub(super) store: Store,
    pub(super) cluster: Cluster,
    pub(super) containers: Containers,
    pub(super) story: Story,
    pub(super) invariants: Invariants,
    pub(super) trace: Trace,
    pub(super) faults: FaultCounts,
    /// How many faults could have struck, and which did.
    pub(super) struck: u32,
    pub(super) strokes: Vec<(u32, Fault)>,
    pub(super) events: u64,
    cluster_due: Option<Timestamp>,
    pub(super) steps_due: BTreeMap<String, Timestamp>,
    last_write: Timestamp,
    /// The last look that was scheduled when the world came to rest, and after which write that was.
    last_look: Option<(Timestamp, Timestamp)>,
    revision: u64,
    pub(super) outage_until: Timestamp,
    /// Somebody was refused in this outage.
    pub(super) outage_felt: bool,
    /// Watches by the kind and name that they ask for; no name is all of them.
    pub(super) subscribers: BTreeMap<(String, String), BTreeSet<(String, usize)>>,
    /// Processes to which something was not told, or not in time.
    pub(super) unheard: BTreeMap<String, Fault>,
    /// Processes that were told the same twice, and have taken no step since.
    pub(super) told_twice: BTreeSet<String>,
    /// The last write was refused by the store, since somebody else had written.
    pub(super) contended: bool,
    /// Seconds by which the clock of a node is wrong.
    pub(super) skew: BTreeMap<String, i64>,
    /// Machines that stay down.
    pub(super) lost: BTreeSet<String>,
    /// Sandboxes that each node has ever had, for the mutation that believes in all of them.
    pub(super) sandboxes: BTreeMap<String, BTreeSet<String>>,
    /// Pods that nobody scheduled and that were given a device.
    intruders: BTreeSet<String>,
    /// Features that mattered when they showed.
    pub(super) felt: BTreeSet<Feature>,
    /// A DaemonSet's pod was given a device.
    pub(super) agents_were_given: bool,
    /// Nodes on whose machine something may have changed in this event.
    pub(super) touched: BTreeSet<String>,
}

impl Simulation {
    fn new(options: &Options, start: Timestamp) -> Self {
        let mut rng = Rng::with_seed(options.seed);
        let fate = Rng::with_seed(rng.u64(..));
        let story = match options.rollout {
            Some(nodes) => Story::rollout(nodes),
            None => Story::draw(&mut rng),
        };
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
            options: options.clone(),
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
            struck: 0,
            strokes: Vec::new(),
            events: 0,
            cluster_due: None,
            steps_due: BTreeMap::new(),
            last_write: start,
            last_look: None,
            revision: 0,
            outage_until: start,
            outage_felt: true,
            subscribers: BTreeMap::new(),
            unheard: BTreeMap::new(),
            told_twice: BTreeSet::new(),
            contended: false,
            skew: BTreeMap::new(),
            lost: BTreeSet::new(),
            sandboxes: BTreeMap::new(),
            intruders: BTreeSet::new(),
            felt: BTreeSet::new(),
            agents_were_given: false,
            touched: BTreeSet::new(),
        }
    }

    fn play(&mut self) -> Result<(), String> {
        install::into(&mut self.store, self.now)
            .map_err(|e| format!("the manifests do not install: {e:#}"))?;
        self.wake_cluster(self.now);
        while let Some((at, event)) = self.queue.next() {
            let over = self.story.is_over(self.start, self.now) && self.now > self.outage_until;
            if over && at > self.last_write + self.rest() && self.nothing_is_scheduled(at) {
                break;
            }
            self.now = self.now.max(at);
            self.events += 1;
            self.happen(event);
            self.after_event();
            let touched = std::mem::take(&mut self.touched);
            let two_leaders = self.strokes.iter().any(|(_, fault)| *fault == Fault::TwoLeaders);
            self.invariants
                .check(&self.cluster, &mut self.store, &self.story, &touched, two_leaders)
                .map_err(|why| self.at(why))?;
            if self.now > self.start + LONGEST {
                return Err(self
                    .at(format!("the world is not at rest after {} h", LONGEST.as_secs() / 3600)));
            }
        }
        self.see_what_mattered();
        let struck: BTreeSet<Fault> = self.strokes.iter().map(|(_, fault)| *fault).collect();
        let end = super::ending::End {
            cluster: &self.cluster,
            store: &self.store,
            story: &self.story,
            lost: &self.lost,
            struck: &struck,
        };
        end.check().map_err(|why| self.at(why))?;
        let at_goal = end.at_goal();
        self.at_rest(&at_goal).map_err(|why| self.at(why))
    }

    /// While a machine is down its pods are given up after five minutes, the operator's too.
    fn rest(&self) -> Duration {
        match self.cluster.nodes.values().all(|slot| slot.is_up()) {
            true => REST,
            false => REST_OF_THE_DOWN,
        }
    }

    /// Every look that somebody had scheduled when the world came to rest has been taken, and brought nothing: a deadline
    /// is minutes away, and what is tried again every few seconds has been tried since.
    fn nothing_is_scheduled(&mut self, at: Timestamp) -> bool {
        let (write, look) = match self.last_look {
            Some((write, look)) if write == self.last_write => (write, look),
            _ => {
                let looks = self.containers.workers.values().filter_map(Worker::last_look);
                (self.last_write, looks.max().unwrap_or(self.now))
            }
        };
        self.last_look = Some((write, look));
        at > look
    }

    /// Planning again at the goal is empty, on every node that is there; and where all are, for the operator too.
    fn at_rest(&mut self, at_goal: &BTreeSet<String>) -> Result<(), String> {
        for worker in self.containers.workers.values_mut() {
            let Worker::Daemon(daemon) = worker else { continue };
            if !at_goal.contains(daemon.node()) {
                continue;
            }
            let Some(slot) = self.cluster.nodes.get(daemon.node()) else { continue };
            set_clock(&slot.kubelet.host, self.now, self.now);
            daemon.at_rest(&Told::by(slot), self.now)?;
        }
        let all = at_goal.len() == self.cluster.nodes.len();
        match self.containers.operator.as_ref().filter(|_| all) {
            Some(container) => OperatorProcess::at_rest(container, &mut self.store, self.now),
            None => Ok(()),
        }
    }

    /// What only the end can tell of some faults.
    fn see_what_mattered(&mut self) {
        for slot in self.cluster.nodes.values() {
            let faults = slot.kubelet.host.machine().faults.clone();
            let made_vfs = |line: &String| line.contains("sriov_numvfs <- ");
            if faults.contains(&host::sim::Fault::VfsAppearLate)
                && slot.kubelet.host.journal().iter().any(made_vfs)
            {
                self.faults.mattered(Fault::SlowKernel);
            }
            let machine = slot.kubelet.host.machine();
            let deaf = faults.contains(&host::sim::Fault::IgnoresKernelArgument);
            if deaf && has_not_helped(&machine, "RdmaMode") {
                self.faults.mattered(Fault::ArgumentsIgnored);
            }
            if faults.contains(&host::sim::Fault::IgnoresReboot)
                && machine.reboot_requested.is_some()
            {
                self.faults.mattered(Fault::RebootIgnored);
            }
            let stubborn = machine.functions.values().any(ignores_writes);
            if stubborn && has_not_helped(&machine, "Firmware") {
                self.faults.mattered(Fault::FirmwareIgnored);
            }
        }
    }

    fn at(&self, why: String) -> String {
        format!("at {} s: {why}", (self.now.as_millisecond() - self.start.as_millisecond()) / 1000)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Cluster => self.tick(),
            Event::Deliver { process, watch } => self.deliver(&process, watch),
            Event::Step { process } => self.step(&process),
            Event::Act(index) => {
                self.act(index);
                // What follows from it takes its time, also where the API did not notice yet.
                self.last_write = self.now;
            }
        }
    }

    /// What follows from any event: new objects are to be delivered, new containers to be born.
    fn after_event(&mut self) {
        if self.store.revision() != self.revision {
            let changes = self.store.changes_since(self.revision).unwrap_or_default();
            self.revision = self.store.revision();
            if self.invariants.is_progress(&self.store) {
                self.last_write = self.now;
            }
            if self.store.has_garbage()
                || changes.iter().any(|object| news::is_watched(text(object, "/kind")))
            {
                // One look at a thousand nodes is as good as a thousand looks.
                let nodes = self.cluster.nodes.len() as u64;
                let delay = self.jitter(5, 50) + Duration::from_millis(nodes / 10);
                self.wake_cluster(self.now + delay);
            }
            self.schedule_deliveries(&changes);
        }
        for container in std::mem::take(&mut self.containers.starting) {
            self.be_born(&container);
        }
    }

    pub(super) fn jitter(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.u64(from..to))
    }

    pub(super) fn wake_cluster(&mut self, at: Timestamp) {
        if self.cluster_due.is_none_or(|due| at < due) {
            self.cluster_due = Some(at);
            self.queue.add(at, Event::Cluster);
        }
    }

    pub(super) fn wake(&mut self, process: &str, at: Timestamp) {
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
        for (node, slot) in &self.cluster.nodes {
            let skew = self.skew.get(node).copied().unwrap_or_default();
            let local = self.now + jiff::SignedDuration::from_secs(skew);
            set_clock(&slot.kubelet.host, local, self.now);
        }
        let mut direct = Direct { store: &mut self.store, now: self.now };
        let (busy, next) = self.cluster.tick(&mut direct, &mut self.containers, self.now);
        self.touched.append(&mut self.cluster.looked);
        self.see_crashed_plugins();
        if busy {
            let nodes = self.cluster.nodes.len() as u64;
            self.wake_cluster(self.now + Duration::from_millis(20 + nodes / 20));
        }
        if let Some(next) = next {
            self.wake_cluster(next.max(self.now + Duration::from_millis(1)));
        }
    }

    /// CNI plugins that were killed in this tick, and pods that came in without a scheduler.
    fn see_crashed_plugins(&mut self) {
        for node in &self.touched {
            let Some(slot) = self.cluster.nodes.get_mut(node) else { continue };
            for changed in std::mem::take(&mut slot.kubelet.cni_killed) {
                self.faults.fired(Fault::CrashInCni, changed);
                self.trace.line(self.now, &format!("a CNI plugin dies on {node}"));
            }
            for given in slot.kubelet.devices.given() {
                self.agents_were_given |= given.pod.starts_with(AGENT);
                if given.pod.starts_with(INTRUDER) && self.intruders.insert(given.pod.clone()) {
                    self.faults.mattered(Fault::PodAdmitted);
                }
            }
        }
    }

    pub(super) fn be_born(&mut self, container: &Container) {
        let program = container.command.first().map(String::as_str).unwrap_or_default();
        let part = container.command.get(1).map(String::as_str).unwrap_or_default();
        let worker = match (program, part) {
            ("ironrail-operator", _) => {
                if container.id != SECOND_OPERATOR {
                    self.containers.operator = Some(container.clone());
                }
                OperatorProcess::new(container, self.time_on(&container.node))
                    .map(|operator| Worker::Operator(Box::new(operator)))
            }
            ("ironrail-node", "daemon") => Daemon::new(container, self.host(&container.node))
                .map(|daemon| Worker::Daemon(Box::new(daemon))),
            ("ironrail-node", "device-plugin") => {
                Plugin::new(container, self.host(&container.node)).map(Worker::Plugin)
            }
            ("ironrail-node", "install-cni") => {
                self.containers.end(&container.id, 0, "");
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
                self.subscribe(&container.id);
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
}

/// True where a reboot for this reason is booked as one that brought nothing.
fn has_not_helped(machine: &Machine, reason: &str) -> bool {
    let disk = machine.files.get(files::REBOOTS).map(Vec::as_slice).unwrap_or_default();
    let records: Value = serde_json::from_slice(disk).unwrap_or_default();
    let mut records = records.as_array().into_iter().flatten();
    records.any(|record| {
        text(record, "/reason") == reason && text(record, "/outcome/state") == "didNotHelp"
    })
}

/// True for a card whose firmware forgets at boot what it was told.
pub(super) fn ignores_writes(function: &Function) -> bool {
    let FunctionKind::Physical(part) = &function.kind else { return false };
    part.firmware.as_ref().is_some_and(|firmware| firmware.ignores_writes)
}

/// Sets a node's clock, and how long it has been up, which goes on whoever sets the clock. Since when is no matter.
pub(super) fn set_clock(host: &SimHost, local: Timestamp, now: Timestamp) {
    host.machine().set_time(local, now.duration_since(Timestamp::UNIX_EPOCH).unsigned_abs());
}
