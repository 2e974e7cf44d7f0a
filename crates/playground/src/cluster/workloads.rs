//! The workload controllers: Deployment → ReplicaSet → pods, DaemonSet → pods, and their status.

mod failed;
mod spreads;

pub use failed::FailedPods;
pub use spreads::Spreads;

use super::news::Workloads;
use super::objects::{self, Objects, items, name, namespace, number, text, texts};
use super::scheduler;
use api::Timestamp;
use api::wire::{ObjectKey, Outcome, PatchType, Write};
use serde_json::{Value, json};
use spreads::Wanted;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// One pass over the workloads that have something to see.
pub fn step(
    view: &(impl Objects + ?Sized),
    seen: &Workloads,
    failed: &mut FailedPods,
    spreads: &mut Spreads,
    now: Timestamp,
) -> Outcome {
    if seen.nodes_changed() {
        spreads.forget();
    }
    let pods = view.list("v1", "Pod");
    let nodes = view.list("v1", "Node");
    let sets = view.list("apps/v1", "ReplicaSet");
    let owned = by_controller(&pods);
    let none = Vec::new();
    let own = |set: &Value| owned.get(objects::uid(set)).unwrap_or(&none);
    let mut writes = Vec::new();
    let deployments = view.list("apps/v1", "Deployment");
    let daemons = view.list("apps/v1", "DaemonSet");
    for deployment in deployments.iter().filter(|d| seen.concern(d) && !objects::is_deleting(d)) {
        writes.extend(deploy(deployment, &sets, now));
    }
    for set in sets.iter().filter(|s| seen.concern(s) && !objects::is_deleting(s)) {
        writes.extend(replicate(set, own(set)));
    }
    let due = failed.take_due(now);
    for set in daemons.iter().filter(|d| !objects::is_deleting(d)) {
        if seen.concern_spread(set) || due.contains(objects::uid(set)) {
            writes.extend(spread(set, own(set), spreads.of(set, &nodes), failed, now));
        }
    }
    Outcome { writes, look_again: failed.next() }
}

/// The pods of each controller, by its uid.
fn by_controller(pods: &[Arc<Value>]) -> BTreeMap<&str, Vec<&Arc<Value>>> {
    let mut owned: BTreeMap<&str, Vec<&Arc<Value>>> = BTreeMap::new();
    for pod in pods {
        let owners = items(pod, "/metadata/ownerReferences").iter();
        for owner in owners.filter(|owner| owner["controller"] == true) {
            owned.entry(text(owner, "/uid")).or_default().push(pod);
        }
    }
    owned
}

/// A short name for a pod template: a changed template is a new revision.
fn revision(workload: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    workload["spec"]["template"].to_string().hash(&mut hasher);
    format!("{:010x}", hasher.finish() & 0xff_ffff_ffff)
}

fn deploy(deployment: &Value, sets: &[Arc<Value>], now: Timestamp) -> Vec<Write> {
    let uid = objects::uid(deployment);
    let revision = revision(deployment);
    let own: Vec<_> = sets.iter().filter(|s| objects::is_controlled_by(s, uid)).collect();
    let replicas = deployment.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let mut writes = Vec::new();
    let current = own
        .iter()
        .find(|s| texts(s, "/metadata/labels").get("pod-template-hash") == Some(&&*revision));
    // Recreate order for every strategy: the old pods are gone before a new one starts, so that nothing runs twice.
    let old: Vec<_> = own
        .iter()
        .filter(|s| texts(s, "/metadata/labels").get("pod-template-hash") != Some(&&*revision))
        .collect();
    for set in &old {
        if number(set, "/spec/replicas") != 0 {
            writes.push(merge(set, "", json!({ "spec": { "replicas": 0 } })));
        }
    }
    let old_pods: i64 = old.iter().map(|s| number(s, "/status/replicas")).sum();
    match current {
        None if old_pods == 0 => writes.push(new_replica_set(deployment, &revision, replicas)),
        Some(set) if number(set, "/spec/replicas") != replicas => {
            writes.push(merge(set, "", json!({ "spec": { "replicas": replicas } })));
        }
        _ => {}
    }
    let of = |field: &str| current.map(|s| number(s, field)).unwrap_or(0);
    let ready = of("/status/readyReplicas");
    let available = match ready >= replicas {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        ),
    };
    let mut status = json!({
        "observedGeneration": number(deployment, "/metadata/generation"),
        "replicas": of("/status/replicas") + old_pods, "updatedReplicas": of("/status/replicas"),
        "readyReplicas": ready, "availableReplicas": ready, "unavailableReplicas": (replicas - ready).max(0),
    });
    if let Some(conditions) =
        objects::with_condition(deployment, "Available", available.0, available.1, available.2, now)
    {
        status["conditions"] = Value::from(conditions);
    }
    writes.extend(status_write(deployment, status));
    writes
}

fn new_replica_set(deployment: &Value, revision: &str, replicas: i64) -> Write {
    let mut template = deployment["spec"]["template"].clone();
    objects::put(&mut template, &["metadata", "labels", "pod-template-hash"], revision.into());
    let mut selector = deployment["spec"]["selector"].clone();
    objects::put(&mut selector, &["matchLabels", "pod-template-hash"], revision.into());
    Write::Create {
        object: json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{}-{revision}", name(deployment)), "namespace": namespace(deployment),
                "labels": template["metadata"]["labels"], "ownerReferences": objects::controlled_by(deployment),
            },
            "spec": { "replicas": replicas, "selector": selector, "template": template },
        }),
    }
}

