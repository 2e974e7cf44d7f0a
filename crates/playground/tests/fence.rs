//! A drain for devices: the devices are fenced before any of their pods is sent away, and only those pods go whose device
//! is in the way.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{annotation, names};
use playground::simulate::Script;
use playground::store::Store;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// No pod with a device is being sent away from a node whose daemon has not said that its devices are fenced.
fn fenced_first(store: &Store) -> Result<(), String> {
    for state in store.objects(names::API_VERSION, names::NODE_STATE) {
        let node = &state["metadata"]["name"];
        let drains =
            state["metadata"]["annotations"][annotation::CURRENT_STATE] == annotation::DRAINING;
        let goes = |pod: &&std::sync::Arc<Value>| {
            pod["spec"]["nodeName"] == *node
                && pod["metadata"]["namespace"] == "default"
                && !pod["metadata"]["deletionTimestamp"].is_null()
        };
        if let Some(pod) = store.objects("v1", "Pod").find(goes).filter(|_| drains)
            && state["status"]["drain"]["fenced"] != true
        {
            let pod = &pod["metadata"]["name"];
            return Err(format!("{pod} is sent away from {node} before the fence stands"));
        }
    }
    Ok(())
}

fn send(script: &mut Script, request: Request) {
    let response = script.send(&request);
    assert!(response.status < 300, "{}", response.body);
}

fn create(script: &mut Script, object: Value) {
    let path = ObjectKey::of(&object).collection_path();
    send(script, Request::new(Method::Post, path).with_body(object));
}

fn policy(name: &str, port: &str) -> Value {
    json!({
        "apiVersion": names::API_VERSION, "kind": names::POLICY,
        "metadata": { "name": name, "namespace": names::NAMESPACE },
        "spec": {
            "resourceName": name, "numVfs": 4, "isRdma": true, "nodeSelector": {},
            "nicSelector": { "pfNames": [port] },
        },
    })
}

/// Three VFs instead of four, and time until the cluster is at rest.
fn ask_for_fewer(script: &mut Script, policy: &str) {
    let key = ObjectKey::new(names::API_VERSION, names::POLICY, names::NAMESPACE, policy);
    let fewer = json!({ "spec": { "numVfs": 3 } });
    send(script, Request::new(Method::Patch(PatchType::Merge), key.path()).with_body(fewer));
    script.rest().unwrap();
}

fn deployment(name: &str) -> Value {
    let resource = format!("openshift.io/{name}");
    let container = json!({
        "name": "c", "image": "x", "command": ["sleep", "3600"],
        "resources": { "limits": { resource: "1" } },
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } }, "spec": { "containers": [container] },
            },
        },
    })
}

/// Uid of each running pod, with its application.
fn running(script: &Script) -> BTreeMap<String, String> {
    let pods = script.store().objects("v1", "Pod");
    let ours = pods.filter(|pod| pod["status"]["phase"] == "Running");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    ours.filter(|pod| pod["metadata"]["namespace"] == "default")
        .map(|pod| (text(&pod["metadata"]["uid"]), text(&pod["metadata"]["labels"]["app"])))
        .collect()
}

#[test]
fn the_fence_stands_before_pods_go_and_pods_of_the_other_port_stay() {
    let mut script = Script::start(2, fenced_first).unwrap();
    for (name, port) in [("left", "enp3s0f0"), ("right", "enp3s0f1")] {
        create(&mut script, policy(name, port));
        script.rest().unwrap();
        create(&mut script, deployment(name));
        script.rest().unwrap();
    }
    let before = running(&script);
    assert_eq!(before.len(), 4, "{before:?}");
    ask_for_fewer(&mut script, "right");
    let after = running(&script);
    assert_eq!(after.len(), 4, "{after:?}");
    let stayed = |app: &str| {
        before.iter().filter(|(uid, of)| *of == app && after.contains_key(*uid)).count()
    };
    assert_eq!((stayed("left"), stayed("right")), (2, 0), "{before:?} {after:?}");
}

