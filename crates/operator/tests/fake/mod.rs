//! A tiny API for the tests of the controllers: it turns writes into stored objects and watch events.
//!
//! It keeps resource versions, refuses stale ones, lets an eviction be refused, and knows nothing else. The real
//! behaviour of a Kubernetes API is the playground's store, which this crate must not see.

#![allow(dead_code)] // Each test program uses its own part.
#![allow(clippy::unwrap_used)] // A test that cannot find its object has failed.

use api::Timestamp;
use api::wire::{Answer, ObjectKey, PatchType, Write};
use operator::controllers::{Operator, Work, goes_on};
use operator::kinds::{self, KINDS};
use operator::settings::Settings;
use operator::world::{Change, WatchEvent};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default)]
pub struct Api {
    pub objects: BTreeMap<ObjectKey, Value>,
    pub log: Vec<WatchEvent>,
    version: u64,
    /// By pod name: the sentence with which its eviction is refused.
    pub refuse_evictions: BTreeMap<String, String>,
    /// By pod name: status and message that its eviction gets instead.
    pub fail_evictions: BTreeMap<String, (u16, String)>,
    /// By name of an object: the message with which its deletion is refused.
    pub refuse_deletions: BTreeMap<String, String>,
    /// Kinds of which every write is refused, with the message.
    pub forbid: BTreeMap<String, String>,
}

impl Api {
    /// Puts an object in place as a user or another program would; generation counts changes of the spec.
    pub fn put(&mut self, mut object: Value) -> Value {
        let key = ObjectKey::of(&object);
        let old = self.objects.get(&key).cloned();
        self.version += 1;
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert("resourceVersion".into(), self.version.to_string().into());
        let uid = match &old {
            Some(old) => old["metadata"]["uid"].clone(),
            None => format!("uid-{}", self.version).into(),
        };
        metadata.insert("uid".into(), uid);
        let generation = match &old {
            Some(old) if old["spec"] == object["spec"] => old["metadata"]["generation"].clone(),
            Some(old) => (old["metadata"]["generation"].as_i64().unwrap() + 1).into(),
            None => 1.into(),
        };
        object["metadata"]["generation"] = generation;
        let change = if old.is_some() { Change::Modified } else { Change::Added };
        self.objects.insert(key, object.clone());
        self.log.push(WatchEvent { change, object: object.clone().into() });
        object
    }

    pub fn remove(&mut self, key: &ObjectKey) {
        if let Some(object) = self.objects.remove(key) {
            self.version += 1;
            self.log.push(WatchEvent { change: Change::Deleted, object: object.into() });
        }
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        let found = self.objects.iter().find(|(key, _)| key.kind == kind && key.name == name);
        found.map(|(_, object)| object)
    }

    /// Changes one object in place.
    pub fn edit(&mut self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(kind, name).unwrap_or_else(|| panic!("no {kind} {name}")).clone();
        change(&mut object);
        self.put(object);
    }

    pub fn annotate(&mut self, kind: &str, name: &str, key: &str, value: &str) {
        self.edit(kind, name, |object| object["metadata"]["annotations"][key] = value.into());
    }

    pub fn annotation(&self, kind: &str, name: &str, key: &str) -> String {
        let value =
            self.get(kind, name).map(|object| object["metadata"]["annotations"][key].clone());
        value.and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
    }

