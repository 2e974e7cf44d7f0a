//! The plugin `rdma`: the last of a chain; gives the RDMA device of the chain's function to the pod.
//!
//! An RDMA device has an index that stays while the device exists, in every namespace; its name the pod may change.

use crate::failure::{self, Failure};
use crate::frame::Call;
use crate::legacy::Cached;
use crate::log::Level;
use crate::outcome::Outcome;
use crate::version::Version;
use crate::{arguments, cdi, custody, legacy, pod};
use api::PciAddress;
use api::RdmaMode;
use api::journal::{RdmaCustody, Record, VERSION};
use host::seam::{Errno, LinkQuery, RdmaChange, RdmaDevice};
use host::vf_profile::parse_address;
use host::{Namespace, home, journal};
use serde_json::Value;

fn configure_log(call: &Call) -> Result<(), Failure> {
    if call.fields().nested("args")?.nested("cni")?.flag("debug")? {
        call.log.admit(Level::Debug);
    }
    Ok(())
}

pub fn add(call: &Call) -> Result<Option<Value>, Failure> {
    configure_log(call)?;
    arguments::read(call, &[])?;
    let previous = previous(call)?;
    refuse_shared_mode(call)?;
    let device = device(call, &previous)?;
    let name = name_in_pod(call)?;
    let owner = custody::owner(call)?;
    let _locks = custody::lock(call, &device)?;
    let mut record = match journal::read(call.host, &device)? {
        // The plugin before us in the chain has the function, or we had it before.
        Some(record) if custody::is_ours(call, &record) => record,
        found => {
            custody::offered(call, &device)?;
            if found.is_some() {
                custody::make_free(call, &device)?;
            }
            Record {
                version: VERSION,
                boot_id: custody::boot_id(call)?,
                device: device.clone(),
                owner,
                since: call.host.now(),
                vf: None,
                rdma: None,
            }
        }
    };
    refuse_after_ipoib(&record)?;
    let _rdma = custody::lock_rdma(call)?;
    if let Some(rdma) = &record.rdma {
        // ADD again for the same attachment, after one that may have been killed in the middle of the move: the kernel ends
        // the move, but starts no thread for a process that dies (kthread_create), so that the device has no management
        // datagrams (`ib_mad_port_open`), and with them no connection manager, until it is moved once more.
        home::rdma_home(call.host, &record, rdma).map_err(lost)?;
    }
    let found = single_device(call, &device)?;
    record.rdma = Some(RdmaCustody { name: found.name.clone(), index: found.index });
    journal::write(call.host, &record)?;
    match give(call, &device, &found, name) {
        Ok(()) => previous.json(call.version).map(Some),
        Err(failure) => Err(match take_back(call, record) {
            Ok(()) => custody::explained(call, &device, failure),
            Err(second) => failure.and(&second.message),
        }),
    }
}

/// The chain's result so far; it is also what this plugin prints, so it must fit the version.
fn previous(call: &Call) -> Result<Outcome, Failure> {
    let Some(previous) = pod::previous(call)? else {
        return Err(Failure::configuration(format!(
            "network {}: rdma is expected to be called as part of a plugin chain, after the plugin that \
             gives the interface; there is no prevResult",
            call.network
        )));
    };
    if previous.fits(call.version) {
        return Ok(previous);
    }
    Err(Failure::configuration(format!(
        "network {}: the result of the plugin before holds no address, and cniVersion {} can say \
         nothing else; write cniVersion {} or later",
        call.network,
        call.version,
        Version::V0_3_0
    )))
}

pub fn refuse_shared_mode(call: &Call) -> Result<(), Failure> {
    match call.host.rdma_mode() {
        Ok(RdmaMode::Exclusive) => Ok(()),
        Ok(RdmaMode::Shared) => Err(Failure::internal(
            "the RDMA subsystem of this node is in mode shared, in which no device can be given to a \
             pod; set rdmaMode: exclusive in the SriovNetworkPoolConfig of this node",
        )),
        Err(refusal) => Err(Failure::internal(format!(
            "cannot find out the mode of the RDMA subsystem of this node; is ib_core loaded? ({})",
            refusal.reason()
        ))),
    }
}

/// The move of an InfiniBand device destroys the IPoIB interface that the plugin before has put into the pod.
fn refuse_after_ipoib(record: &Record) -> Result<(), Failure> {
    let before = record.vf.as_ref().and_then(|vf| vf.link.as_ref());
    let address = before.and_then(|link| parse_address(&link.address)).unwrap_or_default();
    if address.len() != 20 {
        return Ok(());
    }
    Err(Failure::configuration(format!(
        "rdma after ib-sriov would destroy the interface of {}; take rdma out of the chain and set \
         rdmaIsolation: true for ib-sriov",
        record.device
    )))
}

