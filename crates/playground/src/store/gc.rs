//! The garbage collector, the namespace controller and the cleanup of definitions, as one step that is called by name.

use super::address::Address;
use super::call::{Call, DeleteOptions, Options, Propagation, Reader};
use super::delete::{DEFINITION_CLEANUP, FOREGROUND, ORPHAN};
use super::object::{self, at, text};
use super::registry::KindId;
use super::stored::Stored;
use super::{Store, User};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

static NO_BODY: Value = Value::Null;

/// An object and the kind it is of.
type Found = (KindId, Stored);

impl Store {
    /// Deletes what nobody owns any more, empties namespaces and definitions that are being deleted, and lets go of what
    /// waited for it. Costs nothing when nothing was deleted since the last call. Returns the number of writes.
    pub fn collect_garbage(&mut self, now: Timestamp) -> usize {
        let who = User::control_plane("serviceaccount:kube-system:generic-garbage-collector");
        let before = self.revision;
        while std::mem::take(&mut self.garbage) {
            self.empty_namespaces(now, &who);
            self.empty_definitions(now, &who);
            self.collect_dependents(now, &who);
            self.release_owners(now, &who);
        }
        usize::try_from(self.revision - before).unwrap_or(usize::MAX)
    }

    /// True when the collector has something to look at.
    pub fn has_garbage(&self) -> bool {
        self.garbage
    }

    /// Notes whether a change can make work for the collector.
    pub(super) fn note_garbage(&mut self, before: Option<&Value>, object: &Value, deleted: bool) {
        let owners = |object: &Value| at(object, &["metadata", "ownerReferences"]).cloned();
        let now_owned = owners(object);
        let reowned = now_owned.is_some() && before.and_then(owners) != now_owned;
        self.garbage |= deleted || object::is_terminating(object) || reowned;
    }

    fn everything(&self) -> impl Iterator<Item = (KindId, &Stored)> {
        self.objects.iter().flat_map(|(id, all)| all.values().map(|object| (*id, object)))
    }

