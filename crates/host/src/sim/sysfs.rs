//! Paths of the kernel's own file systems: how they resolve, and the trees of `/sys` that are no device.
//!
//! Nothing is stored: each node is made from the machine when somebody looks. What a look shows depends on the
//! network namespace it is made from, as the class `net` and the class `infiniband` are tagged by it.

use super::Fault;
use super::drivers::DRIVERS;
use super::files;
use super::machine::{HOST_NAMESPACE, Machine};
use crate::seam::{FileKind, Metadata};
use api::{PciAddress, RdmaMode};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::time::Duration;

/// One entry of the kernel's file systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Directory(Vec<String>),
    /// A symbolic link, as it is written.
    Link(String),
    /// What a read answers.
    File(Result<String, Errno>),
    WriteOnly,
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    /// A network namespace (`/proc/<pid>/ns/net`).
    Namespace(u64),
}

impl Node {
    pub(super) fn text(text: impl Into<String>) -> Option<Self> {
        Some(Self::File(Ok(text.into())))
    }

    /// A value with the newline that sysfs adds.
    pub(super) fn line(value: impl std::fmt::Display) -> Option<Self> {
        Some(Self::File(Ok(format!("{value}\n"))))
    }

    pub(super) fn refusal(errno: Errno) -> Option<Self> {
        Some(Self::File(Err(errno)))
    }

    pub(super) fn directory<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Option<Self> {
        let sorted: BTreeSet<String> = names.into_iter().map(Into::into).collect();
        Some(Self::Directory(sorted.into_iter().collect()))
    }

    pub(super) fn link(target: impl Into<String>) -> Option<Self> {
        Some(Self::Link(target.into()))
    }
}

/// Directories that are always there and no links: nobody lists them who only passes through.
const FIXED: &[&[&str]] = &[
    &["sys", "bus", "pci", "devices"],
    &["sys", "bus", "pci", "drivers"],
    &["sys", "class", "net"],
    &["sys", "kernel"],
    &["sys", "module"],
    &["proc", "sys"],
    &["proc"],
    &["sys"],
];

/// Takes a fixed directory off the path still to walk, which is held in reverse; something of it is left.
fn fixed_start(todo: &mut Vec<String>) -> Vec<String> {
    let fits = |fixed: &&&[&str]| {
        todo.len() > fixed.len() && todo.iter().rev().zip(fixed.iter()).all(|(a, b)| a == b)
    };
    let length = FIXED.iter().find(fits).map_or(0, |fixed| fixed.len());
    let mut start = todo.split_off(todo.len() - length);
    start.reverse();
    start
}

/// Symbolic links followed before ELOOP (include/linux/namei.h, MAXSYMLINKS).
const LINKS: usize = 40;

