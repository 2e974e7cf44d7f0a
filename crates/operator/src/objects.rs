//! Kubernetes' own objects, cut down to what our steps read.
//!
//! A cluster of five thousand nodes has a hundred thousand pods: what is not read is not kept. Nothing is judged here.

use api::crd::{LabelSelector, Metadata};
use api::wire::at;
use api::{Timestamp, names};
use planner::tested::Tested;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub namespace: String,
    pub name: String,
}

impl Place {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn of(metadata: &Metadata) -> Self {
        Self::new(&metadata.namespace, &metadata.name)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    pub metadata: Metadata,
    /// The cordon.
    pub unschedulable: bool,
    pub ready: bool,
    /// Since when it is not, where the API knows.
    pub not_ready_since: Option<Timestamp>,
    /// Since when it is.
    pub ready_since: Option<Timestamp>,
    /// What the kubelet has to give of extended resources: `openshift.io/rdma` → 4.
    pub allocatable: BTreeMap<String, u64>,
    /// As they are, since we hand those of others back as we found them.
    pub taints: Vec<Value>,
    /// The boot that the kubelet reports.
    pub boot_id: String,
}

/// OpenShift's set of nodes that are configured alike.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineConfigPool {
    pub metadata: Metadata,
    pub pool: planner::machine_config::ConfigPool,
}

