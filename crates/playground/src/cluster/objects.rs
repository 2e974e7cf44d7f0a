//! Reading the store's objects as the built-in controllers do: always fresh, never through a cache.

use api::wire::at;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a built-in controller can see.
pub trait Objects {
    /// Every object of a kind, in order of namespace and name.
    fn list(&self, api_version: &str, kind: &str) -> Vec<Arc<Value>>;
    fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str)
    -> Option<Arc<Value>>;
}

/// Text at a JSON pointer, or `""`.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Number at a JSON pointer, or 0.
pub fn number(object: &Value, pointer: &str) -> i64 {
    at(object, pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// Elements at a JSON pointer, or none.
pub fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Entries at a JSON pointer whose values are text.
pub fn texts<'a>(object: &'a Value, pointer: &str) -> BTreeMap<&'a str, &'a str> {
    let entries = at(object, pointer).and_then(Value::as_object);
    entries.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))).collect()
}

pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// True once somebody asked for the object's deletion.
pub fn is_deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// True when the object's controller is the one with this uid.
pub fn is_controlled_by(object: &Value, owner_uid: &str) -> bool {
    items(object, "/metadata/ownerReferences")
        .iter()
        .any(|owner| owner["controller"] == true && owner["uid"] == owner_uid)
}

/// An owner reference that makes `owner` the controller.
pub fn controlled_by(owner: &Value) -> Value {
    json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    }])
}

/// Status of a condition of the object, or `""`.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let found = items(object, "/status/conditions").iter().find(|c| c["type"] == kind);
    found.map(|c| text(c, "/status")).unwrap_or_default()
}

/// True for a pod that runs no more.
pub fn is_finished(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// True when `labels` satisfies a `matchLabels` and `matchExpressions` selector.
pub fn selects(selector: &Value, labels: &BTreeMap<&str, &str>) -> bool {
    let equal = texts(selector, "/matchLabels");
    equal.iter().all(|(key, value)| labels.get(key) == Some(value))
        && items(selector, "/matchExpressions").iter().all(|expression| holds(expression, labels))
}

/// One `{key, operator, values}`.
pub fn holds(expression: &Value, labels: &BTreeMap<&str, &str>) -> bool {
    let found = labels.get(text(expression, "/key"));
    let listed = |value: &&&str| items(expression, "/values").iter().any(|v| v == **value);
    match text(expression, "/operator") {
        "In" => found.as_ref().is_some_and(listed),
        "NotIn" => !found.as_ref().is_some_and(listed),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        _ => false,
    }
}

/// A quantity as Kubernetes writes it, in thousandths: `100m` is 100, `2` is 2000, `1Gi` is 1073741824000.
pub fn quantity(value: &Value) -> i64 {
    let owned;
    let text = match value {
        Value::String(text) => text.as_str(),
        Value::Number(number) => {
            owned = number.to_string();
            &owned
        }
        _ => return 0,
    };
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let scale: i64 = match unit {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return 0,
    };
    let number: f64 = digits.parse().unwrap_or(0.0);
    (number * scale as f64) as i64
}

/// What a pod asks for: the larger of the sum of its containers and each init container, in thousandths.
pub fn requests(pod: &Value) -> BTreeMap<String, i64> {
    let of = |container: &Value| -> BTreeMap<String, i64> {
        let mut asked = BTreeMap::new();
        // A limit without a request is also the request.
        for section in ["/resources/limits", "/resources/requests"] {
            let entries = at(container, section).and_then(Value::as_object);
            for (resource, amount) in entries.into_iter().flatten() {
                asked.insert(resource.clone(), quantity(amount));
            }
        }
        asked
    };
    let mut sum: BTreeMap<String, i64> = BTreeMap::new();
    for container in items(pod, "/spec/containers") {
        for (resource, amount) in of(container) {
            *sum.entry(resource).or_default() += amount;
        }
    }
    for container in items(pod, "/spec/initContainers") {
        for (resource, amount) in of(container) {
            let entry = sum.entry(resource).or_default();
            *entry = (*entry).max(amount);
        }
    }
    sum
}

/// A condition list with one condition set; `None` when it stood so already.
pub fn with_condition(
    object: &Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: api::Timestamp,
) -> Option<Vec<Value>> {
    let mut conditions = items(object, "/status/conditions").to_vec();
    let wanted = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": now,
    });
    let Some(found) = conditions.iter_mut().find(|c| c["type"] == kind) else {
        conditions.push(wanted);
        return Some(conditions);
    };
    let same = |key: &str| text(found, key) == text(&wanted, key);
    if same("/status") && same("/reason") && same("/message") {
        return None;
    }
    let since = match same("/status") {
        true => found["lastTransitionTime"].clone(),
        false => wanted["lastTransitionTime"].clone(),
    };
    *found = wanted;
    found["lastTransitionTime"] = since;
    Some(conditions)
}

/// Puts `value` below nested keys, making the objects on the way.
pub fn put(object: &mut Value, path: &[&str], value: Value) {
    let mut at = object;
    for key in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[*key];
    }
    *at = value;
}

pub fn name_of_container(container: &Value) -> &str {
    text(container, "/name")
}
