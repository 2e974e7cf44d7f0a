//! One step of one process: what it sees, whether it lives to the end, and what becomes of its writes.

use super::fate::SECOND_OPERATOR;
use super::faults::Fault;
use super::mutation::Mutation;
use super::run::{Simulation, set_clock};
use super::workers::{Taken, Told, Worker};
use crate::store::{Reader, User};
use api::wire::{Answer, ObjectKey, Write};
use api::{Timestamp, annotation, files, names};
use host::Host;
use host::sim::Machine;
use serde_json::{Value, json};
use std::time::Duration;

impl Simulation {
    pub(super) fn step(&mut self, process: &str) {
        if self.steps_due.get(process).is_none_or(|due| *due > self.now) {
            return;
        }
        self.steps_due.remove(process);
        let Some(worker) = self.containers.workers.get(process) else { return };
        let node = worker.node().map(str::to_owned);
        let local = self.local_time(process);
        if let Some(late) = self.unheard.remove(process) {
            self.faults.mattered(late);
        }
        let mut crash_at = None;
        let mut told = Told::default();
        let mut before = None;
        if let Some(slot) = node.as_ref().and_then(|node| self.cluster.nodes.get(node)) {
            set_clock(&slot.kubelet.host, local, self.now);
            told = Told::by(slot);
            if self.options.mutation == Some(Mutation::NobodySweeps) {
                told.remember(self.sandboxes.entry(slot.kubelet.node.clone()).or_default());
            }
            before = Some((slot.kubelet.host.changes(), slot.kubelet.host.read(files::OFFER).ok()));
            if self.strikes(Fault::CrashAtPrimitive, 60) {
                crash_at = Some((self.fate.u64(1..400), self.fate.bool()));
            }
        }
        let lie = self.mutate(process, |mutation, machine| mutation.before_step(machine)).flatten();
        let was_asked = self.reboot_is_asked(node.as_deref());
        let Some(worker) = self.containers.workers.get_mut(process) else { return };
        let taken = worker.step(&told, crash_at, local);
        let name = worker.name();
        if let Some(slot) = node.as_ref().and_then(|node| self.cluster.nodes.get(node))
            && !was_asked
            && self.reboot_is_asked(node.as_deref())
        {
            self.invariants.reboot_asked(&slot.kubelet.node, &slot.kubelet.host.machine());
        }
        self.mutate(process, |mutation, machine| mutation.after_step(machine, lie));
        self.touched.extend(node.clone());
        let now = node
            .as_ref()
            .and_then(|node| self.cluster.nodes.get(node))
            .map(|slot| (slot.kubelet.host.changes(), slot.kubelet.host.read(files::OFFER).ok()));
        let changed = before.as_ref().map(|b| b.0) != now.as_ref().map(|n| n.0);
        if let Some(node) = node.as_ref().filter(|_| before.map(|b| b.1) != now.map(|n| n.1)) {
            self.wake_plugin(node);
        }
        match taken {
            Ok(taken) => self.carry_on(process, &name, node.as_deref(), taken),
            Err(_) => {
                // Killed while it only looked, it starts again and nobody can tell.
                self.faults.fired(Fault::CrashAtPrimitive, changed);
                self.kill(process, &format!("{name} dies in the middle of a step"));
            }
        }
    }

