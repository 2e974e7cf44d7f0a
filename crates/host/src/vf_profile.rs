//! A VF as its PF holds it: who it is, reading its settings, and bringing them to what is wanted.
//!
//! Settings go through the PF's interface, so the VF may be in any namespace. Nothing of the VF's own interface
//! is touched here.

use crate::seam::{Changed, Host, LinkChange, LinkQuery, Namespace, Refusal};
use crate::seam::{VfLink, VfLinkState, VfSetting, Vlan};
use api::PciAddress;
use api::journal::{LinkState, Rate, VfProfile, VlanTag};
use rustix::io::Errno;
use std::fmt::Write as _;
use std::time::Duration;
use thiserror::Error;

/// Some drivers take a setting and show it later: upstream reads a MAC back for two seconds, and so do we.
const READ_BACK_TRIES: u32 = 20;
const READ_BACK_PAUSE: Duration = Duration::from_millis(100);

/// Which VF of which PF a PCI address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VfIdentity {
    pub pci: PciAddress,
    pub pf: PciAddress,
    pub index: u32,
}

/// The interface of a PF, through which its VFs are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PfLink {
    pub link: u32,
    pub name: String,
    pub mtu: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VfProfileError {
    #[error("there is no PCI device {0} on this node")]
    NoDevice(PciAddress),
    #[error("{0} is not a VF: it has no physfn in sysfs")]
    NotAVf(PciAddress),
    #[error("{pci} is not among the VFs of its PF {pf}")]
    NoIndex { pci: PciAddress, pf: PciAddress },
    #[error("PF {pf} has no interface in the host's network namespace that shows VF {index}")]
    NoPfLink { pf: PciAddress, index: u32 },
    #[error("cannot set {setting} on VF {index} of {pf}: {}", refusal.reason())]
    Refused { setting: String, index: u32, pf: String, refusal: Refusal },
    #[error("VF {index} of {pf} has {found} after {wanted} was set")]
    NotTaken { index: u32, pf: String, wanted: String, found: String },
    #[error("cannot {0}")]
    Unreadable(Refusal),
    #[error("{0:?} is not a hardware address")]
    NotAnAddress(String),
}

impl From<Refusal> for VfProfileError {
    fn from(refusal: Refusal) -> Self {
        Self::Unreadable(refusal)
    }
}

/// Finds PF and index of a VF by the links that the kernel keeps in sysfs.
pub fn identify(host: &dyn Host, pci: &PciAddress) -> Result<VfIdentity, VfProfileError> {
    let physfn = match host.link_target(&pci.file("physfn")) {
        Err(refusal) if refusal.errno == Errno::NOENT => {
            return Err(match host.metadata(&pci.directory()) {
                Err(refusal) if refusal.errno == Errno::NOENT => VfProfileError::NoDevice(*pci),
                _ => VfProfileError::NotAVf(*pci),
            });
        }
        physfn => physfn?,
    };
    let pf = last_address(&physfn).ok_or(VfProfileError::NotAVf(*pci))?;
    for name in host.list(&pf.directory())? {
        let Some(index) = name.strip_prefix("virtfn").and_then(|index| index.parse().ok()) else {
            continue;
        };
        let target = host.link_target(&pf.file(&name))?;
        if last_address(&target) == Some(*pci) {
            return Ok(VfIdentity { pci: *pci, pf, index });
        }
    }
    Err(VfProfileError::NoIndex { pci: *pci, pf })
}

/// The PF's interface, and the VF as it shows it. In switchdev mode the representors stand beside the PF's
/// interface in sysfs; only the latter lists VFs.
pub fn look(host: &dyn Host, vf: &VfIdentity) -> Result<(PfLink, VfProfile), VfProfileError> {
    let (pf, held) = find(host, vf)?;
    Ok((pf, profile_of(&held)))
}

/// All that the PF's interface says of the VF.
pub fn held(host: &dyn Host, vf: &VfIdentity) -> Result<VfLink, VfProfileError> {
    find(host, vf).map(|(_, held)| held)
}

