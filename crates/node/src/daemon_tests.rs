//! The daemon's whole life over a simulated machine: a small API, an operator that drains, a device plugin that
//! acknowledges, and boots. What happened is told as text.

use super::*;
use crate::give::{self, Taken};
use crate::observe;
use crate::world::Change;
use api::annotation;
use api::custody::Offer;
use api::wire::{Answer, Write};
use expect_test::{Expect, expect};
use host::crashing::{Crash, Crashing, Death, Side, survive};
use host::seam::Lock;
use host::sim::{Fault, Flavour, HOST_NAMESPACE, Machine, SimHost};
use serde_json::{Value, json};
use std::time::Duration;

#[path = "daemon_cdi_tests.rs"]
mod cdi;
#[path = "daemon_reload_tests.rs"]
mod reload;

const NODE: &str = "worker-0";
const NAMESPACE: &str = "sriov-network-operator";
/// Turns of all parties; a life that needs more does not end.
const TURNS: usize = 200;

/// One node and everybody around it.
struct Life {
    host: SimHost,
    state: Value,
    node: Value,
    version: u64,
    world: NodeWorld,
    daemon: Daemon,
    /// PodResources.
    pods: Vec<Holder>,
    /// The offer that the device plugin acts on; it runs while `plugin` is true.
    in_force: Option<Offer>,
    plugin: bool,
    /// The kubelet tells the API what is allocatable.
    kubelet_shows: bool,
    lock: Option<Lock>,
    /// A kubelet before 1.34: pods that the drain ended are listed on, and the operator names them as ended.
    lists_ended: bool,
    /// The API refuses every write while this is true.
    refuses: bool,
    told: Vec<String>,
    writes: usize,
}

impl Life {
    fn new(machine: Machine) -> Self {
        let metadata =
            json!({ "name": NODE, "namespace": NAMESPACE, "uid": "u1", "generation": 1 });
        let mut life = Self {
            host: SimHost::new(machine),
            state: json!({
                "apiVersion": names::API_VERSION, "kind": names::NODE_STATE, "metadata": metadata,
                "spec": {}, "status": {},
            }),
            node: json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE } }),
            version: 0,
            world: NodeWorld::default(),
            daemon: Daemon::new(NODE, NAMESPACE),
            pods: vec![],
            in_force: None,
            plugin: true,
            kubelet_shows: true,
            lock: None,
            lists_ended: false,
            refuses: false,
            told: vec![],
            writes: 0,
        };
        life.deliver();
        life
    }

    /// A worker with one card of two ConnectX-5 ports.
    fn worker() -> Self {
        let clock = Timestamp::from_second(1_700_000_000).unwrap();
        Self::new(Machine::small_worker(NODE, Flavour::Rhel, clock))
    }

    fn with(self, fault: Fault) -> Self {
        self.host.machine().faults.insert(fault);
        self
    }

    /// What the operator wants from now on.
    fn wants(&mut self, rdma: &str, vfs: u32) {
        let mut spec = json!({ "system": {}, "bridges": {} });
        if !rdma.is_empty() {
            spec["system"]["rdmaMode"] = json!(rdma);
        }
        if vfs > 0 {
            spec["interfaces"] = json!([{
                "pciAddress": "0000:03:00.0", "name": "enp3s0f0", "numVfs": vfs,
                "vfGroups": [{
                    "resourceName": "rdma_vf", "deviceType": "netdevice", "policyName": "train",
                    "vfRange": format!("0-{}", vfs - 1), "isRdma": true,
                }],
            }]);
        }
        let generation = self.state["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        self.state["metadata"]["generation"] = json!(generation);
        self.state["spec"] = spec;
        self.told.push(format!("wanted: rdma {rdma:?}, {vfs} vfs"));
        self.deliver();
    }

    fn deliver(&mut self) {
        self.version += 1;
        self.state["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.world.apply(&Change::Is(self.state.clone()));
        self.world.apply(&Change::Is(self.node.clone()));
    }

    /// One turn of everybody. False: nothing happened.
    fn turn(&mut self, host: &dyn Host) -> bool {
        let before = (self.told.len(), self.writes);
        self.daemon(host);
        self.operator();
        self.device_plugin();
        let booted = self.host.machine().reboot_if_requested();
        if booted {
            self.told.push("the machine boots".to_owned());
            self.stop_plugin();
            self.plugin = true;
            self.pods.clear();
        }
        let mut machine = self.host.machine();
        machine.clock += Duration::from_secs(5);
        drop(machine);
        before != (self.told.len(), self.writes)
    }

    fn daemon(&mut self, host: &dyn Host) {
        // The kubelet answers while it runs; a reboot stops it first.
        let runs = self.host.machine().unit_runs("kubelet.service");
        self.world.pods = runs.then(|| self.pods.clone());
        let outcome = self.daemon.step(host, &self.world, self.host.now());
        let mut answers = vec![];
        for write in &outcome.writes {
            let answer = self.write(write);
            answers.push((write.key(), answer));
        }
        self.world.answered(&answers);
    }

    fn write(&mut self, write: &Write) -> Answer {
        if self.refuses {
            return Answer::Unreachable("connection refused".to_owned());
        }
        self.writes += 1;
        match write {
            Write::Apply { object, subresource: "status" } => {
                self.state["status"] = object["status"].clone();
                self.told.push(format!("status {}", status_line(&self.state)));
                self.deliver();
                Answer::Done(self.state.clone())
            }
            Write::Patch { key, patch, .. } => {
                let is_node = key.kind == "Node";
                let object = if is_node { &mut self.node } else { &mut self.state };
                let annotations = patch["metadata"]["annotations"].as_object().unwrap();
                for (name, value) in annotations {
                    object["metadata"]["annotations"][name] = value.clone();
                    let short = name.rsplit('/').next().unwrap();
                    self.told.push(format!("{} {short} := {}", key.kind, value.as_str().unwrap()));
                }
                self.deliver();
                Answer::Done(if is_node { self.node.clone() } else { self.state.clone() })
            }
            Write::Event(event) => {
                self.told.push(format!("event {}: {}", event.reason, event.message));
                Answer::Done(Value::Null)
            }
            other => panic!("the daemon never writes {other:?}"),
        }
    }

    /// Upstream's drain controller, with nobody else on the cluster.
    fn operator(&mut self) {
        let read = |object: &Value, name: &str| {
            object["metadata"]["annotations"][name].as_str().unwrap_or(annotation::IDLE).to_owned()
        };
        let request = read(&self.node, annotation::NODE_STATE);
        let current = read(&self.state, annotation::CURRENT_STATE);
        let next = match (request.as_str(), current.as_str()) {
            (annotation::IDLE, annotation::IDLE) => return,
            (annotation::IDLE, _) => annotation::IDLE,
            (_, annotation::IDLE) => annotation::DRAINING,
            (_, annotation::DRAINING) => {
                self.end_pods();
                annotation::DRAIN_COMPLETE
            }
            _ => return,
        };
        self.state["metadata"]["annotations"][annotation::CURRENT_STATE] = json!(next);
        self.told.push(format!("operator: {next}"));
        self.deliver();
    }

    fn end_pods(&mut self) {
        if !self.lists_ended {
            return self.pods.clear();
        }
        let ended = self.pods.iter().map(|pod| api::custody::EndedPod {
            namespace: pod.namespace.clone(),
            pod: pod.pod.clone(),
            finished_at: self.host.now(),
        });
        let ended = serde_json::to_string(&ended.collect::<Vec<_>>()).unwrap();
        self.state["metadata"]["annotations"][annotation::ENDED_PODS] = ended.into();
    }

    fn stop_plugin(&mut self) {
        (self.plugin, self.lock, self.in_force) = (false, None, None);
    }

    fn device_plugin(&mut self) {
        if !self.plugin {
            return;
        }
        // It holds its lock for life, and takes it before it reads the offer.
        let path = api::files::DEVICE_PLUGIN_LOCK;
        let lock = self.lock.take().or_else(|| self.host.lock(path, Duration::ZERO).ok());
        self.lock = lock;
        let boot_id = observe::boot_id(&self.host).unwrap();
        if let Taken::New(offer) = give::take_offer(&self.host, &boot_id, self.in_force.as_ref()) {
            let state = |device: &api::custody::OfferedDevice| match &device.state {
                api::custody::OfferState::Ready => "ready",
                api::custody::OfferState::Unverified { .. } => "unverified",
                api::custody::OfferState::Withdrawn { .. } => "withdrawn",
                api::custody::OfferState::Broken { .. } => "broken",
            };
            let devices = offer.resources.values().flat_map(|resource| &resource.devices);
            let states: Vec<&str> = devices.map(state).collect();
            self.told.push(format!("plugin: offer {} [{}]", offer.sequence, states.join(" ")));
            self.in_force = Some(offer);
        }
        if self.kubelet_shows && self.host.machine().unit_runs("kubelet.service") {
            self.kubelet();
        }
    }

    /// The kubelet's node status: every ready device is allocatable.
    fn kubelet(&mut self) {
        let Some(offer) = &self.in_force else { return };
        let ready = |resource: &api::custody::OfferedResource| {
            let ready = |device: &&api::custody::OfferedDevice| {
                device.state == api::custody::OfferState::Ready
            };
            resource.devices.iter().filter(ready).count().to_string()
        };
        let all = offer.resources.iter().map(|(name, resource)| (name.clone(), ready(resource)));
        let all: BTreeMap<String, String> = all.collect();
        let all = json!(all);
        if self.node["status"]["allocatable"] != all {
            self.told.push(format!("kubelet: allocatable {all}"));
            self.node["status"]["allocatable"] = all;
            self.deliver();
        }
    }

    /// Everybody takes turns until nothing happens three times running.
    fn settle(&mut self) {
        let host = self.host.clone();
        self.settle_over(&host);
    }

    fn settle_over(&mut self, host: &dyn Host) {
        let mut quiet = 0;
        for _ in 0..TURNS {
            quiet = if self.turn(host) { 0 } else { quiet + 1 };
            if quiet == 3 {
                return;
            }
        }
        panic!("no rest after {TURNS} turns:\n{}", self.told.join("\n"));
    }

    /// Settled, a node writes nothing, neither to the API nor on itself.
    fn assert_quiet(&mut self) {
        self.settle();
        let (writes, _) = (self.writes, self.host.take_journal());
        for _ in 0..10 {
            self.turn(&self.host.clone());
        }
        assert_eq!(self.writes, writes, "{}", self.told.join("\n"));
        // Asking a card's firmware takes a program and changes nothing.
        let asks = |line: &String| line.starts_with("run mstconfig -e") && line.ends_with(" q");
        let journal = self.host.take_journal();
        let changes: Vec<&String> = journal.iter().filter(|line| !asks(line)).collect();
        assert_eq!(changes, Vec::<&String>::new());
    }

    fn tell(&mut self, expected: Expect) {
        expected.assert_eq(&(std::mem::take(&mut self.told).join("\n") + "\n"));
    }

    /// The goal, asked of the machine and not of the plan.
    fn machine_says(&self) -> (Option<api::RdmaMode>, usize, u32) {
        let machine = self.host.machine();
        let vfs = machine.vfs_of(&"0000:03:00.0".parse().unwrap()).len();
        (machine.rdma.mode, vfs, machine.boots)
    }
}

fn status_line(state: &Value) -> String {
    let status = &state["status"];
    let vfs: i64 = status["interfaces"]
        .as_array()
        .map(|all| all.iter().filter_map(|one| one["numVfs"].as_i64()).sum())
        .unwrap_or_default();
    let mut line = format!(
        "{}, rdma {}, {vfs} vfs",
        status["syncStatus"].as_str().unwrap_or("-"),
        status["system"]["rdmaMode"].as_str().unwrap_or("-"),
    );
    for blocker in status["blockers"].as_array().into_iter().flatten() {
        line.push_str(&format!(", {}", blocker["reason"].as_str().unwrap()));
    }
    if status["drain"]["fenced"] == true {
        let devices = status["drain"]["devices"].as_array().cloned().unwrap_or_default();
        line.push_str(&format!(", fenced with {} held", devices.len()));
    }
    for record in status["reboots"].as_array().into_iter().flatten() {
        let outcome = record["outcome"]["state"].as_str().unwrap();
        line.push_str(&format!(", reboot {} {outcome}", record["attempt"]));
    }
    if let Some(error) = status["lastSyncError"].as_str() {
        line.push_str(&format!(", error: {error}"));
    }
    line
}

fn holder(device: &str) -> Holder {
    Holder {
        device: device.to_owned(),
        resource: "openshift.io/rdma_vf".to_owned(),
        namespace: "default".to_owned(),
        pod: "rdma-app".to_owned(),
        uid: String::new(),
    }
}

#[test]
fn a_mode_change_takes_one_drain_and_one_reboot() {
    let mut life = Life::worker();
    life.host.machine().start_process_in_new_namespace("pause");
    life.wants("exclusive", 0);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 0 vfs
        status InProgress, rdma shared, 0 vfs, WaitingForDrain
        event SyncStatusChanged: Status changed from:  to: InProgress
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        plugin: offer 1 []
        kubelet: allocatable {}
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, fenced with 0 held
        operator: DrainComplete
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 pending
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 pending
        event RebootNode: rebooting for RdmaMode exclusive
        the machine boots
        status Succeeded, rdma exclusive, 0 vfs, fenced with 0 held, reboot 1 helped
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 1 []
        status Succeeded, rdma exclusive, 0 vfs, reboot 1 helped
    "#]]);
}

/// A node with this order, at its goal; what it took is not told.
fn settled(rdma: &str, vfs: u32) -> Life {
    let mut life = Life::worker();
    life.wants(rdma, vfs);
    life.settle();
    life.told.clear();
    life
}

#[test]
fn without_other_namespaces_the_mode_is_switched_without_drain_and_reboot() {
    let mut life = Life::worker();
    life.wants("exclusive", 0);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 0 vfs
        status InProgress, rdma shared, 0 vfs
        event SyncStatusChanged: Status changed from:  to: InProgress
        status Succeeded, rdma exclusive, 0 vfs
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        plugin: offer 1 []
        kubelet: allocatable {}
    "#]]);
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Exclusive), 0, 1));
    life.assert_quiet();
}

