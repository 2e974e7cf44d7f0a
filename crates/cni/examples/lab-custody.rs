//! The lab's program about custody: real plugins, real VFs and namespaces, and death at every point of ADD and DEL.
//!
//! Called with `LAB_DIE` it is a plugin that aborts at that primitive; else it is the runtime that goes on afterwards.
//! A VF must end up as it was: at home, under its name, configured as before, with nothing written about it. Called as
//! `…-rdma` it takes the VF's RDMA device along, by the chain `sriov`, `rdma`, and it is `rdma` that dies.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.

#[path = "../../host/examples/lab/pod.rs"]
mod pod;
#[path = "../../host/examples/lab/report.rs"]
mod report;

use api::{PciAddress, RdmaMode};
use host::crashing::{Crash, Crashing, Death, Side};
use host::linux::LinuxHost;
use host::seam::{Interest, LinkChange, LinkQuery, Program};
use host::{Host, Namespace, home, journal, vf_profile};
use pod::Pod;
use report::{Outcome, Report};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many instants are tried with `sriov` and with `rdma`, and the seed that chooses them.
const INSTANTS: [u32; 2] = [200, 40];
const SEED: u64 = 20_261_122;

#[derive(Clone, Copy, PartialEq)]
enum Plugin {
    Sriov,
    Rdma,
}

impl Plugin {
    fn path(self) -> &'static str {
        match self {
            Self::Sriov => "/opt/cni/bin/sriov",
            Self::Rdma => "/opt/cni/bin/rdma",
        }
    }
}

/// One attachment of one VF, as a runtime calls a plugin for it.
#[derive(Clone, Copy)]
struct Attachment<'a> {
    device: PciAddress,
    pod: &'a Pod,
    plugin: Plugin,
}

impl Attachment<'_> {
    /// The same for the other plugin of the chain.
    fn by(&self, plugin: Plugin) -> Self {
        Self { plugin, ..*self }
    }

    fn command(&self, program: &str, verb: &str) -> Command {
        let mut command = Command::new(program);
        command.arg0(self.plugin.path()).env_clear().envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", self.pod.name.as_str()),
            ("CNI_NETNS", self.pod.path.as_str()),
            ("CNI_IFNAME", "net1"),
            ("CNI_PATH", "/opt/cni/bin"),
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start_with(&self, mut command: Command, previous: &Value) -> Child {
        let mut child = command.spawn().unwrap();
        let device = self.device.to_string();
        let mut configuration = match self.plugin {
            Plugin::Sriov => json!({
                "cniVersion": "1.0.0", "name": "blue", "type": "sriov", "deviceID": device,
                "vlan": 100, "vlanQoS": 3, "spoofchk": "off", "trust": "on",
            }),
            Plugin::Rdma => json!({
                "cniVersion": "1.0.0", "name": "blue", "type": "rdma", "deviceID": device,
            }),
        };
        if !previous.is_null() {
            configuration["prevResult"] = previous.clone();
        }
        // A plugin that is dead already does not read.
        let _ = child.stdin.take().unwrap().write_all(configuration.to_string().as_bytes());
        child
    }

    /// A call that is to succeed.
    fn call(&self, verb: &str) -> Result<Value, String> {
        self.call_with(verb, &Value::Null)
    }

    fn call_with(&self, verb: &str, previous: &Value) -> Result<Value, String> {
        let child = self.start_with(self.command(self.plugin.path(), verb), previous);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(serde_json::from_str(&said).unwrap_or(Value::Null)),
            false => Err(format!("{verb} failed: {said}")),
        }
    }

    /// A call that dies at a primitive; false when it came to its end before.
    fn die(&self, verb: &str, previous: &Value, crash: Crash) -> bool {
        let mut command = self.command("/proc/self/exe", verb);
        command.env("LAB_DIE", format!("{} {:?}", crash.primitive, crash.side));
        let output = self.start_with(command, previous).wait_with_output().unwrap();
        output.status.signal().is_some()
    }

    /// A call that is killed after a while; false when it came to its end before.
    fn kill(&self, verb: &str, previous: &Value, after: Duration) -> bool {
        let mut child = self.start_with(self.command(self.plugin.path(), verb), previous);
        std::thread::sleep(after);
        let _ = child.kill();
        child.wait().unwrap().signal().is_some()
    }
}

