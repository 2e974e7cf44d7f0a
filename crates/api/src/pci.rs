//! PCI addresses as the kernel writes them: `0000:3b:00.0`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
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
        let Self { domain, bus, device, function } = *self;
        if domain > 0xffff {
            return write!(f, "{domain:x}:{bus:02x}:{device:02x}.{function:x}");
        }
        // Digit by digit, written at once: every path in sysfs begins with one, and a node is read by thousands of them.
        let digit = |number: u32, place: u32| DIGITS[((number >> (4 * place)) & 0xf) as usize];
        let (bus, device) = (u32::from(bus), u32::from(device));
        let text = [
            digit(domain, 3),
            digit(domain, 2),
            digit(domain, 1),
            digit(domain, 0),
            b':',
            digit(bus, 1),
            digit(bus, 0),
            b':',
            digit(device, 1),
            digit(device, 0),
            b'.',
            digit(function.into(), 0),
        ];
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl fmt::Debug for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PciAddress {
    type Err = NotAPciAddress;

    fn from_str(text: &str) -> Result<Self, NotAPciAddress> {
        let parse = || {
            // Domains above ffff exist (Intel VMD), so five to eight digits are accepted there; what follows has its length.
            let bytes = text.as_bytes();
            let (domain, rest) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
            let [b':', bus @ .., b':', device_1, device_2, b'.', function] = rest else {
                return None;
            };
            let hex = |digits: &[u8]| {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digits.iter().try_fold(0_u32, |sum, byte| Some(sum << 4 | digit(byte)?))
            };
            Some(Self {
                domain: hex(domain).filter(|_| (4..=8).contains(&domain.len()))?,
                bus: u8::try_from(hex(bus)?).ok()?,
                device: u8::try_from(hex(&[*device_1, *device_2])?).ok().filter(|d| *d < 32)?,
                function: u8::try_from(hex(&[*function])?).ok().filter(|f| *f < 8)?,
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
