//! What the user and fate do in one run: drawn from the seed before it begins, so that the same seed tells the same story.

use super::extras::Extras;
use super::faults::Fault;
use super::features::Feature;
use super::leaving::{self, Leaves};
use super::lifelines::{self, Lives};
use super::objects::{
    agents, batch, batch_key, budget, change, create, deployment, label, merge, network, policy,
    pool, staged,
};
use super::run::START;
use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{RdmaMode, Timestamp, annotation, names};
use fastrand::Rng;
use host::sim::{Fault as Kernel, Flavour, FunctionKind, Machine};
use serde_json::{Value, json};
use std::time::Duration;

/// The pool of the guide.
pub(super) const POOL: &str = "rdma-workers";
/// A pool that has a node of the other for a while.
const SECOND_POOL: &str = "second";
/// A Deployment whose pods hold a VF in an init container that does not end.
pub(super) const STAGED: &str = "staged";
/// A pod of nobody's, which ends by itself.
pub(super) const BATCH: &str = "batch";
/// A DaemonSet whose pods ask for a VF.
pub(super) const AGENT: &str = "agent";

/// One thing that happens from outside.
#[derive(Debug, Clone)]
pub struct Step {
    pub after: Duration,
    pub name: String,
    pub what: Act,
    /// The fault that it is part of; None for what any user does.
    pub fault: Option<Fault>,
    /// The feature that shows at this moment whether it matters.
    pub feature: Option<Feature>,
}

#[derive(Debug, Clone)]
pub enum Act {
    /// The user sends a request.
    Send(Request),
    Outage(Duration),
    PowerCut(String),
    /// The machine comes back with nothing of what we kept on it.
    LoseDisk(String),
    StaysDown(String),
    KubeletRestart(String),
    /// The next CNI plugin on the node dies.
    CrashCni(String),
    ClockJump {
        node: String,
        seconds: i64,
    },
    ClockRight(String),
    SecondOperator,
    SecondOperatorEnds,
    /// The firmware of the node's card forgets at boot what it was told.
    Firmware(String),
    /// The machine gets or loses a misbehaviour.
    Kernel {
        node: String,
        kernel: Kernel,
        on: bool,
    },
}

/// The whole story.
#[derive(Debug, Clone)]
pub struct Story {
    pub acts: Vec<Step>,
    pub nodes: Vec<String>,
    /// The mode that every node has to have in the end.
    pub goal: RdmaMode,
    /// VFs on `enp3s0f0` of every node in the end; None where nobody asks.
    pub vfs: Option<u32>,
    /// The number of VFs is asked for once and stays.
    pub steady: bool,
    /// Cordoned by an administrator, for good.
    pub cordoned: Option<String>,
    /// How often the wanted mode of a node changes: no node may be rebooted more often.
    pub mode_changes: u32,
    /// The node whose card has room for 2 VFs only until its firmware is told otherwise, with one reboot.
    pub small_card: Option<String>,
    /// The user has the RDMA modules reloaded where the mode would take a reboot.
    pub reloads: bool,
    /// The node that lives by the card that policies select.
    pub lives: Option<Lives>,
    pub extras: Extras,
    /// Seconds at which nodes get work.
    work: Vec<u64>,
}

impl Story {
    pub fn draw(rng: &mut Rng) -> Self {
        let count = match rng.u32(..100) {
            0..50 => rng.usize(1..=5),
            50..90 => rng.usize(6..=10),
            90..99 => rng.usize(11..=30),
            _ => rng.usize(101..=130),
        };
        let mut story = Self::of(count);
        story.guide(rng);
        story.fate(rng);
        story.troubles(rng);
        story.lifeline(rng);
        story.gate(rng);
        let apart = Rng::with_seed(rng.clone().u64(..));
        story.extras(apart);
        story.acts.sort_by_key(|step| step.after);
        story
    }