    pub fn carry_out(&mut self, write: &Write) -> Answer {
        let key = write.key();
        if let Some(message) = self.forbid.get(&key.kind)
            && !matches!(write, Write::Event(_))
        {
            return Answer::Refused(403, message.clone());
        }
        let stored = self.objects.get(&key).cloned();
        match write {
            Write::Event(_) => Answer::Done(Value::Null),
            Write::Create { .. } if stored.is_some() => Answer::Conflict(format!("{key} exists")),
            Write::Create { object } => Answer::Done(self.put(object.clone())),
            Write::Apply { object, subresource } => {
                let mut new = stored.clone().unwrap_or_else(
                    || json!({ "apiVersion": key.api_version, "kind": key.kind, "metadata": {} }),
                );
                if stored.is_none() && *subresource == "status" {
                    return Answer::NotFound(format!("{key} not found"));
                }
                apply(&mut new, object);
                match stored.as_ref() == Some(&new) {
                    true => Answer::Done(new),
                    false => Answer::Done(self.put(new)),
                }
            }
            Write::Update { object, subresource } => {
                let Some(mut new) = stored else {
                    return Answer::NotFound(format!("{key} not found"));
                };
                if object["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"] {
                    return Answer::Conflict(format!("{key} has been modified"));
                }
                let part = if *subresource == "status" { "status" } else { "spec" };
                new[part] = object[part].clone();
                Answer::Done(self.put(new))
            }
            Write::Patch { patch_type, patch, .. } => {
                assert_eq!(*patch_type, PatchType::Merge, "the operator patches by merge only");
                let Some(mut new) = stored else {
                    return Answer::NotFound(format!("{key} not found"));
                };
                let version = &patch["metadata"]["resourceVersion"];
                if !version.is_null() && *version != new["metadata"]["resourceVersion"] {
                    return Answer::Conflict(format!("{key} has been modified"));
                }
                merge(&mut new, patch);
                match new["metadata"]["deletionTimestamp"].is_string()
                    && new["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
                {
                    true => {
                        self.remove(&key);
                        Answer::Done(json!({ "kind": "Status" }))
                    }
                    false => Answer::Done(self.put(new)),
                }
            }
            Write::Delete { .. } if stored.is_none() => {
                Answer::NotFound(format!("{key} not found"))
            }
            Write::Delete { .. } if self.refuse_deletions.contains_key(&key.name) => {
                Answer::Refused(403, self.refuse_deletions[&key.name].clone())
            }
            Write::Delete { .. } => {
                self.remove(&key);
                Answer::Done(json!({ "kind": "Status" }))
            }
            Write::Evict { pod, .. } if self.fail_evictions.contains_key(pod) => {
                let (status, message) = &self.fail_evictions[pod];
                Answer::Refused(*status, message.clone())
            }
            Write::Evict { pod, .. } => match (self.refuse_evictions.get(pod), stored) {
                (Some(sentence), _) => Answer::TooManyRequests(sentence.clone()),
                (None, None) => Answer::NotFound(format!("{key} not found")),
                (None, Some(_)) => {
                    self.remove(&key);
                    Answer::Done(json!({ "kind": "Status" }))
                }
            },
        }
    }
}

/// Server-side apply, as far as one manager sees it: fields are set, conditions are joined by type, other lists replaced.
fn apply(into: &mut Value, from: &Value) {
    let Some(fields) = from.as_object() else {
        *into = from.clone();
        return;
    };
    for (name, value) in fields {
        if name == "conditions" {
            let mut all = into[name].as_array().cloned().unwrap_or_default();
            for condition in value.as_array().unwrap() {
                all.retain(|old| old["type"] != condition["type"]);
                all.push(condition.clone());
            }
            into[name] = all.into();
        } else {
            if !into[name].is_object() && value.is_object() {
                into[name] = json!({});
            }
            apply(&mut into[name], value);
        }
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => {
                into.as_object_mut().unwrap().remove(name);
            }
            value => merge(&mut into[name], value),
        }
    }
}

/// One operator over the fake API, with the events that it has not seen yet.
pub struct Driver {
    pub operator: Operator,
    /// By kind: how much of the log was delivered. Watches of different kinds run at different speeds.
    seen: BTreeMap<String, usize>,
    pub now: Timestamp,
    /// What was written, as text.
    pub trace: Vec<String>,
}

pub const START: &str = "2026-11-22T12:00:00Z";

impl Driver {
    /// An operator that has listed everything.
    pub fn new(api: &Api, settings: Settings) -> Self {
        Self::at(api, settings, START.parse().unwrap())
    }

    pub fn at(api: &Api, settings: Settings, now: Timestamp) -> Self {
        let mut operator = Operator::new(settings, now);
        for kind in KINDS {
            let of_kind = api
                .objects
                .iter()
                .filter(|(key, _)| kinds::find(&key.api_version, &key.kind) == Some(kind));
            operator.relisted(
                kind,
                of_kind.map(|(_, object)| object.clone().into()).collect(),
                now,
            );
        }
        let seen = KINDS.iter().map(|kind| (kind.kind.to_owned(), api.log.len())).collect();
        Self { operator, seen, now, trace: Vec::new() }
    }

    /// Lets the watches deliver everything that happened.
    pub fn deliver(&mut self, api: &Api) {
        for kind in KINDS {
            while self.deliver_one(api, kind.kind) {}
        }
    }

    /// Lets the watch of one kind deliver its next event; false when there is none.
    pub fn deliver_one(&mut self, api: &Api, kind: &str) -> bool {
        let seen = self.seen.entry(kind.to_owned()).or_default();
        let next = api.log[*seen..].iter().position(|event| event.object["kind"] == kind);
        let event = next.map(|next| &api.log[*seen + next]);
        *seen = next.map_or(api.log.len(), |next| *seen + next + 1);
        if let Some(event) = event {
            self.operator.watched(event, self.now);
        }
        event.is_some()
    }

