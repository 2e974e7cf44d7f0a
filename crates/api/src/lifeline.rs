//! What a host itself has over a network function: the connections that would be cut with the function's link.
//!
//! Facts, as the daemon found them. Which action cuts them, and whether that may be, is `planner::lifeline`'s.

use crate::{PciAddress, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One connection of the host's own over a network function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifeline {
    pub carries: Carries,
    /// The other end: `nfs4 from 10.0.0.5`; empty where there is nothing to add.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// When it went, where it is there no more and counts still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<Timestamp>,
    /// Interfaces from the function's own up to the one that the route names: `enp3s0f0`, `bond0`, `bond0.100`.
    pub over: Vec<String>,
}

/// The kinds of connection that a host cannot be without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Carries {
    DefaultRoute,
    /// The route to the API server that the kubelet talks to.
    ApiServer,
    /// A mounted network file system, the root's or any other.
    NetworkMount,
    IscsiSession,
    /// NVMe over fabrics.
    NvmeSession,
}

/// What a host lives by and lived by a moment ago, as the daemon keeps it in this boot (`files::LIFELINES`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    pub lifelines: BTreeMap<PciAddress, Kept<Vec<Lifeline>>>,
    /// Legs of active RoCE LAGs, with the bond's name.
    pub roce_lags: BTreeMap<PciAddress, Kept<String>>,
}

/// A fact, and since when it is none any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept<T> {
    pub what: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<Timestamp>,
}
