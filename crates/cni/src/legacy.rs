//! The state files of the upstream plugins, read so that pods which those started are released by us.
//!
//! A cached configuration becomes a journal record; from there on nothing knows where it came from. Written is only
//! the allocation file of `sriov`, so that an old plugin still in use on this node does not take our device.

use crate::failure::{self, Failure};
use crate::fields::Fields;
use crate::frame::Call;
use api::files::ALLOCATIONS;
use api::journal::{
    LinkBefore, LinkState, Owner, Rate, RdmaCustody, Record, VERSION, VfCustody, VfProfile, VlanTag,
};
use host::seam::Errno;
use host::vf_profile;
use serde_json::{Map, Value};

const SRIOV: &str = "/var/lib/cni/sriov";
const IB_SRIOV: &str = "/var/lib/cni/ib-sriov";
const RDMA: &str = "/var/lib/cni/rdma";

/// Upstream's lock of one VF.
pub fn lock_file(device: &str) -> String {
    format!("{ALLOCATIONS}/vf_lock/{device}.lock")
}

/// Upstream's note of the namespace that a VF was given to.
pub fn allocation_file(device: &str) -> String {
    format!("{ALLOCATIONS}/{device}")
}

/// The namespace in the allocation file, where there is one.
pub fn allocated_to(call: &Call, device: &str) -> Result<Option<String>, Failure> {
    let bytes = match call.host.read(&allocation_file(device)) {
        Err(refusal) if refusal.errno == Errno::NOENT => return Ok(None),
        // What cannot be read may name a pod that lives.
        bytes => bytes.map_err(io)?,
    };
    let path = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(Some(path).filter(|path| !path.is_empty()))
}

fn io(refusal: host::Refusal) -> Failure {
    Failure::new(failure::IO, format!("cannot {refusal}"))
}

/// Writes the allocation file as upstream does.
pub fn allocate(call: &Call, device: &str) -> Result<(), Failure> {
    call.host.replace(&allocation_file(device), call.namespace.as_bytes(), 0o600).map_err(io)
}

/// What upstream's plugin left about the attachment of this call: its file, and the device as a record.
pub struct Cached {
    pub file: String,
    pub record: Record,
    /// The MAC that the pod had asked for; empty where it asked for none.
    pub mac: String,
}

/// From the cache of upstream's `sriov`.
pub fn sriov(call: &Call) -> Result<Option<Cached>, Failure> {
    sriov_in(call, format!("{SRIOV}/{}-{}", call.container, call.interface))
}

/// What upstream's `sriov` remembers of a device that a dead pod had, whichever pod that was.
pub fn sriov_of(call: &Call, device: &str) -> Result<Option<Cached>, Failure> {
    let names = match call.host.list(SRIOV) {
        Err(refusal) if refusal.errno == Errno::NOENT => return Ok(None),
        names => names.map_err(io)?,
    };
    for file in names.iter().map(|name| format!("{SRIOV}/{name}")) {
        let of_the_device = call.host.read(&file).is_ok_and(|bytes| {
            let cache: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            cache["deviceID"] == device
        });
        if of_the_device {
            return sriov_in(call, file);
        }
    }
    Ok(None)
}

/// What upstream's `sriov` and `ib-sriov` remember of attachments of this call's network that are not in the list.
pub fn stale(
    call: &Call,
    valid: &[(String, String)],
) -> Result<Vec<Result<Option<Cached>, Failure>>, Failure> {
    let valid: Vec<String> =
        valid.iter().map(|(container, interface)| format!("{container}-{interface}")).collect();
    let mut found = Vec::new();
    for directory in [SRIOV, IB_SRIOV] {
        let names = match call.host.list(directory) {
            Err(refusal) if refusal.errno == Errno::NOENT => continue,
            names => names.map_err(io)?,
        };
        for name in names.iter().filter(|name| !valid.contains(name)) {
            let file = format!("{directory}/{name}");
            // A directory, or what nobody can say the network of.
            let Ok(bytes) = call.host.read(&file) else { continue };
            let cache: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if cache["name"] == call.network {
                let read = if directory == SRIOV { sriov_in } else { ib_sriov_in };
                found.push(read(call, file));
            }
        }
    }
    Ok(found)
}

