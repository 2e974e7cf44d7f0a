//! Runs containers: our own programs by their command, as futures on one thread; anything else merely counts as running,
//! since its image is not here.
//!
//! Each process gets what its pod says: arguments, environment, the service account's own token, the machine of its node,
//! the pod's address, a log. A container that is stopped is asked to end, as SIGTERM
//! does; a machine that goes down drops its future, which is what SIGKILL would do to it.

use super::log::{Log, Logs};
use crate::cluster::kubelet::{Container, Runtime};
use crate::http::Shared;
use crate::store::User;
use futures::future::LocalBoxFuture;
use host::sim::SimHost;
use node::wake::Pace;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

type Main = Box<dyn FnOnce() -> LocalBoxFuture<'static, anyhow::Result<()>> + Send>;
type Ended = anyhow::Result<()>;

/// How often a process on a simulated machine looks whether the machine changed; no kernel tells it. Many machines on one
/// computer look less often, or they would do nothing else.
fn pace(machines: usize) -> Pace {
    let crowd = u32::try_from(machines).unwrap_or(u32::MAX);
    Pace::Every(Duration::from_millis(200).max(Duration::from_millis(5).saturating_mul(crowd)))
}

/// What a process needs of the playground besides its container.
pub struct Surroundings {
    pub shared: Arc<Shared>,
    /// The API server's address.
    pub server: String,
    /// Its authority's certificate.
    pub authority: Vec<u8>,
    pub cluster_hosts: BTreeMap<String, SimHost>,
    /// Below it each node has its kubelet's directory.
    pub directory: PathBuf,
    /// Subcommands of `ironrail-node` that the image lacks.
    pub missing: Vec<String>,
}

impl Surroundings {
    /// How a container reaches the API server: with the token of the pod's service account.
    fn cluster(&self, container: &Container) -> anyhow::Result<kube::Config> {
        let user = User::service_account(&container.namespace, &container.service_account);
        let token = self.shared.store().issue_token(&user);
        config(&self.server, self.authority.clone(), &token)
    }
}

/// A client configuration for the playground's API server.
pub fn config(server: &str, authority: Vec<u8>, token: &str) -> anyhow::Result<kube::Config> {
    let mut config = kube::Config::new(server.parse()?);
    config.root_cert = Some(vec![authority]);
    config.auth_info.token = Some(token.to_owned().into());
    Ok(config)
}

/// All containers of the cluster.
pub struct Containers {
    surroundings: Surroundings,
    launch: mpsc::UnboundedSender<(Main, oneshot::Sender<Ended>, watch::Receiver<bool>)>,
    running: BTreeMap<String, Running>,
    /// Containers that were told to end and have until then.
    stopping: Vec<(Instant, Running)>,
    logs: Logs,
}

/// How long a container may take to end in order; the real kubelet gives 30 s, simulated pods have less to do.
const GRACE: Duration = Duration::from_secs(2);

struct Running {
    /// True asks the process to end; dropping it kills.
    stop: watch::Sender<bool>,
    end: Option<oneshot::Receiver<Ended>>,
    ended: Option<(i32, String)>,
}

