//! The playground in real time: the store behind HTTPS, the cluster's tick on a thread, our programs as tasks.
//!
//! Only this module has sockets, threads and a clock; everything that it calls is the same as in the simulation.

pub mod grpc;
mod log;
mod runtime;
mod shell;
mod tick;

use crate::cluster::cluster::Cluster;
use crate::demo::{Hands, User as DemoUser};
use crate::http::{Server, Shared};
use crate::install;
use crate::openshift;
use crate::store::{Store, User};
use anyhow::Context;
use api::Timestamp;
use host::sim::{Fault, Flavour, Machine, SimHost};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tick::Ticker;

/// Builds a machine of a name, for a distribution, at a time.
pub type MakeMachine = fn(&str, Flavour, Timestamp) -> Machine;

/// What a playground is made of.
#[derive(Debug, Clone)]
pub struct Options {
    pub nodes: usize,
    /// Machines that are not the guide's worker, by name of the node.
    pub machines: BTreeMap<String, MakeMachine>,
    /// How long a simulated machine takes to boot.
    pub boot_time: Duration,
    /// Faults of the machines, by name of the node; for tests that break a link.
    pub faults: BTreeMap<String, Vec<Fault>>,
    /// The machines have no card of their own to live by: their default route goes over a bond of two that policies may
    /// select.
    pub bonded: bool,
    /// Changes a manifest before it is installed; for tests that break a link.
    pub amend: fn(&mut serde_json::Value),
    /// Subcommands of `ironrail-node` that the image lacks; for tests that break a link.
    pub missing_programs: Vec<String>,
    /// CNI plugins that say success and do nothing; for tests that break a link.
    pub idle_cni_plugins: Vec<String>,
    /// Serve OpenShift's machine-config pools, and tell the operator that this is OpenShift.
    pub openshift: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            machines: BTreeMap::new(),
            boot_time: Duration::from_secs(1),
            faults: BTreeMap::new(),
            bonded: false,
            amend: |_| {},
            missing_programs: Vec::new(),
            idle_cni_plugins: Vec::new(),
            openshift: false,
        }
    }
}

/// A running playground; dropping it ends everything that it started.
pub struct Playground {
    server: Server,
    cluster: Arc<Mutex<Cluster>>,
    _ticker: Ticker,
    directory: Directory,
}

/// A directory of our own that goes with us.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Playground {
    /// Makes the machines, installs ironrail, and serves.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let now = Timestamp::now();
        let directory = directory()?;
        let mut store = Store::new(1, now);
        let mut cluster = Cluster::default();
        for number in 0..options.nodes {
            let name = format!("worker-{number}");
            let usual = if options.bonded { Machine::bonded_worker } else { Machine::rdma_worker };
            let make = options.machines.get(&name).copied().unwrap_or(usual);
            let mut machine = make(&name, Flavour::Ubuntu, now);
            for fault in options.faults.get(&name).into_iter().flatten() {
                machine = machine.with(*fault);
            }
            cluster.add_node(&name, SimHost::threaded(machine), options.boot_time);
            store.handle(now, &User::node(&name), &cluster.register(&name).request("kubelet"));
        }
        for slot in cluster.nodes.values_mut() {
            slot.kubelet.idle_plugins = options.idle_cni_plugins.clone();
        }
        let amend = if options.openshift { openshift::amend } else { options.amend };
        install::amended(&mut store, now, amend).context("the manifests do not install")?;
        if options.openshift {
            let nodes: Vec<String> = cluster.nodes.keys().cloned().collect();
            openshift::into(&mut store, now, &nodes).context("OpenShift's kinds do not install")?;
        }
        install::node_agent(&mut store, now);
        let shared = Shared::new(store);
        let cluster = Arc::new(Mutex::new(cluster));
        let logs = log::Logs::default();
        let shell = shell::Shell {
            shared: Arc::clone(&shared),
            cluster: Arc::clone(&cluster),
            logs: logs.clone(),
        };
        let server = Server::start(Arc::clone(&shared), Arc::new(shell)).await?;
        let surroundings = runtime::Surroundings {
            shared: Arc::clone(&shared),
            server: format!("https://{}", server.address),
            authority: server.certificates.authority_der(),
            cluster_hosts: hosts(&cluster),
            directory: directory.0.clone(),
            missing: options.missing_programs,
        };
        let ticker =
            Ticker::start(shared, Arc::clone(&cluster), surroundings, logs, directory.0.clone())?;
        Ok(Self { server, cluster, _ticker: ticker, directory })
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> String {
        self.server.kubeconfig("admin", &self.server.admin_token, "default")
    }

    /// A kubeconfig of a service account.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> String {
        let user = User::service_account(namespace, account);
        let token = self.server.shared.store().issue_token(&user);
        self.server.kubeconfig(account, &token, namespace)
    }

    /// The admin as a user of the API.
    pub fn admin(&self) -> anyhow::Result<DemoUser> {
        let server = format!("https://{}", self.server.address);
        let authority = self.server.certificates.authority_der();
        let config = runtime::config(&server, authority, &self.server.admin_token)?;
        Ok(DemoUser { client: kube::Client::try_from(config)? })
    }

    /// A person at the machines.
    pub fn hands(&self) -> Hands {
        Hands(Arc::clone(&self.cluster))
    }

    /// The machines and kubelets, for tests that look behind the API or break something.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store, for tests that read its record of writes.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.server.shared
    }
}

/// A fresh directory for sockets and the kubeconfig, readable by us alone. Its path is short: sockets have 108 bytes.
fn directory() -> anyhow::Result<Directory> {
    use std::os::unix::fs::DirBuilderExt;
    // Two playgrounds of one process may begin in the same microsecond.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path = std::env::temp_dir().join(format!(
        "ironrail-{}-{:x}-{}",
        std::process::id(),
        Timestamp::now().as_microsecond(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    Ok(Directory(path))
}

fn hosts(cluster: &Mutex<Cluster>) -> BTreeMap<String, SimHost> {
    let cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.nodes.iter().map(|(name, slot)| (name.clone(), slot.kubelet.host.clone())).collect()
}