    /// One pool and one policy over this many nodes, of which a tenth may be disturbed; nothing else happens.
    pub fn rollout(count: usize) -> Self {
        let mut story = Self::of(count);
        for node in story.nodes.clone() {
            story.send(1, format!("label {node}"), label(&node));
        }
        story.send(5, "policy with 4 VFs".to_owned(), create(policy(4, false)));
        story.vfs = Some(4);
        let pool = create(pool("exclusive", json!("10%")));
        story.send(60, "pool exclusive, maxUnavailable 10%".to_owned(), pool);
        story.goal = RdmaMode::Exclusive;
        story.mode_changes = 1;
        story
    }

    fn of(count: usize) -> Self {
        Self {
            acts: Vec::new(),
            nodes: (0..count).map(|n| format!("worker-{n}")).collect(),
            goal: RdmaMode::Shared,
            vfs: None,
            steady: true,
            cordoned: None,
            mode_changes: 0,
            small_card: None,
            reloads: false,
            lives: None,
            extras: Extras::default(),
            work: Vec::new(),
        }
    }

    /// Nobody takes a hundred nodes one by one; smaller stories do.
    fn is_large(&self) -> bool {
        self.nodes.len() > 50
    }

    /// True when everything has happened that the story holds.
    pub fn is_over(&self, start: Timestamp, now: Timestamp) -> bool {
        self.acts.last().is_none_or(|last| now > start + last.after)
    }

    /// The machines of the cluster.
    pub fn machines(&self, rng: &mut Rng, start: Timestamp) -> Vec<(String, Machine)> {
        let flavours =
            [Flavour::Rhel, Flavour::Ubuntu, Flavour::Coreos, Flavour::SleMicro, Flavour::NoTool];
        let mut draw = |name: &String| {
            let flavour = flavours[rng.usize(..flavours.len())];
            let mut machine = Machine::small_worker(name, flavour, start);
            // With a service in a namespace of its own no live switch is possible, so that the mode takes a reboot.
            if rng.bool() {
                machine.faults.insert(Kernel::ServiceWithPrivateNetwork);
                machine.start_process_in_new_namespace("systemd-private");
            }
            if self.small_card.as_ref() == Some(name) {
                give_small_card(&mut machine);
            }
            self.extras.settle(name, &mut machine);
            if let Some(lives) = self.lives.as_ref().filter(|lives| lives.node == *name) {
                lives.settle(&mut machine);
            }
            (name.clone(), machine)
        };
        self.nodes.iter().map(&mut draw).collect()
    }

    /// The guide's objects, some of them changed or taken away again.
    fn guide(&mut self, rng: &mut Rng) {
        for node in self.nodes.clone() {
            self.send(rng.u64(1..20), format!("label {node}"), label(&node));
        }
        for (name, replicas) in [("train", rng.u64(0..4)), ("web", rng.u64(0..4))] {
            self.send(2, format!("deploy {name}"), create(deployment(name, replicas)));
        }
        let at = rng.u64(5..60);
        let limits = match self.is_large() {
            true => [json!(5), json!("10%"), json!("25%"), json!("50%")],
            false => [Value::Null, json!(1), json!(2), json!("50%")],
        };
        let limit = limits[rng.usize(..4)].clone();
        self.send(
            at,
            format!("pool exclusive, maxUnavailable {limit}"),
            create(pool("exclusive", limit)),
        );
        self.work.push(at);
        self.goal = RdmaMode::Exclusive;
        self.mode_changes += 1;
        if rng.bool() {
            let (at, taint) = (rng.u64(5..900), self.nodes.len().is_multiple_of(2));
            self.send(at, "policy with 4 VFs".to_owned(), create(policy(4, taint)));
            self.work.push(at);
            self.vfs = Some(4);
            self.send(3, "network".to_owned(), create(network()));
            if rng.bool() {
                self.send(4, format!("deploy {STAGED}"), create(staged(rng.u64(1..3))));
            }
            if rng.u32(..5) == 0 {
                self.small_card = Some(self.node(rng));
            }
            if rng.bool() {
                let at = rng.u64(900..1200);
                self.work.push(at);
                self.send(
                    at,
                    "policy with 2 VFs".to_owned(),
                    change("SriovNetworkNodePolicy", "rdma-policy", json!({ "numVfs": 2 })),
                );
                self.vfs = Some(2);
                self.steady = false;
            }
        }
        match rng.u32(..4) {
            // Without a pool a large cluster would go one node at a time for half a day.
            ends @ (0 | 1) if ends == 0 || self.is_large() => {
                let at = rng.u64(100..1500);
                self.send(
                    at,
                    "pool shared".to_owned(),
                    change(names::POOL, POOL, json!({ "rdmaMode": "shared" })),
                );
                self.goal = RdmaMode::Shared;
                self.mode_changes += 1;
            }
            1 => {
                let key = ObjectKey::new(names::API_VERSION, names::POOL, names::NAMESPACE, POOL);
                let at = rng.u64(100..1500);
                self.send(
                    at,
                    "delete the pool".to_owned(),
                    Request::new(Method::Delete, key.path()),
                );
                self.goal = RdmaMode::Shared;
                self.mode_changes += 1;
            }
            _ => {}
        }
    }

