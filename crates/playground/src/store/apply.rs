//! Server-side apply: merges what a manager wants into the object, refuses what others own, drops what it let go.

use super::call::{Call, Validation};
use super::fields::{Difference, FieldSet, strip};
use super::object::{self, as_map};
use super::ownership::{Manager, Owned, Ownership};
use super::shape::{ListKind, Shape};
use super::stored::Stored;
use super::write::{self, Booking};
use super::{Refusal, Response, Store, pruning};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Store {
    pub(super) fn apply(&mut self, call: &Call) -> Result<Response, Refusal> {
        if call.options.manager.is_empty() {
            let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
            return Err(Refusal {
                code: 422,
                reason: "Invalid",
                message: message.to_owned(),
                details: Value::Null,
            });
        }
        let wanted = self.read_applied(call)?;
        let target = self.target(call);
        let live = match &target {
            Ok(live) => live.clone(),
            Err(_) if !call.is_status() => {
                // An apply that creates needs both rights.
                self.authorize(call.who, &Self::attributes(call, "create"))?;
                Stored::new(empty(call), Arc::default())
            }
            Err(refusal) => return Err(refusal.clone()),
        };
        let (object, booking) = merge_owned(call, &live, &wanted)?;
        let (status, stored) = match target.is_ok() {
            true => (200, self.update_object(call, live, object, "apply", booking)?),
            false => (201, self.create_object(call, object, "apply", booking)?),
        };
        Ok(Response { status, body: self.present(call, &stored) })
    }

    /// The applied object, with the fields that this path can write and the schema knows.
    fn read_applied(&mut self, call: &Call) -> Result<Value, Refusal> {
        let mut wanted = call.body.clone();
        write::check_type(call, &mut wanted)?;
        let metadata = object::metadata(&mut wanted);
        if metadata.get("managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        metadata.insert("name".to_owned(), Value::from(call.address.name.as_str()));
        let map = as_map(&mut wanted);
        if call.is_status() {
            let open = !call.kind.custom;
            map.retain(|field, _| match field.as_str() {
                "apiVersion" | "kind" | "status" => true,
                "metadata" => open,
                _ => false,
            });
        } else if call.kind.has_status {
            map.shift_remove("status");
        }
        if let Some(schema) = call.schema() {
            let unknown = pruning::prune(schema, &mut wanted);
            if let Some(first) =
                unknown.first().filter(|_| call.options.validation != Validation::Ignore)
            {
                return Err(not_declared(call, first));
            }
        }
        Ok(wanted)
    }
}

/// An object that does not exist yet.
fn empty(call: &Call) -> Value {
    json!({ "apiVersion": call.api_version(), "kind": call.kind.kind, "metadata": {} })
}

fn not_declared(call: &Call, path: &str) -> Refusal {
    let name = match call.address.namespace.as_str() {
        "" => format!("/{}", call.address.name),
        namespace => format!("{namespace}/{}", call.address.name),
    };
    let mut refusal = Refusal::internal(format!(
        "failed to create typed patch object ({name}; {}, Kind={}): .{path}: field not declared in schema",
        call.api_version(),
        call.kind.kind
    ));
    refusal.reason = "";
    refusal
}

/// The object after the apply, and who owns what in it.
fn merge_owned(call: &Call, live: &Stored, wanted: &Value) -> Result<(Value, Booking), Refusal> {
    let shape = call.shape();
    let manager = Manager::of(call, "Apply");
    let fields = FieldSet::of(&strip(wanted), shape);
    // An apply of the same fields lets go of nothing.
    let last = live.owners.managers.get(&manager).cloned();
    if last.as_ref().is_some_and(|owned| owned.fields == fields) {
        let object = merge(live, wanted, shape, &mut Vec::new());
        if live.owners.stands(&manager, &Difference::between(live, &object, shape)) {
            return Ok((object, Booking::Same));
        }
    }
    let mut ownership = Ownership::clone(&live.owners);
    let time = match &last {
        Some(owned) if owned.fields == fields => owned.time.clone(),
        _ => object::time(call.now),
    };
    ownership.managers.insert(manager.clone(), Owned { fields, time });

    let mut object = merge(live, wanted, shape, &mut Vec::new());
    if let Some(last) = last {
        let kept = ownership.all();
        remove(&mut object, &last.fields, Some(&kept), shape, &mut Vec::new());
    }
    let difference = Difference::between(live, &object, shape);
    let changed = difference.changed();
    let conflicts = conflicts(&ownership, &manager, &changed);
    if !conflicts.is_empty() && !call.options.force {
        return Err(conflict(&conflicts));
    }
    ownership.lose(&manager, &changed, &difference.removed);
    if ownership.managers.get(&manager).is_some_and(|owned| owned.fields.is_empty()) {
        ownership.managers.remove(&manager);
    }
    Ok((object, Booking::Applied(ownership)))
}

fn conflicts<'a>(
    ownership: &'a Ownership,
    applying: &Manager,
    changed: &FieldSet,
) -> Vec<(&'a Manager, String)> {
    let others = ownership.managers.iter().filter(|(manager, _)| *manager != applying);
    others
        .flat_map(|(manager, owned)| {
            owned.fields.common(changed).paths().into_iter().map(move |path| (manager, path))
        })
        .collect()
}

