//! Time, and what the kernel does by itself: late VFs, namespaces that end.

use super::machine::{HOST_NAMESPACE, Machine, NetNamespace, PendingEvent, Process};
use super::{Fault, files};
use api::Timestamp;
use rustix::io::Errno;
use std::time::Duration;

impl Machine {
    /// Moves the clock forward, and does what was due.
    pub fn advance_to(&mut self, now: Timestamp) {
        let before = self.clock;
        self.clock = before.max(now);
        self.uptime += self.clock.duration_since(before).unsigned_abs();
        loop {
            let clock = self.clock;
            let Some(due) = self.pending.iter().position(|pending| pending.at <= clock) else {
                return;
            };
            match self.pending.remove(due).event {
                PendingEvent::VfsAppear { physical } => self.make_vfs(&physical),
                PendingEvent::InterfaceAppears { function } => self.make_netdev(&function),
                PendingEvent::VfsGo { physical, .. } => self.disable_vfs(&physical),
                PendingEvent::KubeletStarts => _ = self.units.insert("kubelet.service".to_owned()),
            }
        }
    }

    /// Sets the clock, also backwards as an administrator or NTP does, and does what is due by it.
    pub fn set_clock(&mut self, now: Timestamp) {
        self.clock = now;
        self.advance_to(now);
    }

    pub fn advance(&mut self, by: Duration) {
        self.advance_to(self.clock.saturating_add(by).unwrap_or(self.clock));
    }

    /// When the kernel does something next by itself.
    pub fn next_event(&self) -> Option<Timestamp> {
        self.pending.iter().map(|pending| pending.at).min()
    }

    /// Makes a network namespace that a path holds, as a container runtime does; EEXIST where the path is taken.
    pub fn create_namespace(&mut self, path: &str) -> Result<u64, Errno> {
        let path = files::plain(path);
        if self.namespace_paths.contains_key(&path) || self.files.contains_key(&path) {
            return Err(Errno::EXIST);
        }
        let inode = self.new_namespace();
        self.namespace_paths.insert(path, inode);
        Ok(inode)
    }

    /// Makes a network namespace that nothing holds yet: for a process.
    pub(super) fn new_namespace(&mut self) -> u64 {
        let inode = HOST_NAMESPACE + 1000 + self.next_serial();
        self.namespaces.insert(inode, NetNamespace::default());
        self.add_loopback(inode);
        inode
    }

    /// Takes the path away; the namespace ends when no process is in it.
    pub fn delete_namespace(&mut self, path: &str) -> Result<(), Errno> {
        self.namespace_paths.remove(&files::plain(path)).ok_or(Errno::NOENT)?;
        self.end_unheld_namespaces();
        Ok(())
    }

    /// Starts a process in the namespace at `path`, or in the host's with `None`; answers its number.
    pub fn start_process(&mut self, name: &str, namespace: Option<&str>) -> Result<u32, Errno> {
        let namespace = match namespace {
            Some(path) => *self.namespace_paths.get(&files::plain(path)).ok_or(Errno::NOENT)?,
            None => HOST_NAMESPACE,
        };
        Ok(self.add_process(name, namespace, format!("/system.slice/{name}.service")))
    }

    /// Starts the process that holds a pod's sandbox, in its namespace or in the host's; answers its number. The cgroup is
    /// called as the kubelet calls it where systemd manages them (pkg/kubelet/cm/cgroup_manager_linux.go, ToSystemd), and
    /// the scope as containerd does.
    pub fn start_sandbox(&mut self, uid: &str, namespace: Option<&str>) -> Result<u32, Errno> {
        let number = self.start_process("pause", namespace)?;
        let slice = format!("kubepods-besteffort-pod{}.slice", uid.replace('-', "_"));
        if let Some(process) = self.processes.get_mut(&number) {
            process.cgroup = format!(
                "/kubepods.slice/kubepods-besteffort.slice/{slice}/cri-containerd-{number}.scope"
            );
        }
        Ok(number)
    }

    fn add_process(&mut self, name: &str, namespace: u64, cgroup: String) -> u32 {
        let number = 1000 + self.next_serial() as u32;
        self.processes.insert(number, Process { name: name.to_owned(), namespace, cgroup });
        number
    }

    /// Starts a process with a network namespace of its own, as `unshare -n` does.
    pub fn start_process_in_new_namespace(&mut self, name: &str) -> u32 {
        let namespace = self.new_namespace();
        self.add_process(name, namespace, format!("/system.slice/{name}.service"))
    }

    pub fn end_process(&mut self, number: u32) {
        self.processes.remove(&number);
        self.end_unheld_namespaces();
    }

    /// A namespace that nobody holds ends, and gives its devices back to the host (net/core/net_namespace.c, cleanup_net).
    /// The kernel does it a moment later, on a thread of its own; here it is at once.
    fn end_unheld_namespaces(&mut self) {
        let unheld: Vec<u64> = self
            .namespaces
            .keys()
            .copied()
            .filter(|inode| *inode != HOST_NAMESPACE)
            .filter(|inode| !self.namespace_paths.values().any(|held| held == inode))
            .filter(|inode| !self.processes.values().any(|process| process.namespace == *inode))
            .collect();
        for inode in unheld {
            self.end_namespace(inode);
        }
    }

    fn end_namespace(&mut self, inode: u64) {
        // drivers/infiniband/core/device.c, rdma_dev_exit_net: devices go home under the name they have.
        let devices: Vec<u32> = self
            .rdma
            .devices
            .iter()
            .filter(|(_, device)| device.namespace == inode)
            .map(|(index, _)| *index)
            .collect();
        for device in devices {
            self.evict_rdma(device, HOST_NAMESPACE);
        }
        self.return_links(inode);
        self.namespaces.remove(&inode);
    }

    /// True when a machine is up; a fault may bring a service with a namespace of its own at every boot.
    pub(super) fn start_services(&mut self) {
        let (name, cgroup) = ("systemd".to_owned(), "/init.scope".to_owned());
        self.processes.insert(1, Process { name, namespace: HOST_NAMESPACE, cgroup });
        if self.has(Fault::ServiceWithPrivateNetwork) {
            self.start_process_in_new_namespace("systemd-private");
        }
    }
}