#[test]
fn vfs_on_an_unused_card_need_no_drain() {
    let mut life = Life::worker();
    life.wants("", 4);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status InProgress, rdma shared, 0 vfs
        event SyncStatusChanged: Status changed from:  to: InProgress
        status Succeeded, rdma shared, 4 vfs
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        plugin: offer 1 [ready ready ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"4"}
    "#]]);
    life.assert_quiet();
}

#[test]
fn more_vfs_while_a_pod_holds_one_wait_for_the_drain() {
    let mut life = settled("", 2);
    life.pods = vec![holder("0000:03:00.2")];
    life.wants("", 4);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status InProgress, rdma shared, 2 vfs, DeviceHeld, WaitingForDrain
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        SriovNetworkNodeState desired-state := Drain_Required
        Node state := Drain_Required
        operator: Draining
        status InProgress, rdma shared, 2 vfs, DeviceHeld, WaitingForDrain
        operator: DrainComplete
        plugin: offer 2 [withdrawn withdrawn]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status Succeeded, rdma shared, 4 vfs, fenced with 0 held
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 4 [ready ready ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"4"}
        status Succeeded, rdma shared, 4 vfs
    "#]]);
    assert_eq!(life.machine_says().1, 4);
    life.assert_quiet();
}

#[test]
fn pods_that_ended_and_that_an_old_kubelet_lists_on_hold_up_nobody() {
    let mut life = settled("", 2);
    life.lists_ended = true;
    life.pods = vec![holder("0000:03:00.2")];
    life.wants("", 4);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status InProgress, rdma shared, 2 vfs, DeviceHeld, WaitingForDrain
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        SriovNetworkNodeState desired-state := Drain_Required
        Node state := Drain_Required
        operator: Draining
        status InProgress, rdma shared, 2 vfs, DeviceHeld, WaitingForDrain
        operator: DrainComplete
        plugin: offer 2 [withdrawn withdrawn]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status Succeeded, rdma shared, 4 vfs, fenced with 0 held
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 4 [ready ready ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"4"}
        status Succeeded, rdma shared, 4 vfs
    "#]]);
    assert_eq!(life.machine_says().1, 4);
    assert_eq!(life.pods.len(), 1);
    life.assert_quiet();
}

