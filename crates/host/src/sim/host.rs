//! The handle on a machine: the seam, seen from the host or from inside a pod.

use super::files;
use super::machine::{HOST_NAMESPACE, Machine};
use super::notes::{in_space, journal_link, link_of, shown};
use super::pod::{DeviceNode, is_kernel_path, list_files, list_nodes, node_metadata};
use super::remembered::{MachineGuard, Remembered};
use crate::seam::{
    Address, AddressChange, DevlinkChange, DevlinkDevice, FileKind, Host, Interest, Link,
    LinkChange, LinkQuery, Lock, Metadata, Namespace, Output, Program, RdmaChange, RdmaCount,
    RdmaDevice, RdmaPort, RdmaUser, Refusal, Route, RouteChange, Woken, words,
};
use crate::tried;
use crate::unfinished::{self, Unfinished};
use api::{PciAddress, RdmaMode, Timestamp};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A handle on a machine. Clones of it are the same process: they share the time that was waited away.
#[derive(Clone)]
pub struct SimHost {
    shared: Arc<Shared>,
    view: View,
    /// Time that waits, held locks and slow changes took from this process.
    waited: Arc<Mutex<Duration>>,
}

struct Shared {
    machine: Mutex<Remembered>,
    locks: Mutex<BTreeSet<String>>,
    unlocked: Condvar,
    journal: Mutex<Vec<String>>,
    /// How many changes were ever tried.
    changes: AtomicU64,
    /// Processes are threads, so that a held lock can be given back while we wait for it.
    threaded: bool,
}

/// From where the machine is seen.
#[derive(Clone)]
enum View {
    Host,
    /// A container: the pod's network namespace, its own device nodes, its own files.
    Pod {
        namespace: u64,
        nodes: Vec<DeviceNode>,
        files: BTreeMap<String, Vec<u8>>,
    },
}

/// Entries of the journal beyond this many push out the oldest.
const JOURNAL: usize = 20_000;

impl SimHost {
    /// A handle for one thread: a lock that is held is never given back while we wait, so the wait ends at once and
    /// costs its timeout.
    pub fn new(machine: Machine) -> Self {
        Self::build(machine, false)
    }

    /// A handle for a machine whose processes are threads: waiting for a lock really waits.
    pub fn threaded(machine: Machine) -> Self {
        Self::build(machine, true)
    }

    fn build(machine: Machine, threaded: bool) -> Self {
        let shared = Shared {
            machine: Mutex::new(Remembered::new(machine)),
            locks: Mutex::default(),
            unlocked: Condvar::new(),
            journal: Mutex::default(),
            changes: AtomicU64::new(0),
            threaded,
        };
        Self { shared: Arc::new(shared), view: View::Host, waited: Arc::default() }
    }

