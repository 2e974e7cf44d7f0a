//! The lab's program about RDMA, on a kernel whose soft RDMA driver moves between namespaces and stands below the VF.
//!
//! First which lever sets the mode, then the contract of RDMA devices over the simulation and over the running kernel, then
//! traffic between two pods over their own devices.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.

#[path = "lab/bench.rs"]
mod bench;
#[allow(dead_code)] // Its cases are run on the other machine.
#[path = "../tests/contract/cases.rs"]
mod cases;
#[path = "lab/churn.rs"]
mod churn;
#[path = "lab/compare.rs"]
mod compare;
#[path = "lab/levers.rs"]
mod levers;
#[allow(dead_code)] // Likewise.
#[path = "../tests/contract/operations.rs"]
mod operations;
#[path = "lab/pod.rs"]
mod pod;
#[path = "../tests/contract/rdma.rs"]
mod rdma;
#[path = "lab/reload.rs"]
mod reload;
#[path = "lab/report.rs"]
mod report;
#[path = "../tests/contract/simulated.rs"]
mod simulated;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "lab/traffic.rs"]
mod traffic;

use bench::{KernelPods, cards, live_switch, modprobe};
use cases::Pods;
use compare::compare;
use host::linux::LinuxHost;
use report::Report;

fn main() {
    let host = LinuxHost::new("/").unwrap();
    let pods = KernelPods::default();
    let mut report = Report::new("rdma: modes, moves and traffic on devices of vfs");
    levers::run(&host, &pods, &mut |name, run| report.case(name, run));
    for module in ["igb", "igbvf", "rdma_rxe", "ib_uverbs", "ib_umad", "rdma_ucm"] {
        modprobe(&host, &[module]).unwrap();
    }
    let (pf, other) = cards(&host);
    pods.rdma_devices(&[pf, other]);
    for case in &rdma::CASES {
        report.case(case.0, || {
            let real = cases::run(case, &host, &pods, pf, other);
            compare(&simulated::rdma_lines(case), &real)
        });
    }
    live_switch(&host, api::RdmaMode::Exclusive).unwrap();
    report.case("no look at rdma devices misses one while another one moves", || {
        churn::run(&host, pf)
    });
    traffic::run(&host, pf, other, &mut report);
    reload::run(&host, &pods, &mut |name, run| report.case(name, run));
    // What runs after us begins with a machine as after its boot.
    live_switch(&host, api::RdmaMode::Shared).unwrap();
    bench::unload(&host).unwrap();
    // A reload has written there what must come back; to the plugins the directory means that a daemon makes offers.
    let _ = std::fs::remove_dir_all("/run/ironrail");
    report.end();
}
