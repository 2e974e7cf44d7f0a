//! A Kubernetes API in memory with simulated nodes: for the demo, the tests, the simulation, and a user's own CI.
//!
//! It is not a Kubernetes distribution: it answers as the real API server does in what ironrail and kubectl use.

pub mod cluster;
pub mod demo;
pub mod http;
pub mod install;
pub mod live;
mod openshift;
pub mod simulate;
pub mod store;