/// The function whose RDMA device is wanted: configured, named by the chain's result, or found by its MAC.
fn device(call: &Call, previous: &Outcome) -> Result<String, Failure> {
    let configured = call.fields().text("deviceID")?;
    if !configured.is_empty() {
        return named_device(configured);
    }
    let [interface] = previous.interfaces.as_slice() else {
        return Err(Failure::configuration(format!(
            "\"DeviceID\" network configuration attribute is required: the result of the plugin before \
             has {} interfaces",
            previous.interfaces.len()
        )));
    };
    if !interface.pci_id.is_empty() {
        return named_device(&interface.pci_id);
    }
    by_admin_mac(call, &interface.mac)
}

/// A PCI address, or a name on the auxiliary bus. The name becomes part of paths, so it must be one component.
fn named_device(text: &str) -> Result<String, Failure> {
    if let Ok(pci) = text.parse::<PciAddress>() {
        return Ok(pci.to_string());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(Failure::configuration(format!(
        "deviceID {text:?} is neither a PCI address (0000:3b:00.2) nor an auxiliary device \
         (mlx5_core.sf.4)"
    )))
}

/// The only VF of the node whose PF holds this MAC for it.
fn by_admin_mac(call: &Call, mac: &str) -> Result<String, Failure> {
    let wanted = parse_address(mac).filter(|bytes| bytes.len() == 6).ok_or_else(|| {
        Failure::configuration(format!(
            "deviceID is empty, and the interface of the plugin before has no MAC to find it by ({mac:?})"
        ))
    })?;
    let query = LinkQuery { with_vfs: true, ..LinkQuery::default() };
    let mut found = Vec::new();
    for link in call.host.links(&Namespace::Host, &query)? {
        for vf in link.vfs.iter().filter(|vf| vf.mac == wanted) {
            let path = format!("/sys/class/net/{}/device/virtfn{}", link.name, vf.index);
            let target = call.host.link_target(&path)?;
            found.push(target.rsplit('/').next().unwrap_or_default().to_owned());
        }
    }
    match found.as_slice() {
        [device] => named_device(device),
        [] => Err(Failure::internal(format!("no VF of this node has the MAC {mac}; set deviceID"))),
        several => Err(Failure::internal(format!(
            "several VFs of this node have the MAC {mac}: {}; set deviceID",
            several.join(", ")
        ))),
    }
}

/// The one RDMA device of a function.
pub fn single_device(call: &Call, device: &str) -> Result<RdmaDevice, Failure> {
    let mut found = home::rdma_devices_at_home(call.host, device)?;
    match (found.pop(), found.is_empty()) {
        (Some(found), true) => Ok(found),
        (None, _) => Err(Failure::internal(format!(
            "no RDMA devices found for {device} in the host's network namespace; is its RDMA driver \
             loaded, or does another pod have it?"
        ))),
        (Some(last), false) => {
            let names: Vec<&str> =
                found.iter().chain([&last]).map(|device| device.name.as_str()).collect();
            Err(Failure::internal(format!(
                "{device} has more than one RDMA device ({}), and only one can be given",
                names.join(", ")
            )))
        }
    }
}

/// Moves the device and looks that it arrived; then the containers' character devices are described anew.
pub fn give(
    call: &Call,
    device: &str,
    found: &RdmaDevice,
    name: Option<&str>,
) -> Result<(), Failure> {
    let change = RdmaChange::Move { device: found.index, to: call.pod() };
    call.host.change_rdma(&Namespace::Host, &change).map_err(|refusal| {
        let why = match refusal.errno {
            Errno::OPNOTSUPP => {
                ": its driver cannot leave a network namespace, or the mode has just become shared"
            }
            Errno::NODEV => ": it is not in the host's network namespace any more",
            _ => "",
        };
        Failure::internal(format!(
            "cannot give {} of {device} to the pod{why}: {}",
            found.name,
            refusal.reason()
        ))
    })?;
    let custody = RdmaCustody { name: found.name.clone(), index: found.index };
    let Some(arrived) = in_pod(call, &custody)? else {
        return Err(Failure::internal(format!(
            "{} of {device} did not arrive in the pod's network namespace",
            found.name
        )));
    };
    settle(call, device, &arrived, name)?;
    call.log.info(format!("{} of {device} is in container {}", found.name, call.container));
    Ok(())
}

/// What comes after the move: the name in the pod, and the character devices that containers get.
fn settle(
    call: &Call,
    device: &str,
    found: &RdmaDevice,
    name: Option<&str>,
) -> Result<(), Failure> {
    let name = name.unwrap_or(&found.name);
    if name != found.name {
        rename(call, found, name)?;
    }
    say_nodes(call, device)
}

/// Sees to it that the pod's containers get the character devices that the function has now, which every move of the
/// RDMA device and every rebind of the function makes anew.
pub fn say_nodes(call: &Call, device: &str) -> Result<(), Failure> {
    refuse_other_nodes(call, device)?;
    cdi::describe(call, device)
}

/// Nodes that were given by path are the pod's for its whole life, and the kernel gives no number back that another
/// device has taken: a container would get that device.
fn refuse_other_nodes(call: &Call, device: &str) -> Result<(), Failure> {
    let given = custody::given_by_path(call, device)?;
    if given.is_empty() {
        return Ok(());
    }
    let now: Vec<String> = host::cdi::rdma_nodes(call.host, device)
        .into_iter()
        .filter(|(class, _)| *class != "rdma_cm")
        .flat_map(|(_, paths)| paths)
        .collect();
    if given.iter().all(|node| now.contains(node)) {
        return Ok(());
    }
    Err(Failure::internal(format!(
        "the pod must be recreated: {device} had {} when the pod was admitted, which is given by path, and has {} \
         now; with CDI switched on in the container runtime, and useCDI not false, numbers may change",
        given.join(", "),
        if now.is_empty() { "none".to_owned() } else { now.join(", ") }
    )))
}

/// A name of its own in the pod, and again the old one at home. Before Linux 7.3 RDMA device names are unique in the
/// whole system, so the same name in two pods is refused.
fn rename(call: &Call, found: &RdmaDevice, name: &str) -> Result<(), Failure> {
    let change = RdmaChange::Rename { device: found.index, name: name.to_owned() };
    call.host.change_rdma(&call.pod(), &change).map_err(|refusal| {
        let why = match refusal.errno {
            Errno::EXIST => "another RDMA device of this node has that name".to_owned(),
            _ => refusal.reason(),
        };
        Failure::internal(format!("cannot call {} {name} in the pod: {why}", found.name))
    })
}

/// `rdmaDeviceName`, an option of ours: what the device is to be called in the pod.
pub fn name_in_pod<'a>(call: &Call<'a>) -> Result<Option<&'a str>, Failure> {
    let name = call.fields().text("rdmaDeviceName")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    // IB_DEVICE_NAME_MAX is 64 with the end of the string.
    if name.len() > 63 || !name.chars().all(plain) {
        return Err(Failure::configuration(format!(
            "rdmaDeviceName {name:?} must be at most 63 letters, digits, '_' and '-'"
        )));
    }
    Ok((!name.is_empty()).then_some(name))
}

