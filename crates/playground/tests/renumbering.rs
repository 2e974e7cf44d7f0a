//! Two hundred pods at once on a kernel that renumbers character devices: every pod gets the nodes of its own device.
//!
//! The device plugin's own functions and our plugins, each pod on a thread; the test is the runtime, which reads the CDI
//! spec of a device, and the numbers behind its paths, when it creates the container.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use api::PciAddress;
use api::custody::{Offer, OfferState, OfferedDevice, OfferedResource, VERSION};
use host::seam::RdmaChange;
use host::sim::{Fault, Flavour, Machine, SimHost};
use host::{Host, Namespace, cdi};
use node::plugin::Delivery;
use node::proto::v1beta1::{AllocateRequest, AllocateResponse, ContainerAllocateRequest};
use node::{custody, give, observe};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

const RESOURCE: &str = "openshift.io/rdma_vf";
/// VFs of one card.
const VFS: usize = 16;

/// Cards for so many pods in exclusive mode, all VFs offered, a network namespace for each pod.
struct Node {
    host: SimHost,
    vfs: Vec<PciAddress>,
    offer: Offer,
    /// A device plugin answers one Allocate after the other.
    desk: Mutex<()>,
}

impl Node {
    fn new(pods: usize, faults: &[Fault]) -> Self {
        let clock = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut machine = Machine::new("worker-0", Flavour::Ubuntu, clock);
        let buses = (0x10..).take(pods.div_ceil(VFS));
        for bus in buses.clone() {
            machine.add_connectx7(bus, 0, false);
        }
        machine.boot();
        machine.faults.extend(faults.iter().copied());
        let host = SimHost::threaded(machine);
        let exclusive = RdmaChange::Mode(api::RdmaMode::Exclusive);
        host.change_rdma(&Namespace::Host, &exclusive).unwrap();
        let mut vfs = Vec::new();
        for bus in buses {
            let pf = PciAddress { domain: 0, bus, device: 0, function: 0 };
            host::vf_count::set(&host, &pf, 16, true).unwrap();
            vfs.extend(host.machine().vfs_of(&pf));
        }
        vfs.truncate(pods);
        for pod in 0..pods {
            host.machine().create_namespace(&namespace(pod)).unwrap();
        }
        let device = |pci: &PciAddress| OfferedDevice {
            pci: *pci,
            state: OfferState::Ready,
            numa_node: Some(0),
            parent: *pci,
            vf: None,
            driver: Some("mlx5_core".to_owned()),
            rdma_device: None,
            profile: None,
        };
        let devices = vfs.iter().map(device).collect();
        let resource = OfferedResource { devices, rdma: true, ..OfferedResource::default() };
        let offer = Offer {
            version: VERSION,
            boot_id: observe::boot_id(&host).unwrap(),
            sequence: 1,
            resources: BTreeMap::from([(RESOURCE.to_owned(), resource)]),
            ..Offer::default()
        };
        custody::write_offer(&host, &offer).unwrap();
        Self { host, vfs, offer, desk: Mutex::default() }
    }

    fn allocate(&self, host: &SimHost, vf: PciAddress, delivery: Delivery) -> AllocateResponse {
        let devices_ids = vec![vf.to_string()];
        let request =
            AllocateRequest { container_requests: vec![ContainerAllocateRequest { devices_ids }] };
        let _one = self.desk.lock().unwrap();
        give::allocate(host, &self.offer, RESOURCE, &request, delivery).unwrap()
    }

    /// Allocate, then the chain; the paths that the runtime puts into the container, or why there is no sandbox.
    fn start(&self, pod: usize, delivery: Delivery) -> Result<Vec<String>, String> {
        let host = self.host.process();
        let vf = self.vfs[pod];
        let answer = self.allocate(&host, vf, delivery);
        let mut result = Value::Null;
        for plugin in ["sriov", "rdma"] {
            result = call(&host, "ADD", plugin, pod, vf, &result)?;
        }
        let answer = &answer.container_responses[0];
        Ok(match delivery {
            Delivery::DeviceSpecs => answer.devices.iter().map(|d| d.host_path.clone()).collect(),
            Delivery::Cdi => {
                assert_eq!(answer.cdi_devices[0].name, cdi::name(&vf));
                let spec: Value =
                    serde_json::from_slice(&host.read(&cdi::path(&vf)).unwrap()).unwrap();
                let nodes = &spec["devices"][0]["containerEdits"]["deviceNodes"];
                let path = |node: &Value| node["path"].as_str().unwrap().to_owned();
                nodes.as_array().unwrap().iter().map(path).collect()
            }
        })
    }

