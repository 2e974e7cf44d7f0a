//! What upstream's plugins wrote down: which attachment has a device, and what that was like before. Read, so that pods
//! which they started are released by us: by `cni` at DEL and GC, and by the node's sweeper when nobody calls DEL.
//!
//! A memory becomes a record of our journal; from there on nothing knows where it came from.

use crate::fields::{Fields, WrongField};
use crate::function;
use crate::guid;
use crate::home;
use crate::seam::{Errno, Host, Namespace, Refusal};
use crate::vf_profile;
use api::files::ALLOCATIONS;
use api::journal::{LinkBefore, LinkState, Owner, Rate, RdmaCustody, Record, VERSION, VfCustody};
use api::journal::{VfProfile, VlanTag};
use api::{PciAddress, Timestamp};
use serde_json::{Map, Value};
use thiserror::Error;

/// Upstream's plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    Sriov,
    IbSriov,
    Rdma,
}

impl Plugin {
    /// In the order of the way home: the RDMA device goes before the interface.
    pub const ALL: [Self; 3] = [Self::Rdma, Self::Sriov, Self::IbSriov];

    /// One file per attachment, called by container and interface; those of `rdma` by the network before them.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Sriov => "/var/lib/cni/sriov",
            Self::IbSriov => "/var/lib/cni/ib-sriov",
            Self::Rdma => "/var/lib/cni/rdma",
        }
    }
}

/// What upstream's plugin left about one attachment: its file, and the device as a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    pub file: String,
    pub record: Record,
    /// The MAC, or the GUID on InfiniBand, that the pod had asked for; empty where it asked for none.
    pub asked: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OldPluginError {
    #[error("cannot {0}")]
    Refused(Refusal),
    /// Upstream writes without fsync, so a crash leaves such files; nothing can be learnt from one.
    #[error("the state file {file} of the old plugin is unreadable: {reason}")]
    Garbled { file: String, reason: String },
}

/// Upstream's lock of one VF.
pub fn lock_file(device: &str) -> String {
    format!("{ALLOCATIONS}/vf_lock/{device}.lock")
}

/// Upstream's note of the namespace that a VF was given to.
pub fn allocation_file(device: &str) -> String {
    format!("{ALLOCATIONS}/{device}")
}

/// The namespace in the allocation file, where there is one.
pub fn allocated_to(host: &dyn Host, device: &str) -> Result<Option<String>, Refusal> {
    // What cannot be read may name a pod that lives.
    let Some(bytes) = function::optional(host.read(&allocation_file(device)))? else {
        return Ok(None);
    };
    let path = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(Some(path).filter(|path| !path.is_empty()))
}

/// The names of all memories of a plugin; the directory of the allocations, beside those of `sriov`, is none.
pub fn names(host: &dyn Host, plugin: Plugin) -> Result<Vec<String>, Refusal> {
    let mut names = function::optional(host.list(plugin.directory()))?.unwrap_or_default();
    names.retain(|name| format!("{}/{name}", plugin.directory()) != ALLOCATIONS);
    Ok(names)
}

/// The memory of that name, for whoever owns the attachment. None as the owner: nobody has said whose it is, and the name
/// of the file tells.
pub fn remembered(
    host: &dyn Host,
    plugin: Plugin,
    name: &str,
    owner: Option<Owner>,
    boot_id: String,
) -> Result<Option<Cached>, OldPluginError> {
    let file = format!("{}/{name}", plugin.directory());
    let Some(cache) = read(host, &file)? else { return Ok(None) };
    let parsed = match plugin {
        Plugin::Sriov => sriov(host, &Fields::new(&cache)),
        Plugin::IbSriov => ib_sriov(host, &Fields::new(&cache)),
        Plugin::Rdma => rdma(&Fields::new(&cache)),
    };
    let parsed = parsed.map_err(|wrong| OldPluginError::Garbled {
        file: file.clone(),
        reason: wrong.to_string(),
    })?;
    let Parsed { device, vf, rdma, asked } = parsed;
    let rdma = match &owner {
        _ if rdma.is_empty() => Ok(None),
        Some(owner) => in_pod(host, &owner.namespace, &rdma),
        None => away(host, &device, &rdma),
    };
    let rdma = rdma.map_err(OldPluginError::Refused)?;
    let owner = match owner {
        Some(owner) => owner,
        None => named_by(host, plugin, name, &device).map_err(OldPluginError::Refused)?,
    };
    // Upstream does not say since when.
    let since = Timestamp::UNIX_EPOCH;
    let record = Record { version: VERSION, boot_id, device, owner, since, vf, rdma };
    Ok(Some(Cached { file, record, asked }))
}

