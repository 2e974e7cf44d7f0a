//! PCI addresses as the kernel writes them: `0000:3b:00.0`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{self, Write};
use std::str::FromStr;

/// The address of one PCI function: domain, bus, device, function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    pub domain: u32,
    pub bus: u8,
    pub device: u8,
    pub function: u8,
}

/// A text that is not a PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a PCI address; write domain:bus:device.function, for example 0000:3b:00.0")]
pub struct NotAPciAddress(pub String);

impl PciAddress {
    /// The function's directory in sysfs.
    pub fn directory(&self) -> String {
        format!("/sys/bus/pci/devices/{self}")
    }

    /// The path of one attribute file of the function in sysfs.
    pub fn file(&self, name: &str) -> String {
        format!("/sys/bus/pci/devices/{self}/{name}")
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Written digit by digit: every path in sysfs begins with one, and a node is read by thousands of them.
        if self.domain > 0xffff {
            write!(f, "{:x}", self.domain)?;
        } else {
            hex(f, self.domain, 4)?;
        }
        f.write_char(':')?;
        hex(f, self.bus.into(), 2)?;
        f.write_char(':')?;
        hex(f, self.device.into(), 2)?;
        f.write_char('.')?;
        hex(f, self.function.into(), 1)
    }
}

/// The last `digits` hex digits of a number.
fn hex(f: &mut fmt::Formatter<'_>, number: u32, digits: u32) -> fmt::Result {
    let digit = |place: u32| char::from_digit((number >> (4 * place)) & 0xf, 16);
    (0..digits).rev().filter_map(digit).try_for_each(|digit| f.write_char(digit))
}

impl fmt::Debug for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PciAddress {
    type Err = NotAPciAddress;

    fn from_str(text: &str) -> Result<Self, NotAPciAddress> {
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let hex = |part: &str, digits: std::ops::RangeInclusive<usize>| {
                let plain = part.bytes().all(|b| b.is_ascii_hexdigit());
                (plain && digits.contains(&part.len()))
                    .then(|| u32::from_str_radix(part, 16).ok())
                    .flatten()
            };
            // Domains above ffff exist (Intel VMD), so five to eight digits are accepted there.
            Some(Self {
                domain: hex(domain, 4..=8)?,
                bus: u8::try_from(hex(bus, 2..=2)?).ok()?,
                device: u8::try_from(hex(device, 2..=2)?).ok().filter(|d| *d < 32)?,
                function: u8::try_from(hex(function, 1..=1)?).ok().filter(|f| *f < 8)?,
            })
        };
        parse().ok_or_else(|| NotAPciAddress(text.to_owned()))
    }
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PciAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in ["0000:3b:00.0", "0000:3b:1f.7", "10000:01:00.0"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for text in ["", "3b:00.0", "0000:3b:00", "0000:3b:20.0", "0000:3b:00.8", "0000:+b:00.0"] {
            let error = text.parse::<PciAddress>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("{text:?} is not a PCI address")));
        }
    }
}
