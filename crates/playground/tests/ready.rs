//! Ready means ready: from a boot until its devices are verified a node offers none of them and, where a policy asks,
//! carries a taint; pods that were there before a power cut are failed, replaced and reported.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{annotation, names};
use expect_test::{Expect, expect};
use host::sim::Fault;
use playground::demo::Manifests;
use playground::simulate::Script;
use playground::store::Store;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

const RESOURCE: &str = "openshift.io/rdma_exclusive_device";

thread_local! {
    /// What each node looked like, one line for each change.
    static SEEN: RefCell<BTreeMap<String, Vec<String>>> = RefCell::default();
}

/// Notes what changes, and lets no pod be bound to a node that carries the taint.
fn watch(store: &Store) -> Result<(), String> {
    for node in store.objects("v1", "Node") {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let state = state(store, name);
        let current = state["metadata"]["annotations"][annotation::CURRENT_STATE].as_str();
        let ready = node["status"]["conditions"][0]["status"] == "True";
        let line = format!(
            "{}, {}{}, {} of {} healthy",
            if ready { "Ready" } else { "down" },
            current.unwrap_or("-"),
            if is_tainted(node) { ", tainted" } else { "" },
            node["status"]["allocatable"][RESOURCE].as_str().unwrap_or("-"),
            node["status"]["capacity"][RESOURCE].as_str().unwrap_or("-"),
        );
        SEEN.with_borrow_mut(|seen| {
            let lines = seen.entry(name.to_owned()).or_default();
            if lines.last() != Some(&line) {
                lines.push(line);
            }
        });
    }
    Ok(())
}

fn is_tainted(node: &Value) -> bool {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.filter(|taint| taint["key"] == names::NOT_READY).count() == 1
}

fn state(store: &Store, node: &str) -> Value {
    let key = ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, node);
    store.object(&key).map(|object| Value::clone(object)).unwrap_or_default()
}

/// The guide at rest on two nodes, with a deployment of one pod that has a device, and the taint where it is asked for.
fn guide(taint: bool) -> Script {
    let mut script = Script::start(2, watch).unwrap();
    let nodes: Vec<String> = script.cluster().nodes.keys().cloned().collect();
    for name in nodes {
        let foreign = json!([{ "key": "example.com/theirs", "effect": "PreferNoSchedule" }]);
        let patch = json!({
            "metadata": { "labels": { "rdma-capable": "true" } }, "spec": { "taints": foreign },
        });
        let path = format!("/api/v1/nodes/{name}");
        send(&mut script, Request::new(Method::Patch(PatchType::Merge), path).with_body(patch));
    }
    let Manifests { pool, mut policy, network, .. } = Manifests::read(None).unwrap();
    policy["spec"]["taintUntilReady"] = taint.into();
    for object in [pool, policy, network] {
        create(&mut script, object);
    }
    script.rest().unwrap();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "train", "namespace": "default" },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { "app": "train" } },
            "template": { "metadata": { "labels": { "app": "train" } }, "spec": pod_spec() },
        },
    });
    create(&mut script, deployment);
    script.rest().unwrap();
    script
}

fn pod_spec() -> Value {
    json!({ "containers": [{
        "name": "c", "image": "x", "command": ["sleep", "3600"],
        "resources": { "limits": { RESOURCE: "1" } },
    }] })
}

fn send(script: &mut Script, request: Request) {
    let response = script.send(&request);
    assert!(response.status < 300, "{}", response.body);
}

fn create(script: &mut Script, object: Value) {
    let path = ObjectKey::of(&object).collection_path();
    send(script, Request::new(Method::Post, path).with_body(object));
}

/// The pods of the default namespace: node, phase, and why.
fn pods(script: &Script) -> Vec<(String, Value)> {
    let ours = |pod: &&std::sync::Arc<Value>| pod["metadata"]["namespace"] == "default";
    let pods = script.store().objects("v1", "Pod").filter(ours);
    pods.map(|pod| (pod["metadata"]["name"].as_str().unwrap().to_owned(), (**pod).clone()))
        .collect()
}

fn node_of(pod: &Value) -> String {
    pod["spec"]["nodeName"].as_str().unwrap().to_owned()
}

