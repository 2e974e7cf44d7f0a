//! Pods and the networks that they name: which device resources they need, and what is wrong when they do not ask for them.
//!
//! Multus attaches a network of a resource only to a pod that was given a device of it; without the request the pod
//! fails late, with an error of a plugin. Adding the requests to a pod is the injector's; here is what it would add.

use crate::reason::{Problem, Reason};
use serde_json::Value;
use std::collections::BTreeMap;

/// One network of a pod's annotation `k8s.v1.cni.cncf.io/networks`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetworkRef {
    pub namespace: String,
    pub name: String,
    /// Name of the interface in the pod, where the annotation gives one.
    pub interface: Option<String>,
}

/// A pod, as far as its networks are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodNetworks {
    pub namespace: String,
    pub name: String,
    /// The annotation's text; empty for none.
    pub annotation: String,
    /// Extended resources that its containers ask for, summed up: `openshift.io/rdma` → 1.
    pub requests: BTreeMap<String, u64>,
}

/// What a NetworkAttachmentDefinition says about its resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    Absent,
    /// It needs no device.
    Plain,
    /// It needs one device of this resource.
    Of(String),
}

/// Reads the annotation: names with commas between them (`[namespace/]name[@interface]`), or a JSON list.
pub fn networks(annotation: &str, pod_namespace: &str) -> Result<Vec<NetworkRef>, String> {
    let text = annotation.trim();
    if text.starts_with(['[', '{']) {
        return from_json(text, pod_namespace);
    }
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries.map(|entry| from_short(entry, pod_namespace)).collect()
}

fn from_short(entry: &str, pod_namespace: &str) -> Result<NetworkRef, String> {
    let (rest, interface) = match entry.split_once('@') {
        Some((rest, interface)) => (rest, Some(interface.to_owned())),
        None => (entry, None),
    };
    let (namespace, name) = rest.split_once('/').unwrap_or((pod_namespace, rest));
    if name.is_empty()
        || namespace.is_empty()
        || name.contains('/')
        || interface.as_deref() == Some("")
    {
        return Err(format!(
            "{entry:?} is no network; write name, namespace/name or name@interface"
        ));
    }
    Ok(NetworkRef { namespace: namespace.to_owned(), name: name.to_owned(), interface })
}

fn from_json(text: &str, pod_namespace: &str) -> Result<Vec<NetworkRef>, String> {
    let example = r#"[{"name": "rdma-network"}]"#;
    let entries: Vec<Value> = serde_json::from_str(text)
        .map_err(|error| format!("is not a JSON list: {error}; write for example {example}"))?;
    let entry = |value: &Value| {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let name = text("name").filter(|name| !name.is_empty());
        Ok(NetworkRef {
            namespace: text("namespace").unwrap_or_else(|| pod_namespace.to_owned()),
            name: name.ok_or_else(|| {
                format!("has an entry without a name; write for example {example}")
            })?,
            interface: text("interface"),
        })
    };
    entries.iter().map(entry).collect()
}

/// The devices that the pod's networks need, one for each network of a resource.
pub fn needs(
    networks: &[NetworkRef],
    attachment: impl Fn(&NetworkRef) -> Attachment,
) -> BTreeMap<String, u64> {
    let mut needs = BTreeMap::new();
    for network in networks {
        if let Attachment::Of(resource) = attachment(network) {
            *needs.entry(resource).or_insert(0) += 1;
        }
    }
    needs
}

/// What is wrong between a pod's networks and its requests. `prefix` is the resource prefix, without the slash.
pub fn check(
    pod: &PodNetworks,
    prefix: &str,
    attachment: impl Fn(&NetworkRef) -> Attachment,
) -> Vec<Problem> {
    let object = format!("pod {}/{}", pod.namespace, pod.name);
    let key = api::annotation::NETWORKS;
    let networks = match networks(&pod.annotation, &pod.namespace) {
        Ok(networks) => networks,
        Err(message) => {
            return vec![Problem::new(Reason::InvalidNetwork, &object, format!("{key} {message}"))];
        }
    };
    let mut problems = vec![];
    for network in networks.iter().filter(|network| attachment(network) == Attachment::Absent) {
        let message = format!(
            "{key} names {}/{}, and there is no such NetworkAttachmentDefinition; create a network of this name there or correct the annotation",
            network.namespace, network.name
        );
        problems.push(Problem::new(Reason::NetworkNotFound, &object, message));
    }
    let needs = needs(&networks, attachment);
    for (resource, needed) in &needs {
        let asked = pod.requests.get(resource).copied().unwrap_or(0);
        if asked < *needed {
            let message = format!(
                "its networks need {needed} of {resource} and its containers ask for {asked}; write {resource}: \"{needed}\" under resources.limits of a container"
            );
            problems.push(Problem::new(Reason::ResourceNotRequested, &object, message));
        }
    }
    let ours = format!("{prefix}/");
    for (resource, asked) in pod.requests.iter().filter(|(name, _)| name.starts_with(&ours)) {
        let used = needs.get(resource).copied().unwrap_or(0);
        if *asked > used {
            let message = format!(
                "its containers ask for {asked} of {resource} and its networks use {used}; name a network of this resource in {key}, or ask for fewer"
            );
            problems.push(Problem::new(Reason::ResourceWithoutNetwork, &object, message));
        }
    }
    problems
}
