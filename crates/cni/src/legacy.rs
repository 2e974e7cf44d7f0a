//! The state files of the upstream plugins, read so that pods which those started are released by us.
//!
//! A cached configuration becomes a journal record; from there on nothing knows where it came from. Written is only
//! the allocation file of `sriov`, so that an old plugin still in use on this node does not take our device.

use crate::failure::{self, Failure};
use crate::frame::Call;
use api::journal::{LinkBefore, LinkState, Owner, RdmaCustody, Record};
use api::journal::{VERSION, VfProfile};
use host::fields::Fields;
use host::old_plugins::{self, OldPluginError};
pub use host::old_plugins::{Cached, allocation_file, lock_file};
use host::seam::Errno;
use serde_json::{Map, Value};

const IB_SRIOV: &str = "/var/lib/cni/ib-sriov";
const RDMA: &str = "/var/lib/cni/rdma";

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
    sriov_in(call, &format!("{}-{}", call.container, call.interface))
}

/// What upstream's `sriov` remembers of a device that a dead pod had, whichever pod that was.
pub fn sriov_of(call: &Call, device: &str) -> Result<Option<Cached>, Failure> {
    for name in old_plugins::names(call.host).map_err(io)? {
        let cache = cache(call, &format!("{}/{name}", old_plugins::SRIOV));
        if cache.is_some_and(|cache| cache["deviceID"] == device) {
            return sriov_in(call, &name);
        }
    }
    Ok(None)
}

/// A file of the old plugins; none for a directory. Of what is garbled nobody can say the network.
fn cache(call: &Call, file: &str) -> Option<Value> {
    let bytes = call.host.read(file).ok()?;
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
    for directory in [old_plugins::SRIOV, IB_SRIOV] {
        let names = match call.host.list(directory) {
            Err(refusal) if refusal.errno == Errno::NOENT => continue,
            names => names.map_err(io)?,
        };
        for name in names.iter().filter(|name| !valid.contains(name)) {
            let file = format!("{directory}/{name}");
            if cache(call, &file).is_some_and(|cache| cache["name"] == call.network) {
                found.push(match directory {
                    IB_SRIOV => ib_sriov_in(call, file),
                    _ => sriov_in(call, name),
                });
            }
        }
    }
    Ok(found)
}

fn sriov_in(call: &Call, name: &str) -> Result<Option<Cached>, Failure> {
    let boot_id = crate::custody::boot_id(call)?;
    known(call, old_plugins::sriov(call.host, name, owner(call), boot_id))
}

/// From the cache of upstream's `ib-sriov`.
pub fn ib_sriov(call: &Call) -> Result<Option<Cached>, Failure> {
    ib_sriov_in(call, format!("{IB_SRIOV}/{}-{}", call.container, call.interface))
}

fn ib_sriov_in(call: &Call, file: String) -> Result<Option<Cached>, Failure> {
    let Some(cache) = read(call, &file)? else { return Ok(None) };
    let fields = Fields::new(&cache);
    let before = VfProfile {
        link_state: (!fields.text("link_state")?.is_empty()).then_some(LinkState::Auto),
        guid: Some(fields.text("HostIFGUID")?.to_lowercase()).filter(|guid| !guid.is_empty()),
        ..VfProfile::default()
    };
    let name = fields.text("HostIFNames")?;
    let link =
        (!name.is_empty()).then(|| LinkBefore { name: name.to_owned(), ..LinkBefore::default() });
    let mut cached = record(call, file, &fields, before, link)?;
    if let Some(cached) = &mut cached {
        if let Some(vf) = &mut cached.record.vf {
            // Upstream remembers the old GUID only when it has set another.
            vf.wanted.guid.clone_from(&vf.before.guid);
        }
        let state = fields.nested("RdmaNetState")?;
        cached.record.rdma = rdma_custody(call, state.text("ContainerRdmaDevName")?)?;
    }
    Ok(cached)
}

/// From the state of upstream's `rdma`, whose file is named after the network too.
pub fn rdma(call: &Call) -> Result<Option<Cached>, Failure> {
    let file = format!("{RDMA}/{}-{}-{}", call.network, call.container, call.interface);
    let Some(cache) = read(call, &file)? else { return Ok(None) };
    let fields = Fields::new(&cache);
    let rdma = rdma_custody(call, fields.text("containerRdmaDevName")?)?;
    let record = Record { rdma, ..blank(call, fields.text("deviceID")?)? };
    Ok(Some(Cached { file, record, mac: String::new() }))
}

/// The device by the name that it has in the pod; none when the kernel has already given it back.
fn rdma_custody(call: &Call, name: &str) -> Result<Option<RdmaCustody>, Failure> {
    let devices = match call.host.rdma_devices(&call.pod()) {
        // The namespace is gone, also where the runtime names none or a plain file is left of it, or the subsystem is.
        Err(refusal)
            if [Errno::NOENT, Errno::INVAL, Errno::PROTONOSUPPORT].contains(&refusal.errno) =>
        {
            return Ok(None);
        }
        devices => devices?,
    };
    let found = devices.into_iter().find(|device| device.name == name);
    Ok(found.map(|found| RdmaCustody { name: found.name, index: found.index }))
}

fn record(
    call: &Call,
    file: String,
    fields: &Fields,
    before: VfProfile,
    link: Option<LinkBefore>,
) -> Result<Option<Cached>, Failure> {
    let mut record = blank(call, fields.text("deviceID")?)?;
    record.vf = old_plugins::custody(call.host, &record.device, fields, before, link)?;
    Ok(Some(Cached { file, record, mac: fields.text("mac")?.to_lowercase() }))
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

fn blank(call: &Call, device: &str) -> Result<Record, Failure> {
    Ok(Record {
        version: VERSION,
        boot_id: crate::custody::boot_id(call)?,
        device: device.to_owned(),
        owner: owner(call),
        since: call.host.now(),
        vf: None,
        rdma: None,
    })
}

fn read(call: &Call, file: &str) -> Result<Option<Map<String, Value>>, Failure> {
    known(call, old_plugins::read(call.host, file))
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
