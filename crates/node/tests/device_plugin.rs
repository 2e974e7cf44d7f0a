//! The device plugin over real unix sockets, against a scripted kubelet that speaks the real gRPC.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the sockets are files of this computer")]

use api::PciAddress;
use api::custody::{Offer, OfferState, OfferedDevice, OfferedResource, VERSION};
use futures::StreamExt;
use host::Host;
use host::sim::{Flavour, Function, FunctionKind, Machine, SimHost};
use node::custody;
use node::device_plugin::{self, Settings};
use node::plugin::Delivery;
use node::pod_resources;
use node::proto::v1::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};
use node::proto::v1::{
    ClaimResource, ContainerDevices, ContainerResources, DynamicResource, ListPodResourcesRequest,
    ListPodResourcesResponse, PodResources,
};
use node::proto::v1beta1::device_plugin_client::DevicePluginClient;
use node::proto::v1beta1::registration_server::{Registration, RegistrationServer};
use node::proto::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest, Empty,
    ListAndWatchResponse, PreferredAllocationRequest, RegisterRequest,
};
use node::wake::Pace;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

const RESOURCE: &str = "openshift.io/rdma_vf";
const SOCKET: &str = "openshift.io_rdma_vf.sock";

/// A kubelet's registry: what registers is told to the test.
struct Registry(mpsc::UnboundedSender<RegisterRequest>);

#[tonic::async_trait]
impl Registration for Registry {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        // The test may have ended.
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(Empty {}))
    }
}

struct Kubelet {
    directory: PathBuf,
    registrations: mpsc::UnboundedReceiver<RegisterRequest>,
    server: JoinHandle<()>,
}

impl Kubelet {
    /// Starts as a kubelet does: every socket in the directory goes, then its own is made.
    fn start(directory: &Path) -> Self {
        for entry in std::fs::read_dir(directory).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let (sender, registrations) = mpsc::unbounded_channel();
        let listener = UnixListener::bind(directory.join("kubelet.sock")).unwrap();
        let server = Server::builder()
            .add_service(RegistrationServer::new(Registry(sender)))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let server = tokio::spawn(async move { server.await.unwrap() });
        Self { directory: directory.to_owned(), registrations, server }
    }

    async fn registered(&mut self) -> RegisterRequest {
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, self.registrations.recv()).await.unwrap().unwrap()
    }

    async fn plugin(&self) -> DevicePluginClient<Channel> {
        DevicePluginClient::new(pod_resources::connect(&self.directory.join(SOCKET)).await.unwrap())
    }
}

/// Starts a device plugin.
fn plugin(host: &SimHost, directory: &Path) -> JoinHandle<()> {
    let settings = Settings {
        host: Arc::new(host.process()),
        directory: directory.to_owned(),
        pod_resources: directory.join("pods.sock"),
        delivery: Delivery::Cdi,
        pace: Pace::Every(Duration::from_millis(10)),
    };
    tokio::spawn(async move { device_plugin::run(settings).await.unwrap() })
}

/// What a kubelet makes of the lists: capacity and allocatable, each time that one of them changed. A plugin that is lost
/// takes allocatable along, and leaves capacity as it was (pkg/kubelet/cm/devicemanager, GetCapacity).
#[derive(Default)]
struct History(Vec<(usize, usize)>);

impl History {
    fn note(&mut self, now: (usize, usize)) {
        if self.0.last() != Some(&now) {
            self.0.push(now);
        }
    }

    fn listed(&mut self, list: &ListAndWatchResponse) {
        let healthy = list.devices.iter().filter(|device| device.health == "Healthy").count();
        self.note((list.devices.len(), healthy));
    }

    /// Takes in what the plugin still said, up to the end of its stream.
    async fn lost(&mut self, mut lists: Streaming<ListAndWatchResponse>) {
        let patience = Duration::from_secs(10);
        while let Ok(Some(Ok(list))) = tokio::time::timeout(patience, lists.next()).await {
            self.listed(&list);
        }
        let capacity = self.0.last().map_or(0, |(capacity, _)| *capacity);
        self.note((capacity, 0));
    }

