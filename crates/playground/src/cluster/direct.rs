//! The API as the built-in parts reach it where there is no socket in between: straight into the store.

use super::cluster::Api;
use super::objects::Objects;
use crate::store::{Reader, Store, User};
use api::Timestamp;
use api::wire::{Answer, ObjectKey, Write};
use serde_json::Value;
use std::sync::Arc;

/// A store at a moment.
pub struct Direct<'a> {
    pub store: &'a mut Store,
    pub now: Timestamp,
}

impl Objects for Direct<'_> {
    fn list(&self, api_version: &str, kind: &str) -> Vec<Arc<Value>> {
        self.store.objects(api_version, kind).cloned().collect()
    }

    fn get(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        self.store.object(&ObjectKey::new(api_version, kind, namespace, name)).cloned()
    }
}

impl Api for Direct<'_> {
    fn write(&mut self, user: &str, write: &Write) -> Answer {
        let who = User::new(user, &["system:masters", "system:authenticated"]);
        let manager = user.rsplit(':').next().unwrap_or(user);
        let mut request = write.request(manager);
        // A binding is a subresource of the pod that it names.
        if let Write::Create { object } = write
            && object["kind"] == "Binding"
        {
            let key = ObjectKey { kind: "Pod".to_owned(), ..ObjectKey::of(object) };
            request.path = format!("{}/binding", key.path());
        }
        // A kubelet deletes a pod when it has ended: nothing is waited for any more.
        if user.starts_with("system:node:") && matches!(write, Write::Delete { .. }) {
            request.body["gracePeriodSeconds"] = 0.into();
        }
        Answer::of(self.store.handle_for(Reader::Nobody, self.now, &who, &request))
    }

    fn changes(&self, revision: u64) -> (u64, Option<Vec<Arc<Value>>>) {
        (self.store.revision(), self.store.changes_since(revision))
    }

    fn tidy(&mut self) -> bool {
        let before = self.store.revision();
        self.store.collect_garbage(self.now);
        self.store.revision() != before
    }
}
