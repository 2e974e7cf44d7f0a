//! The lab's program about containers: pods that a real containerd makes, with our device plugin and our CNI chain.
//!
//! The kubelet's part is a script that hands Allocate's answer to the runtime as a kubelet does. What counts is what a
//! process in the container finds: the character devices of the VF's RDMA device as they are after its move.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.

#[path = "lab/containerd.rs"]
mod containerd;
#[path = "lab/cri.rs"]
mod cri;
#[path = "lab/guide.rs"]
mod guide;
#[path = "lab/machine.rs"]
mod machine;
#[path = "../../host/examples/lab/pod.rs"]
mod pod;
#[path = "../../host/examples/lab/report.rs"]
mod report;

use containerd::{Containerd, IMAGE};
use cri::{
    CdiDevice, ContainerConfig, ContainerMetadata, Device, Image, Metadata, Mount, SandboxConfig,
    SandboxLinux,
};
use guide::{Guide, RESOURCE};
use host::{Host, cdi, home};
use machine::said;
use report::{Outcome, Report, StageCase, equal};
use serde_json::json;
use std::process::Command;
use std::time::Duration;

/// A sandbox that the runtime made, and the device that its pod was given.
struct Sandbox {
    id: String,
    device: String,
    config: SandboxConfig,
}

struct Bench {
    guide: Guide,
    containerd: Containerd,
    /// What the runtime forgot.
    lost: Option<Sandbox>,
}

impl Bench {
    /// The guide's order as far as the network, and a containerd without CDI, as version 1.7 comes.
    fn new() -> Result<(Self, String), String> {
        let mut guide = Guide::new();
        // It takes the lowest number before any VF's device, and gives it back when a case needs it free.
        spare_device("add")?;
        guide.pool()?;
        guide.policy()?;
        guide.network()?;
        let mut containerd = Containerd::new(guide.machine.runtime())?;
        let version = containerd.start(false)?;
        containerd.import_image()?;
        Ok((Self { guide, containerd, lost: None }, version))
    }

    /// What a kubelet does for a pod until its sandbox stands: Allocate, then RunPodSandbox, which calls the chain.
    fn sandbox(&self, name: &str) -> Result<Sandbox, String> {
        let device = self.guide.machine.allocate(RESOURCE, name)?;
        self.sandbox_with(name, device)
    }

    fn sandbox_with(&self, name: &str, device: String) -> Result<Sandbox, String> {
        let chain = self.guide.machine.chain("rdma-network", &device)?;
        let network = json!({ "cniVersion": "1.0.0", "name": "rdma-network", "plugins": chain });
        self.containerd.network(&network, &device)?;
        let metadata = Metadata {
            name: name.to_owned(),
            uid: name.to_owned(),
            namespace: "default".to_owned(),
        };
        let config = SandboxConfig {
            metadata: Some(metadata),
            hostname: name.to_owned(),
            linux: Some(SandboxLinux {}),
        };
        let id = self.containerd.cri.run_sandbox(&config)?;
        Ok(Sandbox { id, device, config })
    }

