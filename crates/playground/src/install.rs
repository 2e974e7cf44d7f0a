//! Installs ironrail from the same manifests that a real cluster gets.

use crate::store::{Store, User};
use anyhow::{Context, bail};
use api::Timestamp;
use api::wire::{Method, ObjectKey, Request};
use serde_json::Value;
use std::sync::LazyLock;

/// The files of `deploy/`, in the order of `kubectl apply -f deploy/crds -f deploy/install.yaml`.
const FILES: &[(&str, &str)] = &[
    (
        "k8s.cni.cncf.io_network-attachment-definitions.yaml",
        include_str!("../../../deploy/crds/k8s.cni.cncf.io_network-attachment-definitions.yaml"),
    ),
    (
        "sriovnetwork.openshift.io_ovsnetworks.yaml",
        include_str!("../../../deploy/crds/sriovnetwork.openshift.io_ovsnetworks.yaml"),
    ),
    (
        "sriovnetwork.openshift.io_sriovibnetworks.yaml",
        include_str!("../../../deploy/crds/sriovnetwork.openshift.io_sriovibnetworks.yaml"),
    ),
    (
        "sriovnetwork.openshift.io_sriovnetworknodepolicies.yaml",
        include_str!(
            "../../../deploy/crds/sriovnetwork.openshift.io_sriovnetworknodepolicies.yaml"
        ),
    ),
    (
        "sriovnetwork.openshift.io_sriovnetworknodestates.yaml",
        include_str!("../../../deploy/crds/sriovnetwork.openshift.io_sriovnetworknodestates.yaml"),
    ),
    (
        "sriovnetwork.openshift.io_sriovnetworkpoolconfigs.yaml",
        include_str!("../../../deploy/crds/sriovnetwork.openshift.io_sriovnetworkpoolconfigs.yaml"),
    ),
    (
        "sriovnetwork.openshift.io_sriovnetworks.yaml",
        include_str!("../../../deploy/crds/sriovnetwork.openshift.io_sriovnetworks.yaml"),
    ),
    (
        "sriovnetwork.openshift.io_sriovoperatorconfigs.yaml",
        include_str!("../../../deploy/crds/sriovnetwork.openshift.io_sriovoperatorconfigs.yaml"),
    ),
    ("install.yaml", include_str!("../../../deploy/install.yaml")),
];

/// The documents, read once: thousands of simulated clusters install them.
static DOCUMENTS: LazyLock<Result<Vec<Value>, String>> =
    LazyLock::new(|| read().map_err(|error| format!("{error:#}")));

/// Every document of the manifests, in order.
pub fn documents() -> anyhow::Result<Vec<Value>> {
    DOCUMENTS.clone().map_err(anyhow::Error::msg)
}

fn read() -> anyhow::Result<Vec<Value>> {
    let mut documents = Vec::new();
    for (file, text) in FILES {
        let of_file: Vec<Value> = serde_saphyr::from_multiple(text)
            .with_context(|| format!("deploy/{file} is not YAML"))?;
        documents.extend(of_file.into_iter().filter(|document| !document.is_null()));
    }
    Ok(documents)
}

/// Creates everything as the admin, strictly: an unknown field is a mistake of ours.
pub fn into(store: &mut Store, now: Timestamp) -> anyhow::Result<()> {
    amended(store, now, |_| {})
}

/// The same, with each document changed first.
pub fn amended(store: &mut Store, now: Timestamp, amend: fn(&mut Value)) -> anyhow::Result<()> {
    for mut document in documents()? {
        amend(&mut document);
        let key = ObjectKey::of(&document);
        let request = Request::new(Method::Post, key.collection_path())
            .with_query("fieldValidation", "Strict")
            .with_query("fieldManager", "kubectl")
            .with_body(document);
        let response = store.handle(now, &User::admin(), &request);
        if response.status >= 300 {
            bail!(
                "cannot install {key}: {}",
                response.body["message"].as_str().unwrap_or("no message")
            );
        }
    }
    Ok(())
}

/// What every cluster runs on each node besides us: a DaemonSet whose pods have a network namespace of their own. While
/// one exists the kernel refuses to switch the RDMA mode live, and a drain leaves DaemonSet pods where they are.
pub fn node_agent(store: &mut Store, now: Timestamp) {
    let labels = serde_json::json!({ "app": "node-agent" });
    let set = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": "node-agent", "namespace": "kube-system" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": {
                "tolerations": [{ "operator": "Exists" }],
                "containers": [{ "name": "agent", "image": "node-agent", "command": ["node-agent"] }],
            } },
        },
    });
    let request = Request::new(Method::Post, ObjectKey::of(&set).collection_path()).with_body(set);
    store.handle(now, &User::admin(), &request);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_install_strictly() {
        into(&mut Store::new(1, Timestamp::UNIX_EPOCH), Timestamp::UNIX_EPOCH).unwrap();
    }
}
