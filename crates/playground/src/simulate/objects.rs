//! What the user of a story sends: the objects of the guide, the pods that use them, and the requests around them.

use super::leaving;
use super::story::{AGENT, BATCH, POOL, STAGED};
use api::names;
use api::wire::{Method, ObjectKey, PatchType, Request};
use serde_json::{Value, json};

pub(super) fn label(node: &str) -> Request {
    let patch = json!({ "metadata": { "labels": { leaving::CAPABLE: "true" } } });
    merge(&ObjectKey::new("v1", "Node", "", node), patch)
}

pub(super) fn create(object: Value) -> Request {
    Request::new(Method::Post, ObjectKey::of(&object).collection_path())
        .with_query("fieldManager", "kubectl")
        .with_body(object)
}

pub(super) fn change(kind: &str, name: &str, spec: Value) -> Request {
    let key = ObjectKey::new(names::API_VERSION, kind, names::NAMESPACE, name);
    merge(&key, json!({ "spec": spec }))
}

pub(super) fn merge(key: &ObjectKey, patch: Value) -> Request {
    Request::new(Method::Patch(PatchType::Merge), key.path())
        .with_query("fieldManager", "kubectl")
        .with_body(patch)
}

/// A disruption budget that never allows anything.
pub(super) fn budget(name: &str) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "maxUnavailable": 0, "selector": { "matchLabels": { "app": name } } },
    })
}

pub(super) fn pool(mode: &str, limit: Value) -> Value {
    let mut pool = json!({
        "apiVersion": names::API_VERSION, "kind": names::POOL,
        "metadata": { "name": POOL, "namespace": names::NAMESPACE },
        "spec": { "rdmaMode": mode, "nodeSelector": { "matchLabels": { leaving::CAPABLE: "true" } } },
    });
    if !limit.is_null() {
        pool["spec"]["maxUnavailable"] = limit;
    }
    pool
}

pub(super) fn policy(vfs: u32, taint: bool) -> Value {
    json!({
        "apiVersion": names::API_VERSION, "kind": names::POLICY,
        "metadata": { "name": "rdma-policy", "namespace": names::NAMESPACE },
        "spec": {
            "resourceName": "rdma", "numVfs": vfs, "isRdma": true, "deviceType": "netdevice",
            "nicSelector": { "vendor": "15b3", "pfNames": ["enp3s0f0"] },
            "nodeSelector": { leaving::CAPABLE: "true" }, "taintUntilReady": taint,
        },
    })
}

pub(super) fn network() -> Value {
    json!({
        "apiVersion": names::API_VERSION, "kind": names::SRIOV_NETWORK,
        "metadata": { "name": "rdma-net", "namespace": names::NAMESPACE },
        "spec": {
            "resourceName": "rdma", "networkNamespace": "default",
            "metaPlugins": "{\"type\": \"rdma\"}",
        },
    })
}

/// Pods that ask for a VF (`train`), and pods that ask for nothing (`web`).
pub(super) fn deployment(name: &str, replicas: u64) -> Value {
    let (annotations, resources) = match name {
        "train" => (
            json!({ "k8s.v1.cni.cncf.io/networks": "rdma-net" }),
            json!({ "limits": { "openshift.io/rdma": "1" }, "requests": { "openshift.io/rdma": "1" } }),
        ),
        _ => (json!({}), json!({})),
    };
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name }, "annotations": annotations },
                "spec": { "containers": [{ "name": "c", "image": "x", "command": ["sleep", "3600"], "resources": resources }] },
            },
        },
    })
}

/// A pod with a VF that nobody makes again.
pub(super) fn batch() -> Value {
    let template = deployment("train", 1)["spec"]["template"].clone();
    let key = batch_key();
    let mut spec = template["spec"].clone();
    spec["restartPolicy"] = "Never".into();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": key.name, "namespace": key.namespace, "annotations": template["metadata"]["annotations"] },
        "spec": spec,
    })
}

pub(super) fn batch_key() -> ObjectKey {
    ObjectKey::new("v1", "Pod", "default", BATCH)
}

/// A pod with a VF on each node of the guide.
pub(super) fn agents() -> Value {
    let mut template = deployment("train", 1)["spec"]["template"].clone();
    template["metadata"]["labels"]["app"] = AGENT.into();
    template["spec"]["nodeSelector"] = json!({ leaving::CAPABLE: "true" });
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": AGENT, "namespace": "default" },
        "spec": { "selector": { "matchLabels": { "app": AGENT } }, "template": template },
    })
}

/// Pods that hold a VF in an init container.
pub(super) fn staged(replicas: u64) -> Value {
    let mut deployment = deployment("train", replicas);
    deployment["metadata"]["name"] = STAGED.into();
    deployment["spec"]["selector"]["matchLabels"]["app"] = STAGED.into();
    let template = &mut deployment["spec"]["template"];
    template["metadata"]["labels"]["app"] = STAGED.into();
    template["spec"]["initContainers"] = template["spec"]["containers"].clone();
    template["spec"]["containers"] = json!([{ "name": "main", "image": "x" }]);
    deployment
}
