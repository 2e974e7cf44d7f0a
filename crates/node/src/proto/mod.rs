//! The gRPC of kubelet and container runtime as Rust, generated from `crates/node/proto`: committed, so that no build needs a generator.
//!
//! To make it again: protox compiles the files, tonic-prost-build writes with `btree_map(".")` (maps in order).

#[rustfmt::skip]
#[allow(clippy::all, unused_qualifications, reason = "generated")]
#[path = "runtime.v1.rs"]
pub mod runtime_v1;
#[rustfmt::skip]
#[allow(clippy::all, unused_qualifications, reason = "generated")]
pub mod v1;
#[rustfmt::skip]
#[allow(clippy::all, unused_qualifications, reason = "generated")]
pub mod v1beta1;
