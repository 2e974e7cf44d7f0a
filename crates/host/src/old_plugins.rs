//! What upstream's plugin `sriov` wrote down: which attachment has a VF, and what the VF was like before. Read, so that
//! pods which it started are released by us: by `cni` at DEL and GC, and by the node's sweeper when nobody calls DEL.
//!
//! Its memory becomes a record of our journal; from there on nothing knows where it came from.

use crate::fields::{Fields, WrongField};
use crate::function;
use crate::seam::{Host, Refusal};
use crate::vf_profile;
use api::files::ALLOCATIONS;
use api::journal::{LinkBefore, LinkState, Owner, Rate, Record, VERSION, VfCustody};
use api::journal::{VfProfile, VlanTag};
use api::{PciAddress, Timestamp};
use serde_json::{Map, Value};
use thiserror::Error;

/// One file per attachment, called by container and interface; and the directory of the allocations.
pub const SRIOV: &str = "/var/lib/cni/sriov";

/// What upstream's plugin left about one attachment: its file, and the device as a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    pub file: String,
    pub record: Record,
    /// The MAC that the pod had asked for; empty where it asked for none.
    pub mac: String,
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

/// The names of all memories.
pub fn names(host: &dyn Host) -> Result<Vec<String>, Refusal> {
    let mut names = function::optional(host.list(SRIOV))?.unwrap_or_default();
    names.retain(|name| !ALLOCATIONS.ends_with(&format!("/{name}")));
    Ok(names)
}

/// The memory of that name, for whoever owns the attachment.
pub fn sriov(
    host: &dyn Host,
    name: &str,
    owner: Owner,
    boot_id: String,
) -> Result<Option<Cached>, OldPluginError> {
    let file = format!("{SRIOV}/{name}");
    let Some(cache) = read(host, &file)? else { return Ok(None) };
    match parse(host, &cache, owner, boot_id) {
        Ok((record, mac)) => Ok(Some(Cached { file, record, mac })),
        Err(wrong) => Err(OldPluginError::Garbled { file, reason: wrong.to_string() }),
    }
}

/// A file that one of the old plugins wrote; None where it is not there.
pub fn read(host: &dyn Host, file: &str) -> Result<Option<Map<String, Value>>, OldPluginError> {
    let bytes = function::optional(host.read(file)).map_err(OldPluginError::Refused)?;
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| OldPluginError::Garbled {
            file: file.to_owned(),
            reason: error.to_string(),
        })
    };
    bytes.map(parse).transpose()
}

/// The same where nobody has said whose it is: the file is called `container-interface`, and holds the interface; of the
/// namespace the allocation file alone tells.
pub fn sriov_of_anybody(
    host: &dyn Host,
    name: &str,
    boot_id: String,
) -> Result<Option<Cached>, OldPluginError> {
    let refused = OldPluginError::Refused;
    let Some(mut cached) = sriov(host, name, Owner::default(), boot_id)? else { return Ok(None) };
    let owner = &mut cached.record.owner;
    let interface = name.rsplit('-').next().unwrap_or_default();
    owner.container = name.strip_suffix(&format!("-{interface}")).unwrap_or_default().to_owned();
    owner.interface = interface.to_owned();
    owner.namespace =
        allocated_to(host, &cached.record.device).map_err(refused)?.unwrap_or_default();
    if let Ok(found) = host.metadata(&owner.namespace) {
        (owner.namespace_device, owner.namespace_inode) = (found.device, found.inode);
    }
    Ok(Some(cached))
}

/// Upstream's configuration of the attachment, with what it found before.
fn parse(
    host: &dyn Host,
    cache: &Map<String, Value>,
    owner: Owner,
    boot_id: String,
) -> Result<(Record, String), WrongField> {
    let fields = Fields::new(cache);
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
    let vf = custody(host, &device, &fields, before, link)?;
    // Upstream does not say since when.
    let since = Timestamp::UNIX_EPOCH;
    let record = Record { version: VERSION, boot_id, device, owner, since, vf, rdma: None };
    Ok((record, fields.text("mac")?.to_lowercase()))
}

/// The VF that a memory of `sriov` or `ib-sriov` is about. A VF that is gone needs nothing; one that is another now is told
/// apart by its index.
pub fn custody(
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
    /// For a pod that died without DEL: after a reboot the VF is another with another address, and the memory of an address
    /// is of the one before.
    pub fn forget_address_unless(&mut self, address: &str) {
        if let Some(vf) = &mut self.record.vf
            && (self.mac.is_empty() || address != self.mac)
        {
            vf.before.mac = None;
            vf.link.iter_mut().for_each(|link| link.address.clear());
        }
    }
}

fn vlan(original: &Fields) -> Result<VlanTag, WrongField> {
    let protocol = if original.number("VlanProto")? == Some(0x88a8) { 0x88a8 } else { 0x8100 };
    Ok(VlanTag { id: original.small("Vlan")?, qos: original.small("VlanQoS")?, protocol })
}
