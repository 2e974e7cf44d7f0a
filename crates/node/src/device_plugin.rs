//! Shell: one gRPC server for each offered resource on a unix socket beside the kubelet's, and its registration.
//!
//! What is listed and what is given is decided in `plugin` and `give`, and what a preference needs is known by `around`.
//! Everything runs inside one future: dropping it stops servers and registrations, and the lock goes with it.

use crate::around::Around;
use crate::directory::Watched;
use crate::give::{self, Taken};
use crate::observe;
use crate::plugin::{self, Delivery};
use crate::pod_resources::{self, connect, in_full};
use crate::proto::v1beta1::device_plugin_server::{DevicePlugin, DevicePluginServer};
use crate::proto::v1beta1::registration_client::RegistrationClient;
use crate::proto::v1beta1::{
    AllocateRequest, AllocateResponse, DevicePluginOptions, Empty, ListAndWatchResponse,
    PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest,
};
use crate::wake::{Pace, Wakes};
use anyhow::{Context, anyhow};
use api::custody::{Offer, OfferedResource};
use api::files;
use futures::StreamExt;
use futures::stream::BoxStream;
use host::Host;
use host::seam::{Interest, Lock};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tracing::instrument::WithSubscriber;

/// Pause between two tries for the lock, and between two registrations that the kubelet did not take.
const AGAIN: Duration = Duration::from_millis(500);

/// What the device plugin needs.
pub struct Settings {
    pub host: Arc<dyn Host>,
    /// The kubelet's directory of device plugins, with its `kubelet.sock`.
    pub directory: PathBuf,
    /// The socket on which the kubelet says what pods were given.
    pub pod_resources: PathBuf,
    pub delivery: Delivery,
    pub pace: Pace,
}

