//! A host that adds up the time spent below the seam: what is left of a call is our own.
//!
//! Below the seam is the kernel's work, and with it our few lines that make a netlink message or open a file.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use api::{PciAddress, RdmaMode, Timestamp};
use host::seam::{
    Address, AddressChange, DevlinkChange, DevlinkDevice, Interest, Link, LinkChange, LinkQuery,
    Lock, Metadata, Output, Program, RdmaChange, RdmaCount, RdmaDevice, RdmaPort, RdmaUser, Route,
    RouteChange, Woken,
};
use host::unfinished::Unfinished;
use host::{Host, Namespace, Refusal};
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub struct Timed<'a> {
    inner: &'a dyn Host,
    below: Mutex<(Duration, u32)>,
}

impl<'a> Timed<'a> {
    pub fn new(inner: &'a dyn Host) -> Self {
        Self { inner, below: Mutex::default() }
    }

    /// Time below the seam, and how many primitives it was.
    pub fn below(&self) -> (Duration, u32) {
        *self.below.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn add<T>(&self, primitive: impl FnOnce(&dyn Host) -> T) -> T {
        let begun = Instant::now();
        let answer = primitive(self.inner);
        let mut below = self.below.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *below = (below.0 + begun.elapsed(), below.1 + 1);
        answer
    }
}

macro_rules! timed {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        impl Host for Timed<'_> {
            $(fn $name(&self, $($argument: $kind),*) -> $answer {
                self.add(|host| host.$name($($argument),*))
            })*
        }
    };
}

timed! {
    read(path: &str) -> Result<Vec<u8>, Refusal>;
    write(path: &str, content: &str) -> Result<(), Refusal>;
    list(path: &str) -> Result<Vec<String>, Refusal>;
    link_target(path: &str) -> Result<String, Refusal>;
    metadata(path: &str) -> Result<Metadata, Refusal>;
    replace(path: &str, content: &[u8], mode: u32) -> Result<(), Refusal>;
    append(path: &str, content: &[u8]) -> Result<(), Refusal>;
    remove(path: &str) -> Result<(), Refusal>;
    lock(path: &str, timeout: Duration) -> Result<Lock, Refusal>;
    unfinished() -> Vec<Unfinished>;
    links(space: &Namespace, query: &LinkQuery) -> Result<Vec<Link>, Refusal>;
    change_link(space: &Namespace, change: &LinkChange) -> Result<(), Refusal>;
    addresses(space: &Namespace, link: Option<u32>) -> Result<Vec<Address>, Refusal>;
    change_address(space: &Namespace, change: &AddressChange) -> Result<(), Refusal>;
    routes(space: &Namespace) -> Result<Vec<Route>, Refusal>;
    change_route(space: &Namespace, change: &RouteChange) -> Result<(), Refusal>;
    send_frame(space: &Namespace, link: u32, frame: &[u8]) -> Result<(), Refusal>;
    set_sysctl(space: &Namespace, name: &str, value: &str) -> Result<(), Refusal>;
    devlink(device: &PciAddress) -> Result<DevlinkDevice, Refusal>;
    change_devlink(device: &PciAddress, change: &DevlinkChange) -> Result<(), Refusal>;
    rdma_mode() -> Result<RdmaMode, Refusal>;
    rdma_devices(space: &Namespace) -> Result<Vec<RdmaDevice>, Refusal>;
    rdma_ports(space: &Namespace, device: u32) -> Result<Vec<RdmaPort>, Refusal>;
    rdma_users(space: &Namespace) -> Result<Vec<RdmaUser>, Refusal>;
    rdma_counters(space: &Namespace, device: u32, port: u32) -> Result<Vec<RdmaCount>, Refusal>;
    rdma_resources(space: &Namespace, device: u32) -> Result<Vec<RdmaCount>, Refusal>;
    change_rdma(space: &Namespace, change: &RdmaChange) -> Result<(), Refusal>;
    run(program: &Program, arguments: &[&str], input: &[u8]) -> Result<Output, Refusal>;
    now() -> Timestamp;
    wait(interests: &[Interest], timeout: Duration) -> Woken;
}
