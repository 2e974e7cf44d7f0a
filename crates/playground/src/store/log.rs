//! The ordered log of every change, and watches as cursors into it.
//!
//! A watch is plain data: nothing is pushed, whoever holds one polls. The log is bounded, so a cursor can fall off its
//! end; then the watcher hears 410 Gone, as with the real server, and must list again.

use super::object;
use super::ownership::Ownership;
use super::refusal::Refusal;
use super::registry::KindId;
use super::selectors::Selector;
use super::stored::Stored;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Changes that are kept for each kind unless a test says otherwise.
const DEFAULT_LIMIT: usize = 10_000;

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    pub revision: u64,
    /// `None` when the object is new.
    pub before: Option<Arc<Value>>,
    /// The object as it is now; for a deletion as it was last, with the revision of the deletion.
    pub stored: Stored,
    pub deleted: bool,
}

/// The changes of every kind in order, as far back as the horizon.
#[derive(Debug, Clone)]
pub struct Log {
    changes: BTreeMap<KindId, VecDeque<Change>>,
    /// The revisions at which objects of a name changed: thousands of clients watch one object each.
    named: BTreeMap<KindId, BTreeMap<String, VecDeque<u64>>>,
    /// Revisions up to this one may be forgotten, for each kind.
    forgotten: BTreeMap<KindId, u64>,
    compacted: u64,
    limit: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            changes: BTreeMap::new(),
            named: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            compacted: 0,
            limit: DEFAULT_LIMIT,
        }
    }
}

impl Log {
    pub fn append(&mut self, kind: KindId, change: Change) {
        let changes = self.changes.entry(kind).or_default();
        let named = self.named.entry(kind).or_default();
        let name = object::name(&change.stored);
        match named.get_mut(name) {
            Some(revisions) => revisions.push_back(change.revision),
            None => drop(named.insert(name.to_owned(), VecDeque::from([change.revision]))),
        }
        changes.push_back(change);
        while changes.len() > self.limit {
            if let Some(oldest) = changes.pop_front() {
                forget_named(named, &oldest);
                self.forgotten.insert(kind, oldest.revision);
            }
        }
    }

    /// Forgets every change up to and including `revision`, as etcd's compaction does.
    pub fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision);
        for (kind, changes) in &mut self.changes {
            let keep = changes.partition_point(|change| change.revision <= revision);
            let named = self.named.entry(*kind).or_default();
            changes.drain(..keep).for_each(|change| forget_named(named, &change));
        }
    }

    /// Keeps at most `limit` changes of each kind from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The last forgotten revision of a kind: a watch can start here and no earlier.
    pub fn horizon(&self, kind: KindId) -> u64 {
        self.forgotten.get(&kind).copied().unwrap_or_default().max(self.compacted)
    }

    /// The objects of all kinds that changed after `revision`, in order; None when some of it is forgotten.
    pub fn all_since(&self, revision: u64) -> Option<Vec<Arc<Value>>> {
        let forgotten = self.forgotten.values().any(|horizon| *horizon > revision);
        if forgotten || self.compacted > revision {
            return None;
        }
        let mut found: Vec<&Change> = Vec::new();
        for changes in self.changes.values() {
            // Few changes are new, so the way from the end is the shorter one.
            found.extend(changes.iter().rev().take_while(|change| change.revision > revision));
        }
        found.sort_by_key(|change| change.revision);
        Some(found.into_iter().map(|change| Arc::clone(&change.stored)).collect())
    }

    /// The kinds and objects that changed after `revision`, as far as they are remembered.
    pub fn changed_since(&self, revision: u64) -> impl Iterator<Item = (KindId, &Value)> {
        self.changes.iter().flat_map(move |(kind, changes)| {
            let new = changes.iter().rev().take_while(move |change| change.revision > revision);
            new.map(|change| (*kind, &**change.stored))
        })
    }

    /// The changes of a kind after `revision` to objects of one name.
    pub fn since_of(
        &self,
        kind: KindId,
        name: &str,
        revision: u64,
    ) -> impl Iterator<Item = &Change> {
        let revisions = self.named.get(&kind).and_then(|named| named.get(name));
        let start = revisions.map_or(0, |all| all.partition_point(|r| *r <= revision));
        let revisions = revisions.into_iter().flat_map(move |all| all.range(start..));
        let changes = self.changes.get(&kind);
        revisions.filter_map(move |wanted| {
            let changes = changes?;
            changes.get(changes.binary_search_by_key(wanted, |change| change.revision).ok()?)
        })
    }

    /// The changes of a kind after `revision`.
    pub fn since(&self, kind: KindId, revision: u64) -> impl Iterator<Item = &Change> {
        let changes = self.changes.get(&kind);
        let start = changes.map_or(0, |all| all.partition_point(|c| c.revision <= revision));
        changes.into_iter().flat_map(move |all| all.range(start..))
    }
}

/// The oldest change of all is the oldest of its name.
fn forget_named(named: &mut BTreeMap<String, VecDeque<u64>>, oldest: &Change) {
    let name = object::name(&oldest.stored);
    if let Some(revisions) = named.get_mut(name) {
        revisions.pop_front();
        if revisions.is_empty() {
            named.remove(name);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl EventType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
            Self::Error => "ERROR",
        }
    }
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub struct WatchEvent {
    pub event: EventType,
    /// Without its `managedFields`.
    pub object: Arc<Value>,
    owners: Arc<Ownership>,
}

impl WatchEvent {
    pub fn of(event: EventType, stored: &Stored) -> Self {
        Self { event, object: Arc::clone(stored), owners: stored.owners.clone() }
    }

    /// About no stored object.
    fn about(event: EventType, object: Value) -> Self {
        Self { event, object: Arc::new(object), owners: Arc::default() }
    }

    /// The object with its `managedFields`.
    pub fn whole(&self) -> Value {
        self.owners.shown_in(&self.object)
    }

    /// A bookmark: nothing changed up to `revision` but what was already told.
    pub fn bookmark(api_version: &str, kind: &str, revision: u64, initial_end: bool) -> Self {
        let mut object = json!({
            "kind": kind, "apiVersion": api_version,
            "metadata": { "resourceVersion": revision.to_string(), "creationTimestamp": null },
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        Self::about(EventType::Bookmark, object)
    }

    pub fn error(refusal: &Refusal) -> Self {
        Self::about(EventType::Error, refusal.body())
    }

    /// The line that is sent.
    pub fn to_value(&self) -> Value {
        json!({ "type": self.event.name(), "object": self.whole() })
    }
}

/// What a watch selects.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Empty means all namespaces.
    pub namespace: String,
    pub selector: Selector,
}

impl Scope {
    pub fn matches(&self, object: &Value) -> bool {
        (self.namespace.is_empty() || object::namespace(object) == self.namespace)
            && self.selector.matches(object)
    }

    /// What a change looks like to a watcher that sees only this scope.
    pub fn event(&self, change: &Change) -> Option<WatchEvent> {
        let before = change.before.as_ref().is_some_and(|object| self.matches(object));
        let after = !change.deleted && self.matches(&change.stored);
        let event = match (before, after) {
            (false, false) => return None,
            (false, true) => EventType::Added,
            (true, true) => EventType::Modified,
            (true, false) => EventType::Deleted,
        };
        Some(WatchEvent::of(event, &change.stored))
    }
}
