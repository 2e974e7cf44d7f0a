//! How long a look at a large node takes: 16 PFs with 128 VFs each, their sysfs as files on a disk. Numbers for people.
//!
//! `host::linux` reads a tree laid out as sysfs has it; what netlink would tell of the interfaces is data, and the rest
//! comes from a small simulated machine. A real sysfs makes each file's content anew, which takes longer than reading one.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark may panic, and reads the clock"
)]

use api::{PciAddress, RdmaMode, Timestamp};
use host::linux::LinuxHost;
use host::seam::{
    Address, AddressChange, DevlinkChange, DevlinkDevice, Interest, Link, LinkChange, LinkQuery,
    Lock, Metadata, Output, Program, RdmaChange, RdmaCount, RdmaDevice, RdmaPort, RdmaUser, Route,
    RouteChange, VfLink, Woken,
};
use host::sim::{Flavour, Machine, SimHost};
use host::unfinished::Unfinished;
use host::{Host, Namespace, Refusal};
use node::observe::observe;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

const CARDS: u8 = 16;
const VFS: u32 = 128;
const ROUNDS: u32 = 5;

/// Files from a disk, interfaces as data, everything else from the simulated machine.
struct Recorded {
    disk: LinuxHost,
    machine: SimHost,
    links: Vec<Link>,
}

macro_rules! forward {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty: $to:ident;)*) => {
        impl Host for Recorded {
            fn links(&self, _: &Namespace, _: &LinkQuery) -> Result<Vec<Link>, Refusal> {
                Ok(self.links.clone())
            }

            $(fn $name(&self, $($argument: $kind),*) -> $answer { self.$to.$name($($argument),*) })*
        }
    };
}

forward! {
    read(path: &str) -> Result<Vec<u8>, Refusal>: disk;
    write(path: &str, content: &str) -> Result<(), Refusal>: disk;
    list(path: &str) -> Result<Vec<String>, Refusal>: disk;
    link_target(path: &str) -> Result<String, Refusal>: disk;
    metadata(path: &str) -> Result<Metadata, Refusal>: disk;
    replace(path: &str, content: &[u8], mode: u32) -> Result<(), Refusal>: disk;
    append(path: &str, content: &[u8]) -> Result<(), Refusal>: disk;
    remove(path: &str) -> Result<(), Refusal>: disk;
    lock(path: &str, timeout: Duration) -> Result<Lock, Refusal>: disk;
    unfinished() -> Vec<Unfinished>: disk;
    change_link(space: &Namespace, change: &LinkChange) -> Result<(), Refusal>: machine;
    addresses(space: &Namespace, link: Option<u32>) -> Result<Vec<Address>, Refusal>: machine;
    change_address(space: &Namespace, change: &AddressChange) -> Result<(), Refusal>: machine;
    routes(space: &Namespace) -> Result<Vec<Route>, Refusal>: machine;
    change_route(space: &Namespace, change: &RouteChange) -> Result<(), Refusal>: machine;
    send_frame(space: &Namespace, link: u32, frame: &[u8]) -> Result<(), Refusal>: machine;
    set_sysctl(space: &Namespace, name: &str, value: &str) -> Result<(), Refusal>: machine;
    devlink(device: &PciAddress) -> Result<DevlinkDevice, Refusal>: machine;
    change_devlink(device: &PciAddress, change: &DevlinkChange) -> Result<(), Refusal>: machine;
    rdma_mode() -> Result<RdmaMode, Refusal>: machine;
    rdma_devices(space: &Namespace) -> Result<Vec<RdmaDevice>, Refusal>: machine;
    rdma_ports(space: &Namespace, device: u32) -> Result<Vec<RdmaPort>, Refusal>: machine;
    rdma_users(space: &Namespace) -> Result<Vec<RdmaUser>, Refusal>: machine;
    rdma_counters(space: &Namespace, device: u32, port: u32) -> Result<Vec<RdmaCount>, Refusal>: machine;
    rdma_resources(space: &Namespace, device: u32) -> Result<Vec<RdmaCount>, Refusal>: machine;
    change_rdma(space: &Namespace, change: &RdmaChange) -> Result<(), Refusal>: machine;
    run(program: &Program, arguments: &[&str], input: &[u8]) -> Result<Output, Refusal>: machine;
    now() -> Timestamp: machine;
    wait(interests: &[Interest], timeout: Duration) -> Woken: machine;
}

