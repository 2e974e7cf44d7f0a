//! The seam over the real kernel.
//!
//! The only module of ironrail with `unsafe`, each block with its reason. Nothing is decided here: every call is one or
//! a few system calls, and a refusal carries the kernel's errno and, where netlink says more, the kernel's words.
//! `root` is where the host's files are seen: `/`, or `/host` in a pod.

#![allow(unsafe_code)]

mod deadline;
mod files;
mod namespace;
mod network;
mod packet;
mod program;
mod socket;
mod wait;

use crate::seam::{
    Address, AddressChange, DEADLINE, DevlinkChange, DevlinkDevice, Host, Interest, Link,
    LinkChange, LinkQuery, Lock, Metadata, Namespace, Output, Program, RdmaChange, RdmaCount,
    RdmaDevice, RdmaPort, RdmaUser, Refusal, Route, RouteChange, Woken,
};
use crate::tried;
use crate::unfinished::{self, Unfinished};
use api::{PciAddress, RdmaMode, Timestamp};
use deadline::Deadlines;
use files::Root;
use namespace::Spaces;
use rustix::io::Errno;
use std::sync::Arc;
use std::time::Duration;

/// Why a call failed: the errno, and what the kernel added in words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    errno: Errno,
    note: String,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self { errno, note: String::new() }
    }
}

impl Failure {
    fn tried(self, tried: String) -> Refusal {
        Refusal { tried, errno: self.errno, note: self.note }
    }
}

/// The computer that this process runs on.
#[derive(Debug)]
pub struct LinuxHost {
    root: Arc<Root>,
    spaces: Arc<Spaces>,
    waiter: wait::Waiter,
    deadlines: Deadlines,
}

impl LinuxHost {
    /// The host whose root directory is mounted at `root`; its namespace is that of process 1.
    pub fn new(root: &str) -> Result<Self, Refusal> {
        Self::at_home(root, "/proc/1/ns/net")
    }

    /// As `new`, with another namespace in the place of the host's: what a test needs to leave the host in peace.
    pub fn at_home(root: &str, home: &str) -> Result<Self, Refusal> {
        let opened = Root::open(root);
        let opened =
            opened.map_err(|errno| Refusal::new(format!("open the root {root}"), errno))?;
        Ok(Self {
            root: Arc::new(opened),
            spaces: Arc::new(Spaces::new(home)),
            waiter: wait::Waiter::new(),
            deadlines: Deadlines::new(DEADLINE),
        })
    }

    /// The same host with another deadline for each question and each change.
    pub fn patient_for(mut self, patience: Duration) -> Self {
        self.deadlines.patience = patience;
        self
    }

    /// Function 0 of the card that the function is on; a VF is on the card of its PF.
    fn card_of(&self, function: &PciAddress) -> PciAddress {
        let physical = self.root.link_target(&function.file("physfn")).ok();
        let physical = physical.and_then(|link| link.rsplit('/').next()?.parse().ok());
        unfinished::card(&physical.unwrap_or(*function))
    }

    /// A question or a change in a namespace, on a thread that is waited for until the deadline and no longer: the kernel
    /// answers behind locks (RTNL, a card's devlink, the list of RDMA devices, a firmware's queue) that a change of anybody
    /// may hold for minutes. While one is late, what would wait behind it is refused at once.
    fn within<T: Send + 'static>(
        &self,
        card: Option<PciAddress>,
        tried: &str,
        space: &Namespace,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (root, spaces, space) =
            (Arc::clone(&self.root), Arc::clone(&self.spaces), space.clone());
        self.deadlines.change(card, tried, self.now(), move || spaces.within(&root, &space, work))
    }

    /// A question to the RDMA subsystem: asking loads its module, so it is asked only where it is there.
    fn ask_rdma<T: Send + 'static>(
        &self,
        tried: &str,
        space: &Namespace,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.root.has_rdma().map_err(|errno| Refusal::new(tried, errno))?;
        self.within(None, tried, space, work)
    }
}

impl Host for LinuxHost {
    fn read(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        // Most attributes answer from memory; a thread for each of them would cost more than the reading.
        if let Some(function) =
            unfinished::function_of(path, "").filter(|_| unfinished::waits(path))
        {
            let (root, file) = (Arc::clone(&self.root), path.to_owned());
            let card = Some(self.card_of(&function));
            let work = move || Ok(root.read(&file)?);
            return self.deadlines.change(card, &tried::read(path), self.now(), work);
        }
        self.root.read(path).map_err(|errno| Refusal::new(tried::read(path), errno))
    }

