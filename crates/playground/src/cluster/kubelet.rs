//! A small kubelet: runs the pods of its node, gives them devices and networks, and reports the node.
//!
//! A step function over the store and the machine. Processes are started through `Runtime`, plugins asked through
//! `Plugins`; both are gRPC and tasks in the playground, plain calls in the simulation. It retries what fails with a
//! back-off, as the real one does, and never gives a pod less than it asked for.

mod node;
mod status;

use super::devices::{DeviceManager, Plugins};
use super::multus::{self, Attachment, Chain};
use super::objects::{self, Objects, items, name, namespace, text, uid};
use api::wire::{Event, ObjectKey, Outcome, Write};
use api::{Timestamp, files};
use host::Host;
use host::crashing::{self, Crash, Crashing, Death, Side};
use host::sim::SimHost;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A container that is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// `<pod uid>/<container name>/<start number>`.
    pub id: String,
    pub node: String,
    pub namespace: String,
    pub pod: String,
    pub name: String,
    /// `command` and `args`, with `$(NAME)` replaced.
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub service_account: String,
    pub pod_ip: String,
    /// Path of the pod's network namespace; empty for the host's.
    pub network: String,
    /// Paths of device nodes that the container was given.
    pub device_nodes: Vec<String>,
}

impl Container {
    /// The container as a reader knows it.
    pub fn id_for_people(&self) -> String {
        format!("{}/{} on {}", self.pod, self.name, self.node)
    }
}

/// Whatever runs containers.
pub trait Runtime {
    fn start(&mut self, container: &Container);
    /// Asks the container to end; it is gone from here on.
    fn stop(&mut self, id: &str);
    /// The container dies where it stands.
    fn kill(&mut self, id: &str);
    /// Exit status and last words of a container that has ended; None while it runs.
    fn ended(&mut self, id: &str) -> Option<(i32, String)>;
    /// True once a container that serves a readiness probe answers it; containers without one are ready at once.
    fn ready(&mut self, id: &str) -> bool;
}

/// How far a pod of this node has come.
#[derive(Debug, Clone, Default)]
struct Run {
    namespace: String,
    name: String,
    ip: String,
    network: String,
    attached: Vec<(Attachment, Chain, Value)>,
    /// Container name → its running instance.
    containers: BTreeMap<String, Instance>,
    initialised: usize,
    sandboxed: bool,
    /// The process that holds the sandbox.
    pause: Option<u32>,
    retries: u32,
    retry_at: Option<Timestamp>,
    said: String,
}

#[derive(Debug, Clone)]
struct Instance {
    container: Container,
    starts: u32,
    running: bool,
    since: Timestamp,
    restart_at: Option<Timestamp>,
    last: Option<(i32, String)>,
}

pub struct Kubelet {
    pub node: String,
    pub host: SimHost,
    pub devices: DeviceManager,
    /// The node's own address; pods on the host's network have it too.
    pub address: String,
    /// First three numbers of the pod addresses of this node: `127.1.4`.
    pub pod_prefix: String,
    /// CNI plugins that say success and do nothing.
    pub idle_plugins: Vec<String>,
    /// The next CNI plugin dies at this primitive, before or after it.
    pub cni_crash: Option<(u64, bool)>,
    /// For each CNI plugin that died: whether it had changed something.
    pub cni_killed: Vec<bool>,
    next_ip: u8,
    runs: BTreeMap<String, Run>,
    started_at: Option<Timestamp>,
}

impl Kubelet {
    pub fn new(node: &str, host: SimHost, address: &str, pod_prefix: &str) -> Self {
        Self {
            node: node.to_owned(),
            host,
            devices: DeviceManager::default(),
            address: address.to_owned(),
            pod_prefix: pod_prefix.to_owned(),
            idle_plugins: Vec::new(),
            cni_crash: None,
            cni_killed: Vec::new(),
            next_ip: 1,
            runs: BTreeMap::new(),
            started_at: None,
        }
    }

    /// The machine went down: nothing of what ran is left, the checkpoint of given devices is.
    pub fn machine_stopped(&mut self, runtime: &mut dyn Runtime) {
        for run in self.runs.values() {
            for instance in run.containers.values().filter(|i| i.running) {
                runtime.kill(&instance.container.id);
            }
        }
        self.runs.clear();
        self.devices.all_disconnected();
        self.started_at = None;
    }