    /// One node lives by the card that policies select, and one of them asks for what would cut it off.
    fn lifeline(&mut self, rng: &mut Rng) {
        let (node, at) = (self.node(rng), rng.u64(5..900));
        if rng.u32(..6) == 0 && self.small_card.as_ref() != Some(&node) {
            let lives = Lives::draw(node, rng);
            self.send(
                at,
                format!("policy with switchdev on {}", lives.node),
                create(lives.policy()),
            );
            if lives.allowed {
                for step in &mut self.acts {
                    lifelines::allow(&mut step.what);
                }
            }
            self.lives = Some(lives);
        }
    }

    /// The user opens the gate of the reload, before or after the first node has work.
    fn gate(&mut self, rng: &mut Rng) {
        self.reloads = rng.u32(..4) == 0;
        if self.reloads {
            let gates = json!({ "featureGates": { names::MODE_RELOAD_GATE: true } });
            let gate = change(names::OPERATOR_CONFIG, names::DEFAULT_CONFIG, gates);
            self.send(rng.u64(1..40), "feature gate rdmaModeReload".to_owned(), gate);
        }
    }

    /// What users ask for beside all this.
    fn extras(&mut self, mut rng: Rng) {
        let mut extras = Extras::draw(&mut rng, &self.nodes);
        // Its own policy selects the node that lives by its card by name.
        let lives = self.lives.as_ref().map(|lives| &lives.node);
        extras.leaver = extras.leaver.filter(|leaver| Some(&leaver.node) != lives);
        for (field, value) in [("drain", &extras.drain), ("rollout", &extras.rollout)] {
            let Some(value) = value else { continue };
            for step in &mut self.acts {
                set_in_pool(&mut step.what, field, value);
            }
        }
        if let Some(until) = extras.frozen_until {
            for step in &mut self.acts {
                set_in_pool(&mut step.what, "maxUnavailable", &json!(0));
            }
            let limit = if self.is_large() { json!("10%") } else { json!(1) };
            let goes_on = change(names::POOL, POOL, json!({ "maxUnavailable": limit }));
            self.show(Feature::Frozen, until, "pool goes on".to_owned(), goes_on);
        }
        let config = |field: &str, off: bool| {
            change(names::OPERATOR_CONFIG, names::DEFAULT_CONFIG, json!({ field: off }))
        };
        if let Some(until) = extras.no_reboots_until {
            for (at, off) in [(1, true), (until, false)] {
                self.send(at, format!("disableReboot {off}"), config("disableReboot", off));
            }
        }
        if let Some(until) = extras.no_drains_until {
            self.send(1, "disableDrain".to_owned(), config("disableDrain", true));
            let again = "drains again".to_owned();
            self.show(Feature::NoDrains, until, again, config("disableDrain", false));
        }
        for node in self.nodes.iter().take(extras.control_plane).cloned().collect::<Vec<_>>() {
            let patch = json!({ "metadata": { "labels": { api::label::CONTROL_PLANE: "" } } });
            let key = ObjectKey::new("v1", "Node", "", &node);
            self.send(0, format!("control plane on {node}"), merge(&key, patch));
        }
        self.leave(&extras);
        if let Some((node, from, until)) = &extras.second_pool {
            let mut second = pool("exclusive", json!(1));
            second["metadata"]["name"] = SECOND_POOL.into();
            second["spec"]["nodeSelector"] =
                json!({ "matchLabels": { "kubernetes.io/hostname": node } });
            let path = ObjectKey::of(&second).path();
            self.send(*from, format!("second pool over {node}"), create(second));
            let gone = Request::new(Method::Delete, path);
            self.show(Feature::TwoPools, *until, "delete the second pool".to_owned(), gone);
        }
        if let Some(at) = extras.resumed {
            let value = json!({ "metadata": { "annotations": { annotation::RESUME: "go on" } } });
            let key = ObjectKey::new(names::API_VERSION, names::POOL, names::NAMESPACE, POOL);
            self.show(Feature::Resume, at, "resume".to_owned(), merge(&key, value));
        }
        if let Some((at, length)) = extras.batch.filter(|_| self.vfs.is_some()) {
            self.send(at, "a pod that will end".to_owned(), create(batch()));
            let mut ends = Request::new(Method::Patch(PatchType::Merge), batch_key().path());
            ends.path += "/status";
            let finished = START + i64::try_from(at + length).unwrap_or_default();
            let finished = Timestamp::from_second(finished).unwrap_or_default();
            let state = json!({ "terminated": { "exitCode": 0, "reason": "Completed", "finishedAt": finished } });
            let containers = json!([{ "name": "c", "state": state }]);
            ends.body =
                json!({ "status": { "phase": "Succeeded", "containerStatuses": containers } });
            self.show(Feature::FinishedPod, at + length, "the pod ends".to_owned(), ends);
        }
        if let Some(at) = extras.agents.filter(|_| self.vfs.is_some()) {
            self.send(at, "a DaemonSet that asks for VFs".to_owned(), create(agents()));
        }
        if let Some(node) = &extras.retried {
            let patch =
                json!({ "metadata": { "annotations": { annotation::RETRY_REBOOT: "once more" } } });
            let key = ObjectKey::new("v1", "Node", "", node);
            self.send(rng.u64(600..1500), format!("retry on {node}"), merge(&key, patch));
        }
        self.extras = extras;
    }

