//! What must hold after every step, whatever the world does to us.

use super::extras::{has_control_plane_role, is_disturbed};
use super::leaving::{self, Leaves};
use super::steps::INTRUDER;
use super::story::{POOL, Story};
use super::turns;
use crate::cluster::cluster::Cluster;
use crate::cluster::objects::{self, items, text, texts};
use crate::cluster::power::NodeSlot;
use crate::store::{AuditEntry, Selector, Store};
use api::pool::PoolSpec;
use api::wire::{ObjectKey, at};
use api::{Timestamp, annotation, files, names};
use host::sim::{Fault as Kernel, Machine};
use planner::pools::{Limit, limit};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What the users of our own programs begin with.
const OURS: &str = "system:serviceaccount:sriov-network-operator:";

#[derive(Default)]
pub struct Invariants {
    /// The last stored version of each holder of grants, with its kind.
    pools: BTreeMap<String, Value>,
    nodes: usize,
    /// The most nodes that each pool was seen to select: an operator may not have heard of one that left.
    selected: BTreeMap<String, usize>,
    /// How often a goal was set for the mode.
    goals: u32,
    mode: Option<String>,
    /// The reboots that were carried out, by node and key (reason and goal), each with how many goals had been set by then.
    keys: BTreeMap<(String, String), u32>,
    /// Reboots of each node that were seen.
    reboots: BTreeMap<String, u32>,
    /// What each running pod relies on in its device: node, device, uid of the pod.
    held: BTreeMap<(String, String, String), String>,
    /// Node and resource that had all their devices.
    whole: BTreeSet<(String, String)>,
    /// Nodes in whose node state's spec a user had his hands.
    specs_touched: BTreeSet<String>,
    /// Control-plane nodes that are disturbed.
    control_plane: BTreeSet<String>,
    /// Nodes from whose order one of two leaders took the policy that it had not heard of.
    robbed: BTreeSet<String>,
    /// Reboots that the API was seen to have booked, by node: what, which attempt, and in which boot.
    mirrored: BTreeSet<(String, String)>,
    /// What was found wrong in the middle of an event.
    wrong: Option<String>,
    /// Writes that our programs sent, by service account.
    pub writes: BTreeMap<String, u64>,
    /// Since when and how often the same was written, by who and what.
    written: BTreeMap<(String, ObjectKey, String), (Timestamp, u32)>,
}

/// What one program writes to one object more often in a minute than this, it writes without a look at what is there.
const TOO_OFTEN: u32 = 300;
const MINUTE: Duration = Duration::from_secs(60);

/// Faults under which no VFs can be made.
const REFUSALS: [Kernel; 2] = [Kernel::VfCountBusy, Kernel::DiskFull];

impl Invariants {
    pub fn new(cluster: &Cluster) -> Self {
        Self { nodes: cluster.nodes.len(), ..Self::default() }
    }

    /// True when the last writes were ours, or changed something; the Lease is renewed in quiet times too.
    pub fn is_progress(&self, store: &Store) -> bool {
        let ours = |who: &str| who.starts_with(OURS);
        let counts = |entry: &&AuditEntry| entry.changed || ours(&entry.who);
        store.audit().iter().filter(counts).any(|entry| entry.key.kind != "Lease")
    }

    /// A daemon has asked for a reboot, and what its step writes is not sent yet: the reboot is booked on the disk, and
    /// the API took the same before.
    pub fn reboot_asked(&mut self, node: &str, machine: &Machine) {
        let disk = machine.files.get(files::REBOOTS).map(Vec::as_slice).unwrap_or_default();
        let records: Value = serde_json::from_slice(disk).unwrap_or_default();
        let boot = &machine.boot_id;
        let booked: Vec<String> =
            pending(records.as_array()).filter(|b| b.ends_with(boot)).collect();
        let unknown =
            booked.iter().find(|b| !self.mirrored.contains(&(node.to_owned(), (*b).clone())));
        if booked.is_empty() {
            self.wrong = Some(format!("{node} asks for a reboot that is not booked on its disk"));
        } else if let Some(booked) = unknown {
            self.wrong =
                Some(format!("{node} asks for a reboot before the API has booked it: {booked}"));
        }
    }