/// The kubelet here, as real ones before 1.34, lists the devices of a finished pod in PodResources on.
#[test]
fn a_finished_pod_that_its_kubelet_lists_on_holds_up_no_change() {
    let mut script = Script::start(2, fenced_first).unwrap();
    create(&mut script, policy("left", "enp3s0f0"));
    script.rest().unwrap();
    let mut job = deployment("left")["spec"]["template"].clone();
    job["apiVersion"] = "v1".into();
    job["kind"] = "Pod".into();
    job["metadata"]["name"] = "job".into();
    job["metadata"]["namespace"] = "default".into();
    create(&mut script, job);
    script.rest().unwrap();
    assert_eq!(running(&script).len(), 1);
    let ended = json!({ "terminated": { "exitCode": 0, "finishedAt": "2026-01-01T03:00:00Z" } });
    let status =
        json!({ "phase": "Succeeded", "containerStatuses": [{ "name": "c", "state": ended }] });
    let path = "/api/v1/namespaces/default/pods/job/status";
    let request = Request::new(Method::Patch(PatchType::Merge), path.to_owned());
    send(&mut script, request.with_body(json!({ "status": status })));
    script.rest().unwrap();
    let listed: usize = script
        .cluster()
        .nodes
        .values()
        .map(|slot| slot.kubelet.devices.listed_as_given().len())
        .sum();
    assert_eq!(listed, 1, "the kubelet lists it on");
    ask_for_fewer(&mut script, "left");
    let pf = "0000:03:00.0".parse().unwrap();
    for (name, slot) in &script.cluster().nodes {
        let capacity = slot.kubelet.devices.capacity();
        let healthy = capacity.get("openshift.io/left").map(|(_, healthy)| *healthy);
        assert_eq!(healthy, Some(3), "{name}: {capacity:?}");
        assert_eq!(slot.kubelet.host.machine().vfs_of(&pf).len(), 3, "{name}");
    }
    // While it is there its node is told, or would take it for a holder again.
    let mut named = 0;
    for state in script.store().objects(names::API_VERSION, names::NODE_STATE) {
        let annotations = &state["metadata"]["annotations"];
        named += usize::from(annotations[annotation::ENDED_PODS] != Value::Null);
        assert_eq!(annotations[annotation::CURRENT_STATE], annotation::IDLE);
        assert_eq!(state["status"]["holders"], Value::Null);
    }
    assert_eq!(named, 1);
}

/// Uids of the pods of an application that nobody has sent away.
fn uids(script: &Script, app: &str) -> Vec<String> {
    let pods = script.store().objects("v1", "Pod");
    let ours = pods.filter(|pod| pod["metadata"]["labels"]["app"] == app);
    let uid = |pod: &std::sync::Arc<Value>| pod["metadata"]["uid"].as_str().unwrap().to_owned();
    ours.map(uid).collect()
}

/// PodResources does not list it and no CNI plugin was called for it; the kubelet's checkpoint and a process of the pod tell.
#[test]
fn a_device_that_an_init_container_has_without_a_network_is_drained_however_old_the_claim() {
    let mut script = Script::start(2, fenced_first).unwrap();
    create(&mut script, policy("left", "enp3s0f0"));
    script.rest().unwrap();
    let mut staged = deployment("left");
    let template = &mut staged["spec"]["template"]["spec"];
    template["initContainers"] = template["containers"].clone();
    template["containers"] = json!([{ "name": "main", "image": "x" }]);
    create(&mut script, staged);
    script.pass(std::time::Duration::from_secs(300)).unwrap();
    let holders = |script: &Script| {
        let states = script.store().objects(names::API_VERSION, names::NODE_STATE);
        let listed = states
            .flat_map(|state| state["status"]["holders"].as_array().cloned().unwrap_or_default());
        let uid = |holder: Value| holder["uid"].as_str().unwrap_or_default().to_owned();
        listed.map(uid).collect::<std::collections::BTreeSet<_>>()
    };
    let before = uids(&script, "left");
    assert_eq!(before.len(), 2);
    assert_eq!(holders(&script), before.iter().cloned().collect());
    ask_for_fewer(&mut script, "left");
    let pf = "0000:03:00.0".parse().unwrap();
    for (name, slot) in &script.cluster().nodes {
        assert_eq!(slot.kubelet.host.machine().vfs_of(&pf).len(), 3, "{name}");
    }
    let after = uids(&script, "left");
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|uid| !before.contains(uid)), "{before:?} {after:?}");
}