fn replicate(set: &Value, own: &[&Arc<Value>]) -> Vec<Write> {
    let alive: Vec<_> =
        own.iter().filter(|p| !objects::is_deleting(p) && !objects::is_finished(p)).collect();
    let wanted = number(set, "/spec/replicas");
    let mut writes = Vec::new();
    for _ in alive.len() as i64..wanted {
        writes.push(new_pod(set, set["spec"]["template"]["metadata"]["labels"].clone(), None));
    }
    for pod in alive.iter().skip(wanted.max(0) as usize) {
        writes.push(delete(pod));
    }
    // Those that have failed stay, as with the real controller, until somebody collects them.
    let ready = alive.iter().filter(|p| objects::condition(p, "Ready") == "True").count();
    writes.extend(status_write(
        set,
        json!({
            "observedGeneration": number(set, "/metadata/generation"),
            "replicas": alive.len(), "readyReplicas": ready, "availableReplicas": ready,
        }),
    ));
    writes
}

/// One pod of the set on each node that it selects.
fn spread(
    set: &Value,
    own: &[&Arc<Value>],
    wanted: &Wanted,
    failed: &mut FailedPods,
    now: Timestamp,
) -> Vec<Write> {
    let Wanted { revision, nodes: wanted, .. } = wanted;
    let mut by_node: BTreeMap<&str, Vec<&Arc<Value>>> = BTreeMap::new();
    for pod in own {
        by_node.entry(target(pod)).or_default().push(pod);
    }
    let mut writes = Vec::new();
    let (mut ready, mut updated) = (0, 0);
    for node in wanted {
        let here = by_node.remove(node.as_str()).unwrap_or_default();
        if here.is_empty() {
            let mut labels = set["spec"]["template"]["metadata"]["labels"].clone();
            objects::put(&mut labels, &["controller-revision-hash"], revision.as_str().into());
            writes.push(new_pod(set, labels, Some(node)));
        }
        for pod in here {
            let fresh = text(pod, "/metadata/labels/controller-revision-hash") == *revision;
            updated += i64::from(fresh);
            ready += i64::from(objects::condition(pod, "Ready") == "True");
            let goes = match objects::is_finished(pod) {
                true => failed.may_go(set, node, now),
                false => !fresh,
            };
            if goes && !objects::is_deleting(pod) {
                writes.push(delete(pod));
            }
        }
    }
    let strays = by_node.into_values().flatten();
    writes.extend(strays.filter(|p| !objects::is_deleting(p)).map(|p| delete(p)));
    writes.extend(status_write(
        set,
        json!({
            "observedGeneration": number(set, "/metadata/generation"),
            "desiredNumberScheduled": wanted.len(), "currentNumberScheduled": own.len().min(wanted.len()),
            "numberReady": ready, "numberAvailable": ready, "updatedNumberScheduled": updated,
            "numberUnavailable": wanted.len() as i64 - ready, "numberMisscheduled": 0,
        }),
    ));
    writes
}

/// A DaemonSet's pod goes to cordoned and not-ready nodes too, as the real controller adds those tolerations.
fn belongs(probe: &Value, node: &Value) -> bool {
    let tolerated = |taint: &Value| {
        text(taint, "/key").starts_with("node.kubernetes.io/") || scheduler::tolerates(probe, taint)
    };
    scheduler::matches_node(probe, node)
        && items(node, "/spec/taints")
            .iter()
            .filter(|t| text(t, "/effect") != "PreferNoSchedule")
            .all(tolerated)
}

fn new_pod(owner: &Value, labels: Value, node: Option<&str>) -> Write {
    let template = &owner["spec"]["template"];
    let mut spec = template["spec"].clone();
    if let Some(node) = node {
        pin(&mut spec, node);
        let mut tolerations = items(&spec, "/tolerations").to_vec();
        for key in ["not-ready", "unreachable", "unschedulable"] {
            tolerations
                .push(json!({ "key": format!("node.kubernetes.io/{key}"), "operator": "Exists" }));
        }
        spec["tolerations"] = Value::from(tolerations);
    }
    let mut metadata = json!({
        "generateName": format!("{}-", name(owner)), "namespace": namespace(owner),
        "labels": labels, "ownerReferences": objects::controlled_by(owner),
    });
    if let Some(annotations) = template.pointer("/metadata/annotations") {
        metadata["annotations"] = annotations.clone();
    }
    Write::Create {
        object: json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec }),
    }
}

/// A DaemonSet's pod is given its node by the scheduler as any other, and may have this one only (the real controller's
/// `ReplaceDaemonSetPodNodeNameNodeAffinity`): where the node has no room for it, it stays Pending.
fn pin(spec: &mut Value, node: &str) {
    let field = json!([{ "key": "metadata.name", "operator": "In", "values": [node] }]);
    let mut terms = items(spec, scheduler::TERMS).to_vec();
    if terms.is_empty() {
        terms.push(json!({}));
    }
    terms.iter_mut().for_each(|term| term["matchFields"] = field.clone());
    let path = [
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ];
    objects::put(spec, &path, terms.into());
}

/// The node that a DaemonSet's pod is for.
fn target(pod: &Value) -> &str {
    match text(pod, "/spec/nodeName") {
        "" => scheduler::pinned(pod).unwrap_or_default(),
        node => node,
    }
}

fn delete(object: &Value) -> Write {
    Write::Delete {
        key: ObjectKey::of(object),
        uid: objects::uid(object).to_owned(),
        resource_version: String::new(),
    }
}

fn merge(object: &Value, subresource: &'static str, patch: Value) -> Write {
    Write::Patch { key: ObjectKey::of(object), patch_type: PatchType::Merge, patch, subresource }
}

/// A status patch, unless every field stands so already.
fn status_write(object: &Value, status: Value) -> Option<Write> {
    let fields = status.as_object()?;
    let same = fields.iter().all(|(key, value)| object["status"].get(key) == Some(value));
    (!same).then(|| merge(object, "status", json!({ "status": status })))
}
