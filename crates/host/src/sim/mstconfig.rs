//! Mellanox's firmware tool, as far as SR-IOV needs it: query and set. Its columns: belief, as spec operator.md 4.11
//! tells them (attribute, default, current, next boot).

use super::Fault;
use super::machine::{Firmware, FunctionKind, Machine};
use super::programs::{failure, success};
use crate::seam::Output;
use api::PciAddress;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the firmware takes at most (belief: a ConnectX-5 takes 127).
const MOST_VFS: u32 = 127;

impl Machine {
    /// `mstconfig -e -d <pci> q`, `mstconfig -d <pci> -y set NAME=value …`.
    pub(super) fn mstconfig(&mut self, arguments: &[&str]) -> Output {
        if self.has(Fault::LockedDown) {
            return failure(1, "-E- Failed to open the device: operation not permitted");
        }
        let device = arguments.iter().skip_while(|word| **word != "-d").nth(1);
        let Some(pci) = device.and_then(|device| device.parse::<PciAddress>().ok()) else {
            return failure(1, "-E- Missing device");
        };
        let Some(firmware) = self.physical(&pci).and_then(|part| part.firmware.clone()) else {
            return failure(1, &format!("-E- Failed to open the device {pci}"));
        };
        if arguments.iter().any(|word| matches!(*word, "q" | "query")) {
            return success(&table(&pci, &firmware));
        }
        let Some(set) = arguments.iter().position(|word| *word == "set") else {
            return failure(1, "-E- Invalid command");
        };
        let mut next = firmware.next;
        for assignment in &arguments[set + 1..] {
            let Some((name, value)) = assignment.split_once('=') else {
                return failure(1, &format!("-E- Invalid parameter {assignment}"));
            };
            if !next.contains_key(name) {
                return failure(1, &format!("-E- The Device doesn't support {name} parameter"));
            }
            let count = value.parse().unwrap_or(0_u32);
            if name == "NUM_OF_VFS" && count > MOST_VFS {
                let why = format!("-E- Failed to set {name}: {count} is over the limit {MOST_VFS}");
                return failure(1, &why);
            }
            next.insert(name.to_owned(), stored(name, value));
        }
        self.store_firmware(&pci, &next);
        success("Applying... Done!\n-I- Please reboot machine to load new configurations.\n")
    }

    /// All ports of a card share one firmware.
    pub(super) fn store_firmware(&mut self, pci: &PciAddress, next: &BTreeMap<String, String>) {
        for (other, function) in &mut self.functions {
            if let FunctionKind::Physical(part) = &mut function.kind {
                let same =
                    (other.domain, other.bus, other.device) == (pci.domain, pci.bus, pci.device);
                if let Some(firmware) = part.firmware.as_mut().filter(|_| same) {
                    firmware.next = next.clone();
                }
            }
        }
    }

    /// `mstfwreset -d <pci> … reset`: the next values become the present ones without a boot.
    pub(super) fn mstfwreset(&mut self, arguments: &[&str]) -> Output {
        let device = arguments.iter().skip_while(|word| **word != "-d").nth(1);
        let Some(pci) = device.and_then(|device| device.parse::<PciAddress>().ok()) else {
            return failure(1, "-E- Missing device");
        };
        let Some(part) = self.physical_mut(&pci) else {
            return failure(1, "-E- Failed to open the device");
        };
        let Some(firmware) = &mut part.firmware else {
            return failure(1, "-E- Failed to open the device");
        };
        firmware.current = firmware.next.clone();
        success("-I- Resetting... Done\n")
    }
}

/// Values as the firmware shows them: `True(1)`, `ETH(2)`.
fn stored(name: &str, value: &str) -> String {
    let upper = value.to_uppercase();
    match (name.starts_with("LINK_TYPE"), upper.as_str()) {
        (true, "IB" | "1") => "IB(1)".to_owned(),
        (true, "ETH" | "2") => "ETH(2)".to_owned(),
        (false, "TRUE") => "True(1)".to_owned(),
        (false, "1") if name == "SRIOV_EN" => "True(1)".to_owned(),
        (false, "FALSE") => "False(0)".to_owned(),
        (false, "0") if name == "SRIOV_EN" => "False(0)".to_owned(),
        _ => value.to_owned(),
    }
}

fn table(pci: &PciAddress, firmware: &Firmware) -> String {
    let mut text =
        format!("\nDevice #1:\n----------\n\nDevice type:    ConnectX\nDevice:         {pci}\n\n");
    let _ = writeln!(text, "{:<40}{:<24}{:<24}Next Boot", "Configurations:", "Default", "Current");
    for (name, next) in &firmware.next {
        let current = firmware.current.get(name).map_or("", String::as_str);
        let default = match name.as_str() {
            "NUM_OF_VFS" => "0",
            "SRIOV_EN" => "False(0)",
            _ => current,
        };
        let marker = if current == next { " " } else { "*" };
        let _ = writeln!(text, "{marker}       {name:<32}{default:<24}{current:<24}{next}");
    }
    text
}
