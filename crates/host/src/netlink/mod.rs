//! The kernel's netlink families as pure codecs: bytes to the types of `seam.rs` and back. No socket, no file.
//!
//! Hostile or truncated bytes give a `Malformed`, never a panic. The codecs are ours, for three reasons: no crate speaks
//! RDMA netlink at all; we need a dozen operations of devlink and routing; and a reader that takes the attributes it
//! needs and steps over the rest cannot be blinded by one attribute that it does not understand. The tests compare our
//! routing messages with those of `netlink-packet-route`, a second opinion that is no part of the product.

pub mod address;
pub mod attribute;
pub mod devlink;
pub mod link;
pub mod message;
pub mod rdma;
pub mod route;
pub mod vf;

pub use message::{Body, Reply, Request};

/// Bytes that are no message of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);
