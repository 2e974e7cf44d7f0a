//! One live playground for the tests of a program: over HTTPS as the admin, with a good policy and network in it.
//!
//! It lives as long as a test uses it; tests take turns, so that what one puts wrong is not met by another.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use api::names;
use api::wire::{Method, ObjectKey, PatchType, Request};
use playground::demo::{User, until};
use playground::live::{Options, Playground};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Runtime;

pub const SPACE: &str = names::NAMESPACE;
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub playground: Playground,
    pub user: User,
    pub runtime: Runtime,
    turn: Mutex<u32>,
}

/// The playground of this program: that of a test which runs now, or a new one.
pub fn cluster() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = shared.upgrade() {
        return cluster;
    }
    let cluster = Arc::new(Cluster::start(2));
    *shared = Arc::downgrade(&cluster);
    cluster
}

/// A sentence that a user meets.
pub enum Says {
    /// kubectl's answer to the last object.
    Refused(&'static str),
    /// Kind, namespace, name and type of a condition; `Status Reason: message`.
    Condition([&'static str; 4], &'static str),
    /// Kind, namespace and name of what the event is about; `Type Reason: message`.
    Event([&'static str; 3], &'static str),
}

impl Says {
    pub fn condition(
        kind: &'static str,
        namespace: &'static str,
        name: &'static str,
        of: &'static str,
        says: &'static str,
    ) -> Self {
        Self::Condition([kind, namespace, name, of], says)
    }

    pub fn event(
        kind: &'static str,
        namespace: &'static str,
        name: &'static str,
        says: &'static str,
    ) -> Self {
        Self::Event([kind, namespace, name], says)
    }
}

fn version_of(kind: &str) -> &'static str {
    match kind {
        "Pod" | "Node" | "ConfigMap" => "v1",
        names::NETWORK_ATTACHMENT => names::NAD_API_VERSION,
        _ => names::API_VERSION,
    }
}

pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl Cluster {
    /// A playground whose good policy has made its VFs.
    pub fn start(nodes: usize) -> Self {
        let boot_time = Duration::from_millis(500);
        let cluster = Self::of(Options { nodes, boot_time, ..Options::default() });
        cluster.apply(&yaml(
            "{apiVersion: sriovnetwork.openshift.io/v1, kind: SriovNetworkNodePolicy, \
             metadata: {name: good, namespace: sriov-network-operator}, \
             spec: {resourceName: good, numVfs: 4, nodeSelector: {}, nicSelector: {pfNames: [enp3s0f0]}}}",
        ));
        cluster.apply(&yaml(
            "{apiVersion: sriovnetwork.openshift.io/v1, kind: SriovNetwork, \
             metadata: {name: good, namespace: default}, spec: {resourceName: good}}",
        ));
        for node in 0..nodes {
            cluster.until_is("v1", "Node", "", &format!("worker-{node}"), GOOD, "4");
        }
        cluster
    }

    /// A playground with nothing but what is installed.
    pub fn of(options: Options) -> Self {
        let runtime = Runtime::new().unwrap();
        let playground = runtime.block_on(Playground::start(options)).unwrap();
        let user = runtime.block_on(async { playground.admin() }).unwrap();
        Self { playground, user, runtime, turn: Mutex::new(0) }
    }

    /// Only one test at a time.
    pub fn turn(&self) -> MutexGuard<'_, u32> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn try_apply(&self, object: &Value) -> Result<(), String> {
        self.runtime.block_on(self.user.apply(object))
    }

    pub fn apply(&self, object: &Value) {
        self.try_apply(object).unwrap();
    }

    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.runtime.block_on(self.user.get(version_of(kind), kind, namespace, name))
    }

    pub fn merge(&self, kind: &str, namespace: &str, name: &str, patch: Value) {
        let key = ObjectKey::new(version_of(kind), kind, namespace, name);
        let request = Request::new(Method::Patch(PatchType::Merge), key.path()).with_body(patch);
        let answer = self.runtime.block_on(self.user.send(&request));
        assert!(answer.is_done(), "{key}: {answer}");
    }

    /// Deletes, and waits until it is gone.
    pub fn delete(&self, object: &Value) {
        let key = ObjectKey::of(object);
        let request =
            Request::new(Method::Delete, key.path()).with_body(json!({ "gracePeriodSeconds": 0 }));
        self.runtime.block_on(async {
            self.user.send(&request).await;
            let gone = until(PATIENCE, async || {
                match self.user.get(&key.api_version, &key.kind, &key.namespace, &key.name).await {
                    None => Ok(()),
                    Some(_) => Err(format!("{key} does not go")),
                }
            });
            gone.await.unwrap();
        });
    }

    /// Waits until the value at a pointer reads so.
    pub fn until_is(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        pointer: &str,
        wanted: &str,
    ) {
        let met = until(PATIENCE, async || {
            let object = self.user.get(api_version, kind, namespace, name).await;
            let object = object.unwrap_or_default();
            let found = object.pointer(pointer).map(text).unwrap_or_default();
            match same(&found, wanted) {
                true => Ok(()),
                false => Err(format!(
                    "{kind} {name} {pointer} is {found:?} and not {wanted:?}: {}",
                    object["status"]
                )),
            }
        });
        self.runtime.block_on(met).unwrap();
    }

