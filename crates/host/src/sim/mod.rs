//! A simulated machine: plain data that answers and refuses as the kernel does.
//!
//! `Machine` is the whole state of one computer; `SimHost` is a handle on it that implements the seam from one
//! point of view. sysfs is computed from the machine when it is read, and a write is a request that may be refused
//! with the real errno. Each behaviour carries its witness: a kernel file and function, a lab case
//! (`spec/lab.md`), or the word `belief`. Nothing here knows what ironrail wants.

mod auxiliary;
mod boot;
mod build;
mod consistency;
mod devlink;
mod drivers;
mod fault;
mod files;
mod host;
mod host_local;
mod lag;
mod machine;
mod modules;
mod mstconfig;
mod net;
mod net_address;
mod net_vf;
mod network;
mod notes;
mod pci;
mod pod;
mod programs;
mod rdma;
mod remembered;
mod settle;
mod sysfs;
mod sysfs_net;
mod sysfs_pci;
mod sysfs_rdma;
mod sysfs_session;
#[cfg(test)]
mod tests;
mod vdpa;
mod write;

pub use build::Flavour;
pub use fault::Fault;
pub use host::SimHost;
pub use machine::{
    Broken, Firmware, Function, FunctionKind, HOST_NAMESPACE, Machine, NetDevice, NetNamespace,
    PhysicalPart, Process, RdmaDev, RdmaSubsystem, RebootRequest, VfState, VirtualPart,
};
pub use network::{HostNetwork, Sessions};
pub use pod::DeviceNode;
pub use remembered::MachineGuard;