/// What the card, its VFs and our files are like.
fn world(host: &LinuxHost, vfs: &[PciAddress]) -> String {
    let mut told = String::new();
    for pci in vfs {
        let link = home::interface_at_home(host, pci).unwrap();
        let identity = vf_profile::identify(host, pci).unwrap();
        let (_, profile) = vf_profile::look(host, &identity).unwrap();
        let link = link.map(|l| (l.name, vf_profile::show_address(&l.address), l.mtu, l.up));
        let record = host.read(&journal::path(&pci.to_string())).is_ok();
        let note = host.read(&format!("{}/{pci}", api::files::ALLOCATIONS)).is_ok();
        let rdma = home::rdma_devices_at_home(host, &pci.to_string()).unwrap_or_default();
        let rdma: Vec<String> = rdma.into_iter().map(|device| device.name).collect();
        told.push_str(&format!(
            "{pci}: {link:?} {profile:?} rdma {rdma:?} journal {record} note {note}\n"
        ));
    }
    told
}

/// The card with its two VFs, and what the world was like at first.
struct Bench {
    host: LinuxHost,
    pf: PciAddress,
    vfs: Vec<PciAddress>,
    home: String,
    /// The plugin that dies: the last of the chain.
    plugin: Plugin,
}

impl Bench {
    fn new(host: LinuxHost, plugin: Plugin) -> Self {
        for module in ["igb", "igbvf"] {
            host.run(&Program::Modprobe, &[module], b"").unwrap();
        }
        let names = host.list("/sys/bus/pci/drivers/igb").unwrap();
        let pf: PciAddress = names.iter().find_map(|name| name.parse().ok()).unwrap();
        let link = home::interface_at_home(&host, &pf).unwrap().unwrap().index;
        host.change_link(&Namespace::Host, &LinkChange::Up { link }).unwrap();
        host::vf_count::set(&host, &pf, 2, true).unwrap();
        let vfs: Vec<PciAddress> =
            (0..2).map(|index| host::function::vf(&host, &pf, index).unwrap()).collect();
        for vf in &vfs {
            for _ in 0..50 {
                if home::interface_at_home(&host, vf).unwrap().is_some() {
                    break;
                }
                host.wait(&[Interest::Link], Duration::from_millis(200));
            }
        }
        if plugin == Plugin::Rdma {
            rdma_devices(&host, &vfs);
        }
        let home = world(&host, &vfs);
        Self { host, pf, vfs, home, plugin }
    }