    /// Waits for a registration, and for the first list after it.
    async fn back(&mut self, kubelet: &mut Kubelet) -> Streaming<ListAndWatchResponse> {
        kubelet.registered().await;
        let mut plugin = kubelet.plugin().await;
        let mut lists = plugin.list_and_watch(Empty {}).await.unwrap().into_inner();
        self.listed(&lists.next().await.unwrap().unwrap());
        lists
    }
}

/// A node with two VFs, its directory of sockets, and a device plugin that runs.
struct Node {
    host: SimHost,
    directory: tempfile::TempDir,
    vfs: Vec<PciAddress>,
    plugin: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.plugin.abort();
    }
}

impl Node {
    fn new(kubelet: impl FnOnce(&Path) -> Kubelet) -> (Self, Kubelet) {
        let machine = Machine::small_worker("worker-0", Flavour::Rhel, api::Timestamp::UNIX_EPOCH);
        Self::on(machine, &[("0000:03:00.0", 2)], kubelet)
    }

    fn on(
        machine: Machine,
        pfs: &[(&str, u32)],
        kubelet: impl FnOnce(&Path) -> Kubelet,
    ) -> (Self, Kubelet) {
        let host = SimHost::threaded(machine);
        let mut vfs = Vec::new();
        for (pf, count) in pfs {
            let pf = pf.parse().unwrap();
            host::vf_count::set(&host, &pf, *count, true).unwrap();
            vfs.extend(host.machine().vfs_of(&pf));
        }
        let directory = tempfile::tempdir().unwrap();
        let kubelet = kubelet(directory.path());
        let plugin = plugin(&host, directory.path());
        (Self { host, directory, vfs, plugin }, kubelet)
    }

    /// Killed, and started again as its DaemonSet does.
    fn restart_plugin(&mut self) {
        self.plugin.abort();
        self.plugin = plugin(&self.host, self.directory.path());
    }

    fn offer(&self, sequence: u64, states: [OfferState; 2]) {
        self.offer_with(sequence, states, |_| ());
    }

    fn offer_with(&self, sequence: u64, states: [OfferState; 2], amend: impl Fn(&mut Offer)) {
        let device = |(pci, state): (&PciAddress, OfferState)| OfferedDevice {
            pci: *pci,
            state,
            numa_node: Some(0),
            parent: PciAddress { function: 0, ..*pci },
            vf: None,
            driver: Some("mlx5_core".to_owned()),
            rdma_device: None,
            profile: None,
        };
        let devices = self.vfs.iter().zip(states).map(device).collect();
        let resource = OfferedResource { devices, rdma: true, ..OfferedResource::default() };
        let mut offer = Offer {
            version: VERSION,
            boot_id: self.boot_id(),
            sequence,
            by_path: false,
            resources: BTreeMap::from([(RESOURCE.to_owned(), resource)]),
        };
        amend(&mut offer);
        custody::write_offer(&self.host, &offer).unwrap();
    }

    fn boot_id(&self) -> String {
        node::observe::boot_id(&self.host).unwrap()
    }

    fn acknowledged(&self) -> Option<u64> {
        custody::read_claims(&self.host, &self.boot_id()).good().map(|claims| claims.sequence)
    }
}

fn withdrawn() -> OfferState {
    OfferState::Withdrawn { because: "policy train asks for 4 VFs".to_owned() }
}

async fn health(lists: &mut Streaming<ListAndWatchResponse>) -> String {
    let list = tokio::time::timeout(Duration::from_secs(10), lists.next()).await.unwrap();
    let list = list.unwrap().unwrap();
    let healths: Vec<&str> = list.devices.iter().map(|device| device.health.as_str()).collect();
    healths.join(" ")
}

fn asking_for(ids: &[PciAddress]) -> AllocateRequest {
    let devices_ids = ids.iter().map(ToString::to_string).collect();
    AllocateRequest { container_requests: vec![ContainerAllocateRequest { devices_ids }] }
}

