//! Virtual functions as their PF's interface shows and takes them: IFLA_VFINFO_LIST and what is in it.

use super::Malformed;
use super::attribute::{Attribute, Writer};
use crate::seam::{VfLink, VfLinkState, VfSetting, Vlan};

const IFLA_VF_INFO: u16 = 1;

const IFLA_VF_MAC: u16 = 1;
const IFLA_VF_VLAN: u16 = 2;
const IFLA_VF_SPOOFCHK: u16 = 4;
const IFLA_VF_LINK_STATE: u16 = 5;
const IFLA_VF_RATE: u16 = 6;
const IFLA_VF_TRUST: u16 = 9;
const IFLA_VF_IB_NODE_GUID: u16 = 10;
const IFLA_VF_IB_PORT_GUID: u16 = 11;
const IFLA_VF_VLAN_LIST: u16 = 12;
const IFLA_VF_VLAN_INFO: u16 = 1;

/// `struct ifla_vf_mac` has room for the longest hardware address (MAX_ADDR_LEN).
const MAC_ROOM: usize = 32;
/// ETH_P_8021Q.
const CUSTOMER_VLAN: u16 = 0x8100;

/// The attributes inside IFLA_VFINFO_LIST that set one thing on VF `vf`.
pub fn setting(vf: u32, setting: &VfSetting) -> Writer {
    let inner = Writer::new();
    let inner = match setting {
        VfSetting::Mac(mac) => {
            let mut bytes = vf.to_ne_bytes().to_vec();
            bytes.extend_from_slice(mac);
            bytes.resize(4 + MAC_ROOM, 0);
            inner.bytes(IFLA_VF_MAC, &bytes)
        }
        // The list is the only form that carries a protocol; the kernel takes exactly one entry.
        VfSetting::Vlan(vlan) => {
            let mut bytes: Vec<u8> = [vf, u32::from(vlan.id), u32::from(vlan.qos)]
                .iter()
                .flat_map(|field| field.to_ne_bytes())
                .collect();
            bytes.extend_from_slice(&vlan.protocol.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
            inner.nest(IFLA_VF_VLAN_LIST, Writer::new().bytes(IFLA_VF_VLAN_INFO, &bytes))
        }
        VfSetting::Rate { min, max } => inner.words(IFLA_VF_RATE, &[vf, *min, *max]),
        VfSetting::SpoofCheck(on) => inner.words(IFLA_VF_SPOOFCHK, &[vf, u32::from(*on)]),
        VfSetting::Trust(on) => inner.words(IFLA_VF_TRUST, &[vf, u32::from(*on)]),
        VfSetting::LinkState(state) => inner.words(IFLA_VF_LINK_STATE, &[vf, number(*state)]),
        VfSetting::NodeGuid(guid) => inner.bytes(IFLA_VF_IB_NODE_GUID, &guid_of(vf, *guid)),
        VfSetting::PortGuid(guid) => inner.bytes(IFLA_VF_IB_PORT_GUID, &guid_of(vf, *guid)),
    };
    Writer::new().nest(IFLA_VF_INFO, inner)
}

/// `struct ifla_vf_guid`: the compiler puts four bytes between its index and its 64-bit GUID.
fn guid_of(vf: u32, guid: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&vf.to_ne_bytes());
    bytes[8..].copy_from_slice(&guid.to_ne_bytes());
    bytes
}

fn number(state: VfLinkState) -> u32 {
    match state {
        VfLinkState::Auto => 0,
        VfLinkState::Enable => 1,
        VfLinkState::Disable => 2,
    }
}

/// The VFs in IFLA_VFINFO_LIST, each with a hardware address of `address_length` bytes.
pub fn parse_list(list: &Attribute<'_>, address_length: usize) -> Result<Vec<VfLink>, Malformed> {
    let entries = list.nested()?;
    entries.iter().filter(|a| a.kind == IFLA_VF_INFO).map(|a| parse(a, address_length)).collect()
}

fn parse(info: &Attribute<'_>, address_length: usize) -> Result<VfLink, Malformed> {
    let mut vf = VfLink::default();
    for attribute in info.nested()? {
        match attribute.kind {
            IFLA_VF_MAC => {
                vf.index = attribute.word(0)?;
                let room = attribute.value.get(4..).unwrap_or_default();
                vf.mac = room[..address_length.min(room.len())].to_vec();
            }
            // Both forms come; the list knows the protocol, so it wins by coming later.
            IFLA_VF_VLAN => vf.vlan = Some(vlan(&attribute, CUSTOMER_VLAN)?),
            IFLA_VF_VLAN_LIST => {
                let entries = attribute.nested()?;
                if let Some(entry) = entries.iter().find(|a| a.kind == IFLA_VF_VLAN_INFO) {
                    vf.vlan = Some(vlan(entry, u16::from_be_bytes(entry.field(12)?))?);
                }
            }
            IFLA_VF_SPOOFCHK => vf.spoof_check = switch(attribute.word(4)?),
            IFLA_VF_TRUST => vf.trust = switch(attribute.word(4)?),
            IFLA_VF_LINK_STATE => vf.link_state = state(attribute.word(4)?),
            IFLA_VF_RATE => {
                vf.min_tx_rate = Some(attribute.word(4)?);
                vf.max_tx_rate = Some(attribute.word(8)?);
            }
            IFLA_VF_IB_NODE_GUID => vf.node_guid = Some(guid(&attribute)?),
            IFLA_VF_IB_PORT_GUID => vf.port_guid = Some(guid(&attribute)?),
            _ => {}
        }
    }
    Ok(vf)
}

fn vlan(entry: &Attribute<'_>, protocol: u16) -> Result<Vlan, Malformed> {
    let out_of_range = |_| Malformed("a VLAN of a VF is out of range".to_owned());
    Ok(Vlan {
        id: u16::try_from(entry.word(4)?).map_err(out_of_range)?,
        qos: u8::try_from(entry.word(8)?).map_err(out_of_range)?,
        protocol,
    })
}

/// The kernel writes -1 where the driver does not tell.
fn switch(value: u32) -> Option<bool> {
    match value {
        0 => Some(false),
        u32::MAX => None,
        _ => Some(true),
    }
}

fn state(value: u32) -> Option<VfLinkState> {
    [VfLinkState::Auto, VfLinkState::Enable, VfLinkState::Disable]
        .into_iter()
        .find(|state| number(*state) == value)
}

fn guid(attribute: &Attribute<'_>) -> Result<u64, Malformed> {
    Ok(u64::from_ne_bytes(attribute.field(8)?))
}
