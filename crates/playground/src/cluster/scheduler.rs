//! The scheduler: gives each pending pod a node that has room for it, or says on the pod why there is none.

use super::objects::{self, Objects, items, name, namespace, text, texts};
use api::Timestamp;
use api::wire::{Event, ObjectKey, Outcome, Write, at};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Binds what can be bound; one pass over all pending pods.
pub fn step(view: &(impl Objects + ?Sized), now: Timestamp) -> Outcome {
    let pods = view.list("v1", "Pod");
    if !pods.iter().any(|pod| is_pending(pod)) {
        return Outcome::default();
    }
    let nodes = view.list("v1", "Node");
    let mut used: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for pod in pods.iter().filter(|p| !objects::is_finished(p)) {
        let node = text(pod, "/spec/nodeName");
        if !node.is_empty() {
            charge(used.entry(node.to_owned()).or_default(), pod);
        }
    }
    let mut writes = Vec::new();
    for pod in pods.iter().filter(|p| is_pending(p)) {
        match choose(pod, &nodes, &used) {
            Ok(node) => {
                charge(used.entry(node.clone()).or_default(), pod);
                writes.push(bind(pod, &node));
                writes.push(Write::Event(event(
                    pod,
                    false,
                    "Scheduled",
                    assigned(pod, &node),
                    now,
                )));
            }
            Err(why) => writes.extend(unschedulable(pod, why, now)),
        }
    }
    Outcome { writes, look_again: None }
}

fn is_pending(pod: &Value) -> bool {
    text(pod, "/spec/nodeName").is_empty()
        && !objects::is_deleting(pod)
        && !objects::is_finished(pod)
}

fn charge(used: &mut BTreeMap<String, i64>, pod: &Value) {
    for (resource, amount) in objects::requests(pod) {
        *used.entry(resource).or_default() += amount;
    }
    *used.entry("pods".to_owned()).or_default() += 1000;
}

const OTHER_NODE: &str = "node(s) didn't match Pod's node affinity/selector";

/// The first node in order of name that has nothing against the pod; else the reasons, as the real scheduler words them.
fn choose(
    pod: &Value,
    nodes: &[Arc<Value>],
    used: &BTreeMap<String, BTreeMap<String, i64>>,
) -> Result<String, String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let none = BTreeMap::new();
    let pinned = pinned(pod);
    for node in nodes {
        let node_name = name(node);
        if pinned.is_some_and(|one| one != node_name) {
            *reasons.entry(OTHER_NODE.to_owned()).or_default() += 1;
            continue;
        }
        let against = objections(pod, node, used.get(node_name).unwrap_or(&none));
        if against.is_empty() {
            return Ok(node_name.to_owned());
        }
        for reason in against {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let list: Vec<String> =
        reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    Err(format!("0/{} nodes are available: {}.", nodes.len(), list.join(", ")))
}

/// What speaks against the pod on this node; empty when it fits.
pub fn objections(pod: &Value, node: &Value, used: &BTreeMap<String, i64>) -> Vec<String> {
    if !matches_node(pod, node) {
        return vec![OTHER_NODE.to_owned()];
    }
    for taint in items(node, "/spec/taints") {
        let counts = matches!(text(taint, "/effect"), "NoSchedule" | "NoExecute");
        if counts && !tolerates(pod, taint) {
            return match text(taint, "/key") {
                "node.kubernetes.io/unschedulable" => vec!["node(s) were unschedulable".to_owned()],
                key => vec![format!(
                    "node(s) had untolerated taint {{{key}: {}}}",
                    text(taint, "/value")
                )],
            };
        }
    }
    if at(node, "/spec/unschedulable") == Some(&Value::Bool(true))
        && !tolerates(
            pod,
            &json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}),
        )
    {
        return vec!["node(s) were unschedulable".to_owned()];
    }
    // The real one goes by the taint, which a DaemonSet's pods tolerate.
    let not_ready = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" });
    if objects::condition(node, "Ready") != "True" && !tolerates(pod, &not_ready) {
        return vec!["node(s) were not ready".to_owned()];
    }
    let none = Value::Null;
    let mut short = Vec::new();
    for (resource, amount) in objects::requests(pod) {
        let has = objects::quantity(node["status"]["allocatable"].get(&resource).unwrap_or(&none));
        if used.get(&resource).copied().unwrap_or(0) + amount > has {
            short.push(format!("Insufficient {resource}"));
        }
    }
    short
}

/// Where a pod's spec has the terms of its required node affinity.
pub const TERMS: &str =
    "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";

/// The one node that a pod may be on, by name.
pub fn pinned(pod: &Value) -> Option<&str> {
    let term = items(at(pod, "/spec")?, TERMS).first()?;
    let field = items(term, "/matchFields").iter().find(|f| f["key"] == "metadata.name")?;
    items(field, "/values").first()?.as_str()
}

/// Node selector and required node affinity.
pub fn matches_node(pod: &Value, node: &Value) -> bool {
    if pinned(pod).is_some_and(|one| one != name(node)) {
        return false;
    }
    let terms = at(pod, "/spec").map(|spec| items(spec, TERMS)).unwrap_or_default();
    let labels = at(node, "/metadata/labels").unwrap_or(&Value::Null);
    let selector = at(pod, "/spec/nodeSelector").and_then(Value::as_object);
    selector.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && (terms.is_empty() || {
            let labels = texts(node, "/metadata/labels");
            terms.iter().any(|term| objects::selects(term, &labels))
        })
}

/// True when one of the pod's tolerations covers the taint.
pub fn tolerates(pod: &Value, taint: &Value) -> bool {
    items(pod, "/spec/tolerations").iter().any(|toleration| {
        let key = text(toleration, "/key");
        let effect = text(toleration, "/effect");
        let value_fits = text(toleration, "/operator") == "Exists"
            || text(toleration, "/value") == text(taint, "/value");
        (key.is_empty() || key == text(taint, "/key"))
            && (effect.is_empty() || effect == text(taint, "/effect"))
            && value_fits
    })
}

fn bind(pod: &Value, node: &str) -> Write {
    Write::Create {
        object: json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": { "name": name(pod), "namespace": namespace(pod) },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        }),
    }
}

fn assigned(pod: &Value, node: &str) -> String {
    format!("Successfully assigned {}/{} to {node}", namespace(pod), name(pod))
}

fn unschedulable(pod: &Value, why: String, now: Timestamp) -> Vec<Write> {
    let Some(conditions) =
        objects::with_condition(pod, "PodScheduled", "False", "Unschedulable", &why, now)
    else {
        return Vec::new();
    };
    vec![
        Write::Patch {
            key: ObjectKey::of(pod),
            patch_type: api::wire::PatchType::Merge,
            patch: json!({ "status": { "phase": "Pending", "conditions": conditions } }),
            subresource: "status",
        },
        Write::Event(event(pod, true, "FailedScheduling", why, now)),
    ]
}

fn event(pod: &Value, warning: bool, reason: &str, message: String, now: Timestamp) -> Event {
    Event {
        regarding: ObjectKey::of(pod),
        uid: objects::uid(pod).to_owned(),
        warning,
        reason: reason.to_owned(),
        message,
        component: "default-scheduler",
        at: now,
    }
}