impl Containers {
    /// Starts the thread that the processes run on.
    pub fn new(surroundings: Surroundings, logs: Logs) -> std::io::Result<Self> {
        let (launch, mut requests) =
            mpsc::unbounded_channel::<(Main, oneshot::Sender<Ended>, watch::Receiver<bool>)>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("containers".to_owned()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                while let Some((main, end, mut kill)) = requests.recv().await {
                    tokio::task::spawn_local(async move {
                        tokio::select! {
                            result = main() => drop(end.send(result)),
                            // The sender is dropped: the container is killed where it stands.
                            _ = kill.wait_for(|_| false) => {}
                        }
                    });
                }
            });
        })?;
        Ok(Self { surroundings, launch, running: BTreeMap::new(), stopping: Vec::new(), logs })
    }

    /// The program of a container of ours; None for somebody else's image.
    fn main(
        &self,
        container: &Container,
        log: Log,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<Option<Main>> {
        let program = container.command.first().map(|p| p.rsplit('/').next().unwrap_or(p));
        let (arguments, environment) = (container.command.clone(), container.environment.clone());
        let log = Box::new(log);
        Ok(match program {
            Some("ironrail-operator") => {
                let cluster = self.surroundings.cluster(container)?;
                let listen: Option<SocketAddr> = Some(format!("{}:0", container.pod_ip).parse()?);
                Some(Box::new(move || {
                    Box::pin(async move {
                        let process = operator::process::Process {
                            arguments,
                            environment,
                            cluster,
                            listen,
                            log,
                            stop,
                        };
                        operator::process::run(process).await
                    })
                }))
            }
            Some("ironrail-node") => {
                let part = container.command.get(1).map_or("", String::as_str);
                anyhow::ensure!(
                    !self.surroundings.missing.iter().any(|m| m == part),
                    "exec: no such program in the image"
                );
                let cluster = self.surroundings.cluster(container)?;
                let host =
                    self.surroundings.cluster_hosts.get(&container.node).map(SimHost::process);
                let host =
                    host.ok_or_else(|| anyhow::anyhow!("there is no machine {}", container.node))?;
                let kubelet = self.surroundings.directory.join(&container.node);
                let pace = pace(self.surroundings.cluster_hosts.len());
                Some(Box::new(move || {
                    Box::pin(async move {
                        let host = Arc::new(host);
                        let image = Box::new(image);
                        let process = node::process::Process {
                            arguments,
                            environment,
                            cluster: Some(cluster),
                            host,
                            root: kubelet.clone(),
                            kubelet,
                            pace,
                            image,
                            log,
                            stop,
                        };
                        node::process::run(process).await
                    })
                }))
            }
            _ => None,
        })
    }
}

/// The files of our image that the node side reads. The kubelet of a playground calls the plugins as a function, so
/// that the file's content is never executed.
fn image(path: &str) -> std::io::Result<Vec<u8>> {
    match path {
        "/usr/bin/ironrail-cni" => Ok(b"#!ironrail-cni of the playground\n".to_vec()),
        other => Err(std::io::Error::new(
            std::io::ErrorKind::NotFound,
            format!("{other} is not in the image"),
        )),
    }
}

impl Runtime for Containers {
    fn start(&mut self, container: &Container) {
        let log = self.logs.of(&container.namespace, &container.pod, &container.name);
        let (kill, stop) = watch::channel(false);
        let mut running = Running { stop: kill, end: None, ended: None };
        match self.main(container, log, stop.clone()) {
            Ok(None) => {}
            Ok(Some(main)) => {
                let (end, ended) = oneshot::channel();
                running.end = Some(ended);
                if self.launch.send((main, end, stop)).is_err() {
                    running.ended = Some((137, "the thread of the containers is gone".to_owned()));
                }
            }
            Err(error) => running.ended = Some((1, format!("{error:#}"))),
        }
        self.running.insert(container.id.clone(), running);
    }

    fn stop(&mut self, id: &str) {
        let now = Instant::now();
        self.stopping.retain(|(until, _)| now < *until);
        if let Some(running) = self.running.remove(id) {
            // Nobody listens to the signal in somebody else's image.
            let _ = running.stop.send(true);
            self.stopping.push((now + GRACE, running));
        }
    }

    fn kill(&mut self, id: &str) {
        self.running.remove(id);
    }

    fn ended(&mut self, id: &str) -> Option<(i32, String)> {
        let Some(running) = self.running.get_mut(id) else {
            return Some((137, "the container is gone".to_owned()));
        };
        if let (Some(end), None) = (&mut running.end, &running.ended) {
            match end.try_recv() {
                Ok(Ok(())) => running.ended = Some((0, String::new())),
                Ok(Err(error)) => running.ended = Some((1, format!("{error:#}"))),
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => {
                    running.ended = Some((137, "the process panicked".to_owned()));
                }
            }
        }
        running.ended.clone()
    }

    fn ready(&mut self, id: &str) -> bool {
        self.running.get(id).is_some_and(|r| r.ended.is_none())
    }
}