    /// What became of a node state that one of ours has written.
    fn written_state(&mut self, name: &str, store: &Store, two_leaders: bool) {
        let key = ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, name);
        let Some(state) = store.object(&key) else { return };
        let booked = pending(at(state, "/status/reboots").and_then(Value::as_array));
        self.mirrored.extend(booked.map(|booked| (name.to_owned(), booked)));
        // A lone operator never takes the policy away. Of two one may not have heard of it yet, and the node obeys.
        let groups = || items(state, "/spec/interfaces").iter().flat_map(|i| items(i, "/vfGroups"));
        if two_leaders && !groups().any(|group| text(group, "/resourceName") == "rdma") {
            self.robbed.insert(name.to_owned());
        }
    }

    /// Looks at what the last event may have changed: the writes, and the machines of these nodes.
    pub fn check(
        &mut self,
        cluster: &Cluster,
        store: &mut Store,
        story: &Story,
        touched: &BTreeSet<String>,
        two_leaders: bool,
    ) -> Result<(), String> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        let holds_grants = |kind: &str| matches!(kind, names::POOL | names::OPERATOR_CONFIG);
        let audit = store.take_audit();
        if audit.iter().any(|entry| entry.changed && holds_grants(&entry.key.kind)) {
            self.goals(store);
            self.grants(store, story)?;
        }
        let meddled = |entry: &&AuditEntry| {
            entry.key.kind == names::NODE_STATE && !entry.who.starts_with(OURS)
        };
        self.specs_touched.extend(audit.iter().filter(meddled).map(|entry| entry.key.name.clone()));
        let is_state = |entry: &&AuditEntry| entry.changed && entry.key.kind == names::NODE_STATE;
        for entry in audit.iter().filter(is_state).filter(|entry| entry.who.starts_with(OURS)) {
            self.written_state(&entry.key.name, store, two_leaders);
        }
        if story.extras.control_plane > 1 && audit.iter().any(|entry| is_state(&entry)) {
            let now = audit.iter().map(|entry| entry.at).max().unwrap_or_default();
            self.control_plane_nodes(store, now)?;
        }
        audit.into_iter().try_for_each(|entry| self.ours(entry))?;
        for node in touched {
            let Some(slot) = cluster.nodes.get(node) else { continue };
            self.reboots(node, slot, story)?;
            self.emptied(node, slot, cluster, (store, story))?;
            if let Some(lives) = story.lives.as_ref().filter(|lives| lives.node == *node) {
                lives.unharmed(&slot.kubelet.host.machine())?;
            }
            if slot.is_up() {
                self.devices(node, slot)?;
                self.capacity(node, slot, story)?;
            }
        }
        Ok(())
    }

    /// Nothing is written again and again.
    fn ours(&mut self, entry: AuditEntry) -> Result<(), String> {
        let Some(account) = entry.who.strip_prefix(OURS) else { return Ok(()) };
        *self.writes.entry(account.to_owned()).or_default() += 1;
        let (at, line) = (entry.at, entry.to_string());
        let what = (entry.who, entry.key, entry.subresource);
        let (since, times) = self.written.entry(what).or_insert((at, 0));
        if at > *since + MINUTE {
            (*since, *times) = (at, 0);
        }
        *times += 1;
        match *times > TOO_OFTEN {
            true => Err(format!("{line}, {times} times within a minute")),
            false => Ok(()),
        }
    }

    fn goals(&mut self, store: &Store) {
        let pool = ObjectKey::new(names::API_VERSION, names::POOL, names::NAMESPACE, POOL);
        let mode = store.object(&pool).map(|pool| text(pool, "/spec/rdmaMode").to_owned());
        if mode != self.mode {
            self.goals += 1;
            self.mode = mode;
        }
    }

    /// No grant is accepted that takes the count over the limit of the version it was written on.
    fn grants(&mut self, store: &Store, story: &Story) -> Result<(), String> {
        let mut pools = BTreeMap::new();
        let config = store.objects(names::API_VERSION, names::OPERATOR_CONFIG);
        for holder in store.objects(names::API_VERSION, names::POOL).chain(config) {
            let label = format!("{} {}", text(holder, "/kind"), objects::name(holder));
            self.count_selected(&label, holder, store)?;
            if let Some(before) = self.pools.get(&label) {
                turns::check(before, holder, store, story)
                    .map_err(|why| format!("{label}: {why}"))?;
                let count = |holder: &Value| items(holder, "/status/grants").len();
                let allowed = self.allowed(before, &label);
                let allowed = allowed.map_err(|why| format!("{label}: {why}"))?;
                if count(holder) > count(before) && count(holder) > allowed {
                    return Err(format!(
                        "{label} granted {} nodes where {allowed} are allowed",
                        count(holder)
                    ));
                }
            }
            pools.insert(label, Value::clone(holder));
        }
        self.given_back(store, &pools)?;
        self.pools = pools;
        Ok(())
    }

    /// A grant is given back only when the node's drain is over: another writer's list must not push it out.
    fn given_back(&self, store: &Store, pools: &BTreeMap<String, Value>) -> Result<(), String> {
        let granted = |holder: &Value| -> BTreeSet<String> {
            let grants = items(holder, "/status/grants").iter();
            grants.map(|grant| text(grant, "/node").to_owned()).collect()
        };
        let now: BTreeSet<String> = pools.values().flat_map(granted).collect();
        for (label, before) in &self.pools {
            // A pool that is gone took its grants along; its drains are undone.
            if !pools.contains_key(label) {
                continue;
            }
            for node in granted(before).difference(&now) {
                let key =
                    ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, node);
                let state = store.object(&key).and_then(|s| s.pointer("/metadata/annotations"));
                let drain = state.and_then(|all| all[annotation::CURRENT_STATE].as_str());
                if let Some(drain) = drain.filter(|drain| *drain != annotation::IDLE) {
                    return Err(format!("{label} forgets the grant of {node}, which is {drain}"));
                }
            }
        }
        Ok(())
    }

    /// Counts the managed nodes that a pool selects.
    fn count_selected(&mut self, label: &str, pool: &Value, store: &Store) -> Result<(), String> {
        let selector = pool.pointer("/spec/nodeSelector").unwrap_or(&Value::Null);
        let selector = Selector::of_labels(selector).map_err(|why| format!("{label}: {why}"))?;
        let is_managed =
            |node: &Value| texts(node, "/metadata/labels").contains_key(leaving::WORKER);
        let nodes = store.objects("v1", "Node");
        let now = nodes.filter(|node| is_managed(node) && selector.matches(node)).count();
        let most = self.selected.entry(label.to_owned()).or_default();
        *most = now.max(*most);
        Ok(())
    }

    /// How many nodes may be disturbed by this holder of grants; without a pool it is one.
    fn allowed(&self, holder: &Value, label: &str) -> Result<usize, String> {
        if text(holder, "/kind") == names::OPERATOR_CONFIG {
            return Ok(1);
        }
        let nodes = self.selected.get(label).copied().unwrap_or_default();
        let spec = holder.get("spec").cloned().unwrap_or_default();
        let spec: PoolSpec = serde_json::from_value(spec).map_err(|e| e.to_string())?;
        Ok(match limit(spec.max_unavailable.as_ref(), nodes) {
            Limit::Nodes(nodes) => nodes,
            _ => 0,
        })
    }

    /// No node is rebooted twice for one key while nobody has set another goal, nor more often than its goal was set.
    fn reboots(&mut self, name: &str, slot: &NodeSlot, story: &Story) -> Result<(), String> {
        let firmware = u32::from(story.small_card.as_deref() == Some(name));
        let retried = u32::from(story.extras.retried.as_deref() == Some(name));
        // Back to the mode that it had.
        let left = story.leaver(name).is_some_and(|leaver| leaver.leaves == Leaves::PoolAndPolicy);
        let asked = self.goals.min(story.mode_changes) + firmware + retried + u32::from(left);
        if self.reboots.get(name).copied().unwrap_or_default() < slot.reboots {
            // The machine is down: its disk is as the boot will find it.
            let machine = slot.kubelet.host.machine();
            let disk = machine.files.get(files::REBOOTS).map(Vec::as_slice).unwrap_or_default();
            let records: Value = serde_json::from_slice(disk).unwrap_or_default();
            let of_this_boot = |record: &&Value| text(record, "/bootIdBefore") == machine.boot_id;
            for record in pending_records(records.as_array()).filter(of_this_boot) {
                let key = format!("{} {}", text(record, "/reason"), text(record, "/goal"));
                let before = self.keys.insert((name.to_owned(), key.clone()), self.goals);
                // A person's leave makes it another one.
                if before == Some(self.goals) && retried == 0 {
                    return Err(format!("node {name} was rebooted twice for {key}"));
                }
            }
        }
        match slot.reboots > asked {
            true => Err(format!(
                "node {name} was rebooted {} times, and {asked} goals asked for one",
                slot.reboots
            )),
            false => Ok(()),
        }
    }

    /// The pods of a node that is rebooted on purpose were evicted before; a single node has no other place for them.
    fn emptied(
        &mut self,
        name: &str,
        slot: &NodeSlot,
        cluster: &Cluster,
        (store, story): (&Store, &Story),
    ) -> Result<(), String> {
        let before = self.reboots.insert(name.to_owned(), slot.reboots).unwrap_or_default();
        let drained = story.extras.no_drains_until.is_none();
        if before == slot.reboots || self.nodes == 1 || !drained {
            return Ok(());
        }
        let stays = |pod: &Value| {
            let owners = items(pod, "/metadata/ownerReferences");
            owners.iter().any(|owner| text(owner, "/kind") == "DaemonSet")
                || text(pod, "/metadata/name").starts_with(INTRUDER)
        };
        let pods = cluster.pods_on(name).iter();
        let mut pods = pods.filter_map(|pod| store.object(&ObjectKey::of(pod)));
        let left = pods.find(|pod| {
            text(pod, "/status/phase") == "Running" && !objects::is_deleting(pod) && !stays(pod)
        });
        match left {
            Some(pod) => Err(format!("node {name} is rebooted under pod {}", objects::name(pod))),
            None => Ok(()),
        }
    }

    /// A device that a running pod holds exists, nobody else was given it, and it stays as it was.
    fn devices(&mut self, node: &str, slot: &NodeSlot) -> Result<(), String> {
        let mut seen: BTreeMap<&String, &String> = BTreeMap::new();
        let machine = slot.kubelet.host.machine();
        if let Some(contradiction) = machine.contradictions().first() {
            return Err(format!("the machine of {node} cannot be: {contradiction}"));
        }
        let mut held = BTreeMap::new();
        for given in slot.kubelet.devices.given() {
            for id in &given.ids {
                if let Some(other) = seen.insert(id, &given.pod) {
                    return Err(format!(
                        "{id} on {node} is held by pods {other} and {}",
                        given.pod
                    ));
                }
                if !slot.kubelet.is_running(&given.pod_uid) {
                    continue;
                }
                let Some(looks) = fingerprint(&machine, id) else {
                    return Err(format!(
                        "{id} on {node} is gone while pod {} runs with it",
                        given.pod
                    ));
                };
                let holder = (node.to_owned(), id.clone(), given.pod_uid.clone());
                let begins = !self.held.contains_key(&holder);
                if let Some(defect) = defect(&machine, id).filter(|_| begins) {
                    return Err(format!(
                        "pod {} begins to run on {node} with {id}, which {defect}",
                        given.pod
                    ));
                }
                if let Some(before) = self.held.get(&holder).filter(|before| **before != looks) {
                    return Err(format!(
                        "{id} on {node} was changed while pod {} runs with it: {before}, now {looks}",
                        given.pod
                    ));
                }
                held.insert(holder, looks);
            }
        }
        self.held.retain(|(at, _, _), _| at != node);
        self.held.extend(held);
        Ok(())
    }

    /// A resource that was once there whole stays so: no crash, restart or boot takes capacity away.
    fn capacity(&mut self, node: &str, slot: &NodeSlot, story: &Story) -> Result<(), String> {
        let steady = story.steady && story.leaver(node).is_none();
        let Some(wanted) = story.vfs.filter(|_| steady) else { return Ok(()) };
        // After a boot a kernel that refuses to make VFs leaves nothing to offer; when it gives in, all is to be there.
        let machine = slot.kubelet.host.machine();
        if machine.faults.iter().any(|fault| REFUSALS.contains(fault)) {
            self.whole.retain(|(at, _)| at != node);
            return Ok(());
        }
        drop(machine);
        for (resource, (all, _)) in slot.kubelet.devices.capacity() {
            let place = (node.to_owned(), resource);
            if all == wanted as usize {
                self.whole.insert(place);
            } else if self.whole.contains(&place)
                && !self.specs_touched.contains(node)
                && !self.robbed.contains(node)
            {
                return Err(format!(
                    "{node} has {all} of {} and had {wanted}, and nobody changed the policy",
                    place.1
                ));
            }
        }
        Ok(())
    }

    /// Nodes with a control-plane role are disturbed one at a time, whatever pools say, and only while the others are
    /// Ready.
    fn control_plane_nodes(&mut self, store: &Store, now: Timestamp) -> Result<(), String> {
        let nodes: Vec<_> =
            store.objects("v1", "Node").filter(|node| has_control_plane_role(node)).collect();
        let disturbed = nodes.iter().map(|node| objects::name(node)).filter(|name| {
            let key = ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, name);
            store.object(&key).is_some_and(|state| is_disturbed(state))
        });
        let disturbed: BTreeSet<String> = disturbed.map(str::to_owned).collect();
        let before = std::mem::replace(&mut self.control_plane, disturbed);
        let names: Vec<&str> = self.control_plane.iter().map(String::as_str).collect();
        if names.len() > 1 {
            return Err(format!("control-plane nodes are disturbed at once: {}", names.join(", ")));
        }
        let Some(begun) = self.control_plane.difference(&before).next() else { return Ok(()) };
        let fails = |node: &&&Arc<Value>| {
            objects::name(node) != begun && not_ready_since(node).is_some_and(|at| at + HEARD < now)
        };
        match nodes.iter().find(fails) {
            Some(other) => Err(format!(
                "the drain of control-plane node {begun} begins while {} is not Ready",
                objects::name(other)
            )),
            None => Ok(()),
        }
    }
}