    /// The same machine for another process of the host, with a count of waited time of its own.
    pub fn process(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), view: View::Host, waited: Arc::default() }
    }

    /// The machine as a container sees it: sysfs of that network namespace, and these device nodes alone. Ordinary
    /// files of the host are not there. `Namespace::Host` is the pod's own namespace.
    pub fn in_pod(&self, namespace: &Namespace, nodes: Vec<DeviceNode>) -> Result<Self, Refusal> {
        let inode = self.namespace(namespace).map_err(|errno| {
            Refusal::new(format!("enter {}", tried::in_words(namespace)), errno)
        })?;
        let view = View::Pod { namespace: inode, nodes, files: BTreeMap::new() };
        Ok(Self { shared: Arc::clone(&self.shared), view, waited: Arc::default() })
    }

    /// Adds a file that the container image or a mount brings.
    pub fn with_file(mut self, path: &str, content: &str) -> Self {
        if let View::Pod { files, .. } = &mut self.view {
            files.insert(path.to_owned(), content.as_bytes().to_vec());
        }
        self
    }

    /// The device node at a path of the host, as a runtime copies it into a container.
    pub fn device_node(&self, path: &str) -> Option<DeviceNode> {
        let found =
            self.metadata(path).ok().filter(|found| found.kind == FileKind::CharacterDevice)?;
        Some(DeviceNode { path: path.to_owned(), major: found.major, minor: found.minor })
    }

    /// The machine itself, to look at it or to change it from outside: cables, faults, pods, boots.
    pub fn machine(&self) -> MachineGuard<'_> {
        MachineGuard(held(&self.shared.machine))
    }

    /// A copy of the machine as it is now.
    pub fn snapshot(&self) -> Machine {
        self.machine().clone()
    }

    /// Takes the time that this process waited since the last call, so that a driver can charge it.
    pub fn take_waited(&self) -> Duration {
        std::mem::take(&mut held(&self.waited))
    }

    /// What was changed or tried to be changed on the machine, in order; a refusal with its errno in words.
    pub fn journal(&self) -> Vec<String> {
        held(&self.shared.journal).clone()
    }

    pub fn take_journal(&self) -> Vec<String> {
        std::mem::take(&mut held(&self.shared.journal))
    }

    /// How many changes of the machine were tried so far, refused ones included.
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Relaxed)
    }

    /// The namespace that a seam call means.
    fn namespace(&self, space: &Namespace) -> Result<u64, Errno> {
        match (space, &self.view) {
            (Namespace::Host, View::Host) => Ok(HOST_NAMESPACE),
            (Namespace::Host, View::Pod { namespace, .. }) => Ok(*namespace),
            (Namespace::At(path), _) => self.machine().namespace_at(path),
        }
    }

    fn own_namespace(&self) -> u64 {
        match &self.view {
            View::Host => HOST_NAMESPACE,
            View::Pod { namespace, .. } => *namespace,
        }
    }

    fn note(&self, entry: String, outcome: &Result<(), Errno>) {
        self.shared.changes.fetch_add(1, Ordering::Relaxed);
        let mut journal = held(&self.shared.journal);
        if journal.len() >= JOURNAL {
            journal.remove(0);
        }
        journal.push(match outcome {
            Ok(()) => entry,
            Err(errno) => format!("{entry}: {}", words(*errno)),
        });
    }

    /// Runs a change of the machine, notes it, and names it when it is refused.
    fn change(
        &self,
        tried: String,
        entry: String,
        change: impl FnOnce(&mut Machine) -> Result<(), Errno>,
    ) -> Result<(), Refusal> {
        let (outcome, took) = {
            let mut machine = self.machine();
            let before = machine.clock;
            (change(&mut machine), machine.clock.duration_since(before).unsigned_abs())
        };
        self.add_waited(took);
        self.note(entry, &outcome);
        outcome.map_err(|errno| Refusal::new(tried, errno))
    }

    /// Refuses what `linux` would not begin while a change of the same card is unfinished.
    fn bar(&self, path: &str, content: &str, tried: impl Fn() -> String) -> Result<(), Refusal> {
        let function = unfinished::function_of(path, content);
        let by = function.and_then(|function| self.machine().unfinished_on(&function));
        by.map_or(Ok(()), |by| Err(unfinished::barred(tried(), &by)))
    }

    fn pod_file(&self, path: &str) -> Option<Result<Vec<u8>, Errno>> {
        let View::Pod { files, .. } = &self.view else { return None };
        let path = files::plain(path);
        if is_kernel_path(&path) {
            return None;
        }
        Some(files.get(&path).cloned().ok_or(Errno::NOENT))
    }

    fn add_waited(&self, time: Duration) {
        *held(&self.waited) += time;
    }

    fn link_name(&self, space: u64, index: u32) -> String {
        let machine = self.machine();
        let named =
            machine.links.values().find(|link| link.namespace == space && link.index == index);
        named.map_or_else(|| format!("link {index}"), |link| link.name.clone())
    }
}

impl Host for SimHost {
    fn read(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        if unfinished::waits(path) {
            self.bar(path, "", || tried::read(path))?;
        }
        let content = match self.pod_file(path) {
            Some(content) => content,
            None => self.machine().read(self.own_namespace(), path),
        };
        content.map_err(|errno| Refusal::new(tried::read(path), errno))
    }

