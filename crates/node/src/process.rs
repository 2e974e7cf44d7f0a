//! The node side as a process: arguments, environment, API client, host, kubelet's directory, log, and a way to stop it.
//!
//! The binary's main builds a `Process` from the real world, the playground from its own. Dropping the future of `run`
//! is a crash, `stop` an orderly end.

use crate::boot_units::By;
use crate::daemon::Daemon;
use crate::lanes::Order;
use crate::plugin::Delivery;
use crate::wake::Pace;
use crate::{boot, boot_units, device_plugin, drive, install, pod_resources};
use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};
use host::Host;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

/// Reads a file of the container image that a process runs from.
pub type Image = Box<dyn Fn(&str) -> io::Result<Vec<u8>> + Send>;

/// Everything that the node side takes from outside.
pub struct Process {
    /// As in `argv`, the program's name first.
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// How to reach the API server, for the command that talks to it.
    pub cluster: Option<kube::Config>,
    pub host: Arc<dyn Host>,
    /// The kubelet's directory, `/var/lib/kubelet`, with `device-plugins` and `pod-resources` below it.
    pub kubelet: PathBuf,
    /// Where the host's root directory is seen, for the container runtime's socket.
    pub root: PathBuf,
    /// How it learns that the node changed.
    pub pace: Pace,
    /// Where the CNI binary is.
    pub image: Image,
    pub log: Box<dyn io::Write + Send>,
    /// Becomes true when the process is to end in order.
    pub stop: watch::Receiver<bool>,
}

/// The node side of ironrail: brings one Kubernetes node to what its SriovNetworkNodeState asks for.
///
/// It runs as two DaemonSets that the operator deploys: sriov-network-config-daemon (`daemon`, with `install-cni` before
/// it) and sriov-device-plugin (`device-plugin`). They share two files on the node, /run/ironrail/offer.json and
/// claims.json: what may be given to pods, and what was given.
///
/// See what a node does and waits for:  kubectl -n sriov-network-operator describe sriovnetworknodestate NODE
/// See what is offered to pods:         kubectl get node NODE -o jsonpath='{.status.allocatable}'
#[derive(Debug, Parser)]
#[command(name = "ironrail-node", version, verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,

    /// How much to log: error, warn, info, debug or trace
    #[arg(long, global = true, default_value = "info")]
    pub log_level: tracing::Level,

    /// Log JSON, one object a line
    #[arg(long, global = true)]
    pub log_json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Configure this node: RDMA mode, virtual functions, drivers; ask for drains and reboots; report
    Daemon {
        /// Name of this node [default: the environment's NODE_NAME]
        #[arg(long)]
        node_name: Option<String>,
    },
    /// Offer the configured virtual functions to the kubelet
    DevicePlugin {
        /// Give device nodes by path instead of by CDI name, for runtimes without CDI
        #[arg(long)]
        no_cdi: bool,
    },
    /// Copy the CNI plugins sriov, ib-sriov and rdma to the node, then end
    InstallCni {
        /// The CNI binary in our image
        #[arg(long, default_value = "/usr/bin/ironrail-cni")]
        from: String,
        /// The directory on the node where the container runtime looks for plugins
        #[arg(long, default_value = "/opt/cni/bin")]
        to: String,
    },
    /// Carry out the last order at boot, before the container runtime starts and without an API server
    Boot {
        /// Before the network and the runtime, or once more after the network
        phase: boot::Phase,
    },
    /// Install the boot phases on the node as systemd units, then end
    ///
    /// `configurationMode: systemd` in SriovOperatorConfig/default does so on every node.
    InstallBoot {
        /// This program, linked statically so that it runs on the node
        #[arg(long, default_value = boot_units::IN_IMAGE)]
        from: String,
        /// A directory for programs on the node [default: /usr/local/bin, or /opt/bin where that is read-only]
        #[arg(long)]
        to: Option<String>,
    },
    /// Take the boot phases away from the node again, then end
    RemoveBoot {
        /// The directory that they were installed to [default: the one that the units name]
        #[arg(long)]
        from: Option<String>,
    },
}

/// Runs the node side until it is stopped (Ok) or cannot go on (Err).
pub async fn run(process: Process) -> anyhow::Result<()> {
    let arguments = Arguments::try_parse_from(&process.arguments)?;
    let log = subscriber(process.log, &arguments);
    let mut stop = process.stop;
    let work = Work {
        command: arguments.command,
        environment: process.environment,
        cluster: process.cluster,
        host: process.host,
        kubelet: process.kubelet,
        root: process.root,
        pace: process.pace,
        image: process.image,
    };
    async move {
        let ended = tokio::select! {
            ended = work.run() => ended,
            // An error means that whoever could stop us is gone, which is a stop.
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        };
        match &ended {
            Ok(()) => tracing::info!("ended"),
            Err(error) => tracing::error!("{error:#}"),
        }
        ended
    }
    .with_subscriber(log)
    .await
}

