//! The lab's program: runs in the virtual machine that `cargo xtask lab` starts, as its only program.
//!
//! First the contract: each case over the simulation and over the running kernel, whose lines must be the same. Then what
//! only a kernel can show. One line a case, the differences below it, and `lab: N passed, N failed` at the end.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.

#[path = "../tests/contract/cases.rs"]
mod cases;
#[path = "lab/kernel.rs"]
mod kernel;
#[path = "../tests/contract/simulated.rs"]
mod simulated;
#[path = "../tests/support/mod.rs"]
mod support;

use cases::Pods;
use host::linux::LinuxHost;
use host::seam::{Host, Interest, Namespace, Program};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
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

/// Counts the outcomes and tells each.
struct Report {
    only: Vec<String>,
    passed: u32,
    failed: u32,
}

impl Report {
    fn case(&mut self, name: &str, run: impl FnOnce() -> Result<(), String>) {
        let chosen = |word: &String| name.contains(word.replace('_', " ").as_str());
        if !self.only.is_empty() && !self.only.iter().any(chosen) {
            return;
        }
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default())
        });
        let seconds = started.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("ok {name} ({seconds:.1} s)");
            }
            Err(difference) => {
                self.failed += 1;
                println!("FAILED {name} ({seconds:.1} s)");
                for line in difference.lines() {
                    println!("    {line}");
                }
            }
        }
    }
}

/// The lines in which the kernel and the simulation differ.
fn compare(simulated: &str, real: &str) -> Result<(), String> {
    if simulated == real {
        return Ok(());
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

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let host = LinuxHost::new("/").unwrap();
    let chosen = std::env::var("LAB_CASES").unwrap_or_default();
    let only = chosen.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let mut report = Report { only, passed: 0, failed: 0 };
    // Before anything could have loaded it.
    report.case("a look at rdma does not load the subsystem", || kernel::look_at_rdma(&host));
    for module in ["igb", "igbvf", "nvme"] {
        host.run(&Program::Modprobe, &[module], b"").unwrap();
    }
    let (pf, other) = kernel::cards(&host);
    let pods = KernelPods::default();
    for case in &cases::CASES {
        report.case(case.0, || {
            let real = cases::run(case, &host, &pods, pf, other);
            compare(&simulated::lines(case), &real)
        });
    }
    kernel::run(&host, &pods, pf, other, &mut |name, run| report.case(name, run));
    println!("lab: {} passed, {} failed", report.passed, report.failed);
    // The line must reach the other end before the machine ends.
    host.wait(&[Interest::Uevent], Duration::from_millis(1));
}