    /// A call of the collector on one object.
    fn internal<'a>(
        &self,
        now: Timestamp,
        who: &'a User,
        id: KindId,
        object: &Value,
    ) -> Option<Call<'a>> {
        let kind = self.registry.kind(id)?.clone();
        let address = Address {
            group: kind.group.clone(),
            version: kind.stored_version().to_owned(),
            resource: kind.plural.clone(),
            namespace: object::namespace(object).to_owned(),
            name: object::name(object).to_owned(),
            subresource: String::new(),
        };
        let options =
            Options { manager: "kube-controller-manager".to_owned(), ..Options::default() };
        Some(Call {
            now,
            who,
            id,
            kind,
            address,
            options,
            accept: "",
            body: &NO_BODY,
            reader: Reader::Nobody,
        })
    }

    fn collect(
        &mut self,
        now: Timestamp,
        who: &User,
        (id, object): &Found,
        propagation: Propagation,
    ) {
        let Some(call) = self.internal(now, who, *id, object) else { return };
        let uid = object::uid(object).to_owned();
        let options = DeleteOptions { propagation, uid, ..DeleteOptions::default() };
        // A refusal means that somebody else was faster; the next round looks again.
        let _ = self.delete_object(&call, object, &options);
    }

    fn empty_namespaces(&mut self, now: Timestamp, who: &User) {
        let ending: Vec<_> = self
            .objects("v1", "Namespace")
            .filter(|n| object::is_terminating(n))
            .cloned()
            .collect();
        for namespace in ending {
            let name = object::name(&namespace);
            let inside = |store: &Self| -> Vec<Found> {
                let all =
                    store.everything().filter(|(_, object)| object::namespace(object) == name);
                all.map(|(id, object)| (id, object.clone())).collect()
            };
            for found in inside(self).iter().filter(|(_, object)| !object::is_terminating(object)) {
                self.collect(now, who, found, Propagation::Background);
            }
            if inside(self).is_empty() {
                self.release(now, who, "v1", "Namespace", &namespace, "");
            }
        }
    }

    fn empty_definitions(&mut self, now: Timestamp, who: &User) {
        let ending: Vec<_> = self
            .objects(DEFINITIONS.0, DEFINITIONS.1)
            .filter(|crd| {
                object::finalizers(crd).contains(&DEFINITION_CLEANUP) && object::is_terminating(crd)
            })
            .cloned()
            .collect();
        for crd in ending {
            let (group, plural) =
                (text(&crd, &["spec", "group"]), text(&crd, &["spec", "names", "plural"]));
            let Some(id) = self.registry.find(group, plural).map(|(id, _)| id) else { continue };
            let left = |store: &Self| -> Vec<Found> {
                let all = store.objects.get(&id).into_iter().flat_map(|all| all.values());
                all.map(|object| (id, object.clone())).collect()
            };
            for found in left(self).iter().filter(|(_, object)| !object::is_terminating(object)) {
                self.collect(now, who, found, Propagation::Background);
            }
            if left(self).is_empty() {
                self.release(now, who, DEFINITIONS.0, DEFINITIONS.1, &crd, DEFINITION_CLEANUP);
            }
        }
    }

    /// Deletes objects whose owners are all gone or wait for them, and drops references to owners that are gone.
    fn collect_dependents(&mut self, now: Timestamp, who: &User) {
        let all = || self.everything().map(|(_, object)| object);
        let alive: BTreeSet<&str> = all().map(|object| object::uid(object)).collect();
        let held = |finalizer: &'static str| {
            all().filter(move |o| {
                object::is_terminating(o) && object::finalizers(o).contains(&finalizer)
            })
        };
        let waiting: BTreeSet<&str> = held(FOREGROUND).map(|object| object::uid(object)).collect();
        let orphaning: BTreeSet<&str> = held(ORPHAN).map(|object| object::uid(object)).collect();
        let owning: BTreeSet<&str> =
            all().flat_map(|object| owners(object)).map(|o| text(o, &["uid"])).collect();
        let mut doomed = Vec::new();
        let mut loosened = Vec::new();
        for (id, object) in self.everything().filter(|(_, object)| owners(object).next().is_some())
        {
            let solid = |owner: &&Value| {
                let uid = text(owner, &["uid"]);
                alive.contains(uid) && !waiting.contains(uid) && !orphaning.contains(uid)
            };
            let orphaned = owners(object).any(|owner| orphaning.contains(text(owner, &["uid"])));
            let (kept, lost): (Vec<_>, Vec<_>) = owners(object).partition(solid);
            if lost.is_empty() {
                continue;
            }
            if kept.is_empty() && !orphaned {
                // An owner of others goes in the foreground, too, so that the whole chain is waited for.
                let chained = owning.contains(object::uid(object))
                    && lost.iter().any(|owner| waiting.contains(text(owner, &["uid"])));
                let propagation =
                    if chained { Propagation::Foreground } else { Propagation::Background };
                if !object::is_terminating(object) {
                    doomed.push(((id, object.clone()), propagation));
                }
            } else {
                let kept: Vec<Value> = kept.into_iter().cloned().collect();
                loosened.push(((id, object.clone()), kept));
            }
        }
        for (found, propagation) in doomed {
            self.collect(now, who, &found, propagation);
        }
        for ((id, object), kept) in loosened {
            let kept = (!kept.is_empty()).then_some(Value::Array(kept));
            let mut new = Value::clone(&object);
            object::put(object::metadata(&mut new), "ownerReferences", kept);
            self.rewrite(now, who, id, &object, new);
        }
    }

    /// Takes the finalizer from owners that nobody makes wait any more.
    fn release_owners(&mut self, now: Timestamp, who: &User) {
        let blocking: BTreeSet<String> = self
            .everything()
            .flat_map(|(_, object)| owners(object))
            .filter(|owner| owner["blockOwnerDeletion"] == true)
            .map(|owner| text(owner, &["uid"]).to_owned())
            .collect();
        let mut free = Vec::new();
        for (id, object) in self.everything().filter(|(_, object)| object::is_terminating(object)) {
            let finalizers = object::finalizers(object);
            if finalizers.contains(&ORPHAN) {
                free.push((id, object.clone(), ORPHAN));
            } else if finalizers.contains(&FOREGROUND) && !blocking.contains(object::uid(object)) {
                free.push((id, object.clone(), FOREGROUND));
            }
        }
        for (id, object, finalizer) in free {
            let new = without_finalizer(&object, finalizer);
            self.rewrite(now, who, id, &object, new);
        }
    }

    /// Lets go of an object that was emptied.
    fn release(
        &mut self,
        now: Timestamp,
        who: &User,
        version: &str,
        kind: &str,
        object: &Arc<Value>,
        finalizer: &str,
    ) {
        let Some((id, _)) = self.registry.find_kind(version, kind) else { return };
        let new = without_finalizer(object, finalizer);
        self.rewrite(now, who, id, object, new);
    }

    /// Stores what the collector changed, or removes the object when nothing holds it.
    fn rewrite(&mut self, now: Timestamp, who: &User, id: KindId, old: &Arc<Value>, new: Value) {
        let Some(call) = self.internal(now, who, id, old) else { return };
        let gone = object::is_terminating(&new)
            && object::finalizers(&new).is_empty()
            && !call.kind.is_pod();
        if **old == new && !gone {
            return;
        }
        self.record(&call, if gone { "delete" } else { "update" }, object::name(old), true);
        match gone {
            true => self.remove(id, new, None),
            false => self.commit(id, Some(old.clone()), new, None),
        };
    }
}

const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    at(object, &["metadata", "ownerReferences"]).and_then(Value::as_array).into_iter().flatten()
}

fn without_finalizer(object: &Value, finalizer: &str) -> Value {
    let mut new = object.clone();
    let metadata = object::metadata(&mut new);
    if let Some(Value::Array(list)) = metadata.get_mut("finalizers") {
        list.retain(|item| item != finalizer);
        if list.is_empty() {
            metadata.shift_remove("finalizers");
        }
    }
    new
}
