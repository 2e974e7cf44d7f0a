//! The CNI journal on disk: one file per device below `api::files::CNI_JOURNAL`, replaced at once or not at all.
//!
//! Written by `cni` before its first change, read by the node's sweeper and by whoever asks who holds a device.
//! Callers hold the device's lock; nothing is decided here.

use crate::leftovers;
use crate::seam::{FileKind, Host, Refusal};
use api::files::{ALLOCATIONS, CNI_JOURNAL};
use api::journal::{Record, VERSION};
use rustix::io::Errno;
use std::collections::BTreeSet;
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JournalError {
    #[error("cannot {0}")]
    Refused(Refusal),
    #[error("cannot read the journal {path}: {reason}; look at the device, then remove the file")]
    Garbled { path: String, reason: String },
    #[error("the journal {path} has version {found}, and this program knows {VERSION}; upgrade it")]
    Newer { path: String, found: u64 },
}

impl From<Refusal> for JournalError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Where the record of a device is.
pub fn path(device: &str) -> String {
    format!("{CNI_JOURNAL}/{device}.json")
}

/// The record of one device; none means that nobody of ours has it.
pub fn read(host: &dyn Host, device: &str) -> Result<Option<Record>, JournalError> {
    let path = path(device);
    match host.read(&path) {
        Ok(bytes) => parse(&path, &bytes).map(Some),
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(None),
        Err(refusal) => Err(refusal.into()),
    }
}

/// All records in the order of their devices; one that cannot be read does not hide the others.
pub fn list(host: &dyn Host) -> Result<Vec<Result<Record, JournalError>>, JournalError> {
    let names = names(host)?;
    let devices = names.iter().filter_map(|name| name.strip_suffix(".json"));
    Ok(devices.filter_map(|device| read(host, device).transpose()).collect())
}

fn names(host: &dyn Host) -> Result<Vec<String>, JournalError> {
    match host.list(CNI_JOURNAL) {
        Ok(names) => Ok(names),
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(Vec::new()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The device of a file that was to become its record, by the name that `Host::replace` gives it.
fn unfinished_device(name: &str) -> Option<&str> {
    leftovers::becomes(name)?.strip_suffix(".json")
}

/// True when there is no record, and nothing that was to become one. Nothing is read.
pub fn is_empty(host: &dyn Host) -> Result<bool, JournalError> {
    let ours = |name: &String| name.ends_with(".json") || unfinished_device(name).is_some();
    Ok(!names(host)?.iter().any(ours))
}

/// The devices beside whose record something lies that was to become one, and whose writer is at it or dead.
pub fn unfinished(host: &dyn Host) -> Result<BTreeSet<String>, JournalError> {
    Ok(names(host)?.iter().filter_map(|name| unfinished_device(name)).map(str::to_owned).collect())
}

/// Removes what dead writers left beside the record of a device; as the caller holds its lock, they are dead.
pub fn tidy(host: &dyn Host, device: &str) -> Result<(), JournalError> {
    for name in names(host)?.iter().filter(|name| unfinished_device(name) == Some(device)) {
        host.remove(&format!("{CNI_JOURNAL}/{name}"))?;
    }
    Ok(())
}

/// Writes the record of a device; on return it is on the disk.
pub fn write(host: &dyn Host, record: &Record) -> Result<(), JournalError> {
    let path = path(&record.device);
    let bytes = serde_json::to_vec_pretty(record)
        .map_err(|error| JournalError::Garbled { path: path.clone(), reason: error.to_string() })?;
    Ok(host.replace(&path, &bytes, 0o600)?)
}

/// Removes every trace of a device that has been seen at home: upstream's note of who has it, and the record last.
pub fn forget(host: &dyn Host, device: &str) -> Result<(), JournalError> {
    host.remove(&format!("{ALLOCATIONS}/{device}"))?;
    Ok(host.remove(&path(device))?)
}

/// True when the owner's namespace is still the one that it was at ADD.
pub fn owner_lives(host: &dyn Host, record: &Record) -> bool {
    host.metadata(&record.owner.namespace).is_ok_and(|found| {
        found.kind != FileKind::Directory
            && (found.device, found.inode)
                == (record.owner.namespace_device, record.owner.namespace_inode)
    })
}

fn parse(path: &str, bytes: &[u8]) -> Result<Record, JournalError> {
    let garbled = |error: serde_json::Error| JournalError::Garbled {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(garbled)?;
    let found = value["version"].as_u64().unwrap_or_default();
    if found > u64::from(VERSION) {
        return Err(JournalError::Newer { path: path.to_owned(), found });
    }
    serde_json::from_value(value).map_err(garbled)
}