/// OpenShift's description of the cluster; there is one, `cluster`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Infrastructure {
    pub metadata: Metadata,
    /// HyperShift: the control plane is elsewhere, and there are no machine-config pools to pause.
    pub external_control_plane: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pod {
    pub metadata: Metadata,
    pub node: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: String,
    /// The kubelet's sentence, where it did not admit the pod because a device could not be given.
    pub not_admitted: Option<String>,
    /// The pod was seen before that, so it is news.
    pub not_admitted_is_news: bool,
    /// The extended resources that it asks for, and how many the scheduler counts: `openshift.io/rdma` → 1.
    pub requests: BTreeMap<String, u64>,
    /// `spec.resourceClaims` names any.
    pub has_claims: bool,
    /// When the last container of a finished pod ended; of one that never had any, when its kubelet first saw it.
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Budget {
    pub metadata: Metadata,
    /// None selects no pod, an empty one selects all.
    pub selector: Option<LabelSelector>,
    pub disruptions_allowed: i64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Namespace {
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigMap {
    pub metadata: Metadata,
    pub data: BTreeMap<String, String>,
    /// Where it is `supported-nic-ids`: the cards on it.
    pub tested: Tested,
}

/// A DaemonSet of ours. The whole object is kept: there are two, and drift is found by comparing them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DaemonSet {
    pub metadata: Metadata,
    pub object: Value,
}

/// The metadata of any object, without what nobody here reads.
pub fn metadata(object: &Value) -> Result<Metadata, String> {
    let part = object.get("metadata").unwrap_or(&Value::Null);
    Metadata::deserialize(part).map_err(|error| format!("metadata cannot be read: {error}"))
}

fn text(object: &Value, pointer: &str) -> String {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    at(object, pointer).and_then(Value::as_array).into_iter().flatten()
}

impl Node {
    pub fn read(object: &Value) -> Result<Self, String> {
        let condition =
            list(object, "/status/conditions").find(|condition| condition["type"] == "Ready");
        let ready = condition.is_some_and(|condition| condition["status"] == "True");
        let turned = condition.and_then(|condition| condition["lastTransitionTime"].as_str());
        let turned: Option<Timestamp> = turned.and_then(|time| time.parse().ok());
        let (not_ready_since, ready_since) = match ready {
            true => (None, turned),
            false => (turned, None),
        };
        let unschedulable = at(object, "/spec/unschedulable") == Some(&Value::Bool(true));
        let mut metadata = metadata(object)?;
        // Other controllers keep long texts in a node's annotations; only ours are read here.
        metadata.annotations.retain(|key, _| {
            [
                api::annotation::NODE_STATE,
                api::annotation::CORDONED_BY_US,
                api::annotation::DESIRED_CONFIG,
                api::annotation::CURRENT_CONFIG,
            ]
            .contains(&key.as_str())
        });
        let allocatable = extended(at(object, "/status/allocatable"));
        let taints = list(object, "/spec/taints").cloned().collect();
        let boot_id = text(object, "/status/nodeInfo/bootID");
        Ok(Self {
            metadata,
            unschedulable,
            ready,
            not_ready_since,
            ready_since,
            allocatable,
            taints,
            boot_id,
        })
    }
}

impl MachineConfigPool {
    pub fn read(object: &Value) -> Result<Self, String> {
        let metadata = metadata(object)?;
        let state = metadata.annotations.get(api::annotation::NODE_STATE);
        let pool = planner::machine_config::ConfigPool {
            paused: at(object, "/spec/paused") == Some(&Value::Bool(true)),
            paused_by_us: state.is_some_and(|state| state == api::annotation::PAUSED),
            wanted: text(object, "/spec/configuration/name"),
            applied: text(object, "/status/configuration/name"),
        };
        Ok(Self { metadata, pool })
    }
}

impl Infrastructure {
    pub fn read(object: &Value) -> Result<Self, String> {
        let topology = text(object, "/status/controlPlaneTopology");
        Ok(Self { metadata: metadata(object)?, external_control_plane: topology == "External" })
    }
}

impl Pod {
    pub fn read(object: &Value) -> Result<Self, String> {
        let mut requests: BTreeMap<String, u64> = BTreeMap::new();
        for container in list(object, "/spec/containers") {
            for (resource, amount) in asked_by(container) {
                *requests.entry(resource).or_default() += amount;
            }
        }
        // Init containers run one after the other, before the others: the largest of them counts.
        for container in list(object, "/spec/initContainers") {
            for (resource, amount) in asked_by(container) {
                let all = requests.entry(resource).or_default();
                *all = amount.max(*all);
            }
        }
        let mut metadata = metadata(object)?;
        // Of a pod's annotations we read two: its networks, and that of a mirror of a static pod, which no eviction
        // removes.
        metadata
            .annotations
            .retain(|key, _| [MIRROR, api::annotation::NETWORKS].contains(&key.as_str()));
        let phase = text(object, "/status/phase");
        Ok(Self {
            finished_at: is_terminal(&phase).then(|| ended(object)).flatten(),
            node: text(object, "/spec/nodeName"),
            phase,
            not_admitted: (text(object, "/status/reason") == NOT_ADMITTED)
                .then(|| text(object, "/status/message")),
            not_admitted_is_news: false,
            requests,
            has_claims: list(object, "/spec/resourceClaims").next().is_some(),
            metadata,
        })
    }

    /// True for a pod that the kubelet runs from a file; the API shows a mirror of it.
    pub fn is_mirror(&self) -> bool {
        self.metadata.annotations.contains_key(MIRROR)
    }

    /// Kind and name of the controller that made the pod, where there is one.
    pub fn controller(&self) -> Option<(&str, &str)> {
        let owner = self.metadata.owner_references.iter().find(|o| o.controller == Some(true))?;
        Some((&owner.kind, &owner.name))
    }

    /// True when its containers have ended for good.
    pub fn is_finished(&self) -> bool {
        is_terminal(&self.phase)
    }
}

fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// The latest end that the kubelet reports of a pod's containers, by the clock of its node.
fn ended(object: &Value) -> Option<Timestamp> {
    let containers = ["/status/initContainerStatuses", "/status/containerStatuses"];
    let containers = containers.into_iter().flat_map(|all| list(object, all));
    let time = |value: Option<&Value>| value?.as_str()?.parse().ok();
    let ends = containers.filter_map(|one| time(one.pointer("/state/terminated/finishedAt")));
    ends.max().or_else(|| time(at(object, "/status/startTime")))
}

/// What one container asks for; a limit without a request is one.
fn asked_by(container: &Value) -> BTreeMap<String, u64> {
    let mut asked = extended(at(container, "/resources/limits"));
    asked.extend(extended(at(container, "/resources/requests")));
    asked
}

/// Extended resources have a domain in front, and are counted in whole numbers.
fn extended(resources: Option<&Value>) -> BTreeMap<String, u64> {
    let resources = resources.and_then(Value::as_object).into_iter().flatten();
    let extended = resources.filter(|(name, _)| name.contains('/'));
    let number = |amount: &Value| match amount {
        Value::String(text) => text.parse().ok(),
        amount => amount.as_u64(),
    };
    extended.filter_map(|(name, amount)| Some((name.clone(), number(amount)?))).collect()
}

/// The kubelet's reason for a pod to which it could not give its devices.
const NOT_ADMITTED: &str = "UnexpectedAdmissionError";

/// On the mirror of a static pod, set by the kubelet.
const MIRROR: &str = "kubernetes.io/config.mirror";

impl Budget {
    pub fn read(object: &Value) -> Result<Self, String> {
        let selector = at(object, "/spec/selector").filter(|selector| !selector.is_null());
        let selector = selector
            .map(LabelSelector::deserialize)
            .transpose()
            .map_err(|error| format!("spec.selector cannot be read: {error}"))?;
        let allowed = at(object, "/status/disruptionsAllowed").and_then(Value::as_i64);
        Ok(Self {
            metadata: metadata(object)?,
            selector,
            disruptions_allowed: allowed.unwrap_or_default(),
        })
    }
}

impl Budget {
    /// True when the budget speaks for the pod and lets none of its pods go now.
    pub fn forbids(&self, pod: &Pod) -> bool {
        let selects = |selector| planner::pools::selects(Some(selector), &pod.metadata.labels);
        self.metadata.namespace == pod.metadata.namespace
            && self.disruptions_allowed <= 0
            && self.selector.as_ref().is_some_and(selects)
    }
}

impl ConfigMap {
    pub fn read(object: &Value) -> Result<Self, String> {
        let data = object.get("data").and_then(Value::as_object);
        let data: BTreeMap<String, String> = data
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let metadata = metadata(object)?;
        let cards = data.values().filter(|_| metadata.name == names::SUPPORTED_NIC_IDS);
        let tested = Tested::read(cards.map(String::as_str));
        Ok(Self { metadata, data, tested })
    }
}
