//! The machine around the node: the playground's API server with its operator, our programs, and a scripted kubelet.

#![allow(dead_code)] // Each program uses its part.

use super::pod::Pod;
use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{PciAddress, names};
use host::linux::LinuxHost;
use host::seam::{LinkChange, LinkQuery, Program};
use host::{Host, Namespace, home};
use playground::cluster::devices::{Allocation, Given, Plugins};
use playground::cluster::objects::text;
use playground::demo::User;
use playground::live::grpc::Sockets;
use playground::live::{Options, Playground};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};

pub const NODE: &str = "lab-0";
const KUBELET: &str = "/var/lib/kubelet";
const KUBECONFIG: &str = "/tmp/kubeconfig";
/// Under software emulation everything takes its time.
const PATIENCE: Duration = Duration::from_secs(300);
const NODE_PROGRAM: &str = "/usr/bin/ironrail-node";
/// The RDMA subsystem, in the order in which it can be unloaded.
const RDMA_MODULES: [&str; 9] = [
    "rdma_ucm",
    "rdma_cm",
    "ib_umad",
    "rdma_rxe",
    "iw_cm",
    "ib_cm",
    "ib_uverbs",
    "ib_uverbs_support",
    "ib_core",
];

/// What a node has before us: its cards, and its RDMA subsystem as the kernel loads it by itself, which is shared.
pub fn load(host: &LinuxHost) {
    // The API server listens there.
    let loopback = LinkQuery { name: Some("lo".to_owned()), ..LinkQuery::default() };
    let link = host.links(&Namespace::Host, &loopback).unwrap()[0].index;
    host.change_link(&Namespace::Host, &LinkChange::Up { link }).unwrap();
    for module in ["igb", "igbvf"] {
        modprobe(host, &[module]);
    }
    // Whatever ran before us.
    unload_rdma(host);
    load_rdma(host);
}

/// The machine's command line says exclusive for other cases; what is written out beats it.
pub fn load_rdma(host: &LinuxHost) {
    modprobe(host, &["ib_core", "netns_mode=1"]);
    for module in ["ib_uverbs", "ib_umad", "rdma_ucm", "rdma_rxe"] {
        modprobe(host, &[module]);
    }
}

pub fn unload_rdma(host: &LinuxHost) {
    for module in RDMA_MODULES {
        if host.list(&format!("/sys/module/{module}/holders")).is_ok() {
            modprobe(host, &["-r", module]);
        }
    }
}

fn modprobe(host: &LinuxHost, arguments: &[&str]) {
    let output = host.run(&Program::Modprobe, arguments, b"").unwrap();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status, 0, "modprobe {arguments:?}: {why}");
}

/// The SR-IOV cards by address.
pub fn cards(host: &LinuxHost) -> Vec<PciAddress> {
    let names = host.list("/sys/bus/pci/drivers/igb").unwrap();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// A program of ours, killed with the machine.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Machine {
    runtime: Runtime,
    user: User,
    kubelet: RefCell<Sockets>,
    devices: RefCell<BTreeMap<String, BTreeSet<String>>>,
    given: RefCell<Vec<Given>>,
    programs: RefCell<Vec<Running>>,
    _playground: Playground,
}

impl Machine {
    pub fn start() -> Self {
        let machine = Self::without_programs();
        machine.start_programs();
        machine
    }