    /// True while the pod has its sandbox and is not being stopped.
    pub fn is_running(&self, pod_uid: &str) -> bool {
        self.runs.get(pod_uid).is_some_and(|run| run.sandboxed)
    }

    /// A running container of a pod, for `exec` and `logs`.
    pub fn container(&self, pod_uid: &str, name: &str) -> Option<&Container> {
        let run = self.runs.get(pod_uid)?;
        let instance = match name.is_empty() {
            true => run.containers.values().next(),
            false => run.containers.get(name),
        };
        instance.map(|i| &i.container)
    }

    /// The sandboxes that the container runtime knows, by the id that CNI is given.
    pub fn sandboxes(&self) -> BTreeSet<String> {
        let sandboxed = self.runs.iter().filter(|(_, run)| !run.network.is_empty());
        sandboxed.map(|(pod, _)| pod.clone()).collect()
    }

    /// One pass over the pods that are bound to the node, and the node itself.
    pub fn step(
        &mut self,
        view: &(impl Objects + ?Sized),
        pods: &[Arc<Value>],
        node_side: &mut (impl Plugins + Runtime),
        now: Timestamp,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let known: Vec<&str> = pods.iter().map(|p| uid(p)).collect();
        let gone: Vec<String> =
            self.runs.keys().filter(|u| !known.contains(&u.as_str())).cloned().collect();
        for uid in gone {
            match self.stop(&uid, node_side) {
                Ok(()) => self.devices.release(&uid),
                Err(_) => look_again(&mut outcome, now + Duration::from_secs(2)),
            }
        }
        self.devices.forget_all_but(&known);
        for pod in pods {
            self.pod(view, pod, node_side, now, &mut outcome);
        }
        if let Some(checkpoint) = self.devices.new_checkpoint() {
            let content = checkpoint.to_string().into_bytes();
            self.host.machine().files.insert(files::KUBELET_CHECKPOINT.to_owned(), content);
        }
        if let Some(node) = view.get("v1", "Node", "", &self.node) {
            outcome.writes.extend(self.report(&node, now));
        }
        outcome
    }

    fn pod(
        &mut self,
        view: &(impl Objects + ?Sized),
        pod: &Value,
        node_side: &mut (impl Plugins + Runtime),
        now: Timestamp,
        outcome: &mut Outcome,
    ) {
        if objects::is_deleting(pod) {
            if let Err(why) = self.stop(uid(pod), node_side) {
                // The real kubelet keeps the pod until its sandbox is down.
                outcome.writes.push(Write::Event(event(pod, true, "FailedKillPod", why, now)));
                look_again(outcome, now + Duration::from_secs(2));
                return;
            }
            self.devices.release(uid(pod));
            outcome.writes.push(Write::Delete {
                key: ObjectKey::of(pod),
                uid: uid(pod).to_owned(),
                resource_version: String::new(),
            });
            return;
        }
        if objects::is_finished(pod) {
            match self.stop(uid(pod), node_side) {
                Ok(()) => self.devices.finish(uid(pod)),
                Err(_) => look_again(outcome, now + Duration::from_secs(2)),
            }
            return;
        }
        if !self.runs.contains_key(uid(pod)) {
            if let Err(why) = self.devices.admit(pod, node_side) {
                outcome.writes.push(status::rejected(pod, &why, now));
                outcome.writes.push(Write::Event(event(
                    pod,
                    true,
                    "UnexpectedAdmissionError",
                    why,
                    now,
                )));
                return;
            }
            let fresh = self.begin(pod);
            self.runs.insert(uid(pod).to_owned(), fresh);
        }
        self.advance(view, pod, node_side, now, outcome);
    }

