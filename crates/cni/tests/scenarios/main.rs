//! The plugins over a simulated machine: calls in, answers and the state of the machine out, as text.

#![allow(clippy::unwrap_used)] // every function here is part of a test

mod bench;
mod cdi;
mod crash;
mod custody;
mod faults;
mod frame;
mod ib_sriov;
mod rdma;
mod sriov;
mod tampering;