    /// A container with what Allocate answered, and the machine's programs to look around with.
    fn container(&self, sandbox: &Sandbox) -> Result<String, String> {
        let name = sandbox.config.hostname.as_str();
        let given = self.guide.machine.allocation(name);
        let mount = |path: &str| Mount {
            container_path: path.to_owned(),
            host_path: path.to_owned(),
            readonly: true,
        };
        let device = |path: &String| Device {
            container_path: path.clone(),
            host_path: path.clone(),
            permissions: "rw".to_owned(),
        };
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned() }),
            image: Some(Image { image: IMAGE.to_owned() }),
            mounts: vec![mount("/usr"), mount("/etc/libibverbs.d")],
            devices: given.device_nodes.iter().map(device).collect(),
            cdi_devices: given.cdi.into_iter().map(|name| CdiDevice { name }).collect(),
        };
        self.containerd.cri.run_container(&sandbox.id, config, &sandbox.config)
    }

    /// The name and the `uverbs` of a device's RDMA device, as the kernel has them now.
    fn verbs(&self, device: &str) -> Result<String, String> {
        let below = format!("/sys/bus/pci/devices/{device}/infiniband_verbs");
        let found = self.guide.host.list(&below).unwrap_or_default();
        found.into_iter().next().ok_or_else(|| format!("{device} has no uverbs device"))
    }

    /// What a process in the container finds in its `/dev/infiniband`, with the numbers, and opens.
    fn seen_inside(&self, container: &str) -> Result<Vec<String>, String> {
        let run = |command: &[&str]| self.containerd.cri.run(container, command);
        let listed =
            run(&["/busybox", "sh", "-c", "cd /dev/infiniband && /busybox stat -c '%n %t:%T' *"])?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// The nodes that a container must have which has just these, with the numbers that the host has for them.
    fn numbers(&self, nodes: &[String]) -> Vec<String> {
        let paths: Vec<String> =
            nodes.iter().map(|node| format!("/dev/infiniband/{node}")).collect();
        let mut command = Command::new("/usr/bin/busybox");
        let told = said(command.args(["stat", "-c", "%n %t:%T"]).args(&paths)).unwrap();
        told.lines().map(|line| line.trim_start_matches("/dev/infiniband/").to_owned()).collect()
    }

    /// The container's devices are the ones of now: its `uverbs` by number, and it can be opened.
    fn must_have_its_own(&self, container: &str, device: &str) -> Result<Vec<String>, String> {
        let seen = self.seen_inside(container)?;
        let own = self.verbs(device)?;
        let expected = self.numbers(&["rdma_cm".to_owned(), own.replace("uverbs", "umad"), own]);
        let expected: Vec<String> =
            if expected.len() == 3 { expected } else { return Err(format!("{expected:?}")) };
        equal("in /dev/infiniband", &seen, &expected)?;
        let opened = self.containerd.cri.run(container, &["/usr/bin/ibv_devinfo"])?;
        equal("devices that ibv_devinfo opens", opened.matches("hca_id:").count(), 1)?;
        Ok(seen)
    }

    fn is_home(&self, device: &str) -> Result<(), String> {
        let address = device.parse().unwrap();
        let link = home::interface_at_home(&self.guide.host, &address).unwrap();
        let rdma = home::rdma_devices_at_home(&self.guide.host, device).unwrap_or_default();
        match (link.is_some(), rdma.len()) {
            (true, 1) => Ok(()),
            (link, rdma) => {
                Err(format!("{device}: interface at home {link}, RDMA devices at home {rdma}"))
            }
        }
    }

    fn end(&self, sandbox: &Sandbox) -> Result<(), String> {
        self.containerd.cri.end_sandbox(&sandbox.id)?;
        self.guide.machine.free(&sandbox.config.hostname);
        self.is_home(&sandbox.device)
    }

    /// What the daemon finds out about a runtime that has CDI switched off: nodes by path, with no word of the user's.
    fn by_path(&mut self) -> Outcome {
        // It asks once a minute, and when it began there was no runtime.
        self.look_again(61, "cdi-off")?;
        let reported = self.reported("off")?;
        let sandbox = self.sandbox("by-path")?;
        let given = self.guide.machine.allocation("by-path");
        equal("CDI names", given.cdi.len(), 0)?;
        let container = self.container(&sandbox)?;
        let seen = self.must_have_its_own(&container, &sandbox.device)?;
        self.end(&sandbox)?;
        Ok(format!(
            "{reported}; the container has {}, and all is home after its end",
            seen.join(", ")
        ))
    }

    /// `useCDI: false`: what was given by path has got another number, which another device may have by now.
    fn refused(&mut self) -> Outcome {
        self.guide.machine.restart_device_plugin(&["--no-cdi"]);
        self.guide.offered()?;
        let device = self.guide.machine.allocate(RESOURCE, "refused")?;
        let given = self.verbs(&device)?;
        spare_device("del")?;
        let refused = self.sandbox_with("refused", device.clone());
        let Err(why) = refused else {
            return Err(format!("a container would get {given} of another device"));
        };
        let words = ["the pod must be recreated", "useCDI"];
        if !words.iter().all(|word| why.contains(word)) {
            return Err(why);
        }
        self.guide.machine.free("refused");
        self.is_home(&device)?;
        self.spare_comes_first(&device)?;
        Ok(why
            .split_once("the pod must")
            .map_or(why.clone(), |(_, end)| format!("the pod must{end}")))
    }

    /// The device that was moved has the spare one's number now: both are made again, in the order of the beginning.
    fn spare_comes_first(&self, device: &str) -> Result<(), String> {
        let found = home::rdma_devices_at_home(&self.guide.host, device).unwrap_or_default();
        for rdma in found {
            said(Command::new("/usr/bin/rdma").args(["link", "del", &rdma.name]))?;
        }
        spare_device("add")?;
        self.guide.offered()
    }

    /// What the node state says of CDI.
    fn reported(&self, word: &str) -> Result<String, String> {
        self.guide.machine.until("the node state tells of CDI", || {
            let told = self.guide.state()["status"]["cdi"].as_str().unwrap_or_default().to_owned();
            if told.starts_with(word) { Ok(told) } else { Err(format!("it says {told:?}")) }
        })
    }

    /// The sandbox is taken away without DEL, and the runtime is down.
    fn lost(&mut self) -> Result<(Sandbox, String), String> {
        let sandbox = self.sandbox("lost")?;
        self.guide.machine.free("lost");
        self.containerd.lose(&sandbox.id)?;
        self.wait(31, "blind")?;
        let said = self.daemon_says("devices of pods that are gone stay where they are")?;
        equal("at home", self.is_home(&sandbox.device).is_ok(), false)?;
        Ok((sandbox, said))
    }

    /// Moves the machine's clock on, so that nobody waits for what goes by it, and wakes the daemon.
    fn look_again(&self, seconds: i64, word: &str) -> Result<(), String> {
        let now = self.guide.host.now().as_second() + seconds;
        said(Command::new("/usr/bin/busybox").args(["date", "-s", &format!("@{now}")]))?;
        self.guide.machine.wake_daemon(word)
    }

    /// Lets time pass, which the sweeper counts without the clock, and wakes the daemon.
    fn wait(&self, seconds: u64, word: &str) -> Result<(), String> {
        std::thread::sleep(Duration::from_secs(seconds));
        self.guide.machine.wake_daemon(word)
    }

    fn daemon_says(&self, words: &str) -> Result<String, String> {
        self.guide.machine.until("the daemon says so", || {
            let log = std::fs::read_to_string("/tmp/daemon.log").unwrap_or_default();
            let line = log.lines().rev().find(|line| line.contains(words));
            line.map(str::to_owned).ok_or_else(|| format!("nothing about {words:?}"))
        })
    }

    /// The runtime is back and knows nothing of the sandbox: evidence, twice.
    fn swept(&mut self, lost: &Sandbox) -> Outcome {
        self.containerd.start(true)?;
        let known = self.containerd.cri.sandboxes()?;
        equal("known sandboxes", known.contains(&lost.id), false)?;
        self.wait(31, "once")?;
        std::thread::sleep(Duration::from_secs(2));
        equal("at home after one look", self.is_home(&lost.device).is_ok(), false)?;
        // A clock that is set on makes no minute of it.
        self.look_again(61, "soon")?;
        std::thread::sleep(Duration::from_secs(2));
        equal("at home by a clock", self.is_home(&lost.device).is_ok(), false)?;
        self.wait(61, "twice")?;
        let said = self.daemon_says(&format!("brought {} home", lost.device))?;
        self.is_home(&lost.device)?;
        Ok(said.split_once("brought").map_or(said.clone(), |(_, end)| format!("brought{end}")))
    }

    /// The device plugin names the device; a number becomes free; the chain moves the device; the container has the new one.
    fn after_the_move(&mut self) -> Outcome {
        self.guide.machine.restart_device_plugin(&[]);
        self.look_again(61, "cdi-on")?;
        let reported = self.reported("on")?;
        self.guide.offered()?;
        let device = self.guide.machine.allocate(RESOURCE, "by-name")?;
        let given = self.guide.machine.allocation("by-name");
        let address = device.parse().unwrap();
        equal("CDI names", given.cdi, vec![cdi::name(&address)])?;
        equal("nodes by path", given.device_nodes.len(), 0)?;
        let announced = self.verbs(&device)?;
        spare_device("del")?;
        let sandbox = self.sandbox_with("by-name", device)?;
        // Whoever trusted the old number would now open the device of somebody else.
        spare_device("add")?;
        let container = self.container(&sandbox)?;
        let moved = self.verbs(&sandbox.device)?;
        equal("the number has changed", moved == announced, false)?;
        let stranger =
            self.guide.host.read(&format!("/sys/class/infiniband_verbs/{announced}/ibdev"));
        let stranger = String::from_utf8(stranger.unwrap_or_default()).unwrap();
        equal("whose the announced number is now", stranger.trim(), "spare")?;
        let seen = self.must_have_its_own(&container, &sandbox.device)?;
        self.end(&sandbox)?;
        Ok(format!("{reported}; Allocate saw {announced}, the container has {}", seen.join(", ")))
    }

    /// The runtime reads the spec when it creates the container, and no earlier.
    fn changed_between(&mut self) -> Outcome {
        let sandbox = self.sandbox("changed")?;
        let path = cdi::path(&sandbox.device.parse().unwrap());
        let spec = self.guide.host.read(&path).map_err(|e| e.to_string())?;
        let mut spec: serde_json::Value = serde_json::from_slice(&spec).unwrap();
        let nodes = &mut spec["devices"][0]["containerEdits"]["deviceNodes"];
        *nodes =
            json!([{ "path": "/dev/infiniband/by-hand", "hostPath": "/dev/infiniband/rdma_cm" }]);
        self.guide.host.replace(&path, spec.to_string().as_bytes(), 0o644).unwrap();
        let container = self.container(&sandbox)?;
        let seen = self.seen_inside(&container)?;
        let expected: Vec<String> = self.numbers(&["rdma_cm".to_owned()]);
        let expected: Vec<String> =
            expected.iter().map(|line| line.replace("rdma_cm", "by-hand")).collect();
        equal("in /dev/infiniband", &seen, &expected)?;
        self.end(&sandbox)?;
        Ok(format!("{}, as the changed spec has it", seen.join(", ")))
    }
}