/// Condition `PodsAdmitted` of a node state, and the events that tell of pods which were not.
fn told(script: &Script, node: &str) -> String {
    let state = state(script.store(), node);
    let conditions = state["status"]["conditions"].as_array().into_iter().flatten();
    let mut lines: Vec<String> = conditions
        .filter(|one| one["type"] == "PodsAdmitted")
        .map(|one| format!("{} {}: {}", one["status"], one["reason"], one["message"]))
        .collect();
    for event in script.store().objects("v1", "Event") {
        if event["reason"] == "PodNotAdmitted" {
            let on = &event["involvedObject"]["kind"];
            lines.push(format!("event on {on}: {}", event["message"]));
        }
    }
    lines.join("\n")
}

/// Names of pods are drawn; the sentences are not.
fn check(text: &str, pod: &str, expected: Expect) {
    expected.assert_eq(&text.replace(pod, "POD"));
}

/// One that boots with the node may be too late to taint it: the daemon is done in less than a second.
fn move_operator_from(script: &mut Script, node: &str) {
    let path = format!("/api/v1/nodes/{node}");
    let cordon = |script: &mut Script, cordoned: bool| {
        let patch = json!({ "spec": { "unschedulable": cordoned } });
        send(script, Request::new(Method::Patch(PatchType::Merge), path.as_str()).with_body(patch));
        script.rest().unwrap();
    };
    cordon(script, true);
    let is_operators = |pod: &&std::sync::Arc<Value>| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        name.starts_with(names::OPERATOR) && node_of(pod) == node
    };
    let pod = script.store().objects("v1", "Pod").find(is_operators).map(|pod| ObjectKey::of(pod));
    if let Some(pod) = pod {
        send(script, Request::new(Method::Delete, pod.path()));
        script.rest().unwrap();
    }
    cordon(script, false);
}

