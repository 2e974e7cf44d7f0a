//! The hands: a low, narrow, synchronous seam over the kernel, and the operations written once over it.
//!
//! Nothing here chooses: what to do comes from `planner`, which this crate cannot see. No tokio, no Kubernetes.

pub mod cdi;
pub mod home;
pub mod journal;
pub mod linux;
pub mod netlink;
pub mod seam;
pub mod sim;
pub mod tried;
pub mod vf_profile;

pub use seam::{Host, Namespace, Refusal};