    fn write(&self, path: &str, content: &str) -> Result<(), Refusal> {
        let space = self.own_namespace();
        let entry = format!("{path} <- {}", shown(content));
        if matches!(self.view, View::Pod { .. })
            && !files::plain(path).starts_with("/proc/sys/net/")
        {
            // A container's sysfs and procfs are mounted read-only.
            return Err(Refusal::new(tried::write(path, content), Errno::ROFS));
        }
        self.bar(path, content, || tried::write(path, content))?;
        let written = self.change(tried::write(path, content), entry, |machine| {
            machine.write_path(space, path, content)
        });
        written.map_err(|refusal| match refusal.errno {
            Errno::TIMEDOUT => unfinished::past_deadline(refusal.tried),
            _ => refusal,
        })
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Refusal> {
        if let View::Pod { nodes, files, .. } = &self.view {
            let plain = files::plain(path);
            let own = match is_device_path(&plain) {
                true => Some(list_nodes(nodes, &plain)),
                false => (!is_kernel_path(&plain)).then(|| list_files(files, &plain)),
            };
            if let Some(names) = own {
                return names.map_err(|errno| Refusal::new(tried::list(path), errno));
            }
        }
        let names = self.machine().list(self.own_namespace(), path);
        names.map_err(|errno| Refusal::new(tried::list(path), errno))
    }

    fn link_target(&self, path: &str) -> Result<String, Refusal> {
        if self.pod_file(path).is_some() {
            return Err(Refusal::new(tried::link_target(path), Errno::INVAL));
        }
        let target = self.machine().link_target(self.own_namespace(), path);
        target.map_err(|errno| Refusal::new(tried::link_target(path), errno))
    }

    fn metadata(&self, path: &str) -> Result<Metadata, Refusal> {
        let refusal = |errno| Refusal::new(tried::metadata(path), errno);
        if let View::Pod { nodes, files, .. } = &self.view {
            let plain = files::plain(path);
            if is_device_path(&plain) {
                return node_metadata(nodes, &plain).map_err(refusal);
            }
            if !is_kernel_path(&plain) {
                let (kind, size) = match files.get(&plain) {
                    Some(content) => (FileKind::File, content.len()),
                    None => {
                        let listed = self.list(path).map_err(|_| refusal(Errno::NOENT))?;
                        (FileKind::Directory, listed.len())
                    }
                };
                let inode = super::pci::fnv(&plain);
                let size = size as u64;
                return Ok(Metadata { kind, size, device: 50, inode, major: 0, minor: 0 });
            }
        }
        self.machine().metadata(self.own_namespace(), path).map_err(refusal)
    }

    fn replace(&self, path: &str, content: &[u8], _mode: u32) -> Result<(), Refusal> {
        if matches!(self.view, View::Pod { .. }) {
            return Err(Refusal::new(tried::replace(path), Errno::ROFS));
        }
        let entry = format!("replace {path}: {}", shown(&String::from_utf8_lossy(content)));
        self.change(tried::replace(path), entry, |machine| machine.replace_path(path, content))
    }

    fn append(&self, path: &str, content: &[u8]) -> Result<(), Refusal> {
        if matches!(self.view, View::Pod { .. }) {
            return Err(Refusal::new(tried::append(path), Errno::ROFS));
        }
        let entry = format!("add to {path}: {}", shown(&String::from_utf8_lossy(content)));
        self.change(tried::append(path), entry, |machine| machine.append_path(path, content))
    }

    fn remove(&self, path: &str) -> Result<(), Refusal> {
        if matches!(self.view, View::Pod { .. }) {
            return Err(Refusal::new(tried::remove(path), Errno::ROFS));
        }
        self.change(tried::remove(path), format!("remove {path}"), |machine| {
            machine.remove_file(&files::plain(path))
        })
    }

    fn lock(&self, path: &str, timeout: Duration) -> Result<Lock, Refusal> {
        let plain = files::plain(path);
        let refusal = |errno| Refusal::new(tried::lock(path), errno);
        {
            let mut machine = self.machine();
            if machine.is_directory(&plain) {
                return Err(refusal(Errno::ISDIR));
            }
            if !machine.files.contains_key(&plain) {
                machine.replace_file(&plain, b"").map_err(refusal)?;
            }
        }
        let mut locks = held(&self.shared.locks);
        if locks.contains(&plain) && self.shared.threaded && !timeout.is_zero() {
            let waiting = self
                .shared
                .unlocked
                .wait_timeout_while(locks, timeout, |locks| locks.contains(&plain));
            locks = waiting.unwrap_or_else(PoisonError::into_inner).0;
        }
        if locks.contains(&plain) {
            if !self.shared.threaded {
                self.add_waited(timeout);
            }
            return Err(refusal(Errno::TIMEDOUT));
        }
        locks.insert(plain.clone());
        Ok(Lock::new(Unlock { shared: Arc::clone(&self.shared), path: plain }))
    }

    fn links(&self, space: &Namespace, query: &LinkQuery) -> Result<Vec<Link>, Refusal> {
        let found =
            self.namespace(space).and_then(|inode| self.machine().query_links(inode, query));
        found.map_err(|errno| Refusal::new(tried::links(space), errno))
    }

    fn change_link(&self, space: &Namespace, change: &LinkChange) -> Result<(), Refusal> {
        let tried = tried::change_link(space, change);
        let inode = self.namespace(space).map_err(|errno| Refusal::new(tried.clone(), errno))?;
        let target = match change {
            LinkChange::Move { to, .. } => {
                Some(self.namespace(to).map_err(|errno| Refusal::new(tried.clone(), errno))?)
            }
            _ => None,
        };
        let entry = journal_link(&self.link_name(inode, link_of(change)), space, change);
        self.change(tried, entry, |machine| match change {
            LinkChange::Up { link } => machine.set_link_up(inode, *link, true),
            LinkChange::Down { link } => machine.set_link_up(inode, *link, false),
            LinkChange::Promiscuous { link, on } => {
                machine.set_link_flag(inode, *link, |link| link.promiscuous = *on)
            }
            LinkChange::AllMulticast { link, on } => {
                machine.set_link_flag(inode, *link, |link| link.all_multicast = *on)
            }
            LinkChange::Mtu { link, mtu } => machine.set_link_mtu(inode, *link, *mtu),
            LinkChange::Rename { link, name } => machine.rename_link(inode, *link, name),
            LinkChange::Address { link, address } => {
                machine.set_link_address(inode, *link, address)
            }
            LinkChange::AddAltName { link, name } => machine.add_alt_name(inode, *link, name),
            LinkChange::RemoveAltName { link, name } => machine.remove_alt_name(inode, *link, name),
            LinkChange::Move { link, name, .. } => {
                machine.move_link(inode, *link, target.unwrap_or(inode), name.as_deref())
            }
            LinkChange::Vf { link, vf, setting } => machine.set_vf(inode, *link, *vf, setting),
        })
    }

    fn addresses(&self, space: &Namespace, link: Option<u32>) -> Result<Vec<Address>, Refusal> {
        let inode = self.namespace(space);
        inode.map(|inode| self.machine().query_addresses(inode, link)).map_err(|errno| {
            Refusal::new(format!("list the addresses of {}", tried::in_words(space)), errno)
        })
    }

    fn change_address(&self, space: &Namespace, change: &AddressChange) -> Result<(), Refusal> {
        let (verb, link, address, prefix) = match change {
            AddressChange::Add { link, address, prefix } => ("add", link, address, prefix),
            AddressChange::Remove { link, address, prefix } => ("remove", link, address, prefix),
        };
        let tried = format!(
            "{verb} address {address}/{prefix} on link {link} in {}",
            tried::in_words(space)
        );
        let inode = self.namespace(space).map_err(|errno| Refusal::new(tried.clone(), errno))?;
        let entry = format!(
            "{verb} address {address}/{prefix} on {}{}",
            self.link_name(inode, *link),
            in_space(space)
        );
        self.change(tried, entry, |machine| machine.change_address(inode, change))
    }

    fn routes(&self, space: &Namespace) -> Result<Vec<Route>, Refusal> {
        let inode = self.namespace(space);
        inode.map(|inode| self.machine().query_routes(inode)).map_err(|errno| {
            Refusal::new(format!("list the routes of {}", tried::in_words(space)), errno)
        })
    }

    fn change_route(&self, space: &Namespace, change: &RouteChange) -> Result<(), Refusal> {
        let (verb, route) = match change {
            RouteChange::Add(route) => ("add", route),
            RouteChange::Remove(route) => ("remove", route),
        };
        let (destination, bits) = route.destination;
        let tried = format!("{verb} route {destination}/{bits} in {}", tried::in_words(space));
        let inode = self.namespace(space).map_err(|errno| Refusal::new(tried.clone(), errno))?;
        let entry = format!("{verb} route {destination}/{bits}{}", in_space(space));
        self.change(tried, entry, |machine| machine.change_route(inode, change))
    }

    fn send_frame(&self, space: &Namespace, link: u32, frame: &[u8]) -> Result<(), Refusal> {
        let tried =
            format!("send {} bytes out of link {link} in {}", frame.len(), tried::in_words(space));
        let inode = self.namespace(space).map_err(|errno| Refusal::new(tried.clone(), errno))?;
        let outcome = self.machine().count_frame(inode, link);
        outcome.map_err(|errno| Refusal::new(tried, errno))
    }

    fn set_sysctl(&self, space: &Namespace, name: &str, value: &str) -> Result<(), Refusal> {
        let path = format!("/proc/sys/{name}");
        let tried = format!("write {value} to {name} in {}", tried::in_words(space));
        let inode = self.namespace(space).map_err(|errno| Refusal::new(tried.clone(), errno))?;
        let entry = format!("{path}{} <- {value}", in_space(space));
        self.change(tried, entry, |machine| machine.write_path(inode, &path, value))
    }

    fn devlink(&self, device: &PciAddress) -> Result<DevlinkDevice, Refusal> {
        if let Some(by) = self.machine().unfinished_on(device) {
            return Err(unfinished::barred(format!("ask devlink about {device}"), &by));
        }
        let machine = self.machine();
        let found = match machine.instead(&format!("devlink {device}")) {
            Some(Err(errno)) => Err(errno),
            _ => machine.query_devlink(device),
        };
        found.map_err(|errno| Refusal::new(format!("ask devlink about {device}"), errno))
    }

    fn change_devlink(&self, device: &PciAddress, change: &DevlinkChange) -> Result<(), Refusal> {
        let said = tried::describe_devlink_change(change);
        let tried = format!("{said} on {device} by devlink");
        if let Some(by) = self.machine().unfinished_on(device) {
            return Err(unfinished::barred(tried, &by));
        }
        self.change(tried, format!("devlink {device}: {said}"), |machine| {
            machine.change_devlink(device, change)
        })
    }

    fn rdma_mode(&self) -> Result<RdmaMode, Refusal> {
        let mode = self.machine().read_rdma_mode();
        mode.map_err(|errno| Refusal::new("ask for the rdma mode", errno))
    }

    fn rdma_devices(&self, space: &Namespace) -> Result<Vec<RdmaDevice>, Refusal> {
        let tried = || format!("list the rdma devices of {}", tried::in_words(space));
        let inode = self.namespace(space).map_err(|errno| Refusal::new(tried(), errno))?;
        let machine = self.machine();
        machine.read_rdma_mode().map_err(|errno| Refusal::new(tried(), errno))?;
        Ok(machine.rdma_devices_in(inode))
    }

    fn rdma_ports(&self, space: &Namespace, device: u32) -> Result<Vec<RdmaPort>, Refusal> {
        let refused = |errno| Refusal::new(tried::rdma_ports(space, device), errno);
        let inode = self.namespace(space).map_err(refused)?;
        let machine = self.machine();
        machine.read_rdma_mode().map_err(refused)?;
        Ok(machine.rdma_ports_in(inode, device))
    }

    fn rdma_users(&self, space: &Namespace) -> Result<Vec<RdmaUser>, Refusal> {
        let tried = || format!("list the users of rdma devices of {}", tried::in_words(space));
        let inode = self.namespace(space).map_err(|errno| Refusal::new(tried(), errno))?;
        let machine = self.machine();
        machine.read_rdma_mode().map_err(|errno| Refusal::new(tried(), errno))?;
        Ok(machine.rdma_users_in(inode))
    }

    fn rdma_counters(
        &self,
        space: &Namespace,
        device: u32,
        port: u32,
    ) -> Result<Vec<RdmaCount>, Refusal> {
        let refused = |errno| Refusal::new(tried::rdma_counters(space, device, port), errno);
        let inode = self.namespace(space).map_err(refused)?;
        let machine = self.machine();
        machine.read_rdma_mode().map_err(refused)?;
        Ok(machine.rdma_counters_of(inode, device, port))
    }

    fn rdma_resources(&self, space: &Namespace, device: u32) -> Result<Vec<RdmaCount>, Refusal> {
        let refused = |errno| Refusal::new(tried::rdma_resources(space, device), errno);
        let inode = self.namespace(space).map_err(refused)?;
        let machine = self.machine();
        machine.read_rdma_mode().map_err(refused)?;
        machine.rdma_resources_of(inode, device).map_err(refused)
    }

    fn change_rdma(&self, space: &Namespace, change: &RdmaChange) -> Result<(), Refusal> {
        let said = tried::describe_rdma_change(change);
        let tried = format!("{said} from {}", tried::in_words(space));
        let inode = self.namespace(space).map_err(|errno| Refusal::new(tried.clone(), errno))?;
        let target = match change {
            RdmaChange::Move { to, .. } => {
                self.namespace(to).map_err(|errno| Refusal::new(tried.clone(), errno))?
            }
            _ => inode,
        };
        let entry = {
            let machine = self.machine();
            let named = |device: &u32| {
                machine.rdma.devices.get(device).map_or("nothing".to_owned(), |d| d.name.clone())
            };
            match change {
                RdmaChange::Mode(mode) => format!("rdma mode <- {mode}"),
                RdmaChange::Move { device, to } => {
                    format!("move {}{} to {}", named(device), in_space(space), tried::in_words(to))
                }
                RdmaChange::Rename { device, name } => {
                    format!("rename rdma {} to {name}", named(device))
                }
            }
        };
        self.change(tried, entry, |machine| match change {
            RdmaChange::Mode(mode) => machine.set_rdma_mode(*mode),
            RdmaChange::Move { device, .. } => machine.move_rdma(inode, *device, target),
            RdmaChange::Rename { device, name } => machine.rename_rdma(inode, *device, name),
        })
    }

    fn run(&self, program: &Program, arguments: &[&str], input: &[u8]) -> Result<Output, Refusal> {
        let line = tried::run(program, arguments);
        let outcome = self.machine().run_program(program, arguments, input);
        let noted = outcome.as_ref().map(|_| ()).map_err(|errno| *errno);
        self.note(line.clone(), &noted);
        outcome.map_err(|errno| Refusal::new(line, errno))
    }

    fn unfinished(&self) -> Vec<Unfinished> {
        self.machine().unfinished()
    }

    fn now(&self) -> Timestamp {
        self.machine().clock
    }

    fn wait(&self, _interests: &[Interest], timeout: Duration) -> Woken {
        let mut machine = self.machine();
        let before = machine.clock;
        let deadline = before.saturating_add(timeout).unwrap_or(before);
        let woken = match machine.next_event().filter(|event| *event <= deadline) {
            Some(event) => {
                machine.advance_to(event);
                Woken::ByEvent
            }
            None => {
                machine.advance_to(deadline);
                Woken::ByTimeout
            }
        };
        let took = machine.clock.duration_since(before).unsigned_abs();
        drop(machine);
        self.add_waited(took);
        woken
    }
}

fn is_device_path(plain: &str) -> bool {
    plain == "/dev" || plain.starts_with("/dev/")
}

struct Unlock {
    shared: Arc<Shared>,
    path: String,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        held(&self.shared.locks).remove(&self.path);
        self.shared.unlocked.notify_all();
    }
}

/// A process that was killed in the middle leaves its machine as it was: a poisoned mutex is no reason to stop.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