fn conflict(conflicts: &[(&Manager, String)]) -> Refusal {
    let causes = conflicts.iter().map(|(manager, path)| {
        json!({
            "reason": "FieldManagerConflict",
            "message": format!("conflict with {}", manager.shown()), "field": path,
        })
    });
    let message = match conflicts {
        [(manager, path)] => {
            format!("Apply failed with 1 conflict: conflict with {}: {path}", manager.shown())
        }
        many => {
            let mut by_manager: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (manager, path) in many {
                by_manager.entry(manager.shown()).or_default().push(path);
            }
            let lines: Vec<_> = by_manager
                .iter()
                .map(|(manager, paths)| {
                    format!("conflicts with {manager}:\n- {}", paths.join("\n- "))
                })
                .collect();
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    Refusal::apply_conflict(message, causes.collect())
}

/// What is wanted over what is there, list items by their keys.
fn merge<'a>(live: &'a Value, wanted: &'a Value, shape: Shape, path: &mut Vec<&'a str>) -> Value {
    match (live, wanted) {
        (Value::Object(old), Value::Object(new)) if !shape.is_atomic_map(path) => {
            let mut merged = old.clone();
            for (field, value) in new {
                path.push(field);
                let value = merge(old.get(field).unwrap_or(&Value::Null), value, shape, path);
                path.pop();
                merged.insert(field.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(old), Value::Array(new)) => match shape.list(path) {
            ListKind::Atomic => wanted.clone(),
            list => Value::Array(merge_items(&list, old, new, shape, path)),
        },
        _ => wanted.clone(),
    }
}

fn merge_items<'a>(
    list: &ListKind,
    old: &'a [Value],
    new: &'a [Value],
    shape: Shape,
    path: &mut Vec<&'a str>,
) -> Vec<Value> {
    let element = |(index, item): (usize, &'a Value)| (list.element(item, index), item);
    let mut added: Map<String, Value> = Map::new();
    let new: BTreeMap<_, _> = new
        .iter()
        .enumerate()
        .map(element)
        .inspect(|(key, item)| {
            added.insert(key.clone(), (*item).clone());
        })
        .collect();
    let mut items = Vec::with_capacity(old.len());
    for (key, item) in old.iter().enumerate().map(element) {
        added.shift_remove(&key);
        items.push(match new.get(&key) {
            Some(wanted) => merge(item, wanted, shape, path),
            None => item.clone(),
        });
    }
    items.extend(added.into_iter().map(|(_, item)| item));
    items
}

/// Takes out of `value` what is in `last` and not in `kept`.
fn remove<'a>(
    value: &mut Value,
    last: &'a FieldSet,
    kept: Option<&FieldSet>,
    shape: Shape,
    path: &mut Vec<&'a str>,
) {
    let list = shape.list(path);
    for (element, last) in &last.children {
        let kept = kept.and_then(|kept| kept.children.get(element));
        let is_field = element.strip_prefix("f:");
        if kept.is_none() && last.owned {
            take(value, element, &list);
            continue;
        }
        if let Some(field) = is_field {
            path.push(field);
        }
        let found = find(value, element, &list);
        if let Some(inner) = found {
            let was_empty = is_empty(inner);
            remove(inner, last, kept, shape, path);
            if !was_empty && is_empty(inner) && kept.is_none() {
                take(value, element, &list);
            }
        }
        if is_field.is_some() {
            path.pop();
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn find<'a>(value: &'a mut Value, element: &str, list: &ListKind) -> Option<&'a mut Value> {
    match (value, element.strip_prefix("f:")) {
        (Value::Object(map), Some(field)) => map.get_mut(field),
        (Value::Array(items), None) => {
            let at = (0..items.len()).find(|&at| list.element(&items[at], at) == element)?;
            items.get_mut(at)
        }
        _ => None,
    }
}

fn take(value: &mut Value, element: &str, list: &ListKind) {
    match (value, element.strip_prefix("f:")) {
        (Value::Object(map), Some(field)) => {
            map.shift_remove(field);
        }
        (Value::Array(items), None) => {
            let at = (0..items.len()).find(|&at| list.element(&items[at], at) == element);
            if let Some(at) = at {
                items.remove(at);
            }
        }
        _ => {}
    }
}