#[tokio::test]
async fn it_registers_lists_gives_and_refuses() {
    let (node, mut kubelet) = Node::new(Kubelet::start);
    node.offer(1, [OfferState::Ready, OfferState::Ready]);
    let registered = kubelet.registered().await;
    assert_eq!(registered.version, "v1beta1");
    assert_eq!(
        (registered.resource_name.as_str(), registered.endpoint.as_str()),
        (RESOURCE, SOCKET)
    );
    assert!(registered.options.unwrap().get_preferred_allocation_available);

    let mut plugin = kubelet.plugin().await;
    let mut lists = plugin.list_and_watch(Empty {}).await.unwrap().into_inner();
    assert_eq!(health(&mut lists).await, "Healthy Healthy");
    assert_eq!(node.acknowledged(), Some(1));

    node.offer(2, [OfferState::Ready, withdrawn()]);
    assert_eq!(health(&mut lists).await, "Healthy Unhealthy");
    assert_eq!(node.acknowledged(), Some(2));

    let given = plugin.allocate(asking_for(&node.vfs[..1])).await.unwrap().into_inner();
    let container = &given.container_responses[0];
    assert_eq!(container.envs["PCIDEVICE_OPENSHIFT_IO_RDMA_VF"], node.vfs[0].to_string());
    assert_eq!(container.cdi_devices[0].name, format!("ironrail.dev/vf={}", node.vfs[0]));
    let claims = custody::read_claims(&node.host, &node.boot_id()).good().unwrap();
    assert_eq!(claims.claims.keys().collect::<Vec<_>>(), vec![&node.vfs[0]]);
    let spec = node.host.read(&host::cdi::path(&node.vfs[0])).unwrap();
    assert!(String::from_utf8(spec).unwrap().contains("/dev/infiniband/uverbs"));

    let refused = plugin.allocate(asking_for(&node.vfs[1..])).await.unwrap_err();
    assert_eq!(
        refused.message(),
        format!(
            "{} ({RESOURCE}) is withdrawn: policy train asks for 4 VFs; the pod must be created again",
            node.vfs[1]
        )
    );
}