/// The device in the pod, under whatever name.
pub fn in_pod(call: &Call, rdma: &RdmaCustody) -> Result<Option<RdmaDevice>, Failure> {
    let devices = call.host.rdma_devices(&call.pod())?;
    Ok(devices.into_iter().find(|device| device.index == rdma.index))
}

fn lost(error: home::HomeError) -> Failure {
    Failure::internal(error.to_string())
}

/// Brings the RDMA device of a record home and strikes it out. Callers hold both locks.
fn take_back(call: &Call, mut record: Record) -> Result<(), Failure> {
    if let Some(rdma) = &record.rdma
        && record.boot_id == custody::boot_id(call)?
    {
        let notes = home::rdma_home(call.host, &record, rdma).map_err(lost)?;
        notes.iter().for_each(|note| call.log.warning(note));
        if let Err(failure) = cdi::rewrite(call, &record.device) {
            // Allocate writes the spec anew before the next pod.
            call.log.warning(&failure.message);
        }
    }
    record.rdma = None;
    if record.vf.is_some() {
        if let Err(error) = journal::write(call.host, &record) {
            // The record says too much now, which is harmless: the device is home, and DEL of the interface sees it.
            call.log.warning(error.to_string());
        }
        return Ok(());
    }
    custody::forget(call, &record.device)
}

pub fn del(call: &Call) -> Result<Option<Value>, Failure> {
    call.log.complaint(configure_log(call));
    let configured = call
        .log
        .complaint(call.fields().text("deviceID").map_err(Failure::from))
        .unwrap_or_default();
    let configured = named_device(configured).unwrap_or_default();
    if let Some(device) = custody::device_of(call, &configured)? {
        let _locks = custody::lock(call, &device)?;
        let _rdma = custody::lock_rdma(call)?;
        // A record without an RDMA device is the interface's plugin's, whose turn comes next.
        let record = custody::record_of(call, &device)?;
        if let Some(record) = record.filter(|record| record.rdma.is_some()) {
            take_back(call, record)?;
            call.log.info(format!("the RDMA device of {device} is home"));
        }
    }
    release_cached(call)?;
    Ok(None)
}

