//! Drops the fields that a schema does not know, and fills in its defaults.

use super::schema::{Schema, Type};
use serde_json::Value;
use std::fmt;

/// Fields of `metav1.ObjectMeta`; the schema of a custom resource does not list them.
const OBJECT_META: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Prunes a whole object and returns the paths of what was unknown, in the order of the object.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_object(schema, object, Path::Root, &mut unknown);
    unknown
}

/// Where a value stands. It is written out only where something is unknown, which is hardly ever.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, field) => f.write_str(field),
            Self::Field(above, field) => write!(f, "{above}.{field}"),
            Self::Item(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

/// An object with type and metadata: the root, or an embedded resource.
fn prune_object(schema: &Schema, object: &mut Value, path: Path<'_>, unknown: &mut Vec<String>) {
    let Value::Object(map) = object else { return };
    if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
        metadata.retain(|field, _| {
            let known = OBJECT_META.contains(&field.as_str());
            if !known {
                unknown.push(Path::Field(&Path::Field(&path, "metadata"), field).to_string());
            }
            known
        });
    }
    prune_map(schema, object, path, &["apiVersion", "kind", "metadata"], unknown);
}

fn prune_map(
    schema: &Schema,
    value: &mut Value,
    path: Path<'_>,
    keep: &[&str],
    unknown: &mut Vec<String>,
) {
    let Value::Object(map) = value else { return };
    map.retain(|field, value| {
        if keep.contains(&field.as_str()) {
            return true;
        }
        match schema.field(field) {
            Some(schema) => {
                prune_value(schema, value, Path::Field(&path, field), unknown);
                true
            }
            None if schema.preserve_unknown => true,
            None => {
                unknown.push(Path::Field(&path, field).to_string());
                false
            }
        }
    });
}

fn prune_value(schema: &Schema, value: &mut Value, path: Path<'_>, unknown: &mut Vec<String>) {
    match value {
        Value::Object(_) if schema.embedded => prune_object(schema, value, path, unknown),
        Value::Object(_) => prune_map(schema, value, path, &[], unknown),
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return };
            for (index, item) in items.iter_mut().enumerate() {
                prune_value(schema, item, Path::Item(&path, index), unknown);
            }
        }
        _ => {}
    }
}

/// Fills in defaults. A `null` where null is not allowed counts as absent when there is a default.
pub fn default(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, schema) in &schema.properties {
                let Some(default) = &schema.default else { continue };
                let absent = match map.get(name) {
                    None => true,
                    Some(value) => value.is_null() && !schema.nullable,
                };
                if absent {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(schema) = schema.field(name) {
                    default(schema, value);
                }
            }
        }
        Value::Array(items) if schema.kind != Some(Type::Object) => {
            if let Some(schema) = schema.items.as_deref() {
                items.iter_mut().for_each(|item| default(schema, item));
            }
        }
        _ => {}
    }
}
