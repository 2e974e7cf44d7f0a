//! Ordinary files of the machine: what is neither sysfs nor procfs nor a device node.

use super::Fault;
use super::machine::Machine;
use crate::seam::{FileKind, Metadata};
use rustix::io::Errno;
use std::collections::BTreeSet;

/// Directories that every distribution has, also while they are empty.
const BASE: [&str; 17] = [
    "/etc",
    "/etc/modprobe.d",
    "/etc/default",
    "/etc/cni/net.d",
    "/opt/cni/bin",
    "/run",
    "/run/netns",
    "/tmp",
    "/usr",
    "/usr/lib/modprobe.d",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/lib/kubelet",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet/pod-resources",
];

/// The path without doubled or trailing slashes and dots, and with `/var/run` as what it is: `/run`.
pub(super) fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
        if parts == ["var", "run"] {
            parts = vec!["run"];
        }
    }
    format!("/{}", parts.join("/"))
}

/// True for what lies on a tmpfs.
pub(super) fn is_volatile(path: &str) -> bool {
    path.starts_with("/run/") || path.starts_with("/dev/shm/")
}

impl Machine {
    pub(super) fn read_file(&self, path: &str) -> Result<Vec<u8>, Errno> {
        if let Some(content) = self.files.get(path) {
            return Ok(content.clone());
        }
        Err(if self.is_directory(path) { Errno::ISDIR } else { self.missing(path) })
    }

    pub(super) fn write_file(&mut self, path: &str, content: &str) -> Result<(), Errno> {
        self.writable(path)?;
        match self.files.get_mut(path) {
            Some(held) => *held = content.as_bytes().to_vec(),
            None => return Err(self.missing(path)),
        }
        Ok(())
    }

    pub(super) fn list_directory(&self, path: &str) -> Result<Vec<String>, Errno> {
        if !self.is_directory(path) {
            return Err(if self.files.contains_key(path) {
                Errno::NOTDIR
            } else {
                self.missing(path)
            });
        }
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let from = || prefix.clone()..;
        let files = self.files.range(from()).map(|(path, _)| path.as_str());
        let directories = self.directories.range(from()).map(String::as_str);
        let namespaces = self.namespace_paths.range(from()).map(|(path, _)| path.as_str());
        let inside = |entry: &&str| entry.starts_with(&prefix);
        let all = files.take_while(inside).chain(directories.take_while(inside));
        let all = all.chain(namespaces.take_while(inside)).chain(BASE.into_iter().filter(inside));
        let names: BTreeSet<&str> = all
            .filter_map(|entry| entry[prefix.len()..].split('/').next())
            .filter(|name| !name.is_empty())
            .collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    pub(super) fn replace_file(&mut self, path: &str, content: &[u8]) -> Result<(), Errno> {
        self.writable(path)?;
        if self.has(Fault::DiskFull) && !is_volatile(path) {
            return Err(Errno::NOSPC);
        }
        if self.is_directory(path) {
            return Err(Errno::ISDIR);
        }
        if self.under_a_file(path) {
            return Err(Errno::NOTDIR);
        }
        self.make_directories_above(path);
        self.files.insert(path.to_owned(), content.to_vec());
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &str) -> Result<(), Errno> {
        if self.is_directory(path) {
            return Err(Errno::ISDIR);
        }
        if self.files.contains_key(path) {
            self.writable(path)?;
            self.make_directories_above(path);
            self.files.remove(path);
        }
        Ok(())
    }

    pub(super) fn make_directories_above(&mut self, path: &str) {
        let mut end = path.len();
        while let Some(slash) = path[..end].rfind('/').filter(|slash| *slash > 0) {
            self.directories.insert(path[..slash].to_owned());
            end = slash;
        }
    }

    pub(super) fn file_metadata(&self, path: &str) -> Result<Metadata, Errno> {
        let inode = super::pci::fnv(path);
        let plain = |kind, size| Metadata { kind, size, device: 2049, inode, major: 0, minor: 0 };
        if let Some(content) = self.files.get(path) {
            return Ok(plain(FileKind::File, content.len() as u64));
        }
        if self.is_directory(path) {
            return Ok(plain(FileKind::Directory, 4096));
        }
        Err(self.missing(path))
    }

    pub(super) fn is_directory(&self, path: &str) -> bool {
        if path == "/" {
            return true;
        }
        let prefix = format!("{path}/");
        let below = |entry: Option<&String>| entry.is_some_and(|entry| entry.starts_with(&prefix));
        BASE.iter().any(|base| *base == path || base.starts_with(&prefix))
            || self.directories.contains(path)
            || below(self.files.range(prefix.clone()..).next().map(|(path, _)| path))
            || below(self.namespace_paths.range(prefix.clone()..).next().map(|(path, _)| path))
    }

    fn under_a_file(&self, path: &str) -> bool {
        let slashes = path.match_indices('/').map(|(at, _)| at);
        slashes.filter(|at| *at > 0).any(|at| self.files.contains_key(&path[..at]))
    }

    pub(super) fn missing(&self, path: &str) -> Errno {
        if self.under_a_file(path) { Errno::NOTDIR } else { Errno::NOENT }
    }

    pub(super) fn etc_writable(&self) -> bool {
        self.flavour.etc_writable() && !self.has(Fault::ReadOnlyEtc)
    }

    fn writable(&self, path: &str) -> Result<(), Errno> {
        let etc = path.starts_with("/etc/") && !self.etc_writable();
        if etc || path.starts_with("/usr/") { Err(Errno::ROFS) } else { Ok(()) }
    }
}
