//! What a container has of its own: device nodes and files. Everything else it sees is the machine's.

use crate::seam::{FileKind, Metadata};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};

/// A device node in a container: its path, and the numbers it was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    pub path: String,
    pub major: u32,
    pub minor: u32,
}

pub(super) fn is_kernel_path(path: &str) -> bool {
    ["/sys", "/proc", "/dev"].iter().any(|root| {
        path == *root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
    })
}

pub(super) fn list_nodes(nodes: &[DeviceNode], path: &str) -> Result<Vec<String>, Errno> {
    if nodes.iter().any(|node| node.path == path) {
        return Err(Errno::NOTDIR);
    }
    let prefix = format!("{path}/");
    let names: BTreeSet<String> = nodes
        .iter()
        .filter_map(|node| node.path.strip_prefix(&prefix)?.split('/').next().map(str::to_owned))
        .collect();
    if names.is_empty() && path != "/dev" {
        return Err(Errno::NOENT);
    }
    Ok(names.into_iter().collect())
}

pub(super) fn list_files(
    files: &BTreeMap<String, Vec<u8>>,
    path: &str,
) -> Result<Vec<String>, Errno> {
    let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
    let mut names: BTreeSet<String> = files
        .keys()
        .filter_map(|file| file.strip_prefix(&prefix)?.split('/').next().map(str::to_owned))
        .collect();
    if path == "/" {
        names.extend(["dev", "proc", "sys"].map(str::to_owned));
    }
    if names.is_empty() { Err(Errno::NOENT) } else { Ok(names.into_iter().collect()) }
}

pub(super) fn node_metadata(nodes: &[DeviceNode], path: &str) -> Result<Metadata, Errno> {
    let inode = super::pci::fnv(path);
    let of = |kind, major, minor| Metadata { kind, size: 0, device: 51, inode, major, minor };
    if let Some(node) = nodes.iter().find(|node| node.path == path) {
        return Ok(of(FileKind::CharacterDevice, node.major, node.minor));
    }
    list_nodes(nodes, path).map(|_| of(FileKind::Directory, 0, 0))
}
