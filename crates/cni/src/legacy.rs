//! The state files of the upstream plugins, read so that pods which those started are released by us.
//!
//! A cached configuration becomes a journal record; from there on nothing knows where it came from. Written is only
//! the allocation file of `sriov`, so that an old plugin still in use on this node does not take our device.

use crate::failure::{self, Failure};
use crate::frame::Call;
use api::journal::Owner;
use host::old_plugins::{self, OldPluginError, Plugin};
pub use host::old_plugins::{Cached, allocation_file, lock_file};
use serde_json::Value;

/// The namespace in the allocation file, where there is one.
pub fn allocated_to(call: &Call, device: &str) -> Result<Option<String>, Failure> {
    old_plugins::allocated_to(call.host, device).map_err(io)
}

fn io(refusal: host::Refusal) -> Failure {
    Failure::new(failure::IO, format!("cannot {refusal}"))
}

/// Writes the allocation file as upstream does.
pub fn allocate(call: &Call, device: &str) -> Result<(), Failure> {
    call.host.replace(&allocation_file(device), call.namespace.as_bytes(), 0o600).map_err(io)
}

/// From the cache of upstream's `sriov`.
pub fn sriov(call: &Call) -> Result<Option<Cached>, Failure> {
    remembered(call, Plugin::Sriov, &format!("{}-{}", call.container, call.interface))
}

/// From the cache of upstream's `ib-sriov`.
pub fn ib_sriov(call: &Call) -> Result<Option<Cached>, Failure> {
    remembered(call, Plugin::IbSriov, &format!("{}-{}", call.container, call.interface))
}

/// From the state of upstream's `rdma`, whose file is named after the network too.
pub fn rdma(call: &Call) -> Result<Option<Cached>, Failure> {
    let name = format!("{}-{}-{}", call.network, call.container, call.interface);
    remembered(call, Plugin::Rdma, &name)
}

/// What upstream's `sriov` remembers of a device that a dead pod had, whichever pod that was.
pub fn sriov_of(call: &Call, device: &str) -> Result<Option<Cached>, Failure> {
    for name in old_plugins::names(call.host, Plugin::Sriov).map_err(io)? {
        let cache = cache(call, Plugin::Sriov, &name);
        if cache.is_some_and(|cache| cache["deviceID"] == device) {
            return remembered(call, Plugin::Sriov, &name);
        }
    }
    Ok(None)
}

/// A file of the old plugins; none for a directory. Of what is garbled nobody can say the network.
fn cache(call: &Call, plugin: Plugin, name: &str) -> Option<Value> {
    let bytes = call.host.read(&format!("{}/{name}", plugin.directory())).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// What upstream's `sriov` and `ib-sriov` remember of attachments of this call's network that are not in the list.
pub fn stale(
    call: &Call,
    valid: &[(String, String)],
) -> Result<Vec<Result<Option<Cached>, Failure>>, Failure> {
    let valid: Vec<String> =
        valid.iter().map(|(container, interface)| format!("{container}-{interface}")).collect();
    let mut found = Vec::new();
    for plugin in [Plugin::Sriov, Plugin::IbSriov] {
        let names = old_plugins::names(call.host, plugin).map_err(io)?;
        for name in names.iter().filter(|name| !valid.contains(name)) {
            if cache(call, plugin, name).is_some_and(|cache| cache["name"] == call.network) {
                found.push(remembered(call, plugin, name));
            }
        }
    }
    Ok(found)
}

/// The same of upstream's `rdma`, each with its device in whatever namespace it is: GC names none. The name of a file
/// joins network, container and interface by a sign that a network's name may hold and a container's id does not; a
/// file that could be another network's is left to the sweeper.
pub fn stale_rdma(
    call: &Call,
    valid: &[(String, String)],
) -> Result<Vec<Result<Option<Cached>, Failure>>, Failure> {
    let network = format!("{}-", call.network);
    let boot_id = crate::custody::boot_id(call)?;
    let mut found = Vec::new();
    for name in old_plugins::names(call.host, Plugin::Rdma).map_err(io)? {
        let Some((container, interface)) =
            name.strip_prefix(&network).and_then(|rest| rest.split_once('-'))
        else {
            continue;
        };
        let is_valid =
            valid.iter().any(|(id, name)| (id.as_str(), name.as_str()) == (container, interface));
        if is_valid || interface.contains('-') {
            continue;
        }
        let cached = old_plugins::remembered(call.host, Plugin::Rdma, &name, None, boot_id.clone());
        found.push(known(call, cached));
    }
    Ok(found)
}

fn remembered(call: &Call, plugin: Plugin, name: &str) -> Result<Option<Cached>, Failure> {
    let boot_id = crate::custody::boot_id(call)?;
    known(call, old_plugins::remembered(call.host, plugin, name, Some(owner(call)), boot_id))
}

fn owner(call: &Call) -> Owner {
    let file = call.host.metadata(call.namespace).ok();
    Owner {
        container: call.container.to_owned(),
        interface: call.interface.to_owned(),
        network: call.network.to_owned(),
        namespace: call.namespace.to_owned(),
        namespace_device: file.map_or(0, |file| file.device),
        namespace_inode: file.map_or(0, |file| file.inode),
        ..Owner::default()
    }
}

/// From what is garbled nothing can be learnt: it is said, and is as if it were not there.
fn known<T>(call: &Call, found: Result<Option<T>, OldPluginError>) -> Result<Option<T>, Failure> {
    match found {
        Err(error @ OldPluginError::Garbled { .. }) => {
            call.log.warning(error.to_string());
            Ok(None)
        }
        Err(OldPluginError::Refused(refusal)) => Err(refusal.into()),
        Ok(found) => Ok(found),
    }
}
