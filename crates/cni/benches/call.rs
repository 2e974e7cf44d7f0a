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
use host::sim::{Flavour, Machine};
use serde_json::{Value, json};
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
    fn of(&mut self, bench: &Bench, verb: &str, plugin: &str, options: &Value) {
        let host = Timed::new(&bench.host);
        let begun = Instant::now();
        let reply = bench.call_over(&host, verb, plugin, "a", "net1", options);
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

/// A card with InfiniBand, which no other machine of ours has.
fn infiniband() -> Bench {
    let clock = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut machine = Machine::new("ib-0", Flavour::Ubuntu, clock);
    machine.add_lifeline(0x01);
    machine.add_connectx7(0x3b, 0, true);
    machine.boot();
    let bench = Bench::over(machine);
    bench.make_vfs("0000:3b:00.0");
    bench
}

fn main() {
    let (ethernet, infiniband) = (Bench::new(), infiniband());
    let chain = json!({});
    let guid = json!({
        "deviceID": "0000:3b:00.1", "rdmaIsolation": true,
        "runtimeConfig": {"infinibandGUID": "02:00:00:00:00:00:00:01"},
    });
    let calls = [
        ("ADD", "sriov", &ethernet, &chain),
        ("ADD", "rdma", &ethernet, &chain),
        ("DEL", "rdma", &ethernet, &chain),
        ("DEL", "sriov", &ethernet, &chain),
        ("ADD", "ib-sriov", &infiniband, &guid),
        ("DEL", "ib-sriov", &infiniband, &guid),
    ];
    let mut costs: [Cost; 6] = Default::default();
    for _ in 0..ROUNDS {
        for ((verb, plugin, bench, options), cost) in calls.iter().zip(&mut costs) {
            cost.of(bench, verb, plugin, options);
        }
    }
    println!("each verb {ROUNDS} times over a simulated machine:");
    for ((verb, plugin, ..), cost) in calls.iter().zip(&costs) {
        cost.print(&format!("{plugin} {verb}"));
    }
}
