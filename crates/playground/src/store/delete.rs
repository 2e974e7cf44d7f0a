//! DELETE: preconditions, finalizers, the grace of pods, namespaces that empty first.

use super::call::{Call, DeleteOptions, Propagation};
use super::object::{self, at, metadata, text};
use super::registry::Kind;
use super::stored::Stored;
use super::{Refusal, Response, Store};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::Arc;

/// Set on an owner that stays until what it owns is gone.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Set on an owner whose dependents are let go first.
pub const ORPHAN: &str = "orphan";
/// Set on a definition whose objects go first.
pub const DEFINITION_CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

impl Store {
    pub(super) fn delete(
        &mut self,
        call: &Call,
        options: &DeleteOptions,
    ) -> Result<Response, Refusal> {
        let old = self.target(call)?;
        let left = self.delete_object(call, &old, options)?;
        let body = match left {
            Some(object) => self.present(call, &object),
            None => json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": deleted_details(&call.kind, &old),
            }),
        };
        Ok(Response { status: 200, body })
    }

    pub(super) fn delete_collection(
        &mut self,
        call: &Call,
        options: &DeleteOptions,
    ) -> Result<Response, Refusal> {
        let selector = call.selector()?;
        let namespace = &call.address.namespace;
        let all = self.objects.get(&call.id).into_iter().flat_map(|all| all.values());
        let chosen: Vec<_> = all
            .filter(|object| namespace.is_empty() || object::namespace(object) == namespace)
            .filter(|object| selector.matches(object))
            .cloned()
            .collect();
        for object in &chosen {
            self.delete_object(call, object, options)?;
        }
        let items: Vec<_> = chosen.iter().map(|object| self.present(call, object)).collect();
        let body = json!({
            "kind": call.kind.list_kind, "apiVersion": call.api_version(),
            "metadata": { "resourceVersion": self.revision.to_string() }, "items": items,
        });
        Ok(Response { status: 200, body })
    }

    /// Deletes an object, or marks it for deletion; then it comes back as it is now.
    pub(super) fn delete_object(
        &mut self,
        call: &Call,
        old: &Stored,
        options: &DeleteOptions,
    ) -> Result<Option<Stored>, Refusal> {
        let kind = &call.kind;
        let name = object::name(old).to_owned();
        check_preconditions(kind, old, options)?;
        if kind.is("", "namespaces")
            && matches!(name.as_str(), "default" | "kube-system" | "kube-public")
        {
            return Err(Refusal::forbidden(kind, &name, "this namespace may not be deleted"));
        }
        let mut new = Value::clone(old);
        hold(kind, &mut new, options.propagation);
        let grace = grace(kind, old, options);
        let held = !object::finalizers(&new).is_empty() || grace > 0 || kind.is("", "namespaces");
        if !held {
            self.record(call, "delete", &name, true);
            if !options.dry_run && !call.options.dry_run {
                self.remove(call.id, Value::clone(old), None);
            }
            return Ok(None);
        }
        mark_deleted(kind, old, &mut new, call.now, grace);
        let changed = ***old != new;
        self.record(call, "delete", &name, changed);
        Ok(Some(match changed && !options.dry_run && !call.options.dry_run {
            true => self.commit(call.id, Some(Arc::clone(old)), new, None),
            false => Stored::new(new, old.owners.clone()),
        }))
    }
}

fn deleted_details(kind: &Kind, object: &Value) -> Value {
    let mut details = json!({
        "name": object::name(object), "kind": kind.plural, "uid": object::uid(object),
    });
    if !kind.group.is_empty() {
        details["group"] = Value::from(kind.group.as_str());
    }
    details
}

fn check_preconditions(kind: &Kind, old: &Value, options: &DeleteOptions) -> Result<(), Refusal> {
    for (what, wanted, have) in [
        ("UID", &options.uid, object::uid(old)),
        ("ResourceVersion", &options.resource_version, object::resource_version(old)),
    ] {
        if !wanted.is_empty() && wanted != have {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {have}"
            );
            return Err(Refusal::conflict(kind, object::name(old), &why));
        }
    }
    Ok(())
}

/// Adds the finalizer that the way of deletion asks for.
fn hold(kind: &Kind, object: &mut Value, propagation: Propagation) {
    let finalizer = match propagation {
        Propagation::Foreground => FOREGROUND,
        Propagation::Orphan => ORPHAN,
        Propagation::Background if kind.is("apiextensions.k8s.io", "customresourcedefinitions") => {
            DEFINITION_CLEANUP
        }
        Propagation::Background => return,
    };
    let list = metadata(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Value::Array(list) = list
        && !list.iter().any(|item| item == finalizer)
    {
        list.push(Value::from(finalizer));
    }
}

/// Seconds until the object may go: only pods that run somewhere have any.
fn grace(kind: &Kind, pod: &Value, options: &DeleteOptions) -> i64 {
    let over = matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed");
    if !kind.is_pod() || over || text(pod, &["spec", "nodeName"]).is_empty() {
        return 0;
    }
    let own = at(pod, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    let asked = options.grace.or(own).unwrap_or(30).max(0);
    // A second deletion can shorten the grace, never extend it.
    let running = at(pod, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    running.filter(|_| object::is_terminating(pod)).map_or(asked, |running| asked.min(running))
}

fn mark_deleted(kind: &Kind, old: &Value, new: &mut Value, now: jiff::Timestamp, grace: i64) {
    let running = at(old, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    if object::is_terminating(old) && running == Some(grace) {
        return;
    }
    let since = at(old, &["metadata", "deletionTimestamp"]).cloned();
    let metadata = metadata(new);
    let time = Value::from(object::time(now + SignedDuration::from_secs(grace)));
    // A shorter grace moves the time of a pod; everything else keeps the time of its first deletion.
    let time = since.filter(|_| running.unwrap_or_default() == 0).unwrap_or(time);
    metadata.insert("deletionTimestamp".to_owned(), time);
    metadata.insert("deletionGracePeriodSeconds".to_owned(), Value::from(grace));
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
        metadata.insert("generation".to_owned(), Value::from(generation + 1));
    }
    if kind.is("", "namespaces") {
        new["status"]["phase"] = json!("Terminating");
    }
}