    /// One node is in no pool, one leaves.
    fn leave(&mut self, extras: &Extras) {
        if let Some(node) = &extras.without_pool {
            for step in &mut self.acts {
                if let Act::Send(Request { body, method: Method::Post, .. }) = &mut step.what {
                    leaving::leave_out(body, node);
                }
            }
        }
        let Some(leaver) = &extras.leaver else { return };
        if leaver.leaves == Leaves::Policy {
            for step in &mut self.acts {
                select_by(&mut step.what, leaving::OFFERED);
            }
            for node in self.nodes.clone() {
                let patch = json!({ "metadata": { "labels": { leaving::OFFERED: "true" } } });
                let key = ObjectKey::new("v1", "Node", "", &node);
                self.send(0, format!("label {node}"), merge(&key, patch));
            }
        }
        let feature = match leaver.leaves {
            Leaves::PoolAndPolicy => Feature::LeavesPool,
            Leaves::Policy => Feature::LeavesPolicy,
            Leaves::Management => Feature::LeavesManagement,
        };
        let what = merge(&ObjectKey::new("v1", "Node", "", &leaver.node), leaver.patch());
        let name = format!("{} loses label {}", leaver.node, leaver.leaves.label());
        self.show(feature, leaver.at, name, what);
    }

    /// The VFs on `enp3s0f0` of a node in the end.
    pub fn vfs_of(&self, node: &str) -> Option<u32> {
        match (&self.lives, self.leaver(node)) {
            (_, Some(leaver)) => leaver.vfs(self.vfs),
            (Some(lives), None) if lives.node == node => lives.vfs(self.vfs),
            _ => self.vfs,
        }
    }

    /// The mode of a node in the end.
    pub fn mode_of(&self, node: &str) -> RdmaMode {
        match self.leaver(node) {
            _ if self.extras.without_pool.as_deref() == Some(node) => RdmaMode::Shared,
            Some(leaver) => leaver.mode(self.goal),
            None => self.goal,
        }
    }

