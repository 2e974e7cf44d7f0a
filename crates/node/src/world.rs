//! What the daemon sees of the cluster: its own node state, its own node, the operator's switches. Nothing else.
//!
//! Fed by watch events; an object that cannot be understood leaves the last good one in place and is named.

use crate::cdi::{Known, Runtime};
use crate::kubelet::Gates;
use api::annotation;
use api::custody::{Holder, Offer};
use api::names;
use api::nodestate::SriovNetworkNodeState;
use api::operatorconfig::SriovOperatorConfig;
use api::wire::{Answer, ObjectKey, at};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One change of a watched object.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The object as it is now, from a watch: one that is older than what we have is a late delivery.
    Is(Value),
    /// The object as it is now, from a list, which is right also when the cluster was restored from a backup.
    Listed(Value),
    Gone(ObjectKey),
}

/// The pruned Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnNode {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub annotations: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub allocatable: BTreeMap<String, String>,
    pub kubelet_version: String,
}

/// The daemon's cache.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeWorld {
    pub state: Option<SriovNetworkNodeState>,
    pub node: Option<OwnNode>,
    pub config: SriovOperatorConfig,
    /// What PodResources said directly before this step; None: the kubelet did not answer.
    pub pods: Option<Vec<Holder>>,
    /// Why a silent kubelet may be another one than ours; None where nothing speaks for that.
    pub elsewhere: Option<String>,
    /// What the container runtime said directly before this step: the sandboxes that it knows, or why it did not say;
    /// None: it was not asked.
    pub sandboxes: Option<Result<BTreeSet<String>, String>>,
    /// What the container runtime last said of itself; None: it has not answered this process yet.
    pub runtime: Option<Runtime>,
    /// Why it did not answer when it was asked last; empty where it did.
    pub silence: String,
    /// The kubelet's feature gates that somebody has set, or why nobody knows; None: nobody has looked.
    pub gates: Option<Result<Gates, String>>,
    /// Whether the boot phases are there, as the node state says it; None: nobody has looked.
    pub boot_phases: Option<String>,
    /// Objects that could not be understood, by what they are, each with why.
    pub problems: BTreeMap<ObjectKey, String>,
    /// The first refused write of the last step.
    pub refused: Option<String>,
}

