//! What the story asks for beside the guide's mode and VFs, and whether it came to anything.
//!
//! A feature is drawn with the story and is no fault: nothing goes wrong by it. One that matters in no seed is not
//! proved by any, whatever faults strike, so the report counts both.

use super::run::Simulation;
use super::story;
use crate::cluster::objects::{items, text};
use api::nodestate::RDMA_RELOAD;
use api::wire::ObjectKey;
use api::{RdmaMode, annotation, names};
use host::sim::{FunctionKind, Machine};
use planner::Reason;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// `featureGates.rdmaModeReload`: the RDMA modules are reloaded where the mode would take a reboot.
    ModeReload,
    /// A card has room for fewer VFs than asked for until its firmware is told otherwise.
    Firmware,
    /// A node lives by the card that policies select.
    Lifeline,
    /// A node that no pool selects, and the policy does.
    NoPool,
    /// A node that its pool and the policy select no more.
    LeavesPool,
    /// A node that the policy selects no more.
    LeavesPolicy,
    /// A node that is not managed any more.
    LeavesManagement,
    /// The rollout pauses after its canaries, and a person lets it go on.
    Resume,
    /// A pod with a VF ends by itself and stays on its node, where an old kubelet lists it on.
    FinishedPod,
    /// A DaemonSet's pods ask for a VF each.
    DaemonSetHolds,
    /// A pool is paused by `maxUnavailable: 0`, until a person lets it go on.
    Frozen,
    /// A node is in two pools for a while.
    TwoPools,
    /// What others disturb counts against the limit.
    CountsUnavailable,
    /// `disableDrain`, until a person takes it back.
    NoDrains,
}

const NAMES: [(Feature, &str); 14] = [
    (Feature::ModeReload, "reload of the modules"),
    (Feature::Firmware, "firmware raised"),
    (Feature::Lifeline, "lifeline"),
    (Feature::NoPool, "node without a pool"),
    (Feature::LeavesPool, "node leaves its pool"),
    (Feature::LeavesPolicy, "node leaves the policy"),
    (Feature::LeavesManagement, "node leaves management"),
    (Feature::Resume, "resumed after canaries"),
    (Feature::FinishedPod, "pod that has finished"),
    (Feature::DaemonSetHolds, "DaemonSet with VFs"),
    (Feature::Frozen, "pool paused by its limit"),
    (Feature::TwoPools, "node in two pools"),
    (Feature::CountsUnavailable, "others' nodes counted"),
    (Feature::NoDrains, "drains switched off"),
];

impl Feature {
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(feature, _)| *feature)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(feature, _)| feature == self).map(|(_, name)| *name);
        f.pad(name.unwrap_or_default())
    }
}

impl Simulation {
    /// The features that the story drew, and whether each mattered.
    pub(super) fn features(&self) -> BTreeMap<Feature, bool> {
        let machine = |node: &str| {
            self.cluster.nodes.get(node).map(|slot| slot.kubelet.host.machine().clone())
        };
        let mut features = BTreeMap::new();
        if self.story.reloads {
            features.insert(Feature::ModeReload, self.has_reloaded());
        }
        if let Some(node) = &self.story.small_card {
            features.insert(Feature::Firmware, machine(node).is_some_and(|own| has_room(&own)));
        }
        if let Some(lives) = &self.story.lives {
            let key = ObjectKey::new(
                names::API_VERSION,
                names::NODE_STATE,
                names::NAMESPACE,
                &lives.node,
            );
            let state = self.store.object(&key);
            let both = machine(&lives.node).zip(state);
            let mattered = both.is_some_and(|(own, state)| lives.mattered(&own, state));
            features.insert(Feature::Lifeline, mattered);
        }
        if let Some(node) = &self.story.extras.without_pool {
            features.insert(Feature::NoPool, self.was_granted(node));
        }
        if self.story.extras.agents.is_some() {
            features.insert(Feature::DaemonSetHolds, self.agents_were_given);
        }
        let rollout = self.story.extras.rollout.as_ref();
        if rollout.is_some_and(|rollout| rollout["countUnavailable"] == true) {
            let used_up = self.somebody_waits(|because| because.contains(" used up "));
            features.insert(Feature::CountsUnavailable, used_up);
        }
        let told = self.story.acts.iter().filter_map(|step| step.feature);
        features.extend(told.map(|feature| (feature, self.felt.contains(&feature))));
        features
    }

