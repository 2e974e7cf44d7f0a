//! What a host itself has over a network function: the connections that would be cut with the function's link.
//!
//! Facts, as the daemon found them. Which action cuts them, and whether that may be, is `planner::lifeline`'s.

use serde::{Deserialize, Serialize};

/// One connection of the host's own over a network function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifeline {
    pub carries: Carries,
    /// The other end: `nfs4 from 10.0.0.5`; empty where there is nothing to add.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
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