    /// Everything that is said of an object, by this kind of saying.
    fn said(&self, says: &Says) -> Vec<String> {
        match says {
            Says::Refused(_) => Vec::new(),
            Says::Condition([kind, namespace, name, of], _) => {
                let object = self.get(kind, namespace, name).unwrap_or_default();
                let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
                let of_type = conditions.into_iter().flatten().filter(|c| c["type"] == *of);
                let shown = of_type.map(|c| {
                    let part = |key: &str| text(&c[key]);
                    format!("{} {}: {}", part("status"), part("reason"), part("message"))
                });
                shown.collect()
            }
            Says::Event([kind, namespace, name], _) => {
                let events = self.runtime.block_on(self.user.list("v1", "Event", namespace));
                let about = |event: &&Value| {
                    let object = &event["involvedObject"];
                    object["kind"] == *kind && object["name"] == *name
                };
                let shown = events.iter().filter(about).map(|event| {
                    let part = |key: &str| text(&event[key]);
                    format!("{} {}: {}", part("type"), part("reason"), part("message"))
                });
                shown.collect()
            }
        }
    }

    /// Waits until exactly this is said; else returns what was said in its place.
    fn until_said(&self, says: &Says, wanted: &str) -> Result<(), String> {
        let start = std::time::Instant::now();
        loop {
            let found = self.said(says);
            if found.iter().any(|found| same(found, wanted)) {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("wanted {wanted}\n  found {}", found.join("\n        ")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until exactly this is said in an event.
    pub fn says_event(
        &self,
        kind: &'static str,
        namespace: &'static str,
        name: &'static str,
        wanted: &str,
    ) {
        self.until_said(&Says::Event([kind, namespace, name], ""), wanted).unwrap();
    }

    /// Applies the objects of each case, reads every sentence, lets a good pod run beside them, and cleans up.
    pub fn check(&self, cases: &[(Vec<String>, Vec<Says>)]) {
        let mut turn = self.turn();
        let mut wrong = Vec::new();
        for (objects, says) in cases {
            let objects: Vec<Value> = objects.iter().map(|object| yaml(object)).collect();
            let answers: Vec<_> = objects.iter().map(|object| self.try_apply(object)).collect();
            for says in says {
                let found = match says {
                    Says::Refused(wanted) => refused(answers.last().unwrap(), wanted),
                    Says::Condition(_, wanted) | Says::Event(_, wanted) => {
                        assert_eq!(answers.iter().find(|answer| answer.is_err()), None);
                        self.until_said(says, wanted)
                    }
                };
                wrong.extend(found.err());
            }
            *turn += 1;
            self.good_pod_runs(*turn);
            objects.iter().rev().for_each(|object| self.delete(object));
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }

    /// A network and a pod that are right reach their goal.
    pub fn good_pod_runs(&self, number: u32) {
        let name = format!("beside-{number}");
        let network = yaml(&format!(
            "{{apiVersion: sriovnetwork.openshift.io/v1, kind: SriovNetwork, metadata: {{name: {name}, namespace: default}}, \
             spec: {{resourceName: good}}}}"
        ));
        let pod = yaml(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default, annotations: {{k8s.v1.cni.cncf.io/networks: {name}}}}}, \
             spec: {{containers: [{{name: app, image: app, command: [app], resources: {{limits: {{openshift.io/good: '1'}}}}}}]}}}}"
        ));
        self.apply(&network);
        self.until_is(
            names::NAD_API_VERSION,
            names::NETWORK_ATTACHMENT,
            "default",
            &name,
            "/metadata/name",
            &name,
        );
        self.apply(&pod);
        self.until_is("v1", "Pod", "default", &name, "/status/phase", "Running");
        self.delete(&pod);
        self.delete(&network);
    }

    /// A node's device plugin's pod.
    pub fn pod_of(&self, app: &str, node: &str) -> String {
        let pods = self.runtime.block_on(self.user.list("v1", "Pod", SPACE));
        let pod = pods.iter().find(|pod| {
            text(&pod["metadata"]["name"]).starts_with(app) && pod["spec"]["nodeName"] == node
        });
        text(&pod.unwrap_or_else(|| panic!("no pod of {app} on {node}"))["metadata"]["name"])
    }

    pub fn log(&self, pod: &str) -> String {
        let path = format!("/api/v1/namespaces/{SPACE}/pods/{pod}/log");
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        self.runtime.block_on(self.user.client.request_text(request)).unwrap()
    }
}

pub const GOOD: &str = "/status/allocatable/openshift.io~1good";

pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A `*` in the wanted sentence stands for anything.
pub fn same(found: &str, wanted: &str) -> bool {
    match wanted.split_once('*') {
        None => found == wanted,
        Some((start, end)) => {
            found.len() >= start.len() + end.len()
                && found.starts_with(start)
                && found.ends_with(end)
        }
    }
}

fn refused(answer: &Result<(), String>, wanted: &str) -> Result<(), String> {
    match answer {
        Ok(()) => Err(format!("wanted {wanted}\n  found that it was taken")),
        Err(found) if found == wanted => Ok(()),
        Err(found) => Err(format!("wanted {wanted}\n  found {found}")),
    }
}