/// Releases what upstream's plugin gave away. A device that is not in the pod any more the kernel has given back.
fn release_cached(call: &Call) -> Result<(), Failure> {
    let cached = match legacy::rdma(call) {
        Ok(Some(cached)) => cached,
        Ok(None) => return Ok(()),
        Err(failure) => {
            call.log.warning(format!("the old plugin's state is left alone: {}", failure.message));
            return Ok(());
        }
    };
    if let Some(rdma) = &cached.record.rdma {
        let _rdma = custody::lock_rdma(call)?;
        home::rdma_home(call.host, &cached.record, rdma).map_err(lost)?;
    }
    Ok(call.host.remove(&cached.file)?)
}

/// The same of an attachment that is not valid any more. A device that a pod of upstream's or ours has by now stays.
fn release_stale(call: &Call, cached: &Cached) -> Result<(), Failure> {
    let device = named_device(&cached.record.device)?;
    let _locks = custody::lock(call, &device)?;
    if custody::is_anothers(call, &device)? {
        return Ok(());
    }
    if let Some(rdma) = &cached.record.rdma
        && journal::read(call.host, &device)?.is_none()
    {
        let _rdma = custody::lock_rdma(call)?;
        home::rdma_home(call.host, &cached.record, rdma).map_err(lost)?;
        call.log.info(format!("the RDMA device of {device} is home by GC"));
    }
    Ok(call.host.remove(&cached.file)?)
}

pub fn check(call: &Call) -> Result<Option<Value>, Failure> {
    configure_log(call)?;
    let previous = pod::must_have_previous(call)?;
    refuse_shared_mode(call)?;
    let device = device(call, &previous)?;
    let rdma = match custody::record_of(call, &device)?.and_then(|record| record.rdma) {
        Some(rdma) => Some(rdma),
        None => legacy::rdma(call)?.and_then(|cached| cached.record.rdma),
    };
    let Some(rdma) = rdma else {
        return Err(Failure::internal(format!(
            "the RDMA device of {device} is not in the hands of container {}",
            call.container
        )));
    };
    check_device(call, &device, &rdma, name_in_pod(call)?)?;
    Ok(None)
}

/// The device is in the pod, under the name that is asked for, and its character devices are those of its CDI spec.
pub fn check_device(
    call: &Call,
    device: &str,
    rdma: &RdmaCustody,
    name: Option<&str>,
) -> Result<(), Failure> {
    let Some(found) = in_pod(call, rdma)? else {
        return Err(Failure::internal(format!(
            "{} of {device} is not in the pod's network namespace any more",
            rdma.name
        )));
    };
    if let Some(name) = name.filter(|name| *name != found.name) {
        return Err(Failure::internal(format!(
            "the RDMA device of {device} is called {} in the pod in place of {name}",
            found.name
        )));
    }
    cdi::check(call, device, &found.name)
}

pub fn gc(call: &Call) -> Result<Option<Value>, Failure> {
    configure_log(call)?;
    let mut failures = Vec::new();
    for record in custody::stale(call)?.into_iter().filter(|record| record.rdma.is_some()) {
        let released = custody::lock(call, &record.device).and_then(|_locks| {
            let _rdma = custody::lock_rdma(call)?;
            match journal::read(call.host, &record.device)? {
                Some(now) if now.owner == record.owner => take_back(call, now),
                _ => Ok(()),
            }
        });
        match released {
            Ok(()) => call.log.info(format!("the RDMA device of {} is home by GC", record.device)),
            Err(failure) => failures.push(failure.message),
        }
    }
    for cached in legacy::stale_rdma(call, &custody::valid_attachments(call)?)? {
        let released = cached.and_then(|cached| match cached {
            Some(cached) => release_stale(call, &cached),
            None => Ok(()),
        });
        failures.extend(released.err().map(|failure| failure.message));
    }
    if failures.is_empty() { Ok(None) } else { Err(Failure::internal(failures.join("; "))) }
}

/// Ready when a device can be given to a pod at all.
pub fn status(call: &Call) -> Result<Option<Value>, Failure> {
    configure_log(call)?;
    match refuse_shared_mode(call) {
        Ok(()) => Ok(None),
        Err(failure) => Err(Failure { code: failure::NOT_AVAILABLE, ..failure }),
    }
}