#[tokio::test]
async fn what_may_send_to_the_fabric_is_left_out_of_spec_and_answer_alike() {
    let (node, mut kubelet) = Node::new(Kubelet::start);
    let mut told = vec![];
    for (sequence, exclude_umad, by_path) in
        [(1, false, false), (2, true, false), (3, false, true), (4, true, true)]
    {
        node.offer_with(sequence, [OfferState::Ready, OfferState::Ready], |offer| {
            offer.by_path = by_path;
            offer.resources.get_mut(RESOURCE).unwrap().exclude_umad = exclude_umad;
        });
        if sequence == 1 {
            kubelet.registered().await;
        }
        let mut plugin = kubelet.plugin().await;
        let given = plugin.allocate(asking_for(&node.vfs[..1])).await.unwrap().into_inner();
        let container = &given.container_responses[0];
        let spec = node.host.read(&host::cdi::path(&node.vfs[0])).unwrap();
        let spec: serde_json::Value = serde_json::from_slice(&spec).unwrap();
        let named = spec["devices"][0]["containerEdits"]["deviceNodes"].as_array().unwrap();
        let named: Vec<&str> = named.iter().map(|node| node["path"].as_str().unwrap()).collect();
        let by_path: Vec<&str> = container.devices.iter().map(|d| &*d.container_path).collect();
        told.push(format!("cdi {named:?}\npath {by_path:?}"));
    }
    expect_test::expect![[r#"
        cdi ["/dev/infiniband/rdma_cm", "/dev/infiniband/umad2", "/dev/infiniband/uverbs2"]
        path []
        cdi ["/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs2"]
        path []
        cdi ["/dev/infiniband/rdma_cm", "/dev/infiniband/umad2", "/dev/infiniband/uverbs2"]
        path ["/dev/infiniband/rdma_cm", "/dev/infiniband/umad2", "/dev/infiniband/uverbs2"]
        cdi ["/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs2"]
        path ["/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs2"]"#]]
    .assert_eq(&told.join("\n"));
}

/// The node's second boot, with two VFs again and a device plugin that was offered them; which nodes each one's spec names
/// when the kubelet hears of the plugin.
async fn specs_after_a_boot(
    states: [OfferState; 2],
    prepare: impl Fn(&Node),
    amend: impl Fn(&mut Offer),
) -> String {
    let (mut node, mut kubelet) = Node::new(Kubelet::start);
    node.offer(1, [OfferState::Ready, OfferState::Ready]);
    kubelet.registered().await;
    node.plugin.abort();
    node.host.machine().boot();
    host::vf_count::set(&node.host, &"0000:03:00.0".parse().unwrap(), 2, true).unwrap();
    prepare(&node);
    node.offer_with(1, states, amend);
    node.restart_plugin();
    kubelet.registered().await;
    let named = |vf: &PciAddress| {
        let Ok(spec) = node.host.read(&host::cdi::path(vf)) else { return "none".to_owned() };
        let spec: serde_json::Value = serde_json::from_slice(&spec).unwrap();
        let nodes = spec["devices"][0]["containerEdits"]["deviceNodes"].as_array().unwrap();
        let paths = nodes.iter().map(|node| node["path"].as_str().unwrap());
        paths.collect::<Vec<_>>().join(" ")
    };
    node.vfs.iter().map(named).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn after_a_boot_specs_are_there_before_the_kubelet_admits_its_pods_again() {
    let ready = || [OfferState::Ready, OfferState::Ready];
    let in_user_space = |node: &Node| {
        host::driver_bind::bind(&node.host, &node.vfs[1], "vfio-pci").unwrap();
    };
    let vfio = |offer: &mut Offer| {
        let resource = offer.resources.get_mut(RESOURCE).unwrap();
        resource.devices[1].driver = Some("vfio-pci".to_owned());
    };
    let without_rdma = |offer: &mut Offer| offer.resources.get_mut(RESOURCE).unwrap().rdma = false;
    let changed = |node: &Node| {
        let nodes = [host::cdi::DeviceNode::same("/dev/infiniband/uverbs7")];
        host::cdi::write(&node.host, &node.vfs[0], &nodes).unwrap();
    };
    let mut told = vec![];
    let mut say = |what: &str, specs: String| told.push(format!("{what}: {specs}"));
    say("shared rdma", specs_after_a_boot(ready(), |_| (), |_| ()).await);
    say("the second in user space", specs_after_a_boot(ready(), in_user_space, vfio).await);
    say("the second withdrawn", {
        specs_after_a_boot([OfferState::Ready, withdrawn()], |_| (), |_| ()).await
    });
    say("an interface alone", specs_after_a_boot(ready(), |_| (), without_rdma).await);
    say("by path", specs_after_a_boot(ready(), |_| (), |offer| offer.by_path = true).await);
    say("the first is there", specs_after_a_boot(ready(), changed, |_| ()).await);
    expect_test::expect![[r#"
        shared rdma: /dev/infiniband/rdma_cm /dev/infiniband/umad2 /dev/infiniband/uverbs2; /dev/infiniband/rdma_cm /dev/infiniband/umad3 /dev/infiniband/uverbs3
        the second in user space: /dev/infiniband/rdma_cm /dev/infiniband/umad2 /dev/infiniband/uverbs2; /dev/vfio/vfio /dev/vfio/2411
        the second withdrawn: /dev/infiniband/rdma_cm /dev/infiniband/umad2 /dev/infiniband/uverbs2; none
        an interface alone: none; none
        by path: none; none
        the first is there: /dev/infiniband/uverbs7; /dev/infiniband/rdma_cm /dev/infiniband/umad3 /dev/infiniband/uverbs3"#]].assert_eq(&told.join("\n"));
}

#[tokio::test]
async fn a_device_that_somebody_has_locked_keeps_no_offer_waiting() {
    let locked = |node: &Node| {
        let other = node.host.process();
        let lock = host::device_lock::take(&other, &node.vfs[0], Duration::ZERO).unwrap();
        // Held to the end of the test.
        std::mem::forget(lock);
    };
    let begun = Instant::now();
    let told = specs_after_a_boot([OfferState::Ready, OfferState::Ready], locked, |_| ()).await;
    assert!(told.starts_with("none; /dev/infiniband/"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn it_registers_again_with_a_new_kubelet_and_lists_what_it_listed() {
    let (node, mut old) = Node::new(Kubelet::start);
    node.offer(1, [OfferState::Ready, withdrawn()]);
    old.registered().await;
    old.server.abort();

    let mut new = Kubelet::start(node.directory.path());
    assert_eq!(new.registered().await.resource_name, RESOURCE);
    let mut lists = new.plugin().await.list_and_watch(Empty {}).await.unwrap().into_inner();
    assert_eq!(health(&mut lists).await, "Healthy Unhealthy");
}

#[tokio::test]
async fn a_restart_of_either_side_leaves_capacity_and_brings_allocatable_back() {
    let (mut node, mut kubelet) = Node::new(Kubelet::start);
    node.offer(1, [OfferState::Ready, withdrawn()]);
    let mut history = History::default();
    let mut lists = history.back(&mut kubelet).await;
    for _ in 0..3 {
        let begun = Instant::now();
        node.restart_plugin();
        history.lost(lists).await;
        lists = history.back(&mut kubelet).await;
        println!("allocatable is back {:?} after the device plugin's restart", begun.elapsed());

        let begun = Instant::now();
        kubelet.server.abort();
        kubelet = Kubelet::start(node.directory.path());
        history.lost(lists).await;
        lists = history.back(&mut kubelet).await;
        println!("allocatable is back {:?} after the kubelet's restart", begun.elapsed());
    }
    // It hears of changes after all that.
    node.offer(2, [OfferState::Ready, OfferState::Ready]);
    history.listed(&lists.next().await.unwrap().unwrap());
    let gone_and_back = [(2, 1), (2, 0)].repeat(6);
    assert_eq!(history.0, [gone_and_back, vec![(2, 1), (2, 2)]].concat());
}

#[tokio::test]
async fn without_a_good_offer_nothing_is_registered_and_a_bad_one_replaces_no_good_one() {
    let (node, mut kubelet) = Node::new(Kubelet::start);
    node.host.replace(api::files::OFFER, b"{\"version\":1,\"boo", 0o600).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(kubelet.registrations.try_recv().is_err(), "registered without a good offer");

    node.offer(1, [OfferState::Ready, OfferState::Ready]);
    kubelet.registered().await;
    for bad in
        [&b"{\"version\":1,\"boo"[..], b"{\"version\":2}", b"{\"version\":1,\"bootId\":\"old\"}"]
    {
        node.host.replace(api::files::OFFER, bad, 0o600).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(node.acknowledged(), Some(1));
        let mut plugin = kubelet.plugin().await;
        plugin.allocate(asking_for(&node.vfs[..1])).await.unwrap();
    }
    node.host.remove(api::files::OFFER).unwrap();
    let mut lists = kubelet.plugin().await.list_and_watch(Empty {}).await.unwrap().into_inner();
    assert_eq!(health(&mut lists).await, "Healthy Healthy");
}

#[tokio::test]
async fn the_lock_is_held_for_life_and_free_after_it() {
    let (node, mut kubelet) = Node::new(Kubelet::start);
    node.offer(1, [OfferState::Ready, OfferState::Ready]);
    kubelet.registered().await;
    assert!(!custody::device_plugin_absent(&node.host));
    node.plugin.abort();
    for _ in 0..100 {
        if custody::device_plugin_absent(&node.host) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the lock is held by a device plugin that has ended");
}

/// A kubelet in the middle of admissions: how often it was asked, and the pod that has a GPU by then.
#[derive(Clone, Default)]
struct Admitting {
    asked: Arc<AtomicUsize>,
    has_gpu: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl PodResourcesLister for Admitting {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let mut answer = ListPodResourcesResponse::default();
        if self.has_gpu.load(Ordering::SeqCst) {
            let devices = vec![ContainerDevices {
                resource_name: "amd.com/gpu".to_owned(),
                device_ids: vec!["0000:b1:00.0".to_owned()],
                topology: None,
            }];
            let containers = vec![ContainerResources { devices, ..ContainerResources::default() }];
            answer.pod_resources = vec![PodResources {
                name: "train".to_owned(),
                containers,
                ..PodResources::default()
            }];
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(answer))
    }
}

#[tokio::test]
async fn a_device_lies_on_the_root_port_of_the_gpu_that_its_pod_was_just_given() {
    let mut machine = Machine::rdma_worker("worker-0", Flavour::Rhel, api::Timestamp::UNIX_EPOCH);
    let card = machine.functions[&"0000:af:00.0".parse().unwrap()].clone();
    let gpu = Function { class: 0x03_8000, kind: FunctionKind::Bridge, ..card };
    machine.functions.insert("0000:b1:00.0".parse().unwrap(), gpu);
    let pfs = [("0000:3b:00.0", 1), ("0000:af:00.0", 1)];
    let (node, mut kubelet) = Node::on(machine, &pfs, Kubelet::start);
    let admitting = Admitting::default();
    let listener = UnixListener::bind(node.directory.path().join("pods.sock")).unwrap();
    let server = Server::builder()
        .add_service(PodResourcesListerServer::new(admitting.clone()))
        .serve_with_incoming(UnixListenerStream::new(listener));
    let server = tokio::spawn(async move { server.await.unwrap() });
    node.offer(1, [OfferState::Ready, OfferState::Ready]);
    kubelet.registered().await;
    let mut plugin = kubelet.plugin().await;
    let request = PreferredAllocationRequest {
        container_requests: vec![ContainerPreferredAllocationRequest {
            available_device_i_ds: node.vfs.iter().map(ToString::to_string).collect(),
            must_include_device_i_ds: Vec::new(),
            allocation_size: 1,
        }],
    };
    let (first, near) = (node.vfs[0].to_string(), node.vfs[1].to_string());
    // The answer is by what is known; who was given what is looked up beside it.
    let mut preferred = async || {
        let answer = plugin.get_preferred_allocation(request.clone()).await.unwrap().into_inner();
        answer.container_responses[0].device_i_ds.join(" ")
    };
    while admitting.asked.load(Ordering::SeqCst) == 0 {
        assert_eq!(preferred().await, first);
    }
    admitting.has_gpu.store(true, Ordering::SeqCst);
    let patience = Duration::from_secs(20);
    let follows = async { while preferred().await != near {} };
    tokio::time::timeout(patience, follows).await.expect("the GPU of the one new pod counts");
    server.abort();
}

struct Lister;

#[tonic::async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let devices = |resource: &str, id: &str| ContainerDevices {
            resource_name: resource.to_owned(),
            device_ids: vec![id.to_owned()],
            topology: None,
        };
        let container = ContainerResources {
            name: "main".to_owned(),
            devices: vec![
                devices(RESOURCE, "0000:03:00.2"),
                devices("nvidia.com/gpu", "GPU-fef8089b"),
            ],
            dynamic_resources: vec![DynamicResource {
                claim_resources: vec![ClaimResource {
                    driver_name: "dra.net".to_owned(),
                    device_name: "pci-0000-03-00-3".to_owned(),
                }],
            }],
        };
        let pod = PodResources {
            name: "rdma-app".to_owned(),
            namespace: "default".to_owned(),
            containers: vec![container],
        };
        Ok(Response::new(ListPodResourcesResponse { pod_resources: vec![pod] }))
    }
}

#[tokio::test]
async fn holders_come_from_the_kubelet_and_a_silent_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("kubelet.sock");
    let silent = pod_resources::list(&socket).await.unwrap_err();
    assert!(
        silent.starts_with(&format!("cannot ask the kubelet at {}", socket.display())),
        "{silent}"
    );

    let listener = UnixListener::bind(&socket).unwrap();
    let server = Server::builder()
        .add_service(PodResourcesListerServer::new(Lister))
        .serve_with_incoming(UnixListenerStream::new(listener));
    let server = tokio::spawn(async move { server.await.unwrap() });
    let holders = pod_resources::list(&socket).await.unwrap();
    let shown: Vec<String> = holders
        .iter()
        .map(|h| format!("{} {} {}/{}", h.device, h.resource, h.namespace, h.pod))
        .collect();
    let given = format!("0000:03:00.2 {RESOURCE} default/rdma-app");
    assert_eq!(shown, [&*given, "0000:03:00.3 dra.net default/rdma-app"]);
    server.abort();
}
