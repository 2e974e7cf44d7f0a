//! The lab's program about the contract: runs in the virtual machine that `cargo xtask lab` starts.
//!
//! First the contract: each case over the simulation and over the running kernel, whose lines must be the same. Then what
//! only a kernel can show.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.

#[path = "lab/bench.rs"]
mod bench;
#[path = "../tests/contract/cases.rs"]
mod cases;
#[path = "lab/compare.rs"]
mod compare;
#[path = "../tests/contract/disk.rs"]
mod disk;
#[path = "lab/kernel.rs"]
mod kernel;
#[path = "../tests/contract/network.rs"]
mod network;
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

use bench::{KernelPods, cards};
use compare::compare;
use host::Host;
use host::linux::LinuxHost;
use host::seam::Program;
use report::Report;

fn main() {
    let host = LinuxHost::new("/").unwrap();
    let mut report = Report::new("the contract: the kernel answers as the simulation does");
    // Before anything could have loaded it.
    report.case("a look at rdma does not load the subsystem", || kernel::look_at_rdma(&host));
    for module in ["igb", "igbvf", "nvme"] {
        host.run(&Program::Modprobe, &[module], b"").unwrap();
    }
    let (pf, other) = cards(&host);
    let pods = KernelPods::default();
    let seam = cases::CASES.iter().chain(&network::CASES).chain(&disk::CASES);
    for case in seam.chain(&operations::CASES) {
        report.case(case.0, || {
            let real = cases::run(case, &host, &pods, pf, other);
            compare(&simulated::lines(case), &real)
        });
    }
    kernel::run(&host, &pods, pf, other, &mut |name, run| report.case(name, run));
    reach::tell();
    report.end();
}