    fn write(&self, path: &str, content: &str) -> Result<(), Refusal> {
        let tried = tried::write(path, content);
        let Some(function) = unfinished::function_of(path, content) else {
            let written = self.root.write(path, content);
            return written.map_err(|errno| Refusal::new(tried, errno));
        };
        let (root, path, content) = (Arc::clone(&self.root), path.to_owned(), content.to_owned());
        let work = move || Ok(root.write(&path, &content)?);
        self.deadlines.change(Some(self.card_of(&function)), &tried, self.now(), work)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Refusal> {
        self.root.list(path).map_err(|errno| Refusal::new(tried::list(path), errno))
    }

    fn link_target(&self, path: &str) -> Result<String, Refusal> {
        let target = self.root.link_target(path);
        target.map_err(|errno| Refusal::new(tried::link_target(path), errno))
    }

    fn metadata(&self, path: &str) -> Result<Metadata, Refusal> {
        self.root.metadata(path).map_err(|errno| Refusal::new(tried::metadata(path), errno))
    }

    fn replace(&self, path: &str, content: &[u8], mode: u32) -> Result<(), Refusal> {
        let replaced = self.root.replace(path, content, mode);
        replaced.map_err(|errno| Refusal::new(tried::replace(path), errno))
    }

    fn append(&self, path: &str, content: &[u8]) -> Result<(), Refusal> {
        let appended = self.root.append(path, content);
        appended.map_err(|errno| Refusal::new(tried::append(path), errno))
    }

    fn remove(&self, path: &str) -> Result<(), Refusal> {
        self.root.remove(path).map_err(|errno| Refusal::new(tried::remove(path), errno))
    }

    fn lock(&self, path: &str, timeout: Duration) -> Result<Lock, Refusal> {
        self.root.lock(path, timeout).map_err(|errno| Refusal::new(tried::lock(path), errno))
    }

    fn links(&self, space: &Namespace, query: &LinkQuery) -> Result<Vec<Link>, Refusal> {
        let query = query.clone();
        self.within(None, &tried::links(space), space, move || network::links(&query))
    }

    fn change_link(&self, space: &Namespace, change: &LinkChange) -> Result<(), Refusal> {
        let target = match change {
            LinkChange::Move { to, .. } => Some(to),
            _ => None,
        };
        let tried = tried::change_link(space, change);
        let target = self.spaces.open_target(&self.root, target);
        let target = target.map_err(|errno| Refusal::new(tried.clone(), errno))?;
        let change = change.clone();
        let work = move || network::change_link(&change, target.as_ref());
        self.within(None, &tried, space, work)
    }

    fn addresses(&self, space: &Namespace, link: Option<u32>) -> Result<Vec<Address>, Refusal> {
        let tried = format!("list the addresses of {}", tried::in_words(space));
        self.within(None, &tried, space, move || network::addresses(link))
    }

    fn change_address(&self, space: &Namespace, change: &AddressChange) -> Result<(), Refusal> {
        let (verb, link, address, prefix) = match change {
            AddressChange::Add { link, address, prefix } => ("add", link, address, prefix),
            AddressChange::Remove { link, address, prefix } => ("remove", link, address, prefix),
        };
        let place = tried::in_words(space);
        let tried = format!("{verb} address {address}/{prefix} on link {link} in {place}");
        let change = change.clone();
        self.within(None, &tried, space, move || network::change_address(&change))
    }

    fn routes(&self, space: &Namespace) -> Result<Vec<Route>, Refusal> {
        let tried = format!("list the routes of {}", tried::in_words(space));
        self.within(None, &tried, space, network::routes)
    }

    fn change_route(&self, space: &Namespace, change: &RouteChange) -> Result<(), Refusal> {
        let (verb, route) = match change {
            RouteChange::Add(route) => ("add", route),
            RouteChange::Remove(route) => ("remove", route),
        };
        let ((destination, bits), place) = (route.destination, tried::in_words(space));
        let tried = format!("{verb} route {destination}/{bits} in {place}");
        let change = change.clone();
        self.within(None, &tried, space, move || network::change_route(&change))
    }

    fn send_frame(&self, space: &Namespace, link: u32, frame: &[u8]) -> Result<(), Refusal> {
        let place = tried::in_words(space);
        let tried = format!("send {} bytes out of link {link} in {place}", frame.len());
        let frame = frame.to_vec();
        self.within(None, &tried, space, move || Ok(packet::send(link, &frame)?))
    }

    fn set_sysctl(&self, space: &Namespace, name: &str, value: &str) -> Result<(), Refusal> {
        // `/proc/sys/net` is that of the namespace of whoever opens it.
        let path = format!("/proc/sys/{name}");
        let tried = format!("write {value} to {name} in {}", tried::in_words(space));
        let (root, value) = (Arc::clone(&self.root), value.to_owned());
        self.within(None, &tried, space, move || Ok(root.write(&path, &value)?))
    }

    fn devlink(&self, device: &PciAddress) -> Result<DevlinkDevice, Refusal> {
        // Devlink answers behind the lock that a change of the VFs holds.
        let (device, card) = (*device, Some(self.card_of(device)));
        let tried = format!("ask devlink about {device}");
        self.within(card, &tried, &Namespace::Host, move || network::devlink(&device))
    }

    fn change_devlink(&self, device: &PciAddress, change: &DevlinkChange) -> Result<(), Refusal> {
        let tried = format!("{} on {device} by devlink", tried::describe_devlink_change(change));
        let (device, change) = (*device, change.clone());
        let work = move || network::change_devlink(&device, &change);
        self.within(Some(self.card_of(&device)), &tried, &Namespace::Host, work)
    }

    fn rdma_mode(&self) -> Result<RdmaMode, Refusal> {
        self.ask_rdma("ask for the rdma mode", &Namespace::Host, network::rdma_mode)
    }

    fn rdma_devices(&self, space: &Namespace) -> Result<Vec<RdmaDevice>, Refusal> {
        let tried = format!("list the rdma devices of {}", tried::in_words(space));
        self.ask_rdma(&tried, space, network::rdma_devices)
    }

    fn rdma_ports(&self, space: &Namespace, device: u32) -> Result<Vec<RdmaPort>, Refusal> {
        let tried = tried::rdma_ports(space, device);
        self.ask_rdma(&tried, space, move || network::rdma_ports(device))
    }

    fn rdma_users(&self, space: &Namespace) -> Result<Vec<RdmaUser>, Refusal> {
        let tried = format!("list the users of rdma devices of {}", tried::in_words(space));
        self.ask_rdma(&tried, space, network::rdma_users)
    }

    fn rdma_counters(
        &self,
        space: &Namespace,
        device: u32,
        port: u32,
    ) -> Result<Vec<RdmaCount>, Refusal> {
        let tried = tried::rdma_counters(space, device, port);
        self.ask_rdma(&tried, space, move || network::rdma_counters(device, port))
    }

    fn rdma_resources(&self, space: &Namespace, device: u32) -> Result<Vec<RdmaCount>, Refusal> {
        let tried = tried::rdma_resources(space, device);
        self.ask_rdma(&tried, space, move || network::rdma_resources(device))
    }

    fn change_rdma(&self, space: &Namespace, change: &RdmaChange) -> Result<(), Refusal> {
        let target = match change {
            RdmaChange::Move { to, .. } => Some(to),
            _ => None,
        };
        let said = tried::describe_rdma_change(change);
        let tried = format!("{said} from {}", tried::in_words(space));
        let target =
            self.root.has_rdma().and_then(|()| self.spaces.open_target(&self.root, target));
        let target = target.map_err(|errno| Refusal::new(tried.clone(), errno))?;
        let change = change.clone();
        let work = move || network::change_rdma(&change, target.as_ref());
        self.within(None, &tried, space, work)
    }

    fn run(&self, program: &Program, arguments: &[&str], input: &[u8]) -> Result<Output, Refusal> {
        let ran = program::run(&self.root, program, arguments, input);
        ran.map_err(|errno| Refusal::new(tried::run(program, arguments), errno))
    }

    fn now(&self) -> Timestamp {
        // The one clock of the product's hands; everything above takes the time as an argument.
        #[allow(clippy::disallowed_methods)]
        Timestamp::now()
    }

    fn unfinished(&self) -> Vec<Unfinished> {
        self.deadlines.unfinished()
    }

    fn wait(&self, interests: &[Interest], timeout: Duration) -> Woken {
        self.waiter.wait(&self.root, &self.spaces, interests, timeout)
    }
}