fn sriov_in(call: &Call, file: String) -> Result<Option<Cached>, Failure> {
    let Some(cache) = read(call, &file)? else { return Ok(None) };
    let fields = Fields::new(&cache);
    let original = fields.nested("OrigVfState")?;
    let vlan_asked = fields.number("vlan")?.is_some();
    let rate_asked =
        fields.number("min_tx_rate")?.is_some() || fields.number("max_tx_rate")?.is_some();
    let asked = |name: &str| fields.text(name).map(|text| !text.is_empty());
    let before = VfProfile {
        // Upstream restores the MAC always, and everything else only if the configuration changed it.
        mac: Some(original.text("AdminMAC")?.to_lowercase()).filter(|mac| !mac.is_empty()),
        vlan: if vlan_asked { Some(vlan(&original)?) } else { None },
        rate: if rate_asked {
            let number = |name: &str| small(&original, name);
            Some(Rate { min: number("MinTxRate")?, max: number("MaxTxRate")? })
        } else {
            None
        },
        spoof_check: asked("spoofchk")?.then_some(original.flag("SpoofChk")?),
        trust: asked("trust")?.then_some(original.flag("Trust")?),
        link_state: asked("link_state")?.then_some(match original.number("LinkState")? {
            Some(1) => LinkState::Enable,
            Some(2) => LinkState::Disable,
            _ => LinkState::Auto,
        }),
        guid: None,
    };
    let name = original.text("HostIFName")?;
    let link = (!name.is_empty()).then_some(LinkBefore {
        name: name.to_owned(),
        address: original.text("EffectiveMAC")?.to_lowercase(),
        mtu: small(&original, "MTU")?,
        up: false,
        alt_names: None,
    });
    record(call, file, &fields, before, link)
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
    let identity = record.device.parse().ok().and_then(|pci| {
        // A VF that is gone needs nothing; one that is another now is told apart by its index.
        vf_profile::identify(call.host, &pci).ok()
    });
    let index = small(fields, "VFID")?;
    record.vf = identity.map(|identity| VfCustody {
        pf: identity.pf,
        index,
        before,
        wanted: VfProfile::default(),
        link,
    });
    Ok(Some(Cached { file, record, mac: fields.text("mac")?.to_lowercase() }))
}

fn blank(call: &Call, device: &str) -> Result<Record, Failure> {
    let file = call.host.metadata(call.namespace).ok();
    Ok(Record {
        version: VERSION,
        boot_id: crate::custody::boot_id(call)?,
        device: device.to_owned(),
        owner: Owner {
            container: call.container.to_owned(),
            interface: call.interface.to_owned(),
            network: call.network.to_owned(),
            namespace: call.namespace.to_owned(),
            namespace_device: file.map_or(0, |file| file.device),
            namespace_inode: file.map_or(0, |file| file.inode),
            ..Owner::default()
        },
        since: call.host.now(),
        vf: None,
        rdma: None,
    })
}

fn read(call: &Call, file: &str) -> Result<Option<Map<String, Value>>, Failure> {
    let bytes = match call.host.read(file) {
        Ok(bytes) => bytes,
        Err(refusal) if refusal.errno == Errno::NOENT => return Ok(None),
        Err(refusal) => return Err(refusal.into()),
    };
    match serde_json::from_slice(&bytes) {
        Ok(cache) => Ok(Some(cache)),
        // Upstream writes without fsync, so a crash leaves such files; nothing can be learnt from one.
        Err(error) => {
            call.log
                .warning(format!("the state file {file} of the old plugin is unreadable: {error}"));
            Ok(None)
        }
    }
}

fn vlan(original: &Fields) -> Result<VlanTag, Failure> {
    let too_big = || Failure::new(failure::DECODE, "the cached VLAN is not one");
    let id = u16::try_from(small(original, "Vlan")?).map_err(|_| too_big())?;
    let qos = u8::try_from(small(original, "VlanQoS")?).map_err(|_| too_big())?;
    let protocol = if small(original, "VlanProto")? == 0x88a8 { 0x88a8 } else { 0x8100 };
    Ok(VlanTag { id, qos, protocol })
}

fn small(fields: &Fields, name: &str) -> Result<u32, Failure> {
    let number = fields.number(name)?.unwrap_or_default();
    u32::try_from(number).map_err(|_| {
        Failure::new(failure::DECODE, format!("{} {number} is out of range", fields.named(name)))
    })
}