/// The owner as the name of the file has it. Of the namespace the allocation file of `sriov` alone tells.
fn named_by(host: &dyn Host, plugin: Plugin, name: &str, device: &str) -> Result<Owner, Refusal> {
    let (rest, interface) = name.rsplit_once('-').unwrap_or_default();
    let container = match plugin {
        Plugin::Sriov | Plugin::IbSriov => rest,
        Plugin::Rdma => rest.rsplit('-').next().unwrap_or_default(),
    };
    let mut owner = Owner {
        container: container.to_owned(),
        interface: interface.to_owned(),
        ..Owner::default()
    };
    if plugin == Plugin::Sriov {
        owner.namespace = allocated_to(host, device)?.unwrap_or_default();
        if let Ok(found) = host.metadata(&owner.namespace) {
            (owner.namespace_device, owner.namespace_inode) = (found.device, found.inode);
        }
    }
    Ok(owner)
}

/// A file that one of the old plugins wrote; None where it is not there.
fn read(host: &dyn Host, file: &str) -> Result<Option<Map<String, Value>>, OldPluginError> {
    let bytes = function::optional(host.read(file)).map_err(OldPluginError::Refused)?;
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| OldPluginError::Garbled {
            file: file.to_owned(),
            reason: error.to_string(),
        })
    };
    bytes.map(parse).transpose()
}

/// What a memory says.
struct Parsed {
    device: String,
    vf: Option<VfCustody>,
    /// The RDMA device's name in the pod; empty where none was given.
    rdma: String,
    asked: String,
}

/// The RDMA device by its name in a namespace.
fn rdma_in(host: &dyn Host, space: &Namespace, name: &str) -> Result<Option<RdmaCustody>, Refusal> {
    let found = host.rdma_devices(space)?.into_iter().find(|device| device.name == name);
    Ok(found.map(|found| RdmaCustody { name: found.name, index: found.index }))
}

/// The device in the pod; none when the kernel has already given it back.
fn in_pod(host: &dyn Host, namespace: &str, name: &str) -> Result<Option<RdmaCustody>, Refusal> {
    match rdma_in(host, &Namespace::At(namespace.to_owned()), name) {
        // The namespace is gone, also where the runtime names none or a plain file is left of it, or the subsystem is.
        Err(refusal)
            if [Errno::NOENT, Errno::INVAL, Errno::PROTONOSUPPORT].contains(&refusal.errno) =>
        {
            Ok(None)
        }
        found => found,
    }
}

/// The device in whatever namespace it is; none when it is at home.
fn away(host: &dyn Host, device: &str, name: &str) -> Result<Option<RdmaCustody>, Refusal> {
    if !home::rdma_devices_at_home(host, device)?.is_empty() {
        return Ok(None);
    }
    let find = |space| rdma_in(host, &space, name).ok().flatten();
    Ok(home::other_namespaces(host).find_map(find))
}

/// Upstream's configuration of the attachment, with what it found before.
fn sriov(host: &dyn Host, fields: &Fields) -> Result<Parsed, WrongField> {
    let original = fields.nested("OrigVfState")?;
    let has = |name: &str| fields.number(name).map(|number| number.is_some());
    let asked = |name: &str| fields.text(name).map(|text| !text.is_empty());
    let before = VfProfile {
        // Upstream restores the MAC always, and everything else only if the configuration changed it.
        mac: Some(original.text("AdminMAC")?.to_lowercase()).filter(|mac| !mac.is_empty()),
        vlan: has("vlan")?.then(|| vlan(&original)).transpose()?,
        rate: match has("min_tx_rate")? || has("max_tx_rate")? {
            true => {
                Some(Rate { min: original.small("MinTxRate")?, max: original.small("MaxTxRate")? })
            }
            false => None,
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
        mtu: original.small("MTU")?,
        up: false,
        alt_names: None,
    });
    let device = fields.text("deviceID")?.to_owned();
    let vf = custody(host, &device, fields, before, link)?;
    let asked = fields.text("mac")?.to_lowercase();
    Ok(Parsed { device, vf, rdma: String::new(), asked })
}