    /// One step, carried out; false when nothing is due within the next second.
    pub fn step(&mut self, api: &mut Api) -> bool {
        let soon = operator::queue::later(self.now, std::time::Duration::from_secs(1));
        let Some(due) = self.operator.due().filter(|due| *due <= soon) else { return false };
        self.now = self.now.max(due);
        let work = self.operator.step(self.now).expect("a key is due");
        self.carry_out(api, work, usize::MAX);
        true
    }

    /// Carries out the first `most` writes of a step and answers them.
    pub fn carry_out(&mut self, api: &mut Api, work: Work, most: usize) {
        let mut answers = Vec::new();
        for write in work.writes.iter().take(most) {
            let answer = api.carry_out(write);
            self.trace.push(line(write, &answer));
            let on = goes_on(write, &answer);
            answers.push(answer);
            if !on {
                break;
            }
        }
        self.operator.answered(work, answers, self.now);
    }

    /// Steps and delivers until nothing is due; returns what was written.
    pub fn settle(&mut self, api: &mut Api) -> String {
        for _ in 0..10_000 {
            self.deliver(api);
            if !self.step(api) {
                return std::mem::take(&mut self.trace).join("\n");
            }
        }
        panic!("does not settle; the last writes:\n{}", self.trace.join("\n"));
    }

    pub fn wait(&mut self, seconds: u64) {
        self.now = operator::queue::later(self.now, std::time::Duration::from_secs(seconds));
    }
}

/// A write as a line of text, and the answer where it was not simply yes.
pub fn line(write: &Write, answer: &Answer) -> String {
    let key = write.key();
    let body = match write {
        Write::Apply { object, subresource } => {
            format!("apply {key} {}", part(object, subresource))
        }
        Write::Create { .. } => format!("create {key}"),
        Write::Update { object, subresource } => {
            format!("update {key} {}", part(object, subresource))
        }
        Write::Patch { patch, .. } => {
            let mut patch = patch.clone();
            if let Some(metadata) = patch["metadata"].as_object_mut() {
                metadata.remove("resourceVersion");
            }
            format!("patch {key} {patch}")
        }
        Write::Delete { .. } => format!("delete {key}"),
        Write::Evict { .. } => format!("evict {key}"),
        Write::Event(event) => format!("event {key} {}: {}", event.reason, event.message),
    };
    match answer {
        Answer::Done(_) => body,
        other => format!("{body} -> {other}"),
    }
}

/// The part of an object that a test wants to read.
fn part(object: &Value, subresource: &str) -> String {
    if subresource == "status" {
        let mut status = object["status"].clone();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let said = conditions.iter().map(|condition| {
            let text = |name: &str| condition[name].as_str().unwrap().to_owned();
            format!("{}={} {}: {}", text("type"), text("status"), text("reason"), text("message"))
        });
        let said: Vec<String> = said.collect();
        if let Some(fields) = status.as_object_mut() {
            fields.remove("conditions");
        }
        return format!("status {status} [{}]", said.join(" | "));
    }
    match object["kind"].as_str() {
        Some("DaemonSet") => String::new(),
        _ => match object.get("spec") {
            Some(spec) => spec.to_string(),
            None => object["data"].to_string(),
        },
    }
}

// Objects that the scenarios share.

pub fn config() -> Value {
    json!({
        "apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovOperatorConfig",
        "metadata": { "name": "default", "namespace": "sriov-network-operator" }, "spec": {},
    })
}

pub fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": {
            "node-role.kubernetes.io/worker": "", "kubernetes.io/os": "linux", "rdma-capable": "true",
        } },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

pub fn pool(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkPoolConfig",
        "metadata": { "name": name, "namespace": "sriov-network-operator" }, "spec": spec,
    })
}

pub fn pod(name: &str, node: &str, resource: &str) -> Value {
    let requests = match resource {
        "" => json!({}),
        resource => json!({ resource: "1" }),
    };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" },
        "spec": { "nodeName": node, "containers": [{ "resources": { "requests": requests } }] },
        "status": { "phase": "Running" },
    })
}

pub fn settings() -> Settings {
    Settings {
        daemon_image: "ironrail/node:1".into(),
        device_plugin_image: "ironrail/node:1".into(),
        ..Settings::default()
    }
}
