//! The HTTPS shell around the store: sockets, TLS, tokens and streams, and no decision about the API.
//!
//! Every answer is the store's, discovery and OpenAPI too. Besides it stand streaming of watches, and the way to
//! containers (`logs`, `exec`), which a `PodShell` knows.

mod exec;
mod protobuf;
mod route;
mod tls;
mod watch;

pub use exec::{Ended, Exec};
pub use tls::Certificates;

use crate::store::{Store, Topic, User};
use anyhow::Context;
use api::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch as signal;

/// The store and who waits for it to change.
pub struct Shared {
    store: Mutex<Store>,
    changed: signal::Sender<u64>,
    topics: Mutex<Topics>,
}

/// Who waits for a change of what.
#[derive(Default)]
struct Topics {
    /// The revision up to which everybody was told.
    told: u64,
    waiting: BTreeMap<Topic, signal::Sender<u64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(store: Store) -> Arc<Self> {
        let (changed, _) = signal::channel(store.revision());
        let topics = Topics { told: store.revision(), waiting: BTreeMap::new() };
        Arc::new(Self { store: Mutex::new(store), changed, topics: Mutex::new(topics) })
    }

    /// The store, for one request. Whoever changed it calls `tell` afterwards.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    /// Wakes the watches and the cluster when the store has changed.
    pub fn tell(&self, revision: u64) {
        let mut topics = locked(&self.topics);
        if topics.told < revision {
            let changed = self.store().topics_since(topics.told);
            topics.told = revision;
            for topic in changed {
                let Some(waiting) = topics.waiting.get(&topic) else { continue };
                match waiting.receiver_count() {
                    0 => drop(topics.waiting.remove(&topic)),
                    _ => drop(waiting.send_replace(revision)),
                }
            }
        }
        drop(topics);
        self.changed.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
    }

    /// A receiver that wakes at every change.
    pub fn changes(&self) -> signal::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A receiver that wakes when something of the topic has changed.
    fn changes_of(&self, topic: Topic) -> signal::Receiver<u64> {
        let mut topics = locked(&self.topics);
        let told = topics.told;
        topics.waiting.entry(topic).or_insert_with(|| signal::channel(told).0).subscribe()
    }

    /// Answers one request of a user, now.
    pub fn answer(
        &self,
        who: &User,
        request: &api::wire::Request,
    ) -> (api::wire::Response, Vec<String>) {
        let (response, warnings, revision) = {
            let mut store = self.store();
            let response = store.handle(Timestamp::now(), who, request);
            (response, store.warnings().to_vec(), store.revision())
        };
        self.tell(revision);
        (response, warnings)
    }
}

/// What the API server asks of the kubelets.
pub trait PodShell: Send + Sync + 'static {
    /// What the container wrote so far, and where that ends, from a position on.
    fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        from: usize,
    ) -> Result<(usize, Vec<u8>), String>;
    /// Runs a program in a container.
    fn exec(&self, exec: &Exec) -> Result<Ended, String>;
}

/// A running API server.
pub struct Server {
    pub shared: Arc<Shared>,
    pub address: SocketAddr,
    pub certificates: Certificates,
    pub admin_token: String,
    handle: axum_server::Handle<SocketAddr>,
}

#[derive(Clone)]
struct Shell {
    shared: Arc<Shared>,
    pods: Arc<dyn PodShell>,
}

impl Server {
    /// Serves on a free port of the loopback address.
    pub async fn start(shared: Arc<Shared>, pods: Arc<dyn PodShell>) -> anyhow::Result<Self> {
        let certificates = Certificates::new()?;
        let config =
            axum_server::tls_rustls::RustlsConfig::from_config(certificates.server_config()?);
        let listener =
            std::net::TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on 127.0.0.1")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let admin_token = shared.store().issue_token(&User::admin());
        let shell = Shell { shared: Arc::clone(&shared), pods };
        let handle = axum_server::Handle::new();
        let router = axum::Router::new().fallback(route::route).with_state(shell);
        let server = axum_server::from_tcp_rustls(listener, config)?.handle(handle.clone());
        tokio::spawn(async move {
            if let Err(error) = server.serve(router.into_make_service()).await {
                tracing::error!("the API server ended: {error}");
            }
        });
        Ok(Self { shared, address, certificates, admin_token, handle })
    }

    /// A kubeconfig with a token.
    pub fn kubeconfig(&self, user: &str, token: &str, namespace: &str) -> String {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "playground", "preferences": {},
            "clusters": [{ "name": "playground", "cluster": {
                "server": format!("https://{}", self.address),
                "certificate-authority-data": self.certificates.authority_base64(),
            } }],
            "users": [{ "name": user, "user": { "token": token } }],
            "contexts": [{ "name": "playground", "context": {
                "cluster": "playground", "user": user, "namespace": namespace,
            } }],
        });
        serde_saphyr::to_string(&config).unwrap_or_else(|_| config.to_string())
    }

    pub fn stop(&self) {
        self.handle.shutdown();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A `Status` object for answers that the store does not give.
fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}
