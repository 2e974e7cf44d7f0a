//! The node side of ironrail: the daemon and the device plugin as step functions, and the shells around them.
//!
//! `observe` finds facts, `planner` judges, `apply` does one action, `daemon` is the order in which this happens.
//! Only the shells (`drive`, `device_plugin`, `around`, `pod_resources`, `process`) know tokio, sockets or a Kubernetes client.

pub mod apply;
mod around;
pub mod boot;
pub mod boot_units;
pub mod cdi;
pub mod checkpoint;
pub mod commit;
mod cordon;
pub mod custody;
pub mod daemon;
pub mod device_plugin;
mod directory;
#[cfg(feature = "cluster")]
pub mod drive;
mod failures;
pub mod fence;
pub mod give;
pub mod gpus;
pub mod holders;
#[cfg(feature = "cluster")]
mod http;
pub mod in_pods;
pub mod install;
pub mod kubelet;
pub mod lanes;
pub mod ledger;
#[cfg(feature = "cluster")]
mod leftovers;
mod lifelines;
mod live_switch;
pub mod nearness;
pub mod observe;
pub mod offer;
pub mod plugin;
pub mod pod_resources;
#[cfg(feature = "cluster")]
pub mod process;
pub mod programs;
pub mod proto;
mod reload;
pub mod sandboxes;
pub mod see;
pub mod status;
pub mod sweep;
pub mod wake;
pub mod world;
