//! What makes a playground look like OpenShift to the operator: machine-config pools, and the cluster's Infrastructure.
//!
//! No Machine Config Operator runs here: the pools are at rest until a test says otherwise.

use crate::store::{Store, User};
use anyhow::{Context, bail};
use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{Timestamp, annotation};
use serde_json::{Value, json};

/// The rights that the operator needs there.
const RIGHTS: &str = include_str!("../../../deploy/openshift.yaml");
const CONFIG: &str = "rendered-worker-0f3a";

/// Serves the kinds, makes one pool `worker` of all nodes, and gives the operator its rights.
pub fn into(store: &mut Store, now: Timestamp, nodes: &[String]) -> anyhow::Result<()> {
    for (group, kind) in [
        ("machineconfiguration.openshift.io", "MachineConfigPool"),
        ("config.openshift.io", "Infrastructure"),
    ] {
        create(store, now, &definition(group, kind))?;
    }
    let pool = json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool",
        "metadata": { "name": "worker" },
        "spec": { "paused": false, "configuration": { "name": CONFIG } },
    });
    with_status(store, now, &pool, json!({ "configuration": { "name": CONFIG } }))?;
    let cluster = json!({
        "apiVersion": "config.openshift.io/v1", "kind": "Infrastructure",
        "metadata": { "name": "cluster" }, "spec": {},
    });
    with_status(store, now, &cluster, json!({ "controlPlaneTopology": "HighlyAvailable" }))?;
    for node in nodes {
        let configs =
            json!({ annotation::DESIRED_CONFIG: CONFIG, annotation::CURRENT_CONFIG: CONFIG });
        let patch = json!({ "metadata": { "annotations": configs } });
        let path = ObjectKey::new("v1", "Node", "", node).path();
        send(store, now, Request::new(Method::Patch(PatchType::Merge), path).with_body(patch))?;
    }
    let rights: Vec<Value> =
        serde_saphyr::from_multiple(RIGHTS).context("deploy/openshift.yaml is not YAML")?;
    rights.iter().try_for_each(|object| create(store, now, object).map(drop))
}

/// Sets CLUSTER_TYPE in the operator's Deployment, as the head of deploy/openshift.yaml tells a user to.
pub fn amend(document: &mut Value) {
    if document["kind"] != "Deployment" {
        return;
    }
    let container = &mut document["spec"]["template"]["spec"]["containers"][0];
    if let Some(environment) = container["env"].as_array_mut() {
        environment.retain(|variable| variable["name"] != "CLUSTER_TYPE");
        environment.push(json!({ "name": "CLUSTER_TYPE", "value": "openshift" }));
    }
}

fn definition(group: &str, kind: &str) -> Value {
    let plural = api::wire::plural(kind);
    let part = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": {
            "group": group, "scope": "Cluster",
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural,
                "singular": kind.to_lowercase(),
            },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": {
                    "type": "object", "properties": { "spec": part, "status": part },
                } },
            }],
        },
    })
}

fn with_status(
    store: &mut Store,
    now: Timestamp,
    object: &Value,
    status: Value,
) -> anyhow::Result<()> {
    let mut stored = create(store, now, object)?;
    stored["status"] = status;
    let path = format!("{}/status", ObjectKey::of(object).path());
    send(store, now, Request::new(Method::Put, path).with_body(stored)).map(drop)
}

fn create(store: &mut Store, now: Timestamp, object: &Value) -> anyhow::Result<Value> {
    let path = ObjectKey::of(object).collection_path();
    send(store, now, Request::new(Method::Post, path).with_body(object.clone()))
}

fn send(store: &mut Store, now: Timestamp, request: Request) -> anyhow::Result<Value> {
    let response = store.handle(now, &User::admin(), &request);
    if response.status >= 300 {
        bail!("{}: {}", request.path, response.body["message"].as_str().unwrap_or("no message"));
    }
    Ok(response.body)
}