fn ib_sriov(host: &dyn Host, fields: &Fields) -> Result<Parsed, WrongField> {
    let before = VfProfile {
        link_state: (!fields.text("link_state")?.is_empty()).then_some(LinkState::Auto),
        guid: Some(fields.text("HostIFGUID")?.to_lowercase()).filter(|guid| !guid.is_empty()),
        ..VfProfile::default()
    };
    let name = fields.text("HostIFNames")?;
    let link =
        (!name.is_empty()).then(|| LinkBefore { name: name.to_owned(), ..LinkBefore::default() });
    let device = fields.text("deviceID")?.to_owned();
    let mut vf = custody(host, &device, fields, before, link)?;
    if let Some(vf) = &mut vf {
        // Upstream remembers the old GUID only when it has set another.
        vf.wanted.guid.clone_from(&vf.before.guid);
    }
    let rdma = fields.nested("RdmaNetState")?.text("ContainerRdmaDevName")?.to_owned();
    let runtime = fields.nested("runtimeConfig")?;
    let arguments = fields.nested("args")?.nested("cni")?;
    // The runtime's goes before the configuration's.
    let asked = match runtime.text("infinibandGUID")? {
        "" => arguments.text("guid")?,
        guid => guid,
    };
    Ok(Parsed { device, vf, rdma, asked: asked.to_lowercase() })
}

fn rdma(fields: &Fields) -> Result<Parsed, WrongField> {
    let device = fields.text("deviceID")?.to_owned();
    let rdma = fields.text("containerRdmaDevName")?.to_owned();
    Ok(Parsed { device, vf: None, rdma, asked: String::new() })
}

/// The VF that a memory of `sriov` or `ib-sriov` is about. A VF that is gone needs nothing; one that is another now is told
/// apart by its index.
fn custody(
    host: &dyn Host,
    device: &str,
    fields: &Fields,
    before: VfProfile,
    link: Option<LinkBefore>,
) -> Result<Option<VfCustody>, WrongField> {
    let identity = device.parse::<PciAddress>().ok();
    let identity = identity.and_then(|pci| vf_profile::identify(host, &pci).ok());
    let index = fields.small("VFID")?;
    let wanted = VfProfile::default();
    Ok(identity.map(|identity| VfCustody { pf: identity.pf, index, before, wanted, link }))
}

impl Cached {
    /// The name of its file.
    pub fn name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or_default()
    }

    /// True when both are about one attachment: the plugins of a chain remember each its part.
    pub fn is_beside(&self, other: &Self) -> bool {
        let is_network_and =
            |long: &Self, short: &Self| long.name().ends_with(&format!("-{}", short.name()));
        self.record.device == other.record.device
            && (is_network_and(self, other) || is_network_and(other, self))
    }

    /// The memory as far as it is about the VF that is there now. One that is at home was there before us: its pod died, or
    /// the node was booted since, after which the addresses that are remembered are of another VF.
    pub fn forget_what_was(&mut self, host: &dyn Host) -> Result<(), Refusal> {
        let Ok(pci) = self.record.device.parse::<PciAddress>() else { return Ok(()) };
        if let Some(link) = home::interface_at_home(host, &pci)? {
            let port = guid::of_address(&link.address);
            let address = port.unwrap_or_else(|| vf_profile::show_address(&link.address));
            self.forget_address_unless(&address);
        }
        Ok(())
    }

    /// For a pod that died without DEL: after a reboot the VF is another with another address, and the memory of an address
    /// is of the one before.
    pub fn forget_address_unless(&mut self, address: &str) {
        if let Some(vf) = &mut self.record.vf
            && (self.asked.is_empty() || address != self.asked)
        {
            vf.before.mac = None;
            (vf.before.guid, vf.wanted.guid) = (None, None);
            vf.link.iter_mut().for_each(|link| link.address.clear());
        }
    }
}

fn vlan(original: &Fields) -> Result<VlanTag, WrongField> {
    let protocol = if original.number("VlanProto")? == Some(0x88a8) { 0x88a8 } else { 0x8100 };
    Ok(VlanTag { id: original.small("Vlan")?, qos: original.small("VlanQoS")?, protocol })
}