fn find(host: &dyn Host, vf: &VfIdentity) -> Result<(PfLink, VfLink), VfProfileError> {
    for name in host.list(&vf.pf.file("net"))? {
        let query = LinkQuery { name: Some(name), index: None, with_vfs: true };
        for link in host.links(&Namespace::Host, &query)? {
            if let Some(found) = link.vfs.iter().find(|found| found.index == vf.index) {
                let pf = PfLink { link: link.index, name: link.name.clone(), mtu: link.mtu };
                return Ok((pf, found.clone()));
            }
        }
    }
    Err(VfProfileError::NoPfLink { pf: vf.pf, index: vf.index })
}

/// Brings every setting that `wanted` names to its value, and reads it back. Equal settings are not written.
///
/// Trust is given first and taken last: an untrusted VF may not change its own address on some cards.
pub fn apply(
    host: &dyn Host,
    vf: &VfIdentity,
    wanted: &VfProfile,
) -> Result<Changed, VfProfileError> {
    let (pf, current) = look(host, vf)?;
    let settings = settings(wanted, &current)?;
    if settings.is_empty() {
        return Ok(Changed::AlreadyRight);
    }
    for setting in settings {
        let shown = words(&setting);
        let change = LinkChange::Vf { link: pf.link, vf: vf.index, setting };
        host.change_link(&Namespace::Host, &change).map_err(|refusal| VfProfileError::Refused {
            setting: shown,
            index: vf.index,
            pf: pf.name.clone(),
            refusal,
        })?;
    }
    verify(host, vf, wanted)?;
    Ok(Changed::Yes)
}

/// Waits until the PF shows what is wanted.
fn verify(host: &dyn Host, vf: &VfIdentity, wanted: &VfProfile) -> Result<(), VfProfileError> {
    for attempt in 1.. {
        let (pf, found) = look(host, vf)?;
        let Some((wanted, found)) = difference(wanted, &found) else { return Ok(()) };
        if attempt == READ_BACK_TRIES {
            return Err(VfProfileError::NotTaken { index: vf.index, pf: pf.name, wanted, found });
        }
        host.wait(&[], READ_BACK_PAUSE);
    }
    Ok(())
}

/// The first setting that is not as wanted, in words: wanted, found. What a driver does not tell is believed.
pub fn difference(wanted: &VfProfile, found: &VfProfile) -> Option<(String, String)> {
    differences(wanted, found).into_iter().next()
}

/// All of them.
pub fn differences(wanted: &VfProfile, found: &VfProfile) -> Vec<(String, String)> {
    // GUIDs are not compared: the kernel shows them only for some drivers, and zeros for the others.
    fn differs<T: PartialEq>(
        wanted: &Option<T>,
        found: &Option<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<(String, String)> {
        match (wanted, found) {
            (Some(wanted), Some(found)) if wanted != found => Some((show(wanted), show(found))),
            _ => None,
        }
    }
    let link_state = |state: &LinkState| format!("link_state {}", link_state_word(to_seam(*state)));
    let all = [
        differs(&wanted.vlan, &found.vlan, |vlan| vlan_words(vlan.id, vlan.qos, vlan.protocol)),
        differs(&wanted.mac, &found.mac, |mac| format!("MAC {mac}")),
        differs(&wanted.rate, &found.rate, |rate| rate_words(rate.min, rate.max)),
        differs(&wanted.spoof_check, &found.spoof_check, |on| switch_words("spoofchk", *on)),
        differs(&wanted.trust, &found.trust, |on| switch_words("trust", *on)),
        differs(&wanted.link_state, &found.link_state, link_state),
    ];
    all.into_iter().flatten().collect()
}

/// The changes from `current` to `wanted`, in the order of upstream but for trust.
fn settings(wanted: &VfProfile, current: &VfProfile) -> Result<Vec<VfSetting>, VfProfileError> {
    let mut settings = Vec::new();
    let trust = wanted.trust.filter(|_| wanted.trust != current.trust);
    if trust == Some(true) {
        settings.push(VfSetting::Trust(true));
    }
    if let Some(vlan) = wanted.vlan.filter(|_| wanted.vlan != current.vlan) {
        let VlanTag { id, qos, protocol } = vlan;
        settings.push(VfSetting::Vlan(Vlan { id, qos, protocol }));
    }
    if let Some(mac) = wanted.mac.as_ref().filter(|_| wanted.mac != current.mac) {
        let bytes = parse_address(mac).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| VfProfileError::NotAnAddress(mac.clone()))?;
        settings.push(VfSetting::Mac(bytes));
    }
    if let Some(rate) = wanted.rate.filter(|_| wanted.rate != current.rate) {
        settings.push(VfSetting::Rate { min: rate.min, max: rate.max });
    }
    if let Some(on) = wanted.spoof_check.filter(|_| wanted.spoof_check != current.spoof_check) {
        settings.push(VfSetting::SpoofCheck(on));
    }
    if let Some(state) = wanted.link_state.filter(|_| wanted.link_state != current.link_state) {
        settings.push(VfSetting::LinkState(to_seam(state)));
    }
    if let Some(guid) = &wanted.guid {
        let bytes = parse_address(guid).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| VfProfileError::NotAnAddress(guid.clone()))?;
        settings.push(VfSetting::NodeGuid(u64::from_be_bytes(bytes)));
        settings.push(VfSetting::PortGuid(u64::from_be_bytes(bytes)));
    }
    if trust == Some(false) {
        settings.push(VfSetting::Trust(false));
    }
    Ok(settings)
}