#[test]
fn more_vfs_while_nobody_holds_one_wait_only_for_the_device_plugin() {
    let mut life = settled("", 2);
    life.wants("", 4);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status InProgress, rdma shared, 2 vfs, WaitingForWithdrawal
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        plugin: offer 2 [withdrawn withdrawn]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status Succeeded, rdma shared, 4 vfs
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        plugin: offer 4 [ready ready ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"4"}
    "#]]);
    life.assert_quiet();
}

#[test]
fn nothing_is_touched_while_the_node_still_counts_what_is_withdrawn() {
    let mut life = settled("", 2);
    life.kubelet_shows = false;
    life.wants("", 4);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status InProgress, rdma shared, 2 vfs, WaitingForWithdrawal
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        plugin: offer 2 [withdrawn withdrawn]
        status InProgress, rdma shared, 2 vfs, WaitingForAllocatable
    "#]]);
    assert_eq!(life.machine_says().1, 2);
    life.kubelet_shows = true;
    life.settle();
    assert_eq!(life.machine_says().1, 4);
}

#[test]
fn a_pod_that_came_while_the_fence_was_looked_at_sends_the_plan_back_to_waiting() {
    let mut life = settled("", 2);
    life.wants("", 4);
    // The step that sees the fence stand for the first time reads a PodResources that does not know the pod yet.
    while life.daemon.looked_behind.borrow().is_none() {
        life.turn(&life.host.clone());
    }
    assert_eq!(life.machine_says().1, 2);
    life.pods = vec![holder("0000:03:00.2")];
    life.daemon(&life.host.clone());
    assert_eq!(life.machine_says().1, 2, "{}", life.told.join("\n"));
    let told = life.told.join("\n");
    assert!(told.contains("DeviceHeld"), "{told}");
    life.settle();
    assert_eq!(life.machine_says().1, 4);
}

#[test]
fn without_a_device_plugin_nobody_has_to_acknowledge() {
    let mut life = settled("", 2);
    life.stop_plugin();
    life.wants("", 4);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status InProgress, rdma shared, 2 vfs
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        status Succeeded, rdma shared, 4 vfs
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
    "#]]);
}

#[test]
fn removing_policy_and_pool_brings_the_node_back_to_where_it_started() {
    let mut life = Life::worker();
    life.host.machine().start_process_in_new_namespace("pause");
    life.wants("exclusive", 4);
    life.settle();
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Exclusive), 4, 2));
    life.told.clear();
    life.host.machine().start_process_in_new_namespace("pause");
    life.wants("", 0);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 0 vfs
        status InProgress, rdma exclusive, 4 vfs, WaitingForDrain, WaitingForReboot, reboot 1 helped
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        plugin: offer 4 []
        kubelet: allocatable {}
        status InProgress, rdma exclusive, 4 vfs, WaitingForDrain, WaitingForReboot, fenced with 0 held, reboot 1 helped
        operator: DrainComplete
        status InProgress, rdma exclusive, 4 vfs, WaitingForReboot, fenced with 0 held, reboot 1 helped, reboot 1 pending
        status InProgress, rdma exclusive, 4 vfs, WaitingForReboot, fenced with 0 held, reboot 1 helped, reboot 1 pending
        event RebootNode: rebooting for RdmaMode shared
        the machine boots
        status Succeeded, rdma shared, 0 vfs, fenced with 0 held, reboot 1 helped, reboot 1 helped
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 1 []
        status Succeeded, rdma shared, 0 vfs, reboot 1 helped, reboot 1 helped
    "#]]);
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Shared), 0, 3));
    assert!(life.host.read(api::files::MODPROBE).is_err());
    assert_eq!(life.host.list(api::files::PF_STORE).unwrap_or_default(), Vec::<String>::new());
    life.assert_quiet();
}

#[test]
fn a_reboot_that_did_not_help_is_not_asked_for_again() {
    let mut life = Life::worker()
        .with(Fault::IgnoresKernelArgument)
        .with(Fault::IgnoresModprobeOption)
        // Else the mode could be switched after the boot, before any pod is there.
        .with(Fault::ServiceWithPrivateNetwork);
    life.host.machine().start_process_in_new_namespace("pause");
    life.wants("exclusive", 0);
    life.settle();
    life.told.drain(..life.told.iter().position(|line| line == "the machine boots").unwrap());
    life.tell(expect![[r#"
        the machine boots
        status Failed, rdma shared, 0 vfs, RebootDidNotHelp, fenced with 0 held, reboot 1 didNotHelp, error: a reboot did not bring RDMA mode: expected exclusive, found shared, after modprobe.d, kernel argument by grubby; no further reboot for this: look for another netns_mode in modprobe.d, the initramfs or the boot loader, then annotate the node with ironrail.dev/retry-reboot=<a new value>
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: a reboot did not bring RDMA mode: expected exclusive, found shared, after modprobe.d, kernel argument by grubby; no further reboot for this: look for another netns_mode in modprobe.d, the initramfs or the boot loader, then annotate the node with ironrail.dev/retry-reboot=<a new value>
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 1 []
        status Failed, rdma shared, 0 vfs, RebootDidNotHelp, reboot 1 didNotHelp, error: a reboot did not bring RDMA mode: expected exclusive, found shared, after modprobe.d, kernel argument by grubby; no further reboot for this: look for another netns_mode in modprobe.d, the initramfs or the boot loader, then annotate the node with ironrail.dev/retry-reboot=<a new value>
    "#]]);
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Shared), 0, 2));
    life.assert_quiet();
}

#[test]
fn a_reboot_that_never_comes_is_asked_for_three_times_and_the_kubelet_runs_again() {
    let mut life = Life::worker().with(Fault::IgnoresReboot);
    life.host.machine().start_process_in_new_namespace("pause");
    life.wants("exclusive", 0);
    for _ in 0..20 {
        life.turn(&life.host.clone());
    }
    // Between two attempts nobody says that anything failed: the rollout would halt for it.
    assert!(!life.host.machine().unit_runs("kubelet.service"));
    assert!(!life.told.join("\n").contains("Failed"), "{}", life.told.join("\n"));
    life.host.take_journal();
    for _ in 0..100 {
        life.turn(&life.host.clone());
    }
    life.told.drain(..life.told.iter().position(|line| line.contains("RebootNode")).unwrap());
    life.tell(expect![[r#"
        event RebootNode: rebooting for RdmaMode exclusive
        status InProgress, rdma shared, 0 vfs, WaitingForReboot, fenced with 0 held, reboot 1 pending
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 2 pending
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 2 pending
        event RebootNode: rebooting for RdmaMode exclusive
        status InProgress, rdma shared, 0 vfs, WaitingForReboot, fenced with 0 held, reboot 2 pending
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 3 pending
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 3 pending
        event RebootNode: rebooting for RdmaMode exclusive
        status InProgress, rdma shared, 0 vfs, WaitingForReboot, fenced with 0 held, reboot 3 pending
        status Failed, rdma shared, 0 vfs, RebootDidNotHappen, fenced with 0 held, reboot 3 pending, error: cannot bring RDMA mode exclusive: a reboot was asked for 3 times and the node did not boot; it stays prepared for that boot, and drained if it was drained, until you reboot it by hand, or annotate the node with ironrail.dev/retry-reboot=<a new value>
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: cannot bring RDMA mode exclusive: a reboot was asked for 3 times and the node did not boot; it stays prepared for that boot, and drained if it was drained, until you reboot it by hand, or annotate the node with ironrail.dev/retry-reboot=<a new value>
    "#]]);
    let runs: Vec<String> = life
        .host
        .take_journal()
        .into_iter()
        .filter(|line| line.starts_with("run system"))
        .collect();
    expect![[r#"
        run systemd-run --collect --unit sriov-network-config-daemon-reboot --description ironrail: RdmaMode exclusive /bin/sh -c systemctl stop kubelet.service; reboot && sleep 100; systemctl start kubelet.service
        run systemd-run --collect --unit sriov-network-config-daemon-reboot --description ironrail: RdmaMode exclusive /bin/sh -c systemctl stop kubelet.service; reboot && sleep 100; systemctl start kubelet.service
    "#]].assert_eq(&(runs.join("\n") + "\n"));
    assert!(life.host.machine().unit_runs("kubelet.service"));
    life.assert_quiet();
}

#[test]
fn a_wish_that_is_gone_while_the_kubelet_is_down_has_it_started_again() {
    let mut life = Life::worker().with(Fault::IgnoresReboot);
    life.host.machine().start_process_in_new_namespace("pause");
    life.wants("exclusive", 0);
    for _ in 0..12 {
        life.turn(&life.host.clone());
    }
    assert!(!life.host.machine().unit_runs("kubelet.service"));
    life.told.clear();
    life.wants("", 0);
    for _ in 0..60 {
        life.turn(&life.host.clone());
    }
    life.tell(expect![[r#"
        wanted: rdma "", 0 vfs
        status InProgress, rdma shared, 0 vfs, WaitingForReboot, fenced with 0 held, reboot 1 pending
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 pending
        status Succeeded, rdma shared, 0 vfs, fenced with 0 held, reboot 1 void
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        status Succeeded, rdma shared, 0 vfs, reboot 1 void
    "#]]);
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Shared), 0, 1));
    life.assert_quiet();
    // Nothing that was prepared comes with a later boot.
    life.host.machine().boot();
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Shared), 0, 2));
}

#[test]
fn a_live_switch_that_the_kernel_refuses_is_no_failure_and_the_next_rung_is_taken() {
    let mut life = Life::worker().with(Fault::RefusesRdmaMode);
    life.wants("exclusive", 0);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 0 vfs
        status InProgress, rdma shared, 0 vfs
        event SyncStatusChanged: Status changed from:  to: InProgress
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, reboot 1 refused
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        plugin: offer 1 []
        kubelet: allocatable {}
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, fenced with 0 held, reboot 1 refused
        operator: DrainComplete
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 refused, reboot 1 pending
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 refused, reboot 1 pending
        event RebootNode: rebooting for RdmaMode exclusive
        the machine boots
        status Succeeded, rdma exclusive, 0 vfs, fenced with 0 held, reboot 1 refused, reboot 1 helped
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 1 []
        status Succeeded, rdma exclusive, 0 vfs, reboot 1 refused, reboot 1 helped
    "#]]);
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Exclusive), 0, 2));
    life.assert_quiet();
}

