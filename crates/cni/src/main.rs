//! The binary that runtimes start as `sriov`, `ib-sriov` or `rdma`: carries environment and stdin to `cni::call`.

/// Placeholder.
fn main() {}