/// What everybody has heard of in the end: late events, a lost watch and an outage together.
const HEARD: Duration = Duration::from_secs(120);

/// Since when a Node is not Ready; None while it is.
fn not_ready_since(node: &Value) -> Option<Timestamp> {
    let mut conditions = items(node, "/status/conditions").iter();
    let ready = conditions.find(|condition| condition["type"] == "Ready")?;
    let turned = text(ready, "/lastTransitionTime").parse().ok();
    turned.filter(|_| ready["status"] != "True")
}

/// The reboots that a ledger has as pending: what, which attempt, in which boot.
fn pending(records: Option<&Vec<Value>>) -> impl Iterator<Item = String> {
    pending_records(records).map(|record| {
        let (reason, goal) = (text(record, "/reason"), text(record, "/goal"));
        let (attempt, boot) = (&record["attempt"], text(record, "/bootIdBefore"));
        format!("{reason} {goal}, attempt {attempt} in boot {boot}")
    })
}

fn pending_records(records: Option<&Vec<Value>>) -> impl Iterator<Item = &Value> {
    let open = |record: &&Value| text(record, "/outcome/state") == "pending";
    records.into_iter().flatten().filter(open)
}

/// What is wrong with the VF of a pod that begins: it was given before it was verified.
fn defect(machine: &Machine, id: &str) -> Option<&'static str> {
    let pci = id.parse().ok()?;
    let rdma = machine.rdma.devices.values().find(|device| device.parent == pci);
    let link = machine.links.values().find(|link| link.parent == Some(pci));
    match (&machine.functions.get(&pci)?.driver, link, rdma) {
        (None, ..) => Some("has no driver"),
        (_, None, _) => Some("has no network interface"),
        (_, _, None) => Some("has no RDMA device"),
        (_, Some(link), _) if link.address.iter().all(|byte| *byte == 0) => Some("has no MAC"),
        _ => None,
    }
}

/// What a pod relies on in its VF; None when it is not there.
fn fingerprint(machine: &Machine, id: &str) -> Option<String> {
    let pci = id.parse().ok()?;
    let function = machine.functions.get(&pci)?;
    let link = machine.links.values().find(|link| link.parent == Some(pci));
    let mtu = link.map(|link| link.mtu);
    let mac = link.map(|link| &link.address);
    let rdma = machine.rdma.devices.iter().find(|(_, device)| device.parent == pci);
    let rdma = rdma.map(|(name, _)| name);
    let driver = function.driver.as_deref().unwrap_or("no driver");
    let host::sim::FunctionKind::Virtual(part) = &function.kind else { return None };
    Some(format!(
        "{driver}, MTU {mtu:?}, MAC {mac:?}, RDMA device {rdma:?}, probed {} times, mode {:?}",
        part.probes, machine.rdma.mode
    ))
}
