//! The thread of the cluster: lets every built-in part look whenever the store, a plugin or the clock says so.

use super::grpc::Sockets;
use super::log::Logs;
use super::runtime::{Containers, Surroundings};
use crate::cluster::cluster::{Api, Cluster, Environment};
use crate::cluster::devices::{DeviceLists, Plugins};
use crate::cluster::direct::Direct;
use crate::cluster::kubelet::Runtime;
use crate::cluster::objects::Objects;
use crate::http::Shared;
use api::Timestamp;
use api::wire::{Answer, Write};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// The longest pause between two looks: an ended container or a requested reboot is noticed by looking.
const LONGEST_NAP: Duration = Duration::from_millis(100);

/// Ends the thread when it is dropped.
pub struct Ticker(Arc<Alarm>);

#[derive(Default)]
struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
    over: AtomicBool,
}

impl Alarm {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    fn sleep(&self, limit: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self
            .bell
            .wait_timeout_while(rung, limit, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
        self.0.ring();
    }
}

impl Ticker {
    pub fn start(
        shared: Arc<Shared>,
        cluster: Arc<Mutex<Cluster>>,
        surroundings: Surroundings,
        logs: Logs,
        directory: PathBuf,
    ) -> std::io::Result<Self> {
        let alarm = Arc::new(Alarm::default());
        let runtime = Handle::current();
        let mut changes = shared.changes();
        let bell = Arc::clone(&alarm);
        runtime.spawn(async move {
            while !bell.over.load(Ordering::Relaxed) && changes.changed().await.is_ok() {
                bell.ring();
            }
        });
        let mut live = Live {
            containers: Containers::new(surroundings, logs)?,
            sockets: BTreeMap::new(),
            runtime,
            directory,
            alarm: Arc::clone(&alarm),
            none: NoPlugins,
        };
        let thread_alarm = Arc::clone(&alarm);
        std::thread::Builder::new().name("cluster".to_owned()).spawn(move || {
            while !thread_alarm.over.load(Ordering::Relaxed) {
                let pause = tick(&shared, &cluster, &mut live);
                thread_alarm.sleep(pause);
            }
        })?;
        Ok(Self(alarm))
    }
}

/// One look of everybody; returns how long nothing is due.
fn tick(shared: &Shared, cluster: &Mutex<Cluster>, live: &mut Live) -> Duration {
    let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Timestamp::now();
    for (name, slot) in &mut cluster.nodes {
        slot.kubelet.host.machine().advance_to(now);
        let restarts = std::mem::take(&mut slot.restart_kubelet);
        if restarts {
            slot.kubelet.devices.all_disconnected();
        }
        live.keep_sockets(name, slot.kubelet_runs() && !restarts);
    }
    let (busy, next) = cluster.tick(&mut Locked { shared }, live, now);
    for (name, slot) in &cluster.nodes {
        if let Some(sockets) = live.sockets.get(name) {
            sockets.publish(&slot.kubelet.devices.listed_as_given(), slot.kubelet.sandboxes());
        }
    }
    match (busy, next) {
        (true, _) => Duration::from_millis(1),
        (false, Some(at)) => {
            Duration::try_from(at.duration_since(now)).unwrap_or_default().min(LONGEST_NAP)
        }
        (false, None) => LONGEST_NAP,
    }
}

/// The store behind its lock, taken for one read or write at a time so that HTTP goes on.
struct Locked<'a> {
    shared: &'a Shared,
}

impl Objects for Locked<'_> {
    fn list(&self, api_version: &str, kind: &str) -> Vec<Arc<Value>> {
        self.shared.store().objects(api_version, kind).cloned().collect()
    }

    fn get(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        let key = api::wire::ObjectKey::new(api_version, kind, namespace, name);
        self.shared.store().object(&key).cloned()
    }
}

impl Api for Locked<'_> {
    fn write(&mut self, user: &str, write: &Write) -> Answer {
        let (answer, revision) = {
            let mut store = self.shared.store();
            let answer = Direct { store: &mut store, now: Timestamp::now() }.write(user, write);
            (answer, store.revision())
        };
        self.shared.tell(revision);
        answer
    }

    fn changes(&self, revision: u64) -> (u64, Option<Vec<Arc<Value>>>) {
        let store = self.shared.store();
        (store.revision(), store.changes_since(revision))
    }

    fn tidy(&mut self) -> bool {
        let (changed, revision) = {
            let mut store = self.shared.store();
            let changed = Direct { store: &mut store, now: Timestamp::now() }.tidy();
            (changed, store.revision())
        };
        self.shared.tell(revision);
        changed
    }
}

/// Containers and kubelet sockets.
struct Live {
    containers: Containers,
    sockets: BTreeMap<String, Sockets>,
    runtime: Handle,
    directory: PathBuf,
    alarm: Arc<Alarm>,
    none: NoPlugins,
}

impl Live {
    /// A machine that is up has a kubelet with sockets; one that went down has none.
    fn keep_sockets(&mut self, node: &str, up: bool) {
        match (up, self.sockets.contains_key(node)) {
            (true, false) => {
                let alarm = Arc::clone(&self.alarm);
                match Sockets::open(&self.runtime, &self.directory.join(node), move || alarm.ring())
                {
                    Ok(sockets) => drop(self.sockets.insert(node.to_owned(), sockets)),
                    Err(error) => {
                        tracing::error!("cannot open the kubelet's sockets of {node}: {error}")
                    }
                }
            }
            (false, true) => drop(self.sockets.remove(node)),
            _ => {}
        }
    }
}

struct NoPlugins;

impl Plugins for NoPlugins {
    fn preferred(&mut self, _: &str, _: &[String], _: usize) -> Vec<String> {
        Vec::new()
    }

    fn allocate(
        &mut self,
        resource: &str,
        _: &[String],
    ) -> Result<crate::cluster::devices::Allocation, String> {
        Err(format!("no plugin is connected for {resource}"))
    }
}

impl Environment for Live {
    fn runtime(&mut self) -> &mut dyn Runtime {
        &mut self.containers
    }

    fn plugins(&mut self, node: &str) -> &mut dyn Plugins {
        match self.sockets.get_mut(node) {
            Some(sockets) => sockets,
            None => &mut self.none,
        }
    }

    fn lists(&mut self, node: &str) -> DeviceLists {
        self.sockets.get(node).map(Sockets::take_lists).unwrap_or_default()
    }

    /// Tasks end and programs become ready without telling; whoever looks often need not be told.
    fn stirred(&mut self, _: &str) -> bool {
        true
    }
}