    /// API server, operator and kubelet; who starts the node's programs is another's matter.
    pub fn without_programs() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        // One simulated node, for the operator to run on.
        let options = Options { nodes: 1, ..Options::default() };
        let playground = runtime.block_on(Playground::start(options)).unwrap();
        std::fs::write(KUBECONFIG, playground.kubeconfig()).unwrap();
        // A client lives on the runtime that it was made in.
        let user = runtime.block_on(async { playground.admin() }).unwrap();
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": NODE, "labels": {
                "kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux",
                "node-role.kubernetes.io/worker": "", "rdma-capable": "true", "lab": "true",
            } },
        });
        runtime.block_on(user.apply(&node)).unwrap();
        let kubelet = Sockets::open(runtime.handle(), Path::new(KUBELET), || {}).unwrap();
        let machine = Self {
            runtime,
            user,
            kubelet: RefCell::new(kubelet),
            devices: RefCell::default(),
            given: RefCell::default(),
            programs: RefCell::default(),
            _playground: playground,
        };
        machine.ready();
        machine
    }

    /// What the DaemonSets start on the node.
    pub fn start_programs(&self) {
        *self.programs.borrow_mut() = vec![program("daemon", &[]), program("device-plugin", &[])];
    }

    /// The device plugin again, as its DaemonSet starts it with other arguments.
    pub fn restart_device_plugin(&self, arguments: &[&str]) {
        let mut programs = self.programs.borrow_mut();
        programs.truncate(1);
        self.devices.borrow_mut().clear();
        programs.push(program("device-plugin", arguments));
    }

    /// kill -9 of both.
    pub fn stop_programs(&self) {
        self.programs.borrow_mut().clear();
        self.devices.borrow_mut().clear();
    }

    /// What a kubelet says of its node.
    fn ready(&self) {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let status = json!({ "status": {
            "nodeInfo": { "bootID": boot.trim() },
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
        } });
        let path = format!("/api/v1/nodes/{NODE}/status");
        let request = Request::new(Method::Patch(PatchType::Merge), path).with_body(status);
        let answer = self.runtime.block_on(self.user.send(&request));
        assert!(answer.is_done(), "{answer}");
    }

    /// Asks until there is an answer, or the last refusal when patience is over.
    pub fn until<T>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> Result<T, String>,
    ) -> Result<T, String> {
        let started = Instant::now();
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(why) if started.elapsed() > PATIENCE => {
                    let log = std::fs::read_to_string("/tmp/daemon.log").unwrap_or_default();
                    let lines: Vec<&str> = log.lines().rev().take(20).collect();
                    return Err(format!(
                        "not within {PATIENCE:?}: {what}: {why}\n{}",
                        lines.join("\n")
                    ));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    pub fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
        let found = self.user.get(api_version, kind, namespace, name);
        self.runtime.block_on(found).unwrap_or_default()
    }

    pub fn apply(&self, manifest: &Value) -> Result<(), String> {
        let mut manifest = manifest.clone();
        // The simulated node runs the operator, and is not what is looked at.
        match text(&manifest, "/kind") {
            names::POOL => manifest["spec"]["nodeSelector"]["matchLabels"]["lab"] = "true".into(),
            names::POLICY => manifest["spec"]["nodeSelector"]["lab"] = "true".into(),
            _ => {}
        }
        self.runtime.block_on(self.user.apply(&manifest))
    }

    /// Changes the operator's configuration as `kubectl patch` does.
    pub fn configure(&self, spec: Value) -> Result<(), String> {
        let key = ObjectKey::new(
            names::API_VERSION,
            names::OPERATOR_CONFIG,
            names::NAMESPACE,
            names::DEFAULT_CONFIG,
        );
        let request = Request::new(Method::Patch(PatchType::Merge), key.path());
        let request = request.with_body(json!({ "spec": spec }));
        let answer = self.runtime.block_on(self.user.send(&request));
        if answer.is_done() { Ok(()) } else { Err(format!("cannot change {key}: {answer}")) }
    }

    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<(), String> {
        let key = ObjectKey::new(names::API_VERSION, kind, namespace, name);
        let answer =
            self.runtime.block_on(self.user.send(&Request::new(Method::Delete, key.path())));
        if answer.is_done() { Ok(()) } else { Err(format!("cannot delete {key}: {answer}")) }
    }

    /// The devices that the plugin lists as healthy.
    pub fn healthy(&self, resource: &str) -> BTreeSet<String> {
        for (resource, list) in self.kubelet.borrow().take_lists() {
            let healthy = list.unwrap_or_default().into_iter().filter(|device| device.healthy);
            let ids = healthy.map(|device| device.id).collect();
            self.devices.borrow_mut().insert(resource, ids);
        }
        self.devices.borrow().get(resource).cloned().unwrap_or_default()
    }

    /// Preferred allocation, then Allocate, then what PodResources says of it.
    pub fn allocate(&self, resource: &str, pod: &str) -> Result<String, String> {
        let taken: BTreeSet<String> =
            self.given.borrow().iter().flat_map(|given| given.ids.clone()).collect();
        let free: Vec<String> = self.healthy(resource).difference(&taken).cloned().collect();
        let mut kubelet = self.kubelet.borrow_mut();
        let preferred = kubelet.preferred(resource, &free, 1);
        let device = preferred.first().or(free.first()).ok_or("nothing is free")?.clone();
        let allocation = kubelet.allocate(resource, std::slice::from_ref(&device))?;
        self.given.borrow_mut().push(Given {
            pod_uid: pod.to_owned(),
            namespace: "default".to_owned(),
            pod: pod.to_owned(),
            container: "main".to_owned(),
            resource: resource.to_owned(),
            ids: vec![device.clone()],
            allocation,
            listed: true,
        });
        self.publish(&kubelet);
        Ok(device)
    }

    /// What Allocate answered for a pod.
    pub fn allocation(&self, pod: &str) -> Allocation {
        let given = self.given.borrow();
        given.iter().find(|given| given.pod == pod).unwrap().allocation.clone()
    }

    /// Wakes the daemon by a change of its node.
    pub fn wake_daemon(&self, word: &str) -> Result<(), String> {
        let labels = json!({ "metadata": { "labels": { "lab/wake": word } } });
        let path = format!("/api/v1/nodes/{NODE}");
        let request = Request::new(Method::Patch(PatchType::Merge), path).with_body(labels);
        let answer = self.runtime.block_on(self.user.send(&request));
        if answer.is_done() { Ok(()) } else { Err(format!("cannot wake the daemon: {answer}")) }
    }

    pub fn runtime(&self) -> Handle {
        self.runtime.handle().clone()
    }

    pub fn free(&self, pod: &str) {
        self.given.borrow_mut().retain(|given| given.pod != pod);
        self.publish(&self.kubelet.borrow());
    }

    fn publish(&self, kubelet: &Sockets) {
        let given = self.given.borrow();
        kubelet.publish(&given, given.iter().map(|given| given.pod.clone()).collect());
    }

    /// The rendered network as Multus hands it to the plugins of one pod.
    pub fn chain(&self, network: &str, device: &str) -> Result<Vec<Value>, String> {
        let definition =
            self.get(names::NAD_API_VERSION, names::NETWORK_ATTACHMENT, "default", network);
        let config: Value = serde_json::from_str(text(&definition, "/spec/config"))
            .map_err(|_| format!("network {network} is not rendered"))?;
        let list = config.get("plugins").and_then(Value::as_array);
        let mut chain = list.cloned().unwrap_or_else(|| vec![config.clone()]);
        for plugin in &mut chain {
            for key in ["cniVersion", "name"] {
                plugin[key] = config[key].clone();
            }
            plugin["deviceID"] = device.into();
        }
        Ok(chain)
    }
}

