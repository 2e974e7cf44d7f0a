//! Watches: a cursor with a scope, polled by whoever holds it.

use super::call::Call;
use super::log::{Scope, WatchEvent};
use super::object;
use super::registry::KindId;
use super::tables::{self, Form};
use super::{EventType, Refusal, Store, User};
use api::wire::{Request, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Objects of one kind: all of them, or those of one name. A server with many watches wakes only those of the topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    kind: KindId,
    /// Empty means every name.
    name: String,
}

/// A watch: what it selects and how far it has seen.
#[derive(Debug, Clone)]
pub struct Watch {
    kind: KindId,
    api_version: String,
    kind_name: String,
    scope: Scope,
    form: Form,
    include_object: String,
    version: String,
    from: u64,
    /// The objects that exist are told first, as ADDED.
    initial: bool,
    /// After them a bookmark says that they are complete (`sendInitialEvents`).
    initial_end: bool,
    /// The client can read bookmarks.
    pub bookmarks: bool,
    ended: bool,
}

impl Watch {
    /// True after an error event: nothing more will come, the client must list again.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// What has to change before there can be news for this watch.
    pub fn topic(&self) -> Topic {
        Topic { kind: self.kind, name: self.scope.selector.name().unwrap_or_default().to_owned() }
    }

    /// The revision up to which everything was told.
    pub fn seen(&self) -> u64 {
        self.from
    }
}

impl Store {
    /// Starts a watch. An expired `resourceVersion` is told by the first poll, as the real server tells it in the stream.
    pub fn watch(
        &mut self,
        now: Timestamp,
        who: &User,
        request: &Request,
    ) -> Result<Watch, Response> {
        let call = self.call(now, who, request).map_err(|refusal| refusal.response())?;
        let attributes = Self::attributes(&call, "watch");
        self.authorize(who, &attributes).map_err(|refusal| refusal.response())?;
        self.start_watch(&call).map_err(|refusal| refusal.response())
    }

    fn start_watch(&self, call: &Call) -> Result<Watch, Refusal> {
        let asked = call.options.resource_version.as_str();
        let from = match asked {
            "" | "0" => self.revision,
            text => text.parse().map_err(|_| {
                Refusal::bad_request(format!(
                    "invalid resource version {text:?}: it is not a number"
                ))
            })?,
        };
        let fresh = matches!(asked, "" | "0") || call.options.initial_events;
        Ok(Watch {
            kind: call.id,
            api_version: call.api_version(),
            kind_name: call.kind.kind.clone(),
            scope: Scope { namespace: call.address.namespace.clone(), selector: call.selector()? },
            form: Form::of(call.accept),
            include_object: call.options.include_object.clone(),
            version: call.address.version.clone(),
            from,
            initial: fresh,
            initial_end: call.options.initial_events && call.options.bookmarks,
            bookmarks: call.options.bookmarks,
            ended: false,
        })
    }

    /// The topics of every change after `revision`: of its kind, and of its name in it.
    pub fn topics_since(&self, revision: u64) -> BTreeSet<Topic> {
        let mut topics = BTreeSet::new();
        for (kind, object) in self.log.changed_since(revision) {
            topics.insert(Topic { kind, name: String::new() });
            topics.insert(Topic { kind, name: object::name(object).to_owned() });
        }
        topics
    }

    /// What happened since the last poll, in order.
    pub fn poll(&self, watch: &mut Watch) -> Vec<WatchEvent> {
        if watch.ended {
            return Vec::new();
        }
        if watch.initial {
            return self.first_events(watch);
        }
        let horizon = self.log.horizon(watch.kind);
        if watch.from < horizon {
            watch.ended = true;
            return vec![WatchEvent::error(&Refusal::expired(watch.from, horizon))];
        }
        let event = |change| watch.scope.event(change);
        let events = match watch.scope.selector.name() {
            Some(name) => {
                self.log.since_of(watch.kind, name, watch.from).filter_map(event).collect()
            }
            None => self.log.since(watch.kind, watch.from).filter_map(event).collect(),
        };
        watch.from = watch.from.max(self.revision);
        events
    }

    fn first_events(&self, watch: &mut Watch) -> Vec<WatchEvent> {
        watch.initial = false;
        watch.from = self.revision;
        let all = self.objects.get(&watch.kind);
        let objects = all.into_iter().flat_map(|all| all.values());
        let mut events: Vec<_> = objects
            .filter(|object| watch.scope.matches(object))
            .map(|stored| WatchEvent::of(EventType::Added, stored))
            .collect();
        if watch.initial_end {
            events.push(self.bookmark_of(watch, true));
        }
        events
    }

    /// The bookmark that a server sends from time to time to a client that asked for bookmarks.
    pub fn bookmark(&self, watch: &Watch) -> WatchEvent {
        self.bookmark_of(watch, false)
    }

    /// An event as it is sent: in the form and version that the client asked for.
    pub fn line(&self, watch: &Watch, event: &WatchEvent, now: Timestamp) -> Value {
        let mut object = event.whole();
        let Some(kind) = self.registry.kind(watch.kind) else { return event.to_value() };
        if event.event == EventType::Error {
            return event.to_value();
        }
        object["apiVersion"] = Value::from(watch.api_version.as_str());
        let version = Value::from(object::resource_version(&object));
        let object = match watch.form {
            Form::Whole => object,
            Form::Metadata | Form::MetadataList => tables::partial(&object),
            Form::Table => {
                let metadata = json!({ "resourceVersion": version });
                let include = &watch.include_object;
                // A bookmark is a row without an object's cells.
                tables::table(kind, &watch.version, &[object], metadata, include, now)
            }
        };
        json!({ "type": event.event.name(), "object": object })
    }

    fn bookmark_of(&self, watch: &Watch, initial_end: bool) -> WatchEvent {
        WatchEvent::bookmark(&watch.api_version, &watch.kind_name, watch.from, initial_end)
    }
}