    /// A pool says of one of its nodes that it waits, with such a sentence.
    fn somebody_waits(&self, because: impl Fn(&str) -> bool) -> bool {
        let pools = self.store.objects(names::API_VERSION, names::POOL);
        let mut waiting = pools.flat_map(|pool| items(pool, "/status/waiting"));
        waiting.any(|one| because(text(one, "/because")))
    }

    /// A drain was begun on the node under a grant.
    fn was_granted(&self, node: &str) -> bool {
        let key = ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, node);
        let state =
            self.store.object(&key).and_then(|state| state.pointer("/metadata/annotations"));
        state.is_some_and(|all| all.get(annotation::GRANT).is_some())
    }

    /// Whether what a user does now for this feature meets what it is for.
    pub(super) fn meets(&self, feature: Feature) -> bool {
        let leaver = self.story.extras.leaver.as_ref();
        let slot = leaver.and_then(|leaver| self.cluster.nodes.get(&leaver.node));
        let has = |test: fn(&Machine) -> bool| {
            slot.is_some_and(|slot| test(&slot.kubelet.host.machine()))
        };
        let has_vfs = |machine: &Machine| {
            machine.functions.values().any(|one| matches!(one.kind, FunctionKind::Virtual(_)))
        };
        match feature {
            Feature::LeavesPool => has(|machine| machine.rdma.mode == Some(RdmaMode::Exclusive)),
            Feature::LeavesPolicy | Feature::LeavesManagement => has(has_vfs),
            Feature::Resume => {
                let mut pools = self.store.objects(names::API_VERSION, names::POOL);
                pools.any(|pool| text(pool, "/status/rollout/phase") == planner::rollout::PAUSED)
            }
            Feature::FinishedPod => self.cluster.nodes.values().any(|slot| {
                slot.kubelet.devices.given().iter().any(|given| given.pod == story::BATCH)
            }),
            Feature::Frozen => self.somebody_waits(|because| because.contains("is paused by")),
            // A pod that holds a device keeps its node waiting, or a node was changed without a turn.
            Feature::NoDrains => {
                let mut states = self.store.objects(names::API_VERSION, names::NODE_STATE);
                let off = |c: &Value| text(c, "/reason") == Reason::DrainDisabled.as_str();
                let changed = |machine: &Machine| {
                    machine.rdma.mode == Some(RdmaMode::Exclusive) || has_vfs(machine)
                };
                let mut nodes = self.cluster.nodes.values();
                nodes.any(|slot| changed(&slot.kubelet.host.machine()))
                    || states.any(|state| items(state, "/status/conditions").iter().any(off))
            }
            Feature::TwoPools => {
                self.somebody_waits(|because| because.contains("it is in 2 pools"))
            }
            Feature::ModeReload
            | Feature::CountsUnavailable
            | Feature::Firmware
            | Feature::Lifeline
            | Feature::NoPool
            | Feature::DaemonSetHolds => false,
        }
    }

    /// A node says that it has reloaded its modules, or tried.
    fn has_reloaded(&self) -> bool {
        let mut states = self.store.objects(names::API_VERSION, names::NODE_STATE);
        states.any(|state| {
            items(state, "/status/reboots").iter().any(|r| text(r, "/reason") == RDMA_RELOAD)
        })
    }
}

/// The card with the policy's PF has room for more VFs than it came with.
fn has_room(machine: &Machine) -> bool {
    machine.functions.iter().filter(|(pci, _)| pci.bus == 0x03).any(|(_, function)| {
        matches!(&function.kind, FunctionKind::Physical(part) if part.total_vfs > 2)
    })
}
