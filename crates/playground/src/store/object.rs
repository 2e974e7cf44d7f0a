//! Reading and writing the parts of an object that every kind has: type, metadata, times.

use api::wire::field;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// The text at a path of field names; empty where there is none.
pub fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The value at a path of field names.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| field(value.as_object()?, name))
}

pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

pub fn resource_version(object: &Value) -> &str {
    text(object, &["metadata", "resourceVersion"])
}

/// True between a DELETE and the moment when nothing holds the object any more.
pub fn is_terminating(object: &Value) -> bool {
    at(object, &["metadata", "deletionTimestamp"]).is_some_and(|time| !time.is_null())
}

/// The names in `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = at(object, &["metadata", "finalizers"]).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// `metadata` as a map that can be changed; made where it is missing or not a map.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    child(as_map(object), "metadata")
}

/// A field that holds a map; made where it is missing or not a map.
pub fn child<'a>(map: &'a mut Map<String, Value>, field: &str) -> &'a mut Map<String, Value> {
    as_map(map.entry(field).or_insert(Value::Null))
}

/// The value as a map; anything else becomes an empty map first.
pub fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object one line above"),
    }
}

/// Puts `value` at `field`, or takes the field away when there is none.
pub fn put(map: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    match value {
        Some(value) => {
            map.insert(field.to_owned(), value);
        }
        None => {
            map.shift_remove(field);
        }
    }
}

/// Equality of values as `==` means it. Maps that were written alike have their fields in one order, so that a field is
/// hashed only where it is not in the place where the other has it.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().zip(b.iter()).all(|((field, value), (beside, other))| {
                    match field == beside {
                        true => same(value, other),
                        false => b.get(field).is_some_and(|other| same(value, other)),
                    }
                })
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b,
    }
}

/// A time as Kubernetes writes it, in whole seconds.
pub fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_the_same_whatever_the_order_of_their_fields() {
        let one = json!({ "a": 1, "b": [{ "c": null, "d": "x" }] });
        for (other, equal) in [
            (json!({ "b": [{ "d": "x", "c": null }], "a": 1 }), true),
            (json!({ "a": 1, "b": [{ "c": null, "e": "x" }] }), false),
            (json!({ "a": 1, "b": [] }), false),
            (json!({ "a": 1, "z": [{ "c": null, "d": "x" }] }), false),
            (json!({ "a": 1 }), false),
            (json!({ "a": 2, "b": [{ "c": null, "d": "x" }] }), false),
        ] {
            assert_eq!((same(&one, &other), one == other), (equal, equal), "{other}");
        }
    }
}
