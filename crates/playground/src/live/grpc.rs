//! The sockets of a node: the kubelet's registry of device plugins, the client of each plugin, PodResources, and the
//! container runtime's list of sandboxes.
//!
//! Shells only: lists go into a queue that the next tick reads, allocations are asked for on the tick's thread.

use crate::cluster::devices::{Allocation, Device, DeviceLists, Given, Plugins};
use futures::StreamExt;
use node::proto::runtime_v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use node::proto::runtime_v1::{
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, StatusRequest, StatusResponse,
    VersionRequest, VersionResponse,
};
use node::proto::v1::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};
use node::proto::v1::{
    ContainerDevices, ContainerResources, ListPodResourcesRequest, ListPodResourcesResponse,
    PodResources,
};
use node::proto::v1beta1::device_plugin_client::DevicePluginClient;
use node::proto::v1beta1::registration_server::{Registration, RegistrationServer};
use node::proto::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest, Empty,
    PreferredAllocationRequest, RegisterRequest,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Response, Status};

/// The kubelet's side of the sockets of one node.
pub struct Sockets {
    runtime: Handle,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    directory: PathBuf,
    /// Wakes the tick.
    wake: Box<dyn Fn() + Send + Sync>,
    lists: Mutex<DeviceLists>,
    clients: Mutex<BTreeMap<String, DevicePluginClient<Channel>>>,
    followers: Mutex<BTreeMap<String, JoinHandle<()>>>,
    given: Mutex<Vec<Given>>,
    sandboxes: Mutex<BTreeSet<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Sockets {
    /// Opens both sockets below `directory`, as a kubelet that starts does.
    pub fn open(
        runtime: &Handle,
        directory: &Path,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            directory: directory.to_owned(),
            wake: Box::new(wake),
            lists: Mutex::default(),
            clients: Mutex::default(),
            followers: Mutex::default(),
            given: Mutex::default(),
            sandboxes: Mutex::default(),
        });
        let _guard = runtime.enter();
        let listen = |below: &str, name: &str| -> std::io::Result<UnixListenerStream> {
            let path = directory.join(below);
            std::fs::create_dir_all(&path)?;
            let socket = path.join(name);
            let _ = std::fs::remove_file(&socket);
            Ok(UnixListenerStream::new(UnixListener::bind(socket)?))
        };
        let registry = listen("device-plugins", "kubelet.sock")?;
        let resources = listen("pod-resources", "kubelet.sock")?;
        let containers = listen("run/containerd", "containerd.sock")?;
        let register = Server::builder()
            .add_service(RegistrationServer::from_arc(Arc::new(Registry(Arc::clone(&shared)))))
            .serve_with_incoming(registry);
        let list = Server::builder()
            .add_service(PodResourcesListerServer::from_arc(Arc::new(Lister(Arc::clone(&shared)))))
            .serve_with_incoming(resources);
        let run = Server::builder()
            .add_service(RuntimeServiceServer::from_arc(Arc::new(Sandboxes(Arc::clone(&shared)))))
            .serve_with_incoming(containers);
        let server = runtime.spawn(async move {
            let (register, list, run) = tokio::join!(register, list, run);
            if let Err(error) = register.and(list).and(run) {
                tracing::error!("the kubelet's sockets failed: {error}");
            }
        });
        Ok(Self { runtime: runtime.clone(), shared, server })
    }

    /// What plugins sent since the last call.
    pub fn take_lists(&self) -> DeviceLists {
        std::mem::take(&mut *locked(&self.shared.lists))
    }

    /// What PodResources and the container runtime answer from now on.
    pub fn publish(&self, given: &[Given], sandboxes: BTreeSet<String>) {
        *locked(&self.shared.sandboxes) = sandboxes;
        let mut published = locked(&self.shared.given);
        if *published != given {
            *published = given.to_vec();
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.server.abort();
        for follower in locked(&self.shared.followers).values() {
            follower.abort();
        }
        for socket in [
            "device-plugins/kubelet.sock",
            "pod-resources/kubelet.sock",
            "run/containerd/containerd.sock",
        ] {
            let _ = std::fs::remove_file(self.shared.directory.join(socket));
        }
    }
}

struct Registry(Arc<Shared>);

#[tonic::async_trait]
impl Registration for Registry {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        if request.version != "v1beta1" {
            return Err(Status::invalid_argument(format!(
                "device plugin API version {:?} is not supported; this kubelet speaks v1beta1",
                request.version
            )));
        }
        let shared = Arc::clone(&self.0);
        let resource = request.resource_name.clone();
        let follower =
            tokio::spawn(follow(Arc::clone(&shared), request.resource_name, request.endpoint));
        if let Some(old) = locked(&shared.followers).insert(resource, follower) {
            old.abort();
        }
        Ok(Response::new(Empty {}))
    }
}