/// Serves until the future is dropped.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let host = &settings.host;
    // The lock first, the offer second: the daemon takes a free lock for the promise that nothing old is in force.
    let _lock = lock(host.as_ref()).await;
    let boot_id = observe::boot_id(host.as_ref()).context("cannot start the device plugin")?;
    let kubelet = pod_resources::channel(&settings.pod_resources)
        .with_context(|| format!("{} is no socket", settings.pod_resources.display()))?;
    let around = Arc::new(Around::new(Arc::clone(host), kubelet));
    let desk = Arc::new(Desk {
        log: tracing::dispatcher::get_default(tracing::Dispatch::clone),
        host: Arc::clone(host),
        boot_id,
        delivery: settings.delivery,
        in_force: Mutex::default(),
        around: Arc::clone(&around),
    });
    let interests = vec![Interest::File(files::OFFER.to_owned())];
    let mut wakes = Wakes::new(Arc::clone(host), interests, settings.pace)
        .context("cannot watch for offers")?;
    let directory = &settings.directory;
    let mut sockets = Watched::new(directory)
        .with_context(|| format!("cannot watch {}: is this the kubelet's?", directory.display()))?;
    let mut servers = Servers::new(Arc::clone(&desk), directory.clone());
    let mut said = String::new();
    let mut looks = std::pin::pin!(around.keep());
    loop {
        match desk.take_offer() {
            Taken::New(offer) => {
                tracing::info!(sequence = offer.sequence, "offer taken: {}", in_words(&offer));
                servers.follow(&offer);
            }
            Taken::Same => said.clear(),
            Taken::None => say(&mut said, "no offer yet: nothing is registered".to_owned()),
            Taken::Refused(why) => say(&mut said, why),
        }
        servers.check();
        tokio::select! {
            () = wakes.next() => {}
            changed = sockets.changed() => {
                changed.with_context(|| format!("cannot watch {}", directory.display()))?;
                // The kubelet writes its checkpoint here whenever it has given devices to a container.
                around.stir();
            }
            never = &mut looks => match never {},
            // One that was aborted ends with an error of the join, and is no news.
            Some(ended) = servers.tasks.join_next() => if let Ok(Err(error)) = ended {
                tracing::warn!("{error:#}; starting again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Waits for the lock; another device plugin may still be on its way out.
async fn lock(host: &dyn Host) -> Lock {
    let mut said = String::new();
    loop {
        match host.lock(files::DEVICE_PLUGIN_LOCK, Duration::ZERO) {
            Ok(lock) => return lock,
            Err(refusal) => {
                say(&mut said, format!("another device plugin runs here: {refusal}; waiting"))
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Says the same thing once.
fn say(said: &mut String, what: String) {
    if *said != what {
        tracing::warn!("{what}");
        *said = what;
    }
}

fn in_words(offer: &Offer) -> String {
    let one = |(name, resource): (&String, &OfferedResource)| {
        let list = plugin::list(resource);
        let ready = list.devices.iter().filter(|device| device.health == plugin::HEALTHY).count();
        format!("{name} {ready} of {} ready", resource.devices.len())
    };
    match offer.resources.is_empty() {
        true => "nothing is offered".to_owned(),
        false => offer.resources.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// Where offers come in and devices go out, one at a time.
struct Desk {
    /// The log of this process; tonic answers on tasks of its own.
    log: tracing::Dispatch,
    host: Arc<dyn Host>,
    boot_id: String,
    delivery: Delivery,
    in_force: Mutex<Option<Offer>>,
    around: Arc<Around>,
}

impl Desk {
    /// Held while an offer is taken in, and while devices are given.
    fn in_force(&self) -> MutexGuard<'_, Option<Offer>> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_offer(&self) -> Taken {
        let mut in_force = self.in_force();
        let taken = give::take_offer(self.host.as_ref(), &self.boot_id, in_force.as_ref());
        if let Taken::New(offer) = &taken {
            *in_force = Some(offer.clone());
            self.around.take_offer(offer);
            if self.delivery == Delivery::Cdi
                && let Some(why) = give::restore_specs(self.host.as_ref(), offer)
            {
                tracing::warn!("{why}");
            }
        }
        taken
    }

    fn allocate(
        &self,
        resource: &str,
        request: &AllocateRequest,
    ) -> Result<AllocateResponse, String> {
        let in_force = self.in_force();
        let offer = in_force.as_ref().ok_or("there is no offer on this node yet")?;
        let given = give::allocate(self.host.as_ref(), offer, resource, request, self.delivery);
        self.around.given();
        tracing::dispatcher::with_default(&self.log, || match &given {
            Ok(_) => tracing::info!("given of {resource}: {}", ids(request)),
            Err(sentence) => tracing::warn!("{sentence}"),
        });
        given
    }
}

fn ids(request: &AllocateRequest) -> String {
    let ids = request.container_requests.iter().flat_map(|container| &container.devices_ids);
    ids.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The servers of all resources.
struct Servers {
    desk: Arc<Desk>,
    directory: PathBuf,
    by_resource: BTreeMap<String, Running>,
    tasks: JoinSet<anyhow::Result<()>>,
}

struct Running {
    list: watch::Sender<ListAndWatchResponse>,
    task: tokio::task::AbortHandle,
    /// The kubelet's socket at the time of registration: a new one is a new kubelet, which knows nobody.
    kubelet: Option<(u64, u64, i64)>,
}

impl Servers {
    fn new(desk: Arc<Desk>, directory: PathBuf) -> Self {
        Self { desk, directory, by_resource: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Tells each server its new list, starts those that are missing, and ends those of resources that are gone.
    fn follow(&mut self, offer: &Offer) {
        self.by_resource.retain(|name, running| {
            let stays = offer.resources.contains_key(name);
            if !stays {
                running.task.abort();
            }
            stays
        });
        for (name, resource) in &offer.resources {
            let list = plugin::list(resource);
            match self.by_resource.get(name) {
                Some(running) => drop(running.list.send_replace(list)),
                None => self.start(name.clone(), list),
            }
        }
    }

    /// Starts again what ended or lost its socket, and everything when the kubelet is a new one.
    fn check(&mut self) {
        let kubelet = identity(&self.directory.join("kubelet.sock"));
        let is_new = |running: &Running| kubelet.is_some() && running.kubelet != kubelet;
        let stale = |(name, running): &(&String, &Running)| {
            let lost = identity(&self.directory.join(endpoint(name))).is_none();
            running.task.is_finished() || is_new(running) || lost
        };
        let stale: Vec<String> =
            self.by_resource.iter().filter(stale).map(|(name, _)| name.clone()).collect();
        for name in stale {
            if let Some(running) = self.by_resource.remove(&name) {
                running.task.abort();
                let list = running.list.borrow().clone();
                self.start(name, list);
            }
        }
    }

    fn start(&mut self, name: String, list: ListAndWatchResponse) {
        let (sender, lists) = watch::channel(list);
        let resource = Resource { name: name.clone(), desk: Arc::clone(&self.desk), lists };
        let kubelet = identity(&self.directory.join("kubelet.sock"));
        // Bound here, so that the next check finds the socket.
        let listener = listen(&self.directory.join(endpoint(&name)));
        let task = self
            .tasks
            .spawn(serve(resource, self.directory.clone(), listener).with_current_subscriber());
        self.by_resource.insert(name, Running { list: sender, task, kubelet });
    }
}

fn identity(path: &Path) -> Option<(u64, u64, i64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.ctime_nsec() ^ found.ctime()))
}

/// File name of a resource's socket, as upstream's.
fn endpoint(resource: &str) -> String {
    format!("{}.sock", resource.replace('/', "_"))
}

/// One resource: serves on its socket, registers, and goes on serving.
async fn serve(
    resource: Resource,
    directory: PathBuf,
    listener: anyhow::Result<UnixListener>,
) -> anyhow::Result<()> {
    let name = resource.name.clone();
    let endpoint = endpoint(&name);
    let listener = listener?;
    let server = Server::builder()
        .add_service(DevicePluginServer::new(resource))
        .serve_with_incoming(UnixListenerStream::new(listener));
    let registered = async {
        register(&directory, &name, endpoint).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = server => served.with_context(|| format!("the server of {name} failed"))?,
        () = registered => {}
    }
    Err(anyhow!("the server of {name} ended"))
}

fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    // A socket that a killed process left behind cannot be bound again.
    let _ = std::fs::remove_file(socket);
    UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))
}

/// Registers until the kubelet takes it.
async fn register(directory: &Path, name: &str, endpoint: String) {
    let kubelet = directory.join("kubelet.sock");
    let mut said = String::new();
    loop {
        match try_register(&kubelet, name, endpoint.clone()).await {
            Ok(()) => return tracing::info!("{name} registered with the kubelet"),
            Err(why) => say(&mut said, format!("cannot register {name}: {why}; trying again")),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn try_register(kubelet: &Path, name: &str, endpoint: String) -> Result<(), String> {
    let channel = connect(kubelet).await.map_err(|error| in_full(&error))?;
    let request = RegisterRequest {
        version: plugin::API_VERSION.to_owned(),
        endpoint,
        resource_name: name.to_owned(),
        options: Some(plugin::options()),
    };
    let answer = RegistrationClient::new(channel).register(request).await;
    answer.map(drop).map_err(|status| status.message().to_owned())
}

/// The kubelet's requests for one resource.
struct Resource {
    name: String,
    desk: Arc<Desk>,
    lists: watch::Receiver<ListAndWatchResponse>,
}

#[tonic::async_trait]
impl DevicePlugin for Resource {
    type ListAndWatchStream = BoxStream<'static, Result<ListAndWatchResponse, Status>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(plugin::options()))
    }

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        Ok(Response::new(WatchStream::new(self.lists.clone()).map(Ok).boxed()))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Ok(Response::new(self.desk.around.preferred(&self.name, request.get_ref())))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let (desk, name) = (Arc::clone(&self.desk), self.name.clone());
        let given = tokio::task::spawn_blocking(move || desk.allocate(&name, request.get_ref()));
        let given = given.await.map_err(|error| Status::internal(error.to_string()))?;
        given.map(Response::new).map_err(Status::failed_precondition)
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}