    /// The node that leaves something, where it is this one.
    pub fn leaver(&self, node: &str) -> Option<&leaving::Leaver> {
        self.extras.leaver.as_ref().filter(|leaver| leaver.node == node)
    }

    /// The node's lifeline, where nobody may cut it.
    pub fn guarded(&self, node: &str) -> Option<&Lives> {
        self.lives.as_ref().filter(|lives| lives.node == node && !lives.allowed)
    }

    /// What passes: each with a chance of its own, drawn whether it may strike or not.
    fn fate(&mut self, rng: &mut Rng) {
        if rng.u32(..4) == 0 {
            let length = Duration::from_secs(rng.u64(2..60));
            self.strike(rng.u64(10..1000), Fault::Outage, Act::Outage(length));
        }
        for _ in 0..rng.u32(..3) {
            let node = self.node(rng);
            self.strike(rng.u64(30..1200), Fault::PowerCut, Act::PowerCut(node));
        }
        if rng.u32(..8) == 0 {
            let node = self.node(rng);
            self.strike(rng.u64(30..1200), Fault::LostDisk, Act::LoseDisk(node));
        }
        if rng.u32(..4) == 0 {
            let node = self.node(rng);
            self.strike(rng.u64(20..1200), Fault::KubeletRestart, Act::KubeletRestart(node));
        }
        for _ in 0..rng.u32(..4) {
            let node = self.node(rng);
            self.strike(rng.u64(20..600), Fault::CrashInCni, Act::CrashCni(node));
        }
        if rng.u32(..6) == 0 {
            let (node, at) = (self.node(rng), rng.u64(20..900));
            let seconds = [-7200, -300, -30, 45, 600, 86_400][rng.usize(..6)];
            self.strike(at, Fault::ClockJump, Act::ClockJump { node: node.clone(), seconds });
            self.strike(at + rng.u64(30..400), Fault::ClockJump, Act::ClockRight(node));
        }
        if rng.u32(..6) == 0 {
            let at = rng.u64(20..900);
            self.strike(at, Fault::TwoLeaders, Act::SecondOperator);
            let end = at + rng.u64(30..600);
            self.strike(end, Fault::TwoLeaders, Act::SecondOperatorEnds);
        }
        if rng.u32(..6) == 0 {
            // Shortly before the node gets work, or it would hardly ever meet anybody.
            let work = self.work[rng.usize(..self.work.len())];
            let (node, at) = (self.node(rng), work - rng.u64(1..4));
            let kernel = [Kernel::VfCountBusy, Kernel::DiskFull][rng.usize(..2)];
            let act = |on| Act::Kernel { node: node.clone(), kernel, on };
            self.strike(at, Fault::RefusingKernel, act(true));
            self.strike(at + rng.u64(30..120), Fault::RefusingKernel, act(false));
        }
        for _ in 0..rng.u32(..3) {
            self.meddle(rng);
        }
    }

    /// What lasts: rare, so that most worlds can still be brought to their goal.
    fn troubles(&mut self, rng: &mut Rng) {
        if rng.u32(..6) == 0 {
            let act = Act::Kernel { node: self.node(rng), kernel: Kernel::VfsAppearLate, on: true };
            self.strike(1, Fault::SlowKernel, act);
        }
        if rng.u32(..12) == 0 {
            let node = self.node(rng);
            self.strike(rng.u64(60..900), Fault::StaysDown, Act::StaysDown(node));
        }
        if rng.u32(..10) == 0 {
            let node = self.node(rng);
            let deaf = [
                Kernel::IgnoresKernelArgument,
                Kernel::IgnoresModprobeOption,
                Kernel::ServiceWithPrivateNetwork,
            ];
            for kernel in deaf {
                let act = Act::Kernel { node: node.clone(), kernel, on: true };
                self.strike(1, Fault::ArgumentsIgnored, act);
            }
        }
        if let Some(node) = self.small_card.clone().filter(|_| rng.bool()) {
            self.strike(1, Fault::FirmwareIgnored, Act::Firmware(node));
        }
        if rng.u32(..12) == 0 {
            let act = Act::Kernel { node: self.node(rng), kernel: Kernel::IgnoresReboot, on: true };
            self.strike(1, Fault::RebootIgnored, act);
        }
        if rng.u32(..12) == 0 {
            let name = ["web", "train"][rng.usize(..2)];
            self.strike(3, Fault::StuckBudget, Act::Send(create(budget(name))));
        }
        if rng.u32(..12) == 0 {
            let node = self.node(rng);
            let patch = json!({ "spec": { "unschedulable": true } });
            self.send(
                2,
                format!("cordon {node}"),
                merge(&ObjectKey::new("v1", "Node", "", &node), patch),
            );
            self.cordoned = Some(node);
        }
    }

