//! What the API told, in order: boots and drains of every node, and how many nodes were disturbed at a time.
//!
//! A watch misses nothing between two looks, which polling would. One that ends early is said, and fails the story.

use crate::cluster::objects::{self, items, text, texts};
use api::wire::ObjectKey;
use api::{annotation, names};
use futures::{StreamExt, TryStreamExt};
use kube::core::WatchEvent;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;

/// Where a node stands on its way through a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Waiting,
    Draining,
    Drained,
    Rebooting,
    Verifying,
    /// In service, and not at its goal; nothing more will be tried by itself.
    Failed,
    Ready,
}

/// The watches, for as long as it lives.
pub struct Record {
    seen: Arc<Mutex<Seen>>,
    watches: Vec<JoinHandle<()>>,
}

/// What was told so far.
#[derive(Debug, Default)]
pub struct Seen {
    pub nodes: BTreeMap<String, NodeSeen>,
    /// Each change of a node's stage, until somebody takes it.
    pub news: Vec<(String, Stage)>,
    /// The most nodes at a time that any pool had granted.
    pub most_granted: usize,
    /// The most nodes at a time that were between the start of their drain and its end.
    pub most_disturbed: usize,
    /// The most nodes at a time that were cordoned or not Ready.
    pub most_away: usize,
    /// Why the record is not whole, if it is not.
    lost: Option<String>,
}

/// One node.
#[derive(Debug, Clone, Default)]
pub struct NodeSeen {
    node: Value,
    pub state: Value,
    /// Boot ids, in order.
    boots: Vec<String>,
    /// How many there were when the last drain began.
    boots_before_drain: usize,
    pub drains: u32,
    pub stage: Stage,
}

impl NodeSeen {
    pub fn reboots(&self) -> usize {
        self.boots.len().saturating_sub(1)
    }

    fn progress(&self) -> &str {
        let annotations = texts(&self.state, "/metadata/annotations");
        annotations.get(annotation::CURRENT_STATE).copied().unwrap_or(annotation::IDLE)
    }

    fn is_up(&self) -> bool {
        objects::condition(&self.node, "Ready") == "True"
    }

    fn is_away(&self) -> bool {
        !self.is_up() || self.node.pointer("/spec/unschedulable") == Some(&Value::Bool(true))
    }

    /// The sync status of the present order.
    fn says(&self, status: &str) -> bool {
        text(&self.state, "/status/syncStatus") == status
            && self.state["status"]["observedGeneration"] == self.state["metadata"]["generation"]
    }

    fn look(&self) -> Stage {
        let rebooted = self.boots.len() > self.boots_before_drain;
        match self.progress() {
            annotation::DRAINING => Stage::Draining,
            annotation::DRAIN_COMPLETE if !self.is_up() => Stage::Rebooting,
            annotation::DRAIN_COMPLETE if rebooted => Stage::Verifying,
            annotation::DRAIN_COMPLETE => Stage::Drained,
            _ if self.says("Succeeded") => Stage::Ready,
            _ if self.says("Failed") && !self.is_away() => Stage::Failed,
            _ => Stage::Waiting,
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    /// Starts to listen; what exists is told first.
    pub fn start(client: &kube::Client) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let kinds = [
            (ObjectKey::new("v1", "Node", "", ""), Seen::node as fn(&mut Seen, Value)),
            (
                ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, ""),
                Seen::state,
            ),
            (ObjectKey::new(names::API_VERSION, names::POOL, names::NAMESPACE, ""), Seen::pool),
        ];
        let watch = |(kind, take): (ObjectKey, fn(&mut Seen, Value))| {
            let (client, seen) = (client.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let why = match follow(&client, &kind, &seen, take).await {
                    Ok(()) => "it ended".to_owned(),
                    Err(error) => format!("{error:#}"),
                };
                locked(&seen).lost = Some(format!("the watch of {} was lost: {why}", kind.kind));
            })
        };
        let watches = kinds.map(watch).into();
        Self { seen, watches }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        locked(&self.seen)
    }

    /// An error when something may have happened that the record does not know.
    pub fn is_whole(&self) -> Result<(), String> {
        match &self.seen().lost {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.watches.iter().for_each(JoinHandle::abort);
    }
}

async fn follow(
    client: &kube::Client,
    kind: &ObjectKey,
    seen: &Mutex<Seen>,
    take: fn(&mut Seen, Value),
) -> anyhow::Result<()> {
    let path = format!("{}?watch=true&timeoutSeconds=86400", kind.collection_path());
    let request = http::Request::get(path).body(Vec::new())?;
    let mut events = client.request_events::<Value>(request).await?.boxed();
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                take(&mut locked(seen), object)
            }
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => anyhow::bail!("{}", status.message),
        }
    }
    Ok(())
}

impl Seen {
    fn node(&mut self, object: Value) {
        let name = objects::name(&object).to_owned();
        let boot = text(&object, "/status/nodeInfo/bootID").to_owned();
        let node = self.nodes.entry(name.clone()).or_default();
        if !boot.is_empty() && node.boots.last() != Some(&boot) {
            node.boots.push(boot);
        }
        node.node = object;
        self.restage(&name);
    }

    fn state(&mut self, object: Value) {
        let name = objects::name(&object).to_owned();
        let node = self.nodes.entry(name.clone()).or_default();
        let idle = node.progress() == annotation::IDLE;
        node.state = object;
        if idle && node.progress() != annotation::IDLE {
            node.drains += 1;
            node.boots_before_drain = node.boots.len();
        }
        self.restage(&name);
    }

    fn pool(&mut self, object: Value) {
        self.most_granted = self.most_granted.max(items(&object, "/status/grants").len());
    }

    fn restage(&mut self, name: &str) {
        let count =
            |counts: fn(&NodeSeen) -> bool| self.nodes.values().filter(|n| counts(n)).count();
        self.most_disturbed = self.most_disturbed.max(count(|n| n.progress() != annotation::IDLE));
        // Before its first drain a node may be away because the cluster has only just started.
        self.most_away = self.most_away.max(count(|n| n.drains > 0 && n.is_away()));
        let Some(node) = self.nodes.get_mut(name) else { return };
        let (before, stage) = (node.stage, node.look());
        // One of the two watches may be ahead: within one drain a node goes forward only.
        let back = stage < before && before != Stage::Ready && node.progress() != annotation::IDLE;
        if stage != before && !back {
            node.stage = stage;
            self.news.push((name.to_owned(), stage));
        }
    }
}
