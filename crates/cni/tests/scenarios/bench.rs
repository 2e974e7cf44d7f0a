//! A machine with one card, pods with namespaces of their own, and a runtime that keeps results as libcni does.
//!
//! A scenario is lines of text:
//!
//! ```text
//! ADD sriov a net1 {"vlan": 100}     calls a plugin for interface net1 of pod a; the JSON is merged over the basics
//! world                              every VF that is not as at first, and every journal
//! pod a                              interfaces and RDMA devices that the pod sees
//! end a                              the pod's namespace ends
//! ```

use api::PciAddress;
use cni::{Reply, call};
use expect_test::Expect;
use host::seam::{LinkQuery, RdmaChange};
use host::sim::{Fault, Flavour, Machine, SimHost};
use host::{Host, Namespace, vf_profile};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// VF 0 of the first port.
pub const VF: &str = "0000:03:00.2";
pub const PF: &str = "0000:03:00.0";
const OWN_FILES: [&str; 3] = ["/var/lib/ironrail", "/var/lib/cni", "/run/ironrail/"];

pub struct Bench {
    pub host: SimHost,
    /// Last result of each plugin's ADD by pod and interface: the runtime's cache.
    results: RefCell<BTreeMap<(String, String), Value>>,
    /// The stderr of the last call.
    pub said: RefCell<Vec<String>>,
}

impl Bench {
    /// Four VFs on a ConnectX-5 port, RDMA mode exclusive, pods a and b.
    pub fn new() -> Self {
        let clock = "2026-01-01T00:00:00Z".parse().unwrap();
        let bench = Self::over(Machine::small_worker("worker-0", Flavour::Ubuntu, clock));
        bench.make_vfs(PF);
        bench
    }

    pub fn over(machine: Machine) -> Self {
        Self::with(SimHost::new(machine))
    }

    /// A machine whose processes are threads.
    pub fn threaded(machine: Machine) -> Self {
        Self::with(SimHost::threaded(machine))
    }

    fn with(host: SimHost) -> Self {
        let bench = Self { host, results: RefCell::default(), said: RefCell::default() };
        let exclusive = RdmaChange::Mode(api::RdmaMode::Exclusive);
        bench.host.change_rdma(&Namespace::Host, &exclusive).unwrap();
        for pod in ["a", "b"] {
            bench.host.machine().create_namespace(&path(pod)).unwrap();
        }
        bench
    }

    pub fn make_vfs(&self, pf: &str) {
        let pf: PciAddress = pf.parse().unwrap();
        self.host.write(&pf.file("sriov_numvfs"), "4").unwrap();
    }

