//! The node side of ironrail: the daemon and the device plugin as step functions, and the shells around them.
//!
//! `observe` finds facts, `planner` judges, `apply` does one action, `daemon` is the order in which this happens.
//! Only the shells (`drive`, `device_plugin`, `pod_resources`, `process`) know tokio, sockets or a Kubernetes client.

pub mod apply;
pub mod commit;
pub mod custody;
pub mod daemon;
pub mod facilities;
pub mod fence;
pub mod holders;
pub mod ledger;
pub mod observe;
pub mod offer;
pub mod plugin;
pub mod proto;
pub mod status;
pub mod world;