#[test]
fn a_lever_that_fails_was_no_reboot_whatever_boots_the_node_afterwards() {
    let mut life = Life::worker().with(Fault::LosesKernelArgument);
    life.host.machine().start_process_in_new_namespace("pause");
    life.wants("exclusive", 0);
    for _ in 0..12 {
        life.turn(&life.host.clone());
    }
    let ledger = |life: &Life| {
        let records = life.state["status"]["reboots"].as_array().cloned().unwrap_or_default();
        let one = |record: &Value| {
            format!("{} {} {}", record["goal"], record["outcome"]["state"], record["levers"])
        };
        records.iter().map(one).collect::<Vec<_>>().join("\n")
    };
    expect![[r#""exclusive" "void" ["modprobe.d","kernel argument by grubby"]"#]]
        .assert_eq(&ledger(&life));
    life.told.clear();
    // The power goes while the node waits for somebody to mend the tool.
    life.host.machine().faults.insert(Fault::IgnoresModprobeOption);
    life.host.machine().faults.insert(Fault::ServiceWithPrivateNetwork);
    power_cut(&mut life);
    life.turn(&life.host.clone());
    assert!(!life.told.join("\n").contains("didNotHelp"), "{}", life.told.join("\n"));
    life.host.machine().faults.clear();
    life.host.machine().clock += Duration::from_secs(600);
    life.settle();
    expect![[r#"
        "exclusive" "void" ["modprobe.d","kernel argument by grubby"]
        "exclusive" "helped" ["modprobe.d","kernel argument by grubby"]"#]]
    .assert_eq(&ledger(&life));
    assert_eq!(life.machine_says().0, Some(api::RdmaMode::Exclusive));
    life.assert_quiet();
}

#[test]
fn a_kubelet_that_is_silent_for_its_own_reasons_is_left_alone() {
    let mut life = settled("", 2);
    life.host.machine().units.remove("kubelet.service");
    life.wants("", 4);
    life.turn(&life.host.clone());
    life.turn(&life.host.clone());
    let runs = life.host.take_journal();
    assert!(!runs.iter().any(|line| line.starts_with("run systemctl")), "{runs:?}");
    assert_eq!(life.machine_says().1, 2);
    let told = life.told.join("\n");
    assert!(told.contains("the kubelet's PodResources does not answer"), "{told}");
}

#[test]
fn a_person_may_have_a_closed_reboot_tried_once_more() {
    let mut life = Life::worker()
        .with(Fault::IgnoresKernelArgument)
        .with(Fault::IgnoresModprobeOption)
        .with(Fault::ServiceWithPrivateNetwork);
    life.host.machine().start_process_in_new_namespace("pause");
    life.wants("exclusive", 0);
    life.settle();
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Shared), 0, 2));
    // The person mends the cause, and says so.
    life.host.machine().faults.remove(&Fault::IgnoresModprobeOption);
    life.host.machine().faults.remove(&Fault::IgnoresKernelArgument);
    life.told.clear();
    life.node["metadata"]["annotations"][annotation::RETRY_REBOOT] = json!("mended");
    life.deliver();
    life.settle();
    life.tell(expect![[r#"
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, reboot 1 didNotHelp
        event SyncStatusChanged: Status changed from: Failed to: InProgress
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, fenced with 0 held, reboot 1 didNotHelp
        operator: DrainComplete
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 didNotHelp, reboot 1 pending
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 didNotHelp, reboot 1 pending
        event RebootNode: rebooting for RdmaMode exclusive
        the machine boots
        status Succeeded, rdma exclusive, 0 vfs, fenced with 0 held, reboot 1 didNotHelp, reboot 1 helped
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 1 []
        status Succeeded, rdma exclusive, 0 vfs, reboot 1 didNotHelp, reboot 1 helped
    "#]]);
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Exclusive), 0, 3));
    life.assert_quiet();
}

#[test]
fn where_reboots_are_disabled_the_node_is_prepared_and_waits_for_a_person() {
    let mut life = Life::worker();
    life.host.machine().start_process_in_new_namespace("pause");
    life.world.config.spec.disable_reboot = true;
    life.wants("exclusive", 2);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 2 vfs
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, WaitingForReboot
        event SyncStatusChanged: Status changed from:  to: InProgress
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        plugin: offer 1 []
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, WaitingForReboot, fenced with 0 held
        operator: DrainComplete
        status InProgress, rdma shared, 0 vfs, WaitingForReboot, fenced with 0 held, reboot 0 pending
        status InProgress, rdma shared, 0 vfs, WaitingForReboot, fenced with 0 held, reboot 0 pending
        status Failed, rdma shared, 0 vfs, WaitingForReboot, RebootDisabled, fenced with 0 held, reboot 0 pending, error: the node is prepared for RDMA mode exclusive, and disableReboot leaves the reboot to a person: reboot it
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: the node is prepared for RDMA mode exclusive, and disableReboot leaves the reboot to a person: reboot it
    "#]]);
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Shared), 0, 1));
    life.assert_quiet();
    life.host.machine().boot();
    life.stop_plugin();
    life.plugin = true;
    life.settle();
    life.tell(expect![[r#"
        plugin: offer 2 [unverified unverified]
        status Succeeded, rdma exclusive, 2 vfs, fenced with 0 held, reboot 0 helped
        event SyncStatusChanged: Status changed from: Failed to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 3 [ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"2"}
        status Succeeded, rdma exclusive, 2 vfs, reboot 0 helped
    "#]]);
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Exclusive), 2, 2));
    life.assert_quiet();
}

/// The order of `wants`, for the card on this bus.
fn wants_on(life: &mut Life, rdma: &str, bus: u8, vfs: u32) {
    life.wants(rdma, vfs);
    life.state["spec"]["interfaces"][0]["pciAddress"] = json!(format!("0000:{bus:02x}:00.0"));
    life.state["spec"]["interfaces"][0]["name"] = json!(format!("enp{bus}s0f0"));
    life.deliver();
}

/// A worker with cards as they come; a pod keeps its network namespace, so no mode is switched live.
fn cards_as_they_come() -> Life {
    let clock = Timestamp::from_second(1_700_000_000).unwrap();
    let life = Life::new(Machine::firmware_worker(NODE, Flavour::Rhel, clock));
    life.host.machine().start_process_in_new_namespace("pause");
    life
}