    /// One thing that a user should not do to what is ours, and does.
    fn meddle(&mut self, rng: &mut Rng) {
        let (node, at) = (self.node(rng), rng.u64(30..900));
        let state = ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, &node);
        let pool = ObjectKey::new(names::API_VERSION, names::POOL, names::NAMESPACE, POOL);
        let request = match rng.u32(..4) {
            0 => Request::new(Method::Delete, state.path()),
            1 => merge(&state, json!({ "spec": { "interfaces": null } })),
            2 => {
                let few = if self.is_large() { 10 } else { 1 };
                let limits = [json!(few), json!(3 * few), json!("100%"), json!(2 * few)];
                let limit = limits[rng.usize(..4)].clone();
                merge(&pool, json!({ "spec": { "maxUnavailable": limit } }))
            }
            _ => {
                let node = ObjectKey::new("v1", "Node", "", &node);
                merge(&node, json!({ "spec": { "unschedulable": null } }))
            }
        };
        self.strike(at, Fault::UserMeddles, Act::Send(request));
    }

    /// True where a user of this story does something to this Node that he should not.
    pub fn meddles_with(&self, node: &str) -> bool {
        let path = ObjectKey::new("v1", "Node", "", node).path();
        self.acts.iter().any(|step| {
            let is_there = matches!(&step.what, Act::Send(request) if request.path == path);
            step.fault == Some(Fault::UserMeddles) && is_there
        })
    }

    fn node(&self, rng: &mut Rng) -> String {
        self.nodes[rng.usize(..self.nodes.len())].clone()
    }

    fn strike(&mut self, after: u64, fault: Fault, what: Act) {
        let name = match &what {
            Act::Send(request) => format!("{:?} {}", request.method, request.path),
            other => format!("{other:?}"),
        };
        let after = Duration::from_secs(after);
        self.acts.push(Step { after, name, what, fault: Some(fault), feature: None });
    }

    /// A request by which a feature shows whether it matters.
    fn show(&mut self, feature: Feature, after: u64, name: String, request: Request) {
        self.send(after, name, request);
        if let Some(step) = self.acts.last_mut() {
            step.feature = Some(feature);
        }
    }

    fn send(&mut self, after: u64, name: String, request: Request) {
        let after = Duration::from_secs(after);
        let what = Act::Send(request);
        self.acts.push(Step { after, name, what, fault: None, feature: None });
    }
}

/// The card with the policy's PF comes with SR-IOV on and room for 2 VFs, and the machine was booted with it.
fn give_small_card(machine: &mut Machine) {
    machine.deliver_firmware(0x03, true, 2, true);
    for (_, function) in machine.functions.iter_mut().filter(|(pci, _)| pci.bus == 0x03) {
        if let FunctionKind::Physical(part) = &mut function.kind {
            part.total_vfs = 2;
        }
    }
}

/// Has a policy of the guide that the user makes select nodes by another label.
fn select_by(what: &mut Act, label: &str) {
    if let Act::Send(Request { body, method: Method::Post, .. }) = what
        && body["metadata"]["name"] == "rdma-policy"
    {
        body["spec"]["nodeSelector"] = json!({ label: "true" });
    }
}

/// Gives the pool, where the user makes it, one field more.
fn set_in_pool(what: &mut Act, field: &str, value: &Value) {
    if let Act::Send(Request { body, method: Method::Post, .. }) = what
        && body["kind"] == names::POOL
    {
        body["spec"][field] = value.clone();
    }
}
