//! Devlink over generic netlink, as far as we use it: the embedded switch and parameters.
//!
//! Generic netlink gives a family its message type at run time, so everything here takes the number that `family` found.

use super::Malformed;
use super::attribute::{Attribute, Writer, read};
use super::message::Request;
use crate::seam::DevlinkParameter;
use api::{EswitchMode, PciAddress};

const CONTROL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const ESWITCH_GET: u8 = 29;
const ESWITCH_SET: u8 = 30;
const PARAM_GET: u8 = 38;
const PARAM_SET: u8 = 39;

const BUS_NAME: u16 = 1;
const DEV_NAME: u16 = 2;
const ESWITCH_MODE: u16 = 25;
const PARAM: u16 = 80;
const PARAM_NAME: u16 = 81;
const PARAM_TYPE: u16 = 83;
const PARAM_VALUES_LIST: u16 = 84;
const PARAM_VALUE: u16 = 85;
const PARAM_VALUE_DATA: u16 = 86;
const PARAM_VALUE_CMODE: u16 = 87;

/// Of newer kernels (7.3 has it): a switch in switchdev mode that somebody keeps from forwarding until its rules are in place.
const SWITCHDEV_INACTIVE: u16 = 2;

/// When a parameter takes effect, by the kernel's number.
const MODES: [&str; 3] = ["runtime", "driverinit", "permanent"];

/// `struct genlmsghdr`: command, version, reserved.
const HEADER: usize = 4;

/// The type of a parameter's value, by the kernel's number (NLA_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    U8,
    U16,
    U32,
    U64,
    Text,
    /// True by being there.
    Flag,
}

const TYPES: [(u8, ValueType); 6] = [
    (1, ValueType::U8),
    (2, ValueType::U16),
    (3, ValueType::U32),
    (4, ValueType::U64),
    (5, ValueType::Text),
    (6, ValueType::Flag),
];

fn payload(command: u8, attributes: Writer) -> Vec<u8> {
    let mut bytes = vec![command, 1, 0, 0];
    bytes.extend(attributes.done());
    bytes
}

fn attributes(payload: &[u8]) -> Result<Vec<Attribute<'_>>, Malformed> {
    let behind = payload.get(HEADER..).ok_or_else(|| {
        Malformed(format!("a generic message of {} bytes has no header", payload.len()))
    })?;
    read(behind)
}

fn handle(device: &PciAddress) -> Writer {
    Writer::new().text(BUS_NAME, "pci").text(DEV_NAME, &device.to_string())
}

/// Asks for the message type of a family.
pub fn family_query(name: &str) -> Request {
    let attributes = Writer::new().text(CTRL_ATTR_FAMILY_NAME, name);
    Request::get(CONTROL, payload(CTRL_CMD_GETFAMILY, attributes))
}

pub fn parse_family(payload: &[u8]) -> Result<u16, Malformed> {
    let attributes = attributes(payload)?;
    let found = attributes.iter().find(|a| a.kind == CTRL_ATTR_FAMILY_ID);
    found.ok_or_else(|| Malformed("a netlink family has no number".to_owned()))?.u16()
}

pub fn eswitch_query(family: u16, device: &PciAddress) -> Request {
    Request::get(family, payload(ESWITCH_GET, handle(device)))
}

/// None: the driver does not tell a mode.
pub fn parse_eswitch(payload: &[u8]) -> Result<Option<EswitchMode>, Malformed> {
    let attributes = attributes(payload)?;
    let mode = attributes.iter().find(|a| a.kind == ESWITCH_MODE);
    match mode.map(Attribute::u16).transpose()? {
        None => Ok(None),
        Some(0) => Ok(Some(EswitchMode::Legacy)),
        Some(1 | SWITCHDEV_INACTIVE) => Ok(Some(EswitchMode::Switchdev)),
        Some(other) => Err(Malformed(format!("{other} is no mode of an embedded switch"))),
    }
}

pub fn set_eswitch(family: u16, device: &PciAddress, mode: EswitchMode) -> Request {
    let number: u16 = match mode {
        EswitchMode::Legacy => 0,
        EswitchMode::Switchdev => 1,
    };
    let attributes = handle(device).bytes(ESWITCH_MODE, &number.to_ne_bytes());
    Request::change(family, payload(ESWITCH_SET, attributes))
}

/// The parameters that are asked for: those of SR-IOV in the firmware.
pub const PARAMETERS: [&str; 2] = ["enable_sriov", "total_vfs"];

/// One parameter of one device. No dump: kernels before 6.6 do not look at the handle of one, tell the parameters of all
/// devices, and wait for the lock of each.
pub fn parameter_query(family: u16, device: &PciAddress, name: &str) -> Request {
    Request::get(family, payload(PARAM_GET, handle(device).text(PARAM_NAME, name)))
}

