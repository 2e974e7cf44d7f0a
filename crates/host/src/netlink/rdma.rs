//! RDMA netlink (NETLINK_RDMA, client nldev): the mode of the subsystem, devices, ports, and moves.
//!
//! A message's type is the client number and the operation in one; there is no further header.

use super::Malformed;
use super::attribute::{Attribute, Writer, read};
use super::message::Request;
use crate::seam::{RdmaChange, RdmaCount, RdmaDevice, RdmaOwner, RdmaPort};
use api::RdmaMode;

const NLDEV: u16 = 5 << 10;
const GET: u16 = 1;
const SET: u16 = 2;
const NEWLINK: u16 = 3;
const PORT_GET: u16 = 5;
const SYS_GET: u16 = 6;
const SYS_SET: u16 = 7;
const RES_GET: u16 = 9;
const RES_QP_GET: u16 = 10;
const RES_CM_ID_GET: u16 = 11;
const RES_PD_GET: u16 = 14;
const STAT_GET: u16 = 17;

const DEV_INDEX: u16 = 1;
const DEV_NAME: u16 = 2;
const PORT_INDEX: u16 = 3;
const NODE_GUID: u16 = 6;
const SYS_IMAGE_GUID: u16 = 7;
const PORT_STATE: u16 = 12;
const PORT_PHYS_STATE: u16 = 13;
const RES_SUMMARY: u16 = 15;
const RES_SUMMARY_NAME: u16 = 17;
const RES_QP: u16 = 19;
const RES_PID: u16 = 28;
const RES_KERN_NAME: u16 = 29;
const RES_CM_ID: u16 = 30;
const RES_PD: u16 = 46;
const NDEV_INDEX: u16 = 50;
const NDEV_NAME: u16 = 51;
const LINK_TYPE: u16 = 65;
const SYS_NETNS_MODE: u16 = 66;
const NET_NS_FD: u16 = 68;
const STAT_HWCOUNTERS: u16 = 80;
const STAT_HWCOUNTER_NAME: u16 = 82;

/// `enum ib_port_state`, as `rdma link` prints it.
const STATES: [&str; 6] = ["NOP", "DOWN", "INIT", "ARMED", "ACTIVE", "ACTIVE_DEFER"];
/// `enum ib_port_phys_state`, as `rdma link` prints it.
const PHYSICAL_STATES: [&str; 8] =
    ["NOP", "SLEEP", "POLLING", "DISABLED", "ARMED", "LINK_UP", "LINK_ERROR_RECOVER", "PHY_TEST"];

pub fn mode_query() -> Request {
    Request::get(NLDEV | SYS_GET, Vec::new())
}

pub fn parse_mode(payload: &[u8]) -> Result<RdmaMode, Malformed> {
    let attributes = read(payload)?;
    let mode = attributes.iter().find(|a| a.kind == SYS_NETNS_MODE);
    match mode.map(Attribute::u8).transpose()? {
        Some(0) => Ok(RdmaMode::Exclusive),
        Some(_) => Ok(RdmaMode::Shared),
        // Kernels before 5.2 know one mode only, and send no attribute.
        None => Ok(RdmaMode::Shared),
    }
}

pub fn device_query() -> Request {
    Request::dump(NLDEV | GET, Vec::new())
}

pub fn parse_device(payload: &[u8]) -> Result<RdmaDevice, Malformed> {
    let mut device = RdmaDevice::default();
    for attribute in read(payload)? {
        match attribute.kind {
            DEV_INDEX => device.index = attribute.u32()?,
            DEV_NAME => device.name = attribute.text(),
            NODE_GUID => device.node_guid = attribute.u64()?,
            SYS_IMAGE_GUID => device.system_image_guid = attribute.u64()?,
            _ => {}
        }
    }
    match device.name.is_empty() {
        true => Err(Malformed("an RDMA device has no name".to_owned())),
        false => Ok(device),
    }
}

/// All ports of one device.
pub fn port_query(device: u32) -> Request {
    Request::dump(NLDEV | PORT_GET, Writer::new().u32(DEV_INDEX, device).done())
}

pub fn parse_port(payload: &[u8]) -> Result<RdmaPort, Malformed> {
    let mut port = RdmaPort::default();
    for attribute in read(payload)? {
        match attribute.kind {
            PORT_INDEX => port.number = attribute.u32()?,
            PORT_STATE => port.state = word(&STATES, attribute.u8()?),
            PORT_PHYS_STATE => port.physical_state = word(&PHYSICAL_STATES, attribute.u8()?),
            NDEV_INDEX => port.netdev = Some(attribute.u32()?),
            NDEV_NAME => port.netdev_name = Some(attribute.text()),
            _ => {}
        }
    }
    Ok(port)
}