    /// Starts all pods at once.
    fn start_all(&self, delivery: Delivery) -> Vec<Result<Vec<String>, String>> {
        std::thread::scope(|scope| {
            let start = |pod| scope.spawn(move || self.start(pod, delivery));
            let threads: Vec<_> = (0..self.vfs.len()).map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// The one RDMA device that a pod sees stands below its VF, and the container's `uverbs` is that device's.
    fn must_agree(&self, pod: usize, paths: &[String]) {
        let vf = self.vfs[pod];
        let space = Namespace::At(namespace(pod));
        let seen = self.host.rdma_devices(&space).unwrap();
        let names: Vec<&str> = seen.iter().map(|device| device.name.as_str()).collect();
        let (_, own) = self.host.machine().rdma_of(&vf).map(|(i, d)| (i, d.name.clone())).unwrap();
        assert_eq!(names, [own.as_str()], "pod {pod} with {vf}");
        let uverbs: Vec<&str> =
            paths.iter().filter_map(|path| path.strip_prefix("/dev/infiniband/uverbs")).collect();
        let [number] = uverbs.as_slice() else { panic!("pod {pod} has {paths:?}") };
        let owner = format!("/sys/class/infiniband_verbs/uverbs{number}/ibdev");
        let owner = String::from_utf8(self.host.read(&owner).unwrap()).unwrap();
        assert_eq!(owner.trim(), own, "pod {pod} with {vf} has uverbs{number}");
    }
}

fn namespace(pod: usize) -> String {
    format!("/run/netns/pod-{pod}")
}

fn call(
    host: &SimHost,
    verb: &str,
    plugin: &str,
    pod: usize,
    vf: PciAddress,
    previous: &Value,
) -> Result<Value, String> {
    let mut conf = json!({ "cniVersion": "1.0.0", "name": "blue", "type": plugin, "deviceID": vf });
    if !previous.is_null() {
        conf["prevResult"] = previous.clone();
    }
    let environment = BTreeMap::from(
        [
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", format!("pod-{pod}")),
            ("CNI_NETNS", namespace(pod)),
            ("CNI_IFNAME", "net1".to_owned()),
            ("CNI_PATH", "/opt/cni/bin".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let reply = cni::call(plugin, &environment, conf.to_string().as_bytes(), host);
    let said = String::from_utf8(reply.stdout).unwrap();
    match reply.exit {
        0 => Ok(serde_json::from_str(&said).unwrap_or_default()),
        _ => Err(said),
    }
}

#[test]
fn two_hundred_pods_at_once_each_get_the_renumbered_nodes_of_their_own_device() {
    let node = Node::new(200, &[Fault::RenumbersUverbs]);
    let started = node.start_all(Delivery::Cdi);
    let mut all = BTreeSet::new();
    for (pod, paths) in started.into_iter().enumerate() {
        let paths = paths.unwrap();
        node.must_agree(pod, &paths);
        all.extend(paths.into_iter().filter(|path| path.contains("uverbs")));
    }
    assert_eq!(all.len(), 200, "two pods have one uverbs");
}

#[test]
fn by_path_pods_that_start_at_once_keep_their_nodes_where_the_kernel_keeps_numbers() {
    let node = Node::new(40, &[]);
    for (pod, paths) in node.start_all(Delivery::DeviceSpecs).into_iter().enumerate() {
        node.must_agree(pod, &paths.unwrap());
    }
}

#[test]
fn by_path_a_pod_whose_device_was_renumbered_is_refused_and_its_device_is_home() {
    let node = Node::new(1, &[Fault::RenumbersUverbs]);
    let why = node.start(0, Delivery::DeviceSpecs).unwrap_err();
    let why: Value = serde_json::from_str(&why).unwrap();
    let said = why["msg"].as_str().unwrap();
    expect_test::expect!["the pod must be recreated: 0000:10:00.1 had /dev/infiniband/umad1, /dev/infiniband/uverbs1 when the pod was admitted, which is given by path, and has /dev/infiniband/umad17, /dev/infiniband/uverbs17 now; with CDI switched on in the container runtime, and useCDI not false, numbers may change"].assert_eq(said);
    assert_eq!(node.host.rdma_devices(&Namespace::At(namespace(0))).unwrap(), []);
    call(&node.host, "DEL", "sriov", 0, node.vfs[0], &Value::Null).unwrap();
    // By name the same pod starts.
    let paths = node.start(0, Delivery::Cdi).unwrap();
    node.must_agree(0, &paths);
}

/// The sandbox of pod 0 went without a DEL, and a process keeps its namespace: the RDMA device is still there when the
/// kubelet gives the VF to pod 1.
#[test]
fn a_pod_whose_device_is_still_in_a_dead_pod_gets_its_nodes_all_the_same() {
    for (faults, delivery) in
        [(&[Fault::RenumbersUverbs][..], Delivery::Cdi), (&[], Delivery::DeviceSpecs)]
    {
        let mut node = Node::new(2, faults);
        node.start(0, delivery).unwrap();
        {
            let mut machine = node.host.machine();
            machine.start_process("left-over", Some(&namespace(0))).unwrap();
            machine.namespace_paths.remove(&namespace(0));
        }
        node.vfs[1] = node.vfs[0];
        let paths = node.start(1, delivery).unwrap();
        node.must_agree(1, &paths);
    }
}