    fn attachment<'a>(&self, number: usize, pod: &'a Pod) -> Attachment<'a> {
        Attachment { device: self.vfs[number], pod, plugin: self.plugin }
    }

    /// What the runtime has done before it calls the plugin that dies, and the result so far.
    fn before(&self, at: &Attachment, verb: &str) -> Result<Value, String> {
        let mut result = Value::Null;
        if self.plugin == Plugin::Rdma {
            result = at.by(Plugin::Sriov).call("ADD")?;
        }
        if verb == "DEL" {
            result = at.call_with("ADD", &result)?;
        }
        Ok(result)
    }

    /// The runtime's DEL, twice, with the pod's namespace alive or gone; then the world must be as at first.
    fn must_come_home(&self, at: &Attachment, when: &str) -> Result<(), String> {
        for _ in 0..2 {
            if self.plugin == Plugin::Rdma {
                at.by(Plugin::Rdma).call("DEL").map_err(|why| format!("{when}: rdma: {why}"))?;
            }
            at.by(Plugin::Sriov).call("DEL").map_err(|why| format!("{when}: {why}"))?;
        }
        let now = world(&self.host, &self.vfs);
        if now == self.home {
            return Ok(());
        }
        Err(format!("{when}:\nat first:\n{}now:\n{now}", self.home))
    }

    /// Death at each primitive of a verb. With each second death the pod's namespace ends before DEL.
    fn at_every_primitive(&self, verb: &str) -> Outcome {
        let mut deaths = 0;
        for primitive in 1.. {
            let pod = Pod::start(&format!("{verb}-{primitive}"));
            let at = self.attachment(0, &pod);
            let previous = self.before(&at, verb)?;
            // Before a call is after the one before it: nothing else touches the machine.
            if !at.die(verb, &previous, Crash { primitive, side: Side::After }) {
                self.must_come_home(&at, &format!("{verb} without a death"))?;
                break;
            }
            deaths += 1;
            let when = format!("{verb} died after primitive {primitive}");
            if primitive % 2 == 0 {
                pod.end();
            }
            self.must_come_home(&at, &when)?;
        }
        if deaths < 15 {
            return Err(format!("only {deaths} primitives: the plugin did not do its work"));
        }
        Ok(format!("died after each of its {deaths} primitives; each time the VF came home"))
    }

    /// kill -9 at random instants of ADD and DEL, the real plugin on both VFs in turn.
    fn at_random_instants(&self) -> Outcome {
        let (mut state, mut killed) = (SEED, 0);
        let mut random = |below: u64| {
            // Numerical Recipes' linear congruence: all that matters is that it spreads.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let pod = Pod::start("measure");
        let at = self.attachment(0, &pod);
        let previous = self.before(&at, "ADD")?;
        let mut time = BTreeMap::new();
        for verb in ["ADD", "DEL"] {
            let started = Instant::now();
            at.call_with(verb, &previous)?;
            time.insert(verb, u64::try_from(started.elapsed().as_micros()).unwrap());
        }
        self.must_come_home(&at, "the measured calls")?;
        let instants = INSTANTS[usize::from(self.plugin == Plugin::Rdma)];
        for number in 0..instants {
            let pod = Pod::start(&format!("random-{number}"));
            let verb = if random(2) == 0 { "ADD" } else { "DEL" };
            let at = self.attachment(usize::try_from(number % 2).unwrap(), &pod);
            let previous = self.before(&at, verb)?;
            let after = Duration::from_micros(random(time[verb]));
            killed += u32::from(at.kill(verb, &previous, after));
            if random(3) == 0 {
                pod.end();
            }
            let when = format!("{verb} of instant {number} killed after {after:?}");
            self.must_come_home(&at, &when)?;
        }
        if killed < instants / 2 {
            return Err(format!(
                "only {killed} of {instants} calls were still running when killed"
            ));
        }
        Ok(format!(
            "{killed} of {instants} calls were killed in their middle; each time the VF came home"
        ))
    }

    /// The plain way: into the pod under its name, configured, and back.
    fn there_and_back(&self) -> Outcome {
        let pod = Pod::start("plain");
        let at = self.attachment(0, &pod);
        let result = at.call("ADD")?;
        at.call_with("CHECK", &result)?;
        let seen = self.host.links(&pod.namespace(), &LinkQuery::default()).unwrap();
        let found = seen.iter().find(|link| link.name == "net1").ok_or("the pod has no net1")?;
        report::equal("its device", found.parent.clone(), Some(self.vfs[0].to_string()))?;
        report::equal("up", found.up, true)?;
        let address = vf_profile::show_address(&found.address);
        report::equal("mac", result["interfaces"][0]["mac"].as_str(), Some(address.as_str()))?;
        let identity = vf_profile::identify(&self.host, &self.vfs[0]).unwrap();
        let profile = vf_profile::look(&self.host, &identity).unwrap().1;
        report::equal("vlan", profile.vlan.map(|vlan| (vlan.id, vlan.qos)), Some((100, 3)))?;
        self.must_come_home(&at, "DEL")?;
        Ok(format!(
            "net1 in the pod was {} with VLAN 100, and home it had nothing of it left",
            self.vfs[0]
        ))
    }

    fn end(self, report: Report) {
        host::vf_count::set(&self.host, &self.pf, 0, true).unwrap();
        report.end();
    }

    /// A second ADD for a VF that a living pod has.
    fn taken(&self) -> Outcome {
        let (one, other) = (Pod::start("one"), Pod::start("other"));
        let (first, second) = (self.attachment(0, &one), self.attachment(0, &other));
        let result = first.call("ADD")?;
        let refused = match second.call("ADD") {
            Ok(_) => return Err("two pods were given one VF".to_owned()),
            Err(why) => why,
        };
        if !refused.contains("is already allocated to interface net1 of container one") {
            return Err(refused);
        }
        second.call("DEL")?;
        first.call_with("CHECK", &result)?;
        self.must_come_home(&first, "DEL")?;
        Ok("the second was told who has it, and its DEL took nothing from the first".to_owned())
    }
}