/// A kind of thing that users make on a device: who asks for it, and where the answer has it.
#[derive(Debug, Clone, Copy)]
pub struct Resource {
    operation: u16,
    table: u16,
}

/// Whoever uses a device has a protection domain on it; who only listens has no more than a connection's identity.
pub const RESOURCES: [Resource; 3] = [
    Resource { operation: RES_PD_GET, table: RES_PD },
    Resource { operation: RES_QP_GET, table: RES_QP },
    Resource { operation: RES_CM_ID_GET, table: RES_CM_ID },
];

/// All of one kind on one device.
pub fn owners_query(resource: Resource, device: u32) -> Request {
    Request::dump(NLDEV | resource.operation, Writer::new().u32(DEV_INDEX, device).done())
}

/// The owners in one message; an entry whose process is gone has none.
pub fn parse_owners(resource: Resource, payload: &[u8]) -> Result<Vec<RdmaOwner>, Malformed> {
    let mut owners = Vec::new();
    for table in read(payload)?.iter().filter(|attribute| attribute.kind == resource.table) {
        for entry in table.nested()? {
            for attribute in entry.nested()? {
                match attribute.kind {
                    RES_KERN_NAME => owners.push(RdmaOwner::Kernel(attribute.text())),
                    RES_PID => owners.push(RdmaOwner::Process(attribute.u32()?)),
                    _ => {}
                }
            }
        }
    }
    Ok(owners)
}

/// A table of names and numbers: where the answer has it, and the name in each of its entries. The number is behind it.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    table: u16,
    name: u16,
}

pub const COUNTERS: Counts = Counts { table: STAT_HWCOUNTERS, name: STAT_HWCOUNTER_NAME };
pub const SUMMARY: Counts = Counts { table: RES_SUMMARY, name: RES_SUMMARY_NAME };

/// The hardware's counters of a port.
pub fn counters_query(device: u32, port: u32) -> Request {
    let attributes = Writer::new().u32(DEV_INDEX, device).u32(PORT_INDEX, port);
    Request::get(NLDEV | STAT_GET, attributes.done())
}

/// How many resources of each kind the device has.
pub fn resources_query(device: u32) -> Request {
    Request::get(NLDEV | RES_GET, Writer::new().u32(DEV_INDEX, device).done())
}

/// The table in one message; an entry without a name or a number is none.
pub fn parse_counts(counts: Counts, payload: &[u8]) -> Result<Vec<RdmaCount>, Malformed> {
    let mut found = Vec::new();
    for table in read(payload)?.iter().filter(|attribute| attribute.kind == counts.table) {
        for entry in table.nested()? {
            let inner = entry.nested()?;
            let of = |kind: u16| inner.iter().find(|attribute| attribute.kind == kind);
            if let (Some(name), Some(value)) = (of(counts.name), of(counts.name + 1)) {
                found.push(RdmaCount { name: name.text(), value: value.u64()? });
            }
        }
    }
    Ok(found)
}

fn word(words: &[&str], number: u8) -> String {
    words.get(usize::from(number)).copied().unwrap_or("UNKNOWN").to_owned()
}

/// The request for `change`. `target` is the open namespace of a move, as a file descriptor of the asking process.
pub fn change(change: &RdmaChange, target: Option<i32>) -> Result<Request, Malformed> {
    Ok(match change {
        RdmaChange::Mode(mode) => {
            let shared = u8::from(*mode == RdmaMode::Shared);
            Request::change(NLDEV | SYS_SET, Writer::new().u8(SYS_NETNS_MODE, shared).done())
        }
        RdmaChange::Move { device, to: _ } => {
            let target = target.ok_or_else(|| Malformed("a move needs its target".to_owned()))?;
            set(*device, Writer::new().u32(NET_NS_FD, target.cast_unsigned()))
        }
        RdmaChange::Rename { device, name } => set(*device, Writer::new().text(DEV_NAME, name)),
    })
}

fn set(device: u32, attributes: Writer) -> Request {
    let mut payload = Writer::new().u32(DEV_INDEX, device).done();
    payload.extend(attributes.done());
    Request::change(NLDEV | SET, payload)
}

/// Makes a soft RDMA device (`rxe`, `siw`) named `name` on the interface `netdev`. Only the lab does this.
pub fn soft_device(name: &str, kind: &str, netdev: &str) -> Request {
    let attributes = Writer::new().text(DEV_NAME, name).text(LINK_TYPE, kind);
    Request::change(NLDEV | NEWLINK, attributes.text(NDEV_NAME, netdev).done())
}

#[cfg(test)]
#[path = "rdma_tests.rs"]
mod tests;