    /// Runs a scenario and returns what happened.
    pub fn run(&self, scenario: &str) -> String {
        let mut told = String::new();
        for line in scenario.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let answer = self.step(line);
            writeln!(told, "> {line}").unwrap();
            for line in answer.lines() {
                writeln!(told, "{line}").unwrap();
            }
        }
        told
    }

    fn step(&self, line: &str) -> String {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match first {
            "ADD" | "DEL" | "CHECK" | "GC" | "STATUS" => self.verb(first, rest),
            "world" => self.world(),
            "pod" => self.pod(rest),
            "end" => {
                self.host.machine().delete_namespace(&path(rest)).unwrap();
                String::new()
            }
            "start" => {
                self.host.machine().create_namespace(&path(rest)).unwrap();
                String::new()
            }
            "file" => {
                let (path, content) = rest.split_once(' ').unwrap();
                self.host.replace(path, content.as_bytes(), 0o644).unwrap();
                String::new()
            }
            "show" => {
                let content =
                    self.host.read(rest).unwrap_or_else(|refusal| refusal.to_string().into());
                String::from_utf8(content).unwrap()
            }
            "write" => {
                let (path, content) = rest.split_once(' ').unwrap();
                self.host.write(path, content).unwrap();
                String::new()
            }
            "modprobe" => {
                self.host.run(&host::seam::Program::Modprobe, &[rest], b"").unwrap();
                String::new()
            }
            "said" => self.said.borrow().join("\n"),
            "fault" => {
                let fault: Fault = serde_json::from_value(json!(rest)).unwrap();
                self.host.machine().faults.insert(fault);
                String::new()
            }
            "mend" => {
                self.host.machine().faults.clear();
                String::new()
            }
            other => panic!("no step {other}"),
        }
    }

    fn verb(&self, verb: &str, rest: &str) -> String {
        let (words, extra) = match rest.find('{') {
            Some(at) => (&rest[..at], serde_json::from_str(&rest[at..]).unwrap()),
            None => (rest, json!({})),
        };
        let words: Vec<&str> = words.split_whitespace().collect();
        let plugin = words[0];
        let pod = words.get(1).copied().unwrap_or_default();
        let interface = words.get(2).copied().unwrap_or_default();
        show(&self.call(verb, plugin, pod, interface, &extra))
    }

    /// Calls a plugin as a runtime does, feeding back what ADD answered.
    pub fn call(
        &self,
        verb: &str,
        plugin: &str,
        pod: &str,
        interface: &str,
        extra: &Value,
    ) -> Reply {
        self.call_over(&self.host, verb, plugin, pod, interface, extra)
    }

    pub fn call_over(
        &self,
        host: &dyn Host,
        verb: &str,
        plugin: &str,
        pod: &str,
        interface: &str,
        extra: &Value,
    ) -> Reply {
        let mut environment = environment(verb, pod, interface);
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "blue", "type": plugin, "deviceID": VF,
        });
        let key = (pod.to_owned(), interface.to_owned());
        if let Some(result) = self.results.borrow().get(&key) {
            conf["prevResult"] = result.clone();
        }
        for (name, value) in extra.as_object().unwrap() {
            match name.strip_prefix("env ") {
                Some(name) => {
                    environment.insert(name.to_owned(), value.as_str().unwrap().to_owned())
                }
                None => conf
                    .as_object_mut()
                    .unwrap()
                    .insert(name.clone(), value.clone())
                    .map(|_| String::new()),
            };
        }
        let reply = call(plugin, &environment, conf.to_string().as_bytes(), host);
        if verb == "ADD" && reply.exit == 0 {
            let result = serde_json::from_slice(&reply.stdout).unwrap();
            self.results.borrow_mut().insert(key, result);
        }
        self.said.borrow_mut().clone_from(&reply.stderr);
        reply
    }

    /// Each VF of the node in one line, then the files that somebody's custody left.
    pub fn world(&self) -> String {
        let mut told = String::new();
        for pf in self.physical_functions() {
            let vfs = self.host.machine().vfs_of(&pf);
            for (index, vf) in vfs.iter().enumerate() {
                writeln!(told, "{}", self.vf(&pf, index as u32, vf)).unwrap();
            }
        }
        let machine = self.host.machine();
        let ours = |file: &&String| {
            OWN_FILES.iter().any(|prefix| file.starts_with(prefix))
                && !file.ends_with(".lock")
                && !file.contains("/networks/")
                && !file.starts_with("/run/ironrail/vf/")
        };
        for file in machine.files.keys().filter(ours) {
            writeln!(told, "{file}").unwrap();
        }
        told
    }

    fn physical_functions(&self) -> Vec<PciAddress> {
        let machine = self.host.machine();
        let all: Vec<PciAddress> = machine.functions.keys().copied().collect();
        all.into_iter().filter(|pci| !machine.vfs_of(pci).is_empty()).collect()
    }

    fn vf(&self, pf: &PciAddress, index: u32, vf: &PciAddress) -> String {
        let mut told = format!("{vf}");
        {
            let machine = self.host.machine();
            match machine.netdev_of(vf) {
                Some(link) => {
                    let place = self.place(&machine, link.namespace);
                    let mac = vf_profile::show_address(&link.address);
                    let up = if link.up { "up" } else { "down" };
                    write!(told, " {}{place} {mac} mtu {} {up}", link.name, link.mtu).unwrap();
                }
                None => {
                    let driver = machine.functions[vf].driver.clone();
                    write!(told, " {}", driver.unwrap_or("no driver".to_owned())).unwrap();
                }
            }
            if let Some((_, device)) = machine.rdma_of(vf) {
                write!(told, ", {}{}", device.name, self.place(&machine, device.namespace))
                    .unwrap();
            }
        }
        let names = self.host.list(&pf.file("net")).unwrap();
        let query = LinkQuery { name: Some(names[0].clone()), index: None, with_vfs: true };
        let links = self.host.links(&Namespace::Host, &query).unwrap();
        let held = &links[0].vfs[index as usize];
        if held.mac != [0; 6] {
            write!(told, ", mac {}", vf_profile::show_address(&held.mac)).unwrap();
        }
        let vlan = held.vlan.unwrap_or_default();
        if vlan.id != 0 {
            write!(told, ", vlan {} qos {} {:#06x}", vlan.id, vlan.qos, vlan.protocol).unwrap();
        }
        if held.max_tx_rate.unwrap_or(0) + held.min_tx_rate.unwrap_or(0) != 0 {
            let (min, max) = (held.min_tx_rate.unwrap_or(0), held.max_tx_rate.unwrap_or(0));
            write!(told, ", rate {min} to {max}").unwrap();
        }
        for (name, on) in [("spoofchk", held.spoof_check), ("trust", held.trust)] {
            if on == Some(true) {
                write!(told, ", {name}").unwrap();
            }
        }
        match held.link_state {
            None | Some(host::seam::VfLinkState::Auto) => {}
            Some(state) => write!(told, ", link {state:?}").unwrap(),
        }
        told
    }

    fn place(&self, machine: &Machine, namespace: u64) -> String {
        let path = machine.namespace_paths.iter().find(|(_, inode)| **inode == namespace);
        path.map_or(String::new(), |(path, _)| format!("@{}", path.rsplit('/').next().unwrap()))
    }

    fn pod(&self, pod: &str) -> String {
        let space = Namespace::At(path(pod));
        let mut told = String::new();
        for link in self.host.links(&space, &LinkQuery::default()).unwrap() {
            let addresses: Vec<String> = self
                .host
                .addresses(&space, Some(link.index))
                .unwrap()
                .iter()
                .map(|address| format!(" {}/{}", address.address, address.prefix))
                .collect();
            writeln!(told, "{}{}", link.name, addresses.concat()).unwrap();
        }
        for route in self.host.routes(&space).unwrap() {
            let via = route.gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
            writeln!(told, "{}/{}{via}", route.destination.0, route.destination.1).unwrap();
        }
        for device in self.host.rdma_devices(&space).unwrap() {
            writeln!(told, "rdma {}", device.name).unwrap();
        }
        told
    }
}

