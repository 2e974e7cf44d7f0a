//! One attachment of one VF, as a runtime calls the shipped plugins for it: on the host, or as Multus' daemon does from
//! its pod. And the IPAM plugin of these attachments, which is this program too: it forgets nothing, so a leak shows.

use super::pod::Pod;
use super::thick;
use api::PciAddress;
use host::crashing::{Crash, Crashing, Death, Side};
use host::linux::LinuxHost;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const VLAN: (u16, u8) = (100, 3);
/// Mbit/s.
pub const RATE: u32 = 50;
/// The IPAM plugin, and the directory where each address given is a file.
const IPAM: &str = "lab-addresses";
const PLUGINS: &str = "/opt/cni/bin";
const ADDRESSES: &str = "/run/lab-addresses";

#[derive(Clone, Copy, PartialEq)]
pub enum Plugin {
    Sriov,
    Rdma,
}

impl Plugin {
    pub fn path(self) -> &'static str {
        match self {
            Self::Sriov => "/opt/cni/bin/sriov",
            Self::Rdma => "/opt/cni/bin/rdma",
        }
    }
}

/// Who starts the plugins.
#[derive(Clone, Copy, PartialEq)]
pub enum Way<'a> {
    /// A program on the host: the runtime, or Multus thin.
    Thin,
    /// Multus' daemon, from its pod.
    Thick(&'a thick::Daemon),
}

#[derive(Clone, Copy)]
pub struct Attachment<'a> {
    pub device: PciAddress,
    pub pod: &'a Pod,
    pub container: &'a str,
    pub plugin: Plugin,
    /// Without address, MAC and rate.
    pub is_plain: bool,
    pub way: Way<'a>,
}

impl<'a> Attachment<'a> {
    /// The same for the other plugin of the chain.
    pub fn by(&self, plugin: Plugin) -> Self {
        Self { plugin, ..*self }
    }

    /// The same from another caller.
    pub fn from(&self, way: Way<'a>) -> Self {
        Self { way, ..*self }
    }

    /// A MAC that is no other VF's.
    pub fn mac(&self) -> String {
        format!("02:00:00:00:{:02x}:{:02x}", self.device.device, self.device.function)
    }

    fn command(&self, program: &str, verb: &str) -> Command {
        let mut command = match self.way {
            Way::Thin => Command::new(program),
            Way::Thick(daemon) => daemon.command(program),
        };
        if self.way == Way::Thin {
            command.arg0(self.plugin.path());
        }
        command.env_clear().envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", self.container),
            ("CNI_NETNS", self.pod.path.as_str()),
            ("CNI_IFNAME", "net1"),
            ("CNI_PATH", PLUGINS),
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start_with(&self, mut command: Command, previous: &Value) -> Child {
        let mut child = command.spawn().unwrap();
        let device = self.device.to_string();
        let mut configuration = match self.plugin {
            Plugin::Sriov if self.is_plain => json!({
                "cniVersion": "1.0.0", "name": "blue", "type": "sriov", "deviceID": device,
                "vlan": VLAN.0, "trust": "on",
            }),
            Plugin::Sriov => json!({
                "cniVersion": "1.0.0", "name": "blue", "type": "sriov", "deviceID": device,
                "vlan": VLAN.0, "vlanQoS": VLAN.1, "spoofchk": "off", "trust": "on",
                "max_tx_rate": RATE, "runtimeConfig": {"mac": self.mac()}, "ipam": {"type": IPAM},
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

    /// A call that has begun.
    pub fn start(&self, verb: &str, previous: &Value) -> Child {
        self.start_with(self.command(self.plugin.path(), verb), previous)
    }

    /// A call that is to succeed.
    pub fn call(&self, verb: &str) -> Result<Value, String> {
        self.call_with(verb, &Value::Null)
    }

    pub fn call_with(&self, verb: &str, previous: &Value) -> Result<Value, String> {
        answer(verb, self.start(verb, previous))
    }

    /// A call that dies at a primitive; false when it came to its end before. It is this program, which knows primitives.
    pub fn die(&self, verb: &str, previous: &Value, crash: Crash) -> bool {
        let mut command = self.command("/proc/self/exe", verb);
        command.env("LAB_DIE", format!("{} {:?}", crash.primitive, crash.side));
        let output = self.start_with(command, previous).wait_with_output().unwrap();
        output.status.signal().is_some()
    }

    /// A call that is killed after a while; false when it came to its end before.
    pub fn kill(&self, verb: &str, previous: &Value, after: Duration) -> bool {
        let mut child = self.start(verb, previous);
        std::thread::sleep(after);
        let _ = child.kill();
        child.wait().unwrap().signal().is_some()
    }

    /// True while an address is given to this container.
    pub fn has_address(&self) -> bool {
        std::fs::exists(format!("{ADDRESSES}/{}", self.container)).unwrap()
    }
}

/// What a call said at its end.
pub fn answer(verb: &str, child: Child) -> Result<Value, String> {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(serde_json::from_str(&said).unwrap_or(Value::Null)),
        // A plugin says why on stdout; whatever failed before it, elsewhere.
        false if said.is_empty() => {
            Err(format!("{verb} failed: {}", String::from_utf8_lossy(&output.stderr)))
        }
        false => Err(format!("{verb} failed: {said}")),
    }
}

/// The plugin, with death at the primitive that `LAB_DIE` names.
pub fn plugin(order: &str) -> ! {
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

/// Makes this program the IPAM plugin too.
pub fn install_ipam() {
    let _ = std::fs::create_dir_all(ADDRESSES);
    let place = format!("{PLUGINS}/{IPAM}");
    if !std::fs::exists(&place).unwrap() {
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), place).unwrap();
    }
}

pub fn is_ipam() -> bool {
    std::env::args().next().unwrap().ends_with(IPAM)
}

/// An address for each container, once: as upstream's `host-local`, a second ADD without DEL is refused.
pub fn ipam() -> ! {
    let variable = |name| std::env::var(name).unwrap();
    let place = format!("{ADDRESSES}/{}", variable("CNI_CONTAINERID"));
    if variable("CNI_COMMAND") == "DEL" {
        let _ = std::fs::remove_file(place);
    } else if variable("CNI_COMMAND") == "ADD" {
        if std::fs::File::create_new(place).is_err() {
            println!("{}", json!({"code": 100, "msg": "the container has an address already"}));
            std::process::exit(1);
        }
        println!("{}", json!({"cniVersion": "1.0.0", "ips": [{"address": "10.56.217.171/24"}]}));
    }
    std::process::exit(0)
}

/// Whoever loses its parent becomes this program's child.
pub fn adopt_orphans() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
}

/// The IPAM plugin of a plugin that was killed goes on for a moment. Waits for its end: the runtime comes back later still.
pub fn wait_for_orphans() {
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let is_ipam = |child: &&str| {
            std::fs::read(format!("/proc/{child}/comm"))
                .is_ok_and(|name| name.starts_with(b"lab-addr"))
        };
        for child in children.split_whitespace().filter(is_ipam) {
            let child = child.parse().ok().and_then(rustix::process::Pid::from_raw);
            // Another thread may have waited for it already.
            let _ = rustix::process::waitpid(child, rustix::process::WaitOptions::empty());
        }
    }
}