impl Machine {
    /// Follows a path; answers where it ends, and the kernel's node there. A path of ordinary files has no node.
    fn resolve(
        &self,
        space: u64,
        path: &str,
        follow_last: bool,
    ) -> Result<(String, Option<Node>), Errno> {
        // What starts as a kernel's path and never goes up is one.
        if !kernel_path(path) || path.contains("..") {
            let plain = files::plain(path);
            if !kernel_path(&plain) {
                return Ok((plain, None));
            }
        }
        if let Some(node) = self.straight(space, path) {
            return Ok((path.to_owned(), Some(node)));
        }
        // `..` after a link means the directory that the link leads to, so the original path is walked.
        let mut todo: Vec<String> =
            path.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned).collect();
        // Nearly every path starts like this, so the link behind it is not walked anew each time.
        let mut done: Vec<String> =
            self.function_start(&mut todo).unwrap_or_else(|| fixed_start(&mut todo));
        let mut followed = 0;
        let mut last = None;
        while let Some(part) = todo.pop() {
            last = None;
            match part.as_str() {
                "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            match self.node_at(space, &done).ok_or(Errno::NOENT)? {
                Node::Link(target) if !todo.is_empty() || follow_last => {
                    followed += 1;
                    if followed > LINKS {
                        return Err(Errno::LOOP);
                    }
                    done.pop();
                    if target.starts_with('/') {
                        done.clear();
                    }
                    let steps = target.split('/').rev().filter(|part| !part.is_empty());
                    todo.extend(steps.map(str::to_owned));
                }
                node if todo.is_empty() => last = Some(node),
                Node::Directory(_) => {}
                _ => return Err(Errno::NOTDIR),
            }
        }
        // The path may end in `..`.
        let node = last.or_else(|| self.node_at(space, &done));
        Ok((format!("/{}", done.join("/")), node))
    }

    /// What lies in a tree that has no links above it is found without a walk; None where only a walk can tell.
    fn straight(&self, space: u64, path: &str) -> Option<Node> {
        const TREES: [&str; 3] = ["/proc/", "/sys/kernel/security/", "/sys/module/"];
        const DIRECTORIES: [&str; 2] = ["/sys/bus/pci/devices", "/sys/class/net"];
        if !TREES.iter().any(|tree| path.starts_with(tree)) && !DIRECTORIES.contains(&path) {
            return None;
        }
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
            return None;
        }
        self.kernel_node(space, &parts).filter(|node| !matches!(node, Node::Link(_)))
    }

    fn node_at(&self, space: u64, done: &[String]) -> Option<Node> {
        let here: Vec<&str> = done.iter().map(String::as_str).collect();
        self.kernel_node(space, &here)
    }

    /// Takes `/sys/bus/pci/devices/<address>` and what follows off the path still to walk, where the function exists.
    fn function_start(&self, todo: &mut Vec<String>) -> Option<Vec<String>> {
        // The path is held in reverse. The link itself may be asked for, so something must follow.
        let start = todo.len().checked_sub(5)?.checked_sub(1)?;
        let words: Vec<&str> = todo[start + 1..].iter().rev().map(String::as_str).collect();
        let ["sys", "bus", "pci", "devices", pci] = words.as_slice() else { return None };
        let path = self.device_path(&pci.parse().ok()?)?;
        todo.truncate(start + 1);
        Some(path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect())
    }

    /// The path with all links followed; ENOENT where nothing is.
    pub(super) fn canonical(&self, space: u64, path: &str) -> Result<String, Errno> {
        self.resolve(space, path, true).map(|(plain, _)| plain)
    }

    /// What lies directly in the directory of a PCI function. Most of what is ever read does, so it is found without a
    /// walk; None for any other path.
    fn attribute(&self, space: u64, path: &str) -> Option<Option<Node>> {
        if let Some(rest) = path.strip_prefix("/sys/class/net/") {
            return self.interface_attribute(space, rest);
        }
        let (pci, name) = path.strip_prefix("/sys/bus/pci/devices/")?.split_once('/')?;
        let is_entry = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        // Behind a bridge stand other functions.
        if !is_entry || name.parse::<PciAddress>().is_ok() {
            return None;
        }
        let pci: PciAddress = pci.parse().ok()?;
        let depth = self.functions.get(&pci)?.bridges.len() + 2;
        Some(self.function_node(space, &pci, depth, &[name]))
    }

    pub(super) fn read_path(&self, space: u64, path: &str) -> Result<Vec<u8>, Errno> {
        match self.attribute(space, path) {
            Some(None) => return Err(Errno::NOENT),
            Some(Some(Node::File(content))) => return content.map(String::into_bytes),
            _ => {}
        }
        match self.resolve(space, path, true)? {
            (plain, None) => {
                if self.namespace_paths.contains_key(&plain) {
                    Err(Errno::INVAL)
                } else {
                    self.read_file(&plain)
                }
            }
            (_, Some(Node::File(content))) => content.map(String::into_bytes),
            (_, Some(Node::Directory(_))) => Err(Errno::ISDIR),
            // sysfs: no permission to read (fs/kernfs/file.c).
            (_, Some(Node::WriteOnly)) => Err(Errno::ACCESS),
            (_, Some(Node::CharacterDevice { .. } | Node::Namespace(_))) => Err(Errno::INVAL),
            (_, Some(Node::Link(_))) => Err(Errno::LOOP),
        }
    }

    pub(super) fn list_path(&self, space: u64, path: &str) -> Result<Vec<String>, Errno> {
        match self.attribute(space, path) {
            Some(None) => return Err(Errno::NOENT),
            Some(Some(Node::Directory(names))) => return Ok(names),
            _ => {}
        }
        match self.resolve(space, path, true)? {
            (plain, None) if plain == "/" => {
                let mut names = self.list_directory("/")?;
                names.extend(["dev", "proc", "sys"].map(str::to_owned));
                names.sort();
                Ok(names)
            }
            (plain, None) => self.list_directory(&plain),
            (_, Some(Node::Directory(names))) => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub(super) fn link_target_of(&self, space: u64, path: &str) -> Result<String, Errno> {
        match self.attribute(space, path) {
            Some(None) => return Err(Errno::NOENT),
            Some(Some(Node::Link(target))) => return Ok(target),
            _ => {}
        }
        match self.resolve(space, path, false)? {
            (_, Some(Node::Link(target))) => Ok(target),
            (_, Some(Node::Namespace(inode))) => Ok(format!("net:[{inode}]")),
            (_, Some(_)) => Err(Errno::INVAL),
            (plain, None) => {
                let exists = self.files.contains_key(&plain) || self.is_directory(&plain);
                Err(if exists { Errno::INVAL } else { self.missing(&plain) })
            }
        }
    }

    pub(super) fn metadata_of(&self, space: u64, path: &str) -> Result<Metadata, Errno> {
        let (plain, node) = self.resolve(space, path, true)?;
        let of = |kind, size| Metadata {
            kind,
            size,
            device: 21,
            inode: super::pci::fnv(&plain),
            major: 0,
            minor: 0,
        };
        Ok(match node {
            None => match self.namespace_paths.get(&plain) {
                Some(inode) => namespace_metadata(*inode),
                None => self.file_metadata(&plain)?,
            },
            Some(Node::Directory(_)) => of(FileKind::Directory, 0),
            Some(Node::CharacterDevice { major, minor }) => Metadata {
                kind: FileKind::CharacterDevice,
                size: 0,
                device: 5,
                inode: super::pci::fnv(&plain),
                major,
                minor,
            },
            Some(Node::Namespace(inode)) => namespace_metadata(inode),
            Some(_) => of(FileKind::File, 4096),
        })
    }

    /// The namespace that a path holds; a path that is something else is EINVAL (setns(2)).
    pub(super) fn namespace_at(&self, path: &str) -> Result<u64, Errno> {
        let (plain, node) = self.resolve(HOST_NAMESPACE, path, true)?;
        match (node, self.namespace_paths.get(&plain)) {
            (Some(Node::Namespace(inode)), _) => Ok(inode),
            (None, Some(inode)) => Ok(*inode),
            (None, None) => Err(self.file_metadata(&plain).err().unwrap_or(Errno::INVAL)),
            (Some(_), _) => Err(Errno::INVAL),
        }
    }

    pub(super) fn replace_path(&mut self, path: &str, content: &[u8]) -> Result<(), Errno> {
        let plain = files::plain(path);
        if kernel_path(&plain) {
            // No file is made there (fs/namei.c, lookup_open without `create`; fs/proc/generic.c, proc_lookup; lab).
            let is_proc = plain.starts_with("/proc/");
            return Err(if is_proc { Errno::NOENT } else { Errno::ACCESS });
        }
        self.replace_file(&plain, content)
    }

    /// open(2) with O_CREAT: ENOENT where the directory is missing.
    pub(super) fn append_path(&mut self, path: &str, content: &[u8]) -> Result<(), Errno> {
        let plain = files::plain(path);
        let directory = plain.rsplit_once('/').map_or("", |(directory, _)| directory);
        if !directory.is_empty() && !self.is_directory(directory) {
            return Err(Errno::NOENT);
        }
        let held = self.files.get(&plain).map(Vec::as_slice).unwrap_or_default();
        self.replace_path(path, &[held, content].concat())
    }

    fn kernel_node(&self, space: u64, parts: &[&str]) -> Option<Node> {
        match parts {
            ["sys", rest @ ..] => self.sys_node(space, rest),
            ["proc", rest @ ..] => self.proc_node(space, rest),
            ["dev", rest @ ..] => self.dev_node(rest),
            _ => None,
        }
    }

    fn sys_node(&self, space: u64, parts: &[&str]) -> Option<Node> {
        match parts {
            [] => Node::directory(["bus", "class", "devices", "kernel", "module"]),
            ["bus"] => {
                let auxiliary = (!self.auxiliary_names(None).is_empty()).then_some("auxiliary");
                let vdpa = (!self.vdpa.is_empty()).then_some("vdpa");
                Node::directory(auxiliary.into_iter().chain(["pci"]).chain(vdpa))
            }
            ["bus", "auxiliary", rest @ ..] => self.auxiliary_bus_node(rest),
            ["bus", "pci", rest @ ..] => self.pci_bus_node(rest),
            ["bus", "vdpa", rest @ ..] => self.vdpa_bus_node(rest),
            ["class"] => {
                let rdma: &[&str] = if self.rdma.mode.is_some() {
                    &["infiniband", "infiniband_mad", "infiniband_verbs"]
                } else {
                    &[]
                };
                let block = self.session_classes();
                Node::directory(rdma.iter().chain(&["net"]).copied().chain(block))
            }
            ["class", class @ ("iscsi_connection" | "iscsi_session" | "nvme"), rest @ ..] => {
                self.session_node(class, rest)
            }
            ["class", "net", rest @ ..] => self.net_class_node(space, rest),
            [
                "class",
                class @ ("infiniband" | "infiniband_verbs" | "infiniband_mad"),
                rest @ ..,
            ] => self.rdma_class_node(space, class, rest),
            ["devices", rest @ ..] => self.devices_node(space, rest),
            ["module"] => Node::directory(self.modules.iter().cloned()),
            ["module", module, rest @ ..] if self.modules.contains(*module) => {
                self.module_node(module, rest)
            }
            ["kernel", rest @ ..] => self.sys_kernel_node(rest),
            _ => None,
        }
    }

    fn pci_bus_node(&self, parts: &[&str]) -> Option<Node> {
        match parts {
            [] => Node::directory(["devices", "drivers", "drivers_autoprobe", "drivers_probe"]),
            ["drivers_autoprobe"] => Node::line(1),
            ["drivers_probe"] => Some(Node::WriteOnly),
            ["devices"] => Node::directory(self.functions.keys().map(PciAddress::to_string)),
            ["devices", pci] => {
                let path = self.device_path(&pci.parse().ok()?)?;
                Node::link(format!("../../..{}", path.strip_prefix("/sys")?))
            }
            ["drivers"] => {
                let registered = DRIVERS.iter().filter(|row| self.is_registered(row));
                Node::directory(registered.map(|row| row.name))
            }
            ["drivers", driver, rest @ ..] => {
                DRIVERS.iter().find(|row| row.name == *driver && self.is_registered(row))?;
                match rest {
                    [] => {
                        let bound = self
                            .functions
                            .iter()
                            .filter(|(_, f)| f.driver.as_deref() == Some(driver));
                        let names = bound.map(|(pci, _)| pci.to_string());
                        Node::directory(
                            names.chain(["bind", "new_id", "unbind"].map(str::to_owned)),
                        )
                    }
                    ["bind" | "unbind" | "new_id"] => Some(Node::WriteOnly),
                    [pci] => {
                        let pci: PciAddress = pci.parse().ok()?;
                        let bound = self.functions.get(&pci)?.driver.as_deref() == Some(driver);
                        let path = self.device_path(&pci).filter(|_| bound)?;
                        Node::link(format!("../../../..{}", path.strip_prefix("/sys")?))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn module_node(&self, module: &str, parts: &[&str]) -> Option<Node> {
        match (module, parts) {
            ("ib_core", []) => {
                Node::directory(["holders", "initstate", "parameters", "refcnt", "taint"])
            }
            ("ib_core", ["parameters"]) => Node::directory(["netns_mode"]),
            // The file follows the present mode, also one that was set by netlink (lab.md section 3).
            ("ib_core", ["parameters", "netns_mode"]) => {
                Node::line(if self.rdma.mode == Some(RdmaMode::Exclusive) { "N" } else { "Y" })
            }
            (_, []) => Node::directory(["holders", "initstate", "refcnt", "taint"]),
            (_, ["initstate"]) => Node::line("live"),
            (_, ["holders"]) => Node::directory(self.holders_of(module)),
            (_, ["holders", holder]) if self.holders_of(module).contains(holder) => {
                Node::link(format!("../../{holder}"))
            }
            (_, ["refcnt"]) => Node::line(self.references_of(module)),
            (_, ["taint"]) => Node::line(super::modules::taint(module)),
            _ => None,
        }
    }

    fn sys_kernel_node(&self, parts: &[&str]) -> Option<Node> {
        let groups = || self.functions.values().filter_map(|function| function.iommu_group);
        match parts {
            [] => Node::directory(["iommu_groups", "security"]),
            ["security"] => Node::directory(["lockdown"]),
            ["security", "lockdown"] => Node::line(if self.has(Fault::LockedDown) {
                "none [integrity] confidentiality"
            } else {
                "[none] integrity confidentiality"
            }),
            ["iommu_groups"] if self.has(Fault::NoIommu) => Node::directory([""; 0]),
            ["iommu_groups"] => Node::directory(groups().map(|group| group.to_string())),
            ["iommu_groups", group, rest @ ..] => {
                let group: u32 = group.parse().ok()?;
                groups().find(|known| *known == group)?;
                let members =
                    || self.functions.iter().filter(|(_, f)| f.iommu_group == Some(group));
                match rest {
                    [] => Node::directory(["devices", "type"]),
                    ["type"] => Node::line("DMA"),
                    ["devices"] => Node::directory(members().map(|(pci, _)| pci.to_string())),
                    ["devices", pci] => {
                        let pci: PciAddress = pci.parse().ok()?;
                        members().find(|(member, _)| **member == pci)?;
                        Node::link(format!(
                            "../../../..{}",
                            self.device_path(&pci)?.strip_prefix("/sys")?
                        ))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn proc_node(&self, space: u64, parts: &[&str]) -> Option<Node> {
        match parts {
            [] => {
                // A container has a PID namespace of its own.
                let seen = self
                    .processes
                    .iter()
                    .filter(|(_, process)| space == HOST_NAMESPACE || process.namespace == space);
                let numbers = seen.map(|(number, _)| number.to_string());
                Node::directory(
                    numbers
                        .chain(["cmdline", "modules", "self", "sys", "uptime"].map(str::to_owned)),
                )
            }
            ["cmdline"] => Node::line(self.kernel_arguments.join(" ")),
            ["modules"] => Node::text(
                self.modules
                    .iter()
                    .map(|module| format!("{module} 16384 0 - Live 0x0000000000000000\n"))
                    .collect::<String>(),
            ),
            // In hundredths; a minute of it is the boot's (fs/proc/uptime.c: CLOCK_BOOTTIME, which nobody sets).
            ["uptime"] => {
                let up = self.uptime + Duration::from_secs(60);
                Node::line(format_args!(
                    "{0}.{1:02} {0}.{1:02}",
                    up.as_secs(),
                    up.subsec_millis() / 10
                ))
            }
            ["sys"] => Node::directory(["kernel", "net"]),
            ["sys", "kernel"] => Node::directory(["hostname", "random"]),
            ["sys", "kernel", "hostname"] => Node::line(&self.name),
            ["sys", "kernel", "random"] => Node::directory(["boot_id"]),
            ["sys", "kernel", "random", "boot_id"] => Node::line(&self.boot_id),
            ["sys", "net", rest @ ..] => self.sysctl_node(space, rest),
            [process, rest @ ..] => {
                let (name, namespace, cgroup) = match *process {
                    "self" | "thread-self" => ("ironrail", space, "/"),
                    number => {
                        let process = self.processes.get(&number.parse().ok()?)?;
                        (process.name.as_str(), process.namespace, process.cgroup.as_str())
                    }
                };
                match rest {
                    [] => Node::directory(["cgroup", "comm", "mounts", "net", "ns"]),
                    ["cgroup"] => Node::line(format_args!("0::{cgroup}")),
                    ["comm"] => Node::line(name),
                    ["mounts"] => {
                        let etc = if self.etc_writable() { "rw" } else { "ro" };
                        // Where the container shows its root: belief, NVIDIA's documentation.
                        let container = match self.has(Fault::DriverContainer) {
                            true => "overlay /run/mellanox/drivers overlay rw,relatime 0 0\n",
                            false => "",
                        };
                        Node::text(format!(
                            "{container}/dev/sda2 / ext4 {etc},relatime 0 0\nproc /proc proc rw,nosuid 0 0\nsysfs /sys sysfs rw,nosuid 0 0\ntmpfs /run tmpfs rw,nosuid,nodev 0 0\n/dev/sda3 /var ext4 rw,relatime 0 0\n{}",
                            self.network_mounts()
                        ))
                    }
                    ["net"] => Node::directory(["tcp", "tcp6"]),
                    ["net", table @ ("tcp" | "tcp6")] => {
                        Node::text(self.tcp_table(namespace, table))
                    }
                    ["ns"] => Node::directory(["net"]),
                    ["ns", "net"] => Some(Node::Namespace(namespace)),
                    _ => None,
                }
            }
        }
    }

    /// Character devices. A node of a container is the container's own; these are the host's devtmpfs.
    fn dev_node(&self, parts: &[&str]) -> Option<Node> {
        let vfio: Vec<u32> = self
            .functions
            .values()
            .filter(|function| function.driver.as_deref() == Some("vfio-pci"))
            .filter_map(|function| function.iommu_group)
            .collect();
        let rdma = self.rdma.mode.is_some();
        let device = |major, minor| Some(Node::CharacterDevice { major, minor });
        match parts {
            [] => {
                let mut names = vec!["net", "null", "zero"];
                names.extend(rdma.then_some("infiniband"));
                names.extend(self.modules.contains("vfio_pci").then_some("vfio"));
                names.extend(self.modules.contains("vhost_net").then_some("vhost-net"));
                Node::directory(names)
            }
            ["null"] => device(1, 3),
            ["zero"] => device(1, 5),
            ["net"] => Node::directory(["tun"]),
            ["net", "tun"] => device(10, 200),
            ["vhost-net"] if self.modules.contains("vhost_net") => device(10, 238),
            ["vfio"] if self.modules.contains("vfio_pci") => {
                Node::directory(vfio.iter().map(u32::to_string).chain(["vfio".to_owned()]))
            }
            ["vfio", "vfio"] if self.modules.contains("vfio_pci") => device(10, 196),
            ["vfio", group] => {
                let group: u32 = group.parse().ok()?;
                vfio.contains(&group).then_some(Node::CharacterDevice { major: 511, minor: group })
            }
            ["infiniband", rest @ ..] if rdma => self.infiniband_dev_node(rest),
            _ => None,
        }
    }
}

fn namespace_metadata(inode: u64) -> Metadata {
    Metadata { kind: FileKind::File, size: 0, device: 4, inode, major: 0, minor: 0 }
}

pub(super) fn kernel_path(plain: &str) -> bool {
    let under = |root: &str| {
        plain == root || plain.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
    };
    (under("/sys") || under("/proc") || under("/dev")) && !under("/dev/shm")
}
