//! The closed choices of the field, as the kernel and the manifests spell them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The scope of RDMA devices on a node: `rdma system show` calls it `netns`.
///
/// Shared: every network namespace sees every RDMA device. Exclusive: a device belongs to one namespace
/// (kernel: `ib_core`, parameter `netns_mode`, 1 and 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RdmaMode {
    Shared,
    Exclusive,
}

impl fmt::Display for RdmaMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        })
    }
}

impl FromStr for RdmaMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "shared" => Ok(Self::Shared),
            "exclusive" => Ok(Self::Exclusive),
            other => Err(format!("{other:?} is not an RDMA mode; write shared or exclusive")),
        }
    }
}

/// The link layer of a port, as `NodeState.status.interfaces[].linkType` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LinkType {
    #[serde(rename = "ETH")]
    Ethernet,
    #[serde(rename = "IB")]
    Infiniband,
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "ETH",
            Self::Infiniband => "IB",
        })
    }
}

/// The mode of a card's embedded switch (kernel: `DEVLINK_ESWITCH_MODE_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EswitchMode {
    #[default]
    Legacy,
    Switchdev,
}

impl fmt::Display for EswitchMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy",
            Self::Switchdev => "switchdev",
        })
    }
}

/// The class of driver that a VF is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeviceType {
    /// The kernel's own driver for the function.
    #[default]
    #[serde(rename = "netdevice")]
    Netdevice,
    /// `vfio-pci`, for DPDK and virtual machines.
    #[serde(rename = "vfio-pci")]
    VfioPci,
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netdevice => "netdevice",
            Self::VfioPci => "vfio-pci",
        })
    }
}

/// VF indexes of one PF, both ends included: `0-3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VfRange {
    pub first: u32,
    pub last: u32,
}

impl VfRange {
    /// True when the index lies in the range.
    pub fn contains(&self, index: u32) -> bool {
        (self.first..=self.last).contains(&index)
    }

    /// True when the two ranges have an index in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for VfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for VfRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').ok_or_else(|| {
            format!("{text:?} is not a VF range; write first-last, for example 0-3")
        })?;
        if last.is_empty() {
            return Err(format!(
                "{text:?} has no end to its VF range; write first-last, for example 0-3"
            ));
        }
        let number = |part: &str| {
            part.parse::<u32>()
                .map_err(|_| format!("{part:?} in VF range {text:?} is not a VF index"))
        };
        let range = Self { first: number(first)?, last: number(last)? };
        if range.last < range.first {
            return Err(format!("VF range {text:?} ends before it starts"));
        }
        Ok(range)
    }
}

impl Serialize for VfRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VfRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A number or a percentage, as Kubernetes writes `IntOrString`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    Int(i64),
    String(String),
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::String(text) => text.fmt(f),
        }
    }
}