fn environment(verb: &str, pod: &str, interface: &str) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        ("CNI_COMMAND".to_owned(), verb.to_owned()),
        ("CNI_PATH".to_owned(), "/opt/cni/bin".to_owned()),
    ]);
    if !pod.is_empty() {
        environment.insert("CNI_CONTAINERID".to_owned(), pod.to_owned());
        environment.insert("CNI_NETNS".to_owned(), path(pod));
        environment.insert("CNI_IFNAME".to_owned(), interface.to_owned());
    }
    environment
}

/// A call for net1 without a runtime's memory.
pub fn call_plainly(host: &dyn Host, verb: &str, plugin: &str, pod: &str, more: &Value) -> Reply {
    let mut conf = json!({"cniVersion": "1.1.0", "name": "blue", "type": plugin});
    conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call(plugin, &environment(verb, pod, "net1"), conf.to_string().as_bytes(), host)
}

pub fn path(pod: &str) -> String {
    format!("/run/netns/{pod}")
}

/// An answer as one line.
pub fn show(reply: &Reply) -> String {
    let stdout = String::from_utf8(reply.stdout.clone()).unwrap();
    let value: Value = serde_json::from_str(&stdout).unwrap_or_default();
    match (reply.exit, value.get("code")) {
        (0, _) if stdout.is_empty() => "ok".to_owned(),
        (0, _) => stdout,
        (1, Some(code)) => {
            let details = value["details"].as_str().map_or(String::new(), |d| format!(" ({d})"));
            format!("failed {code}: {}{details}", value["msg"].as_str().unwrap())
        }
        _ => format!("exit {} {stdout}", reply.exit),
    }
}

pub fn check(scenario: &str, expected: Expect) {
    expected.assert_eq(&Bench::new().run(scenario));
}

impl Bench {
    /// Name of a VF's RDMA device, wherever it is.
    pub fn rdma_name(&self, vf: &PciAddress) -> String {
        self.host.machine().rdma_of(vf).unwrap().1.name.clone()
    }

    /// Forgets what our own plugins wrote, as if others had done the work.
    pub fn forget(&self) {
        let mut machine = self.host.machine();
        machine.files.retain(|file, _| !file.starts_with("/var/lib/ironrail/cni/"));
    }
}
