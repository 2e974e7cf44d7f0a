//! The stories that `ironrail demo` can tell, by name, and the cluster that each needs.

use super::{firmware, reboot_did_not_help};
use crate::live;
use host::sim::{Fault, Machine};

/// A story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Guide,
    Shared,
    BlockedDrain,
    RebootDidNotHelp,
    Lifeline,
    CanaryHalt,
    Firmware,
}

impl Scenario {
    pub const ALL: [Self; 7] = [
        Self::Guide,
        Self::Shared,
        Self::BlockedDrain,
        Self::RebootDidNotHelp,
        Self::Lifeline,
        Self::CanaryHalt,
        Self::Firmware,
    ];

    /// As users type it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guide => "guide",
            Self::Shared => "shared",
            Self::BlockedDrain => "blocked-drain",
            Self::RebootDidNotHelp => "reboot-did-not-help",
            Self::Lifeline => "lifeline",
            Self::CanaryHalt => "canary-halt",
            Self::Firmware => "firmware",
        }
    }

    /// One line for `--help`.
    pub fn about(self) -> &'static str {
        match self {
            Self::Guide => "the RDMA guide, from the pool to the pod with a device of its own",
            Self::Shared => "the guide in shared mode: no drain, no reboot, two pods on one node",
            Self::BlockedDrain => "a disruption budget holds a drain back, and the pool says which",
            Self::RebootDidNotHelp => {
                "a reboot brings no new mode: said once, never repeated, and mended"
            }
            Self::Lifeline => "policies select the cards by which the nodes themselves are reached",
            Self::CanaryHalt => {
                "a canary comes back worse, and the rollout halts before it reaches the others"
            }
            Self::Firmware => {
                "cards as they are delivered: one reboot for firmware and mode, and one card that is deaf"
            }
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    /// The sentence at the end.
    pub fn verdict(self, worked: bool) -> &'static str {
        match (self, worked) {
            (Self::Guide, true) => "The guide works from start to finish",
            (Self::Guide, false) => "The guide did NOT work",
            (Self::Shared, true) => "The guide works in shared mode, without a drain or a reboot",
            (Self::Shared, false) => "The guide did NOT work in shared mode",
            (Self::BlockedDrain, true) => {
                "The budget was kept, and every node is in exclusive mode"
            }
            (Self::BlockedDrain, false) => "The story of the blocked drain did NOT end well",
            (Self::RebootDidNotHelp, true) => {
                "One reboot, one reason, and a mended node at its goal"
            }
            (Self::RebootDidNotHelp, false) => "The story of the reboot did NOT end well",
            (Self::Lifeline, true) => "No link went down but the one that a person allowed to",
            (Self::Lifeline, false) => "The story of the lifeline did NOT end well",
            (Self::CanaryHalt, true) => {
                "One canary found it out, and every node is in exclusive mode"
            }
            (Self::CanaryHalt, false) => "The story of the canary did NOT end well",
            (Self::Firmware, true) => {
                "One reboot for firmware and mode, and the card that did not follow is named"
            }
            (Self::Firmware, false) => "The story of the firmware did NOT end well",
        }
    }

    /// What the story needs of the cluster besides its nodes.
    pub fn prepare(self, options: &mut live::Options) {
        match self {
            Self::Guide | Self::Shared | Self::BlockedDrain => {}
            Self::Lifeline => options.bonded = true,
            Self::RebootDidNotHelp => {
                let faults = vec![Fault::IgnoresKernelArgument, Fault::IgnoresModprobeOption];
                options.faults.insert(reboot_did_not_help::NODE.to_owned(), faults);
            }
            Self::CanaryHalt => {
                let faults = vec![Fault::IgnoresKernelArgument, Fault::IgnoresModprobeOption];
                let nodes = (0..options.nodes).map(|number| format!("worker-{number}"));
                options.faults.extend(nodes.map(|name| (name, faults.clone())));
            }
            Self::Firmware => {
                options.machines.insert(firmware::NODE.to_owned(), Machine::firmware_worker);
            }
        }
    }
}
