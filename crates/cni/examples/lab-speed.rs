//! The lab's program about time: what ADD and DEL of the chain cost on a real kernel with real VFs, the kernel's part told
//! apart from ours; in one process by primitives, and as processes by what a cgroup counts.
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
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
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

    /// The shipped programs as a runtime starts them: each call in a cgroup, which counts what its processor and its memory
    /// were used for.
    fn processes(&self) -> Outcome {
        let counted: BTreeMap<Call, Counted> =
            CALLS.into_iter().map(|call| (call, Counted::new(call))).collect();
        let mut system_calls = BTreeMap::new();
        let mut tracing = Tracing::default();
        // The first round brings the programs into memory, the last is traced.
        for round in 0..ROUNDS + 2 {
            let pod = Pod::start(&format!("process-{round}"));
            let mut result = Value::Null;
            for call in CALLS {
                let counter = &counted[&call];
                if round == ROUNDS + 1 {
                    tracing.begin();
                }
                let begun = Instant::now();
                let said = counter.run(self.command(call, &pod), &self.stdin(call.1, &result))?;
                counter.wall.set(counter.wall.get() + begun.elapsed());
                if round == ROUNDS + 1 {
                    system_calls.insert(call, tracing.end());
                }
                if call.0 == "ADD" {
                    result = serde_json::from_str(&said).unwrap();
                }
                if round == 0 {
                    counter.forget();
                }
            }
        }
        let told = CALLS.map(|call| counted[&call].told(ROUNDS + 1, system_calls[&call]));
        Ok(told.join("; "))
    }

    fn command(&self, (verb, plugin): Call, pod: &Pod) -> Command {
        let mut command = Command::new("/usr/bin/busybox");
        let join = "echo $$ > $0/cgroup.procs && exec $1 $2";
        command.args([
            "sh",
            "-c",
            join,
            &cgroup((verb, plugin)),
            &format!("/opt/cni/bin/{plugin}"),
        ]);
        if verb == START {
            command.arg(START);
        }
        command.env_clear().envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", pod.name.as_str()),
            ("CNI_NETNS", pod.path.as_str()),
            ("CNI_IFNAME", "net1"),
            ("CNI_PATH", "/opt/cni/bin"),
        ]);
        command
    }

    fn stdin(&self, plugin: &str, previous: &Value) -> String {
        let mut stdin = json!({
            "cniVersion": "1.0.0", "name": "blue", "type": plugin, "deviceID": self.vf.to_string(),
        });
        if !previous.is_null() {
            stdin["prevResult"] = previous.clone();
        }
        stdin.to_string()
    }
}

/// Verb and plugin.
type Call = (&'static str, &'static str);

/// Not a verb: what the program is asked for that it answers without looking at anything.
const START: &str = "--version";
const CALLS: [Call; 6] = [
    (START, "sriov"),
    ("VERSION", "sriov"),
    ("ADD", "sriov"),
    ("ADD", "rdma"),
    ("DEL", "rdma"),
    ("DEL", "sriov"),
];

fn cgroup((verb, plugin): Call) -> String {
    format!("/sys/fs/cgroup/speed-{plugin}-{verb}")
}

/// What the calls of one kind cost.
struct Counted {
    call: Call,
    wall: Cell<Duration>,
    /// What the first round had cost.
    before: Cell<[u64; 2]>,
}

impl Counted {
    fn new(call: Call) -> Self {
        if !std::fs::exists("/sys/fs/cgroup/cgroup.procs").unwrap() {
            mount("cgroup2", "/sys/fs/cgroup");
        }
        let _ = std::fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +memory");
        std::fs::create_dir(cgroup(call)).unwrap();
        Self { call, wall: Cell::default(), before: Cell::default() }
    }

    fn run(&self, mut command: Command, stdin: &str) -> Result<String, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // VERSION does not read.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(said) } else { Err(format!("{:?}: {said}", self.call)) }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("{}/{name}", cgroup(self.call))).unwrap_or_default()
    }

    /// Microseconds of the processor, for the programs and for the kernel.
    fn processor(&self) -> [u64; 2] {
        let text = self.file("cpu.stat");
        ["user_usec ", "system_usec "].map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|number| number.parse().ok()).unwrap_or(0)
        })
    }

    fn forget(&self) {
        self.wall.take();
        self.before.set(self.processor());
    }

    fn told(&self, rounds: u32, system_calls: usize) -> String {
        let (verb, plugin) = self.call;
        let [ours, kernels] = [0, 1].map(|part| {
            let spent = self.processor()[part] - self.before.get()[part];
            Duration::from_micros(spent) / rounds
        });
        let peak = self.file("memory.peak").trim().parse::<u64>().unwrap_or(0) / 1024;
        let wall = self.wall.get() / rounds;
        format!(
            "{plugin} {verb} {wall:.1?} wall, {ours:.1?} CPU ours and {kernels:.1?} the kernel's, {system_calls} system \
             calls, peak {peak} KiB"
        )
    }
}

fn mount(kind: &str, at: &str) {
    let words = ["mount", "-t", kind, kind, at];
    assert!(Command::new("/usr/bin/busybox").args(words).status().unwrap().success());
}

/// The kernel's own count of system calls, of everything that this process starts.
#[derive(Default)]
struct Tracing {
    is_ready: bool,
}

impl Tracing {
    const DIRECTORY: &str = "/sys/kernel/tracing";

    fn set(file: &str, value: &str) {
        std::fs::write(format!("{}/{file}", Self::DIRECTORY), value).unwrap();
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.is_ready, true) {
            mount("tracefs", Self::DIRECTORY);
            Self::set("options/event-fork", "1");
        }
        Self::set("trace", "");
        Self::set("set_event_pid", &std::process::id().to_string());
        Self::set("events/raw_syscalls/sys_enter/enable", "1");
    }

    fn end(&self) -> usize {
        Self::set("events/raw_syscalls/sys_enter/enable", "0");
        Self::set("set_event_pid", "");
        let trace = std::fs::read(format!("{}/trace", Self::DIRECTORY)).unwrap();
        let trace = String::from_utf8_lossy(&trace).into_owned();
        // Those of this program, and of the shell until it becomes the plugin, are not the plugin's.
        let others = ["#", "lab-", "busybox-", "sh-"];
        let is_ours = |line: &&str| !others.iter().any(|name| line.trim_start().starts_with(name));
        trace.lines().filter(is_ours).count()
    }
}

fn main() {
    let mut report =
        Report::new("speed: what the plugins cost beside the kernel (emulated machine)");
    let mut bench = Bench::new();
    report.case("speed: add and del of the chain, ours beside the kernel's", || bench.shares());
    report.case("speed: the shipped plugins as processes", || bench.processes());
    host::vf_count::set(&bench.host, &bench.pf, 0, true).unwrap();
    report.end();
}
