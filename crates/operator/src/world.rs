//! What the operator knows: the watched objects, as small structs in ordered maps, and what the last writes answered.
//!
//! Fed by watch events and by nothing else; asking nobody, it cannot wait and cannot fail. An object that cannot be
//! read becomes a `Problem` of that object, and stops no other.

use crate::kinds::{self, Kind, Scope};
use crate::objects::{
    Budget, ConfigMap, DaemonSet, Infrastructure, MachineConfigPool, Namespace, Node, Place, Pod,
    metadata,
};
use crate::queue::Key;
use crate::settings::Settings;
use api::Timestamp;
use api::condition::Condition;
use api::crd::{Metadata, Object};
use api::network::{NetworkAttachmentDefinition, OVSNetwork, SriovIBNetwork, SriovNetwork};
use api::nodestate::{InterfaceStatus, SriovNetworkNodeState};
use api::operatorconfig::SriovOperatorConfig;
use api::policy::SriovNetworkNodePolicy;
use api::pool::SriovNetworkPoolConfig;
use api::wire::{Answer, ObjectKey};
use api::{RdmaMode, names};
use planner::policy::Policy;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One event of a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchEvent {
    pub change: Change,
    /// Shared, since whoever tells of it may keep it too.
    pub object: Arc<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// How much of an object an event changed, as far as our steps read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noticed {
    /// Nothing that a step reads: a heartbeat, our own write that we know of.
    Nothing,
    /// Status and annotations: progress, not intent.
    Progress,
    /// The object came or went, or its spec or labels, or the hardware or the RDMA mode that a node reports.
    Intent,
}

/// What is wrong with an object that could not be read, or could be read only without its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub metadata: Metadata,
    /// As far as they can be read: a condition that says the same already is not written again.
    pub conditions: Vec<Condition>,
    pub message: String,
}

/// What the API said to one write.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub target: ObjectKey,
    pub evict: bool,
    pub answer: Answer,
}

/// Everything that a step may look at.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub settings: Settings,
    pub config: Option<SriovOperatorConfig>,
    pub pools: BTreeMap<String, SriovNetworkPoolConfig>,
    pub policies: BTreeMap<String, SriovNetworkNodePolicy>,
    pub node_states: BTreeMap<String, SriovNetworkNodeState>,
    pub sriov_networks: BTreeMap<Place, SriovNetwork>,
    pub ib_networks: BTreeMap<Place, SriovIBNetwork>,
    pub ovs_networks: BTreeMap<Place, OVSNetwork>,
    pub attachments: BTreeMap<Place, NetworkAttachmentDefinition>,
    pub nodes: BTreeMap<String, Node>,
    pub namespaces: BTreeMap<String, Namespace>,
    pub pods: BTreeMap<Place, Pod>,
    /// Names of the pods on each node, so that a drain does not walk the cluster.
    pub pods_by_node: BTreeMap<String, BTreeSet<Place>>,
    pub budgets: BTreeMap<Place, Budget>,
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub daemon_sets: BTreeMap<String, DaemonSet>,
    pub machine_config_pools: BTreeMap<String, MachineConfigPool>,
    pub infrastructures: BTreeMap<String, Infrastructure>,
    pub problems: BTreeMap<ObjectKey, Problem>,
    /// Kinds that were listed at least once.
    pub listed: BTreeSet<&'static str>,
    /// Kinds that the cluster does not have.
    pub absent: BTreeSet<&'static str>,
    /// The policies that can be acted on, weakest first.
    pub parsed: Vec<Policy>,
    /// What was last found wrong between objects, by the label of the object that has to change; None before the
    /// first look.
    pub findings: Option<BTreeMap<String, Vec<planner::Problem>>>,
    /// What the writes of the last step of a key answered, where that was not simply yes.
    pub answers: BTreeMap<Key, Vec<Answered>>,
    /// Nodes whose grant came, went or changed, or that are skipped now or no more, by the last event or list: of hundreds
    /// with a grant only these have to be looked at.
    pub regranted: BTreeSet<String>,
    /// Uids of objects that were deleted, where we write such objects: the answer to a write may come after its
    /// object's deletion was seen, and must not bring it back.
    gone: BTreeMap<ObjectKey, String>,
    /// Policies and pools in namespaces where they do not count.
    pub misplaced: BTreeMap<ObjectKey, Metadata>,
    /// What was said in events of pods and of misplaced objects, by uid and sentence.
    pub told: BTreeMap<ObjectKey, BTreeSet<(String, String)>>,
}

