//! The status of the node state: facts in upstream's shape, then ours. Pure.
//!
//! Users' scripts read `interfaces`, `system`, `syncStatus` and `lastSyncError`; what upstream leaves empty (`assigned`,
//! `lastSyncError`) is filled here.

use api::condition::Condition;
use api::custody::Holder;
use api::inventory::{FirmwareFacts, FirmwareSriov, Inventory, PhysicalFunction, VirtualFunction};
use api::nodestate::{
    BlockerStatus, FirmwareStatus, HOLDERS_LISTED, InterfaceStatus, NodeStateStatus,
    SriovNetworkNodeState, System, VfStatus,
};
use api::{Timestamp, names};
use planner::{Blocker, Problem, lifeline};
use serde_json::{Value, json};

pub const SUCCEEDED: &str = "Succeeded";
pub const IN_PROGRESS: &str = "InProgress";
pub const FAILED: &str = "Failed";

/// How far the node is, and what is in the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Nothing to do and nothing to wait for.
    pub at_goal: bool,
    pub blockers: Vec<Blocker>,
    /// What of the order was not understood; the rest goes on.
    pub problems: Vec<Problem>,
    /// What broke; it is tried again.
    pub errors: Vec<String>,
}

impl Progress {
    pub fn broken(error: impl Into<String>) -> Self {
        Self { errors: vec![error.into()], ..Self::default() }
    }

    fn sync_status(&self) -> &'static str {
        match (self.worries().is_empty(), self.at_goal) {
            (false, _) => FAILED,
            (true, true) => SUCCEEDED,
            (true, false) => IN_PROGRESS,
        }
    }

    /// What a person should know, gravest first. Waiting for what ends by itself is no worry.
    fn worries(&self) -> Vec<BlockerStatus> {
        let errors = self.errors.iter().map(|error| said("Failed", error));
        let problems = self.problems.iter().map(|p| said(p.reason.as_str(), &p.to_string()));
        let stuck = self.blockers.iter().filter(|b| !b.ends_by_itself()).map(Blocker::status);
        errors.chain(problems).chain(stuck).collect()
    }
}

/// The whole status. What cannot be observed now (`inventory: None`) stays as it was.
pub fn status(
    state: &SriovNetworkNodeState,
    inventory: Option<&Inventory>,
    progress: &Progress,
    now: Timestamp,
) -> NodeStateStatus {
    let before = &state.status;
    let mut status = match inventory {
        Some(inventory) => facts(state, inventory),
        None => before.clone(),
    };
    status.sync_status = progress.sync_status().to_owned();
    let worries = progress.worries().into_iter().map(|worry| worry.message);
    status.last_sync_error = worries.collect::<Vec<_>>().join("; ");
    status.blockers = progress.blockers.iter().map(Blocker::status).collect();
    status.observed_generation = state.metadata.generation;
    status.conditions = conditions(state, progress, now);
    status
}

/// True when the API holds all of the status already. Conditions of others, the operator's, are not ours to compare.
pub fn stands(stored: &NodeStateStatus, new: &NodeStateStatus) -> bool {
    let without =
        |status: &NodeStateStatus| NodeStateStatus { conditions: Vec::new(), ..status.clone() };
    without(stored) == without(new) && new.conditions.iter().all(|c| stored.conditions.contains(c))
}

/// The body of the apply of a status.
pub fn object(state: &SriovNetworkNodeState, status: &NodeStateStatus) -> Value {
    json!({
        "apiVersion": names::API_VERSION, "kind": names::NODE_STATE,
        "metadata": { "name": state.metadata.name, "namespace": state.metadata.namespace },
        "status": status,
    })
}

fn facts(state: &SriovNetworkNodeState, inventory: &Inventory) -> NodeStateStatus {
    let interface = |function: &PhysicalFunction| {
        // What is known of half is not told: the operator would take the card for another one.
        let before = state.status.interfaces.iter().find(|known| known.pci_address == function.pci);
        if let (Some(_), Some(before)) = (&function.unreadable, before) {
            return before.clone();
        }
        let order = state.spec.interfaces.iter().find(|order| order.pci_address == function.pci);
        let externally_managed = order.is_some_and(|order| order.externally_managed);
        let asked = match inventory.firmware.get(&function.pci) {
            Some(FirmwareFacts::Known(known)) => Some(firmware(known)),
            _ => None,
        };
        let bond = inventory.roce_lags.get(&function.pci).cloned();
        InterfaceStatus {
            externally_managed,
            lifelines: lifeline::of_card(function, inventory),
            roce_lag: bond.unwrap_or_default(),
            // Asked of the program where devlink has no such parameters.
            firmware: asked.or_else(|| function.firmware.as_ref().map(firmware)),
            ..interface(function, &inventory.holders)
        }
    };
    NodeStateStatus {
        interfaces: inventory.physical_functions.iter().map(interface).collect(),
        system: System { rdma_mode: inventory.rdma.mode },
        boot_id: inventory.boot_id.clone(),
        holders: inventory.holders.iter().take(HOLDERS_LISTED).cloned().collect(),
        reboots: inventory.reboots.clone(),
        initial_rdma_mode: inventory.initial_rdma_mode,
        ..NodeStateStatus::default()
    }
}