impl NodeWorld {
    /// Takes in one change of a watched object. Objects of other kinds are not ours and change nothing. False when nothing
    /// that a step reads is another now: a heartbeat of the kubelet, our own write that comes back.
    pub fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Is(object) => self.is_now(object),
            Change::Listed(object) => self.take(ObjectKey::of(object), Some(object)),
            Change::Gone(key) => self.take(key.clone(), None),
        }
    }

    /// Takes in the present state of a watched object, unless we have it, or a newer one.
    pub fn is_now(&mut self, object: &Value) -> bool {
        let key = ObjectKey::of(object);
        // An old DrainComplete, delivered after the drain was given back, would be taken for leave to reboot.
        !self.is_known(&key, object) && self.take(key, Some(object))
    }

    fn take(&mut self, key: ObjectKey, object: Option<&Value>) -> bool {
        let problem = self.problems.remove(&key);
        let taken = match key.kind.as_str() {
            names::NODE_STATE => parsed(object).map(|state| self.take_state(state)),
            names::OPERATOR_CONFIG if key.name == names::DEFAULT_CONFIG => {
                parsed::<SriovOperatorConfig>(object).map(|config| {
                    let config = config.unwrap_or_default();
                    let changed = config.spec != self.config.spec;
                    self.config = config;
                    changed
                })
            }
            "Node" => Ok(self.take_node(object.map(OwnNode::of))),
            _ => Ok(false),
        };
        let (changed, wrong) = match taken {
            Ok(changed) => (changed, None),
            Err(why) => (false, Some(format!("{key} cannot be understood: {why}"))),
        };
        let changed = changed || wrong != problem;
        wrong.into_iter().for_each(|why| drop(self.problems.insert(key.clone(), why)));
        changed
    }

    fn take_state(&mut self, new: Option<SriovNetworkNodeState>) -> bool {
        let mut old = std::mem::replace(&mut self.state, new);
        if let (Some(old), Some(new)) = (&mut old, &self.state) {
            old.metadata.resource_version.clone_from(&new.metadata.resource_version);
        }
        old != self.state
    }

    fn take_node(&mut self, new: Option<OwnNode>) -> bool {
        let mut old = std::mem::replace(&mut self.node, new);
        if let (Some(old), Some(new)) = (&mut old, &self.node) {
            old.resource_version.clone_from(&new.resource_version);
        }
        old != self.node
    }

    /// True when we have this version of the same node state, or a newer one.
    fn is_known(&self, key: &ObjectKey, object: &Value) -> bool {
        let text = |pointer: &str| at(object, pointer).and_then(Value::as_str).unwrap_or_default();
        let Some(known) = self.state.as_ref().filter(|_| key.kind == names::NODE_STATE) else {
            return false;
        };
        let version = |text: &str| text.parse::<u64>().ok();
        let (theirs, ours) =
            (version(text("/metadata/resourceVersion")), version(&known.metadata.resource_version));
        text("/metadata/uid") == known.metadata.uid && theirs.zip(ours).is_some_and(|(t, o)| t <= o)
    }

    /// Takes in what the API said to the writes of the last step, in order. A stored object is newer than the watch.
    pub fn answered(&mut self, answers: &[(ObjectKey, Answer)]) {
        self.refused = None;
        for (key, answer) in answers {
            match answer {
                Answer::Done(object) if ObjectKey::of(object) == *key => {
                    self.is_now(object);
                }
                Answer::Done(_) => {}
                other => {
                    self.refused = Some(format!("cannot write {key}: {other}"));
                    break;
                }
            }
        }
    }

    /// What the daemon asks for, as the node state says: `Idle` where nobody has said anything.
    pub fn desired_state(&self) -> &str {
        self.state_annotation(annotation::DESIRED_STATE)
    }

    /// What the operator has done.
    pub fn current_state(&self) -> &str {
        self.state_annotation(annotation::CURRENT_STATE)
    }

    /// The request on the Node; None while the Node is not known.
    pub fn node_request(&self) -> Option<&str> {
        let node = self.node.as_ref()?;
        Some(node.annotations.get(annotation::NODE_STATE).map_or(annotation::IDLE, String::as_str))
    }

    /// What is known of the ways to hand devices over. `offered` is the offer of this boot, where there is one.
    pub fn ways<'a>(&'a self, offered: Option<&Offer>, told: &'a str) -> Known<'a> {
        Known {
            runtime: self.runtime.as_ref(),
            silence: &self.silence,
            kubelet: self.node.as_ref().map_or("", |node| &node.kubelet_version),
            gates: self.gates.as_ref(),
            by_path: offered.map(|offer| offer.by_path),
            refused: self.config.spec.use_cdi == Some(false),
            told,
        }
    }

    /// A person's leave to ask once more for what the ledger has closed.
    pub fn retry_reboot(&self) -> &str {
        let annotations = self.node.as_ref().map(|node| &node.annotations);
        let value = annotations.and_then(|all| all.get(annotation::RETRY_REBOOT));
        value.map_or("", String::as_str)
    }

    fn state_annotation(&self, key: &str) -> &str {
        let annotations = self.state.as_ref().map(|state| &state.metadata.annotations);
        annotations.and_then(|all| all.get(key)).map_or(annotation::IDLE, String::as_str)
    }
}

fn parsed<T: DeserializeOwned>(object: Option<&Value>) -> Result<Option<T>, String> {
    object.map(T::deserialize).transpose().map_err(|e| e.to_string())
}

impl OwnNode {
    fn of(object: &Value) -> Self {
        let texts = |pointer: &str| {
            let map = at(object, pointer).and_then(Value::as_object);
            let pairs = map.into_iter().flatten();
            pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
        };
        let text = |pointer| at(object, pointer).and_then(Value::as_str).unwrap_or_default();
        Self {
            name: text("/metadata/name").to_owned(),
            uid: text("/metadata/uid").to_owned(),
            resource_version: text("/metadata/resourceVersion").to_owned(),
            annotations: texts("/metadata/annotations"),
            labels: texts("/metadata/labels"),
            allocatable: texts("/status/allocatable"),
            kubelet_version: text("/status/nodeInfo/kubeletVersion").to_owned(),
        }
    }
}
