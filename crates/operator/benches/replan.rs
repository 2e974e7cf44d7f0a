//! How long the operator thinks: 5,000 nodes and 50 policies at rest, looked at once from beginning to end, and after one
//! policy changed. Numbers for people; no test asserts a time.
//!
//! What the API takes is left out: only the operator's own steps are timed.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../tests/fake/mod.rs"]
mod fake;

use fake::{Api, Driver, config, pool, settings};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const NODES: usize = 5_000;
const POLICIES: usize = 50;
const STATE: &str = "SriovNetworkNodeState";

fn main() {
    let mut api = Api::default();
    api.put(config());
    for number in 0..NODES {
        api.put(node(number));
    }
    api.put(pool("rdma", json!({ "rdmaMode": "exclusive", "maxUnavailable": "10%" })));
    for number in 0..POLICIES {
        api.put(policy(number));
    }
    let mut first = Driver::new(&api, settings());
    settle(&mut first, &mut api);
    report_of_all_nodes(&mut api);
    settle(&mut first, &mut api);
    drop(first);
    api.log.clear();

    let start = Instant::now();
    let mut operator = Driver::new(&api, settings());
    println!("{NODES} nodes, {POLICIES} policies: lists read in {:.2?}", start.elapsed());
    let (took, steps, writes) = settle(&mut operator, &mut api);
    println!("a whole look at a cluster at rest: {took:.2?}, {steps} steps, {writes} writes");
    println!("memory at its peak, with the objects of the API: {}", peak_memory());

    api.edit("SriovNetworkNodePolicy", "policy-7", |policy| policy["spec"]["numVfs"] = 6.into());
    operator.deliver(&api);
    let (took, steps, writes) = settle(&mut operator, &mut api);
    println!("one policy changed: {took:.2?}, {steps} steps, {writes} writes");
}

/// Steps until nothing is due any more: their own time, how many they were, and what they wrote.
fn settle(driver: &mut Driver, api: &mut Api) -> (Duration, usize, usize) {
    let (mut took, mut steps, mut writes) = (Duration::ZERO, 0, 0);
    // Who looks at all nodes waits for seconds for more to see.
    for _ in 0..10 {
        driver.wait(2);
        while driver.operator.due().is_some_and(|due| due <= driver.now) {
            let start = Instant::now();
            let work = driver.operator.step(driver.now).unwrap();
            took += start.elapsed();
            steps += 1;
            writes += work.writes.len();
            driver.carry_out(api, work, usize::MAX);
            driver.deliver(api);
        }
    }
    driver.trace.clear();
    (took, steps, writes)
}

/// A node of one of fifty racks.
fn node(number: usize) -> Value {
    let mut node = fake::node(&format!("worker-{number:04}"));
    node["metadata"]["labels"]["rack"] = format!("rack-{}", number % POLICIES).into();
    node
}

/// Every rack has a policy of its own.
fn policy(number: usize) -> Value {
    json!({
        "apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkNodePolicy",
        "metadata": { "name": format!("policy-{number}"), "namespace": "sriov-network-operator" },
        "spec": {
            "resourceName": format!("rdma_{number}"), "numVfs": 8, "isRdma": true,
            "nicSelector": { "vendor": "15b3", "pfNames": ["enp59s0f0"] },
            "nodeSelector": { "rack": format!("rack-{number}") },
        },
    })
}

/// Every daemon reports a card with two ports, and is done.
fn report_of_all_nodes(api: &mut Api) {
    let states: Vec<Value> =
        api.objects.values().filter(|object| object["kind"] == STATE).cloned().collect();
    for mut state in states {
        let port = |function: u32| {
            json!({
                "name": format!("enp59s0f{function}"), "pciAddress": format!("0000:3b:00.{function}"),
                "vendor": "15b3", "deviceID": "1017", "driver": "mlx5_core", "mtu": 1500,
                "totalvfs": 16, "linkType": "ETH", "mac": "02:00:00:00:00:01",
            })
        };
        state["status"] = json!({
            "interfaces": [port(0), port(1)], "system": { "rdmaMode": "exclusive" },
            "syncStatus": "Succeeded", "observedGeneration": state["metadata"]["generation"],
        });
        api.put(state);
    }
}

/// What the kernel says of this process.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.unwrap_or("unknown").trim().to_owned()
}