impl World {
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// True once every kind was listed: a decision on half a world would, for one, take its nodes for gone.
    pub fn is_complete(&self) -> bool {
        let mut needed = kinds::KINDS.iter().filter(|kind| !kind.openshift);
        needed.all(|kind| self.listed.contains(kind.kind))
    }

    /// Takes in one watch event.
    pub fn apply(&mut self, event: &WatchEvent) -> Noticed {
        let key = ObjectKey::of(&event.object);
        let changed = matches!(event.change, Change::Added | Change::Modified);
        let uid = event.object.pointer("/metadata/uid").and_then(Value::as_str);
        let is_gone = uid.is_some() && self.gone.get(&key).map(String::as_str) == uid;
        match changed && (is_gone || self.has_newer(&key, &event.object)) {
            true => Noticed::Nothing,
            false => self.take(key, event),
        }
    }

    fn take(&mut self, key: ObjectKey, event: &WatchEvent) -> Noticed {
        let Some(kind) = kinds::find(&key.api_version, &key.kind) else { return Noticed::Nothing };
        if event.change == Change::Deleted {
            self.told.remove(&key);
            // Pods come and go by the thousand, and are never written.
            if kind.kind != kinds::POD
                && let Some(metadata) = self.metadata(&key)
            {
                self.gone.insert(key.clone(), metadata.uid.clone());
            }
        } else {
            self.gone.remove(&key);
        }
        if kind.scope == Scope::OursSeenEverywhere && key.namespace != self.settings.namespace {
            return self.misplace(key, event);
        }
        let granted = self.granted(&key);
        let noticed = self.change(&key, event);
        self.regranted = match (granted, self.granted(&key)) {
            (before, after) if before == after => BTreeSet::new(),
            (before, after) => {
                before.symmetric_difference(&after).map(|(node, _)| node.clone()).collect()
            }
        };
        noticed
    }

    /// The nodes that hold a grant of a pool or of the config, with its time, and those that the pool skips.
    fn granted(&self, key: &ObjectKey) -> BTreeSet<(String, Option<Timestamp>)> {
        let status = self.pools.get(&key.name).map(|pool| &pool.status);
        let config = self.config.as_ref().map(|config| &config.status);
        let grants = match key.kind.as_str() {
            names::POOL => status.map(|status| &status.grants),
            names::OPERATOR_CONFIG => config.map(|status| &status.grants),
            _ => return BTreeSet::new(),
        };
        let skipped = status.filter(|_| key.kind == names::POOL).map(|status| &status.skipped);
        let skipped = skipped.into_iter().flatten().map(|skipped| (skipped.node.clone(), None));
        let granted = grants.into_iter().flatten();
        granted.map(|grant| (grant.node.clone(), Some(grant.since))).chain(skipped).collect()
    }

    fn change(&mut self, key: &ObjectKey, event: &WatchEvent) -> Noticed {
        match event.change {
            Change::Added | Change::Modified => {
                let before = self.shape(key);
                let problem = self.problems.remove(key);
                if let Err(message) = self.insert(key, &event.object) {
                    self.forget(key);
                    let metadata = metadata(&event.object).unwrap_or_else(|_| Metadata {
                        name: key.name.clone(),
                        namespace: key.namespace.clone(),
                        ..Metadata::default()
                    });
                    let conditions = readable_conditions(&event.object);
                    let problem = Problem { metadata, conditions, message };
                    self.problems.insert(key.clone(), problem);
                }
                if self.problems.get(key) != problem.as_ref() {
                    return Noticed::Intent;
                }
                noticed(before, self.shape(key))
            }
            Change::Deleted => {
                let problem = self.problems.remove(key).is_some();
                match self.forget(key) || problem {
                    true => Noticed::Intent,
                    false => Noticed::Nothing,
                }
            }
            Change::Bookmark | Change::Error => Noticed::Nothing,
        }
    }

    fn misplace(&mut self, key: ObjectKey, event: &WatchEvent) -> Noticed {
        match (event.change, metadata(&event.object)) {
            (Change::Added | Change::Modified, Ok(metadata)) => {
                self.misplaced.insert(key, metadata);
                Noticed::Intent
            }
            (Change::Deleted, _) => {
                self.misplaced.remove(&key);
                Noticed::Nothing
            }
            _ => Noticed::Nothing,
        }
    }

