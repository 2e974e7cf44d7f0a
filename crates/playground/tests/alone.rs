//! A single node whose operator is gone after the drain: the daemon finishes alone, from the order that it holds.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{RdmaMode, annotation, names};
use playground::simulate::Script;
use playground::store::Store;
use serde_json::{Value, json};
use std::time::Duration;

fn create(script: &mut Script, object: Value) {
    let path = ObjectKey::of(&object).collection_path();
    let response = script.send(&Request::new(Method::Post, path).with_body(object));
    assert!(response.status < 300, "{}", response.body);
}

fn ours(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": names::API_VERSION, "kind": kind,
        "metadata": { "name": name, "namespace": names::NAMESPACE }, "spec": spec,
    })
}

/// The node's word on its drain.
fn drain_of(store: &Store) -> Value {
    let state = store.objects(names::API_VERSION, names::NODE_STATE).next().unwrap();
    state["metadata"]["annotations"][annotation::CURRENT_STATE].clone()
}

#[test]
fn the_daemon_of_a_single_node_finishes_from_its_order_when_the_operator_is_gone() {
    let mut script = Script::start(1, |_| Ok(())).unwrap();
    let nic = json!({ "pfNames": ["enp3s0f0"] });
    create(
        &mut script,
        ours(
            names::POLICY,
            "rdma",
            json!({ "resourceName": "rdma", "numVfs": 4, "isRdma": true, "nodeSelector": {}, "nicSelector": nic }),
        ),
    );
    create(
        &mut script,
        ours(names::POOL, "all", json!({ "rdmaMode": "exclusive", "nodeSelector": {} })),
    );
    for _ in 0..10_000 {
        if drain_of(script.store()) == annotation::DRAIN_COMPLETE {
            break;
        }
        script.pass(Duration::from_millis(20)).unwrap();
    }
    assert_eq!(drain_of(script.store()), annotation::DRAIN_COMPLETE);
    let node = script.cluster().nodes.values().next().unwrap();
    assert_eq!(node.reboots, 0, "the operator goes before the boot");
    let operator = ObjectKey::new("apps/v1", "Deployment", names::NAMESPACE, names::OPERATOR);
    let scale = Request::new(Method::Patch(PatchType::Merge), operator.path());
    let response = script.send(&scale.with_body(json!({ "spec": { "replicas": 0 } })));
    assert!(response.status < 300, "{}", response.body);
    script.rest().unwrap();

    let operators = script.store().objects("v1", "Pod");
    let operators = operators.filter(|pod| pod["spec"]["serviceAccountName"] == names::OPERATOR);
    assert_eq!(operators.count(), 0);
    let node = script.cluster().nodes.values().next().unwrap();
    assert_eq!(node.reboots, 1);
    assert_eq!(node.kubelet.host.machine().rdma.mode, Some(RdmaMode::Exclusive));
    assert_eq!(node.kubelet.devices.capacity().get("openshift.io/rdma"), Some(&(4, 4)));
    let state = script.store().objects(names::API_VERSION, names::NODE_STATE).next().unwrap();
    assert_eq!(state["status"]["syncStatus"], "Succeeded", "{state:#}");
}