    /// The node asks, is drained or changed: the time in which clocks are read.
    fn has_a_turn(&self, node: &str) -> bool {
        let key = ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, node);
        let state = self.store.object(&key);
        let asks = |key: &str| {
            let annotations = state.and_then(|state| state.pointer("/metadata/annotations"));
            let value = annotations.and_then(|all| all.get(key)).and_then(Value::as_str);
            value.is_some_and(|value| value != annotation::IDLE)
        };
        asks(annotation::DESIRED_STATE) || asks(annotation::CURRENT_STATE)
    }

    fn reboot_is_asked(&self, node: Option<&str>) -> bool {
        let slot = node.and_then(|node| self.cluster.nodes.get(node));
        slot.is_some_and(|slot| slot.kubelet.host.machine().reboot_requested.is_some())
    }

    /// Lets the mutation at the machine of a process, where there is one.
    fn mutate<T>(&self, process: &str, act: impl FnOnce(Mutation, &mut Machine) -> T) -> Option<T> {
        let mutation = self.options.mutation?;
        let Worker::Daemon(daemon) = self.containers.workers.get(process)? else { return None };
        let slot = self.cluster.nodes.get(daemon.node())?;
        Some(act(mutation, &mut slot.kubelet.host.machine()))
    }

    /// The boot of the node that a process runs on, as a daemon.
    pub(super) fn boot_of(&self, process: &str) -> Option<String> {
        let node = self.containers.workers.get(process)?.node()?;
        Some(self.cluster.nodes.get(node)?.kubelet.host.machine().boot_id.clone())
    }

    fn kill(&mut self, process: &str, line: &str) {
        self.trace.line(self.now, line);
        self.containers.crash(process, "killed");
        self.wake_cluster(self.now + Duration::from_millis(100));
    }

    /// The writes of a step, and what it learns of them.
    fn carry_on(&mut self, process: &str, name: &str, node: Option<&str>, mut taken: Taken) {
        if let Some((node, mut lists)) = taken.lists.take() {
            let slot = self.cluster.nodes.get(&node);
            if let Some((mutation, slot)) = self.options.mutation.zip(slot) {
                mutation.list(&mut lists, slot.kubelet.devices.given());
            }
            self.containers.lists.entry(node).or_default().extend(lists);
            self.wake_cluster(self.now + Duration::from_millis(10));
        }
        let told = taken.writes.iter().any(|write| !matches!(write, Write::Event(_)));
        if told && node.is_some_and(|node| self.skew.contains_key(node) && self.has_a_turn(node)) {
            self.faults.mattered(Fault::ClockJump);
        }
        if self.told_twice.remove(process) && told {
            self.faults.mattered(Fault::DoubledWatch);
        }
        let Some(user) = self.containers.workers.get(process).map(|worker| worker.user()) else {
            return;
        };
        let mut answers = Vec::new();
        for (number, write) in taken.writes.iter().enumerate() {
            if self.strikes(Fault::CrashBetweenWrites, 400) {
                // Before its first write nothing is half done.
                self.faults.fired(Fault::CrashBetweenWrites, number > 0);
                self.kill(process, &format!("{name} dies between two writes"));
                return;
            }
            let mut mutated = None;
            if let Some(mutation) = self.options.mutation {
                mutation.write(mutated.insert(write.clone()), &self.store);
            }
            let mut answer = self.write(&user, mutated.as_ref().unwrap_or(write), taken.manager);
            if let Some(mutation) = self.options.mutation {
                mutation.answer(self.boot_of(process).as_deref(), write, &mut answer);
            }
            self.trace
                .line(self.now, &format!("{name} writes {}: {}", describe(write), short(&answer)));
            // One of the two was in the other's way.
            let second = self.containers.workers.contains_key(SECOND_OPERATOR);
            if second && node.is_none() && std::mem::take(&mut self.contended) {
                self.faults.mattered(Fault::TwoLeaders);
            }
            let goes_on = taken.goes_on(write, &answer);
            answers.push(answer);
            if !goes_on {
                break;
            }
        }
        // Host work takes time: the machine's clock says how much.
        let spent = taken.spent;
        if self.reboot_is_asked(node) {
            self.wake_cluster(self.now + spent + Duration::from_secs(1));
        }
        let local = self.local_time(process);
        let Some(worker) = self.containers.workers.get_mut(process) else { return };
        worker.answered(taken, answers, local);
        self.wake_when_due(process, spent);
        if let Some(node) = node
            && self.story.vfs.is_some()
            && self.strikes(Fault::PodAdmitted, 300)
        {
            self.admit_pod(node);
        }
    }

    /// A pod that no scheduler and no cordon was asked about.
    fn admit_pod(&mut self, node: &str) {
        let name = format!("{INTRUDER}-{}", self.events);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" },
            "spec": {
                "nodeName": node,
                "containers": [{ "name": "c", "image": "x", "command": ["sleep", "60"],
                    "resources": { "limits": { "openshift.io/rdma": "1" } } }],
            },
        });
        let create = Write::Create { object: pod };
        self.store.handle(self.now, &User::admin(), &create.request("kubectl"));
        self.faults.fired(Fault::PodAdmitted, false);
        self.wake_cluster(self.now + Duration::from_millis(1));
    }

    pub(super) fn time_on(&self, node: &str) -> Timestamp {
        let skew = self.skew.get(node).copied().unwrap_or_default();
        self.now + jiff::SignedDuration::from_secs(skew)
    }

    /// The clock that a process reads: that of its node.
    pub(super) fn local_time(&self, process: &str) -> Timestamp {
        let worker = self.containers.workers.get(process);
        worker.map_or(self.now, |worker| self.time_on(worker.clock()))
    }

    /// Puts the process's next step into the queue, in our time.
    pub(super) fn wake_when_due(&mut self, process: &str, spent: Duration) {
        let ahead = self.local_time(process).duration_since(self.now);
        let local = self.now + ahead;
        let Some(worker) = self.containers.workers.get(process) else { return };
        if let Some(at) = worker.due(local) {
            let at = (at - ahead).max(self.now + spent) + self.jitter(1, 20);
            self.wake(process, at);
        }
    }

    pub(super) fn wake_plugin(&mut self, node: &str) {
        if let Some(process) = self.containers.plugins.get(node).cloned() {
            let at = self.now + self.jitter(1, 20);
            self.wake(&process, at);
        }
    }

    fn write(&mut self, user: &User, write: &Write, manager: &str) -> Answer {
        if self.now < self.outage_until {
            if !std::mem::replace(&mut self.outage_felt, true) {
                self.faults.mattered(Fault::Outage);
            }
            return Answer::Unreachable("connection refused".to_owned());
        }
        // An event that is not recorded changes nothing that anybody reads.
        let matters = !matches!(write, Write::Event(_));
        if self.strikes(Fault::Conflict, 200) {
            self.faults.fired(Fault::Conflict, matters);
            return Answer::Conflict(
                "the object has been modified; please apply your changes to the latest version"
                    .to_owned(),
            );
        }
        let request = write.request(manager);
        let answer = self.store.handle_for(Reader::Program, self.now, user, &request);
        let answer = Answer::of(answer);
        self.contended = matches!(answer, Answer::Conflict(_));
        if self.strikes(Fault::LostAnswer, 300) {
            self.faults.fired(Fault::LostAnswer, matters);
            return Answer::Unreachable("connection reset by peer".to_owned());
        }
        if matches!((write, &answer), (Write::Evict { .. }, Answer::TooManyRequests(_))) {
            self.faults.mattered(Fault::StuckBudget);
        }
        answer
    }
}

/// The name that pods begin with that nobody scheduled.
pub(super) const INTRUDER: &str = "intruder";

fn describe(write: &Write) -> String {
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
            let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
            format!("done, version {}", version.unwrap_or("-"))
        }
        other => other.to_string(),
    }
}