    fn begin(&mut self, pod: &Value) -> Run {
        let on_host = pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true));
        let (ip, network) = match on_host {
            true => (self.address.clone(), String::new()),
            false => {
                self.next_ip = self.next_ip.checked_add(1).unwrap_or(2);
                (
                    format!("{}.{}", self.pod_prefix, self.next_ip),
                    format!("/var/run/netns/cni-{}", uid(pod)),
                )
            }
        };
        Run {
            namespace: namespace(pod).to_owned(),
            name: name(pod).to_owned(),
            ip,
            network,
            ..Run::default()
        }
    }

    /// Sandbox, then init containers one by one, then all containers; then keeps them running.
    fn advance(
        &mut self,
        view: &(impl Objects + ?Sized),
        pod: &Value,
        runtime: &mut dyn Runtime,
        now: Timestamp,
        outcome: &mut Outcome,
    ) {
        let Some(mut run) = self.runs.remove(uid(pod)) else { return };
        if run.retry_at.is_some_and(|at| now < at) {
            look_again(outcome, run.retry_at.unwrap_or(now));
        } else if !run.sandboxed {
            match self.sandbox(view, pod, &mut run) {
                Ok(()) => {
                    let network = Some(run.network.as_str()).filter(|path| !path.is_empty());
                    run.pause = self.host.machine().start_sandbox(uid(pod), network).ok();
                    run.sandboxed = true;
                }
                Err(why) => {
                    run.retries += 1;
                    let at = now + Duration::from_secs(1 << run.retries.min(4));
                    run.retry_at = Some(at);
                    look_again(outcome, at);
                    if run.said != why {
                        outcome.writes.push(Write::Event(event(
                            pod,
                            true,
                            "FailedCreatePodSandBox",
                            why.clone(),
                            now,
                        )));
                    }
                    run.said = why;
                }
            }
        }
        if run.sandboxed {
            self.containers(pod, &mut run, runtime, now, outcome);
        }
        outcome.writes.extend(status::status(pod, &run, &self.address, runtime, now));
        self.runs.insert(uid(pod).to_owned(), run);
    }

    /// The network namespace and every network of the pod's annotation; undone when one fails.
    fn sandbox(
        &mut self,
        view: &(impl Objects + ?Sized),
        pod: &Value,
        run: &mut Run,
    ) -> Result<(), String> {
        if run.network.is_empty() {
            return Ok(());
        }
        let wanted = multus::attachments(pod)?;
        self.host
            .machine()
            .create_namespace(&run.network)
            .map_err(|e| format!("cannot make a network namespace: {}", host::seam::words(e)))?;
        let result = self.attach_all(view, pod, run, wanted);
        if result.is_err() {
            let _ = self.detach_all(run);
            let _ = self.host.machine().delete_namespace(&run.network);
        }
        result.map_err(|why| {
            format!(
                "Failed to create pod sandbox: plugin type=\"multus\" failed (add): [{}/{}]: {why}",
                run.namespace, run.name
            )
        })
    }

    fn attach_all(
        &mut self,
        view: &(impl Objects + ?Sized),
        pod: &Value,
        run: &mut Run,
        wanted: Vec<Attachment>,
    ) -> Result<(), String> {
        let mut devices: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for given in self.devices.of_pod(uid(pod)) {
            devices.entry(given.resource.clone()).or_default().extend(given.ids.iter().cloned());
        }
        // Multus sorts the ids: annotation order meets PCI order.
        devices.values_mut().for_each(|ids| ids.sort());
        for attachment in wanted {
            let chain = multus::chain(view, &attachment, &mut devices)?;
            run.attached.push((attachment.clone(), chain.clone(), Value::Null));
            let result = self.add(pod, run, &attachment, &chain)?;
            if let Some(last) = run.attached.last_mut() {
                last.2 = result;
            }
        }
        Ok(())
    }

    /// ADD of each plugin in order; each is given the result so far.
    fn add(
        &mut self,
        pod: &Value,
        run: &Run,
        at: &Attachment,
        chain: &Chain,
    ) -> Result<Value, String> {
        let mut result = Value::Null;
        for plugin in &chain.plugins {
            let mut config = plugin.clone();
            if !result.is_null() {
                config["prevResult"] = result;
            }
            let kind = text(plugin, "/type").to_owned();
            result = self.plugin("ADD", uid(pod), run, at, &kind, &config).map_err(|why| {
                format!("error adding container to network \"{}\": plugin type=\"{kind}\" failed (add): {why}", chain.name)
            })?;
        }
        Ok(result)
    }

    /// DEL of every chain in reverse; all errors are collected, what went is not tried again.
    fn detach_all(&mut self, run: &mut Run) -> Result<(), String> {
        let mut failed = Vec::new();
        let mut errors = Vec::new();
        while let Some((attachment, chain, result)) = run.attached.pop() {
            let detached = chain.plugins.iter().rev().try_for_each(|plugin| {
                let mut config = plugin.clone();
                if !result.is_null() {
                    config["prevResult"] = result.clone();
                }
                let kind = text(plugin, "/type").to_owned();
                let id = run.network.rsplit("cni-").next().unwrap_or_default();
                self.plugin("DEL", id, run, &attachment, &kind, &config).map(drop)
            });
            if let Err(why) = detached {
                errors.push(format!(
                    "error deleting {} from network \"{}\": {why}",
                    attachment.interface, chain.name
                ));
                failed.push((attachment, chain, result));
            }
        }
        run.attached = failed;
        run.attached.reverse();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    fn plugin(
        &mut self,
        command: &str,
        container: &str,
        run: &Run,
        at: &Attachment,
        kind: &str,
        config: &Value,
    ) -> Result<Value, String> {
        let environment: BTreeMap<String, String> = [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", container.to_owned()),
            ("CNI_NETNS", run.network.clone()),
            ("CNI_IFNAME", at.interface.clone()),
            ("CNI_PATH", "/opt/cni/bin".to_owned()),
            (
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=true;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={container};K8S_POD_UID={container}",
                    run.namespace, run.name
                ),
            ),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        if self.idle_plugins.iter().any(|idle| idle == kind) {
            return Ok(config["prevResult"].clone());
        }
        if !matches!(kind, "sriov" | "ib-sriov" | "rdma") {
            return Err(format!("failed to find plugin \"{kind}\" in path [/opt/cni/bin]"));
        }
        let input = config.to_string();
        let call = |host: &dyn Host| cni::call(kind, &environment, input.as_bytes(), host);
        let reply = match self.cni_crash.take() {
            None => call(&self.host),
            Some((primitive, before)) => {
                let changes = self.host.changes();
                let crashing = Crashing::new(self.host.clone(), Death::Unwind);
                let side = if before { Side::Before } else { Side::After };
                crashing.arm(Crash { primitive, side });
                crashing::survive(|| call(&crashing)).map_err(|_| {
                    self.cni_killed.push(self.host.changes() != changes);
                    "netplugin failed with no error message: signal: killed".to_owned()
                })?
            }
        };
        let answer: Value = serde_json::from_slice(&reply.stdout).unwrap_or(Value::Null);
        match reply.exit {
            0 => Ok(answer),
            status => Err(match text(&answer, "/msg") {
                "" => format!("netplugin failed with no error message: exit status {status}"),
                message => match text(&answer, "/details") {
                    "" => message.to_owned(),
                    details => format!("{message}; {details}"),
                },
            }),
        }
    }

    fn containers(
        &mut self,
        pod: &Value,
        run: &mut Run,
        runtime: &mut dyn Runtime,
        now: Timestamp,
        outcome: &mut Outcome,
    ) {
        let init = items(pod, "/spec/initContainers");
        while let Some(spec) = init.get(run.initialised) {
            self.keep(pod, run, spec, runtime, now, outcome);
            let done = run.containers.get(text(spec, "/name")).is_some_and(|i| {
                !i.running && i.last.as_ref().is_some_and(|(status, _)| *status == 0)
            });
            if !done {
                return;
            }
            run.initialised += 1;
        }
        for spec in items(pod, "/spec/containers") {
            self.keep(pod, run, spec, runtime, now, outcome);
        }
    }

    /// Starts the container, or notices its end and starts it again with a back-off.
    fn keep(
        &mut self,
        pod: &Value,
        run: &mut Run,
        spec: &Value,
        runtime: &mut dyn Runtime,
        now: Timestamp,
        outcome: &mut Outcome,
    ) {
        let name = text(spec, "/name").to_owned();
        let starts = match run.containers.get_mut(&name) {
            None => 0,
            Some(instance) => {
                if instance.running
                    && let Some(end) = runtime.ended(&instance.container.id)
                {
                    instance.running = false;
                    let failed = end.0 != 0;
                    instance.last = Some(end);
                    let delay = Duration::from_secs(1 << instance.starts.min(5));
                    instance.restart_at = Some(now + delay);
                    if failed {
                        let message = format!(
                            "Back-off restarting failed container {name} in pod {}",
                            objects::name(pod)
                        );
                        let event = event(pod, true, "BackOff", message, now);
                        outcome.writes.push(Write::Event(event));
                    }
                }
                let is_init =
                    items(pod, "/spec/initContainers").iter().any(|c| text(c, "/name") == name);
                let succeeded = instance.last.as_ref().is_some_and(|(status, _)| *status == 0);
                if instance.running || (is_init && succeeded) {
                    return;
                }
                if let Some(at) = instance.restart_at.filter(|at| now < *at) {
                    look_again(outcome, at);
                    return;
                }
                instance.starts
            }
        };
        let container = self.prepare(pod, run, spec, starts);
        runtime.start(&container);
        let last = run.containers.get(&name).and_then(|i| i.last.clone());
        let instance = Instance {
            container,
            starts: starts + 1,
            running: true,
            since: now,
            restart_at: None,
            last,
        };
        run.containers.insert(name, instance);
    }

    fn prepare(&self, pod: &Value, run: &Run, spec: &Value, starts: u32) -> Container {
        let mut environment: BTreeMap<String, String> = BTreeMap::new();
        let mut device_nodes = Vec::new();
        for given in self.devices.of_pod(uid(pod)).filter(|g| g.container == text(spec, "/name")) {
            environment.extend(given.allocation.environment.clone());
            device_nodes.extend(given.allocation.device_nodes.clone());
            device_nodes.extend(
                given
                    .allocation
                    .cdi
                    .iter()
                    .flat_map(|name| super::cdi::device_nodes(&self.host, name)),
            );
        }
        for entry in items(spec, "/env") {
            let value = match text(entry, "/valueFrom/fieldRef/fieldPath") {
                "" => text(entry, "/value").to_owned(),
                "spec.nodeName" => self.node.clone(),
                "metadata.name" => run.name.clone(),
                "metadata.namespace" => run.namespace.clone(),
                "status.podIP" | "status.hostIP" => run.ip.clone(),
                path => text(pod, &format!("/{}", path.replace('.', "/"))).to_owned(),
            };
            environment.insert(text(entry, "/name").to_owned(), value);
        }
        environment.insert("HOSTNAME".to_owned(), run.name.clone());
        let words = ["/command", "/args"].iter().flat_map(|p| items(spec, p));
        let command =
            words.filter_map(Value::as_str).map(|word| expand(word, &environment)).collect();
        let account = match text(pod, "/spec/serviceAccountName") {
            "" => "default",
            account => account,
        };
        Container {
            id: format!("{}/{}/{starts}", uid(pod), text(spec, "/name")),
            node: self.node.clone(),
            namespace: run.namespace.clone(),
            pod: run.name.clone(),
            name: text(spec, "/name").to_owned(),
            command,
            environment,
            service_account: account.to_owned(),
            pod_ip: run.ip.clone(),
            network: run.network.clone(),
            device_nodes,
        }
    }

    /// Containers, networks, namespace, in this order; then the devices are free. What fails is tried again at the next step.
    fn stop(&mut self, uid: &str, runtime: &mut dyn Runtime) -> Result<(), String> {
        if let Some(mut run) = self.runs.remove(uid) {
            for instance in run.containers.values_mut().filter(|i| i.running) {
                runtime.stop(&instance.container.id);
                instance.running = false;
            }
            if let Err(why) = self.detach_all(&mut run) {
                self.runs.insert(uid.to_owned(), run);
                return Err(why);
            }
            if !run.network.is_empty() {
                let _ = self.host.machine().delete_namespace(&run.network);
            }
            if let Some(pause) = run.pause {
                self.host.machine().end_process(pause);
            }
        }
        Ok(())
    }
}

fn look_again(outcome: &mut Outcome, at: Timestamp) {
    outcome.look_again = Some(outcome.look_again.map_or(at, |other| other.min(at)));
}

/// `$(NAME)` as the kubelet expands it in command and args; unknown names stay.
fn expand(word: &str, environment: &BTreeMap<String, String>) -> String {
    environment
        .iter()
        .fold(word.to_owned(), |word, (name, value)| word.replace(&format!("$({name})"), value))
}

fn event(pod: &Value, warning: bool, reason: &str, message: String, now: Timestamp) -> Event {
    Event {
        regarding: ObjectKey::of(pod),
        uid: uid(pod).to_owned(),
        warning,
        reason: reason.to_owned(),
        message,
        component: "kubelet",
        at: now,
    }
}
