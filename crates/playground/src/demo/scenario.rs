//! The stories that `ironrail demo` can tell, by name, and the cluster that each needs.

use crate::live;

/// A story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Guide,
    Shared,
}

impl Scenario {
    pub const ALL: [Self; 2] = [Self::Guide, Self::Shared];

    /// As users type it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guide => "guide",
            Self::Shared => "shared",
        }
    }

    /// One line for `--help`.
    pub fn about(self) -> &'static str {
        match self {
            Self::Guide => "the RDMA guide, from the pool to the pod with a device of its own",
            Self::Shared => "the guide in shared mode: no drain, no reboot, two pods on one node",
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
        }
    }

    /// What the story needs of the cluster besides its nodes.
    pub fn prepare(self, _options: &mut live::Options) {
        match self {
            Self::Guide | Self::Shared => {}
        }
    }
}
