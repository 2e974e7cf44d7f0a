//! How lists and maps merge: by key, as a set, or as a whole; for custom resources from their schema, for built-in
//! kinds from a small table.
//!
//! Server-side apply, field ownership and strategic merge patch all ask here.

use super::object::text;
use super::schema::Schema;
use serde_json::{Map, Value};

/// How the items of a list are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListKind {
    /// The list is one value.
    #[default]
    Atomic,
    /// The items are scalars, each at most once.
    Set,
    /// The items are objects, told apart by these fields.
    Map(Vec<String>),
}

impl ListKind {
    pub fn of_schema(schema: &Value) -> Self {
        match text(schema, &["x-kubernetes-list-type"]) {
            "set" => Self::Set,
            "map" => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                Self::Map(keys.map(str::to_owned).collect())
            }
            _ => Self::Atomic,
        }
    }

    fn by(keys: &[&str]) -> Self {
        Self::Map(keys.iter().map(|&key| key.to_owned()).collect())
    }

    /// The path element of an item, as FieldsV1 writes it: `k:{"name":"a"}`, `v:"a"`, `i:0`.
    pub fn element(&self, item: &Value, index: usize) -> String {
        match self {
            Self::Atomic => format!("i:{index}"),
            Self::Set => format!("v:{item}"),
            Self::Map(keys) => {
                let mut map = Map::new();
                // FieldsV1 sorts the keys by name.
                let mut sorted: Vec<_> = keys.iter().collect();
                sorted.sort();
                for key in sorted {
                    // A key that is left out has its default; `protocol` is the only one among the built-in kinds.
                    let value = match item.get(key) {
                        Some(value) => value.clone(),
                        None if key == "protocol" => Value::from("TCP"),
                        None => continue,
                    };
                    map.insert(key.clone(), value);
                }
                format!("k:{}", Value::Object(map))
            }
        }
    }
}

/// The merge rules of one kind.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'a> {
    BuiltIn,
    Custom(&'a Schema),
}

impl Shape<'_> {
    /// How the list at `path` merges; the path names fields only, items are not in it.
    pub fn list(&self, path: &[&str]) -> ListKind {
        if let ["metadata", field] = path {
            return match *field {
                "ownerReferences" => ListKind::by(&["uid"]),
                "finalizers" => ListKind::Set,
                _ => ListKind::Atomic,
            };
        }
        match self {
            Self::BuiltIn => built_in_list(path),
            Self::Custom(schema) => {
                walk(schema, path).map_or(ListKind::Atomic, |schema| schema.list.clone())
            }
        }
    }

    /// True when the type of the map above declares the last field of `path`; false for the keys of a free map.
    pub fn is_declared(&self, path: &[&str]) -> bool {
        match (self, path) {
            (_, ["metadata", ..]) | (Self::BuiltIn, _) => true,
            (Self::Custom(schema), [above @ .., field]) => {
                let above = walk(schema, above);
                let above = above.map(|schema| schema.items.as_deref().unwrap_or(schema));
                above.is_some_and(|schema| schema.properties.contains_key(*field))
            }
            (Self::Custom(_), []) => true,
        }
    }

    /// True when the map at `path` is owned as one value.
    pub fn is_atomic_map(&self, path: &[&str]) -> bool {
        match self {
            Self::BuiltIn => built_in_atomic_map(path),
            Self::Custom(schema) => walk(schema, path).is_some_and(|schema| schema.atomic_map),
        }
    }
}

/// The schema at a path of field names, going through the items of lists.
fn walk<'a>(schema: &'a Schema, path: &[&str]) -> Option<&'a Schema> {
    path.iter().try_fold(schema, |schema, field| {
        let schema = schema.items.as_deref().unwrap_or(schema);
        schema.field(field)
    })
}

/// The lists of built-in kinds that do not merge as a whole (`listType` of the API's Go types).
fn built_in_list(path: &[&str]) -> ListKind {
    match path {
        [.., "containers" | "initContainers" | "ephemeralContainers", "ports"] => {
            ListKind::by(&["containerPort", "protocol"])
        }
        ["spec", "ports"] => ListKind::by(&["port", "protocol"]),
        [.., "containers" | "initContainers" | "ephemeralContainers"]
        | [.., "env" | "volumes" | "imagePullSecrets"] => ListKind::by(&["name"]),
        ["webhooks"] => ListKind::by(&["name"]),
        [.., "volumeMounts"] => ListKind::by(&["mountPath"]),
        [.., "volumeDevices"] => ListKind::by(&["devicePath"]),
        [.., "hostAliases"] => ListKind::by(&["ip"]),
        [.., "topologySpreadConstraints"] => ListKind::by(&["topologyKey", "whenUnsatisfiable"]),
        [.., "resources", "claims"] | [.., "resourceClaims"] => ListKind::by(&["name"]),
        ["status", "conditions"] => ListKind::by(&["type"]),
        ["status", "addresses"] => ListKind::by(&["type"]),
        ["status", "podIPs" | "hostIPs"] => ListKind::by(&["ip"]),
        ["spec", "podCIDRs"] | ["spec", "finalizers"] => ListKind::Set,
        ["secrets"] => ListKind::by(&["name"]),
        _ => ListKind::Atomic,
    }
}

fn built_in_atomic_map(path: &[&str]) -> bool {
    matches!(
        path,
        // `spec.selector` of a Service is a plain map but atomic, too.
        [
            ..,
            "selector"
                | "nodeSelector"
                | "labelSelector"
                | "namespaceSelector"
                | "podSelector"
                | "objectSelector"
        ] | [.., "configMapKeyRef" | "secretKeyRef" | "fieldRef" | "resourceFieldRef"]
            | ["involvedObject" | "roleRef" | "scopeSelector"]
    )
}
