//! What the user and fate do in one run: drawn from the seed before it begins, so that the same seed tells the same story.

use super::faults::Fault;
use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{RdmaMode, Timestamp, names};
use fastrand::Rng;
use host::sim::{Flavour, Machine};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// One thing that happens from outside.
#[derive(Debug, Clone)]
pub struct Step {
    pub after: Duration,
    pub name: String,
    pub what: Act,
}

#[derive(Debug, Clone)]
pub enum Act {
    /// The user sends a request.
    Send(Request),
    Outage(Duration),
    PowerCut(String),
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
    /// How often the wanted mode of a node changes: no node may be rebooted more often.
    pub mode_changes: u32,
}

impl Story {
    pub fn draw(rng: &mut Rng, faults: &BTreeSet<Fault>) -> Self {
        let count = match rng.u32(..100) {
            0..50 => rng.usize(1..=5),
            50..90 => rng.usize(4..=10),
            90..99 => rng.usize(10..=30),
            _ => rng.usize(60..=110),
        };
        let mut story = Self {
            acts: Vec::new(),
            nodes: (0..count).map(|n| format!("worker-{n}")).collect(),
            goal: RdmaMode::Shared,
            vfs: None,
            mode_changes: 0,
        };
        story.guide(rng);
        story.fate(rng, faults);
        story.acts.sort_by_key(|step| step.after);
        story
    }

    /// True when everything has happened that the story holds.
    pub fn is_over(&self, start: Timestamp, now: Timestamp) -> bool {
        self.acts.last().is_none_or(|last| now > start + last.after)
    }

    /// The machines of the cluster.
    pub fn machines(&self, rng: &mut Rng, start: Timestamp) -> Vec<(String, Machine)> {
        let flavours = [Flavour::Rhel, Flavour::Ubuntu, Flavour::Coreos, Flavour::NoTool];
        let mut draw = |name: &String| {
            let flavour = flavours[rng.usize(..flavours.len())];
            (name.clone(), Machine::small_worker(name, flavour, start))
        };
        self.nodes.iter().map(&mut draw).collect()
    }

    /// The guide's objects, some of them changed or taken away again.
    fn guide(&mut self, rng: &mut Rng) {
        let label = |node: &String| {
            let path = format!("/api/v1/nodes/{node}");
            Request::new(Method::Patch(PatchType::Merge), path)
                .with_body(json!({ "metadata": { "labels": { "rdma-capable": "true" } } }))
        };
        for node in self.nodes.clone() {
            self.send(rng.u64(1..20), format!("label {node}"), label(&node));
        }
        for (name, replicas) in [("train", rng.u64(0..4)), ("web", rng.u64(0..4))] {
            self.send(2, format!("deploy {name}"), create(deployment(name, replicas)));
        }
        let at = rng.u64(5..60);
        let limit = [Value::Null, json!(1), json!(2), json!("50%")][rng.usize(..4)].clone();
        self.send(
            at,
            format!("pool exclusive, maxUnavailable {limit}"),
            create(pool("exclusive", limit)),
        );
        self.goal = RdmaMode::Exclusive;
        self.mode_changes += 1;
        if rng.bool() {
            self.send(rng.u64(5..900), "policy with 4 VFs".to_owned(), create(policy(4)));
            self.vfs = Some(4);
            if rng.bool() {
                self.send(
                    rng.u64(900..1200),
                    "policy with 2 VFs".to_owned(),
                    change("SriovNetworkNodePolicy", "rdma-policy", json!({ "numVfs": 2 })),
                );
                self.vfs = Some(2);
            }
        }
        match rng.u32(..4) {
            0 => {
                let at = rng.u64(100..1500);
                self.send(
                    at,
                    "pool shared".to_owned(),
                    change(names::POOL, "rdma-workers", json!({ "rdmaMode": "shared" })),
                );
                self.goal = RdmaMode::Shared;
                self.mode_changes += 1;
            }
            1 => {
                let key = ObjectKey::new(
                    names::API_VERSION,
                    names::POOL,
                    names::NAMESPACE,
                    "rdma-workers",
                );
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

    fn fate(&mut self, rng: &mut Rng, faults: &BTreeSet<Fault>) {
        let outage = Step {
            after: Duration::from_secs(rng.u64(10..1000)),
            name: "API outage".to_owned(),
            what: Act::Outage(Duration::from_secs(rng.u64(2..60))),
        };
        let cut = Step {
            after: Duration::from_secs(rng.u64(30..1200)),
            name: "power cut".to_owned(),
            what: Act::PowerCut(self.nodes[rng.usize(..self.nodes.len())].clone()),
        };
        let (with_outage, with_cut) = (rng.u32(..4) == 0, rng.u32(..4) == 0);
        if with_outage && faults.contains(&Fault::Outage) {
            self.acts.push(outage);
        }
        if with_cut && faults.contains(&Fault::PowerCut) {
            self.acts.push(cut);
        }
    }

    fn send(&mut self, after: u64, name: String, request: Request) {
        self.acts.push(Step { after: Duration::from_secs(after), name, what: Act::Send(request) });
    }
}

fn create(object: Value) -> Request {
    Request::new(Method::Post, ObjectKey::of(&object).collection_path())
        .with_query("fieldManager", "kubectl")
        .with_body(object)
}

fn change(kind: &str, name: &str, spec: Value) -> Request {
    let key = ObjectKey::new(names::API_VERSION, kind, names::NAMESPACE, name);
    Request::new(Method::Patch(PatchType::Merge), key.path())
        .with_query("fieldManager", "kubectl")
        .with_body(json!({ "spec": spec }))
}

fn pool(mode: &str, limit: Value) -> Value {
    let mut pool = json!({
        "apiVersion": names::API_VERSION, "kind": names::POOL,
        "metadata": { "name": "rdma-workers", "namespace": names::NAMESPACE },
        "spec": { "rdmaMode": mode, "nodeSelector": { "matchLabels": { "rdma-capable": "true" } } },
    });
    if !limit.is_null() {
        pool["spec"]["maxUnavailable"] = limit;
    }
    pool
}

fn policy(vfs: u32) -> Value {
    json!({
        "apiVersion": names::API_VERSION, "kind": names::POLICY,
        "metadata": { "name": "rdma-policy", "namespace": names::NAMESPACE },
        "spec": {
            "resourceName": "rdma", "numVfs": vfs, "isRdma": true, "deviceType": "netdevice",
            "nicSelector": { "vendor": "15b3", "pfNames": ["enp3s0f0"] },
            "nodeSelector": { "rdma-capable": "true" },
        },
    })
}

/// Pods that ask for a VF (`train`), and pods that ask for nothing (`web`).
fn deployment(name: &str, replicas: u64) -> Value {
    let resources = match name {
        "train" => {
            json!({ "limits": { "openshift.io/rdma": "1" }, "requests": { "openshift.io/rdma": "1" } })
        }
        _ => json!({}),
    };
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "x", "command": ["sleep", "3600"], "resources": resources }] },
            },
        },
    })
}
