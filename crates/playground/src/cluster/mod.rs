//! The cluster around ironrail: scheduler, workload controllers, kubelets, machines.
//!
//! Each part is a step function over the store's objects that returns writes; the tokio playground and the simulation
//! call the same ones. It is what a cluster does to us, no more: not a Kubernetes distribution.

pub mod applets;
pub mod cdi;
#[allow(clippy::module_inception, reason = "the cluster itself, as one value")]
pub mod cluster;
pub mod devices;
pub mod direct;
pub mod kubelet;
pub mod multus;
pub mod news;
pub mod objects;
pub mod power;
pub mod scheduler;
pub mod workloads;