/// Connects to a plugin and passes its lists on until its stream ends.
async fn follow(shared: Arc<Shared>, resource: String, endpoint: String) {
    let path = shared.directory.join("device-plugins").join(&endpoint);
    let result = async {
        let client = connect(path).await.map_err(|e| e.to_string())?;
        locked(&shared.clients).insert(resource.clone(), client.clone());
        let stream = client.clone().list_and_watch(Empty {}).await.map_err(|e| e.to_string())?;
        let mut stream = stream.into_inner();
        while let Some(Ok(list)) = stream.next().await {
            let devices = list.devices.into_iter().map(|device| Device {
                healthy: device.health == "Healthy",
                numa: device.topology.and_then(|t| t.nodes.first().map(|n| n.id)),
                id: device.id,
            });
            locked(&shared.lists).push((resource.clone(), Some(devices.collect())));
            (shared.wake)();
        }
        Err::<(), String>("its stream ended".to_owned())
    };
    if let Err(why) = result.await {
        tracing::info!(%resource, "the device plugin is gone: {why}");
    }
    locked(&shared.lists).push((resource, None));
    (shared.wake)();
}

async fn connect(path: PathBuf) -> Result<DevicePluginClient<Channel>, tonic::transport::Error> {
    // The address is not used: every connection goes to the socket.
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://plugin").connect_with_connector(connector).await?;
    Ok(DevicePluginClient::new(channel))
}

/// The container runtime, as far as anybody asks it.
struct Sandboxes(Arc<Shared>);

#[tonic::async_trait]
impl RuntimeService for Sandboxes {
    async fn list_pod_sandbox(
        &self,
        _: Request<ListPodSandboxRequest>,
    ) -> Result<Response<ListPodSandboxResponse>, Status> {
        let known = locked(&self.0.sandboxes).clone();
        let items = known.into_iter().map(|id| PodSandbox { id }).collect();
        Ok(Response::new(ListPodSandboxResponse { items }))
    }

    async fn version(
        &self,
        _: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        let [runtime_name, runtime_version] = ["playground", "1"].map(str::to_owned);
        Ok(Response::new(VersionResponse { runtime_name, runtime_version }))
    }

    /// It tells no configuration: nobody knows whether it has CDI, and CDI stays the default.
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse::default()))
    }
}

struct Lister(Arc<Shared>);

#[tonic::async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let mut pods: BTreeMap<(String, String), PodResources> = BTreeMap::new();
        for given in locked(&self.0.given).iter() {
            let key = (given.namespace.clone(), given.pod.clone());
            let pod = pods.entry(key).or_insert_with(|| PodResources {
                name: given.pod.clone(),
                namespace: given.namespace.clone(),
                ..PodResources::default()
            });
            pod.containers.push(ContainerResources {
                name: given.container.clone(),
                devices: vec![ContainerDevices {
                    resource_name: given.resource.clone(),
                    device_ids: given.ids.clone(),
                    topology: None,
                }],
                ..ContainerResources::default()
            });
        }
        let pod_resources = pods.into_values().collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }
}

impl Plugins for Sockets {
    fn preferred(&mut self, resource: &str, available: &[String], size: usize) -> Vec<String> {
        let Some(mut client) = locked(&self.shared.clients).get(resource).cloned() else {
            return Vec::new();
        };
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available_device_i_ds: available.to_vec(),
                must_include_device_i_ds: Vec::new(),
                allocation_size: i32::try_from(size).unwrap_or(i32::MAX),
            }],
        };
        let answer = self.runtime.block_on(client.get_preferred_allocation(request));
        // The kubelet treats a failing preference as none.
        answer
            .ok()
            .and_then(|a| a.into_inner().container_responses.into_iter().next())
            .map(|c| c.device_i_ds)
            .unwrap_or_default()
    }

    fn allocate(&mut self, resource: &str, ids: &[String]) -> Result<Allocation, String> {
        let client = locked(&self.shared.clients).get(resource).cloned();
        let mut client = client.ok_or_else(|| format!("no plugin is connected for {resource}"))?;
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest { devices_ids: ids.to_vec() }],
        };
        let answer = self.runtime.block_on(client.allocate(request));
        let answer = answer.map_err(|status| {
            format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
        })?;
        let given = answer.into_inner().container_responses.into_iter().next();
        Ok(given.map(crate::cluster::devices::allocation_of).unwrap_or_default())
    }
}