/// What the PF says about a VF, without its GUID: who changes that, remembers it separately.
fn profile_of(vf: &VfLink) -> VfProfile {
    VfProfile {
        mac: (vf.mac.len() == 6).then(|| show_address(&vf.mac)),
        vlan: vf.vlan.map(|vlan| VlanTag {
            id: vlan.id,
            qos: vlan.qos,
            // No VLAN has no protocol; drivers show 0x8100 or 0.
            protocol: if vlan.protocol == 0 { 0x8100 } else { vlan.protocol },
        }),
        rate: vf.max_tx_rate.map(|max| Rate { min: vf.min_tx_rate.unwrap_or(0), max }),
        spoof_check: vf.spoof_check,
        trust: vf.trust,
        link_state: vf.link_state.map(|state| match state {
            VfLinkState::Auto => LinkState::Auto,
            VfLinkState::Enable => LinkState::Enable,
            VfLinkState::Disable => LinkState::Disable,
        }),
        guid: None,
    }
}

fn to_seam(state: LinkState) -> VfLinkState {
    match state {
        LinkState::Auto => VfLinkState::Auto,
        LinkState::Enable => VfLinkState::Enable,
        LinkState::Disable => VfLinkState::Disable,
    }
}

fn words(setting: &VfSetting) -> String {
    match setting {
        VfSetting::Mac(mac) => format!("MAC {}", show_address(mac)),
        VfSetting::Vlan(vlan) => vlan_words(vlan.id, vlan.qos, vlan.protocol),
        VfSetting::Rate { min, max } => rate_words(*min, *max),
        VfSetting::SpoofCheck(on) => switch_words("spoofchk", *on),
        VfSetting::Trust(on) => switch_words("trust", *on),
        VfSetting::LinkState(state) => format!("link_state {}", link_state_word(*state)),
        VfSetting::NodeGuid(guid) => format!("node GUID {}", show_address(&guid.to_be_bytes())),
        VfSetting::PortGuid(guid) => format!("port GUID {}", show_address(&guid.to_be_bytes())),
    }
}

fn vlan_words(id: u16, qos: u8, protocol: u16) -> String {
    let protocol = if protocol == 0x88a8 { "802.1ad" } else { "802.1q" };
    format!("vlan {id} qos {qos} {protocol}")
}

fn rate_words(min: u32, max: u32) -> String {
    format!("rate {min} to {max} Mbit/s")
}

fn switch_words(name: &str, on: bool) -> String {
    format!("{name} {}", if on { "on" } else { "off" })
}

fn link_state_word(state: VfLinkState) -> &'static str {
    match state {
        VfLinkState::Auto => "auto",
        VfLinkState::Enable => "enable",
        VfLinkState::Disable => "disable",
    }
}

/// `aa:bb:cc:dd:ee:ff`.
pub fn show_address(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (position, byte) in bytes.iter().enumerate() {
        let colon = if position == 0 { "" } else { ":" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{colon}{byte:02x}");
    }
    text
}

/// The bytes of a hardware address or GUID with colons.
pub fn parse_address(text: &str) -> Option<Vec<u8>> {
    text.split(':')
        .map(|part| {
            let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        })
        .collect()
}

/// The PCI address at the end of a sysfs link's target: `../0000:3b:00.2`.
fn last_address(target: &str) -> Option<PciAddress> {
    target.rsplit('/').next()?.parse().ok()
}
