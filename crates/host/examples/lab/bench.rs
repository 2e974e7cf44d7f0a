//! What the lab's programs stand on: the kernel's namespaces as pods, and looks and changes in few words.

#![allow(dead_code)] // Each program uses its part.

use super::cases::Pods;
use super::report::Outcome;
use super::support::{Space, soft_rdma};
use api::{PciAddress, RdmaMode};
use host::home::interface_at_home;
use host::linux::LinuxHost;
use host::seam::{
    Host, Interest, Link, LinkQuery, Namespace, Output, Program, RdmaChange, RdmaDevice, Refusal,
    words,
};
use rustix::io::Errno;
use std::cell::RefCell;
use std::fmt::Debug;
use std::time::Duration;

pub type Done = Result<(), String>;

/// Runs one case under its name.
pub type Runner<'a> = &'a mut dyn FnMut(&str, &mut dyn FnMut() -> Outcome);

pub const HOME: Namespace = Namespace::Host;

/// Namespaces of the running kernel.
#[derive(Default)]
pub struct KernelPods {
    spaces: RefCell<Vec<Space>>,
}

impl Pods for KernelPods {
    fn start(&self) -> Namespace {
        let space = Space::new().unwrap();
        let namespace = space.namespace();
        self.spaces.borrow_mut().push(space);
        namespace
    }

    fn end(&self) {
        self.spaces.borrow_mut().clear();
    }

    fn rdma_devices(&self, functions: &[PciAddress]) {
        let host = LinuxHost::new("/").unwrap();
        functions.iter().for_each(|function| soft_device(&host, *function));
    }
}

/// What a card's own driver does: an RDMA device on a function, under the lowest free name.
pub fn soft_device(host: &LinuxHost, function: PciAddress) {
    for _ in 0..50 {
        if interface_at_home(host, &function).unwrap().is_some() {
            break;
        }
        host.wait(&[Interest::Link], Duration::from_millis(200));
    }
    let link = interface_at_home(host, &function).unwrap().unwrap();
    let taken: Vec<String> =
        host.rdma_devices(&HOME).unwrap().into_iter().map(|device| device.name).collect();
    let mut names = (0..).map(|number| format!("mlx5_{number}"));
    soft_rdma(&names.find(|name| !taken.contains(name)).unwrap(), "rxe", &link.name);
}

pub fn said<T>(what: &str, outcome: Result<T, Refusal>) -> Result<T, String> {
    outcome.map_err(|refusal| format!("{what}: {refusal}"))
}

pub fn refused<T: Debug>(what: &str, outcome: Result<T, Refusal>, errno: Errno) -> Done {
    match outcome {
        Err(refusal) if refusal.errno == errno => Ok(()),
        Err(refusal) => Err(format!("{what}: {refusal}, expected {}", words(errno))),
        Ok(value) => Err(format!("{what}: {value:?}, expected {}", words(errno))),
    }
}

pub fn read(host: &LinuxHost, path: &str) -> Result<String, String> {
    let content = said("read", host.read(path))?;
    Ok(String::from_utf8_lossy(&content).trim().to_owned())
}

/// The two ports of the machine: the first by address is the one on node 0.
pub fn cards(host: &LinuxHost) -> (PciAddress, PciAddress) {
    let names = host.list("/sys/bus/pci/drivers/igb").unwrap();
    let mut cards = names.iter().filter_map(|name| name.parse::<PciAddress>().ok());
    let mut next = || cards.next().unwrap();
    let (first, second) = (next(), next());
    match read(host, &first.file("numa_node")).as_deref() {
        Ok("0") => (first, second),
        _ => (second, first),
    }
}

pub fn netdev(host: &LinuxHost, device: PciAddress) -> Result<Link, String> {
    let links = said("list", host.links(&HOME, &LinkQuery::default()))?;
    let found = links.into_iter().find(|link| link.parent == Some(device.to_string()));
    found.ok_or_else(|| format!("{device} has no interface"))
}

pub fn vf(host: &LinuxHost, pf: PciAddress, index: u32) -> Result<PciAddress, String> {
    let target = said("link", host.link_target(&pf.file(&format!("virtfn{index}"))))?;
    target.rsplit('/').next().unwrap_or_default().parse().map_err(|error| format!("{error}"))
}

pub fn set_vfs(host: &LinuxHost, pf: PciAddress, count: &str) -> Done {
    said("vf count", host.write(&pf.file("sriov_numvfs"), count))
}

pub fn modprobe(host: &LinuxHost, arguments: &[&str]) -> Result<Output, String> {
    let output = said("modprobe", host.run(&Program::Modprobe, arguments, b""))?;
    match output.status {
        0 => Ok(output),
        status => Err(format!(
            "modprobe {arguments:?}: {status} {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Takes the RDMA core away, as no program does it at once (spec/lab.md, section 3: the order).
pub fn unload(host: &LinuxHost) -> Done {
    const ORDER: [&str; 10] = [
        "rdma_ucm",
        "rdma_cm",
        "ib_umad",
        "rdma_rxe",
        "iw_cm",
        "ib_cm",
        "ib_uverbs",
        "ib_uverbs_support",
        "mlx5_ib",
        "ib_core",
    ];
    for module in ORDER {
        if host.list(&format!("/sys/module/{module}/holders")).is_ok() {
            modprobe(host, &["-r", module])?;
        }
    }
    refused("ib_core", host.list("/sys/module/ib_core"), Errno::NOENT)
}

pub fn device(
    host: &LinuxHost,
    space: &Namespace,
    name: &str,
) -> Result<Option<RdmaDevice>, String> {
    let devices = said("devices", host.rdma_devices(space))?;
    Ok(devices.into_iter().find(|device| device.name == name))
}

/// Namespaces end in their own time after their last holder, so a switch right after may find one.
pub fn live_switch(host: &LinuxHost, mode: RdmaMode) -> Result<(), Refusal> {
    let mut outcome = host.change_rdma(&HOME, &RdmaChange::Mode(mode));
    for _ in 0..50 {
        if !matches!(&outcome, Err(refusal) if refusal.errno == Errno::BUSY) {
            break;
        }
        host.wait(&[], Duration::from_millis(100));
        outcome = host.change_rdma(&HOME, &RdmaChange::Mode(mode));
    }
    outcome
}
