//! The lab's program about time: what ADD and DEL of the chain cost on a real kernel with real VFs, the kernel's part told
//! apart from ours.
//!
//! The machine is emulated, some ten times slower than a computer; the shares are what counts.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../../host/examples/lab/pod.rs"]
mod pod;
#[path = "../../host/examples/lab/report.rs"]
mod report;
#[path = "../benches/timed.rs"]
mod timed;

use api::{PciAddress, RdmaMode};
use host::linux::LinuxHost;
use host::seam::{Interest, LinkChange, Program};
use host::{Host, Namespace, home};
use pod::Pod;
use report::{Outcome, Report};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};
use timed::Timed;

const ROUNDS: u32 = 10;
const CHAIN: [&str; 2] = ["sriov", "rdma"];

/// Time of all rounds of one verb of one plugin.
#[derive(Default)]
struct Cost {
    ours: Duration,
    below: Duration,
    primitives: u32,
}

/// A card with one VF that has an RDMA device, in exclusive mode.
struct Bench {
    host: LinuxHost,
    pf: PciAddress,
    vf: PciAddress,
    costs: BTreeMap<(&'static str, &'static str), Cost>,
}

impl Bench {
    fn new() -> Self {
        let host = LinuxHost::new("/").unwrap();
        for module in ["igb", "igbvf", "ib_uverbs", "ib_umad", "rdma_rxe"] {
            host.run(&Program::Modprobe, &[module], b"").unwrap();
        }
        host::rdma_mode::switch(&host, RdmaMode::Exclusive).unwrap();
        let names = host.list("/sys/bus/pci/drivers/igb").unwrap();
        let pf: PciAddress = names.iter().find_map(|name| name.parse().ok()).unwrap();
        let link = home::interface_at_home(&host, &pf).unwrap().unwrap().index;
        host.change_link(&Namespace::Host, &LinkChange::Up { link }).unwrap();
        host::vf_count::set(&host, &pf, 1, true).unwrap();
        let vf = host::function::vf(&host, &pf, 0).unwrap();
        for _ in 0..50 {
            if home::interface_at_home(&host, &vf).unwrap().is_some() {
                break;
            }
            host.wait(&[Interest::Link], Duration::from_millis(200));
        }
        let link = home::interface_at_home(&host, &vf).unwrap().unwrap().name;
        let words = ["link", "add", "mlx5_0", "type", "rxe", "netdev", &link];
        assert!(Command::new("/usr/bin/rdma").args(words).status().unwrap().success());
        Self { host, pf, vf, costs: BTreeMap::new() }
    }

    /// One call in this process, so that nothing of a process's start is in it.
    fn call(
        &mut self,
        verb: &'static str,
        plugin: &'static str,
        pod: &Pod,
        previous: &Value,
    ) -> Result<Value, String> {
        let environment = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", pod.name.as_str()),
            ("CNI_NETNS", pod.path.as_str()),
            ("CNI_IFNAME", "net1"),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        let environment: BTreeMap<String, String> =
            environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut stdin = json!({
            "cniVersion": "1.0.0", "name": "blue", "type": plugin, "deviceID": self.vf.to_string(),
        });
        if !previous.is_null() {
            stdin["prevResult"] = previous.clone();
        }
        let host = Timed::new(&self.host);
        let begun = Instant::now();
        let reply = cni::call(plugin, &environment, stdin.to_string().as_bytes(), &host);
        let (whole, (below, primitives)) = (begun.elapsed(), host.below());
        let cost = self.costs.entry((plugin, verb)).or_default();
        cost.ours += whole.saturating_sub(below);
        cost.below += below;
        cost.primitives += primitives;
        match reply.exit {
            0 => Ok(serde_json::from_slice(&reply.stdout).unwrap_or(Value::Null)),
            _ => Err(format!("{verb} of {plugin}: {}", String::from_utf8_lossy(&reply.stdout))),
        }
    }

    fn shares(&mut self) -> Outcome {
        for round in 0..ROUNDS {
            let pod = Pod::start(&format!("speed-{round}"));
            let mut result = Value::Null;
            for plugin in CHAIN {
                result = self.call("ADD", plugin, &pod, &result)?;
            }
            for plugin in CHAIN.into_iter().rev() {
                self.call("DEL", plugin, &pod, &result)?;
            }
        }
        let told = self.costs.iter().map(|((plugin, verb), cost)| {
            let (ours, below) = (cost.ours / ROUNDS, cost.below / ROUNDS);
            let primitives = cost.primitives / ROUNDS;
            format!(
                "{plugin} {verb} {ours:.1?} ours and {below:.1?} the kernel's in {primitives} primitives"
            )
        });
        Ok(told.collect::<Vec<_>>().join("; "))
    }

    /// The process whole, as a runtime starts it, beside one that only begins and ends.
    fn processes(&self) -> Outcome {
        let once = |words: &[&str]| {
            let mut command = Command::new("/opt/cni/bin/sriov");
            command.args(words).env_clear().env("CNI_COMMAND", "VERSION");
            let output = command.output().map_err(|error| error.to_string())?;
            match output.status.success() {
                true => Ok(()),
                false => Err(String::from_utf8_lossy(&output.stdout).into_owned()),
            }
        };
        let time = |words: &[&str]| {
            // The first brings the program into memory.
            once(words)?;
            let begun = Instant::now();
            (0..ROUNDS).try_for_each(|_| once(words))?;
            Ok::<Duration, String>(begun.elapsed() / ROUNDS)
        };
        let (start, version) = (time(&["--version"])?, time(&[])?);
        Ok(format!("a process that begins and ends {start:.1?}, VERSION {version:.1?}"))
    }
}

fn main() {
    let mut report =
        Report::new("speed: what the plugins cost beside the kernel (emulated machine)");
    let mut bench = Bench::new();
    report.case("speed: add and del of the chain, ours beside the kernel's", || bench.shares());
    report.case("speed: the plugin as a process", || bench.processes());
    host::vf_count::set(&bench.host, &bench.pf, 0, true).unwrap();
    report.end();
}