    /// True when this was said of the object in an event already.
    pub fn was_told(&self, key: &ObjectKey, uid: &str, message: &str) -> bool {
        let told = self.told.get(key);
        told.is_some_and(|told| told.contains(&(uid.to_owned(), message.to_owned())))
    }

    /// Takes in a whole list of one kind; what is not on it is gone. Returns the events that this amounts to.
    pub fn relisted(
        &mut self,
        kind: &'static Kind,
        objects: Vec<Arc<Value>>,
    ) -> Vec<(WatchEvent, Noticed)> {
        let mut events = Vec::new();
        let mut present = BTreeSet::new();
        for mut object in objects {
            // The items of a list need not carry their kind.
            if object.get("kind").is_none()
                && let Some(fields) = Arc::make_mut(&mut object).as_object_mut()
            {
                fields.insert("apiVersion".to_owned(), kind.api_version.into());
                fields.insert("kind".to_owned(), kind.kind.into());
            }
            present.insert(ObjectKey::of(&object));
            events.push(WatchEvent { change: Change::Modified, object });
        }
        for key in self.keys(kind).difference(&present) {
            let object = serde_json::json!({
                "apiVersion": key.api_version, "kind": key.kind,
                "metadata": { "namespace": key.namespace, "name": key.name },
            });
            events.push(WatchEvent { change: Change::Deleted, object: object.into() });
        }
        self.listed.insert(kind.kind);
        self.absent.remove(kind.kind);
        // A list is the truth whatever we hold: versions go back when a cluster is restored from a backup.
        let mut regranted = BTreeSet::new();
        let take = |event: WatchEvent| {
            let noticed = self.take(ObjectKey::of(&event.object), &event);
            regranted.append(&mut self.regranted);
            (event, noticed)
        };
        let taken = events.into_iter().map(take).collect();
        self.regranted = regranted;
        taken
    }

    /// Notes that the cluster has no such kind; that counts as an empty list.
    pub fn kind_is_absent(&mut self, kind: &'static Kind) -> Vec<(WatchEvent, Noticed)> {
        let events = self.relisted(kind, Vec::new());
        self.absent.insert(kind.kind);
        events
    }