#[test]
fn a_node_is_tainted_from_before_its_reboot_until_its_devices_are_verified() {
    SEEN.take();
    let script = guide(true);
    let seen = SEEN.take();
    expect![[r#"
        Ready, -, - of - healthy
        Ready, Idle, - of - healthy
        Ready, Idle, 0 of 0 healthy
        Ready, Draining, 0 of 0 healthy
        Ready, Draining, tainted, 0 of 0 healthy
        Ready, DrainComplete, tainted, 0 of 0 healthy
        down, DrainComplete, tainted, 0 of 0 healthy
        Ready, DrainComplete, tainted, 0 of 0 healthy
        Ready, DrainComplete, tainted, 0 of 4 healthy
        Ready, DrainComplete, tainted, 4 of 4 healthy
        Ready, DrainComplete, 4 of 4 healthy
        Ready, Idle, 4 of 4 healthy"#]]
    .assert_eq(&seen["worker-0"].join("\n"));
    for node in script.store().objects("v1", "Node") {
        let foreign = json!([{ "key": "example.com/theirs", "effect": "PreferNoSchedule" }]);
        assert_eq!(node["spec"]["taints"], foreign);
    }
}

#[test]
fn after_a_power_cut_the_pod_is_failed_replaced_and_reported_and_the_node_tainted_meanwhile() {
    let mut script = guide(true);
    let (name, pod) = pods(&script).remove(0);
    let node = node_of(&pod);
    move_operator_from(&mut script, &node);
    SEEN.take();
    script.cut_power(&node, Duration::from_secs(60));
    script.rest().unwrap();
    expect![[r#"
        down, Idle, 4 of 4 healthy
        Ready, Idle, 0 of 4 healthy
        Ready, Idle, tainted, 0 of 4 healthy
        Ready, Idle, tainted, 4 of 4 healthy
        Ready, Idle, 4 of 4 healthy"#]]
    .assert_eq(&SEEN.take()[&node].join("\n"));
    let after: BTreeMap<String, Value> = pods(&script).into_iter().collect();
    assert_eq!(after[&name]["status"]["reason"], "UnexpectedAdmissionError");
    let running = after.values().filter(|pod| pod["status"]["phase"] == "Running");
    assert_eq!((after.len(), running.count()), (2, 1));
    check(
        &told(&script, &node),
        &name,
        expect![[r#"
        "False" "PodNotAdmitted": "1 pod was not admitted: default/POD: Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices openshift.io/rdma_exclusive_device, which is unexpected; ReplicaSet train-93bc1fce3c makes another one"
        event on "Pod": "node worker-0 did not admit it: Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices openshift.io/rdma_exclusive_device, which is unexpected; ReplicaSet train-93bc1fce3c makes another one"
        event on "Node": "pod default/POD: node worker-0 did not admit it: Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices openshift.io/rdma_exclusive_device, which is unexpected; ReplicaSet train-93bc1fce3c makes another one""#]],
    );
}

#[test]
fn a_pod_that_nobody_makes_again_stays_in_the_condition_until_it_goes() {
    let mut script = guide(false);
    let bare = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "alone", "namespace": "default" }, "spec": pod_spec(),
    });
    create(&mut script, bare);
    script.rest().unwrap();
    let pod = pods(&script).into_iter().find(|(name, _)| name == "alone").unwrap().1;
    let node = node_of(&pod);
    SEEN.take();
    script.cut_power(&node, Duration::from_secs(60));
    script.rest().unwrap();
    assert!(!SEEN.take()[&node].iter().any(|line| line.contains("tainted")));
    let pod = pods(&script).into_iter().find(|(name, _)| name == "alone").unwrap().1;
    assert_eq!(pod["status"]["reason"], "UnexpectedAdmissionError");
    let condition = told(&script, &node).lines().next().unwrap().to_owned();
    expect![[r#""False" "PodNotAdmitted": "2 pods were not admitted: default/alone: Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices openshift.io/rdma_exclusive_device, which is unexpected; nobody makes another one, so create it again | default/train-93bc1fce3c-4qqj2: Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices openshift.io/rdma_exclusive_device, which is unexpected; ReplicaSet train-93bc1fce3c makes another one""#]].assert_eq(&condition);
    send(&mut script, Request::new(Method::Delete, ObjectKey::of(&pod).path()));
    script.rest().unwrap();
    let condition = told(&script, &node).lines().next().unwrap().to_owned();
    expect![[r#""False" "PodNotAdmitted": "1 pod was not admitted: default/train-93bc1fce3c-4qqj2: Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices openshift.io/rdma_exclusive_device, which is unexpected; ReplicaSet train-93bc1fce3c makes another one""#]]
        .assert_eq(&condition);
}

#[test]
fn containers_run_on_through_a_kubelet_restart() {
    let mut script = guide(true);
    let (name, pod) = pods(&script).remove(0);
    SEEN.take();
    script.restart_kubelet(&node_of(&pod));
    script.rest().unwrap();
    let (after, now) = pods(&script).remove(0);
    assert_eq!(after, name);
    assert_eq!(now["status"]["containerStatuses"], pod["status"]["containerStatuses"]);
    let seen = SEEN.take().remove(&node_of(&pod)).unwrap();
    assert!(!seen.iter().any(|line| line.contains("tainted")), "{seen:?}");
    assert_eq!(seen.last().unwrap(), "Ready, Idle, 4 of 4 healthy");
}

#[test]
fn the_taint_goes_with_the_policy_and_with_the_config_and_those_of_others_stay() {
    for (kind, name) in [(names::POLICY, "rdma-policy"), (names::OPERATOR_CONFIG, "default")] {
        let mut script = guide(true);
        let node = "worker-1";
        let machine = |script: &Script| script.cluster().nodes[node].kubelet.host.clone();
        machine(&script).machine().faults.insert(Fault::VfCountBusy);
        script.cut_power(node, Duration::from_secs(60));
        script.pass(Duration::from_secs(600)).unwrap();
        let taints = |script: &Script| {
            let key = ObjectKey::new("v1", "Node", "", node);
            script.store().object(&key).unwrap()["spec"]["taints"].clone()
        };
        let ours = json!({ "key": names::NOT_READY, "effect": "NoSchedule" });
        let theirs = json!({ "key": "example.com/theirs", "effect": "PreferNoSchedule" });
        assert_eq!(taints(&script), json!([theirs, ours]));
        let key = ObjectKey::new(names::API_VERSION, kind, names::NAMESPACE, name);
        send(&mut script, Request::new(Method::Delete, key.path()));
        script.pass(Duration::from_secs(60)).unwrap();
        assert_eq!(taints(&script), json!([theirs]), "without the {kind}");
    }
}
