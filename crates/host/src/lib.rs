//! The hands: a low, narrow, synchronous seam over the kernel, and the operations written once over it.
//!
//! Nothing here chooses: what to do comes from `planner`, which this crate cannot see. No tokio, no Kubernetes.

mod alt_names;
pub mod autoprobe;
pub mod cdi;
pub mod crashing;
pub mod device_lock;
pub mod driver_bind;
pub mod eswitch;
pub mod facilities;
pub mod fields;
pub mod firmware;
pub mod function;
pub mod guid;
pub mod home;
pub mod journal;
pub mod kernel_argument;
pub mod leftovers;
pub mod lifeline;
pub mod link;
pub mod linux;
pub mod lockdown;
pub mod mounts;
pub mod netlink;
pub mod old_plugins;
pub mod processes;
pub mod program_error;
#[cfg(test)]
mod properties;
pub mod rdma_mode;
pub mod rdma_reload;
pub mod reboot;
pub mod seam;
pub mod sim;
#[cfg(test)]
mod testing;
pub mod tried;
pub mod unfinished;
pub mod uptime;
pub mod vf_count;
pub mod vf_profile;
pub mod vf_settings;

pub use seam::{Host, Namespace, Refusal};
