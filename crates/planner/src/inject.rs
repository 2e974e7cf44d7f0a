//! Pods and the networks that they name: which device resources they need, and what is wrong when they do not ask for them.
//!
//! Multus attaches a network of a resource only to a pod that was given a device of it; without the request the pod
//! fails late, with an error of a plugin. Nothing here changes a pod: people read it, or an injector acts on it.

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

/// What is wrong between a pod's networks and its requests. `prefix` is the resource prefix, without the slash; `alone`
/// says of a resource that its devices are of use without a network, as those of vfio-pci are.
pub fn check(
    pod: &PodNetworks,
    prefix: &str,
    attachment: impl Fn(&NetworkRef) -> Attachment,
    alone: impl Fn(&str) -> bool,
) -> Vec<Problem> {
    let object = label(pod);
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
    // What a network that is not there would need is not known.
    let complete = problems.is_empty();
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
    let unused = |(resource, asked): &(&String, &u64)| {
        needs.get(*resource).copied().unwrap_or(0) < **asked && complete && !alone(resource)
    };
    for (resource, asked) in of_prefix(pod, prefix).filter(unused) {
        let used = needs.get(resource).copied().unwrap_or(0);
        let message = format!(
            "its containers ask for {asked} of {resource} and its networks use {used}; name a network of this resource in {key}, or ask for fewer"
        );
        problems.push(Problem::new(Reason::ResourceWithoutNetwork, &object, message));
    }
    problems
}

fn label(pod: &PodNetworks) -> String {
    format!("pod {}/{}", pod.namespace, pod.name)
}

fn of_prefix<'a>(
    pod: &'a PodNetworks,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a String, &'a u64)> {
    let ours =
        move |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    pod.requests.iter().filter(move |(name, _)| ours(name))
}

/// Who offers a resource, and what is left of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supply {
    /// Names of the policies with this resource.
    pub policies: Vec<String>,
    pub nodes: Vec<NodeSupply>,
}

/// The devices of one resource on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSupply {
    pub node: String,
    pub allocatable: u64,
    pub free: u64,
}

/// Why a pod without a node gets none, as far as devices are the reason: the scheduler says how many nodes lack
/// something, and not which nodes, how much they have, or who could change it.
pub fn shortage(
    pod: &PodNetworks,
    prefix: &str,
    supply: &BTreeMap<String, Supply>,
) -> Vec<Problem> {
    let short = |(resource, asked): (&String, &u64)| {
        let found = supply.get(resource).filter(|found| !found.policies.is_empty());
        let (reason, message) = match found {
            None => (Reason::ResourceNotOffered, nobody_offers(resource, *asked, prefix, supply)),
            Some(found) => (Reason::NotEnoughDevices, too_few(resource, *asked, found)?),
        };
        Some(Problem::new(reason, &label(pod), message))
    };
    of_prefix(pod, prefix).filter_map(short).collect()
}

fn nobody_offers(
    resource: &str,
    asked: u64,
    prefix: &str,
    supply: &BTreeMap<String, Supply>,
) -> String {
    let name = resource.strip_prefix(prefix).unwrap_or(resource).trim_start_matches('/');
    let others: Vec<String> = supply
        .iter()
        .filter(|(_, supply)| !supply.policies.is_empty())
        .map(|(resource, _)| resource.clone())
        .collect();
    let way_out = match others.is_empty() {
        true => "create one".to_owned(),
        false => format!("create one, or ask for one of {}", crate::blocker::list(&others)),
    };
    format!("asks for {asked} of {resource}, and no policy has resourceName: {name}; {way_out}")
}

/// None when a node has enough, or none has any yet: then the policy says why.
fn too_few(resource: &str, asked: u64, supply: &Supply) -> Option<String> {
    let nodes: Vec<&NodeSupply> = supply.nodes.iter().filter(|n| n.allocatable > 0).collect();
    if nodes.is_empty() || nodes.iter().any(|node| node.free >= asked) {
        return None;
    }
    let most = nodes.iter().map(|node| node.allocatable).max()?;
    let all: Vec<String> = nodes
        .iter()
        .map(|node| format!("{} has {} free of {}", node.node, node.free, node.allocatable))
        .collect();
    let all = crate::blocker::list(&all);
    Some(match asked > most {
        true => format!(
            "asks for {asked} of {resource} and {all}; ask for fewer or raise numVfs in policy {}",
            crate::blocker::list(&supply.policies)
        ),
        false => format!(
            "asks for {asked} of {resource} and {all}; it waits until pods that hold them end"
        ),
    })
}
