//! The operator as a process: arguments, environment, API client, listener, log and a way to stop it.
//!
//! The binary's main builds a `Process` from the real world, the playground from its own: there is no global state,
//! so many operators can run in one program. Dropping the future of `run` is a crash, `stop` an orderly end.

use crate::drive::{self, Gauge};
use crate::election::{Election, Terms};
use crate::http;
use crate::settings::Settings;
use anyhow::{Context, anyhow};
use clap::Parser;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::sync::watch;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

/// Everything that the operator takes from outside.
pub struct Process {
    /// As in `argv`, the program's name first.
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub cluster: kube::Config,
    /// In place of the address in the arguments, where several operators share one computer.
    pub listen: Option<SocketAddr>,
    pub log: Box<dyn io::Write + Send>,
    /// Becomes true when the operator is to end in order.
    pub stop: watch::Receiver<bool>,
}

/// The cluster side of ironrail: configures SR-IOV and RDMA on the nodes of a Kubernetes cluster.
///
/// It reads SriovNetworkPoolConfig, SriovNetworkNodePolicy and the network kinds, writes one
/// SriovNetworkNodeState for each node, drains nodes that have to be disturbed, no more at a time than their pool
/// allows, and deploys the DaemonSets of the node side. It runs in the cluster, as Deployment
/// sriov-network-operator; outside, it uses the cluster that KUBECONFIG names.
///
/// See why a node waits:       kubectl -n sriov-network-operator describe sriovnetworkpoolconfig
/// See what a node is told:    kubectl -n sriov-network-operator get sriovnetworknodestate NODE -o yaml
#[derive(Debug, Parser)]
#[command(name = "ironrail-operator", version, verbatim_doc_comment)]
pub struct Arguments {
    /// Address of /healthz, /readyz and /metrics; empty means none
    #[arg(long, default_value = ":8081")]
    pub health_probe_bind_address: String,

    /// How much to log: error, warn, info, debug or trace
    #[arg(long, default_value = "info")]
    pub log_level: tracing::Level,

    /// Log JSON, one object a line
    #[arg(long)]
    pub log_json: bool,
}

/// Runs the operator until it is stopped (Ok) or has to end (Err): the lease is lost, or it was set up wrongly.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let arguments = Arguments::try_parse_from(&process.arguments)?;
    let log = subscriber(process.log, &arguments);
    let rest = Rest {
        arguments,
        environment: process.environment,
        client: http::client(process.cluster)?,
        listen: process.listen,
        stop: process.stop,
    };
    rest.run().with_subscriber(log).await
}

/// A process whose log is set up.
struct Rest {
    arguments: Arguments,
    environment: BTreeMap<String, String>,
    client: kube::Client,
    listen: Option<SocketAddr>,
    stop: watch::Receiver<bool>,
}

impl Rest {
    async fn run(mut self) -> anyhow::Result<()> {
        let settings = Settings::of(&self.environment).map_err(|problem| anyhow!(problem))?;
        let identity = identity(&self.environment);
        let mut election = Election::new(&identity, &settings.namespace, Terms::default());
        let gauge = Gauge::default();
        tracing::info!(namespace = settings.namespace, identity, "operator starts");
        let address = self.address()?;
        let ended = tokio::select! {
            lost = drive::run(self.client.clone(), settings, &mut election, &gauge) => {
                Err(anyhow::Error::from(lost))
            }
            served = serve(address, &gauge) => served,
            _ = self.stop.wait_for(|stop| *stop) => Ok(()),
        };
        match &ended {
            Ok(()) => tracing::info!("operator stops"),
            Err(error) => tracing::error!("operator ends: {error:#}"),
        }
        if ended.is_ok() {
            self.release(&mut election).await;
        }
        ended
    }

    /// Hands the lease over, so that the next operator need not wait it out.
    async fn release(&self, election: &mut Election) {
        let lease = http::send(&self.client, &election.read()).await;
        if let Some(write) = election.release(&lease, drive::wall()) {
            http::send(&self.client, &write.request(api::names::OPERATOR)).await;
        }
    }

    fn address(&self) -> anyhow::Result<Option<SocketAddr>> {
        if let Some(address) = self.listen {
            return Ok(Some(address));
        }
        let text = match self.arguments.health_probe_bind_address.as_str() {
            "" | "0" => return Ok(None),
            // As Go programs write it: all addresses.
            port if port.starts_with(':') => format!("[::]{port}"),
            full => full.to_owned(),
        };
        let address = text.parse().with_context(|| {
            format!("cannot listen on {text:?}: write address:port, for example :8081")
        });
        address.map(Some)
    }
}

/// Who we are in the election: the pod, since a pod's containers run one after the other.
fn identity(environment: &BTreeMap<String, String>) -> String {
    match environment.get("POD_NAME").or_else(|| environment.get("HOSTNAME")) {
        Some(name) if !name.is_empty() => name.clone(),
        // Two nameless operators must not take each other for themselves.
        _ => format!("ironrail-operator-{:x}", drive::wall().as_nanosecond()),
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

/// Answers the probes; without an address it waits for ever.
async fn serve(address: Option<SocketAddr>, gauge: &Gauge) -> anyhow::Result<()> {
    match address {
        Some(address) => crate::health::serve(address, gauge).await,
        None => std::future::pending().await,
    }
}
