//! Strategic merge patch: a merge patch that knows how the lists of built-in kinds merge, and a few directives.

use super::object::text;
use super::refusal::Refusal;
use super::shape::{ListKind, Shape};
use serde_json::{Map, Value};

/// The object after the patch.
pub fn patched(object: &Value, patch: &Value) -> Result<Value, Refusal> {
    let (Value::Object(old), Value::Object(patch)) = (object, patch) else {
        return Err(Refusal::bad_request(
            "error decoding patch: a strategic merge patch is an object",
        ));
    };
    Ok(Value::Object(merge_map(old, patch, &mut Vec::new())?))
}

fn merge_map<'a>(
    old: &Map<String, Value>,
    patch: &'a Map<String, Value>,
    path: &mut Vec<&'a str>,
) -> Result<Map<String, Value>, Refusal> {
    match patch.get("$patch").and_then(Value::as_str) {
        None | Some("merge") => {}
        Some("replace") => return Ok(without_directives(patch)),
        Some("delete") => return Ok(Map::new()),
        Some(other) => return Err(unknown_directive(other, path)),
    }
    let mut merged = old.clone();
    if let Some(Value::Array(keys)) = patch.get("$retainKeys") {
        merged.retain(|field, _| keys.iter().any(|key| key == field));
    }
    for (field, wanted) in patch {
        if let Some(field) = field.strip_prefix("$deleteFromPrimitiveList/") {
            delete_items(&mut merged, field, wanted);
        }
    }
    for (field, wanted) in patch.iter().filter(|(field, _)| !field.starts_with('$')) {
        path.push(field);
        let value = merge_value(merged.get(field), wanted, path)?;
        path.pop();
        super::object::put(&mut merged, field, value);
    }
    for (field, order) in patch {
        if let Some(field) = field.strip_prefix("$setElementOrder/") {
            path.push(field);
            order_items(&mut merged, field, order, path);
            path.pop();
        }
    }
    Ok(merged)
}

/// A field after the patch; `None` when the patch takes it away.
fn merge_value<'a>(
    old: Option<&Value>,
    wanted: &'a Value,
    path: &mut Vec<&'a str>,
) -> Result<Option<Value>, Refusal> {
    Ok(match (old, wanted) {
        (_, Value::Null) => None,
        (_, Value::Object(patch)) if text(wanted, &["$patch"]) == "delete" && patch.len() == 1 => {
            None
        }
        (Some(Value::Object(old)), Value::Object(patch)) => {
            Some(Value::Object(merge_map(old, patch, path)?))
        }
        (_, Value::Object(patch)) => Some(Value::Object(merge_map(&Map::new(), patch, path)?)),
        (old, Value::Array(patch)) => {
            let old = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            Some(Value::Array(merge_list(old, patch, path)?))
        }
        (_, scalar) => Some(scalar.clone()),
    })
}

fn merge_list<'a>(
    old: &[Value],
    patch: &'a [Value],
    path: &mut Vec<&'a str>,
) -> Result<Vec<Value>, Refusal> {
    let list = Shape::BuiltIn.list(path);
    let is_directive = |item: &&Value| text(item, &["$patch"]) == "replace";
    if list == ListKind::Atomic || patch.iter().any(|item| is_directive(&item)) {
        return Ok(patch.iter().filter(|item| !is_directive(item)).cloned().collect());
    }
    let mut merged = old.to_vec();
    for wanted in patch {
        let key = merge_key(&list, wanted, path)?;
        let at = merged.iter().position(|item| item_key(&list, item).as_ref() == Some(&key));
        match (at, wanted) {
            (Some(at), Value::Object(_)) if text(wanted, &["$patch"]) == "delete" => {
                merged.remove(at);
            }
            (None, Value::Object(_)) if text(wanted, &["$patch"]) == "delete" => {}
            (Some(at), Value::Object(map)) => {
                if let Value::Object(old) = &merged[at] {
                    merged[at] = Value::Object(merge_map(old, map, path)?);
                }
            }
            (Some(_), _) => {}
            (None, Value::Object(map)) => {
                merged.push(Value::Object(merge_map(&Map::new(), map, path)?));
            }
            (None, scalar) => merged.push(scalar.clone()),
        }
    }
    Ok(merged)
}

/// The value that tells an item from the others: strategic merge looks at the first key only.
fn item_key(list: &ListKind, item: &Value) -> Option<Value> {
    match list {
        ListKind::Map(keys) => item.get(keys.first()?).cloned(),
        ListKind::Set => Some(item.clone()),
        ListKind::Atomic => None,
    }
}

fn merge_key(list: &ListKind, item: &Value, path: &[&str]) -> Result<Value, Refusal> {
    item_key(list, item).ok_or_else(|| {
        let key = match list {
            ListKind::Map(keys) => keys.first().cloned().unwrap_or_default(),
            ListKind::Set | ListKind::Atomic => String::new(),
        };
        Refusal::bad_request(format!(
            "map: {item} does not contain declared merge key: {key} (in {})",
            path.join(".")
        ))
    })
}

fn delete_items(merged: &mut Map<String, Value>, field: &str, unwanted: &Value) {
    let unwanted = unwanted.as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(Value::Array(items)) = merged.get_mut(field) {
        items.retain(|item| !unwanted.contains(item));
    }
}

/// Puts the items that the order names first, in that order; the others keep theirs.
fn order_items(merged: &mut Map<String, Value>, field: &str, order: &Value, path: &[&str]) {
    let list = Shape::BuiltIn.list(path);
    let order: Vec<_> =
        order.as_array().into_iter().flatten().map(|item| item_key(&list, item)).collect();
    if let Some(Value::Array(items)) = merged.get_mut(field) {
        items.sort_by_key(|item| {
            let key = item_key(&list, item);
            order.iter().position(|wanted| *wanted == key).unwrap_or(usize::MAX)
        });
    }
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    let kept = patch.iter().filter(|(field, _)| !field.starts_with('$'));
    kept.map(|(field, value)| (field.clone(), value.clone())).collect()
}

fn unknown_directive(directive: &str, path: &[&str]) -> Refusal {
    Refusal::bad_request(format!("unknown patch directive {directive:?} at {:?}", path.join(".")))
}