fn interface(function: &PhysicalFunction, holders: &[Holder]) -> InterfaceStatus {
    InterfaceStatus {
        pci_address: function.pci,
        name: function.name.clone(),
        mac: function.mac.clone(),
        driver: function.driver.clone().unwrap_or_default(),
        vendor: function.vendor.clone(),
        device_id: function.device.clone(),
        net_filter: function.net_filter.clone(),
        mtu: i64::from(function.mtu),
        num_vfs: function.vfs.len() as i64,
        link_speed: function.speed.map(|speed| format!("{speed} Mb/s")).unwrap_or_default(),
        link_type: function.link_type.map(|kind| kind.to_string()).unwrap_or_default(),
        link_admin_state: match (function.name.is_empty(), function.admin_up) {
            (true, _) => "",
            (false, true) => "up",
            (false, false) => "down",
        }
        .to_owned(),
        // As upstream: only a function with the SR-IOV capability has a mode.
        eswitch_mode: function.total_vfs.map(|_| function.eswitch.to_string()).unwrap_or_default(),
        externally_managed: false,
        total_vfs: function.total_vfs.map(i64::from).unwrap_or_default(),
        alt_names: function.alt_names.clone(),
        vfs: function.vfs.iter().map(|vf| virtual_function(function, vf, holders)).collect(),
        lifelines: Vec::new(),
        roce_lag: String::new(),
        pci_path: function.pci_path.clone(),
        numa_node: function.numa_node.map(i64::from),
        iommu_group: function.iommu_group.map(i64::from),
        rdma_device: function.rdma_device.clone().unwrap_or_default(),
        node_guid: function.node_guid.clone().unwrap_or_default(),
        port_state: function.port_state.clone().unwrap_or_default(),
        firmware: None,
    }
}

fn firmware(known: &FirmwareSriov) -> FirmwareStatus {
    FirmwareStatus {
        sriov_enabled: known.enabled.current,
        sriov_enabled_next: known.enabled.next,
        total_vfs: i64::from(known.vfs.current),
        total_vfs_next: i64::from(known.vfs.next),
    }
}

fn virtual_function(
    function: &PhysicalFunction,
    vf: &VirtualFunction,
    holders: &[Holder],
) -> VfStatus {
    let id = vf.pci.to_string();
    let holder = holders.iter().find(|holder| holder.device == id && !holder.pod.is_empty());
    let in_pod = vf.in_pod.clone().unwrap_or_default();
    VfStatus {
        pci_address: vf.pci,
        vf_id: i64::from(vf.index),
        name: vf.name.clone().or(in_pod.name).unwrap_or_default(),
        // In user space it has the one that the PF holds for it, as in a pod that no journal tells of.
        mac: vf.mac.clone().or(in_pod.mac).or_else(|| vf.admin_mac.clone()).unwrap_or_default(),
        assigned: holder.map(|h| format!("{}/{}", h.namespace, h.pod)).unwrap_or_default(),
        driver: vf.driver.clone().unwrap_or_default(),
        vendor: function.vendor.clone(),
        device_id: vf.device.clone(),
        vlan: i64::from(vf.vlan),
        mtu: vf.mtu.or(in_pod.mtu).map(i64::from).unwrap_or_default(),
        vdpa_type: vf.vdpa.clone().unwrap_or_default(),
        representor_name: vf.representor.clone().unwrap_or_default(),
        guid: vf.guid.clone().or(in_pod.guid).or_else(|| vf.admin_guid.clone()).unwrap_or_default(),
        rdma_device: vf
            .rdma_device
            .clone()
            .or_else(|| vf.rdma_device_anywhere.clone())
            .unwrap_or_default(),
        iommu_group: vf.iommu_group.map(i64::from),
    }
}

fn conditions(
    state: &SriovNetworkNodeState,
    progress: &Progress,
    now: Timestamp,
) -> Vec<Condition> {
    let worry = progress.worries().into_iter().next();
    let waits = progress.blockers.first().map(Blocker::status);
    let at_goal = said("AtGoal", "the node is as its policies and its pool ask");
    let going = said("InProgress", "the node is being configured");
    let ready = progress.at_goal && worry.is_none();
    let why = match ready {
        true => at_goal,
        false => worry.clone().or(waits).unwrap_or(going),
    };
    let degraded = worry.is_some();
    let quiet = said("AsExpected", "nothing needs a person");
    vec![
        condition(state, "Degraded", degraded, worry.unwrap_or(quiet), now),
        condition(state, "Ready", ready, why, now),
    ]
}

fn said(reason: &str, message: &str) -> BlockerStatus {
    BlockerStatus { reason: reason.to_owned(), message: message.to_owned() }
}

/// A condition keeps the time of its last transition while its status stays.
fn condition(
    state: &SriovNetworkNodeState,
    kind: &str,
    holds: bool,
    why: BlockerStatus,
    now: Timestamp,
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let before = state.status.conditions.iter().find(|c| c.kind == kind && c.status == status);
    Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        observed_generation: Some(state.metadata.generation),
        // Whole seconds, as metav1.Time stores them: otherwise the stored object would differ from ours for ever.
        last_transition_time: before.map_or(whole_seconds(now), |c| c.last_transition_time),
        reason: why.reason,
        message: why.message,
    }
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
