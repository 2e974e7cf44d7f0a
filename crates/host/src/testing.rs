//! What the tests of the operations share: machines, a runner that prints outcome and journal, and crashes everywhere.

use crate::crashing::{Crash, Crashing, Death, Side, survive};
use crate::seam::{Changed, Host};
use crate::sim::{Flavour, FunctionKind, Machine, SimHost};
use api::{PciAddress, Timestamp};
use std::fmt::Display;

pub const PF: &str = "/sys/bus/pci/devices/0000:03:00.0";

pub fn pf() -> PciAddress {
    "0000:03:00.0".parse().unwrap()
}

pub fn worker() -> Machine {
    Machine::rdma_worker("worker-0", Flavour::Rhel, Timestamp::UNIX_EPOCH)
}

pub fn worker_with_vfs(count: u32) -> Machine {
    let mut machine = worker();
    if count > 0 {
        shell(&mut machine, &[(&format!("{PF}/sriov_numvfs"), &count.to_string())]);
    }
    machine
}

/// Writes as an administrator would.
pub fn shell(machine: &mut Machine, writes: &[(&str, &str)]) {
    let host = SimHost::new(machine.clone());
    for (path, content) in writes {
        host.write(path, content).unwrap();
    }
    *machine = host.snapshot();
}

/// Runs an operation; answers its outcome and what it changed, as text.
pub fn run<E: Display>(
    machine: Machine,
    operation: impl Fn(&dyn Host) -> Result<Changed, E>,
) -> String {
    show(&SimHost::new(machine), operation)
}

/// Runs it twice: the second time there must be nothing to do.
pub fn run_twice<E: Display>(
    machine: Machine,
    operation: impl Fn(&dyn Host) -> Result<Changed, E>,
) -> String {
    let host = SimHost::new(machine);
    show(&host, &operation) + &show(&host, &operation)
}

fn show<E: Display>(host: &SimHost, operation: impl Fn(&dyn Host) -> Result<Changed, E>) -> String {
    let mut out = match operation(host) {
        Ok(changed) => format!("{changed:?}\n"),
        Err(error) => format!("{error}\n"),
    };
    for line in host.take_journal() {
        out.push_str(&format!("    {line}\n"));
    }
    out
}

/// Kills the operation before and after each of its primitives; the next run must succeed and leave the machine as a run
/// without a crash does, and the run after that must find nothing to do.
pub fn crash_everywhere<E: Display>(
    machine: Machine,
    operation: impl Fn(&dyn Host) -> Result<Changed, E>,
) {
    let clean = Crashing::new(SimHost::new(machine.clone()), Death::Unwind);
    operation(&clean).unwrap_or_else(|error| panic!("without a crash: {error}"));
    let goal = essence(&clean.inner().snapshot());
    for primitive in 1..=clean.count() {
        for side in [Side::Before, Side::After] {
            let crash = Crash { primitive, side };
            let host = Crashing::new(SimHost::new(machine.clone()), Death::Unwind);
            host.arm(crash);
            survive(|| operation(&host).map(drop).map_err(|error| error.to_string()))
                .expect_err("the operation ends before the crash");
            let after = host.inner();
            operation(after).unwrap_or_else(|error| panic!("{crash:?}: {error}"));
            assert_eq!(essence(&after.snapshot()), goal, "{crash:?}");
            let again =
                operation(after).unwrap_or_else(|error| panic!("{crash:?}, again: {error}"));
            assert_eq!(again, Changed::AlreadyRight, "{crash:?}");
        }
    }
}

/// What counts of a machine: not its clock, its random MACs and its serial numbers.
pub fn essence(machine: &Machine) -> Vec<String> {
    let mut lines = Vec::new();
    for (pci, function) in &machine.functions {
        let mut line =
            format!("{pci} driver {:?} override {:?}", function.driver, function.driver_override);
        if let FunctionKind::Physical(part) = &function.kind {
            line.push_str(&format!(
                " vfs {} autoprobe {} eswitch {} {:?}",
                part.num_vfs, part.autoprobe, part.eswitch, part.vfs
            ));
        }
        lines.push(line);
    }
    let mut links: Vec<String> = machine
        .links
        .values()
        .map(|link| {
            format!(
                "{:?} {} mtu {} up {} in {}",
                link.parent, link.name, link.mtu, link.up, link.namespace
            )
        })
        .collect();
    links.sort();
    lines.extend(links);
    lines.push(format!("rdma {:?}", machine.rdma.mode));
    let mut devices: Vec<String> = machine
        .rdma
        .devices
        .values()
        .map(|device| format!("{} in {}", device.parent, device.namespace))
        .collect();
    devices.sort();
    lines.extend(devices);
    lines.extend(
        machine
            .files
            .iter()
            .map(|(path, content)| format!("{path}: {}", String::from_utf8_lossy(content))),
    );
    lines.push(machine.next_kernel_arguments.join(" "));
    lines
}
