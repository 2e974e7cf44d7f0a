//! What the operator says on pods, and on objects in the wrong place: once, in an event, and nothing of what is right.

#![allow(clippy::unwrap_used)] // A test that cannot find its object has failed.

mod fake;

use expect_test::{Expect, expect};
use fake::{Api, Driver, START, config, node, settings};
use serde_json::{Value, json};

const OURS: &str = "sriov-network-operator";

fn policy(namespace: &str, fields: Value) -> Value {
    let mut spec = json!({
        "resourceName": "rdma", "numVfs": 4, "nodeSelector": {}, "nicSelector": { "vendor": "15b3" },
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({
        "apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkNodePolicy",
        "metadata": { "name": "train", "namespace": namespace, "creationTimestamp": START }, "spec": spec,
    })
}

fn attachment(name: &str) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": name, "namespace": "default", "annotations": {
            "k8s.v1.cni.cncf.io/resourceName": "openshift.io/rdma",
        } },
        "spec": { "config": "{}" },
    })
}

fn pod(networks: &str, asked: u64, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "app", "namespace": "default", "creationTimestamp": START, "annotations": {
            "k8s.v1.cni.cncf.io/networks": networks,
        } },
        "spec": { "nodeName": node, "containers": [
            { "resources": { "limits": { "openshift.io/rdma": asked.to_string() } } },
        ] },
        "status": { "phase": "Pending" },
    })
}

/// A cluster with one policy, one network and a node with four devices, whose operator has nothing more to do.
fn cluster(fields: Value) -> (Api, Driver) {
    let mut api = Api::default();
    api.put(config());
    api.put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default" } }));
    let mut worker = node("worker-0");
    worker["status"]["allocatable"]["openshift.io/rdma"] = "4".into();
    api.put(worker);
    api.put(policy(OURS, fields));
    api.put(attachment("net"));
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    (api, driver)
}

/// What is said of a pod; and that it is said once, also when it changes.
fn check(fields: Value, pod: Value, expected: Expect) -> (Api, Driver) {
    let (mut api, mut driver) = cluster(fields);
    api.put(pod);
    expected.assert_eq(&driver.settle(&mut api));
    api.edit("Pod", "app", |pod| pod["status"]["phase"] = "Running".into());
    assert_eq!(driver.settle(&mut api), "");
    (api, driver)
}

#[test]
fn a_pod_that_is_right_hears_nothing() {
    check(json!({}), pod("net", 1, "worker-0"), expect![[""]]);
    check(json!({}), pod("net, net@rail1", 2, ""), expect![[""]]);
    // Devices that a program drives by itself need no network.
    check(json!({ "deviceType": "vfio-pci" }), pod("", 2, "worker-0"), expect![[""]]);
}

#[test]
fn a_pod_with_a_network_and_no_device_is_told_and_told_again_only_of_something_new() {
    let (mut api, mut driver) = check(
        json!({}),
        pod("net", 0, "worker-0"),
        expect![[
            r#"event Pod default/app ResourceNotRequested: its networks need 1 of openshift.io/rdma and its containers ask for 0; write openshift.io/rdma: "1" under resources.limits of a container"#
        ]],
    );
    api.edit("Pod", "app", |pod| {
        pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] = "other".into();
    });
    expect!["event Pod default/app NetworkNotFound: k8s.v1.cni.cncf.io/networks names default/other, and there is no such NetworkAttachmentDefinition; create a network of this name there or correct the annotation"].assert_eq(&driver.settle(&mut api));
    // The network comes, and needs a device too.
    api.put(attachment("other"));
    assert_eq!(driver.settle(&mut api), "");
    // An operator that starts later does not speak of pods that run.
    driver.wait(3600);
    assert_eq!(Driver::at(&api, settings(), driver.now).settle(&mut api), "");
}

#[test]
fn a_pod_that_finds_no_node_is_told_which_devices_are_short() {
    check(
        json!({}),
        pod("net, net@b, net@c, net@d, net@e", 5, ""),
        expect![
            "event Pod default/app NotEnoughDevices: asks for 5 of openshift.io/rdma and worker-0 has 4 free of 4; ask for fewer or raise numVfs in policy train"
        ],
    );
    let (mut api, mut driver) = cluster(json!({}));
    let mut holder = pod("net, net@b, net@c", 3, "worker-0");
    holder["metadata"]["name"] = "holder".into();
    api.put(holder);
    assert_eq!(driver.settle(&mut api), "");
    api.put(pod("net, net@b", 2, ""));
    expect!["event Pod default/app NotEnoughDevices: asks for 2 of openshift.io/rdma and worker-0 has 1 free of 4; it waits until pods that hold them end"].assert_eq(&driver.settle(&mut api));
}

#[test]
fn an_object_in_the_wrong_namespace_is_told_and_not_acted_on() {
    let (mut api, mut driver) = cluster(json!({}));
    let before = driver.operator.world.policies.clone();
    api.put(policy("default", json!({ "numVfs": 8 })));
    expect!["event SriovNetworkNodePolicy default/train WrongNamespace: SriovNetworkNodePolicy default/train is not acted on: objects of this kind count in namespace sriov-network-operator only; create it there and delete this one"].assert_eq(&driver.settle(&mut api));
    assert_eq!(driver.operator.world.policies, before);
    // Deleted, it takes nothing with it.
    let key =
        api.objects.keys().find(|key| key.kind.ends_with("Policy") && key.namespace == "default");
    let key = key.unwrap().clone();
    api.remove(&key);
    assert_eq!(driver.settle(&mut api), "");
    assert_eq!(driver.operator.world.policies, before);
    assert_eq!(Driver::at(&api, settings(), driver.now).settle(&mut api), "");
}

#[test]
fn an_answer_that_comes_after_the_deletion_brings_nothing_back() {
    let (mut api, mut driver) = cluster(json!({}));
    let of_policy = |api: &Api| api.objects.keys().find(|k| k.kind.ends_with("Policy")).cloned();
    let key = of_policy(&api).unwrap();
    let mut stored = api.objects[&key].clone();
    api.remove(&key);
    driver.deliver(&api);
    assert!(driver.operator.world.policies.is_empty());
    // Our last write was stored before the deletion; its answer is late.
    stored["metadata"]["resourceVersion"] = "1000".into();
    let late = operator::world::WatchEvent {
        change: operator::world::Change::Modified,
        object: stored.into(),
    };
    driver.operator.watched(&late, driver.now);
    assert!(driver.operator.world.policies.is_empty());
    // Made anew, it is another object.
    api.put(policy(OURS, json!({})));
    driver.deliver(&api);
    assert_eq!(driver.operator.world.policies.len(), 1);
}