fn pf(card: u8) -> PciAddress {
    PciAddress { domain: 0, bus: 0x10 + card, device: 0, function: 0 }
}

fn vf(card: u8, index: u32) -> PciAddress {
    let index = u8::try_from(index).unwrap();
    PciAddress { device: 1 + index / 8, function: index % 8, ..pf(card) }
}

/// A function in its place below `sys/devices`, with its link in the bus's directory.
fn function(root: &Path, pci: &PciAddress, files: &[(&str, String)], links: &[(String, String)]) {
    let place = format!("pci0000:00/0000:00:{:02x}.0/{pci}", pci.bus);
    let directory = root.join("sys/devices").join(&place);
    std::fs::create_dir_all(directory.join("infiniband/mlx5_0")).unwrap();
    let common = [("class", "0x020000"), ("vendor", "0x15b3"), ("numa_node", "0")];
    for (name, content) in
        common.map(|(name, content)| (name, content.to_owned())).iter().chain(files)
    {
        std::fs::write(directory.join(name), format!("{content}\n")).unwrap();
    }
    let group = (String::from("iommu_group"), "../../../../kernel/iommu_groups/7".to_owned());
    let driver = (String::from("driver"), "../../../../bus/pci/drivers/mlx5_core".to_owned());
    for (name, target) in [group, driver].iter().chain(links) {
        symlink(target, directory.join(name)).unwrap();
    }
    let bus = root.join("sys/bus/pci/devices");
    symlink(format!("../../../devices/{place}"), bus.join(pci.to_string())).unwrap();
}

/// The PF and its VFs on the disk, and their interfaces as netlink tells them.
fn card(root: &Path, card: u8) -> Vec<Link> {
    let pci = pf(card);
    let own = [
        ("device", "0x1021"),
        ("sriov_totalvfs", "128"),
        ("sriov_numvfs", "128"),
        ("sriov_vf_device", "101e"),
    ];
    let own = own.map(|(name, content)| (name, content.to_owned()));
    let virtual_functions = (0..VFS).map(|i| (format!("virtfn{i}"), format!("../{}", vf(card, i))));
    function(root, &pci, &own, &virtual_functions.collect::<Vec<_>>());
    let name = format!("enp{}s0", pci.bus);
    let netdev = root.join("sys/class/net").join(&name);
    std::fs::create_dir_all(&netdev).unwrap();
    std::fs::write(netdev.join("speed"), "400000\n").unwrap();
    let through_pf = |index| VfLink { index, mac: vec![2; 6], ..VfLink::default() };
    let uplink = Link { vfs: (0..VFS).map(through_pf).collect(), ..link(&pci, name) };
    let mut links = vec![uplink];
    for index in 0..VFS {
        let address = vf(card, index);
        let physical = [("physfn".to_owned(), format!("../{pci}"))];
        function(root, &address, &[("device", "0x101e".to_owned())], &physical);
        links.push(link(&address, format!("enp{}s0v{index}", pci.bus)));
    }
    links
}

fn link(pci: &PciAddress, name: String) -> Link {
    let parent = Some(pci.to_string());
    Link { name, parent, hardware: 1, mtu: 1500, address: vec![2; 6], ..Link::default() }
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir_all(root.join("sys/bus/pci/devices")).unwrap();
    let links = (0..CARDS).flat_map(|number| card(root, number)).collect();
    std::fs::create_dir_all(root.join("proc/sys/kernel/random")).unwrap();
    std::fs::write(root.join("proc/sys/kernel/random/boot_id"), "boot\n").unwrap();
    std::fs::create_dir_all(root.join("proc/1/ns")).unwrap();
    std::fs::write(root.join("proc/1/ns/net"), "").unwrap();
    let disk = LinuxHost::new(root.to_str().unwrap()).unwrap();
    let machine = Machine::small_worker("worker-0", Flavour::Rhel, Timestamp::UNIX_EPOCH);
    let host = Recorded { disk, machine: SimHost::new(machine), links };
    let mut best = Duration::MAX;
    let mut found = (0, 0);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let inventory = observe(&host, Vec::new()).unwrap();
        best = best.min(begun.elapsed());
        let functions = &inventory.physical_functions;
        found = (functions.len(), functions.iter().map(|pf| pf.vfs.len()).sum::<usize>());
    }
    println!(
        "{} PFs with {} VFs seen in {best:.1?} (best of {ROUNDS}; sysfs from a disk, what netlink tells is data)",
        found.0, found.1
    );
}
