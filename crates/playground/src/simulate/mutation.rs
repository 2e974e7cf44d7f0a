//! Ten and more bugs of the operator that we replace, put back one at a time: each must be caught by the invariants.
//!
//! A mutation changes data at the seams, what a step is shown and what becomes of its writes. No product code knows
//! of it, so that what is proved is the simulation's eye and not a switch of ours.

use super::process::News;
use super::story::{AGENT, STAGED};
use crate::cluster::devices::{DeviceLists, Given};
use crate::cluster::objects::{self, text};
use crate::store::Store;
use api::wire::{Answer, ObjectKey, Write};
use api::{RdmaMode, annotation, files, names};
use host::sim::Machine;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// What was booked before this boot is forgotten, on the host and in the API (pains 1 and 19).
    NoLedger,
    /// A pool without `maxUnavailable` is shown as one of 100 % (spec/operator.md 3.6).
    UnlimitedWhenUnset,
    /// The mode that the kernel reports is that of the command line (pain 1).
    CommandLineMode,
    /// Updates carry no resourceVersion that somebody decided on, so that the last writer wins (pain 2, parallel drains).
    LostCompareAndSwap,
    /// Who holds a device in an init container, or as a DaemonSet's pod, is not seen by the drain (pain 2).
    PrefixOnlyDrain,
    /// A cordon is not told from our own, and undone at the end (pain 2).
    TakesOthersCordon,
    /// Our own cordon is not known again, and stays (pain 2).
    ForgetsCordon,
    /// The drain is always complete: the reboot does not wait for it (pain 1, `handleDrain`).
    RebootsUndrained,
    /// Devices that pods hold are not listed: capacity falls when the plugin lists anew (pains 5 and 11).
    HeldDevicesVanish,
    /// The status looks other than it was written, so that it is written for ever (pains 2 and 25).
    WritesUnread,
    /// The container runtime is believed to know every sandbox that there ever was: what an unclean DEL left stays (pain 4).
    NobodySweeps,
    /// No card is taken for one by which the host lives (pain 22).
    CutsLifelines,
    /// What is booked of a reboot is lost on the way to the API, and the daemon told that it was stored (pain 19).
    RebootsUnmirrored,
}

/// Every mutation with its name.
const NAMES: [(Mutation, &str); 13] = [
    (Mutation::NoLedger, "no ledger"),
    (Mutation::UnlimitedWhenUnset, "unlimited when unset"),
    (Mutation::CommandLineMode, "command line instead of effective mode"),
    (Mutation::LostCompareAndSwap, "lost compare-and-swap"),
    (Mutation::PrefixOnlyDrain, "prefix-only drain"),
    (Mutation::TakesOthersCordon, "takes others' cordons for its own"),
    (Mutation::ForgetsCordon, "forgets its own cordon"),
    (Mutation::RebootsUndrained, "reboots undrained"),
    (Mutation::HeldDevicesVanish, "held devices vanish"),
    (Mutation::WritesUnread, "writes what is so already"),
    (Mutation::NobodySweeps, "nobody sweeps"),
    (Mutation::CutsLifelines, "cuts lifelines"),
    (Mutation::RebootsUnmirrored, "reboots before the API knows"),
];

