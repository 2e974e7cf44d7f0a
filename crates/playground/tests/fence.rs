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
    let key = ObjectKey::new(names::API_VERSION, names::POLICY, names::NAMESPACE, "right");
    let fewer = json!({ "spec": { "numVfs": 3 } });
    send(&mut script, Request::new(Method::Patch(PatchType::Merge), key.path()).with_body(fewer));
    script.rest().unwrap();
    let after = running(&script);
    assert_eq!(after.len(), 4, "{after:?}");
    let stayed = |app: &str| {
        before.iter().filter(|(uid, of)| *of == app && after.contains_key(*uid)).count()
    };
    assert_eq!((stayed("left"), stayed("right")), (2, 0), "{before:?} {after:?}");
}
