//! The lab's program about embedded switches: the contract of devlink over the simulation and over a soft card that has a
//! switch, whose lines must be the same.
//!
//! The card is netdevsim, which devlink knows here as a PCI device (xtask, lab).

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.

#[path = "lab/compare.rs"]
mod compare;
#[path = "lab/report.rs"]
mod report;
#[path = "../tests/contract/switch.rs"]
mod switch;

use api::PciAddress;
use compare::compare;
use host::linux::LinuxHost;
use host::seam::{Host, Program};
use report::Report;

/// The eleventh device of the driver.
const CARD: PciAddress = PciAddress { domain: 0, bus: 11, device: 0, function: 0 };
const BUS: &str = "/sys/bus/netdevsim";

fn main() {
    let host = LinuxHost::new("/").unwrap();
    let output = host.run(&Program::Modprobe, &["netdevsim"], b"").unwrap();
    assert_eq!(output.status, 0, "modprobe netdevsim: {}", String::from_utf8_lossy(&output.stderr));
    host.write(&format!("{BUS}/new_device"), "11 1").unwrap();
    let vf_count = format!("{BUS}/devices/{CARD}/sriov_numvfs");
    let mut report = Report::new("switches: devlink on a card that has one");
    for case in &switch::CASES {
        report.case(case.0, || {
            compare(&switch::simulated(case), &switch::run(case, &host, CARD, &vf_count))
        });
    }
    report.end();
}