#[test]
fn firmware_and_mode_take_one_drain_and_one_reboot() {
    let mut life = cards_as_they_come();
    wants_on(&mut life, "exclusive", 3, 4);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 4 vfs
        status InProgress, rdma shared, 0 vfs, WaitingForDrain
        event SyncStatusChanged: Status changed from:  to: InProgress
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        plugin: offer 1 []
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, fenced with 0 held
        operator: DrainComplete
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 pending, reboot 1 pending
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 pending, reboot 1 pending
        event RebootNode: rebooting for RdmaMode exclusive and Firmware 0000:03:00.0 SRIOV_EN=True NUM_OF_VFS=4
        the machine boots
        plugin: offer 2 [unverified unverified unverified unverified]
        status Succeeded, rdma exclusive, 4 vfs, fenced with 0 held, reboot 1 helped, reboot 1 helped
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 3 [ready ready ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"4"}
        status Succeeded, rdma exclusive, 4 vfs, reboot 1 helped, reboot 1 helped
    "#]]);
    let vfs = life.host.machine().vfs_of(&"0000:03:00.0".parse().unwrap()).len();
    assert_eq!((life.machine_says().0, vfs), (Some(api::RdmaMode::Exclusive), 4));
    assert_eq!(life.machine_says().2, 2);
    life.assert_quiet();
}

#[test]
fn firmware_with_room_for_too_few_is_raised_with_one_reboot() {
    let mut life = cards_as_they_come();
    wants_on(&mut life, "", 5, 4);
    life.settle();
    let vfs = life.host.machine().vfs_of(&"0000:05:00.0".parse().unwrap()).len();
    assert_eq!((vfs, life.machine_says().2), (4, 2), "{}", life.told.join("\n"));
    life.assert_quiet();
}

#[test]
fn firmware_that_ignores_the_write_is_rebooted_for_once_and_named() {
    let mut life = cards_as_they_come();
    wants_on(&mut life, "", 9, 4);
    life.settle();
    life.told.drain(..life.told.iter().position(|line| line == "the machine boots").unwrap());
    life.tell(expect![[r#"
        the machine boots
        status Failed, rdma shared, 0 vfs, RebootDidNotHelp, fenced with 0 held, reboot 1 didNotHelp, error: a reboot did not bring firmware setting: expected 0000:09:00.0 SRIOV_EN=True NUM_OF_VFS=4, found SRIOV_EN=True (next boot True), NUM_OF_VFS=2 (next boot 4), after firmware by mstconfig; no further reboot for this: the server may need a cold power cycle (power off and on, not only a reboot), then annotate the node with ironrail.dev/retry-reboot=<a new value>
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: a reboot did not bring firmware setting: expected 0000:09:00.0 SRIOV_EN=True NUM_OF_VFS=4, found SRIOV_EN=True (next boot True), NUM_OF_VFS=2 (next boot 4), after firmware by mstconfig; no further reboot for this: the server may need a cold power cycle (power off and on, not only a reboot), then annotate the node with ironrail.dev/retry-reboot=<a new value>
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 1 [unverified unverified]
        status Failed, rdma shared, 0 vfs, RebootDidNotHelp, reboot 1 didNotHelp, error: a reboot did not bring firmware setting: expected 0000:09:00.0 SRIOV_EN=True NUM_OF_VFS=4, found SRIOV_EN=True (next boot True), NUM_OF_VFS=2 (next boot 4), after firmware by mstconfig; no further reboot for this: the server may need a cold power cycle (power off and on, not only a reboot), then annotate the node with ironrail.dev/retry-reboot=<a new value>
    "#]]);
    assert_eq!(life.machine_says().2, 2);
    life.assert_quiet();
}

#[test]
fn firmware_that_refuses_the_write_keeps_nobody_from_the_mode() {
    let mut life = cards_as_they_come();
    wants_on(&mut life, "exclusive", 5, 500);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 500 vfs
        status InProgress, rdma shared, 0 vfs, WaitingForDrain
        event SyncStatusChanged: Status changed from:  to: InProgress
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        plugin: offer 1 []
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, fenced with 0 held
        operator: DrainComplete
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 pending, reboot 1 pending
        status InProgress, rdma shared, 0 vfs, fenced with 0 held, reboot 1 void, reboot 1 refused
        status Failed, rdma shared, 0 vfs, FirmwareRefused, fenced with 0 held, reboot 1 refused, reboot 1 pending, error: cannot set SRIOV_EN=True NUM_OF_VFS=500 in the firmware of 0000:05:00.0: mstconfig ended with status 1: -E- Failed to set NUM_OF_VFS: 500 is over the limit 127; by hand: mstconfig -d 0000:05:00.0 -y set SRIOV_EN=True NUM_OF_VFS=500, then reboot; or annotate the node with ironrail.dev/retry-reboot=<a new value>
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: cannot set SRIOV_EN=True NUM_OF_VFS=500 in the firmware of 0000:05:00.0: mstconfig ended with status 1: -E- Failed to set NUM_OF_VFS: 500 is over the limit 127; by hand: mstconfig -d 0000:05:00.0 -y set SRIOV_EN=True NUM_OF_VFS=500, then reboot; or annotate the node with ironrail.dev/retry-reboot=<a new value>
        status Failed, rdma shared, 0 vfs, FirmwareRefused, fenced with 0 held, reboot 1 refused, reboot 1 pending, error: cannot set SRIOV_EN=True NUM_OF_VFS=500 in the firmware of 0000:05:00.0: mstconfig ended with status 1: -E- Failed to set NUM_OF_VFS: 500 is over the limit 127; by hand: mstconfig -d 0000:05:00.0 -y set SRIOV_EN=True NUM_OF_VFS=500, then reboot; or annotate the node with ironrail.dev/retry-reboot=<a new value>
        event RebootNode: rebooting for RdmaMode exclusive
        the machine boots
        status Failed, rdma exclusive, 0 vfs, FirmwareRefused, fenced with 0 held, reboot 1 refused, reboot 1 helped, error: cannot set SRIOV_EN=True NUM_OF_VFS=500 in the firmware of 0000:05:00.0: mstconfig ended with status 1: -E- Failed to set NUM_OF_VFS: 500 is over the limit 127; by hand: mstconfig -d 0000:05:00.0 -y set SRIOV_EN=True NUM_OF_VFS=500, then reboot; or annotate the node with ironrail.dev/retry-reboot=<a new value>
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 1 [unverified unverified]
        status Failed, rdma exclusive, 0 vfs, FirmwareRefused, reboot 1 refused, reboot 1 helped, error: cannot set SRIOV_EN=True NUM_OF_VFS=500 in the firmware of 0000:05:00.0: mstconfig ended with status 1: -E- Failed to set NUM_OF_VFS: 500 is over the limit 127; by hand: mstconfig -d 0000:05:00.0 -y set SRIOV_EN=True NUM_OF_VFS=500, then reboot; or annotate the node with ironrail.dev/retry-reboot=<a new value>
    "#]]);
    assert_eq!((life.machine_says().0, life.machine_says().2), (Some(api::RdmaMode::Exclusive), 2));
    life.assert_quiet();
}

#[test]
fn firmware_that_may_not_be_written_stays_as_it_is() {
    let mut life = cards_as_they_come();
    life.world.config.spec.disable_plugins = vec!["mellanox".to_owned()];
    wants_on(&mut life, "", 3, 4);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status Failed, rdma shared, 0 vfs, FirmwareWritesDisabled, error: cannot set SRIOV_EN=True NUM_OF_VFS=4 in the firmware of 0000:03:00.0: disablePlugins has mellanox; by hand: mstconfig -d 0000:03:00.0 -y set SRIOV_EN=True NUM_OF_VFS=4, then reboot
        event SyncStatusChanged: Status changed from:  to: Failed. Last Error: cannot set SRIOV_EN=True NUM_OF_VFS=4 in the firmware of 0000:03:00.0: disablePlugins has mellanox; by hand: mstconfig -d 0000:03:00.0 -y set SRIOV_EN=True NUM_OF_VFS=4, then reboot
        plugin: offer 1 []
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
    "#]]);
    assert_eq!(life.machine_says().2, 1);
    life.assert_quiet();
}

#[test]
fn without_the_mirror_in_the_api_there_is_no_reboot() {
    let mut life = Life::worker();
    life.host.machine().start_process_in_new_namespace("pause");
    life.wants("exclusive", 0);
    while !life.told.iter().any(|line| line == "operator: DrainComplete") {
        life.turn(&life.host.clone());
    }
    life.refuses = true;
    for _ in 0..20 {
        life.turn(&life.host.clone());
    }
    assert_eq!(life.machine_says().2, 1);
    let on_host = life.host.read(api::files::REBOOTS).unwrap();
    assert_eq!(on_host, b"[]", "nothing is booked on the host yet");
    life.refuses = false;
    life.settle();
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Exclusive), 0, 2));
}

