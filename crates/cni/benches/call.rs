//! What ADD and DEL cost without a kernel: the plugins over a simulated machine. Numbers for people; nothing fails by a time.
//!
//! What is spent below the seam is the simulation here and the kernel on a machine; the rest is our own. The same over a
//! real kernel is a case of the lab.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark may panic, and reads the clock"
)]
#![allow(dead_code)] // Of the scenarios' machine this uses a part.

#[path = "../tests/scenarios/bench.rs"]
mod bench;
mod timed;

use bench::Bench;
use serde_json::json;
use std::time::{Duration, Instant};
use timed::Timed;

const ROUNDS: u32 = 200;

/// Time and primitives of one verb.
#[derive(Default)]
struct Cost {
    time: Duration,
    below: Duration,
    primitives: u32,
}

impl Cost {
    fn of(&mut self, bench: &Bench, verb: &str, plugin: &str) {
        let host = Timed::new(&bench.host);
        let begun = Instant::now();
        let reply = bench.call_over(&host, verb, plugin, "a", "net1", &json!({}));
        self.time += begun.elapsed();
        let (below, primitives) = host.below();
        self.below += below;
        self.primitives += primitives;
        assert_eq!(reply.exit, 0, "{verb} {plugin}: {}", bench::show(&reply));
    }

    fn print(&self, what: &str) {
        let ours = (self.time - self.below) / ROUNDS;
        let (below, primitives) = (self.below / ROUNDS, self.primitives / ROUNDS);
        println!("{what:<12} {ours:>10.1?} ours {below:>10.1?} below, {primitives:>3} primitives");
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
