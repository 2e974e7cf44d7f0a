//! The brain: policies and inventories in, plans and reasons out.
//!
//! Plain functions over plain data. There is no file, no socket, no clock, no environment and no async here, and
//! `clippy.toml` of this crate keeps it so: a plan can be wrong, but it cannot fail for lack of something outside.

pub mod action;
pub mod afterwards;
pub mod audit;
pub mod blocker;
pub mod conflicts;
pub mod deadline;
pub mod desired;
pub mod devices_config;
pub mod drain;
pub mod explain;
mod firmware;
pub mod functions;
mod guids;
pub mod inject;
mod json;
pub mod ledger;
pub mod lifeline;
pub mod live_switch;
pub mod machine_config;
pub mod merge;
pub mod order;
mod own_configuration;
pub mod policy;
pub mod pools;
pub mod profile;
mod rdma;
pub mod reason;
mod reboots;
pub mod reload;
pub mod render;
pub mod rollout;
pub mod select;
pub mod taint;
pub mod tested;
pub mod unseen;
mod waves;

pub use action::{Action, Disturbance, Lane, Step};
pub use blocker::Blocker;
pub use desired::Desired;
pub use order::{DrainRequest, Permission, Plan, Turn, plan};
pub use reason::{Problem, Reason};