#[test]
fn without_the_ledger_on_the_disk_there_is_no_reboot_and_a_sentence() {
    let mut life = Life::worker();
    life.host.machine().start_process_in_new_namespace("pause");
    life.wants("exclusive", 0);
    while !life.told.iter().any(|line| line == "operator: DrainComplete") {
        life.turn(&life.host.clone());
    }
    life.told.clear();
    life.host.machine().faults.insert(Fault::DiskFull);
    for _ in 0..10 {
        life.turn(&life.host.clone());
    }
    life.tell(expect![[r#"
        status Failed, rdma shared, 0 vfs, LedgerNotWritten, fenced with 0 held, error: cannot reboot: the reboot must be booked in the ledger on the host first, and that was refused: replace /var/lib/ironrail/reboots.json: no space left on device; it is tried again, so free the disk or mend what refuses it
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: cannot reboot: the reboot must be booked in the ledger on the host first, and that was refused: replace /var/lib/ironrail/reboots.json: no space left on device; it is tried again, so free the disk or mend what refuses it
    "#]]);
    assert_eq!(life.machine_says().2, 1);
    life.host.machine().faults.clear();
    for _ in 0..60 {
        life.turn(&life.host.clone());
    }
    assert_eq!(life.machine_says(), (Some(api::RdmaMode::Exclusive), 0, 2));
}

#[test]
fn a_kubelet_that_does_not_answer_stops_every_change() {
    let mut life = Life::worker();
    life.wants("", 4);
    let outcome = life.daemon.step(&life.host, &life.world, life.host.now());
    for write in &outcome.writes {
        life.write(write);
    }
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status Failed, rdma shared, 0 vfs, error: the kubelet's PodResources does not answer, so nobody knows which devices pods hold; nothing is changed
        event SyncStatusChanged: Status changed from:  to: Failed. Last Error: the kubelet's PodResources does not answer, so nobody knows which devices pods hold; nothing is changed
    "#]]);
    assert_eq!(life.machine_says().1, 0);
}

#[test]
fn a_kubelet_with_its_files_elsewhere_is_told_in_the_node_state() {
    let mut life = Life::worker();
    life.wants("", 4);
    life.world.elsewhere =
        Some("the kubelet of this host has its files in /data/kubelet".to_owned());
    let outcome = life.daemon.step(&life.host, &life.world, life.host.now());
    for write in &outcome.writes {
        life.write(write);
    }
    let told = life.told.join("\n");
    assert!(
        told.contains(
            "nothing is changed; the kubelet of this host has its files in /data/kubelet"
        ),
        "{told}"
    );
}

#[test]
fn an_order_that_cannot_be_understood_stops_only_its_own_card() {
    let mut life = Life::worker();
    life.wants("", 4);
    life.state["spec"]["interfaces"][0]["vfGroups"][0]["deviceType"] = json!("netdevise");
    life.deliver();
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status Failed, rdma shared, 0 vfs, error: interface 0000:03:00.0: deviceType "netdevise" is unknown; write netdevice or vfio-pci
        event SyncStatusChanged: Status changed from:  to: Failed. Last Error: interface 0000:03:00.0: deviceType "netdevise" is unknown; write netdevice or vfio-pci
        plugin: offer 1 []
        kubelet: allocatable {}
    "#]]);
}

#[test]
fn a_card_that_makes_fewer_vfs_is_named_in_the_status() {
    let mut life = Life::worker().with(Fault::DriverMakesFewerVfs);
    life.wants("", 4);
    for _ in 0..3 {
        life.turn(&life.host.clone());
    }
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status InProgress, rdma shared, 0 vfs
        event SyncStatusChanged: Status changed from:  to: InProgress
        status Failed, rdma shared, 3 vfs, WaitingForWithdrawal, error: asked for 4 VFs on 0000:03:00.0, and its driver made 3
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: asked for 4 VFs on 0000:03:00.0, and its driver made 3
        plugin: offer 1 [withdrawn withdrawn withdrawn]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
    "#]]);
}

/// A worker with one InfiniBand card and nothing else that has VFs.
fn infiniband() -> Life {
    let clock = Timestamp::from_second(1_700_000_000).unwrap();
    let mut machine = Machine::new(NODE, Flavour::Rhel, clock);
    machine.add_connectx7(0x03, 0, true);
    machine.boot();
    Life::new(machine)
}

/// The node GUIDs of the VFs, as the kernel shows them.
fn guids(life: &Life) -> Vec<String> {
    let inventory = observe::observe(&life.host, vec![]).unwrap();
    let vfs = inventory.physical_functions.into_iter().flat_map(|pf| pf.vfs);
    vfs.map(|vf| vf.guid.unwrap_or_default()).collect()
}

#[test]
fn guids_are_the_same_after_a_boot_or_those_of_the_administrators_file() {
    let mut life = infiniband();
    life.wants("", 2);
    life.settle();
    let before = guids(&life);
    assert!(before.len() == 2 && before[0] != before[1], "{before:?}");
    life.host.machine().boot();
    life.stop_plugin();
    life.plugin = true;
    life.settle();
    assert_eq!(guids(&life), before);

    let mut life = infiniband();
    let file = r#"[{"pciAddress":"0000:03:00.0","guidsRange":{"start":"00:11:22:33:44:55:66:01","end":"00:11:22:33:44:55:66:02"}}]"#;
    life.host.replace(api::files::GUIDS, file.as_bytes(), 0o644).unwrap();
    life.wants("", 2);
    life.settle();
    assert_eq!(guids(&life), ["0011:2233:4455:6601", "0011:2233:4455:6602"]);
    life.assert_quiet();
}

#[test]
fn a_file_with_too_few_guids_is_named_before_anything_is_changed() {
    let mut life = infiniband();
    let file = r#"[{"pciAddress":"0000:03:00.0","guids":["00:11:22:33:44:55:66:01"]}]"#;
    life.host.replace(api::files::GUIDS, file.as_bytes(), 0o644).unwrap();
    life.wants("", 2);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 2 vfs
        status Failed, rdma shared, 0 vfs, InvalidGuidFile, error: the VFs of 0000:03:00.0 get no GUIDs from /etc/sriov-operator/infiniband/guids: it has 1 GUIDs for this PF, and none for VF 1; mend the file, or remove it to have GUIDs derived
        event SyncStatusChanged: Status changed from:  to: Failed. Last Error: the VFs of 0000:03:00.0 get no GUIDs from /etc/sriov-operator/infiniband/guids: it has 1 GUIDs for this PF, and none for VF 1; mend the file, or remove it to have GUIDs derived
        plugin: offer 1 []
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
    "#]]);
    assert_eq!(life.machine_says().1, 0);
}

#[test]
fn a_guid_that_reads_back_as_zeros_is_a_failure_and_is_not_tried_for_ever() {
    let mut life = infiniband().with(Fault::GuidStaysZero);
    life.wants("", 1);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 1 vfs
        status InProgress, rdma shared, 0 vfs
        event SyncStatusChanged: Status changed from:  to: InProgress
        status Failed, rdma shared, 1 vfs, GuidNotTaken, error: VF 0 of 0000:03:00.0 came up without a GUID although the PF holds 8a2e:e52a:a053:9454 for it; see the kernel's log of its driver, and unbind and bind the VF when it is mended
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: VF 0 of 0000:03:00.0 came up without a GUID although the PF holds 8a2e:e52a:a053:9454 for it; see the kernel's log of its driver, and unbind and bind the VF when it is mended
        plugin: offer 1 [broken]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
    "#]]);
    life.assert_quiet();
}

#[test]
fn a_card_at_which_the_kernel_hangs_is_waited_for_and_then_goes_on() {
    let mut life = settled("", 2).with(Fault::VfRemovalBlocks);
    life.wants("", 4);
    life.settle();
    life.told.push("a minute goes by".to_owned());
    life.host.wait(&[], Duration::from_secs(60));
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status InProgress, rdma shared, 2 vfs, WaitingForWithdrawal
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        plugin: offer 2 [withdrawn withdrawn]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status InProgress, rdma shared, 2 vfs, KernelBusy
        a minute goes by
        status InProgress, rdma shared, 4 vfs, WaitingForWithdrawal
        plugin: offer 4 [withdrawn withdrawn withdrawn withdrawn]
        status Succeeded, rdma shared, 4 vfs
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        plugin: offer 5 [ready ready ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"4"}
    "#]]);
    life.assert_quiet();
}

#[test]
fn a_card_at_which_the_kernel_hangs_for_long_is_told_as_a_failure() {
    let mut life = settled("", 2).with(Fault::VfRemovalBlocks);
    life.wants("", 4);
    for _ in 0..4 {
        life.turn(&life.host.clone());
    }
    // The kernel never comes back: it is always further from its end than the clock.
    for _ in 0..2 {
        let mut machine = life.host.machine();
        for pending in &mut machine.pending {
            pending.at += Duration::from_secs(3600);
        }
        machine.clock += Duration::from_secs(300);
        drop(machine);
        life.turn(&life.host.clone());
    }
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status InProgress, rdma shared, 2 vfs, WaitingForWithdrawal
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        plugin: offer 2 [withdrawn withdrawn]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status InProgress, rdma shared, 2 vfs, KernelBusy
        status Failed, rdma shared, 2 vfs, KernelBusy, error: the kernel has been at "write 0 to /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs" since 2023-11-14T22:13:55Z and cannot be stopped; nothing else is changed there until it is done: end what uses a device of the card (see /dev/infiniband, rdma resource show), or reboot the node
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: the kernel has been at "write 0 to /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs" since 2023-11-14T22:13:55Z and cannot be stopped; nothing else is changed there until it is done: end what uses a device of the card (see /dev/infiniband, rdma resource show), or reboot the node
    "#]]);
}

#[test]
fn an_offer_that_was_cut_off_is_written_again_before_anything_is_touched() {
    let mut life = settled("", 2);
    life.host.replace(api::files::OFFER, b"{\"version\":1,\"boo", 0o600).unwrap();
    life.wants("", 4);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 4 vfs
        status InProgress, rdma shared, 2 vfs, WaitingForWithdrawal
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        plugin: offer 2 [withdrawn withdrawn]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status Succeeded, rdma shared, 4 vfs
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        plugin: offer 4 [ready ready ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"4"}
    "#]]);
}

#[test]
fn killed_at_any_primitive_it_reaches_the_goal_with_one_reboot() {
    let whole = {
        let mut life = Life::worker();
        let counting = Crashing::new(life.host.clone(), Death::Unwind);
        life.host.machine().start_process_in_new_namespace("pause");
        life.wants("exclusive", 2);
        life.settle_over(&counting);
        life.wants("exclusive", 4);
        life.settle_over(&counting);
        counting.count()
    };
    // A life is thousands of primitives long, so not each of them is tried here; `xtask simulate` draws others.
    let lives = 24;
    for life in 0..lives {
        let side = if life % 2 == 0 { Side::Before } else { Side::After };
        dies_at(Crash { primitive: 1 + life * whole / lives, side });
    }
}

fn dies_at(crash: Crash) {
    let mut life = Life::worker();
    let dying = Crashing::new(life.host.clone(), Death::Unwind);
    dying.arm(crash);
    life.host.machine().start_process_in_new_namespace("pause");
    let mut alive = true;
    for vfs in [2, 4] {
        life.wants("exclusive", vfs);
        alive = alive && survive(|| life.settle_over(&dying)).is_ok();
        if !alive {
            // A new daemon knows only what the API and the host say.
            life.world = NodeWorld::default();
            life.daemon = Daemon::new(NODE, NAMESPACE);
            life.deliver();
            life.settle();
        }
    }
    let story = life.told.join("\n");
    let goal = (Some(api::RdmaMode::Exclusive), 4, 2);
    assert_eq!(life.machine_says(), goal, "killed at {crash:?}:\n{story}");
    let status = status_line(&life.state);
    assert!(status.starts_with("Succeeded"), "killed at {crash:?}: {status}");
    assert_eq!(life.world.node_request(), Some(annotation::IDLE), "killed at {crash:?}");
    life.assert_quiet();
}

#[test]
fn vfs_that_vanish_in_the_middle_of_their_configuration_are_made_again() {
    for primitive in (1..).step_by(9) {
        let mut life = Life::worker();
        let dying = Crashing::new(life.host.clone(), Death::Unwind);
        dying.arm(Crash { primitive, side: Side::Before });
        life.wants("", 2);
        if survive(|| life.settle_over(&dying)).is_ok() {
            assert!(primitive > 100, "the life is longer than that");
            return;
        }
        // A person, while no daemon is at work; autoprobe may be off.
        life.host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "0").unwrap();
        life.world = NodeWorld::default();
        life.daemon = Daemon::new(NODE, NAMESPACE);
        life.deliver();
        life.settle();
        let story = life.told.join("\n");
        assert_eq!(life.machine_says().1, 2, "gone at {primitive}:\n{story}");
        let held = autoprobe::held(&life.host).unwrap();
        assert_eq!(held, vec![], "autoprobe is not off for ever: gone at {primitive}:\n{story}");
        life.assert_quiet();
    }
}

#[test]
fn a_card_whose_vfs_get_no_address_does_not_stay_without_autoprobe() {
    let mut life = Life::worker().with(Fault::IgnoresVfMac);
    life.wants("", 2);
    for _ in 0..3 {
        life.turn(&life.host.clone());
    }
    let status = status_line(&life.state);
    assert!(status.contains("after MAC"), "{status}");
    assert_eq!(autoprobe::held(&life.host).unwrap(), vec![]);
}

/// A worker whose own network is a bond over two ConnectX-7, `0000:03:00.0` one of them.
fn bonded() -> Life {
    let clock = Timestamp::from_second(1_700_000_000).unwrap();
    Life::new(Machine::bonded_worker(NODE, Flavour::Rhel, clock))
}

/// Adds to what is wanted of the one card.
fn amend(life: &mut Life, field: &str, value: Value) {
    life.state["spec"]["interfaces"][0][field] = value;
    life.deliver();
}

/// Mode of the card's switch, VFs, and how often its carrier came or went: asked of the kernel.
fn card_says(life: &Life) -> (String, String) {
    let read = |path: &str| {
        String::from_utf8_lossy(&life.host.read(path).unwrap_or_default()).trim().to_owned()
    };
    let mode = life.host.devlink(&"0000:03:00.0".parse().unwrap()).unwrap().eswitch;
    let vfs = read("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs");
    let changes = read("/sys/class/net/enp3s0/carrier_changes");
    (format!("{} {vfs}", mode.unwrap()), changes)
}

#[test]
fn a_card_by_which_the_host_lives_gets_vfs_with_its_link_up_and_an_event() {
    let mut life = bonded();
    life.wants("", 2);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 2 vfs
        status InProgress, rdma shared, 0 vfs
        event SyncStatusChanged: Status changed from:  to: InProgress
        status Succeeded, rdma shared, 2 vfs
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        event LifelineKept: set vf count 0000:03:00.0 2 without drivers: this host has its default route over enp3s0, bond0, and mlx5_core keeps the link up
        plugin: offer 1 [ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"2"}
    "#]]);
    assert_eq!(card_says(&life), ("legacy 2".to_owned(), "0".to_owned()));
    let seen = &life.state["status"]["interfaces"][0]["lifelines"];
    let bond = json!([{ "carries": "DefaultRoute", "over": ["enp3s0", "bond0"] }]);
    assert_eq!(*seen, bond, "{seen}");
    life.assert_quiet();
}

/// The power goes and comes back; the kubelet says what it said, until its device plugin has registered again.
fn power_cut(life: &mut Life) {
    life.host.machine().boot();
    life.stop_plugin();
    life.plugin = true;
    life.pods.clear();
    life.told.push("the power is cut".to_owned());
}

#[test]
fn after_a_power_cut_devices_are_listed_at_once_and_ready_only_when_they_are_verified() {
    let mut life = settled("", 2);
    power_cut(&mut life);
    life.settle();
    life.tell(expect![[r#"
        the power is cut
        status InProgress, rdma shared, 0 vfs
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        plugin: offer 1 [unverified unverified]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        plugin: offer 2 [unverified unverified]
        status Succeeded, rdma shared, 2 vfs
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        plugin: offer 3 [ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"2"}
    "#]]);
    life.assert_quiet();
}

#[test]
fn what_cuts_the_host_off_is_refused_until_the_policy_allows_it_and_its_end_goes_the_same_way() {
    let mut life = bonded();
    life.wants("", 2);
    amend(&mut life, "eSwitchMode", json!("switchdev"));
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 2 vfs
        status Failed, rdma shared, 0 vfs, Lifeline, error: will not set eswitch mode 0000:03:00.0 switchdev (enp3s0): mlx5_core sets the PF's own interface up anew for it, and this host has its default route over enp3s0, bond0; write allowLifeline: true into policy train if that may be, or give the host another way
        event SyncStatusChanged: Status changed from:  to: Failed. Last Error: will not set eswitch mode 0000:03:00.0 switchdev (enp3s0): mlx5_core sets the PF's own interface up anew for it, and this host has its default route over enp3s0, bond0; write allowLifeline: true into policy train if that may be, or give the host another way
        plugin: offer 1 []
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
    "#]]);
    assert_eq!(card_says(&life), ("legacy 0".to_owned(), "0".to_owned()));
    life.assert_quiet();
    life.told.clear();
    amend(&mut life, "allowLifeline", json!(true));
    life.settle();
    life.tell(expect![[r#"
        status InProgress, rdma shared, 0 vfs, WaitingForDrain
        event SyncStatusChanged: Status changed from: Failed to: InProgress
        SriovNetworkNodeState desired-state := Drain_Required
        Node state := Drain_Required
        operator: Draining
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, fenced with 0 held
        operator: DrainComplete
        status Succeeded, rdma shared, 2 vfs, fenced with 0 held
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        event LifelineCut: set eswitch mode 0000:03:00.0 switchdev: mlx5_core sets the PF's own interface up anew for it, and this host has its default route over enp3s0, bond0; policy train allows it
        event LifelineKept: set vf count 0000:03:00.0 2 without drivers: this host has its default route over enp3s0, bond0, and mlx5_core keeps the link up
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 3 [ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"2"}
        status Succeeded, rdma shared, 2 vfs
    "#]]);
    assert_eq!(card_says(&life), ("switchdev 2".to_owned(), "2".to_owned()));
    life.told.clear();
    // The mark on the host knows that it was allowed.
    life.wants("", 0);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 0 vfs
        status InProgress, rdma shared, 2 vfs, WaitingForDrain
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        SriovNetworkNodeState desired-state := Drain_Required
        Node state := Drain_Required
        operator: Draining
        plugin: offer 4 []
        kubelet: allocatable {}
        status InProgress, rdma shared, 2 vfs, WaitingForDrain, fenced with 0 held
        operator: DrainComplete
        status Succeeded, rdma shared, 0 vfs, fenced with 0 held
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        event LifelineKept: set vf count 0000:03:00.0 0: this host has its default route over enp3s0, bond0, and mlx5_core keeps the link up
        event LifelineCut: set eswitch mode 0000:03:00.0 legacy: mlx5_core sets the PF's own interface up anew for it, and this host has its default route over enp3s0, bond0; the policy that it had allowed it
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        status Succeeded, rdma shared, 0 vfs
    "#]]);
    assert_eq!(card_says(&life), ("legacy 0".to_owned(), "4".to_owned()));
    life.assert_quiet();
}

#[test]
fn a_default_route_that_is_away_for_a_moment_guards_its_card_still() {
    let mut life = bonded();
    life.wants("", 0);
    life.settle();
    life.told.clear();
    // A network manager that restarts.
    let routes = {
        let mut machine = life.host.machine();
        std::mem::take(&mut machine.namespaces.get_mut(&HOST_NAMESPACE).unwrap().routes)
    };
    assert!(!routes.is_empty(), "the host has no route to lose");
    life.wants("", 2);
    amend(&mut life, "eSwitchMode", json!("switchdev"));
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "", 2 vfs
        status Failed, rdma shared, 0 vfs, Lifeline, error: will not set eswitch mode 0000:03:00.0 switchdev (enp3s0): mlx5_core sets the PF's own interface up anew for it, and this host has its default route (gone since 2023-11-14T22:13:40Z) over enp3s0, bond0; write allowLifeline: true into policy train if that may be, or give the host another way
        event SyncStatusChanged: Status changed from: Succeeded to: Failed. Last Error: will not set eswitch mode 0000:03:00.0 switchdev (enp3s0): mlx5_core sets the PF's own interface up anew for it, and this host has its default route (gone since 2023-11-14T22:13:40Z) over enp3s0, bond0; write allowLifeline: true into policy train if that may be, or give the host another way
        plugin: offer 2 []
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
    "#]]);
    assert_eq!(card_says(&life), ("legacy 0".to_owned(), "0".to_owned()));
    life.told.clear();
    life.host.machine().clock += Duration::from_secs(600);
    life.settle();
    life.tell(expect![[r#"
        status Succeeded, rdma shared, 2 vfs
        event SyncStatusChanged: Status changed from: Failed to: Succeeded
        plugin: offer 4 [ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"2"}
    "#]]);
    assert_eq!(card_says(&life), ("switchdev 2".to_owned(), "2".to_owned()));
}

#[test]
fn a_device_plugin_that_runs_before_the_vfs_are_made_lists_them_unhealthy() {
    let mut life = settled("", 2);
    power_cut(&mut life);
    life.host.machine().faults.insert(Fault::VfCountBusy);
    life.settle();
    life.tell(expect![[r#"
        the power is cut
        status InProgress, rdma shared, 0 vfs
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        plugin: offer 1 [unverified unverified]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status Failed, rdma shared, 0 vfs, error: cannot set 2 VFs on 0000:03:00.0: write 2 to /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs: device or resource busy
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: cannot set 2 VFs on 0000:03:00.0: write 2 to /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs: device or resource busy
    "#]]);
    life.host.machine().faults.clear();
    life.host.machine().clock += Duration::from_secs(600);
    life.settle();
    life.tell(expect![[r#"
        plugin: offer 2 [unverified unverified]
        status Succeeded, rdma shared, 2 vfs
        event SyncStatusChanged: Status changed from: Failed to: Succeeded
        plugin: offer 3 [ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"2"}
    "#]]);
}

#[test]
fn vfs_for_rdma_stay_broken_where_the_reboot_did_not_bring_the_mode() {
    let mut life = Life::worker();
    life.wants("", 2);
    life.settle();
    life.told.clear();
    life.host.machine().start_process_in_new_namespace("pause");
    let faults = [
        Fault::IgnoresKernelArgument,
        Fault::IgnoresModprobeOption,
        Fault::ServiceWithPrivateNetwork,
    ];
    life.host.machine().faults.extend(faults);
    life.wants("exclusive", 2);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 2 vfs
        status InProgress, rdma shared, 2 vfs, WaitingForDrain
        event SyncStatusChanged: Status changed from: Succeeded to: InProgress
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        status InProgress, rdma shared, 2 vfs, WaitingForDrain
        operator: DrainComplete
        plugin: offer 2 [withdrawn withdrawn]
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status InProgress, rdma shared, 2 vfs, fenced with 0 held, reboot 1 pending
        status InProgress, rdma shared, 2 vfs, fenced with 0 held, reboot 1 pending
        event RebootNode: rebooting for RdmaMode exclusive
        the machine boots
        plugin: offer 2 [unverified unverified]
        status Failed, rdma shared, 2 vfs, RebootDidNotHelp, fenced with 0 held, reboot 1 didNotHelp, error: a reboot did not bring RDMA mode: expected exclusive, found shared, after modprobe.d, kernel argument by grubby; no further reboot for this: look for another netns_mode in modprobe.d, the initramfs or the boot loader, then annotate the node with ironrail.dev/retry-reboot=<a new value>
        event SyncStatusChanged: Status changed from: InProgress to: Failed. Last Error: a reboot did not bring RDMA mode: expected exclusive, found shared, after modprobe.d, kernel argument by grubby; no further reboot for this: look for another netns_mode in modprobe.d, the initramfs or the boot loader, then annotate the node with ironrail.dev/retry-reboot=<a new value>
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 3 [unverified unverified]
        status Failed, rdma shared, 2 vfs, RebootDidNotHelp, reboot 1 didNotHelp, error: a reboot did not bring RDMA mode: expected exclusive, found shared, after modprobe.d, kernel argument by grubby; no further reboot for this: look for another netns_mode in modprobe.d, the initramfs or the boot loader, then annotate the node with ironrail.dev/retry-reboot=<a new value>
    "#]]);
    life.assert_quiet();
}