/// One parameter, with a row for each mode in which it has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// `pci/0000:3b:00.0`.
    pub device: String,
    /// None: a type that this program does not know, so it cannot be set.
    pub value_type: Option<ValueType>,
    pub name: String,
    pub rows: Vec<DevlinkParameter>,
}

pub fn parse_parameter(payload: &[u8]) -> Result<Parameter, Malformed> {
    let outer = attributes(payload)?;
    let text = |list: &[Attribute<'_>], kind: u16| {
        list.iter().find(|a| a.kind == kind).map(Attribute::text).unwrap_or_default()
    };
    let device = format!("{}/{}", text(&outer, BUS_NAME), text(&outer, DEV_NAME));
    let inner = outer.iter().find(|a| a.kind == PARAM);
    let inner = inner
        .ok_or_else(|| Malformed(format!("a parameter of {device} has no content")))?
        .nested()?;
    let name = text(&inner, PARAM_NAME);
    let number = inner.iter().find(|a| a.kind == PARAM_TYPE).map(Attribute::u8).transpose()?;
    let value_type = TYPES.iter().find(|(n, _)| Some(*n) == number).map(|(_, found)| *found);
    let mut rows = Vec::new();
    for list in inner.iter().filter(|a| a.kind == PARAM_VALUES_LIST) {
        for value in list.nested()?.iter().filter(|a| a.kind == PARAM_VALUE) {
            rows.push(row(&name, value_type, value)?);
        }
    }
    Ok(Parameter { device, value_type, name, rows })
}

fn row(
    name: &str,
    value_type: Option<ValueType>,
    value: &Attribute<'_>,
) -> Result<DevlinkParameter, Malformed> {
    let inner = value.nested()?;
    let mode = inner.iter().find(|a| a.kind == PARAM_VALUE_CMODE);
    let mode = mode.ok_or_else(|| Malformed(format!("a value of {name} has no mode")))?.u8()?;
    let mode = MODES.get(usize::from(mode)).copied().unwrap_or("unknown");
    let data = inner.iter().find(|a| a.kind == PARAM_VALUE_DATA);
    let value = match (value_type, data) {
        (Some(ValueType::Flag), data) => data.is_some().to_string(),
        (_, None) => String::new(),
        (Some(ValueType::U8), Some(data)) => data.u8()?.to_string(),
        (Some(ValueType::U16), Some(data)) => data.u16()?.to_string(),
        (Some(ValueType::U32), Some(data)) => data.u32()?.to_string(),
        (Some(ValueType::U64), Some(data)) => data.u64()?.to_string(),
        (Some(ValueType::Text), Some(data)) => data.text(),
        (None, Some(_)) => String::new(),
    };
    Ok(DevlinkParameter { name: name.to_owned(), mode: mode.to_owned(), value })
}

/// Sets one parameter whose type is known from reading it.
pub fn set_parameter(
    family: u16,
    device: &PciAddress,
    value_type: ValueType,
    wanted: &DevlinkParameter,
) -> Result<Request, Malformed> {
    let DevlinkParameter { name, mode, value } = wanted;
    let no_number =
        |_: std::num::ParseIntError| Malformed(format!("{value:?} is no value of {name}"));
    let data = match value_type {
        ValueType::U8 => Some(value.parse::<u8>().map_err(no_number)?.to_ne_bytes().to_vec()),
        ValueType::U16 => Some(value.parse::<u16>().map_err(no_number)?.to_ne_bytes().to_vec()),
        ValueType::U32 => Some(value.parse::<u32>().map_err(no_number)?.to_ne_bytes().to_vec()),
        ValueType::U64 => Some(value.parse::<u64>().map_err(no_number)?.to_ne_bytes().to_vec()),
        ValueType::Text => Some([value.as_bytes(), &[0]].concat()),
        ValueType::Flag => match value.as_str() {
            "true" => Some(Vec::new()),
            "false" => None,
            _ => {
                return Err(Malformed(format!(
                    "{value:?} is no value of {name}; write true or false"
                )));
            }
        },
    };
    let mode_number = MODES.iter().position(|known| known == mode);
    let mode_number = mode_number.and_then(|position| u8::try_from(position).ok());
    let mode_number = mode_number.ok_or_else(|| {
        Malformed(format!(
            "{mode:?} is no mode of a parameter; write runtime, driverinit or permanent"
        ))
    })?;
    let type_number = TYPES.iter().find(|(_, t)| *t == value_type).map_or(0, |(n, _)| *n);
    let attributes = handle(device)
        .text(PARAM_NAME, name)
        .u8(PARAM_TYPE, type_number)
        .u8(PARAM_VALUE_CMODE, mode_number)
        .maybe(data, |w, data| w.bytes(PARAM_VALUE_DATA, &data));
    Ok(Request::change(family, payload(PARAM_SET, attributes)))
}

#[cfg(test)]
#[path = "devlink_tests.rs"]
mod tests;