/// What a card's own driver would do: an RDMA device on each VF that has none.
pub fn drivers(host: &LinuxHost, pf: &PciAddress) {
    for index in 0..7 {
        let Ok(vf) = host::function::vf(host, pf, index) else { return };
        let Ok(Some(link)) = home::interface_at_home(host, &vf) else { continue };
        let devices = home::rdma_devices_at_home(host, &vf.to_string());
        if devices.is_ok_and(|found| found.is_empty()) {
            let name = format!("mlx5_{index}");
            let words = ["link", "add", &name, "type", "rxe", "netdev", &link.name];
            let _ = Command::new("/usr/bin/rdma").args(words).status();
        }
    }
}

/// Starts one of our programs as its pod would, with its log in a file.
fn program(part: &str, arguments: &[&str]) -> Running {
    let log = std::fs::File::create(format!("/tmp/{part}.log")).unwrap();
    let mut command = Command::new(NODE_PROGRAM);
    command.arg(part).args(arguments).env_clear().envs([
        ("NODE_NAME", NODE),
        ("NAMESPACE", names::NAMESPACE),
        ("KUBECONFIG", KUBECONFIG),
        ("HOST_ROOT", "/"),
        ("KUBELET_DIRECTORY", KUBELET),
    ]);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    Running(command.spawn().unwrap())
}

/// A boot phase, as its systemd unit runs it.
pub fn boot(phase: &str) -> Result<String, String> {
    let mut command = Command::new(NODE_PROGRAM);
    command.args(["boot", phase]).env_clear().env("HOST_ROOT", "/");
    said(&mut command)
}

/// A tool of our image: the same program under another name.
pub fn tool(name: &str, arguments: &[&str]) -> Result<String, String> {
    said(Command::new(NODE_PROGRAM).arg0(name).args(arguments))
}

/// What a program says that ends well.
pub fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(said),
        false => Err(format!("{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// ADD of a chain by the real binaries: each is given the result so far.
pub fn add(chain: &[Value], pod: &Pod) -> Result<Value, String> {
    let mut result = Value::Null;
    for plugin in chain {
        let mut plugin = plugin.clone();
        if !result.is_null() {
            plugin["prevResult"] = result;
        }
        result = call("ADD", &plugin, pod)?;
    }
    Ok(result)
}

/// DEL of a chain, in reverse.
pub fn del(chain: &[Value], pod: &Pod) -> Result<(), String> {
    chain.iter().rev().try_for_each(|plugin| call("DEL", plugin, pod).map(drop))
}

fn call(verb: &str, plugin: &Value, pod: &Pod) -> Result<Value, String> {
    let program = format!("/opt/cni/bin/{}", text(plugin, "/type"));
    let arguments =
        format!("IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", pod.name);
    let mut child = Command::new(&program)
        .env_clear()
        .envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", pod.name.as_str()),
            ("CNI_NETNS", pod.path.as_str()),
            ("CNI_IFNAME", "net1"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", arguments.as_str()),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let _ = child.stdin.take().unwrap().write_all(plugin.to_string().as_bytes());
    let output = child.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)),
        false => Err(format!("{verb} of {program}: {}", String::from_utf8_lossy(&output.stdout))),
    }
}