impl Mutation {
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(mutation, _)| *mutation)
    }

    /// Words of the invariant that is there to see it, one of them. A run that fails otherwise shows what follows from the
    /// bug, and not that the invariant can see.
    pub fn caught_by(self) -> &'static [&'static str] {
        match self {
            Self::NoLedger => &["was rebooted "],
            Self::UnlimitedWhenUnset => &["granted "],
            // The daemon never comes to rest, or the node never to its mode.
            Self::CommandLineMode => &[" is in mode ", " times within a minute"],
            Self::LostCompareAndSwap => &["granted ", "forgets the grant of "],
            // What the drain did not see is seen before the first change: the node waits for ever, and does not say why.
            Self::PrefixOnlyDrain | Self::NobodySweeps => &[" VFs and not "],
            Self::TakesOthersCordon => &["is no longer cordoned, and it was not ours to undo"],
            Self::ForgetsCordon => &["is left cordoned"],
            Self::RebootsUndrained => &["is rebooted under pod "],
            Self::HeldDevicesVanish => &["and nobody changed the policy"],
            Self::WritesUnread => &[" times within a minute"],
            Self::CutsLifelines => &["whose carrier changed "],
            Self::RebootsUnmirrored => &["asks for a reboot before the API has booked it"],
        }
    }

    /// The mutation of this name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, other)| *other == name).map(|(mutation, _)| *mutation)
    }

    /// What a watch brings to a process; on a node, this is its boot.
    pub(super) fn hear(self, boot: Option<&str>, news: &mut News) {
        match news {
            News::Listed(objects) => {
                objects.iter_mut().for_each(|object| self.show(boot, Arc::make_mut(object)));
            }
            News::Events(events) => {
                let objects = events.iter_mut().map(|event| Arc::make_mut(&mut event.object));
                objects.for_each(|object| self.show(boot, object));
            }
        }
    }

    /// What the API answers to a write holds the object too.
    pub(super) fn answer(self, boot: Option<&str>, sent: &Write, answer: &mut Answer) {
        let Answer::Done(object) = answer else { return };
        self.show(boot, object);
        if let (Self::RebootsUnmirrored, Some(booked)) = (self, booked_by(sent)) {
            object["status"]["reboots"] = booked.clone();
        }
    }

    fn show(self, boot: Option<&str>, object: &mut Value) {
        // Items of a list carry no kind, so the object is told by what only its kind has.
        let operator = boot.is_none();
        match self {
            Self::NoLedger => {
                if let (Some(boot), Some(records)) = (boot, object.pointer_mut("/status/reboots")) {
                    forget(records, boot);
                }
            }
            Self::UnlimitedWhenUnset if operator && has_no_limit(object) => {
                object["spec"]["maxUnavailable"] = json!("100%");
            }
            Self::PrefixOnlyDrain if operator => hide_holders(object),
            Self::TakesOthersCordon if operator => {
                let ours = annotations(object, annotation::CORDONED_BY_US).is_some();
                let spec = object.get_mut("spec").and_then(Value::as_object_mut);
                if let Some(spec) = spec.filter(|_| !ours) {
                    spec.remove("unschedulable");
                }
            }
            Self::ForgetsCordon if operator => {
                let all =
                    object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
                all.and_then(|all| all.remove(annotation::CORDONED_BY_US));
            }
            // Where nothing is asked for, a drain that is complete would be one that is being undone.
            Self::RebootsUndrained if !operator && asks_for_a_drain(object) => {
                object["metadata"]["annotations"][annotation::CURRENT_STATE] =
                    annotation::DRAIN_COMPLETE.into();
            }
            Self::WritesUnread if !operator && is_state(object) => {
                if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
                    status.remove("interfaces");
                }
            }
            Self::CutsLifelines if !operator && is_state(object) => {
                let interfaces = object.pointer_mut("/spec/interfaces");
                let interfaces = interfaces.and_then(Value::as_array_mut).into_iter().flatten();
                interfaces.for_each(|interface| interface["allowLifeline"] = true.into());
            }
            _ => {}
        }
    }

    /// What becomes of a write, at an API that holds these objects.
    pub(super) fn write(self, write: &mut Write, store: &Store) {
        if let Write::Apply { object, .. } = write
            && self == Self::RebootsUnmirrored
            && let Some(status) = object.get_mut("status").and_then(Value::as_object_mut)
        {
            status.remove("reboots");
        }
        // An update of a custom resource without a version is refused: whoever compares nothing sends the newest.
        let Write::Update { object, .. } = write else { return };
        if self == Self::LostCompareAndSwap
            && let Some(newest) = store.object(&ObjectKey::of(object))
        {
            object["metadata"]["resourceVersion"] = newest["metadata"]["resourceVersion"].clone();
        }
    }

    /// The machine as a daemon's step is to find it. Answers the mode that it has in truth.
    pub(super) fn before_step(self, machine: &mut Machine) -> Option<RdmaMode> {
        match self {
            Self::NoLedger => {
                let boot = machine.boot_id.clone();
                if let Some(file) = machine.files.get_mut(files::REBOOTS) {
                    let mut records: Value = serde_json::from_slice(file).unwrap_or_default();
                    forget(&mut records, &boot);
                    *file = records.to_string().into_bytes();
                }
                None
            }
            Self::CommandLineMode => {
                let truth = machine.rdma.mode?;
                machine.rdma.mode = Some(mode_of_command_line(machine));
                Some(truth)
            }
            _ => None,
        }
    }

    /// Ends the lie, unless the step has changed the mode.
    pub(super) fn after_step(self, machine: &mut Machine, truth: Option<RdmaMode>) {
        if truth.is_some() && machine.rdma.mode == Some(mode_of_command_line(machine)) {
            machine.rdma.mode = truth;
        }
    }

    /// What a plugin tells the kubelet.
    pub(super) fn list(self, lists: &mut DeviceLists, given: &[Given]) {
        if self != Self::HeldDevicesVanish {
            return;
        }
        let held: BTreeSet<&String> = given.iter().flat_map(|given| &given.ids).collect();
        for devices in lists.iter_mut().filter_map(|(_, devices)| devices.as_mut()) {
            devices.retain(|device| !held.contains(&device.id));
        }
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(mutation, _)| mutation == self).map(|(_, name)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// The reboots that a write of a status would book.
fn booked_by(write: &Write) -> Option<&Value> {
    let Write::Apply { object, .. } = write else { return None };
    object.pointer("/status/reboots")
}

/// Leaves of a ledger what was asked for in this boot.
fn forget(records: &mut Value, boot: &str) {
    if let Some(records) = records.as_array_mut() {
        records.retain(|record| text(record, "/bootIdBefore") == boot);
    }
}

/// A pool that asks for a mode and does not say how many nodes at a time.
fn has_no_limit(object: &Value) -> bool {
    let limit = object.pointer("/spec/maxUnavailable");
    object.pointer("/spec/rdmaMode").is_some() && limit.is_none_or(Value::is_null)
}

fn is_state(object: &Value) -> bool {
    annotations(object, annotation::CURRENT_STATE).is_some()
        || text(object, "/kind") == names::NODE_STATE
}

fn asks_for_a_drain(object: &Value) -> bool {
    let asked = annotations(object, annotation::DESIRED_STATE);
    is_state(object) && asked.is_some_and(|asked| asked != annotation::IDLE)
}

fn annotations<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.pointer("/metadata/annotations")?.get(key)
}

/// The drain of upstream reads the requests of ordinary containers only.
fn hide_holders(object: &mut Value) {
    let is_hidden = |name: &str| name.starts_with(STAGED) || name.starts_with(AGENT);
    if is_hidden(objects::name(object)) {
        for list in ["/spec/containers", "/spec/initContainers"] {
            let containers = object.pointer_mut(list).and_then(Value::as_array_mut);
            containers.into_iter().flatten().for_each(|container| {
                container["resources"] = json!({});
            });
        }
    }
    if let Some(holders) = object.pointer_mut("/status/holders").and_then(Value::as_array_mut) {
        holders.retain(|holder| !is_hidden(text(holder, "/pod")));
    }
}

fn mode_of_command_line(machine: &Machine) -> RdmaMode {
    let words = machine.kernel_arguments.iter();
    let mut values = words.filter_map(|word| word.strip_prefix("ib_core.netns_mode="));
    match values.next_back() {
        Some("0") => RdmaMode::Exclusive,
        _ => RdmaMode::Shared,
    }
}
