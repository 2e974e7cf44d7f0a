//! The configuration of `sriov`: every key of upstream's plugin, checked before anything is touched.

use crate::arguments;
use crate::failure::{self, Failure};
use crate::frame::Call;
use crate::ipam::Ipam;
use crate::log::Level;
use api::PciAddress;
use api::journal::{LinkState, Rate, VfProfile, VlanTag};
use host::fields::Fields;
use host::vf_profile::show_address;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub device: PciAddress,
    /// What is asked of the VF through its PF.
    pub wanted: VfProfile,
    /// The MAC asked for: also the interface's own address.
    pub mac: Option<[u8; 6]>,
    pub ipam: Option<Ipam>,
}

impl Config {
    pub fn read(call: &Call) -> Result<Self, Failure> {
        let fields = call.fields();
        let mac = mac(call, &fields)?;
        Ok(Self {
            device: device(&fields)?,
            wanted: VfProfile {
                mac: mac.map(|mac| show_address(&mac)),
                vlan: vlan(&fields)?,
                rate: rate(&fields)?,
                spoof_check: switch(&fields, "spoofchk")?,
                trust: switch(&fields, "trust")?,
                link_state: link_state(&fields)?,
                guid: None,
            },
            mac,
            ipam: Ipam::read(call)?,
        })
    }
}

/// Sets up the log as `logLevel` and `logFile` ask.
pub fn configure_log(call: &Call) -> Result<(), Failure> {
    let fields = call.fields();
    call.log.admit(Level::parse(fields.text("logLevel")?));
    let file = fields.text("logFile")?;
    if !file.is_empty() && !file.starts_with('/') {
        return Err(Failure::configuration(format!("logFile {file:?} is not an absolute path")));
    }
    call.log.to_file(file);
    Ok(())
}

/// `deviceID`, which Multus fills in from what the kubelet allocated.
pub fn device(fields: &Fields) -> Result<PciAddress, Failure> {
    let text = fields.text("deviceID")?;
    if text.is_empty() {
        return Err(Failure::configuration(
            "VF pci addr is required: deviceID is empty; the pod must request the resource that the \
             network is annotated with",
        ));
    }
    text.parse().map_err(|error: api::pci::NotAPciAddress| {
        Failure::configuration(format!("deviceID {error}"))
    })
}

/// `auto`, `enable` or `disable`.
pub fn link_state(fields: &Fields) -> Result<Option<LinkState>, Failure> {
    match fields.text("link_state")? {
        "" => Ok(None),
        "auto" => Ok(Some(LinkState::Auto)),
        "enable" => Ok(Some(LinkState::Enable)),
        "disable" => Ok(Some(LinkState::Disable)),
        other => Err(Failure::configuration(format!(
            "link_state {other:?} is none of auto, enable, disable"
        ))),
    }
}

/// The runtime's MAC goes before the one in `CNI_ARGS`, and that before the configuration's.
fn mac(call: &Call, fields: &Fields) -> Result<Option<[u8; 6]>, Failure> {
    let arguments = arguments::read(call, &["MAC"])?;
    let runtime = fields.nested("runtimeConfig")?;
    let candidates = [
        ("runtimeConfig.mac", runtime.text("mac")?),
        ("CNI_ARGS MAC", arguments.get("MAC").copied().unwrap_or_default()),
        ("MAC", fields.text("MAC")?),
    ];
    let Some((source, text)) = candidates.into_iter().find(|(_, text)| !text.is_empty()) else {
        return Ok(None);
    };
    let mac = parse_mac(text).ok_or_else(|| {
        Failure::configuration(format!("{source} {text:?} is not a MAC; write aa:bb:cc:dd:ee:ff"))
    })?;
    // The kernel refuses both for an interface (`is_valid_ether_addr`).
    if mac[0] & 1 == 1 || mac == [0; 6] {
        return Err(Failure::configuration(format!(
            "{source} {text:?} cannot be an interface's own address: it is a group address or zero"
        )));
    }
    Ok(Some(mac))
}

/// The three spellings that Go's parser knows: `aa:bb:…`, `aa-bb-…`, `aabb.ccdd.eeff`.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let plausible = match text.len() {
        17 => {
            ":-".contains(text.chars().nth(2)?)
                && text.chars().skip(2).step_by(3).all(|c| Some(c) == text.chars().nth(2))
        }
        14 => text.chars().skip(4).step_by(5).all(|c| c == '.'),
        _ => false,
    };
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    if !plausible || digits.len() != 12 {
        return None;
    }
    let mut mac = [0; 6];
    for (byte, pair) in mac.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(mac)
}

fn vlan(fields: &Fields) -> Result<Option<VlanTag>, Failure> {
    let id = number(fields, "vlan", 4094)?;
    let qos = number(fields, "vlanQoS", 7)?;
    let protocol = match fields.text("vlanProto")?.to_lowercase().as_str() {
        "" => None,
        "802.1q" => Some(0x8100),
        "802.1ad" => Some(0x88a8),
        other => {
            return Err(Failure::configuration(format!(
                "vlanProto {other:?} is neither 802.1q nor 802.1ad"
            )));
        }
    };
    let Some(id) = id else {
        let alone = [("vlanQoS", qos.is_some()), ("vlanProto", protocol.is_some())];
        return match alone.into_iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((name, _)) => {
                Err(Failure::configuration(format!("{name} needs vlan, which is not set")))
            }
        };
    };
    let tag = VlanTag {
        id,
        qos: u8::try_from(qos.unwrap_or(0)).unwrap_or(0),
        protocol: protocol.unwrap_or(0x8100),
    };
    if tag.id == 0 && tag.qos != 0 {
        return Err(Failure::configuration(format!(
            "vlanQoS {} needs a vlan other than 0, which means none",
            tag.qos
        )));
    }
    if tag.id == 0 && tag.protocol == 0x88a8 {
        return Err(Failure::configuration(
            "vlanProto 802.1ad needs a vlan other than 0, which means none",
        ));
    }
    Ok(Some(tag))
}

/// The kernel takes both rates at once; upstream sends 0, no limit, for the one that is not given.
fn rate(fields: &Fields) -> Result<Option<Rate>, Failure> {
    let read = |name: &str| -> Result<Option<u32>, Failure> {
        let Some(found) = fields.number(name)? else { return Ok(None) };
        u32::try_from(found)
            .map(Some)
            .map_err(|_| Failure::configuration(format!("{name} {found} is not a rate in Mbit/s")))
    };
    let (min, max) = (read("min_tx_rate")?, read("max_tx_rate")?);
    if min.is_none() && max.is_none() {
        return Ok(None);
    }
    let rate = Rate { min: min.unwrap_or(0), max: max.unwrap_or(0) };
    if rate.max != 0 && rate.min > rate.max {
        return Err(Failure::configuration(format!(
            "min_tx_rate {} is above max_tx_rate {}",
            rate.min, rate.max
        )));
    }
    Ok(Some(rate))
}

/// `on` is on and any other text off, as upstream reads it.
fn switch(fields: &Fields, name: &str) -> Result<Option<bool>, Failure> {
    let text = fields.text(name)?;
    Ok((!text.is_empty()).then_some(text == "on"))
}

fn number(fields: &Fields, name: &str, limit: u16) -> Result<Option<u16>, Failure> {
    let Some(found) = fields.number(name)? else { return Ok(None) };
    match u16::try_from(found) {
        Ok(number) if number <= limit => Ok(Some(number)),
        _ => Err(Failure::new(
            failure::CONFIGURATION,
            format!("{name} {found} is not between 0 and {limit}"),
        )),
    }
}
