//! Our processes inside the simulation: the same steps as in production, with the store called directly.

use crate::store::{Store, User, Watch, WatchEvent};
use api::Timestamp;
use api::wire::{Method, Request};
use serde_json::Value;
use std::sync::Arc;

/// One list-and-watch of a process.
#[derive(Debug)]
pub struct Informer {
    path: String,
    kind_name: &'static str,
    /// The one object that it asks for; empty for all.
    named: String,
    /// Row in the process's own table of kinds.
    pub kind: usize,
    watch: Option<Watch>,
    /// A delivery is in the queue already.
    pub scheduled: bool,
}

/// What a delivery brought.
#[derive(Debug, Clone)]
pub enum News {
    Listed(Vec<Arc<Value>>),
    Events(Vec<WatchEvent>),
}

impl Informer {
    pub fn new(kind: usize, kind_name: &'static str, path: String, named: &str) -> Self {
        Self { path, kind_name, named: named.to_owned(), kind, watch: None, scheduled: false }
    }

    /// Kind and name of the objects that it asks for; an empty name is all of them.
    pub fn interest(&self) -> (String, String) {
        (self.kind_name.to_owned(), self.named.clone())
    }

    fn request(&self) -> Request {
        let request = Request::new(Method::Get, self.path.clone());
        match self.named.is_empty() {
            true => request,
            false => request.with_query("fieldSelector", format!("metadata.name={}", self.named)),
        }
    }

    /// The events since the last delivery, or a whole list where the watch has to begin anew.
    pub fn deliver(&mut self, store: &mut Store, who: &User, now: Timestamp) -> Option<News> {
        self.scheduled = false;
        if let Some(watch) = &mut self.watch {
            let events = store.poll(watch);
            if !watch.has_ended() {
                return (!events.is_empty()).then_some(News::Events(events));
            }
        }
        let (objects, revision) = store.snapshot(now, who, &self.request()).ok()?;
        let watch = self.request().with_query("watch", "true");
        let watch = watch.with_query("resourceVersion", revision.to_string());
        self.watch = store.watch(now, who, &watch).ok();
        Some(News::Listed(objects))
    }

    /// False until a list was answered: then only is anything told by itself.
    pub fn is_listed(&self) -> bool {
        self.watch.is_some()
    }

    /// The connection breaks: what it would have told is lost, the next delivery lists again.
    pub fn lose(&mut self) {
        self.watch = None;
    }
}