    /// The pods on a node.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        self.pods_by_node.get(node).into_iter().flatten().filter_map(|place| self.pods.get(place))
    }

    /// True when some object of a kind cannot be read, so that what it asks for is not known.
    pub fn has_problem_of(&self, kind: &str) -> bool {
        self.problems.keys().any(|key| key.kind == kind)
    }

    /// The problem of one object of our group, where it has one.
    pub fn problem(&self, kind: &str, namespace: &str, name: &str) -> Option<&Problem> {
        self.problems.get(&ObjectKey::new(names::API_VERSION, kind, namespace, name))
    }

    /// What was found wrong about an object, seen beside the others.
    pub fn findings_of(&self, label: &str) -> &[planner::Problem] {
        let found = self.findings.as_ref().and_then(|findings| findings.get(label));
        found.map(Vec::as_slice).unwrap_or_default()
    }

    /// What the last step's writes for this key answered.
    pub fn answers(&self, key: &Key) -> &[Answered] {
        self.answers.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// What `noticed` compares.
    fn shape(&self, key: &ObjectKey) -> Option<Shape> {
        let metadata = self.metadata(key)?;
        let rest = match key.kind.as_str() {
            kinds::NODE => self.nodes.get(&key.name).map(|node| Rest::Node(node.clone())),
            kinds::POD => {
                let pod = self.pods.get(&Place::of(metadata));
                pod.map(|pod| Rest::Pod(pod.clone()))
            }
            names::NODE_STATE => self.node_states.get(&key.name).map(Rest::hardware),
            _ => None,
        };
        Some(Shape { metadata: metadata.clone(), rest })
    }

    fn insert(&mut self, key: &ObjectKey, object: &Value) -> Result<(), String> {
        let place = Place::new(&key.namespace, &key.name);
        let name = key.name.clone();
        match key.kind.as_str() {
            // Only this one is acted on, as upstream.
            names::OPERATOR_CONFIG if name == names::DEFAULT_CONFIG => {
                self.config = Some(self.custom(key, object)?);
            }
            names::POOL => {
                let pool = self.custom(key, object)?;
                self.pools.insert(name, pool);
            }
            names::POLICY => {
                let policy = self.custom(key, object)?;
                self.policies.insert(name, policy);
                self.parse_policies();
            }
            names::NODE_STATE => {
                let mut state: SriovNetworkNodeState = self.custom(key, object)?;
                // The VFs are most of a node state, and only the node itself plans with them.
                for interface in &mut state.status.interfaces {
                    // But one that the host itself uses, which no policy may take away.
                    let over = interface.lifelines.iter().filter_map(|one| one.over.first());
                    let used: Vec<String> = over.cloned().collect();
                    interface.vfs.retain(|vf| used.contains(&vf.name));
                }
                self.node_states.insert(name, state);
            }
            names::SRIOV_NETWORK => {
                let network = self.custom(key, object)?;
                self.sriov_networks.insert(place, network);
            }
            names::IB_NETWORK => {
                let network = self.custom(key, object)?;
                self.ib_networks.insert(place, network);
            }
            names::OVS_NETWORK => {
                let network = self.custom(key, object)?;
                self.ovs_networks.insert(place, network);
            }
            names::NETWORK_ATTACHMENT => {
                let attachment = self.custom(key, object)?;
                self.attachments.insert(place, attachment);
            }
            kinds::NODE => {
                self.nodes.insert(name, Node::read(object)?);
            }
            kinds::NAMESPACE => {
                self.namespaces.insert(name, Namespace { metadata: metadata(object)? });
            }
            kinds::POD => self.insert_pod(place, Pod::read(object)?),
            kinds::BUDGET => {
                self.budgets.insert(place, Budget::read(object)?);
            }
            kinds::CONFIG_MAP => {
                self.config_maps.insert(name, ConfigMap::read(object)?);
            }
            kinds::DAEMON_SET => {
                let set = DaemonSet { metadata: metadata(object)?, object: object.clone() };
                self.daemon_sets.insert(name, set);
            }
            kinds::MACHINE_CONFIG_POOL => {
                self.machine_config_pools.insert(name, MachineConfigPool::read(object)?);
            }
            kinds::INFRASTRUCTURE => {
                self.infrastructures.insert(name, Infrastructure::read(object)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a custom resource. One whose status cannot be read (another version wrote it) is taken without it.
    fn custom<S, T>(&mut self, key: &ObjectKey, object: &Value) -> Result<Object<S, T>, String>
    where
        S: for<'de> Deserialize<'de> + Default,
        T: for<'de> Deserialize<'de> + Default,
    {
        let whole = match Object::<S, T>::deserialize(object) {
            Ok(read) => return Ok(read),
            Err(error) => error,
        };
        let mut without_status = object.clone();
        if let Some(fields) = without_status.as_object_mut() {
            fields.remove("status");
        }
        let read = Object::<S, T>::deserialize(&without_status)
            .map_err(|error| format!("{} cannot be read: {error}", lower(key)))?;
        let message = format!("the status of {} cannot be read: {whole}", lower(key));
        let conditions = readable_conditions(object);
        let problem = Problem { metadata: read.metadata.clone(), conditions, message };
        self.problems.insert(key.clone(), problem);
        Ok(read)
    }

    /// Parses the policies once for all steps: a thousand nodes are merged from the same few.
    fn parse_policies(&mut self) {
        let parsed = self.policies.values().map(planner::policy::parse);
        self.parsed = parsed.filter_map(|parsed| parsed.policy).collect();
        planner::policy::sort(&mut self.parsed);
    }

    fn insert_pod(&mut self, place: Place, mut pod: Pod) {
        let known = self.pods.get(&place).filter(|known| known.metadata.uid == pod.metadata.uid);
        pod.not_admitted_is_news = pod.not_admitted.is_some()
            && known
                .is_some_and(|known| known.not_admitted.is_none() || known.not_admitted_is_news);
        self.forget_pod(&place);
        if !pod.node.is_empty() {
            self.pods_by_node.entry(pod.node.clone()).or_default().insert(place.clone());
        }
        self.pods.insert(place, pod);
    }

    fn forget_pod(&mut self, place: &Place) -> bool {
        let Some(pod) = self.pods.remove(place) else { return false };
        if let Some(places) = self.pods_by_node.get_mut(&pod.node) {
            places.remove(place);
            if places.is_empty() {
                self.pods_by_node.remove(&pod.node);
            }
        }
        true
    }

    /// Drops an object. Returns false when it was not known.
    fn forget(&mut self, key: &ObjectKey) -> bool {
        let place = Place::new(&key.namespace, &key.name);
        match key.kind.as_str() {
            names::OPERATOR_CONFIG if key.name == names::DEFAULT_CONFIG => {
                self.config.take().is_some()
            }
            names::POOL => self.pools.remove(&key.name).is_some(),
            names::POLICY => {
                let known = self.policies.remove(&key.name).is_some();
                self.parse_policies();
                known
            }
            names::NODE_STATE => self.node_states.remove(&key.name).is_some(),
            names::SRIOV_NETWORK => self.sriov_networks.remove(&place).is_some(),
            names::IB_NETWORK => self.ib_networks.remove(&place).is_some(),
            names::OVS_NETWORK => self.ovs_networks.remove(&place).is_some(),
            names::NETWORK_ATTACHMENT => self.attachments.remove(&place).is_some(),
            kinds::NODE => self.nodes.remove(&key.name).is_some(),
            kinds::NAMESPACE => self.namespaces.remove(&key.name).is_some(),
            kinds::POD => self.forget_pod(&place),
            kinds::BUDGET => self.budgets.remove(&place).is_some(),
            kinds::CONFIG_MAP => self.config_maps.remove(&key.name).is_some(),
            kinds::DAEMON_SET => self.daemon_sets.remove(&key.name).is_some(),
            kinds::MACHINE_CONFIG_POOL => self.machine_config_pools.remove(&key.name).is_some(),
            kinds::INFRASTRUCTURE => self.infrastructures.remove(&key.name).is_some(),
            _ => false,
        }
    }

    fn metadata(&self, key: &ObjectKey) -> Option<&Metadata> {
        let place = Place::new(&key.namespace, &key.name);
        Some(match key.kind.as_str() {
            names::OPERATOR_CONFIG if key.name == names::DEFAULT_CONFIG => {
                &self.config.as_ref()?.metadata
            }
            names::POOL => &self.pools.get(&key.name)?.metadata,
            names::POLICY => &self.policies.get(&key.name)?.metadata,
            names::NODE_STATE => &self.node_states.get(&key.name)?.metadata,
            names::SRIOV_NETWORK => &self.sriov_networks.get(&place)?.metadata,
            names::IB_NETWORK => &self.ib_networks.get(&place)?.metadata,
            names::OVS_NETWORK => &self.ovs_networks.get(&place)?.metadata,
            names::NETWORK_ATTACHMENT => &self.attachments.get(&place)?.metadata,
            kinds::NODE => &self.nodes.get(&key.name)?.metadata,
            kinds::NAMESPACE => &self.namespaces.get(&key.name)?.metadata,
            kinds::POD => &self.pods.get(&place)?.metadata,
            kinds::BUDGET => &self.budgets.get(&place)?.metadata,
            kinds::CONFIG_MAP => &self.config_maps.get(&key.name)?.metadata,
            kinds::DAEMON_SET => &self.daemon_sets.get(&key.name)?.metadata,
            kinds::MACHINE_CONFIG_POOL => &self.machine_config_pools.get(&key.name)?.metadata,
            kinds::INFRASTRUCTURE => &self.infrastructures.get(&key.name)?.metadata,
            _ => return None,
        })
    }

    /// True when we hold a newer state of the same object: the answer to a write comes before its watch event, and
    /// the events before that one would take us back. Versions that are no numbers are taken as they come.
    fn has_newer(&self, key: &ObjectKey, object: &Value) -> bool {
        let Some(held) = self.metadata(key) else { return false };
        let text = |field: &str| object.pointer(field).and_then(Value::as_str).unwrap_or_default();
        let number = |version: &str| version.parse::<u64>().ok();
        let versions = (number(&held.resource_version), number(text("/metadata/resourceVersion")));
        held.uid == text("/metadata/uid")
            && matches!(versions, (Some(held), Some(seen)) if held >= seen)
    }

    /// The keys of all known objects of a kind.
    fn keys(&self, kind: &'static Kind) -> BTreeSet<ObjectKey> {
        let named = |names: Vec<&String>| -> Vec<Place> {
            let namespace = match kind.scope {
                Scope::OurNamespace | Scope::OursSeenEverywhere => self.settings.namespace.as_str(),
                Scope::Cluster | Scope::AllNamespaces => "",
            };
            names.into_iter().map(|name| Place::new(namespace, name)).collect()
        };
        let places = match kind.kind {
            names::OPERATOR_CONFIG => {
                named(self.config.iter().map(|config| &config.metadata.name).collect())
            }
            names::POOL => named(self.pools.keys().collect()),
            names::POLICY => named(self.policies.keys().collect()),
            names::NODE_STATE => named(self.node_states.keys().collect()),
            names::SRIOV_NETWORK => self.sriov_networks.keys().cloned().collect(),
            names::IB_NETWORK => self.ib_networks.keys().cloned().collect(),
            names::OVS_NETWORK => self.ovs_networks.keys().cloned().collect(),
            names::NETWORK_ATTACHMENT => self.attachments.keys().cloned().collect(),
            kinds::NODE => named(self.nodes.keys().collect()),
            kinds::NAMESPACE => named(self.namespaces.keys().collect()),
            kinds::POD => self.pods.keys().cloned().collect(),
            kinds::BUDGET => self.budgets.keys().cloned().collect(),
            kinds::CONFIG_MAP => named(self.config_maps.keys().collect()),
            kinds::DAEMON_SET => named(self.daemon_sets.keys().collect()),
            kinds::MACHINE_CONFIG_POOL => named(self.machine_config_pools.keys().collect()),
            kinds::INFRASTRUCTURE => named(self.infrastructures.keys().collect()),
            _ => Vec::new(),
        };
        let unreadable = self.problems.keys().filter(|key| key.kind == kind.kind).cloned();
        let misplaced = self.misplaced.keys().filter(|key| key.kind == kind.kind).cloned();
        places
            .iter()
            .map(|at| ObjectKey::new(kind.api_version, kind.kind, &at.namespace, &at.name))
            .chain(unreadable)
            .chain(misplaced)
            .collect()
    }
}

/// An object before and after an event.
struct Shape {
    metadata: Metadata,
    rest: Option<Rest>,
}

#[derive(PartialEq)]
enum Rest {
    Node(Node),
    Pod(Pod),
    /// What a node state tells of the machine, as far as other objects are judged by it.
    Hardware(Vec<InterfaceStatus>, Option<RdmaMode>),
}

impl Rest {
    fn hardware(state: &SriovNetworkNodeState) -> Self {
        Self::Hardware(state.status.interfaces.clone(), state.status.system.rdma_mode)
    }
}

fn noticed(before: Option<Shape>, after: Option<Shape>) -> Noticed {
    let (Some(before), Some(mut after)) = (before, after) else { return Noticed::Intent };
    let (old, new) = (&before.metadata, &after.metadata);
    let intent = old.uid != new.uid
        || old.generation != new.generation
        || old.labels != new.labels
        || old.deletion_timestamp != new.deletion_timestamp
        || old.finalizers != new.finalizers;
    match (&before.rest, &mut after.rest) {
        _ if intent => Noticed::Intent,
        (Some(old @ Rest::Hardware(..)), Some(new)) if *old != *new => Noticed::Intent,
        // A kubelet renews its node's status without news, and most of a pod's status is not read here.
        (Some(Rest::Node(old)), Some(Rest::Node(new))) => {
            new.metadata.resource_version.clone_from(&old.metadata.resource_version);
            progress_if(old != new)
        }
        (Some(Rest::Pod(old)), Some(Rest::Pod(new))) => {
            new.metadata.resource_version.clone_from(&old.metadata.resource_version);
            progress_if(old != new)
        }
        _ => Noticed::Progress,
    }
}

fn progress_if(changed: bool) -> Noticed {
    match changed {
        true => Noticed::Progress,
        false => Noticed::Nothing,
    }
}

fn readable_conditions(object: &Value) -> Vec<Condition> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().filter_map(|c| Condition::deserialize(c).ok()).collect()
}

/// The object as a message names it: `pool rdma-workers`, `node state worker-0`.
fn lower(key: &ObjectKey) -> String {
    format!("{} {}", key.kind, key.name)
}
