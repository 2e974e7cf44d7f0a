//! The lab's program about the contract: runs in the virtual machine that `cargo xtask lab` starts.
//!
//! First the contract: each case over the simulation and over the running kernel, whose lines must be the same. Then what
//! only a kernel can show.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.

#[path = "../tests/contract/cases.rs"]
mod cases;
#[path = "lab/kernel.rs"]
mod kernel;
#[path = "../tests/contract/operations.rs"]
mod operations;
#[path = "lab/reach.rs"]
mod reach;
#[path = "lab/report.rs"]
mod report;
#[path = "../tests/contract/simulated.rs"]
mod simulated;
#[path = "../tests/support/mod.rs"]
mod support;

use cases::Pods;
use host::linux::LinuxHost;
use host::seam::{Errno, Host, Namespace, Program, words};
use report::{Outcome, Report};
use std::cell::RefCell;
use support::Space;

/// Namespaces of the running kernel.
#[derive(Default)]
struct KernelPods {
    spaces: RefCell<Vec<Space>>,
}

impl Pods for KernelPods {
    fn start(&self) -> Namespace {
        let space = Space::new().unwrap();
        let namespace = space.namespace();
        self.spaces.borrow_mut().push(space);
        namespace
    }

    fn end(&self) {
        self.spaces.borrow_mut().clear();
    }
}

/// The lines in which the kernel and the simulation differ.
fn compare(simulated: &str, real: &str) -> Outcome {
    if simulated == real {
        let refusals = real.lines().filter(|line| is_refusal(line)).count();
        return Ok(format!(
            "{} answers of the kernel are the simulation's, {refusals} of them refusals",
            real.lines().count()
        ));
    }
    let (simulated, real): (Vec<&str>, Vec<&str>) =
        (simulated.lines().collect(), real.lines().collect());
    let mut differences = String::new();
    for index in 0..simulated.len().max(real.len()) {
        let (ours, theirs) = (simulated.get(index), real.get(index));
        if ours != theirs {
            let shown = |line: Option<&&str>| {
                line.map_or("(nothing)".to_owned(), |line| (*line).to_owned())
            };
            differences.push_str(&format!(
                "simulation: {}\nkernel:     {}\n",
                shown(ours),
                shown(theirs)
            ));
        }
    }
    Err(differences)
}

/// True when the line ends in the words of an errno.
fn is_refusal(line: &str) -> bool {
    let end = line.rsplit(": ").next().unwrap_or_default();
    (1..134).any(|errno| end == words(Errno::from_raw_os_error(errno)))
}

fn main() {
    let host = LinuxHost::new("/").unwrap();
    let mut report = Report::new("the contract: the kernel answers as the simulation does");
    // Before anything could have loaded it.
    report.case("a look at rdma does not load the subsystem", || kernel::look_at_rdma(&host));
    for module in ["igb", "igbvf", "nvme"] {
        host.run(&Program::Modprobe, &[module], b"").unwrap();
    }
    let (pf, other) = kernel::cards(&host);
    let pods = KernelPods::default();
    for case in cases::CASES.iter().chain(&operations::CASES) {
        report.case(case.0, || {
            let real = cases::run(case, &host, &pods, pf, other);
            compare(&simulated::lines(case), &real)
        });
    }
    kernel::run(&host, &pods, pf, other, &mut |name, run| report.case(name, run));
    reach::tell();
    report.end();
}
