//! Network interfaces over rtnetlink: RTM_GETLINK, RTM_SETLINK and the link properties (altnames).

use super::attribute::{Attribute, Writer, read};
use super::message::{CREATE, EXCLUSIVE, Request};
use super::{Malformed, vf};
use crate::seam::{Link, LinkChange, LinkQuery};

pub const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWLINKPROP: u16 = 108;
const RTM_DELLINKPROP: u16 = 109;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_NUM_VF: u16 = 21;
const IFLA_VFINFO_LIST: u16 = 22;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_PHYS_SWITCH_ID: u16 = 36;
const IFLA_PHYS_PORT_NAME: u16 = 38;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_PARENT_DEV_NAME: u16 = 56;

const RTEXT_FILTER_VF: u32 = 1;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;

const IFF_UP: u32 = 1;
const IFF_RUNNING: u32 = 0x40;
const IFF_PROMISC: u32 = 0x100;
const IFF_ALLMULTI: u32 = 0x200;

/// `struct ifinfomsg`: family, padding, hardware type, index, flags, which flags change.
const HEADER: usize = 16;
/// The longest name of an interface itself (IFNAMSIZ - 1); longer ones are altnames.
const LONGEST_NAME: usize = 15;

fn header(link: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for field in [link, flags, change] {
        bytes.extend_from_slice(&field.to_ne_bytes());
    }
    bytes
}

fn message(kind: u16, link: u32, attributes: Writer) -> Request {
    let mut payload = header(link, 0, 0);
    payload.extend(attributes.done());
    Request::change(kind, payload)
}

/// The question for `query`: one interface where it names one, else all.
pub fn query(query: &LinkQuery) -> Request {
    let vfs = if query.with_vfs { RTEXT_FILTER_VF } else { 0 };
    // Without SKIP_STATS the per-VF counters halve the number of VFs that fit (128 instead of 256).
    let mut attributes = Writer::new().u32(IFLA_EXT_MASK, vfs | RTEXT_FILTER_SKIP_STATS);
    if let (None, Some(name)) = (query.index, &query.name) {
        let kind = if name.len() > LONGEST_NAME { IFLA_ALT_IFNAME } else { IFLA_IFNAME };
        attributes = attributes.text(kind, name);
    }
    let mut payload = header(query.index.unwrap_or(0), 0, 0);
    payload.extend(attributes.done());
    match (query.index, &query.name) {
        (None, None) => Request::dump(RTM_GETLINK, payload),
        _ => Request::get(RTM_GETLINK, payload),
    }
}

/// The request for `change`. `target` is the open namespace of a move, as a file descriptor of the asking process.
pub fn change(change: &LinkChange, target: Option<i32>) -> Result<Request, Malformed> {
    let set = |link: u32, attributes: Writer| message(RTM_SETLINK, link, attributes);
    let flag = |link: u32, flag: u32, on: bool| {
        Request::change(RTM_SETLINK, header(link, if on { flag } else { 0 }, flag))
    };
    Ok(match change {
        LinkChange::Up { link } => flag(*link, IFF_UP, true),
        LinkChange::Down { link } => flag(*link, IFF_UP, false),
        LinkChange::Promiscuous { link, on } => flag(*link, IFF_PROMISC, *on),
        LinkChange::AllMulticast { link, on } => flag(*link, IFF_ALLMULTI, *on),
        LinkChange::Mtu { link, mtu } => set(*link, Writer::new().u32(IFLA_MTU, *mtu)),
        LinkChange::Rename { link, name } => set(*link, Writer::new().text(IFLA_IFNAME, name)),
        LinkChange::Address { link, address } => {
            set(*link, Writer::new().bytes(IFLA_ADDRESS, address))
        }
        LinkChange::AddAltName { link, name } => {
            let mut request = message(RTM_NEWLINKPROP, *link, alt_name(name));
            request.flags |= CREATE | EXCLUSIVE;
            request
        }
        LinkChange::RemoveAltName { link, name } => message(RTM_DELLINKPROP, *link, alt_name(name)),
        LinkChange::Move { link, name, to: _ } => {
            let target = target.ok_or_else(|| Malformed("a move needs its target".to_owned()))?;
            let attributes = Writer::new().u32(IFLA_NET_NS_FD, target.cast_unsigned());
            set(*link, attributes.maybe(name.as_deref(), |w, name| w.text(IFLA_IFNAME, name)))
        }
        LinkChange::Vf { link, vf, setting } => {
            set(*link, Writer::new().nest(IFLA_VFINFO_LIST, vf::setting(*vf, setting)))
        }
    })
}

fn alt_name(name: &str) -> Writer {
    Writer::new().nest(IFLA_PROP_LIST, Writer::new().text(IFLA_ALT_IFNAME, name))
}

/// One interface out of the payload of RTM_NEWLINK.
pub fn parse(payload: &[u8]) -> Result<Link, Malformed> {
    let (header, attributes) = payload.split_first_chunk::<HEADER>().ok_or_else(|| {
        Malformed(format!("an interface of {} bytes has no header", payload.len()))
    })?;
    let header = Attribute { kind: 0, value: header };
    let flags = header.word(8)?;
    let mut link = Link {
        hardware: u16::from_ne_bytes(header.field(2)?),
        index: header.word(4)?,
        up: flags & IFF_UP != 0,
        running: flags & IFF_RUNNING != 0,
        // net/core/dev.c, dev_get_flags: told as they were set for the interface, whatever sockets ask for.
        promiscuous: flags & IFF_PROMISC != 0,
        all_multicast: flags & IFF_ALLMULTI != 0,
        ..Link::default()
    };
    let attributes = read(attributes)?;
    for attribute in &attributes {
        match attribute.kind {
            IFLA_IFNAME => link.name = attribute.text(),
            IFLA_ADDRESS => link.address = attribute.value.to_vec(),
            IFLA_PERM_ADDRESS => link.permanent = Some(attribute.value.to_vec()),
            IFLA_MTU => link.mtu = attribute.u32()?,
            IFLA_LINK => link.lower = Some(attribute.u32()?).filter(|index| *index != 0),
            IFLA_MASTER => link.master = Some(attribute.u32()?).filter(|index| *index != 0),
            IFLA_LINKINFO => link.kind = text_within(attribute, IFLA_INFO_KIND)?.pop(),
            IFLA_NUM_VF => link.num_vfs = Some(attribute.u32()?),
            IFLA_PHYS_SWITCH_ID => link.phys_switch_id = Some(hex(attribute.value)),
            IFLA_PHYS_PORT_NAME => link.phys_port_name = Some(attribute.text()),
            IFLA_PROP_LIST => link.alt_names = text_within(attribute, IFLA_ALT_IFNAME)?,
            IFLA_PARENT_DEV_NAME => link.parent = Some(attribute.text()),
            _ => {}
        }
    }
    // After the loop: a VF's address is as long as its PF's, which may stand behind the list.
    if let Some(list) = attributes.iter().find(|a| a.kind == IFLA_VFINFO_LIST) {
        link.vfs = vf::parse_list(list, link.address.len())?;
    }
    Ok(link)
}

fn text_within(list: &Attribute<'_>, kind: u16) -> Result<Vec<String>, Malformed> {
    Ok(list.nested()?.iter().filter(|a| a.kind == kind).map(Attribute::text).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
