//! What ADD and DEL cost without a kernel: the plugins over a simulated machine. Numbers for people; nothing fails by a time.
//!
//! The time is ours and the simulation's together, so it is more than our own. Primitives are calls of the seam, each one
//! or a few system calls on a real machine.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark may panic, and reads the clock"
)]
#![allow(dead_code)] // Of the scenarios' machine this uses a part.

#[path = "../tests/scenarios/bench.rs"]
mod bench;

use bench::Bench;
use host::crashing::{Crashing, Death};
use serde_json::json;
use std::time::{Duration, Instant};

const ROUNDS: u32 = 200;

/// Time and primitives of one verb.
#[derive(Default)]
struct Cost {
    time: Duration,
    primitives: u64,
}

impl Cost {
    fn of(&mut self, bench: &Bench, verb: &str, plugin: &str) {
        let host = Crashing::new(bench.host.clone(), Death::Abort);
        let begun = Instant::now();
        let reply = bench.call_over(&host, verb, plugin, "a", "net1", &json!({}));
        self.time += begun.elapsed();
        self.primitives += host.count();
        assert_eq!(reply.exit, 0, "{verb} {plugin}: {}", bench::show(&reply));
    }

    fn print(&self, what: &str) {
        let each = self.time / ROUNDS;
        println!("{what:<12} {each:>10.1?} {:>6} primitives", self.primitives / u64::from(ROUNDS));
    }
}

fn main() {
    let bench = Bench::new();
    let mut costs: [Cost; 4] = Default::default();
    for _ in 0..ROUNDS {
        let [sriov, rdma, rdma_back, sriov_back] = &mut costs;
        sriov.of(&bench, "ADD", "sriov");
        rdma.of(&bench, "ADD", "rdma");
        rdma_back.of(&bench, "DEL", "rdma");
        sriov_back.of(&bench, "DEL", "sriov");
    }
    println!("each verb {ROUNDS} times over a simulated machine:");
    let names = ["sriov ADD", "rdma ADD", "rdma DEL", "sriov DEL"];
    names.iter().zip(&costs).for_each(|(name, cost)| cost.print(name));
}