/// A process whose log is set up.
struct Work {
    command: Command,
    environment: BTreeMap<String, String>,
    cluster: Option<kube::Config>,
    host: Arc<dyn Host>,
    kubelet: PathBuf,
    root: PathBuf,
    pace: Pace,
    image: Image,
}

impl Work {
    async fn run(self) -> anyhow::Result<()> {
        if matches!(self.command, Command::Daemon { .. } | Command::DevicePlugin { .. })
            && let Some(why) = drive::elsewhere(self.host.as_ref(), &self.kubelet)
        {
            // What follows from it, a silent kubelet, says nothing of the cause.
            tracing::warn!("{why}");
        }
        match &self.command {
            Command::Daemon { node_name } => {
                let daemon = self.daemon(node_name.clone())?;
                let cluster = self.cluster.context("the daemon needs a cluster to talk to")?;
                tracing::info!(node = daemon.node, namespace = daemon.namespace, "daemon starts");
                drive::run(drive::Settings {
                    daemon,
                    client: crate::http::client(cluster)?,
                    host: self.host,
                    kubelet: self.kubelet,
                    root: self.root,
                    pace: self.pace,
                    ask: crate::cdi::Ask::default(),
                    image: self.image,
                    follow: boot_units::Follow::default(),
                })
                .await
            }
            Command::DevicePlugin { no_cdi } => {
                let delivery = if *no_cdi { Delivery::DeviceSpecs } else { Delivery::Cdi };
                tracing::info!(?delivery, "device plugin starts");
                device_plugin::run(device_plugin::Settings {
                    host: self.host,
                    directory: self.kubelet.join("device-plugins"),
                    pod_resources: self.kubelet.join(pod_resources::SOCKET),
                    delivery,
                    pace: self.pace,
                })
                .await
            }
            Command::InstallCni { from, to } => {
                let binary = (self.image)(from).with_context(|| format!("cannot read {from}"))?;
                install::install(self.host.as_ref(), to, &binary).map_err(|why| anyhow!(why))
            }
            Command::Boot { phase } => {
                let host = self.host.as_ref();
                let outcome = boot::run(host, host.now()).map_err(|why| anyhow!(why))?;
                outcome.done.iter().for_each(|what| tracing::info!("{what}"));
                outcome.left.iter().for_each(|why| tracing::warn!("{why}"));
                match outcome.failed.is_empty() {
                    true => Ok(()),
                    false => Err(anyhow!("boot {phase}: {}", outcome.failed.join("; "))),
                }
            }
            Command::InstallBoot { from, to } => {
                let binary = (self.image)(from).with_context(|| format!("cannot read {from}"))?;
                boot_units::install(self.host.as_ref(), to.as_deref(), &binary, By::Hand)
                    .map_err(|why| anyhow!(why))
            }
            Command::RemoveBoot { from } => {
                boot_units::remove(self.host.as_ref(), from.as_deref()).map_err(|why| anyhow!(why))
            }
        }
    }

    fn daemon(&self, node_name: Option<String>) -> anyhow::Result<Daemon> {
        let environment =
            |name: &str| self.environment.get(name).filter(|value| !value.is_empty()).cloned();
        let node = node_name.or_else(|| environment("NODE_NAME"));
        let node = node.context("cannot tell which node this is: set NODE_NAME or --node-name")?;
        let namespace = environment("NAMESPACE").unwrap_or_else(|| api::names::NAMESPACE.into());
        let mut daemon = Daemon::new(&node, &namespace);
        // Where time is played a run must be the same each time.
        daemon.order = match self.pace {
            Pace::Events => Order::SideBySide,
            Pace::Every(_) => Order::OneByOne,
        };
        if let Some(prefix) = environment("RESOURCE_PREFIX") {
            daemon.prefix = prefix;
        }
        Ok(daemon)
    }
}

/// Where the events of `tracing` go: this process's log, not a global one.
fn subscriber(log: Box<dyn io::Write + Send>, arguments: &Arguments) -> Dispatch {
    let builder = tracing_subscriber::fmt()
        .with_writer(Mutex::new(log))
        .with_ansi(false)
        .with_target(false)
        .with_max_level(arguments.log_level);
    match arguments.log_json {
        true => Dispatch::new(builder.json().finish()),
        false => Dispatch::new(builder.finish()),
    }
}