/// An RDMA device on the other card, which holds a number.
fn spare_device(verb: &str) -> Result<(), String> {
    let words: &[&str] = match verb {
        "add" => &["link", "add", "spare", "type", "rxe", "netdev", "eth1"],
        _ => &["link", "del", "spare"],
    };
    said(Command::new("/usr/bin/rdma").args(words)).map(drop)
}

const CASES: [StageCase<Bench>; 6] = [
    ("containerd: without cdi a container gets the nodes by path", Bench::by_path),
    ("containerd: by path a pod whose device was renumbered is refused", Bench::refused),
    ("containerd: while it is down, nothing of a lost sandbox is touched", |bench| {
        let (sandbox, said) = bench.lost()?;
        bench.lost = Some(sandbox);
        Ok(said)
    }),
    ("containerd: what a lost sandbox had comes home by evidence seen twice", |bench| {
        let sandbox = bench.lost.take().ok_or("there is no lost sandbox")?;
        bench.swept(&sandbox)
    }),
    ("containerd: a container has the character devices of after the move", Bench::after_the_move),
    ("containerd: a cdi spec changed after the sandbox is the one used", Bench::changed_between),
];

fn main() {
    let mut report = Report::new("containers: a real containerd, our device plugin and our chain");
    let name = "containerd: it starts beside our programs, and a network is there";
    drop(report.on_stage(name, Bench::new, &CASES));
    report.end();
    std::process::exit(0);
}