/// What a card's own driver makes, in exclusive mode.
fn rdma_devices(host: &LinuxHost, vfs: &[PciAddress]) {
    for module in ["ib_uverbs", "ib_umad", "rdma_rxe"] {
        host.run(&Program::Modprobe, &[module], b"").unwrap();
    }
    host::rdma_mode::switch(host, RdmaMode::Exclusive).unwrap();
    for (number, vf) in vfs.iter().enumerate() {
        let link = home::interface_at_home(host, vf).unwrap().unwrap().name;
        let name = format!("mlx5_{number}");
        let words = ["link", "add", &name, "type", "rxe", "netdev", &link];
        assert!(Command::new("/usr/bin/rdma").args(words).status().unwrap().success());
    }
}

/// The plugin, with death at the primitive that `LAB_DIE` names.
fn plugin(order: &str) -> ! {
    let called = std::env::args().next().unwrap();
    let (primitive, side) = order.split_once(' ').unwrap();
    let side = if side == "Before" { Side::Before } else { Side::After };
    let host = Crashing::new(LinuxHost::new("/").unwrap(), Death::Abort);
    host.arm(Crash { primitive: primitive.parse().unwrap(), side });
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let mut stdin = Vec::new();
    std::io::stdin().read_to_end(&mut stdin).unwrap();
    let reply = cni::call(&called, &environment, &stdin, &host);
    std::process::exit(reply.exit)
}

fn main() {
    if let Ok(order) = std::env::var("LAB_DIE") {
        plugin(&order);
    }
    if std::env::args().next().unwrap().ends_with("-rdma") {
        return with_rdma();
    }
    let mut report = Report::new("custody: real VFs come home, whenever the plugin dies");
    let bench = Bench::new(LinuxHost::new("/").unwrap(), Plugin::Sriov);
    report.case("a vf goes into a pod as configured, and comes home as it was", || {
        bench.there_and_back()
    });
    report.case("a vf that a living pod has is refused to another", || bench.taken());
    report.case("a vf comes home after a death at every primitive of add", || {
        bench.at_every_primitive("ADD")
    });
    report.case("a vf comes home after a death at every primitive of del", || {
        bench.at_every_primitive("DEL")
    });
    report.case("a vf comes home after kill -9 at 200 random instants", || {
        bench.at_random_instants()
    });
    bench.end(report);
}

fn with_rdma() {
    let mut report = Report::new("custody: RDMA devices come home, whenever the plugin dies");
    let bench = Bench::new(LinuxHost::new("/").unwrap(), Plugin::Rdma);
    report.case("an rdma device comes home after a death at every primitive of add", || {
        bench.at_every_primitive("ADD")
    });
    report.case("an rdma device comes home after a death at every primitive of del", || {
        bench.at_every_primitive("DEL")
    });
    report.case("an rdma device comes home after kill -9 at 40 random instants", || {
        bench.at_random_instants()
    });
    bench.end(report);
}
