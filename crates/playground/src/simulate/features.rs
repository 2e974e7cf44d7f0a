//! What the story asks for beside the guide's mode and VFs, and whether it came to anything.
//!
//! A feature is drawn with the story and is no fault: nothing goes wrong by it. One that matters in no seed is not
//! proved by any, whatever faults strike, so the report counts both.

use super::run::Simulation;
use crate::cluster::objects::{items, text};
use api::names;
use api::nodestate::RDMA_RELOAD;
use api::wire::ObjectKey;
use host::sim::{FunctionKind, Machine};
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
}

impl Feature {
    pub fn all() -> [Self; 3] {
        [Self::ModeReload, Self::Firmware, Self::Lifeline]
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ModeReload => "reload of the modules",
            Self::Firmware => "firmware raised",
            Self::Lifeline => "lifeline",
        })
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
        features
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
