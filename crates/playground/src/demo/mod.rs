//! The guide from start to finish, by a user who has only the API: four manifests as they stand in the guide's file, then
//! its commands. What a step calls ok is read from the world: RDMA netlink through `exec`, boot counters, node status.

mod guide;
mod report;
mod user;

pub use guide::{Options, run};
pub use report::Report;
pub use user::User;
