//! The wire: every Kubernetes object, name and file format that ironrail reads or writes, as plain data.
//!
//! No logic lives here: parsing of user intent is `planner`'s, touching the world is `host`'s and the shells'.
//! What a type accepts is what it can re-emit; a value that cannot be understood stays text until `planner` says why.

pub mod annotation;
pub mod condition;
pub mod crd;
pub mod custody;
pub mod files;
pub mod inventory;
pub mod journal;
pub mod label;
pub mod lifeline;
pub mod names;
pub mod network;
pub mod nodestate;
pub mod operatorconfig;
pub mod pci;
pub mod policy;
pub mod pool;
pub mod primitives;
pub mod wire;

pub use jiff::Timestamp;
pub use pci::PciAddress;
pub use primitives::{DeviceType, EswitchMode, LinkType, RdmaMode, VfRange};
